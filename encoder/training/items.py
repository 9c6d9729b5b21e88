"""Features of many items, handed out batch by batch: as bags for an encoder without layers, as tokens for one with."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from encoder.features import TokenFeatures

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """Some items: a feature matrix whose rows are the items' bags or their tokens."""

    matrix: sp.csr_matrix
    mass: NDArray[np.float32] | None
    """Mass of each token (T,); None when the rows are bags."""
    token_counts: Rows | None
    """Tokens of each item (B,); None when the rows are bags."""


class Bags:
    """Items as bags of features."""

    def __init__(self, features: TokenFeatures, table_rows: int) -> None:
        self._matrix = bag_matrix(features, table_rows)

    def __len__(self) -> int:
        return int(self._matrix.shape[0])

    def select(self, rows: Rows, dropout: float = 0.0, generator: np.random.Generator | None = None) -> ItemBatch:
        """Return the items of the given rows, hiding a share of their features."""
        return ItemBatch(_drop(self._matrix[rows], dropout, generator), None, None)


class Tokens:
    """Items as sequences of tokens."""

    def __init__(self, features: TokenFeatures, table_rows: int) -> None:
        self._features, self._table_rows = features, table_rows
        self._token_starts = _starts(features.token_counts)
        self._feature_starts = _starts(features.feature_counts)

    def __len__(self) -> int:
        return len(self._features.token_counts)

    @property
    def lengths(self) -> Rows:
        """Tokens of each item."""
        return self._features.token_counts

    def select(self, rows: Rows, dropout: float = 0.0, generator: np.random.Generator | None = None) -> ItemBatch:
        """Return the items of the given rows, hiding a share of their features."""
        features = self._features
        tokens = _ragged(self._token_starts[rows], features.token_counts[rows])
        counts = features.feature_counts[tokens]
        places = _ragged(self._feature_starts[tokens], counts)
        matrix = sp.csr_matrix((features.weights[places], features.ids[places], _starts(counts)), shape=(len(tokens), self._table_rows))
        return ItemBatch(_drop(matrix, dropout, generator), features.mass[tokens], features.token_counts[rows])


def bag_matrix(features: TokenFeatures, table_rows: int) -> sp.csr_matrix:
    """The bags of items as a sparse matrix (B, table rows)."""
    weights = features.weights * np.repeat(features.mass, features.feature_counts)
    ends = _starts(features.feature_counts)[_starts(features.token_counts)]
    matrix = sp.csr_matrix((weights, features.ids, ends), shape=(len(features.token_counts), table_rows))
    matrix.sum_duplicates()
    return matrix


def _starts(counts: NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
    """Where each run begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)])


def _ragged(starts: Rows, counts: Rows) -> Rows:
    """All places of runs that begin at `starts`, one run after the other."""
    return np.repeat(starts - _starts(counts)[:-1], counts) + np.arange(counts.sum())


def _drop(matrix: sp.csr_matrix, share: float, generator: np.random.Generator | None) -> sp.csr_matrix:
    """Hide a share of the features; the rest make up for them."""
    if not share or generator is None:
        return matrix
    kept = generator.random(len(matrix.data), dtype=np.float32) >= share
    return sp.csr_matrix((matrix.data[kept] / (1 - share), matrix.indices[kept], _starts(kept)[matrix.indptr]), shape=matrix.shape)
