"""Judges the hierarchy as a re-ranker: the first candidates by the global vector, put in order by words and atoms too."""

# Shape legend:  Q queries, C first candidates of a query, N pool

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.inference import Encoder
from encoder.levels import mean_alignment
from encoder.training.metrics import TIE_TOLERANCE, rank_by_cosine, retrieval_scores

RERANKED = 100
"""Candidates of a query that are put in order again."""
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Weights of the alignment beside the cosine among which one is chosen."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def evaluate_rerank(
    encoder: Encoder, texts: Sequence[str], pool: Sequence[str], text_vectors: Floats, pool_vectors: Floats, targets: Rows
) -> dict[str, Any]:
    """Score both directions when the first `RERANKED` are ordered by cosine + w x alignment, its mean over the levels.

    w is chosen without looking at the query it is used for: every second query takes the weight of best MRR among the others, and the
    other way round. `weights` names the two; candidates after the first hundred keep their places.
    """
    forwards = _Reranking(text_vectors, pool_vectors, targets)
    backwards = _Reranking(pool_vectors[targets], text_vectors, np.arange(len(texts)))
    used = np.union1d(forwards.candidates_QC, targets)
    molecules = dict(zip(used.tolist(), encoder.molecule_levels([pool[row] for row in used]), strict=True))
    described = encoder.text_levels(texts)
    aligned = forwards.aligned(lambda text, rows: mean_alignment([described[text]], [molecules[row] for row in rows.tolist()]))
    aligned_backwards = backwards.aligned(
        lambda text, rows: mean_alignment([described[row] for row in rows.tolist()], [molecules[int(targets[text])]])
    )
    return {**forwards.scores(aligned), "molecule_to_text": backwards.scores(aligned_backwards)}


class _Reranking:
    """The first candidates of every query and where the right one is among them."""

    def __init__(self, queries: Floats, pool: Floats, targets: Rows) -> None:
        self._ranks_Q = rank_by_cosine(queries, pool, targets)
        self._targets_Q = targets
        kept = min(RERANKED, len(pool))
        chosen = [_first(queries[start : start + 512] @ pool.T, kept) for start in range(0, len(queries), 512)]
        self.candidates_QC = np.concatenate([candidates for candidates, _ in chosen])
        self._cosines_QC = np.concatenate([cosines for _, cosines in chosen])

    def aligned(self, score: Callable[[int, Rows], Tensor]) -> Floats:
        """Alignment (Q, C) of every query with its first candidates; `score` takes a query and places in the pool."""
        with torch.inference_mode():
            return np.stack([score(query, places).flatten().numpy() for query, places in enumerate(self.candidates_QC)])

    def scores(self, aligned_QC: Floats) -> dict[str, Any]:
        """Scores with each half of the queries ordered by the other half's best weight."""
        ranks_WQ = np.stack([self._ranks_with(weight, aligned_QC) for weight in WEIGHTS])
        even_Q = np.arange(len(self._ranks_Q)) % 2 == 0
        ranks_Q, weights = self._ranks_Q.copy(), []
        for judged_Q, chosen_by_Q in ((even_Q, ~even_Q), (~even_Q, even_Q)):
            # A single query leaves nobody to choose by: the vector alone.
            best = int((1 / ranks_WQ[:, chosen_by_Q]).mean(1).argmax()) if chosen_by_Q.any() else 0
            weights.append(WEIGHTS[best])
            ranks_Q[judged_Q] = ranks_WQ[best, judged_Q]
        return {**retrieval_scores(ranks_Q).to_json(), "weights": weights}

    def _ranks_with(self, weight: float, aligned_QC: Floats) -> NDArray[np.int64]:
        scores_QC = self._cosines_QC + weight * aligned_QC
        is_own_QC = self.candidates_QC == self._targets_Q[:, None]
        own_Q1 = np.where(is_own_QC, scores_QC, -np.inf).max(1, keepdims=True)
        within_Q = (scores_QC >= own_Q1 - TIE_TOLERANCE).sum(1)
        return np.where(is_own_QC.any(1) & (self._ranks_Q <= scores_QC.shape[1]), within_Q, self._ranks_Q)


def _first(scores_QN: Floats, kept: int) -> tuple[NDArray[np.int64], Floats]:
    candidates_QC = np.argpartition(-scores_QN, kept - 1, axis=1)[:, :kept]
    return candidates_QC, np.take_along_axis(scores_QN, candidates_QC, axis=1)
