"""Judges a checkpoint by retrieval in the Text2Mol protocol: every description ranks all molecules of the pool."""

# Shape legend:  Q queries, N candidates of the pool, D vector width

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
from encoder.tokenizer import split_text
from encoder.training.dataset import DatasetError, read_descriptions, read_molecules
from encoder.training.metrics import rank_by_cosine, retrieval_scores
from encoder.training.rerank import RERANKED, evaluate_rerank

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
    text_places: list[str]
    """File and line of each text, for errors."""
    pool_places: list[str]
    """File and line of each molecule of the pool, for errors."""


def read_retrieval_task(pairs: Path, candidates: Sequence[Path], processes: int = 1) -> RetrievalTask:
    """Read the queries (columns cid, smiles, description) and more molecules of the pool (column smiles).

    Every molecule goes through the chemistry door, as in the service. DatasetError names file and line of a row that cannot be used.
    """
    descriptions = read_descriptions(pairs)
    if not descriptions:
        raise DatasetError(f"{pairs} holds no description")
    for description in descriptions:
        if not split_text(description.text):
            raise DatasetError(f"{description.place}: the description is empty")
    rows = [(description.place, description.smiles) for description in descriptions]
    rows += [row for path in candidates for row in read_molecules(path)]
    place_in_pool: dict[str, int] = {}
    pool: list[str] = []
    pool_places: list[str] = []
    found = []
    for (place, _), (canonical, inchikey) in zip(rows, _standardised(rows, processes), strict=True):
        if inchikey not in place_in_pool:
            place_in_pool[inchikey] = len(pool)
            pool.append(canonical)
            pool_places.append(place)
        found.append(place_in_pool[inchikey])
    return RetrievalTask(
        [description.text for description in descriptions],
        pool,
        np.array(found[: len(descriptions)], dtype=np.int64),
        [description.place for description in descriptions],
        pool_places,
    )


def evaluate_retrieval(encoder: Encoder, task: RetrievalTask, seed: int = 0, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Score a checkpoint every way; the keys are those of the command's JSON document.

    - `text_to_molecule`, `molecule_to_text`: the global vector alone; ties count against us.
    - `among_pairs`: the described molecules alone are the pool.
    - `reranked`: the first 100 by the vector in the order that the hierarchy adds (`evaluate_rerank`); None without a hierarchy, and
      `reranked_missing` says why.
    - `random_spelling`: the described molecules in random spellings, through the chemistry door as in the service.
    - `raw_spelling`: the same spellings straight into the encoder, and the median cosine to the canonical spelling's vector.

    The last four hold the scores of text to molecule, and under `molecule_to_text` those of the other direction. `pool` is the number of
    molecules, `model` the version. DatasetError names a text or molecule that the model is too short for.
    """
    _refuse_long(encoder, task)
    texts, pool = encoder.encode_texts(task.texts), encoder.encode_molecules(task.pool)
    own = pool[task.targets]
    queried = np.unique(task.targets)
    spellings = _random_spellings([task.pool[row] for row in queried], seed)
    through_door, raw = pool.copy(), pool.copy()
    through_door[queried] = encoder.encode_molecules([standardise(spelling).smiles for spelling in spellings])
    raw[queried] = encoder.encode_molecules(spellings)
    both_ways = _both_ways(texts, pool, task.targets)
    results: dict[str, Any] = {
        "text_to_molecule": {name: score for name, score in both_ways.items() if name != "molecule_to_text"},
        "molecule_to_text": both_ways["molecule_to_text"],
        "among_pairs": _both_ways(texts, own, np.arange(len(texts))),
        "reranked": None,
        "random_spelling": _both_ways(texts, through_door, task.targets),
        "raw_spelling": {
            **_both_ways(texts, raw, task.targets),
            "median_cosine": float(np.median((raw[queried] * pool[queried]).sum(1))),
        },
        "pool": len(pool),
        "model": encoder.version,
    }
    if encoder.has_hierarchy:
        results["reranked"] = evaluate_rerank(encoder, task.texts, task.pool, texts, pool, task.targets)
    else:
        results["reranked_missing"] = (
            f"model {encoder.version} has no hierarchy, so there is nothing to re-rank its first {RERANKED} by; "
            "train one on it with `python -m encoder train hierarchy`"
        )
    for name, scores in results.items():
        report(_line(name, scores))
    return results


def _both_ways(texts: Vectors, pool: Vectors, targets: NDArray[np.int64]) -> dict[str, Any]:
    own = pool[targets]
    return {**_scores(texts, pool, targets), "molecule_to_text": _scores(own, texts, np.arange(len(texts)))}


def _scores(queries: Vectors, pool: Vectors, targets: NDArray[np.int64]) -> Scores:
    return retrieval_scores(rank_by_cosine(queries, pool, targets)).to_json()


def _line(name: str, scores: object) -> str:
    if not isinstance(scores, dict):
        return f"{name}: {scores}"
    parts = [f"{key} {_shown(value)}" for key, value in scores.items() if key != "molecule_to_text"]
    if "molecule_to_text" in scores:
        parts.append("; " + _line("molecule to text", scores["molecule_to_text"]))
    return f"{name}: {' '.join(parts)}"


def _shown(value: float | list[float]) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "/".join(map(_shown, value))


def _refuse_long(encoder: Encoder, task: RetrievalTask) -> None:
    texts = zip(task.text_places, map(encoder.text_tokens, task.texts), strict=True)
    molecules = zip(task.pool_places, map(encoder.molecule_tokens, task.pool), strict=True)
    for place, length in (*texts, *molecules):
        if length > encoder.max_tokens:
            raise DatasetError(f"{place}: {length} tokens, but the model reads at most {encoder.max_tokens}; remove the row")


def _random_spellings(molecules: list[str], seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [random_spelling(smiles, generator) for smiles in molecules]


def random_spelling(smiles: str, generator: np.random.Generator) -> str:
    """Write a readable molecule in SMILES that start and branch at random."""
    molecule = Chem.MolFromSmiles(smiles)
    order = [int(atom) for atom in generator.permutation(molecule.GetNumAtoms())]
    return str(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))


def _standardised(rows: list[tuple[str, str]], processes: int) -> list[tuple[str, str]]:
    if processes <= 1:
        return [_standard_form(row) for row in rows]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(processes, get_context("spawn"), _silence) as workers:
        return list(workers.map(_standard_form, rows, chunksize=256))


def _silence() -> None:
    RDLogger.DisableLog("rdApp.*")


def _standard_form(row: tuple[str, str]) -> tuple[str, str]:
    place, smiles = row
    try:
        molecule = standardise(smiles)
    except MoleculeError as error:
        raise DatasetError(f"{place}: {smiles[:200]!r} cannot be a molecule of the pool: {error}") from error
    return molecule.smiles, molecule.inchikey
