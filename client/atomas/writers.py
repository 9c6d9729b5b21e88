"""One writer for each file format: compounds out, such that importing the file gives the same compounds again."""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, TypeAlias

from atomas.codec import as_json
from atomas.errors import WriterError
from atomas.readers import Format, format_of_name
from atomas.rows import COMPUTED_PREFIX, METADATA_FIELD, splits_as_list
from atomas.types import Compound, Descriptors, JsonValue

# What a row says beside the compound: nothing that is computed from the structure comes back as metadata of an import.
Extra: TypeAlias = Mapping[str, JsonValue]

COMPUTED = ("inchikey", "parent_smiles", "parent_inchikey", *Descriptors.__dataclass_fields__)
_COLUMNS = ("id", "name", "smiles", "synonyms", "descriptions", METADATA_FIELD)
_BATCH_ROWS = 1_000
# What a cell must not begin with, or readers take it for something else: JSON, or the next field or record of an SDF file.
_SPECIAL = ("[", "{", '"', ">", "$")
# Formats that hold everything; SMILES files hold structure, id and name.
WRITTEN = (Format.SMILES, Format.SDF, Format.CSV, Format.JSONL, Format.PARQUET)


class CompoundWriter(Protocol):
    """Writes compounds to an open binary file."""

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        """One compound; `extra` is kept beside it for people and ignored by imports."""
        ...

    def finish(self) -> None:
        """Writes what was held back. The file stays open."""
        ...


def compound_writer(stream: IO[bytes], format: Format, extra_fields: Sequence[str] = ()) -> CompoundWriter:
    """The writer of a format; `extra_fields` names what `extra` may hold. Raises WriterError for a format that is not written."""
    writers: dict[Format, Callable[[IO[bytes], Sequence[str]], CompoundWriter]] = {
        Format.SMILES: _SmilesWriter,
        Format.SDF: _SdfWriter,
        Format.CSV: _CsvWriter,
        Format.JSONL: _JsonlWriter,
        Format.PARQUET: _ParquetWriter,
    }
    if format not in writers:
        raise WriterError(f"Compounds are not written as {format}: choose one of {', '.join(WRITTEN)}.")
    return writers[format](stream, extra_fields)


class CompoundFile:
    """A file of compounds that appears under its name once it is complete: a context manager. Raises WriterError."""

    def __init__(self, path: str | os.PathLike[str], format: Format | str = Format.AUTO, extra_fields: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.written = 0
        name = self.path.name.lower()
        packed = name.endswith(".gz")
        try:
            wanted = Format(format)
        except ValueError:
            raise WriterError(f"{format!r} is no file format: choose one of {', '.join(WRITTEN)}.") from None
        found = wanted if wanted is not Format.AUTO else format_of_name(name)
        if found is None:
            raise WriterError(
                f"The name {self.path.name} does not tell a format: end it in .sdf, .smi, .csv, .jsonl or .parquet, with .gz to pack it."
            )
        if packed and found is Format.PARQUET:
            raise WriterError("Parquet is compressed by itself: leave .gz out of the name.")
        self.format = found
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._stack = ExitStack()
        try:
            file: IO[bytes] = self._stack.enter_context(self._part.open("wb"))
        except OSError as error:
            raise WriterError(f"{self.path} cannot be written: {error.strerror}.") from None
        try:
            if packed:
                file = self._stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))  # type: ignore[arg-type]
            self._writer = compound_writer(file, self.format, extra_fields)
        except BaseException:
            self._give_up()
            raise

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        try:
            self._writer.write(compound, extra)
        except OSError as error:
            raise WriterError(f"{self.path} cannot be written: {error.strerror}.") from None
        self.written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._give_up()
            return
        try:
            self._writer.finish()
            self._stack.close()
            self._part.replace(self.path)
        except OSError as failure:
            self._give_up()
            raise WriterError(f"{self.path} cannot be written: {failure.strerror}.") from None

    def _give_up(self) -> None:
        """A file that is not complete must not look as if it were."""
        with suppress(OSError):
            self._stack.close()
        self._part.unlink(missing_ok=True)


def _computed_fields(compound: Compound, extra: Extra | None = None) -> dict[str, JsonValue]:
    """What the service computed, and what a search said, under names that imports pass over."""
    values: dict[str, JsonValue] = {name: getattr(compound, name) for name in COMPUTED[:3]}
    if compound.descriptors is not None:
        values |= {name: getattr(compound.descriptors, name) for name in Descriptors.__dataclass_fields__}
    return {**values, **(extra or {})}


def _further_ids(compound: Compound) -> Iterator[Compound]:
    """A row names one source record; each further one is a row that adds its id and nothing else."""
    for source_id in compound.source_ids[1:]:
        yield Compound(resource_name=compound.resource_name, source_ids=(source_id,), smiles=compound.smiles, molblock=compound.molblock)


def _id(compound: Compound) -> str:
    return compound.source_ids[0] if compound.source_ids else ""


def _texts(texts: Sequence[str], separator: str | None) -> str:
    """Several texts in one cell: as people write them where that is read back as the same, else as a JSON list."""
    joined = separator.join(texts) if separator is not None else "".join(texts[:1])
    plain = joined.isprintable() and joined == joined.strip() and not joined.startswith(_SPECIAL)
    if plain and (splits_as_list(joined) == list(texts) if separator is not None else len(texts) < 2):
        return joined
    return json.dumps(list(texts), ensure_ascii=False) if texts else ""


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cells(compound: Compound, extra: Extra | None, computed: Sequence[str]) -> list[str]:
    """A row of text for tables."""
    values = _computed_fields(compound, extra)
    return [
        _id(compound),
        compound.name,
        compound.smiles,
        _texts(compound.synonyms, " | "),
        _texts(compound.descriptions, None),
        _json(as_json(compound.metadata)) if compound.metadata else "",
        *(_cell(values.get(name)) for name in computed),
    ]


