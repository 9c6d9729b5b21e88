"""A backup on disk: a folder of compressed tables and copied files, with a manifest of their sizes and checksums."""

import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from server.adapters.edge_folder import sync_tree
from server.domain.errors import AtomasError, Reason

MANIFEST = "manifest.json"
FORMAT = 1
_TABLES = PurePosixPath("tables")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    """What a file of a backup must be like."""

    bytes: int
    sha256: str
    # Rows of a table; None for other files.
    rows: int | None = None


@dataclass(frozen=True)
class Contents:
    """What a backup says of itself."""

    create_time: datetime
    # Of the database's schema.
    revision: str
    # By path within the folder, tables in the order in which they are put back.
    files: dict[str, StoredFile] = field(default_factory=dict)
    # Folders of the indexes, where they could be copied with the database.
    indexes: tuple[str, ...] = ()


class BackupWriter:
    """A folder that comes into being as a whole: until `finish` it has another name."""

    def __init__(self, target: Path) -> None:
        """Raises INVALID_ARGUMENT for a folder that exists or cannot be made."""
        if target.exists():
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{target} exists: name a folder to be made.")
        self._target = target
        self._partial = target.with_name(target.name + ".partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        try:
            # It holds what is confidential: for its owner alone.
            self._partial.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{target} cannot be made: {error.strerror}.") from None
        self._files: dict[str, StoredFile] = {}

    def add_table(self, name: str, lines: Iterable[str]) -> int:
        """Writes a table's lines, the columns first; returns how many rows it has."""
        path = _TABLES / f"{name}.jsonl.gz"
        rows = -1
        with self._create(path) as plain:
            hashed = _Hashed(plain)
            # Without a time in it, so that the same rows are the same file.
            with gzip.GzipFile("", "wb", 6, cast("IO[bytes]", hashed), mtime=0) as packed, io.TextIOWrapper(packed, "utf-8") as text:
                for line in lines:
                    text.write(line + "\n")
                    rows += 1
        self._files[str(path)] = StoredFile(hashed.bytes, hashed.digest.hexdigest(), rows)
        return rows

    def add_folder(self, source: Path, name: str) -> None:
        """Copies what lies in a folder that nobody writes to, without its lock."""
        for path in sorted(source.rglob("*")):
            if path.is_file() and path.name != "lock":
                inside = PurePosixPath(name) / path.relative_to(source).as_posix()
                with path.open("rb") as read, self._create(inside) as plain:
                    hashed = _Hashed(plain)
                    shutil.copyfileobj(read, cast("IO[bytes]", hashed), _BLOCK)
                self._files[str(inside)] = StoredFile(hashed.bytes, hashed.digest.hexdigest())

    def finish(self, create_time: datetime, revision: str, indexes: tuple[str, ...]) -> None:
        """Returns when the whole backup survives a power cut under its name."""
        said = {"format": FORMAT, **asdict(Contents(create_time, revision, self._files, indexes)), "create_time": create_time.isoformat()}
        (self._partial / MANIFEST).write_text(json.dumps(said, indent=1))
        sync_tree(self._partial)
        self._partial.rename(self._target)

    def discard(self) -> None:
        """Removes what is not finished; does nothing to what is."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _create(self, inside: PurePosixPath) -> IO[bytes]:
        path = self._partial / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


class Backup:
    """A finished backup, to read."""

    def __init__(self, folder: Path) -> None:
        """Raises INVALID_ARGUMENT for a folder that is no backup, or one of a newer release."""
        self.folder = folder
        try:
            said = json.loads((folder / MANIFEST).read_text())
            if said.pop("format") != FORMAT:
                raise AtomasError(Reason.INVALID_ARGUMENT, f"The backup in {folder} is of a newer release: restore it with that one.")
            files = {name: StoredFile(**each) for name, each in said["files"].items()}
            self.contents = Contents(datetime.fromisoformat(said["create_time"]), said["revision"], files, tuple(said["indexes"]))
        except FileNotFoundError:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{folder} holds no backup: there is no {MANIFEST}.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{folder / MANIFEST} cannot be read ({type(error).__name__}).") from None
        if strange := [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{folder / MANIFEST} names a file outside of the backup: {strange[0]}.")

    def check(self) -> None:
        """Reads every file. Raises INVALID_ARGUMENT for the first one that is missing or not what was written."""
        for name, stored in self.contents.files.items():
            hashed = _Hashed(None)
            try:
                with (self.folder / name).open("rb") as file:
                    shutil.copyfileobj(file, cast("IO[bytes]", hashed), _BLOCK)
            except OSError as error:
                raise AtomasError(Reason.INVALID_ARGUMENT, f"The backup is not whole: {name}: {error.strerror}.") from None
            if (hashed.bytes, hashed.digest.hexdigest()) != (stored.bytes, stored.sha256):
                raise AtomasError(Reason.INVALID_ARGUMENT, f"The backup is damaged: {name} is not what was written. Use another copy.")

    def tables(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Each table's lines, in the order in which they were written."""
        for name in self.contents.files:
            path = PurePosixPath(name)
            if path.parent == _TABLES:
                with closing(_lines(self.folder / name)) as lines:
                    yield path.name.removesuffix(".jsonl.gz"), lines

    def rows(self, table: str) -> int:
        """Of a table."""
        stored = self.contents.files.get(str(_TABLES / f"{table}.jsonl.gz"))
        return stored.rows or 0 if stored else 0

    def copy_folder(self, name: str, target: Path) -> None:
        """Puts a copied folder's files where they belong; returns when they survive a power cut."""
        for inside in self.contents.files:
            path = PurePosixPath(inside)
            if path.is_relative_to(name):
                place = target / path.relative_to(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / inside, place)
        if target.exists():
            sync_tree(target)


class _Hashed:
    """Counts and hashes what is written through it."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.sha256()

    def write(self, block: Any) -> int:
        self.digest.update(block)
        self.bytes += len(block)
        if self._file is not None:
            self._file.write(block)
        return len(block)

    def flush(self) -> None:
        """Nothing is held back here."""


def _lines(path: Path) -> Generator[str, None, None]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from lines
