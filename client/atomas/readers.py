"""Opens a file of compounds whatever its format and packing, and streams its rows."""

import contextlib
import gzip
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from enum import StrEnum
from io import BufferedReader, FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from atomas import formats
from atomas.errors import ReaderError
from atomas.rows import assign_roles
from atomas.types import Row

# Enough to see what a file is: PubChem's SDF records take 10 KiB each.
_HEAD_BYTES = 64 * 1024
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_SMILES = re.compile(r"(?:\[[^\[\]\s]+\]|Br|Cl|[BCNOPSFIbcnops*]|[-=#$:/\\.()~]|%\d\d|%\(\d+\)|\d)+")


class Format(StrEnum):
    """File formats; `auto` looks at the name, then at the content."""

    AUTO = "auto"
    SMILES = "smiles"
    SDF = "sdf"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


# `.txt` may be anything, so its content decides.
_SUFFIXES = {
    ".smi": Format.SMILES,
    ".smiles": Format.SMILES,
    ".ism": Format.SMILES,
    ".can": Format.SMILES,
    ".sdf": Format.SDF,
    ".sd": Format.SDF,
    ".mol": Format.SDF,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


def read_rows(path: str | os.PathLike[str], format: Format | str = Format.AUTO) -> Iterator[Row]:
    """Stream a file's rows; raises ReaderError when the file as a whole, or from some point on, cannot be read."""
    with Source(path, format) as source:
        yield from source


class Source:
    """An open file of compounds: an iterable of rows that knows how far it has come. Raises ReaderError."""

    def __init__(self, path: str | os.PathLike[str], format: Format | str = Format.AUTO) -> None:
        self.name = Path(path).name
        try:
            wanted = Format(format)
        except ValueError:
            raise ReaderError(f"{format!r} is no file format: choose one of {', '.join(Format)}.") from None
        try:
            self._file = FileIO(os.fspath(path))
        except FileNotFoundError:
            raise ReaderError(f"There is no file {os.fspath(path)}: check the path.") from None
        except OSError as error:
            raise ReaderError(f"{os.fspath(path)} cannot be opened: {_complaint(error)}.") from None
        try:
            with self._damage_explained():
                self._open(wanted)
        except BaseException:
            self.close()
            raise

    @property
    def bytes_read(self) -> int | None:
        """Bytes of the file, packed as it is, read so far; None where there is no telling."""
        if self.total_bytes is None or self._file.closed:
            return self.total_bytes
        return min(self._file.tell(), self.total_bytes)

    def __iter__(self) -> Iterator[Row]:
        any_rows = False
        with self._damage_explained():
            for row in self._rows():
                any_rows = True
                yield row
            if not self._packed and (self.bytes_read or 0) < (self.total_bytes or 0):
                raise ReaderError(f"{self.name} became shorter while it was read; import it again once it is complete.")
        if not any_rows:
            raise ReaderError(f"{self.name} holds no rows.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _open(self, wanted: Format) -> None:
        status = os.fstat(self._file.fileno())
        # Pipes have no size.
        self.total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        file = BufferedReader(self._file, _HEAD_BYTES)
        name = self.name.lower()
        magic = file.peek(4)[:4]
        if not magic:
            raise ReaderError(f"{self.name} is empty.")
        self._packed = True
        self._stream: BufferedReader[FileIO] | gzip.GzipFile | zipfile.ZipExtFile
        if magic[:2] == _GZIP:
            self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        elif magic == _ZIP:
            name, self._stream = _only_member(file, self.name)
        elif name.endswith((".gz", ".zip")):
            raise ReaderError(f"{self.name} is not packed as its name says: fetch it again, or rename it.")
        else:
            self._stream, self._packed = file, False
        head = self._stream.peek(_HEAD_BYTES)
        self.format = wanted if wanted is not Format.AUTO else format_of_name(name) or detect_format(head, self.name)
        check_head(head, self.format, self.name)
        if self.format is Format.PARQUET:
            if self._packed:
                raise ReaderError(f"{self.name} is packed Parquet: unpack it first, Parquet is compressed by itself.")
            # Its pieces are not read in order.
            self.total_bytes = None

    def _rows(self) -> Iterator[Row]:
        match self.format:
            case Format.SMILES:
                return formats.read_smiles(self._stream)
            case Format.SDF:
                return formats.read_sdf(self._stream)
            case Format.CSV:
                return formats.read_csv(self._stream, self.name)
            case Format.TSV:
                return formats.read_csv(self._stream, self.name, "\t")
            case Format.JSONL:
                return formats.read_jsonl(self._stream)
            case _:
                return formats.read_parquet(self._stream, self.name)

    @contextlib.contextmanager
    def _damage_explained(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile):
            raise ReaderError(f"{self.name} is damaged or cut off, its packed data do not fit together: fetch it again.") from None
        except OSError as error:
            raise ReaderError(f"{self.name} could not be read to its end: {_complaint(error)}.") from None


def format_of_name(name: str) -> Format | None:
    """The format that a file's name tells, packed or not."""
    return _SUFFIXES.get(Path(name.lower().removesuffix(".gz").removesuffix(".zip")).suffix)


def detect_format(head: bytes, name: str) -> Format:
    """The format that a file's beginning shows; raises ReaderError when it shows none."""
    if head.startswith(_PARQUET):
        return Format.PARQUET
    text = head.decode("utf-8-sig", "replace")
    if re.search(r"^(M  END|\$\$\$\$)|V[23]000\s*$", text, re.MULTILINE):
        return Format.SDF
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    if first.lstrip().startswith(("{", "[{")) or first.strip() == "[":
        return Format.JSONL
    delimiter = formats.sniff_delimiter(first)
    if delimiter in first and assign_roles(tuple(cell.strip(' "') for cell in first.split(delimiter))).structures:
        return Format.TSV if delimiter == "\t" else Format.CSV
    # The last line may be cut in the middle.
    candidates = [line.split()[0] for line in lines[:50][: -1 if len(lines) > 1 else None]]
    if sum(_SMILES.fullmatch(candidate) is not None for candidate in candidates) * 2 > len(candidates):
        return Format.SMILES
    raise ReaderError(f"What {name} holds cannot be told from its name or beginning: name the format ({', '.join(list(Format)[1:])}).")


def check_head(head: bytes, format: Format, name: str) -> None:
    """Raises ReaderError when a file cannot be what it is taken for."""
    if head.startswith(_PARQUET) != (format is Format.PARQUET):
        raise ReaderError(f"{name} is {'not ' if format is Format.PARQUET else ''}a Parquet file: name its right format.")
    if format is Format.PARQUET:
        return
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ReaderError(f"{name} is UTF-16 text: save it as UTF-8.")
    if b"\0" in head:
        raise ReaderError(f"{name} is a binary file, not {format.upper()} text: compounds come as {', '.join(list(Format)[1:])}.")
    if b"\r" in head and b"\n" not in head:
        raise ReaderError(f"{name} ends its lines in the manner of old Macs: convert them to line feeds.")
    if format is Format.JSONL and head.lstrip().startswith(b"["):
        raise ReaderError(f"{name} is one JSON list: write one object a line, as `jq -c '.[]'` does.")


def _only_member(file: "BufferedReader[FileIO]", name: str) -> tuple[str, zipfile.ZipExtFile]:
    archive = zipfile.ZipFile(cast(IO[bytes], file))
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise ReaderError(f"{name} holds {len(members)} files: pack one file of compounds alone, or unpack it.")
    try:
        opened = archive.open(members[0])
    except (NotImplementedError, RuntimeError) as error:
        # Passwords, and ways of packing that Python does not know.
        raise ReaderError(f"{name} cannot be unpacked ({error}): unpack it first.") from None
    return members[0].filename.lower(), cast(zipfile.ZipExtFile, opened)


def _complaint(error: OSError) -> str:
    return error.strerror or type(error).__name__
