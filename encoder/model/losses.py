"""Losses: global contrast with soft targets, generation, and their total with the hierarchy."""

# Shape legend:  B pairs of a batch, Q pairs in the queue, N = B + Q candidates, D width, L tokens, V vocabulary

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.momentum import QueuedPairs


@dataclass(frozen=True)
class ContrastConfig:
    """Global alignment (Atomas, after ALBEF)."""

    soft_target_weight: float = 0.4
    """Weight of the twin's distribution in the targets; the rest goes to the pair itself."""
    min_temperature: float = 0.001
    """The temperature never falls below this."""
    max_temperature: float = 0.5
    """Nor rises above this."""


def same_item(text_keys_B: Tensor, molecule_keys_B: Tensor, text_keys_N: Tensor, molecule_keys_N: Tensor) -> Tensor:
    """True (B, N) where two pairs share their text or their molecule: such pairs are no negatives of each other."""
    return (text_keys_B[:, None] == text_keys_N) | (molecule_keys_B[:, None] == molecule_keys_N)


class GlobalContrast(nn.Module):
    """Contrast of one vector per item against the batch and the queue, both ways, with the twin's soft targets (ALBEF).

    Unlike ALBEF, candidates of the batch itself are the model's own vectors, not the twin's: the gradient reaches both sides of a pair.
    """

    def __init__(self, config: ContrastConfig | None = None) -> None:
        super().__init__()
        self.config = config or ContrastConfig()

    def forward(
        self,
        text_BD: Tensor,
        molecule_ND: Tensor,
        twin_text_BD: Tensor,
        twin_molecule_ND: Tensor,
        text_keys_N: Tensor,
        molecule_keys_N: Tensor,
        log_scale: Tensor,
        queue: QueuedPairs | None = None,
    ) -> Tensor:
        """Mean cross-entropy of both directions; all vectors are L2-normalised, the twin's and the queue's without gradient.

        Molecule i belongs to text i; molecules after the last text are negatives of every text. `log_scale`, the logarithm of one over the
        temperature, is learnt and kept within the bounds of the configuration.
        """
        pairs = len(text_BD)
        with torch.no_grad():
            # The parameter itself is clamped: clamping its use would stop its gradient and leave it outside for good.
            log_scale.clamp_(-math.log(self.config.max_temperature), -math.log(self.config.min_temperature))
        scale = log_scale.exp()
        same_BN = same_item(text_keys_N[:pairs], molecule_keys_N[:pairs], text_keys_N, molecule_keys_N)
        itself_BN = torch.eye(pairs, len(molecule_ND), dtype=torch.bool, device=text_BD.device)
        to_molecules = text_BD, molecule_ND, twin_text_BD, twin_molecule_ND, itself_BN, same_BN
        to_texts = molecule_ND[:pairs], text_BD, twin_molecule_ND[:pairs], twin_text_BD, itself_BN[:, :pairs], same_BN[:, :pairs]
        if queue is None:
            return (self._one_way(scale, *to_molecules) + self._one_way(scale, *to_texts)) / 2
        same_BQ = same_item(text_keys_N[:pairs], molecule_keys_N[:pairs], queue.text_keys_Q, queue.molecule_keys_Q)
        return (
            self._one_way(scale, *_with_queue(*to_molecules, queue.molecule_QD, same_BQ))
            + self._one_way(scale, *_with_queue(*to_texts, queue.text_QD, same_BQ))
        ) / 2

    def _one_way(
        self,
        scale: Tensor,
        query_BD: Tensor,
        candidates_ND: Tensor,
        twin_query_BD: Tensor,
        twin_candidates_ND: Tensor,
        itself_BN: Tensor,
        same_BN: Tensor,
    ) -> Tensor:
        left_out_BN = same_BN & ~itself_BN
        logits_BN = (query_BD @ candidates_ND.T * scale).masked_fill(left_out_BN, -math.inf)
        with torch.no_grad():
            twin_logits_BN = (twin_query_BD @ twin_candidates_ND.T * scale).masked_fill(left_out_BN, -math.inf)
            soft = self.config.soft_target_weight
            targets_BN = soft * twin_logits_BN.softmax(dim=1) + (1.0 - soft) * itself_BN
        # What is left out has log probability minus infinity and target zero; their product would be NaN.
        log_probability_BN = logits_BN.log_softmax(dim=1).masked_fill(left_out_BN, 0.0)
        return -(targets_BN * log_probability_BN).sum(dim=1).mean()


def _with_queue(
    query_BD: Tensor,
    candidates_ND: Tensor,
    twin_query_BD: Tensor,
    twin_candidates_ND: Tensor,
    itself_BN: Tensor,
    same_BN: Tensor,
    queue_QD: Tensor,
    same_BQ: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Append the queue's vectors to the candidates of one direction."""
    return (
        query_BD,
        torch.cat([candidates_ND, queue_QD]),
        twin_query_BD,
        torch.cat([twin_candidates_ND, queue_QD]),
        torch.cat([itself_BN, torch.zeros_like(same_BQ)], dim=1),
        torch.cat([same_BN, same_BQ], dim=1),
    )


def generation_loss(logits_BLV: Tensor, targets_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean cross-entropy of the real target tokens, in nats; logits at position i predict target i."""
    token_losses = F.cross_entropy(logits_BLV[mask_BL], targets_BL[mask_BL], reduction="sum")
    return token_losses / mask_BL.sum().clamp_min(1)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the three losses in the total (Atomas)."""

    contrast: float = 1.0
    """Weight of the global contrast."""
    generation: float = 10.0
    """Weight of the generation loss."""
    hierarchy: float = 1.0
    """Weight of the hierarchical alignment, summed over its levels."""

    def total(self, contrast: Tensor, generation: Tensor | None = None, hierarchy: Tensor | None = None) -> Tensor:
        """The weighted sum; a loss that this step does not compute is None."""
        total = self.contrast * contrast
        if generation is not None:
            total = total + self.generation * generation
        if hierarchy is not None:
            total = total + self.hierarchy * hierarchy
        return total
