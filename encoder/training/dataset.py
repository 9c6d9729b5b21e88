"""Reads pairs of molecules and texts, refuses what must not be trained on, and varies texts from epoch to epoch."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

NAMES = "names"
"""The kind of pairs whose text is a list of synonyms with `; ` between them."""


class DatasetError(Exception):
    """A data file cannot be used; the message names file, line and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A molecule and a text about it."""

    smiles: str
    inchikey: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Description:
    """A molecule and the text that should find it, from an evaluation file."""

    identifier: str
    smiles: str
    text: str
    place: str = ""
    """File and line, for errors."""


def open_text(path: Path) -> TextIO:
    """Open a text file for reading, gzip-compressed or not, by its suffix."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error


def read_pairs(folder: Path, kinds: Iterable[str], evaluation_inchikeys: frozenset[str], allow_noncommercial: bool = False) -> list[Pair]:
    """Read `KIND.jsonl.gz` (or `KIND.jsonl`) of each kind from a folder.

    Rows marked `noncommercial` are left out unless allowed. DatasetError when a file is missing, a row is broken, or a molecule of the
    evaluation set is among the rows: training on it would make every reported figure a lie, so it is no warning.
    """
    pairs: list[Pair] = []
    for kind in kinds:
        path = next((p for p in (folder / f"{kind}.jsonl.gz", folder / f"{kind}.jsonl") if p.exists()), None)
        if path is None:
            raise DatasetError(
                f"{folder} holds no {kind}.jsonl.gz; name the folder of the training pairs with --data or ATOMAS_TRAINING_DATA"
            )
        for place, row in _rows(path):
            try:
                pair = Pair(str(row["smiles"]), str(row["inchikey"]), str(row["text"]), kind)
                noncommercial = bool(row["noncommercial"])
            except (KeyError, TypeError) as error:
                raise DatasetError(f"{place}: the row needs smiles, inchikey, text and noncommercial ({error!r})") from error
            if pair.inchikey in evaluation_inchikeys:
                raise DatasetError(
                    f"{place}: {pair.inchikey} is a molecule of the evaluation set and must not be trained on; remove the row"
                )
            if allow_noncommercial or not noncommercial:
                pairs.append(pair)
    if not pairs:
        raise DatasetError(f"{folder} holds no usable pair")
    return pairs


def _rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    with open_text(path) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DatasetError(f"{place}: not JSON ({error})") from error
                yield place, row
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a tab-separated file with a header line; DatasetError when a column is missing or a row is short or long."""
    return [row for _, row in read_placed_rows(path, columns)]


def read_placed_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """The rows of `read_table`, each with its file and line as errors name them."""
    with open_text(path) as lines:
        try:
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise DatasetError(f"{path} has no column {', '.join(missing)}; its header must name {', '.join(columns)}")
            rows = []
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if any(row[column] is None for column in columns):
                    raise DatasetError(f"{place}: too few columns")
                if None in row:
                    raise DatasetError(f"{place}: too many columns; a text must not hold tabs")
                rows.append((place, row))
            return rows
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error


def read_descriptions(path: Path) -> list[Description]:
    """Read an evaluation file with the columns cid, smiles, description."""
    rows = read_placed_rows(path, ("cid", "smiles", "description"))
    return [Description(row["cid"], row["smiles"], row["description"], place) for place, row in rows]


def read_molecules(path: Path) -> list[tuple[str, str]]:
    """Read the SMILES column of a tab-separated file: each SMILES after its place."""
    return [(place, row["smiles"]) for place, row in read_placed_rows(path, ("smiles",))]


def inchikey_of(smiles: str) -> str:
    """Return the standard InChIKey; DatasetError when RDKit cannot read the SMILES."""
    molecule = Chem.MolFromSmiles(smiles)
    key = Chem.MolToInchiKey(molecule) if molecule is not None else ""
    if not key:
        raise DatasetError(f"no InChIKey can be computed for {smiles[:200]!r}")
    return str(key)


def vary_text(pair: Pair, siblings: Sequence[str], generator: np.random.Generator) -> str:
    """Return the text of a pair as this epoch shows it: some of its synonyms or sentences, sometimes with another text of its molecule.

    Synonyms come as a random non-empty subset in random order; a quarter of the other texts lose sentences; a quarter of all gain a sibling.
    """
    text = pair.text
    if pair.kind == NAMES:
        names = text.split("; ")
        count = int(generator.integers(1, len(names) + 1))
        text = "; ".join(names[index] for index in generator.permutation(len(names))[:count])
    elif generator.random() < 0.25:
        sentences = text.split(". ")
        kept = generator.random(len(sentences)) < generator.random()
        text = ". ".join(sentence for sentence, keep in zip(sentences, kept, strict=True) if keep) or text
    if siblings and generator.random() < 0.25:
        sibling = siblings[int(generator.integers(len(siblings)))]
        text = f"{text} {sibling}" if generator.random() < 0.5 else f"{sibling} {text}"
    return text


def similar_batches(vectors: NDArray[np.float32], batch: int, group: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Split all rows into batches made of groups of alike rows, so that a batch holds hard negatives.

    A random tree halves the rows along the line between two random members until a part has at most `group` rows; the parts are shuffled
    and cut into batches. `group` of 1 gives plain random batches. The last batch may be smaller.
    """
    parts = [generator.permutation(len(vectors))]
    leaves: list[NDArray[np.int64]] = []
    while parts:
        part = parts.pop()
        if group <= 1 or len(part) <= group:
            leaves.append(part)
            continue
        first, second = vectors[generator.choice(part, 2, replace=False)]
        half = len(part) // 2
        order = np.argpartition(vectors[part] @ (first - second), half)
        parts += [part[order[:half]], part[order[half:]]]
    rows = np.concatenate([leaves[index] for index in generator.permutation(len(leaves))])
    return [rows[start : start + batch] for start in range(0, len(rows), batch)]
