"""Levels of the hierarchy item by item: kept without padding, scored against each other in batches."""

# Shape legend:  B items, L tokens of the encoder, K tokens of a level, D width
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
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


@dataclass(frozen=True, slots=True)
class ItemParts:
    """Fragments of one molecule, or phrases of one text: its clusters of level 1."""

    vectors_KD: NDArray[np.float32]
    """Of length 1."""
    weights_K: NDArray[np.float32]
    """Fusion weights; they sum to one."""


def split_levels(levels: Sequence[Level], lengths: Sequence[int]) -> list[ItemLevels]:
    """Take a batch apart: the levels of each item, without padding; `lengths` are the items' tokens in the encoder."""
    return [tuple(_item(level, row, length) for level in levels) for row, length in enumerate(lengths)]


def split_parts(level: Level) -> list[ItemParts]:
    """Take a level apart: the clusters of each item, as unit vectors without padding."""
    counts = level.mask_BK.sum(1).tolist()
    vectors_BKD, weights_BK = F.normalize(level.tokens_BKD, dim=2).numpy(), level.weights_BK.numpy()
    # Copies: a view would keep the whole batch alive.
    return [ItemParts(vectors_BKD[row, :count].copy(), weights_BK[row, :count].copy()) for row, count in enumerate(counts)]


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
