"""Hierarchical adaptive alignment: best-partner scores of texts and molecules at three levels, their loss and explanation."""

# Shape legend:  B pairs, A texts of one chunk, T text tokens, S SMILES tokens, L tokens of either, K clusters, D width

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.config import MODALITIES, Modality
from encoder.model.merging import AdaptiveMerging

MAX_SCALE = 100.0
# Blocks of items that are crossed together: few enough for large matrices, enough for tight lengths.
MAX_BLOCKS, MIN_BLOCK_ITEMS = 8, 16


@dataclass(frozen=True)
class AlignmentConfig:
    """Shape of the hierarchy."""

    width: int
    """Width of the encoder's tokens."""
    ratios: tuple[float, ...] = (0.25, 0.5)
    """Share of the tokens that each merging keeps; one level more than there are ratios."""
    heads: int = 8
    """Attention heads of each merging; divides the width."""
    neighbours: int = 3
    """Nearest neighbours whose distance makes a token's density."""
    fusion_width: int = 64
    """Hidden width of the network that weighs the tokens of a level."""
    initial_scale: float = 14.3
    """First factor from cosine scores to logits (1 / 0.07), learnt from there and kept below 100."""
    max_similarities: int = 1 << 24
    """Token similarities held in memory at a time; a batch is scored in chunks of texts that fit."""


@dataclass(frozen=True)
class Level:
    """Tokens of one level of the hierarchy for a batch of one modality."""

    tokens_BKD: Tensor
    """Tokens of this level; zero on padding above level 0."""
    mask_BK: Tensor
    """True where a token of this level is real."""
    weights_BK: Tensor
    """Fusion weights: sum to one over the real tokens of an item, zero on padding."""
    assignment_BL: Tensor
    """Which token of this level each original token belongs to, -1 on padding."""


@dataclass(frozen=True)
class AlignmentLoss:
    """Contrastive loss of every level; the hierarchy's loss is their sum."""

    total: Tensor
    per_level: tuple[Tensor, ...]


@dataclass(frozen=True)
class PairAlignment:
    """How the tokens of one text and one molecule align at one level."""

    score: float
    """Alignment score of the pair at this level, a cosine."""
    similarity_TS: Tensor
    """Cosine of every text token of this level and every SMILES token of this level."""
    text_weights_T: Tensor
    smiles_weights_S: Tensor
    text_assignment_L: Tensor
    """Which row of `similarity_TS` each original text token belongs to."""
    smiles_assignment_L: Tensor
    """Which column of `similarity_TS` each original SMILES token belongs to."""

    def between_tokens(self) -> Tensor:
        """Similarity of every original text token to every original SMILES token, through the clusters they belong to."""
        return self.similarity_TS[self.text_assignment_L][:, self.smiles_assignment_L]


class FusionWeights(nn.Module):
    """Weighs the tokens of an item by how much they say: softmax over the real tokens of a small network (Atomas, section 3.3)."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden_width)
        self.out = nn.Linear(hidden_width, 1)

    def forward(self, tokens_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return weights (B, L) that sum to one over the real tokens of each item and are zero on padding."""
        logits_BL = self.out(F.gelu(self.hidden(tokens_BLD))).squeeze(2)
        # The lowest finite number instead of minus infinity: an item without tokens gets zeros, not NaN.
        weights_BL: Tensor = logits_BL.masked_fill(~mask_BL, torch.finfo(logits_BL.dtype).min).softmax(dim=1)
        return weights_BL.masked_fill(~mask_BL, 0.0)


def token_similarity(
    text_BTD: Tensor,
    text_mask_BT: Tensor,
    smiles_BSD: Tensor,
    smiles_mask_BS: Tensor,
    text_weights_BT: Tensor,
    smiles_weights_BS: Tensor,
    max_similarities: int = AlignmentConfig.max_similarities,
) -> Tensor:
    """Score every text of a batch against every molecule by best-matching tokens (Atomas, section 3.3).

    Each token meets its most similar token on the other side; the cosines are summed by weight, and the two directions averaged. Returns
    scores (texts, molecules); padded tokens never take part. At most `max_similarities` token similarities exist at a time, down to one
    text against one block of molecules. Raises ValueError for an item without real tokens.
    """
    texts, text_order = _blocks_by_length(text_BTD, text_mask_BT, text_weights_BT)
    molecules, smiles_order = _blocks_by_length(smiles_BSD, smiles_mask_BS, smiles_weights_BS)
    scores_BB = torch.cat([torch.cat([_block_similarity(text, smiles, max_similarities) for smiles in molecules], dim=1) for text in texts])
    return scores_BB[text_order.argsort()][:, smiles_order.argsort()]