def _cell(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


class _JsonlWriter:
    def __init__(self, stream: IO[bytes], extra_fields: Sequence[str]) -> None:
        self._stream = stream

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        row: dict[str, JsonValue] = {
            "id": _id(compound),
            "name": compound.name,
            "smiles": compound.smiles,
            "synonyms": list(compound.synonyms),
            "descriptions": list(compound.descriptions),
            METADATA_FIELD: as_json(compound.metadata),
            COMPUTED_PREFIX.rstrip("."): _computed_fields(compound, extra),
        }
        self._line(row)
        for other in _further_ids(compound):
            self._line({"id": _id(other), "smiles": other.smiles})

    def _line(self, row: Mapping[str, JsonValue]) -> None:
        self._stream.write(_json({name: value for name, value in row.items() if value not in ("", [], {}, None)}).encode() + b"\n")

    def finish(self) -> None: ...


class _CsvWriter:
    def __init__(self, stream: IO[bytes], extra_fields: Sequence[str]) -> None:
        self._stream = stream
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._computed = (*extra_fields, *COMPUTED)
        self._row([*_COLUMNS, *(COMPUTED_PREFIX + name for name in self._computed)])

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        self._row(_cells(compound, extra, self._computed))
        for other in _further_ids(compound):
            self._row([_id(other), "", other.smiles, *[""] * (len(_COLUMNS) - 3 + len(self._computed))])

    def _row(self, cells: Sequence[str]) -> None:
        self._rows.writerow(cells)
        self._stream.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()

    def finish(self) -> None: ...


class _SmilesWriter:
    """`SMILES <tab> id <tab> name` under a header."""

    def __init__(self, stream: IO[bytes], extra_fields: Sequence[str]) -> None:
        self._stream = stream
        self._line("smiles", "id", "name")

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        self._line(compound.smiles, _id(compound), compound.name)
        for other in _further_ids(compound):
            self._line(other.smiles, _id(other), "")

    def _line(self, *cells: str) -> None:
        self._stream.write("\t".join(" ".join(cell.split()) for cell in cells).encode() + b"\n")

    def finish(self) -> None: ...


class _SdfWriter:
    """Needs compounds with their molblock."""

    def __init__(self, stream: IO[bytes], extra_fields: Sequence[str]) -> None:
        self._stream = stream

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        name = " ".join(compound.name.split())
        self._record(
            compound,
            {
                "id": _id(compound),
                "name": name,
                "synonyms": _texts(compound.synonyms, " | "),
                "descriptions": _texts(compound.descriptions, None),
                METADATA_FIELD: _json(as_json(compound.metadata)) if compound.metadata else "",
                **{
                    COMPUTED_PREFIX + field: _cell(value)
                    for field, value in {"smiles": compound.smiles, **_computed_fields(compound, extra)}.items()
                },
            },
        )
        for other in _further_ids(compound):
            self._record(other, {"id": _id(other)})

    def _record(self, compound: Compound, fields: Mapping[str, str]) -> None:
        if not compound.molblock:
            raise WriterError(
                f"{compound.resource_name} has no molblock: no drawing tells its stereochemistry. Leave it out by a filter, or use another format."
            )
        lines = compound.molblock.rstrip("\n").split("\n")
        # The first line is the record's title, the second names the program, as the format asks.
        lines[0] = fields.get("name", "")[:80]
        for name, value in fields.items():
            if value:
                lines += [f"> <{name}>", value, ""]
        self._stream.write("\n".join([*lines, "$$$$", ""]).encode())

    def finish(self) -> None: ...


class _ParquetWriter:
    def __init__(self, stream: IO[bytes], extra_fields: Sequence[str]) -> None:
        try:
            import pyarrow  # An extra: everything else works without it.
            from pyarrow import parquet
        except ImportError:
            raise WriterError("Parquet needs pyarrow: `pip install 'atomas[parquet]'`.") from None
        texts = pyarrow.list_(pyarrow.string())
        kinds = {"synonyms": texts, "descriptions": texts}
        numbers: dict[Any, Any] = {int: pyarrow.int64(), float: pyarrow.float64()}
        computed = {name: pyarrow.string() for name in COMPUTED[:3]}
        computed |= {name: numbers.get(field.type, pyarrow.string()) for name, field in Descriptors.__dataclass_fields__.items()}
        computed |= {name: pyarrow.float64() for name in extra_fields}
        fields = [(name, kinds.get(name, pyarrow.string())) for name in _COLUMNS]
        self._schema = pyarrow.schema([*fields, *((COMPUTED_PREFIX + name, kind) for name, kind in computed.items())])
        self._pyarrow = pyarrow
        self._writer = parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, compound: Compound, extra: Extra | None = None) -> None:
        self._rows.append(
            {
                "id": _id(compound),
                "name": compound.name,
                "smiles": compound.smiles,
                "synonyms": list(compound.synonyms),
                "descriptions": list(compound.descriptions),
                METADATA_FIELD: _json(as_json(compound.metadata)) if compound.metadata else None,
                **{COMPUTED_PREFIX + name: value for name, value in _computed_fields(compound, extra).items()},
            }
        )
        self._rows += [{"id": _id(other), "smiles": other.smiles} for other in _further_ids(compound)]
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(self._pyarrow.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def finish(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()
