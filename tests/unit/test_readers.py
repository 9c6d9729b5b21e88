"""Files of compounds: every format and packing, rows that cannot be read, files that cannot be read."""

import bz2
import csv
import gzip
import io
import json
import os
import random
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from atomas import Format, ReaderError, Row, formats, read_rows
from atomas.readers import Source

CHEBI = Path(__file__).parents[2] / "data" / "chebi.jsonl.gz"
METHANE = "methane\n  program\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0 0.0 0.0 C   0  0\nM  END\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(folder: Path, name: str, content: str | bytes, format: str = "auto") -> list[Row]:
    return list(read_rows(write(folder, name, content), format))


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


# SMILES


def test_smiles_lines_give_structure_name_and_line_number(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "a.smi", "CCO ethanol\n\n# a comment\nC\tmethane, a gas\r\nN\n")
    assert rows == [
        Row(smiles="CCO", name="ethanol", position=1),
        Row(smiles="C", name="methane, a gas", position=4),
        Row(smiles="N", position=5),
    ]


def test_a_header_of_a_smiles_file_is_no_row(tmp_path: Path) -> None:
    assert [row.smiles for row in rows_of(tmp_path, "a.smi", "SMILES Name\nCCO ethanol\nstructure CCC\n")] == ["CCO", "structure"]


def test_a_cxsmiles_extension_is_kept_beside_the_smiles(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "a.smi", "C[C@H](O)F |o1:1| racemate\n")
    assert (row.smiles, row.name, row.metadata) == ("C[C@H](O)F", "racemate", {"cxsmiles": "o1:1"})


def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "a.smi", b"\xef\xbb\xbfCCO\n")[0].smiles == "CCO"
    assert rows_of(tmp_path, "a.csv", b"\xef\xbb\xbfsmiles,name\nCCO,x\n")[0].smiles == "CCO"
    assert rows_of(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"smiles": "CCO"}\n')[0].smiles == "CCO"


# CSV and TSV