@dataclass(frozen=True)
class _Block:
    """Some items of about equal length, cropped to the longest of them."""

    tokens_ALD: Tensor
    """Normalised tokens."""
    mask_AL: Tensor
    weights_AL: Tensor


def _blocks_by_length(tokens_BLD: Tensor, mask_BL: Tensor, weights_BL: Tensor) -> tuple[list[_Block], Tensor]:
    """Cut a batch into blocks; also returns the order of its items in them.

    Lengths are skewed: crossing every item at the length of the longest would cost several times the work.
    """
    index_L = torch.arange(1, mask_BL.shape[1] + 1, device=mask_BL.device)
    length_B, order_B = (mask_BL * index_L).amax(dim=1).sort(stable=True)
    if int(length_B[0]) == 0:
        raise ValueError("an item without tokens cannot be aligned; leave it out of the batch")
    blocks = []
    items = max(MIN_BLOCK_ITEMS, math.ceil(len(order_B) / MAX_BLOCKS))
    for rows_A, lengths_A in zip(torch.split(order_B, items), torch.split(length_B, items), strict=True):
        length = int(lengths_A[-1])
        blocks.append(_Block(F.normalize(tokens_BLD[rows_A, :length], dim=2), mask_BL[rows_A, :length], weights_BL[rows_A, :length]))
    return blocks, order_B


