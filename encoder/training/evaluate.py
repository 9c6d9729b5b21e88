"""Judges a checkpoint by retrieval in the Text2Mol protocol: every description ranks all molecules of the pool."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDLogger

from encoder.inference import Encoder
from encoder.molecules import MoleculeError, standardise
from encoder.training.dataset import DatasetError, read_descriptions, read_molecules
from encoder.training.metrics import rank_by_cosine, retrieval_scores

Vectors = NDArray[np.float32]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Queries and the molecules they rank, each molecule once by InChIKey."""

    texts: list[str]
    pool: list[str]
    """Canonical SMILES."""
    targets: NDArray[np.int64]
    """For each text, the place of its molecule in the pool."""


def read_retrieval_task(pairs: Path, candidates: Sequence[Path], processes: int = 1) -> RetrievalTask:
    """Read the queries (columns cid, smiles, description) and more molecules of the pool (column smiles).

    Every molecule goes through the chemistry door, as in the service. DatasetError names a molecule that it refuses.
    """
    descriptions = read_descriptions(pairs)
    if not descriptions:
        raise DatasetError(f"{pairs} holds no description")
    smiles = [description.smiles for description in descriptions] + [text for path in candidates for text in read_molecules(path)]
    place: dict[str, int] = {}
    pool: list[str] = []
    rows = []
    for canonical, inchikey in _standardised(smiles, processes):
        if inchikey not in place:
            place[inchikey] = len(pool)
            pool.append(canonical)
        rows.append(place[inchikey])
    return RetrievalTask([description.text for description in descriptions], pool, np.array(rows[: len(descriptions)], dtype=np.int64))


def evaluate_retrieval(encoder: Encoder, task: RetrievalTask, seed: int = 0, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Score the global vector both ways, among the pairs alone, and with the queried molecules in random spellings that skip the door.

    Returns mean_rank, mrr, hits@1 and hits@10 (fractions) under `text_to_molecule`, `molecule_to_text`, `among_pairs` and
    `random_spelling`, and the size of the `pool`. `random_spelling` also holds the median cosine between the two spellings' vectors.
    """
    texts, pool = encoder.encode_texts(task.texts), encoder.encode_molecules(task.pool)
    generator = np.random.default_rng(seed)
    respelt = pool.copy()
    queried = np.unique(task.targets)
    respelt[queried] = encoder.encode_molecules([_random_spelling(task.pool[row], generator) for row in queried])
    own = pool[task.targets]
    results: dict[str, Any] = {
        "text_to_molecule": _scores(texts, pool, task.targets),
        "molecule_to_text": _scores(own, texts, np.arange(len(texts))),
        "among_pairs": _scores(texts, own, np.arange(len(texts))),
        "random_spelling": {
            **_scores(texts, respelt, task.targets),
            "median_cosine": float(np.median((respelt[queried] * pool[queried]).sum(1))),
        },
        "pool": len(pool),
        "model": encoder.version,
    }
    for name, scores in results.items():
        report(f"{name}: {' '.join(f'{key} {value:.4g}' for key, value in scores.items()) if isinstance(scores, dict) else scores}")
    return results


def _scores(queries: Vectors, pool: Vectors, targets: NDArray[np.int64]) -> Scores:
    return retrieval_scores(rank_by_cosine(queries, pool, targets)).to_json()


def _random_spelling(smiles: str, generator: np.random.Generator) -> str:
    molecule = Chem.MolFromSmiles(smiles)
    order = [int(atom) for atom in generator.permutation(molecule.GetNumAtoms())]
    return str(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))


def _standardised(smiles: list[str], processes: int) -> list[tuple[str, str]]:
    if processes <= 1:
        return [_standard_form(text) for text in smiles]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(processes, get_context("spawn"), _silence) as workers:
        return list(workers.map(_standard_form, smiles, chunksize=256))


def _silence() -> None:
    RDLogger.DisableLog("rdApp.*")


def _standard_form(smiles: str) -> tuple[str, str]:
    try:
        molecule = standardise(smiles)
    except MoleculeError as error:
        raise DatasetError(f"{smiles[:200]!r} cannot be a molecule of the pool: {error}") from error
    return molecule.smiles, molecule.inchikey
