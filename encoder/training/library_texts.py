"""Molecules and texts that ship with the project as neighbours of a decoder: prose, and texts made of the library's fields that read like it."""

import gzip
import json
import re
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from encoder.molecules import MoleculeError, standardise
from encoder.prose import SUBJECT
from encoder.training.captions import Corpus, gather
from encoder.training.dataset import NAMES, DatasetError, Pair, open_text, read_pairs

DATA = Path(__file__).parents[2] / "data"
LIBRARY = DATA / "chebi.jsonl.gz"
"""The library that the project ships; the texts of benchmark molecules in it are blank."""
PROSE = "prose"
"""The kind of pairs in DATA whose texts are prose of other sources."""

_ARTICLE = re.compile(r"^(?:An?|The|One)\b")
_VOWEL = re.compile(r"^[aeiouAEIOU]")


def shipped_corpus(left_out: Collection[str] = ()) -> Corpus:
    """All molecules, names and texts that ship with the project, but for the InChIKeys that are left out."""
    pairs = [*read_pairs(DATA, (PROSE,), frozenset()), *library_pairs()]
    return gather(pair for pair in pairs if pair.inchikey not in left_out)


def library_pairs(path: Path = LIBRARY) -> list[Pair]:
    """Molecules, names and texts of a library in the format of `data/chebi.jsonl.gz`, benchmark molecules and unreadable ones left out.

    DatasetError names the file and the line of a row that cannot be used.
    """
    pairs: list[Pair] = []
    with open_text(path) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    if not row["evaluation_molecule"]:
                        pairs += _pairs(row)
                except (ValueError, KeyError, TypeError) as error:
                    raise DatasetError(f"{path}, line {number}: no compound of a library ({error!r})") from error
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error
    return pairs


def _pairs(row: dict[str, Any]) -> list[Pair]:
    texts = {"chebi_text": described(row["definition"] or "", row["roles"], row["parents"]), NAMES: row["name"]}
    try:
        molecule = standardise(row["smiles"])
    except MoleculeError:
        return []
    return [Pair(molecule.smiles, molecule.inchikey, text, kind) for kind, text in texts.items() if text]


def described(definition: str, roles: Sequence[str], parents: Sequence[str]) -> str:
    """A text of a definition, roles and classes, any of which may be missing: "The molecule is an ether that … It has a role as a drug."."""
    sentences = []
    if definition:
        sentences.append("It is " + _ARTICLE.sub(lambda article: article[0].lower(), definition.strip().rstrip(".")))
    if roles:
        sentences.append(f"It has a role as {_listed(roles)}")
    if parents:
        sentences.append(f"It is {_listed(parents)}")
    if not sentences:
        return ""
    return SUBJECT + ". ".join(sentences).removeprefix("It") + "."


def _listed(things: Sequence[str]) -> str:
    named = [f"{'an' if _VOWEL.match(thing) else 'a'} {thing}" for thing in things]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
