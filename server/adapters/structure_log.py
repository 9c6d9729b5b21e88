"""What the structure index keeps on disk: a log of batches and deletions, written anew when most of it is out of date."""

import json
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import structlog

from server.adapters.packed_bytes import PackedBytes
from server.adapters.structure_table import ELEMENT_WORDS, ID_BYTES, SKELETON_LETTERS, WORDS, Bytes, Columns

log = structlog.get_logger(__name__)

_MAGIC = b"ATOMAS-STRUCTURES\n"
_FORMAT = 2
# Length and checksum before every record.
_FRAME = struct.Struct("<QI")
_BATCH = struct.Struct("<II")


@dataclass(frozen=True)
class Added:
    """Structures that joined a library; rows with these ids that came before are replaced."""

    library: str
    columns: Columns


@dataclass(frozen=True)
class Removed:
    """Structures that left, by id, (N, 16)."""

    ids: Bytes


@dataclass(frozen=True)
class LibraryRemoved:
    """Every structure of a library left."""

    library: str


@dataclass(frozen=True)
class Completed:
    """Everything that the database held when the file was begun is here; later changes come as they happen."""


Entry: TypeAlias = Added | Removed | LibraryRemoved | Completed


class StructureLog:
    """One file; what `append` has returned from survives a power cut. Of one writer at a time."""

    def __init__(self, path: Path, made_by: str) -> None:
        """`made_by` names what computed the content (toolkit and standard): a file of another maker, or a damaged one, is begun anew."""
        self._path = path
        self._made_by = made_by
        self._file: BinaryIO | None = None
        self.generation = ""

    def open(self) -> list[Entry]:
        """Everything that the file holds, in order; an incomplete last record, which nobody was promised, is cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries: list[Entry] = []
        try:
            content = self._path.read_bytes()
            end, self.generation = _read_header(content, self._made_by)
            for entry, record_end in _records(content, end):
                entries.append(entry)
                end = record_end
            self._file = self._path.open("r+b")
            self._file.truncate(end)
            self._file.seek(end)
        except FileNotFoundError:
            self.rewrite([])
        except (ValueError, KeyError) as error:
            log.warning("structure index begun anew; it is filled from the database", cause=str(error))
            entries = []
            self.rewrite([])
        return entries

    def append(self, entry: Entry) -> None:
        """Returns when the entry is on disk."""
        assert self._file is not None, "open the log first"
        _write(self._file, entry)
        _sync(self._file)

    def rewrite(self, entries: Sequence[Entry], keep_generation: bool = False) -> None:
        """Replaces the whole content at once. It counts as another index unless it holds what the former content amounted to."""
        if not keep_generation:
            self.generation = uuid.uuid4().hex[:16]
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            header = json.dumps({"format": _FORMAT, "made_by": self._made_by, "generation": self.generation})
            file.write(_MAGIC + header.encode() + b"\n")
            for entry in entries:
                _write(file, entry)
            _sync(file)
        self.close()
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._file = self._path.open("r+b")
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read_header(content: bytes, made_by: str) -> tuple[int, str]:
    """Where the records begin, and the generation."""
    end = content.find(b"\n", len(_MAGIC))
    if not content.startswith(_MAGIC) or end < 0:
        raise ValueError("the file is no structure index")
    header = json.loads(content[len(_MAGIC) : end])
    if header["format"] != _FORMAT or header["made_by"] != made_by:
        raise ValueError(f"it was made by {header['made_by']}, format {header['format']}")
    return end + 1, str(header["generation"])


def _records(content: bytes, start: int) -> Iterator[tuple[Entry, int]]:
    """Entries and where each ends. Raises ValueError for damage that no interrupted write leaves."""
    while start + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + length
        if end > len(content):
            return
        payload = content[start + _FRAME.size : end]
        if zlib.crc32(payload) != checksum:
            if end == len(content):
                return
            raise ValueError(f"the record at byte {start} is damaged")
        yield _entry(payload), end
        start = end


def _write(file: BinaryIO, entry: Entry) -> None:
    payload = b"".join(_parts(entry))
    file.write(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)


def _parts(entry: Entry) -> list[bytes]:
    match entry:
        case Removed(ids):
            return [b"R", ids.tobytes()]
        case LibraryRemoved(library):
            return [b"L", library.encode()]
        case Completed():
            return [b"C"]
        case Added(library, columns):
            name = library.encode()
            lengths = columns.molecules.lengths.astype("<u4")
            arrays = (columns.ids, columns.skeletons, columns.elements, columns.morgan, columns.pattern, lengths)
            head = b"A" + _BATCH.pack(len(name), len(columns)) + name
            return [head, *(np.ascontiguousarray(array).tobytes() for array in arrays), columns.molecules.block]


def _entry(payload: bytes) -> Entry:
    kind, rest = payload[:1], payload[1:]
    if kind == b"R":
        return Removed(np.frombuffer(rest, np.uint8).reshape(-1, ID_BYTES))
    if kind == b"L":
        return LibraryRemoved(rest.decode())
    if kind == b"C":
        return Completed()
    if kind != b"A":
        raise ValueError(f"there is no record of kind {kind!r}")
    name_bytes, count = _BATCH.unpack_from(rest)
    place = _BATCH.size + name_bytes
    library = rest[_BATCH.size : place].decode()
    widths = (ID_BYTES, SKELETON_LETTERS, ELEMENT_WORDS * 8, WORDS * 8, WORDS * 8)
    columns = []
    for width in widths:
        columns.append(np.frombuffer(rest, np.uint8, count * width, place).reshape(count, width))
        place += count * width
    ids, skeletons, elements, morgan, pattern = columns
    lengths = np.frombuffer(rest, "<u4", count, place)
    molecules = PackedBytes.from_lengths(rest[place + 4 * count :], lengths)
    words = [np.ascontiguousarray(part).view("<u8") for part in (elements, morgan, pattern)]
    return Added(library, Columns(ids, skeletons, words[0], words[1], words[2], molecules))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
