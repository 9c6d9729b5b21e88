"""What each level of the hierarchy and each direction is worth for ordering the first candidates again, on the ChEBI-20 validation split.

python -m benchmarks.levels [--candidates 0] [--queries 0]
"""

# Shape legend:  Q queries, C first candidates of a query, N pool, L levels, W weights

import argparse
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.fusion import CHEBI20
from encoder.inference import Encoder
from encoder.levels import ItemLevels
from encoder.training.evaluate import read_retrieval_task
from encoder.training.metrics import TIE_TOLERANCE, rank_by_cosine

CANDIDATES = 100
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0)

Floats = NDArray[np.float32]
Parts = tuple[Floats, Floats]


def main() -> None:
    """Prints MRR and Hits of every level and direction, each half of the queries with the weight that is best for the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=0, help="training molecules in the pool; 0 takes all")
    parser.add_argument("--queries", type=int, default=0, help="descriptions; 0 takes all")
    options = parser.parse_args()
    task = read_retrieval_task(CHEBI20 / "validation.tsv", [CHEBI20 / "train_molecules.tsv.gz"], os.cpu_count() or 1)
    described = set(task.targets.tolist())
    others = [place for place in range(len(task.pool)) if place not in described]
    places = sorted(described) + (others[: options.candidates] if options.candidates else others)
    targets_Q = np.searchsorted(np.array(sorted(described)), task.targets)[: options.queries or None]
    encoder = Encoder.load(threads=1)
    texts, pool = task.texts[: len(targets_Q)], [task.pool[place] for place in places]
    queries_QE, pool_NE = encoder.encode_texts(texts), encoder.encode_molecules(pool)
    ranks_Q = rank_by_cosine(queries_QE, pool_NE, targets_Q)
    candidates_QC, cosines_QC = first(queries_QE, pool_NE)
    print(f"{len(texts):,} descriptions, {len(pool):,} molecules, first {candidates_QC.shape[1]}, model {encoder.version}")
    print(line("the vector alone", ranks_Q))
    molecules = [list(parts(levels)) for levels in encoder.molecule_levels(pool)]
    there_LQC, back_LQC = aligned([list(parts(levels)) for levels in encoder.text_levels(texts)], molecules, candidates_QC)
    for level in range(len(there_LQC)):
        print(f"level {level}: {np.mean([len(levels[level][1]) for levels in molecules]):.1f} vectors of a molecule")
    alignments = {f"level {level}": (there_LQC[level], back_LQC[level]) for level in range(len(there_LQC))}
    for name, (there_QC, back_QC) in {**alignments, "mean of the levels": (there_LQC.mean(0), back_LQC.mean(0))}.items():
        for direction, aligned_QC in (("text to molecule", there_QC), ("both directions", (there_QC + back_QC) / 2)):
            own_QC = candidates_QC == targets_Q[:, None]
            print(line(f"{name}, {direction}", *chosen_by_others(cosines_QC, aligned_QC, own_QC, ranks_Q)))


def first(queries_QE: Floats, pool_NE: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The first candidates of every query, in any order, and their cosines."""
    kept = min(CANDIDATES, len(pool_NE))
    cosines_QN = queries_QE @ pool_NE.T
    candidates_QC = np.argpartition(-cosines_QN, kept - 1, axis=1)[:, :kept]
    return candidates_QC, np.take_along_axis(cosines_QN, candidates_QC, axis=1)


def parts(levels: ItemLevels) -> Iterator[Parts]:
    """Unit vectors and weights of each level."""
    for level in levels:
        tokens_KD = level.tokens_KD.numpy()
        yield tokens_KD / np.maximum(np.linalg.norm(tokens_KD, axis=1, keepdims=True), 1e-12), level.weights_K.numpy()


def aligned(texts: Sequence[list[Parts]], molecules: Sequence[list[Parts]], candidates_QC: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Alignment (L, Q, C) of every text with its candidates, from text to molecule and back."""
    there_LQC, back_LQC = (np.zeros((len(texts[0]), *candidates_QC.shape), np.float32) for _ in range(2))
    for level in range(len(there_LQC)):
        for query, places in enumerate(candidates_QC):
            phrases_TD, weights_T = texts[query][level]
            found = [molecules[place][level] for place in places]
            starts = np.cumsum([0, *(len(weights) for _, weights in found)])[:-1]
            similarity_TS = phrases_TD @ np.concatenate([vectors for vectors, _ in found]).T
            there_LQC[level, query] = weights_T @ np.maximum.reduceat(similarity_TS, starts, axis=1)
            back_LQC[level, query] = np.add.reduceat(similarity_TS.max(0) * np.concatenate([weights for _, weights in found]), starts)
    return there_LQC, back_LQC


def chosen_by_others(
    cosines_QC: Floats, aligned_QC: Floats, own_QC: NDArray[np.bool_], ranks_Q: NDArray[np.int64]
) -> tuple[NDArray[np.int64], str]:
    """Ranks where each half of the queries takes the weight of best MRR in the other, and the two weights."""
    ranks_WQ = np.stack([ranks_with(cosines_QC + np.float32(weight) * aligned_QC, own_QC, ranks_Q) for weight in WEIGHTS])
    even_Q = np.arange(len(ranks_Q)) % 2 == 0
    best_odd, best_even = (int((1 / ranks_WQ[:, half_Q]).mean(1).argmax()) for half_Q in (~even_Q, even_Q))
    return np.where(even_Q, ranks_WQ[best_odd], ranks_WQ[best_even]), f"w {WEIGHTS[best_even]}/{WEIGHTS[best_odd]}"


def ranks_with(scores_QC: Floats, own_QC: NDArray[np.bool_], ranks_Q: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks among the candidates where the right molecule is one of them; ties count against it."""
    own_Q1 = np.where(own_QC, scores_QC, -np.inf).max(1, keepdims=True)
    within_Q = (scores_QC >= own_Q1 - TIE_TOLERANCE).sum(1)
    return np.where(own_QC.any(1) & (ranks_Q <= scores_QC.shape[1]), within_Q, ranks_Q)


def line(name: str, ranks_Q: NDArray[np.int64], weights: str = "") -> str:
    """MRR and Hits."""
    return (
        f"  {name:40s} MRR {(1 / ranks_Q).mean():.4f}  Hits@1 {(ranks_Q <= 1).mean():.2%}  Hits@10 {(ranks_Q <= 10).mean():.2%}  {weights}"
    )


if __name__ == "__main__":
    main()