def _block_similarity(text: _Block, smiles: _Block, max_similarities: int) -> Tensor:
    chunk = max(1, max_similarities // (text.mask_AL.shape[1] * smiles.mask_AL.numel()))
    chunks = zip(*(torch.split(tensor, chunk) for tensor in (text.tokens_ALD, text.mask_AL, text.weights_AL)), strict=True)
    return torch.cat([_best_partner_scores(_Block(*tensors), smiles) for tensors in chunks])


def _best_partner_scores(text: _Block, smiles: _Block) -> Tensor:
    # Shape legend here:  A texts, B molecules
    # Half precision halves the largest tensor of the model where matrix units make it fast; processors have no such units.
    with torch.autocast(text.tokens_ALD.device.type, dtype=torch.bfloat16, enabled=text.tokens_ALD.is_cuda):
        similarity_AxTxBxS = text.tokens_ALD.flatten(0, 1) @ smiles.tokens_ALD.flatten(0, 1).T
    similarity_ATBS = similarity_AxTxBxS.view(*text.mask_AL.shape, *smiles.mask_AL.shape)
    # In place, because nobody needs the product again, the backward pass included.
    similarity_ATBS.masked_fill_(~smiles.mask_AL, -math.inf).masked_fill_(~text.mask_AL[:, :, None, None], -math.inf)
    best_for_text_ATB = similarity_ATBS.max(dim=3).values.masked_fill(~text.mask_AL[:, :, None], 0.0)
    best_for_smiles_ABS = similarity_ATBS.max(dim=1).values.masked_fill(~smiles.mask_AL, 0.0)
    from_text_AB = torch.einsum("atb,at->ab", best_for_text_ATB.to(text.weights_AL.dtype), text.weights_AL)
    from_smiles_AB = torch.einsum("abs,bs->ab", best_for_smiles_ABS.to(smiles.weights_AL.dtype), smiles.weights_AL)
    return (from_text_AB + from_smiles_AB) / 2


def level_similarity(text: Level, smiles: Level, max_similarities: int = AlignmentConfig.max_similarities) -> Tensor:
    """Scores (texts, molecules) of one level."""
    return token_similarity(
        text.tokens_BKD, text.mask_BK, smiles.tokens_BKD, smiles.mask_BK, text.weights_BK, smiles.weights_BK, max_similarities
    )


def in_batch_contrastive(scores_BB: Tensor, not_negative_BB: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of both directions; row i belongs to column i, and pairs marked in `not_negative_BB` leave the sum."""
    batch = scores_BB.shape[0]
    targets_B = torch.arange(batch, device=scores_BB.device)
    if not_negative_BB is not None:
        itself_BB = torch.eye(batch, dtype=torch.bool, device=scores_BB.device)
        scores_BB = scores_BB.masked_fill(not_negative_BB & ~itself_BB, -math.inf)
    return (F.cross_entropy(scores_BB, targets_B) + F.cross_entropy(scores_BB.T, targets_B)) / 2


class HierarchicalAlignment(nn.Module):
    """Aligns atoms with words, fragments with phrases, molecules with paragraphs (Atomas, section 3.3): each level merges the last."""

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        self.merging = nn.ModuleDict(
            {
                modality: nn.ModuleList(AdaptiveMerging(config.width, ratio, config.heads, config.neighbours) for ratio in config.ratios)
                for modality in MODALITIES
            }
        )
        self.fusion = nn.ModuleDict(
            {
                modality: nn.ModuleList(FusionWeights(config.width, config.fusion_width) for _ in range(len(config.ratios) + 1))
                for modality in MODALITIES
            }
        )
        self.log_scale = nn.Parameter(torch.full((len(config.ratios) + 1,), math.log(config.initial_scale)))

    def levels(self, tokens_BLD: Tensor, mask_BL: Tensor, modality: Modality) -> tuple[Level, ...]:
        """Take the encoder's tokens of one modality through every level; assignments always name original tokens."""
        index_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
        assignment_BL = index_L.expand_as(mask_BL).masked_fill(~mask_BL, -1)
        fusion = _modules(self.fusion, modality)
        levels = [Level(tokens_BLD, mask_BL, fusion[0](tokens_BLD, mask_BL), assignment_BL)]
        for merge, weigh in zip(_modules(self.merging, modality), fusion[1:], strict=True):
            merged = merge(levels[-1].tokens_BKD, levels[-1].mask_BK)
            assignment_BL = merged.assignment_BL.gather(1, assignment_BL.clamp_min(0)).masked_fill(~mask_BL, -1)
            levels.append(Level(merged.tokens_BKD, merged.mask_BK, weigh(merged.tokens_BKD, merged.mask_BK), assignment_BL))
        return tuple(levels)

    def fragments(self, tokens_BLD: Tensor, mask_BL: Tensor, modality: Modality) -> Level:
        """Level 1 of `levels` alone, for a third of the work: fragments of molecules, phrases of texts."""
        merged = _modules(self.merging, modality)[0](tokens_BLD, mask_BL)
        weights_BK = _modules(self.fusion, modality)[1](merged.tokens_BKD, merged.mask_BK)
        return Level(merged.tokens_BKD, merged.mask_BK, weights_BK, merged.assignment_BL)

    def scale(self) -> Tensor:
        """Factor of each level from cosine scores to logits, kept below `MAX_SCALE`."""
        return self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()

    def forward(
        self,
        text_BTD: Tensor,
        text_mask_BT: Tensor,
        smiles_BSD: Tensor,
        smiles_mask_BS: Tensor,
        not_negative_BB: Tensor | None = None,
    ) -> AlignmentLoss:
        """Loss of a batch of pairs; `not_negative_BB` marks pairs that share a molecule or a text (`losses.same_item`)."""
        text_levels = self.levels(text_BTD, text_mask_BT, "text")
        return self.loss(text_levels, self.levels(smiles_BSD, smiles_mask_BS, "molecule"), not_negative_BB)

    def loss(self, text_levels: Sequence[Level], smiles_levels: Sequence[Level], not_negative_BB: Tensor | None = None) -> AlignmentLoss:
        """As `forward`, of levels that were computed before."""
        cosines = self.similarities(text_levels, smiles_levels)
        per_level = tuple(
            in_batch_contrastive(scale * cosine, not_negative_BB) for scale, cosine in zip(self.scale(), cosines, strict=True)
        )
        return AlignmentLoss(torch.stack(per_level).sum(), per_level)

    def similarities(self, text_levels: Sequence[Level], smiles_levels: Sequence[Level]) -> tuple[Tensor, ...]:
        """Scores (texts, molecules) of each level, as cosines, for re-ranking."""
        return tuple(
            level_similarity(text, smiles, self.config.max_similarities) for text, smiles in zip(text_levels, smiles_levels, strict=True)
        )

    @torch.no_grad()
    def align_pair(self, text_TD: Tensor, smiles_SD: Tensor) -> tuple[PairAlignment, ...]:
        """Explain one pair: per level, which text tokens point at which SMILES tokens, and how much each counts. No padding goes in."""
        text_levels = self.levels(text_TD[None], _all_real(text_TD), "text")
        smiles_levels = self.levels(smiles_SD[None], _all_real(smiles_SD), "molecule")
        return tuple(
            PairAlignment(
                score=float(level_similarity(text, smiles)),
                similarity_TS=F.normalize(text.tokens_BKD[0], dim=1) @ F.normalize(smiles.tokens_BKD[0], dim=1).T,
                text_weights_T=text.weights_BK[0],
                smiles_weights_S=smiles.weights_BK[0],
                text_assignment_L=text.assignment_BL[0],
                smiles_assignment_L=smiles.assignment_BL[0],
            )
            for text, smiles in zip(text_levels, smiles_levels, strict=True)
        )


def _all_real(tokens_LD: Tensor) -> Tensor:
    return torch.ones(1, tokens_LD.shape[0], dtype=torch.bool, device=tokens_LD.device)


def _modules(by_modality: nn.ModuleDict, modality: Modality) -> nn.ModuleList:
    modules = by_modality[modality]
    assert isinstance(modules, nn.ModuleList)
    return modules