def test_csv_columns_are_known_by_name_whatever_their_case_and_order(tmp_path: Path) -> None:
    text = "Mass,NAME,Synonyms,Canonical SMILES,ChEBI ID,Definition,InChIKey\n46.07,ethanol,alcohol; spirit|EtOH,CCO,CHEBI:16236,A drink.,LFQ\n"
    (row,) = rows_of(tmp_path, "a.csv", text)
    assert row == Row(
        smiles="CCO",
        id="CHEBI:16236",
        name="ethanol",
        synonyms=("alcohol", "spirit", "EtOH"),
        descriptions=("A drink.",),
        metadata={"Mass": 46.07, "InChIKey": "LFQ"},
        position=2,
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_found(tmp_path: Path, delimiter: str) -> None:
    (row,) = rows_of(tmp_path, "a.csv", delimiter.join(["smiles", "name", "x"]) + "\n" + delimiter.join(["CCO", "ethanol", "1"]) + "\n")
    assert (row.smiles, row.name, row.metadata) == ("CCO", "ethanol", {"x": 1})


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    first, second = rows_of(tmp_path, "a.csv", 'smiles,name,note\nCCO,"eth,an""ol","two\nlines"\nC,methane,\n')
    assert (first.name, first.metadata, first.position) == ('eth,an"ol', {"note": "two\nlines"}, 2)
    assert (second.name, second.metadata, second.position) == ("methane", {}, 4)


def test_a_stray_quote_in_a_tsv_swallows_nothing(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "a.tsv", 'smiles\tname\nC\t"5\'-phosphate\nCC\t"quoted ""name"""\nCCC\tx\n')
    assert [row.name for row in rows] == ["\"5'-phosphate", 'quoted "name"', "x"]


def test_csv_rows_with_the_wrong_number_of_cells_are_unreadable_alone(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "a.csv", "smiles,name,id\nCCO,ethanol,1\nCC\nC,methane,3,extra\nN,ammonia,4,,\n")
    assert [row.smiles for row in rows] == ["CCO", None, None, "N"]
    assert rows[1].unreadable == "The row has 1 cells, the header has 3."
    assert rows[2].unreadable == "The row has 4 cells, the header has 3."
    assert (rows[2].position, rows[2].metadata) == (4, {"source_text": "C,methane,3,extra"})


@pytest.mark.parametrize("limit_of_the_process", [131_072, 10_000_000])
def test_a_quote_that_is_never_closed_costs_a_row_that_names_its_lines(tmp_path: Path, limit_of_the_process: int) -> None:
    former = csv.field_size_limit(limit_of_the_process)
    long = "".join(f"C,name {number} {'x' * 100}\n" for number in range(2_000))
    try:
        rows = rows_of(tmp_path, "a.csv", f'smiles,name\nCCO,"never closed\n{long}')
    finally:
        csv.field_size_limit(former)
    lost = next(row for row in rows if row.unreadable)
    assert "lines 2 to" in str(lost.unreadable)
    assert sum(row.smiles == "C" for row in rows) > 500


def test_equal_and_empty_column_names_lose_nothing(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "a.csv", "smiles,note,note,\nCCO,a,b,c\n")
    assert row.metadata == {"note": "a", "note_3": "b", "column_4": "c"}


@pytest.mark.parametrize(
    "column", ["smiles", "SMILES", "Canonical SMILES", "canonical_smiles", "CanonicalSMILES", "isomeric-smiles", "Structure"]
)
def test_columns_of_smiles_are_known_however_they_are_spelled(tmp_path: Path, column: str) -> None:
    assert rows_of(tmp_path, "a.csv", f"{column};x\nCCO;1\n")[0].smiles == "CCO"


def test_an_isomeric_column_goes_before_a_canonical_one_and_fills_in_from_it(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "a.csv", "CID,CanonicalSMILES,IsomericSMILES\n1,CC(N)O,C[C@H](N)O\n2,CCO,\n")
    assert [row.smiles for row in rows] == ["C[C@H](N)O", "CCO"]


def test_inchi_and_molblock_columns_are_structures_too(tmp_path: Path) -> None:
    inchi, structure = rows_of(tmp_path, "a.csv", "structure,name\nInChI=1S/CH4/h1H4,a\nCCO,b\n")
    assert (inchi.inchi, structure.smiles) == ("InChI=1S/CH4/h1H4", "CCO")
    (only,) = rows_of(tmp_path, "b.csv", "InChI,name\nInChI=1S/CH4/h1H4,a\n".replace("InChI=1S/CH4/h1H4", '"InChI=1S/CH4/h1H4"'))
    assert only.inchi == "InChI=1S/CH4/h1H4"
    block = METHANE.replace("\n", "\n")
    text = io.StringIO()
    csv.writer(text).writerows([["molblock"], [block]])
    assert rows_of(tmp_path, "c.csv", text.getvalue())[0].molblock == block


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("007", "007"),
        ("+1", "+1"),
        ("50-00-0", "50-00-0"),
        ("1,5", "1,5"),
        ("9" * 30, "9" * 30),
    ],
)
def test_text_that_reads_as_a_number_without_loss_becomes_one(tmp_path: Path, text: str, value: Any) -> None:
    (row,) = rows_of(tmp_path, "a.csv", f"smiles;x\nC;{text}\n")
    assert row.metadata == {"x": value}
    assert type(row.metadata["x"]) is type(value)


