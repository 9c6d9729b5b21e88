"""Judges a decoder: captions and molecules written for a benchmark, with and without the neighbours' texts to copy from."""

# Shape legend:  Q queries, N molecules of the training data, X dimension of the vectors

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from encoder.context import ALIKE, BRIEF, DETAILED
from encoder.generator import EDITED, Generator, Neighbour, Proposal
from encoder.inference import Encoder
from encoder.likeness import fingerprints
from encoder.molecules import MoleculeError, standardise
from encoder.prose import Manner, manner_of
from encoder.training.captions import Corpus
from encoder.training.dataset import DatasetError, Description, read_descriptions
from encoder.training.metrics import caption_scores, molecule_scores
from encoder.training.neighbours import nearest_molecules, nearest_to_texts

Report = Callable[[str], None]
_CHUNK = 96


@dataclass(frozen=True, slots=True)
class Pool:
    """Molecules of the training data and what is known of them, ready to be searched for neighbours."""

    corpus: Corpus
    vectors_NX: NDArray[np.float32]
    bits_NF: NDArray[np.uint8]
    source: str
    """Where the molecules are from, for reports."""

    @classmethod
    def of(cls, encoder: Encoder, corpus: Corpus, source: str) -> "Pool":
        """Encode the molecules of a corpus."""
        return cls(corpus, encoder.encode_molecules(corpus.smiles), fingerprints(corpus.smiles), source)

    def neighbour(self, row: int) -> Neighbour:
        """One molecule as the generator reads it."""
        return Neighbour(self.corpus.smiles[row], self.corpus.names[row], self.corpus.texts[row])

    def near_molecules(self, smiles: Sequence[str], vectors_QX: NDArray[np.float32], keys: Sequence[str]) -> list[list[Neighbour]]:
        """For each molecule those from which a description may copy, itself left out by InChIKey."""
        prose = np.flatnonzero([bool(text) and manner_of(text) == Manner.PROSE for text in self.corpus.texts])
        known = np.flatnonzero([bool(name or text) for name, text in zip(self.corpus.names, self.corpus.texts, strict=True)])
        bits_QF = fingerprints(smiles)
        found: list[list[int]] = [[] for _ in smiles]
        for pool, count in ((prose, DETAILED), (known, DETAILED + BRIEF)):
            nearest = nearest_molecules(bits_QF, vectors_QX, keys, self.bits_NF, self.vectors_NX, self.corpus.inchikeys, pool, count)
            for rows, more in zip(found, nearest.rows_QK.tolist(), strict=True):
                rows += [row for row in more if row >= 0 and row not in rows]
        return [[self.neighbour(row) for row in rows] for rows in found]

    def near_texts(self, vectors_QX: NDArray[np.float32], keys: Sequence[str]) -> list[list[Neighbour]]:
        """For each text the molecules nearest to it, the one it belongs to left out by InChIKey."""
        everything = np.arange(len(self.corpus.smiles))
        nearest = nearest_to_texts(vectors_QX, keys, self.vectors_NX, self.corpus.inchikeys, everything, max(ALIKE, EDITED))
        return [[self.neighbour(row) for row in rows if row >= 0] for rows in nearest.rows_QK.tolist()]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Molecules and their descriptions."""

    rows: list[Description]
    smiles: list[str]
    """Canonical, as the chemistry door gives them."""
    keys: list[str]

    @classmethod
    def read(cls, path: Path, limit: int | None, encoder: Encoder) -> "Benchmark":
        """The first `limit` rows of a file; DatasetError names file and line of a molecule or text that the encoder cannot read."""
        rows = read_descriptions(path)[:limit]
        if not rows:
            raise DatasetError(f"{path} holds no description")
        molecules = []
        for row in rows:
            try:
                molecules.append(standardise(row.smiles))
            except MoleculeError as error:
                raise DatasetError(f"{row.place}: {row.smiles[:200]!r} cannot be read: {error}") from error
            lengths = encoder.text_tokens(row.text), encoder.molecule_tokens(molecules[-1].smiles)
            if not lengths[0]:
                raise DatasetError(f"{row.place}: the description is empty")
            if max(lengths) > encoder.max_tokens:
                raise DatasetError(f"{row.place}: {max(lengths)} tokens, but the model reads at most {encoder.max_tokens}; remove the row")
        return cls(rows, [molecule.smiles for molecule in molecules], [molecule.inchikey for molecule in molecules])


def evaluate_captioning(
    generator: Generator, benchmark: Benchmark, pool: Pool | None, beams: int, predictions: Path | None, report: Report
) -> dict[str, Any]:
    """Describe every molecule and score the best description; without `pool` nothing can be copied."""
    neighbours: list[list[Neighbour]] = [[] for _ in benchmark.rows]
    if pool is not None:
        neighbours = pool.near_molecules(benchmark.smiles, generator.encoder.encode_molecules(benchmark.smiles), benchmark.keys)
    outputs: list[str] = []
    for start in range(0, len(benchmark.rows), _CHUNK):
        chunk = list(zip(benchmark.smiles, neighbours, strict=True))[start : start + _CHUNK]
        outputs += [written[0].text if written else "" for written in generator.describe_all(chunk, beams=beams)]
        report(f"{len(outputs)} of {len(benchmark.rows)} described")
    references = [row.text for row in benchmark.rows]
    write_predictions(predictions, "SMILES", [row.smiles for row in benchmark.rows], references, outputs)
    return {
        **asdict(caption_scores(references, outputs)),
        "rows": len(outputs),
        "neighbours": pool.source if pool else None,
        "beams": beams,
    }


def evaluate_generation(
    generator: Generator, benchmark: Benchmark, pool: Pool | None, count: int, seed: int, predictions: Path | None, report: Report
) -> dict[str, Any]:
    """Write `count` molecules for every description, keep the valid ones, and score the one that is most aligned with the text.

    `likeliest` has the scores of the valid candidate of the highest probability instead, `raw_validity` is the share of all that the
    decoder wrote that is valid, `answered` the share of the texts with a valid candidate.
    """
    texts = [row.text for row in benchmark.rows]
    neighbours: list[list[Neighbour]] = [[] for _ in texts]
    if pool is not None:
        neighbours = pool.near_texts(generator.encoder.encode_texts(texts), benchmark.keys)
    aligned: list[str] = []
    likeliest: list[str] = []
    drawn = valid = 0
    for start in range(0, len(texts), _CHUNK):
        chunk = list(zip(texts, neighbours, strict=True))[start : start + _CHUNK]
        for (text, _), proposals in zip(chunk, generator.propose_all(chunk, count, seed), strict=True):
            usable = _valid(proposals)
            drawn += sum(not proposal.edited for proposal in proposals)
            valid += sum(not proposal.edited for proposal in usable)
            best = sorted(_merged(usable).items(), key=lambda item: -item[1])
            likeliest.append(best[0][0] if best else "")
            aligned.append(_most_aligned(generator, text, [smiles for smiles, _ in best]) if best else "")
        report(f"{len(aligned)} of {len(texts)} answered")
    references = [row.smiles for row in benchmark.rows]
    write_predictions(predictions, "description", texts, references, aligned)
    return {
        **asdict(molecule_scores(references, aligned)),
        "likeliest": asdict(molecule_scores(references, likeliest)),
        "raw_validity": valid / max(drawn, 1),
        "answered": sum(map(bool, aligned)) / len(aligned),
        "rows": len(aligned),
        "neighbours": pool.source if pool else None,
        "candidates": count,
        "seed": seed,
    }


def _valid(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Proposals that RDKit reads, in canonical SMILES."""
    usable = []
    with rdBase.BlockLogs():
        for proposal in proposals:
            molecule = Chem.MolFromSmiles(proposal.smiles)
            if molecule is not None and molecule.GetNumAtoms():
                usable.append(replace(proposal, smiles=str(Chem.MolToSmiles(molecule))))
    return usable


def _merged(proposals: Iterable[Proposal]) -> dict[str, float]:
    merged: dict[str, float] = {}
    for proposal in proposals:
        merged[proposal.smiles] = max(proposal.log_probability, merged.get(proposal.smiles, -np.inf))
    return merged


def _most_aligned(generator: Generator, text: str, smiles: list[str]) -> str:
    encoder = generator.encoder
    cosines = encoder.encode_molecules(smiles) @ encoder.encode_texts([text])[0]
    return smiles[int(cosines.argmax())]


def write_predictions(path: Path | None, given: str, inputs: Sequence[str], references: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a tab-separated file with the columns `given`, ground truth and output; nothing without a path."""
    if path is None:
        return
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, escapechar=None, lineterminator="\n")
        writer.writerow((given, "ground truth", "output"))
        writer.writerows([tuple(" ".join(cell.split()) for cell in row) for row in zip(inputs, references, outputs, strict=True)])
