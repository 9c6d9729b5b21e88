"""What the decoder is given to read: an item's tokens, and pieces of its neighbours' texts or SMILES from which it may copy."""

# Shape legend:  B items, E encoder tokens, C encoder width, X dimension of the vectors, K neighbours, M copyable tokens

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.model.decoder import END
from encoder.model.source import Source
from encoder.prose import Manner

DETAILED, BRIEF = 2, 3
"""Neighbours of a molecule that are read with their descriptions, and further ones of which name and classes are read."""
ALIKE = 3
"""Molecules near a text that are read."""
LONGEST_TEXT, LONGEST_BRIEF, LONGEST_NAME, LONGEST_SMILES = 100, 24, 16, 100
"""Tokens that are read of a neighbour; what is beyond is left out."""


@dataclass(frozen=True, slots=True)
class ReadItem:
    """One item and its neighbours, before padding."""

    tokens_EC: Tensor
    vector_X: Tensor
    manner: Manner
    pieces: Sequence[Sequence[Sequence[int]]]
    """For each neighbour, pieces of text as token ids of the task's vocabulary."""
    neighbours_KX: Tensor
    likeness_K: NDArray[np.float32]


def collate(items: Sequence[ReadItem]) -> Source:
    """Pad items to one batch; each piece of a neighbour is closed by END."""
    copied = [[output for pieces in item.pieces for piece in pieces for output in (*(token + 1 for token in piece), END)] for item in items]
    owners = [[owner for owner, pieces in enumerate(item.pieces) for piece in pieces for _ in range(len(piece) + 1)] for item in items]
    neighbours = max(len(item.neighbours_KX) for item in items)
    neighbours_BKX = items[0].vector_X.new_zeros(len(items), neighbours, len(items[0].vector_X))
    likeness_BK = torch.zeros(len(items), neighbours)
    for row, item in enumerate(items):
        neighbours_BKX[row, : len(item.neighbours_KX)] = item.neighbours_KX
        likeness_BK[row, : len(item.likeness_K)] = torch.from_numpy(item.likeness_K)
    return Source(
        torch.nn.utils.rnn.pad_sequence([item.tokens_EC for item in items], batch_first=True),
        _mask([len(item.tokens_EC) for item in items]),
        torch.stack([item.vector_X for item in items]),
        torch.tensor([int(item.manner) for item in items]),
        _padded(copied),
        _mask([len(row) for row in copied]),
        _padded(owners),
        neighbours_BKX,
        likeness_BK,
    )


def _mask(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long)