# Digits are left out, because text that reads as a number comes back as one.
@given(notes=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x000123456789")), min_size=1, max_size=5))
@settings(max_examples=50)
def test_whatever_a_csv_writer_writes_is_read_back(notes: list[str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("smiles", "note"), *(("C", note) for note in notes)])
    rows = list(formats.read_csv(io.BytesIO(text.getvalue().encode()), "a.csv", ","))
    assert [row.metadata.get("note", "") for row in rows] == [note.strip() for note in notes]


# JSON Lines


def test_json_lines_map_to_rows_and_null_is_absent(tmp_path: Path) -> None:
    record = {
        "id": 7, "name": "ethanol", "synonyms": ["EtOH", "EtOH", None, "spirit; of wine"], "smiles": "CCO", "definition": None,
        "description": "A drink.", "roles": ["solvent"], "parents": [], "stars": 3, "ok": True, "inchikey": "LFQ", "score": float("nan"),
    }  # fmt: skip
    (row,) = rows_of(tmp_path, "a.jsonl", json.dumps(record) + "\n")
    assert row == Row(
        smiles="CCO",
        id="7",
        name="ethanol",
        synonyms=("EtOH", "spirit; of wine"),
        descriptions=("A drink.",),
        metadata={"roles": ["solvent"], "stars": 3, "ok": True, "inchikey": "LFQ"},
        position=1,
    )


def test_json_lines_that_cannot_be_read_are_unreadable_alone(tmp_path: Path) -> None:
    bad = [b'{"smiles": "C"', b"[1]", b"7", b'"text"', b"\xff\xfe{}", b"[" * 100_000]
    rows = rows_of(tmp_path, "a.jsonl", b"\n".join([b'{"smiles": "CC"}', *bad, b'{"smiles": "CCC"}']))
    assert [row.smiles for row in rows] == ["CC", *[None] * len(bad), "CCC"]
    assert [row.position for row in rows] == list(range(1, len(bad) + 3))
    assert rows[1].metadata == {"source_text": '{"smiles": "C"'}
    assert all(row.unreadable and len(str(row.metadata["source_text"])) <= 1_000 for row in rows[1:-1])


def test_a_row_that_the_client_wrote_is_read_back(tmp_path: Path) -> None:
    row = Row(smiles="C", id="A", name="a", synonyms=("b",), descriptions=("c",), metadata={"stars": 3}, position=1)
    text = json.dumps({name: getattr(row, name) for name in ("smiles", "id", "name", "synonyms", "descriptions", "metadata")})
    assert rows_of(tmp_path, "a.jsonl", text) == [row]


def test_the_shipped_library_is_read_whole() -> None:
    with Source(CHEBI) as source:
        rows = list(source)
        assert source.bytes_read == source.total_bytes == CHEBI.stat().st_size
    assert len(rows) == 34_666
    assert all(row.smiles and row.id.startswith("CHEBI:") and row.name and row.metadata["inchikey"] for row in rows)
    assert sum(bool(row.descriptions) for row in rows) > 500


# SDF


def test_sdf_records_give_molblock_well_known_fields_and_metadata(tmp_path: Path) -> None:
    record = (
        METHANE + "> <ChEBI ID>\nCHEBI:16183\n\n>  <ChEBI Name>  (1)\nmethane\n\n> <Synonyms>\nCH4\nmarsh gas\n\n> <Definition>\nA gas.\n\n"
        "> <InChIKey>\nVNWKT\n\n> <SMILES>\nC\n\n> 25 <Mass>\n16.04\n\n$$$$\n"
    )
    (row,) = rows_of(tmp_path, "a.sdf", record)
    assert row == Row(
        molblock=METHANE,
        id="CHEBI:16183",
        name="methane",
        synonyms=("CH4", "marsh gas"),
        descriptions=("A gas.",),
        metadata={"InChIKey": "VNWKT", "SMILES": "C", "Mass": 16.04},
        position=1,
    )


def test_sdf_records_are_told_apart_whatever_their_line_ends(tmp_path: Path) -> None:
    text = (METHANE + "$$$$\n") * 3
    for content in (text, text.replace("\n", "\r\n"), text.removesuffix("$$$$\n"), text + "\n\n"):
        rows = rows_of(tmp_path, "a.sdf", content)
        assert [(row.molblock, row.name, row.position) for row in rows] == [(METHANE, "methane", number) for number in (1, 2, 3)]


def test_sdf_fields_without_blank_lines_between_are_kept_apart(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "a.sdf", METHANE + "> <A>\n1\n> <B>\n2\n$$$$\n")
    assert row.metadata == {"A": 1, "B": 2}


def test_broken_sdf_records_are_unreadable_alone(tmp_path: Path) -> None:
    cut = METHANE.replace("M  END\n", "")
    text = (METHANE + "$$$$\n" + cut + "$$$$\n" + METHANE + METHANE + "$$$$\n" + METHANE + "$$$$\n").encode()
    bad_text = METHANE.encode() + b"> <A>\n\xff\xfe\n\n$$$$\n"
    rows = rows_of(tmp_path, "a.sdf", text + bad_text + cut.encode())
    assert [row.molblock for row in rows] == [METHANE, None, None, METHANE, None, None]
    assert "no `M  END`" in str(rows[1].unreadable)
    assert "$$$$ line is missing" in str(rows[2].unreadable)
    assert "UTF-8" in str(rows[4].unreadable)
    assert [row.position for row in rows] == [1, 2, 3, 4, 5, 6]


def test_v3000_records_are_whole(tmp_path: Path) -> None:
    block = "x\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 END CTAB\nM  END\n"
    assert rows_of(tmp_path, "a.sdf", block + "$$$$\n")[0].molblock == block


# Parquet


def parquet_file(folder: Path, columns: dict[str, list[Any]]) -> Path:
    path = folder / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_columns_are_known_by_name_and_keep_their_kinds(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path,
        {"SMILES": ["C", "CC"], "id": [1, 2], "synonyms": [["a", "b"], None], "mass": [16.04, float("nan")], "text": ["A gas.", None]},
    )
    first, second = read_rows(path)
    assert first == Row(smiles="C", id="1", synonyms=("a", "b"), descriptions=("A gas.",), metadata={"mass": 16.04}, position=1)
    assert second == Row(smiles="CC", id="2", position=2)


def test_parquet_without_structures_or_cut_off_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=r"no column of structures.*a, b"):
        list(read_rows(parquet_file(tmp_path, {"a": [1], "b": [2]})))
    whole = parquet_file(tmp_path, {"smiles": ["C"]}).read_bytes()
    with pytest.raises(ReaderError, match="cannot be read as Parquet"):
        rows_of(tmp_path, "b.parquet", whole[: len(whole) // 2])


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_file(tmp_path, {"smiles": ["C"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ReaderError, match=r"pip install 'atomas\[parquet\]'"):
        list(read_rows(path))


# Packing


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.smi.gz", gzip.compress),
        ("a.smi", gzip.compress),
        ("a.smi.zip", lambda content: zipped("whatever.smi", content)),
        ("a.zip", lambda content: zipped("inner/b.smi", content)),
        ("a.smi.gz", lambda content: gzip.compress(content[:10]) + gzip.compress(content[10:])),
    ],
)
def test_packed_files_read_as_plain_ones(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    content = b"CCO ethanol\n" * 50
    assert rows_of(tmp_path, name, pack(content)) == rows_of(tmp_path, "plain.smi", content)


def test_a_packed_sdf_reads_as_a_plain_one(tmp_path: Path) -> None:
    content = ((METHANE + "$$$$\n") * 20).encode()
    plain = rows_of(tmp_path, "a.sdf", content)
    assert rows_of(tmp_path, "a.sdf.zip", zipped("a.sdf", content)) == rows_of(tmp_path, "a.sdf.gz", gzip.compress(content)) == plain


def test_a_truncated_gzip_gives_its_rows_then_says_so(tmp_path: Path) -> None:
    randomness = random.Random(1)
    packed = gzip.compress("\n".join(f"C {randomness.random()}" for _ in range(5_000)).encode())
    rows: list[Row] = []
    source = read_rows(write(tmp_path, "a.smi.gz", packed[: len(packed) // 2]))
    with pytest.raises(ReaderError, match=r"a\.smi\.gz is damaged or cut off"):
        rows.extend(source)
    assert 100 < len(rows) < 5_000


def test_a_gzip_or_zip_with_flipped_bytes_says_so(tmp_path: Path) -> None:
    randomness = random.Random(1)
    content = "\n".join(f"C {randomness.random()}" for _ in range(5_000)).encode()
    for name, packed in (("a.smi.gz", gzip.compress(content)), ("a.smi.zip", zipped("a.smi", content))):
        broken = bytearray(packed)
        broken[len(broken) // 2 : len(broken) // 2 + 8] = b"\xff" * 8
        with pytest.raises(ReaderError, match="damaged or cut off"):
            rows_of(tmp_path, name, bytes(broken))


def test_a_truncated_zip_says_so(tmp_path: Path) -> None:
    packed = zipped("a.smi", b"CCO\n" * 1000)
    with pytest.raises(ReaderError, match="damaged or cut off"):
        rows_of(tmp_path, "a.smi.zip", packed[: len(packed) // 2])


def test_a_zip_of_several_files_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.smi", "C")
        archive.writestr("b.smi", "C")
    with pytest.raises(ReaderError, match="holds 2 files"):
        rows_of(tmp_path, "a.zip", packed.getvalue())


def test_a_file_that_is_not_packed_as_its_name_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="not packed as its name says"):
        rows_of(tmp_path, "a.smi.gz", "CCO\n")


# Formats by content


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"CCO ethanol\nCCN\nCC\n", Format.SMILES),
        (b"[Na+].[Cl-] salt\n[2H]C\n", Format.SMILES),
        (b"CCO", Format.SMILES),
        (b"# made by hand\nCCO\n", Format.SMILES),
        (b"id\tsmiles\n1\tC\n", Format.TSV),
        (b'"id","smiles"\n1,C\n', Format.CSV),
        (b"id;Canonical SMILES\n1;C\n", Format.CSV),
        (b'{"smiles": "C"}\n', Format.JSONL),
        ((METHANE + "$$$$\n").encode(), Format.SDF),
    ],
)
def test_the_format_shows_in_the_content_when_the_name_tells_nothing(tmp_path: Path, content: bytes, format: Format) -> None:
    for name, packed in (("a.txt", content), ("compounds", content), ("a.txt.gz", gzip.compress(content))):
        with Source(write(tmp_path, name, packed)) as source:
            assert source.format is format
            assert len(list(source)) >= 1


def test_prose_is_no_file_of_compounds(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=r"cannot be told.*name the format"):
        rows_of(tmp_path, "readme.txt", "This file holds words.\nMany of them, and not one molecule.\n")


def test_a_named_format_goes_before_the_name_and_the_content(tmp_path: Path) -> None:
    assert [row.smiles for row in rows_of(tmp_path, "a.csv", "CCO one\nCCN two\n", "smiles")] == ["CCO", "CCN"]


# Files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.smi", b"", "is empty"),
        ("a.smi", b"\n\n# nothing\n", "holds no rows"),
        ("a.csv", b"smiles,name\n", "holds no rows"),
        ("a.smi.gz", gzip.compress(b"", mtime=0), "holds no rows"),
        ("a.csv", b"id,name\n1,x\n", r"no column of structures.*its columns are: id, name"),
        ("a.smi", bytes(range(256)) * 10, "binary"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        ("a.sdf", random.Random(0).randbytes(20_000) + b"\0", "binary"),
        ("a.jsonl", b'[{"smiles": "C"}]', "one JSON list"),
        ("a.csv", "smiles,name\nC,x\n".encode("utf-16"), "UTF-16"),
        ("a.smi", b"CCO\rCCN\r", "old Macs"),
        ("a.parquet", b"smiles\nC\n", "not a Parquet file"),
        ("a.csv", b"PAR1\0\0", "is a Parquet file"),
        ("a.bz2", bz2.compress(b"CCO\n"), "cannot be told|binary"),
    ],
)
def test_files_that_hold_no_compounds_say_why(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    with pytest.raises(ReaderError, match=complaint) as caught:
        rows_of(tmp_path, name, content)
    assert name in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_a_folder_and_an_unknown_format_say_so(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=r"no file .*missing\.smi"):
        list(read_rows(tmp_path / "missing.smi"))
    with pytest.raises(ReaderError, match="cannot be opened"):
        list(read_rows(tmp_path))
    with pytest.raises(ReaderError, match="choose one of auto, smiles"):
        list(read_rows(tmp_path / "a.smi", "excel"))


def test_a_file_cut_while_it_is_read_says_so_after_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "CCO ethanol\n" * 100_000)
    rows = read_rows(path)
    taken = [next(rows)]
    os.truncate(path, 500_000)
    with pytest.raises(ReaderError, match="became shorter"):
        taken.extend(rows)
    assert len(taken) >= 500_000 // 12


def test_a_disk_that_fails_half_way_says_so_after_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "CCO ethanol\n" * 100_000)
    with Source(path) as source:
        rows = iter(source)
        next(rows)
        # The file's own descriptor is gone, as after a network file system was taken away.
        os.close(source._file.fileno())
        with pytest.raises(ReaderError, match="could not be read to its end"):
            list(rows)
        # Give it one back to close.
        spare = os.open(os.devnull, os.O_RDONLY)
        if spare != source._file.fileno():
            os.dup2(spare, source._file.fileno())
            os.close(spare)


def test_a_deleted_file_is_still_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "CCO ethanol\n" * 100_000)
    rows = read_rows(path)
    next(rows)
    path.unlink()
    assert sum(1 for _ in rows) == 99_999


@pytest.mark.parametrize("name", ["a.smi", "a.jsonl", "a.csv", "a.sdf"])
def test_an_endless_line_or_record_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(formats, "MAX_RECORD_BYTES", 1_000)
    endless = b"smiles\n" + (b"x\n" * 1_000 if name == "a.sdf" else b"C" * 5_000)
    with pytest.raises(ReaderError, match="is longer than"):
        rows_of(tmp_path, name, endless)


def test_a_pipe_is_read_without_a_size(tmp_path: Path) -> None:
    path = tmp_path / "pipe.smi"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("CCO\nCCN\n",))
    writer.start()
    with Source(path) as source:
        assert [row.smiles for row in source] == ["CCO", "CCN"]
        assert source.bytes_read is None
        assert source.total_bytes is None
    writer.join()


def test_reading_takes_little_memory_however_long_the_file(tmp_path: Path) -> None:
    import tracemalloc

    path = write(tmp_path, "a.smi.gz", gzip.compress(b"CCO ethanol\n" * 1_000_000))

    def count() -> Iterator[Row]:
        yield from read_rows(path)

    tracemalloc.start()
    for number, _ in enumerate(count()):
        if number == 100_000:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@given(content=st.binary(max_size=300), format=st.sampled_from(list(Format)), pack=st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_content_whatever_raises_anything_but_a_reader_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, format: Format, pack: bool
) -> None:
    path = write(tmp_path_factory.getbasetemp(), "any", gzip.compress(content) if pack else content)
    try:
        rows = list(read_rows(path, format))
    except ReaderError as error:
        assert error.message
    else:
        assert rows
