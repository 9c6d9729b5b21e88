"""A backup is whole or not there, and damage is noticed before anything is restored."""

import gzip
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.adapters.backup_folder import Backup, BackupWriter
from server.domain.errors import AtomasError, Reason

LINES = ['[["key", "plain"]]', "[1]", '["\\u2028 Größe"]']
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TABLE = Path("tables", "things.jsonl.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backup of one table and one folder."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "segment").write_bytes(bytes(range(256)) * 100)
    (source / "lock").write_text("1")
    writer = BackupWriter(tmp_path / "copy")
    assert writer.add_table("things", LINES) == 2
    writer.add_folder(source, "index")
    assert not (tmp_path / "copy").exists()
    writer.finish(MOMENT, "0005", ("index",))
    writer.discard()
    return tmp_path / "copy"


def test_what_was_written_is_read(folder: Path, tmp_path: Path) -> None:
    backup = Backup(folder)
    backup.check()
    assert [(name, list(lines)) for name, lines in backup.tables()] == [("things", [line + "\n" for line in LINES])]
    assert (backup.rows("things"), backup.rows("others")) == (2, 0)
    assert (backup.contents.create_time, backup.contents.revision, backup.contents.indexes) == (MOMENT, "0005", ("index",))
    backup.copy_folder("index", tmp_path / "put")
    assert (tmp_path / "put" / "deep" / "segment").read_bytes() == bytes(range(256)) * 100
    assert not (tmp_path / "put" / "lock").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Nothing but the rows is in a table's file: equal rows are equal files.
    assert gzip.decompress((folder / TABLE).read_bytes()).decode() == "".join(line + "\n" for line in LINES)


def flip(folder: Path) -> None:
    content = bytearray((folder / TABLE).read_bytes())
    content[30] ^= 1
    (folder / TABLE).write_bytes(content)


def outside(folder: Path) -> None:
    said = json.loads((folder / "manifest.json").read_text())
    said["files"]["../secret"] = said["files"][str(TABLE)]
    (folder / "manifest.json").write_text(json.dumps(said))


def newer(folder: Path) -> None:
    said = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(said | {"format": 99}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip, "is damaged: tables/things"),
        (lambda folder: (folder / TABLE).write_bytes((folder / TABLE).read_bytes()[:-1]), "is damaged: tables/things"),
        (lambda folder: (folder / TABLE).unlink(), "not whole: tables/things"),
        (lambda folder: (folder / "manifest.json").unlink(), "holds no backup"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (outside, "outside of the backup"),
        (newer, "of a newer release"),
    ],
)
def test_harm_is_noticed(folder: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(folder)
    with pytest.raises(AtomasError, match=said) as refused:
        Backup(folder).check()
    assert refused.value.reason is Reason.INVALID_ARGUMENT


def test_nothing_is_written_over_and_nothing_half_written_stays(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AtomasError, match="exists"):
        BackupWriter(folder)
    writer = BackupWriter(tmp_path / "half")
    writer.add_table("things", LINES)
    writer.discard()
    assert {path.name for path in tmp_path.iterdir()} == {"source", "copy"}
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomasError, match="cannot be made"):
        BackupWriter(tmp_path / "file" / "copy")
