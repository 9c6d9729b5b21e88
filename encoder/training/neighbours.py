"""The nearest training molecules of every molecule and of every text: from them the decoder learns to copy."""

# Shape legend:  Q queries, N molecules of the pool, K neighbours, F bits of a fingerprint, X dimension of the vectors

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.likeness import COSINE_SHARE, tanimoto

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each query its nearest molecules, best first; -1 where there are fewer."""

    rows_QK: Rows
    likeness_QK: Floats


def nearest_molecules(
    query_bits_QF: NDArray[np.uint8],
    query_vectors_QX: Floats,
    query_keys: Sequence[str],
    bits_NF: NDArray[np.uint8],
    vectors_NX: Floats,
    keys: Sequence[str],
    pool: Rows,
    count: int,
) -> Nearest:
    """Of the molecules in `pool` (rows of N), the most alike by structure; those with the query's InChIKey are left out.

    `likeness_QK` is the Tanimoto similarity, to which the order adds the cosine.
    """
    own = _rows_of(keys, pool)
    pool_bits_FN = bits_NF[pool].astype(np.float32).T
    pool_totals_N = bits_NF[pool].sum(axis=1, dtype=np.float32)
    pool_vectors_XN = vectors_NX[pool].T
    found = Nearest(np.full((len(query_keys), count), -1, np.int64), np.zeros((len(query_keys), count), np.float32))
    for start in range(0, len(query_keys), _CHUNK):
        rows = slice(start, start + _CHUNK)
        likeness_QN = tanimoto(query_bits_QF[rows].astype(np.float32), pool_bits_FN, pool_totals_N)
        score_QN = likeness_QN + COSINE_SHARE * (query_vectors_QX[rows] @ pool_vectors_XN)
        _take_best(found, rows, score_QN, likeness_QN, query_keys, own, pool)
    return found


def nearest_to_texts(
    text_vectors_QX: Floats, query_keys: Sequence[str], vectors_NX: Floats, keys: Sequence[str], pool: Rows, count: int
) -> Nearest:
    """Of the molecules in `pool` (rows of N), those with the highest cosine to each text; those with the query's InChIKey are left out."""
    own = _rows_of(keys, pool)
    pool_vectors_XN = vectors_NX[pool].T
    found = Nearest(np.full((len(query_keys), count), -1, np.int64), np.zeros((len(query_keys), count), np.float32))
    for start in range(0, len(query_keys), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosine_QN = text_vectors_QX[rows] @ pool_vectors_XN
        _take_best(found, rows, cosine_QN, cosine_QN.copy(), query_keys, own, pool)
    return found


def _rows_of(keys: Sequence[str], pool: Rows) -> dict[str, list[int]]:
    own: dict[str, list[int]] = {}
    for place, row in enumerate(pool.tolist()):
        own.setdefault(keys[row], []).append(place)
    return own


def _take_best(
    found: Nearest, rows: slice, score_QN: Floats, likeness_QN: Floats, query_keys: Sequence[str], own: dict[str, list[int]], pool: Rows
) -> None:
    for place, key in enumerate(query_keys[rows]):
        score_QN[place, own.get(key, [])] = -np.inf
    count = min(found.rows_QK.shape[1], score_QN.shape[1])
    best_QK = np.argpartition(-score_QN, count - 1, axis=1)[:, :count]
    order_QK = np.argsort(-np.take_along_axis(score_QN, best_QK, axis=1), axis=1, kind="stable")
    best_QK = np.take_along_axis(best_QK, order_QK, axis=1)
    kept_QK = np.isfinite(np.take_along_axis(score_QN, best_QK, axis=1))
    found.rows_QK[rows, :count] = np.where(kept_QK, pool[best_QK], -1)
    found.likeness_QK[rows, :count] = np.where(kept_QK, np.take_along_axis(likeness_QN, best_QK, axis=1), 0.0)
