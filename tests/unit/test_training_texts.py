"""Texts that a decoder learns from and copies: ChEBI's wording out of descriptions of several sources, and out of ChEBI's fields."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from encoder.prose import Manner, manner_of
from encoder.training.captions import gather
from encoder.training.dataset import DatasetError, inchikey_of, read_descriptions
from encoder.training.library_texts import DATA, LIBRARY, PROSE, described, library_pairs
from encoder.training.recipes import BENCHMARK
from encoder.training.wording import chebi_wording, member_of_plurals

ETHER = "The molecule is an ether that is ethane in which a hydrogen is replaced by an ethoxy group. It has a role as a solvent."
ACID = "The molecule is an acid that is made of two halves."


@pytest.mark.parametrize(
    ("text", "names", "worded"),
    [
        (ETHER, (), ETHER),
        (ETHER.replace("The molecule", "it"), (), ETHER),
        (ETHER.replace("The molecule", "Diethyl ether"), (), ETHER),
        (ETHER + " The molecule is a natural product found in Zea mays with data available.", (), ETHER),
        (ETHER + " it is used as an anaesthetic.", (), ETHER),
        (ETHER + "Ether is a natural product found in Zea mays with data available.", (), ETHER),
        (ETHER + " Ether is an anaesthetic with a long history.", ("ether",), ETHER),
        ("Ether appears as a clear colorless liquid. Very flammable. " + ETHER, (), ETHER),
        (f"{ACID} It is functionally related to a half.", (), f"{ACID} It derives from a half."),
        (f"{ACID} It is a conjugate acid of an it(1-).", ("half", "demi"), f"{ACID} It is a conjugate acid of an half(1-)."),
        (f"{ACID} It is a conjugate acid of an it(1-). It is an acid.", (), f"{ACID} It is an acid."),
    ],
)
def test_of_several_sources_the_part_that_defines_the_molecule_is_kept(text: str, names: tuple[str, ...], worded: str) -> None:
    assert chebi_wording(text, names) == worded


@pytest.mark.parametrize(
    "text",
    [
        "A macrolide antibiotic isolated from cultures.",
        "Cupreine is a natural product found in Cinchona calisaya with data available.",
        "The molecule is under investigation in clinical trial NCT1.",
    ],
)
def test_a_text_that_defines_nothing_stays_as_it_is(text: str) -> None:
    assert chebi_wording(text, ()) == text
    assert manner_of(text) == Manner.OTHER


def test_classes_named_in_the_plural_are_memberships() -> None:
    assert (
        member_of_plurals("It is a benzotriazoles, an ester and a phenols.")
        == "It is a member of benzotriazoles, an ester and a member of phenols."
    )
    assert member_of_plurals("It is a glucose derivative and a virus.") == "It is a glucose derivative and a virus."


def test_the_fields_of_a_compound_read_like_a_description() -> None:
    text = described("An ether that is a solvent.", ["drug", "acid"], ["ether"])
    assert text == "The molecule is an ether that is a solvent. It has a role as a drug and an acid. It is an ether."
    assert described("", ["drug"], []) == "The molecule has a role as a drug."
    assert described("", [], []) == ""


def test_texts_and_names_of_benchmark_molecules_are_no_neighbours(tmp_path: Path) -> None:
    row = {
        "smiles": "C",
        "inchikey": "A",
        "name": "methane",
        "definition": "An alkane.",
        "roles": [],
        "parents": [],
        "evaluation_molecule": False,
    }
    path = tmp_path / "library.jsonl.gz"
    rows = [row, {**row, "smiles": "CC", "inchikey": "B", "evaluation_molecule": True}, {**row, "smiles": "C1CC"}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    corpus = gather(library_pairs(path))
    assert (corpus.inchikeys, corpus.names, corpus.texts) == (["VNWKTOKETHGBQD-UHFFFAOYSA-N"], ["methane"], ["The molecule is an alkane."])
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\nnonsense\n"))
    with pytest.raises(DatasetError, match="line 2"):
        library_pairs(path)


def test_what_ships_holds_no_text_of_a_benchmark_molecule() -> None:
    benchmark = {inchikey_of(row.smiles) for row in read_descriptions(BENCHMARK / "validation.tsv")}
    flagged = {row["inchikey"] for row in _rows(LIBRARY) if row["evaluation_molecule"]}
    rows = _rows(DATA / f"{PROSE}.jsonl.gz")
    assert len(rows) > 2_000
    assert not {row["inchikey"] for row in rows} & (benchmark | flagged)
    assert all(row["source"] and row["licence"] and not row["noncommercial"] for row in rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
