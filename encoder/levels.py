"""Levels of the hierarchy item by item: kept without padding, scored against each other in batches."""

# Shape legend:  B items, L tokens of the encoder, K tokens of a level, D width
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoder.model.alignment import Level, level_similarity


@dataclass(frozen=True, slots=True)
class ItemLevel:
    """One level of one text or molecule."""

    tokens_KD: Tensor
    weights_K: Tensor
    """Fusion weights; they sum to one."""
    assignment_L: Tensor
    """Which token of this level each token of the encoder belongs to, -1 for those that take no part."""


ItemLevels = tuple[ItemLevel, ...]


def split_levels(levels: Sequence[Level], lengths: Sequence[int]) -> list[ItemLevels]:
    """Take a batch apart: the levels of each item, without padding; `lengths` are the items' tokens in the encoder."""
    return [tuple(_item(level, row, length) for level in levels) for row, length in enumerate(lengths)]


def mean_alignment(texts: Sequence[ItemLevels], molecules: Sequence[ItemLevels]) -> Tensor:
    """Weighted alignment (texts, molecules) as a cosine, the mean over the levels."""
    levels = zip(_padded(texts), _padded(molecules), strict=True)
    return torch.stack([level_similarity(text, molecule) for text, molecule in levels]).mean(0)


def _item(level: Level, row: int, length: int) -> ItemLevel:
    count = int(level.mask_BK[row].sum())
    # Clones: a view would keep the whole batch alive.
    return ItemLevel(
        level.tokens_BKD[row, :count].clone(), level.weights_BK[row, :count].clone(), level.assignment_BL[row, :length].clone()
    )


def _padded(items: Sequence[ItemLevels]) -> list[Level]:
    levels = []
    for parts in zip(*items, strict=True):
        tokens_BKD = pad_sequence([part.tokens_KD for part in parts], batch_first=True)
        weights_BK = pad_sequence([part.weights_K for part in parts], batch_first=True)
        counts_B = torch.tensor([len(part.weights_K) for part in parts])
        mask_BK = torch.arange(tokens_BKD.shape[1]) < counts_B[:, None]
        assignment_BL = pad_sequence([part.assignment_L for part in parts], batch_first=True, padding_value=-1)
        levels.append(Level(tokens_BKD, mask_BK, weights_BK, assignment_BL))
    return levels
