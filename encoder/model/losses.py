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
    initial_temperature: float = 0.07
    """Divides cosines before the softmax; learnt from here."""
    min_temperature: float = 0.001
    """The temperature never falls below this."""
    max_temperature: float = 0.5
    """Nor rises above this."""


def same_item(text_keys_B: Tensor, molecule_keys_B: Tensor, text_keys_N: Tensor, molecule_keys_N: Tensor) -> Tensor:
    """True (B, N) where two pairs share their text or their molecule: such pairs are no negatives of each other."""
    return (text_keys_B[:, None] == text_keys_N) | (molecule_keys_B[:, None] == molecule_keys_N)


class GlobalContrast(nn.Module):
    """Contrast of one vector per item against the batch and the queue, both ways, with the twin's soft targets (ALBEF)."""

    def __init__(self, config: ContrastConfig | None = None) -> None:
        super().__init__()
        self.config = config or ContrastConfig()
        self.temperature = nn.Parameter(torch.tensor(self.config.initial_temperature))

    def forward(
        self,
        text_BD: Tensor,
        molecule_BD: Tensor,
        twin_text_BD: Tensor,
        twin_molecule_BD: Tensor,
        text_keys_B: Tensor,
        molecule_keys_B: Tensor,
        queue: QueuedPairs | None = None,
    ) -> Tensor:
        """Mean cross-entropy of both directions; all vectors are L2-normalised, the twin's and the queue's without gradient."""
        with torch.no_grad():
            # The parameter itself is clamped: clamping its use would stop its gradient and leave it outside for good.
            self.temperature.clamp_(self.config.min_temperature, self.config.max_temperature)
        twin_text_ND, twin_molecule_ND = twin_text_BD.detach(), twin_molecule_BD.detach()
        text_keys_N, molecule_keys_N = text_keys_B, molecule_keys_B
        if queue is not None:
            twin_text_ND = torch.cat([twin_text_ND, queue.text_QD])
            twin_molecule_ND = torch.cat([twin_molecule_ND, queue.molecule_QD])
            text_keys_N = torch.cat([text_keys_N, queue.text_keys_Q])
            molecule_keys_N = torch.cat([molecule_keys_N, queue.molecule_keys_Q])
        itself_BN = torch.eye(text_BD.shape[0], text_keys_N.shape[0], dtype=torch.bool, device=text_BD.device)
        left_out_BN = same_item(text_keys_B, molecule_keys_B, text_keys_N, molecule_keys_N) & ~itself_BN
        to_molecules = self._one_way(text_BD, twin_text_BD, twin_molecule_ND, itself_BN, left_out_BN)
        to_texts = self._one_way(molecule_BD, twin_molecule_BD, twin_text_ND, itself_BN, left_out_BN)
        return (to_molecules + to_texts) / 2

    def _one_way(self, query_BD: Tensor, twin_query_BD: Tensor, candidates_ND: Tensor, itself_BN: Tensor, left_out_BN: Tensor) -> Tensor:
        logits_BN = (query_BD @ candidates_ND.T / self.temperature).masked_fill(left_out_BN, -math.inf)
        with torch.no_grad():
            twin_logits_BN = (twin_query_BD @ candidates_ND.T / self.temperature).masked_fill(left_out_BN, -math.inf)
            soft = self.config.soft_target_weight
            targets_BN = soft * twin_logits_BN.softmax(dim=1) + (1.0 - soft) * itself_BN
        # What is left out has log probability minus infinity and target zero; their product would be NaN.
        log_probability_BN = logits_BN.log_softmax(dim=1).masked_fill(left_out_BN, 0.0)
        return -(targets_BN * log_probability_BN).sum(dim=1).mean()


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
