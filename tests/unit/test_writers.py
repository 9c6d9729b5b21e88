"""Files of compounds: what is written reads back as the same compounds."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomas import Compound, Descriptors, Format, Row, WriterError, read_rows
from atomas.types import JsonValue
from atomas.writers import CompoundFile
from encoder.molblocks import molblock
from encoder.molecules import Structure, standardise

FULL = ("jsonl", "csv", "sdf", "parquet")
DESCRIPTORS = Descriptors(46.07, 46.0419, -0.0014, 20.23, 1, 1, 0, 0, 0, 3, 0, 0, 1.0, "C2H6O")
ETHANOL = Compound(
    resource_name="libraries/lib/compounds/LFQSCWFLJHTTHZ-UHFFFAOYSA-N",
    name="ethanol",
    synonyms=("alcohol", "ethyl alcohol; absolute", 'spirit of "wine"', "乙醇"),
    source_ids=("CHEBI:16236", "DB00898"),
    smiles="CCO",
    inchikey="LFQSCWFLJHTTHZ-UHFFFAOYSA-N",
    descriptions=("A primary alcohol.\n\nIt burns; with a blue flame.", "> <not a field>\n$$$$"),
    descriptors=DESCRIPTORS,
    metadata={
        "roles": ["solvent", "fuel"],
        "year": 1796,
        "code": "0012",
        "digits": "12",
        "pure": True,
        "nested": {"a": [1, None, {"b": "|"}]},
    },
    molblock=molblock(Structure("smiles", "CCO")),
)


def round_trip(compounds: list[Compound], path: Path, **said: Any) -> list[Row]:
    with CompoundFile(path, extra_fields=tuple(said)) as file:
        for compound in compounds:
            file.write(compound, said)
    return list(read_rows(path))


def merged(rows: list[Row]) -> list[dict[str, Any]]:
    """What an import makes of rows: one compound for each structure, of everything that its rows say."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = standardise(row.molblock or row.smiles or "").inchikey
        compound = found.setdefault(key, {"inchikey": key, "name": "", "ids": [], "synonyms": [], "descriptions": [], "metadata": {}})
        compound["name"] = compound["name"] or row.name
        compound["ids"] += [row.id] if row.id else []
        compound["synonyms"] += row.synonyms
        compound["descriptions"] += row.descriptions
        compound["metadata"] |= row.metadata
    return list(found.values())


def expected(compound: Compound) -> dict[str, Any]:
    return {
        "inchikey": compound.inchikey,
        "name": compound.name,
        "ids": list(compound.source_ids),
        "synonyms": list(compound.synonyms),
        "descriptions": list(compound.descriptions),
        "metadata": dict(compound.metadata),
    }


@pytest.mark.parametrize("ending", [*FULL, "jsonl.gz", "csv.gz", "sdf.gz"])
def test_what_is_written_reads_back_as_the_same_compound(tmp_path: Path, ending: str) -> None:
    assert merged(round_trip([ETHANOL], tmp_path / f"x.{ending}")) == [expected(ETHANOL)]


def test_smiles_files_keep_structure_id_and_name(tmp_path: Path) -> None:
    rows = round_trip([ETHANOL, replace(ETHANOL, smiles="C", name="", source_ids=())], tmp_path / "x.smi")
    assert [(row.smiles, row.id, row.name, row.metadata) for row in rows] == [
        ("CCO", "CHEBI:16236", "ethanol", {}),
        ("CCO", "DB00898", "", {}),
        ("C", "", "", {}),
    ]


# A text of a compound: what an import leaves of any text, namely no white space around it.
line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).map(str.strip).filter(bool)
name = line.map(lambda text: " ".join(text.split())).filter(lambda text: not text.startswith((">", "$")))
prose = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60).map(str.strip).filter(bool)
value = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | prose,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(line, inner, min_size=1, max_size=3),
    max_leaves=6,
)
compounds = st.builds(
    replace,
    st.just(ETHANOL),
    name=name | st.just(""),
    synonyms=st.lists(line, max_size=4, unique=True).map(tuple),
    descriptions=st.lists(prose, max_size=3, unique=True).map(tuple),
    source_ids=st.lists(st.from_regex(r"[A-Za-z0-9:_.-]{1,20}", fullmatch=True), max_size=3, unique=True).map(tuple),
    metadata=st.dictionaries(line, value, max_size=4),
)


@pytest.mark.parametrize("ending", FULL)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(compound=compounds)
def test_any_names_texts_and_metadata_come_back(tmp_path: Path, ending: str, compound: Compound) -> None:
    assert merged(round_trip([compound], tmp_path / f"x.{ending}")) == [expected(compound)]


@pytest.mark.parametrize("ending", FULL)
def test_what_the_service_computed_is_written_and_no_import_takes_it_for_metadata(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    (row,) = round_trip([replace(ETHANOL, source_ids=("A",), metadata={})], path, score=0.5)
    assert row.metadata == {}
    if ending == "parquet":
        from pyarrow import parquet

        said: dict[str, JsonValue] = parquet.read_table(path).to_pylist()[0]
        assert (said["atomas.inchikey"], said["atomas.heavy_atoms"], said["atomas.score"]) == (ETHANOL.inchikey, 3, 0.5)
    else:
        text = path.read_text()
        assert ETHANOL.inchikey in text
        assert "C2H6O" in text
        assert "0.5" in text


def test_json_lines_keep_numbers_as_numbers(tmp_path: Path) -> None:
    round_trip([ETHANOL], tmp_path / "x.jsonl")
    first = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    assert first["atomas"]["molecular_weight"] == 46.07
    assert first["metadata"]["year"] == 1796


def test_an_sdf_record_begins_with_the_compounds_name(tmp_path: Path) -> None:
    round_trip([ETHANOL], tmp_path / "x.sdf")
    assert (tmp_path / "x.sdf").read_text().startswith("ethanol\n")


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    with pytest.raises(AttributeError):
        round_trip([ETHANOL, None], path)  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    round_trip([ETHANOL], path)
    assert list(tmp_path.iterdir()) == [path]
    assert gzip.decompress(path.read_bytes()).startswith(b"{")


@pytest.mark.parametrize(
    ("file", "format", "complaint"),
    [
        ("x.docx", Format.AUTO, "does not tell a format"),
        ("x.parquet.gz", Format.AUTO, "compressed by itself"),
        ("x.tsv", Format.AUTO, "not written as tsv"),
        ("x.sdf", "word", "no file format"),
        ("missing/x.sdf", Format.AUTO, "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path, file: str, format: str, complaint: str) -> None:
    with pytest.raises(WriterError, match=complaint):
        CompoundFile(tmp_path / file, format)


def test_an_sdf_file_of_a_compound_without_a_drawing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="no molblock"), CompoundFile(tmp_path / "x.sdf") as file:
        file.write(replace(ETHANOL, molblock=""))
