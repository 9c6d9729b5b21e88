"""One reader for each file format: bytes in, rows out, never a whole file in memory."""

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

from atomas.errors import ReaderError
from atomas.rows import Roles, assign_roles, holds_smiles, row_from_fields
from atomas.types import Row

# No compound has a line or a record this long: what does is another kind of file.
MAX_RECORD_BYTES = 16 * 1024 * 1024
# A CSV row that goes on over lines for longer than this has a quote that is never closed. The csv module's own limit is the whole
# process's and may have been raised.
_MAX_CSV_ROW_CHARACTERS = 131_072
# How much of a line that could not be read goes into the list of rejections, to find and mend it.
_QUOTED_CHARACTERS = 1_000
_DELIMITERS = "\t,;|"
_SDF_FIELD = re.compile(r">.*?<([^>]*)>")


class Lines(Protocol):
    """What the readers need of an open file."""

    def readline(self, size: int = -1, /) -> bytes: ...


def read_smiles(stream: Lines) -> Iterator[Row]:
    """`SMILES name` lines; blank lines, `#` comments and a header are passed over, CXSMILES extensions become metadata.

    Under a header of tab-separated columns, such as `smiles id name`, each cell has its column's meaning.
    """
    may_be_header = True
    columns: list[str] = []
    for number, line in lines(stream):
        text = _decode(line)
        if text is None:
            yield _unreadable(number, "The line is not UTF-8 text.", line)
            continue
        structure, rest = [*text.split(maxsplit=1), "", ""][:2]
        if not structure or structure.startswith("#"):
            continue
        is_header, may_be_header = may_be_header and holds_smiles(structure), False
        if is_header:
            columns = _header(text.rstrip("\r\n").split("\t")) if "\t" in text else []
            continue
        if columns and len(cells := text.rstrip("\r\n").split("\t")) == len(columns):
            yield row_from_fields(dict(zip(columns, cells, strict=True)), number, typed=False)
            continue
        extension = ""
        if rest.startswith("|") and "|" in rest[1:]:
            extension, _, rest = rest[1:].partition("|")
        yield Row(smiles=structure, name=" ".join(rest.split()), metadata={"cxsmiles": extension} if extension else {}, position=number)


def read_jsonl(stream: Lines) -> Iterator[Row]:
    """One JSON object a line."""
    for number, line in lines(stream):
        if not line.strip():
            continue
        try:
            # NaN and infinities are not JSON, though Python reads them.
            value = json.loads(line, parse_constant=lambda name: None)
        except UnicodeDecodeError:
            yield _unreadable(number, "The line is not UTF-8 text.", line)
        except (ValueError, RecursionError) as error:
            yield _unreadable(number, f"The line is not JSON: {str(error).partition(':')[0]}.", line)
        else:
            if isinstance(value, dict):
                yield row_from_fields(value, number)
            else:
                yield _unreadable(number, "The line is JSON, but not an object in braces.", line)


def read_csv(stream: Lines, name: str, delimiter: str | None = None) -> Iterator[Row]:
    """A header line, then rows; `delimiter=None` finds it out. Raises ReaderError when no column holds structures."""
    numbered = lines(stream)
    try:
        _, head = next(item for item in numbered if item[1].strip())
    except StopIteration:
        return
    header_line = head.decode("utf-8-sig", "surrogateescape")
    delimiter = delimiter or sniff_delimiter(header_line)
    try:
        header = _header(next(csv.reader([header_line], delimiter=delimiter)))
    except csv.Error as error:
        raise ReaderError(f"{name}: the first line is no line of column names ({error}).") from None
    roles = assign_roles(tuple(header))
    if not roles.structures:
        raise ReaderError(_no_structures(name, header))
    counted = _Counter(numbered)
    # Tab-separated tables hold stray quotes, as in 5"-phosphate, that must not swallow the lines after them.
    quoted_lines = delimiter != "\t"
    rows = csv.reader(counted, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted_lines else csv.QUOTE_NONE)
    while True:
        start = counted.last + 1
        counted.begin_row()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            lost = f"lines {start} to {counted.last}" if counted.last > start else f"line {start}"
            yield Row(unreadable=f"No row can be made out in {lost}: {error}.", position=start)
            continue
        if not cells:
            continue
        if not quoted_lines:
            cells = [_unquoted(cell) for cell in cells]
        if len(cells) > len(header) and not any(cells[len(header) :]):
            cells = cells[: len(header)]
        if len(cells) != len(header):
            yield _unreadable(start, f"The row has {len(cells)} cells, the header has {len(header)}.", delimiter.join(cells))
        elif any(_undecodable(cell) for cell in cells):
            yield _unreadable(start, "The row is not UTF-8 text.", delimiter.join(cells))
        else:
            yield row_from_fields(dict(zip(header, cells, strict=True)), start, roles, typed=False)


def read_sdf(stream: Lines) -> Iterator[Row]:
    """Records up to `$$$$`; positions count records."""
    record: list[bytes] = []
    size = position = 0
    for _, line in lines(stream):
        if line.rstrip() != b"$$$$":
            record.append(line)
            size += len(line)
            if size > MAX_RECORD_BYTES:
                raise ReaderError(f"Record {position + 1} is longer than {MAX_RECORD_BYTES >> 20} MiB: is this an SDF file?")
            continue
        position += 1
        yield _sdf_row(record, position)
        record, size = [], 0
    if any(line.strip() for line in record):
        yield _sdf_row(record, position + 1)


def read_parquet(stream: Any, name: str, batch_rows: int = 1_000) -> Iterator[Row]:
    """Rows by number, columns named as in CSV. Raises ReaderError without pyarrow, or when no column holds structures."""
    try:
        import pyarrow  # An extra: everything else works without it.
        from pyarrow import parquet
    except ImportError:
        raise ReaderError(f"{name} is Parquet, which needs pyarrow: `pip install 'atomas[parquet]'`.") from None
    try:
        table = parquet.ParquetFile(stream)
        columns = [str(column) for column in table.schema_arrow.names]
        roles = assign_roles(tuple(columns))
        if not roles.structures:
            raise ReaderError(_no_structures(name, columns))
        position = 0
        for batch in table.iter_batches(batch_size=batch_rows):
            for values in batch.to_pylist():
                position += 1
                yield _parquet_row(values, position, roles)
    except (pyarrow.ArrowException, OSError) as error:
        raise ReaderError(f"{name} cannot be read as Parquet: {str(error).partition(chr(10))[0][:200]}.") from None


def _parquet_row(values: dict[str, Any], position: int, roles: Roles) -> Row:
    try:
        return row_from_fields(values, position, roles)
    except ValueError:
        return Row(unreadable="The row holds bytes that are not UTF-8 text.", position=position)


def _no_structures(name: str, columns: list[str]) -> str:
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    return f"{name} has no column of structures: call it smiles, inchi or molblock (its columns are: {shown[:300]})."


def sniff_delimiter(header: str) -> str:
    """The candidate that parts the header line into most cells; a comma when none does."""
    return max(_DELIMITERS, key=lambda candidate: (header.count(candidate), candidate == ","))


def lines(stream: Lines) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their ends; raises ReaderError for one of more than 16 MiB."""
    number = 0
    while line := stream.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(line) > MAX_RECORD_BYTES:
            raise ReaderError(
                f"Line {number} is longer than {MAX_RECORD_BYTES >> 20} MiB: is this a file of compounds in the format you named?"
            )
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


class _Counter:
    """Hands decoded lines to the csv module, remembers the number of the last, and ends a row that swallows line after line."""

    def __init__(self, numbered: Iterator[tuple[int, bytes]]) -> None:
        self._numbered = numbered
        self._row_characters = 0
        self.last = 1

    def begin_row(self) -> None:
        """The next line belongs to another row."""
        self._row_characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.last, line = next(self._numbered)
        text = line.decode("utf-8", "surrogateescape")
        if self._row_characters and self._row_characters + len(text) > _MAX_CSV_ROW_CHARACTERS:
            raise csv.Error("a quote is never closed")
        self._row_characters += len(text)
        return text


def _sdf_row(record: list[bytes], position: int) -> Row:
    text = _decode(b"".join(record))
    if text is None:
        return _unreadable(position, "The record is not UTF-8 text.", b"".join(record))
    rows = [line.rstrip("\r") for line in text.split("\n")]
    ends = [index for index, line in enumerate(rows) if line.startswith("M  END")]
    if not ends:
        return _unreadable(position, "The record has no `M  END` line, so its structure is incomplete.", text)
    if len(ends) > 1 and not any(line.startswith("$RGP") for line in rows):
        return _unreadable(position, f"The record holds {len(ends)} structures: a $$$$ line is missing between them.", text)
    fields = _sdf_fields(rows[ends[0] + 1 :])
    molblock = "\n".join(rows[: ends[0] + 1]) + "\n"
    title = rows[0].strip()
    row = row_from_fields(fields, position, typed=False, molblock=molblock)
    return row if row.name or not title else dataclasses.replace(row, name=title)


def _sdf_fields(rows: list[str]) -> dict[str, str]:
    """Data fields after the structure: a `> <NAME>` line, value lines, a blank line (which sloppy writers leave out)."""
    fields: dict[str, list[str]] = {}
    value: list[str] | None = None
    for line in rows:
        if match := _SDF_FIELD.match(line):
            value = fields.setdefault(match[1].strip(), [])
        elif not line.strip():
            value = None
        elif value is not None:
            value.append(line.strip())
    return {name: "\n".join(value) for name, value in fields.items()}


def _header(cells: list[str]) -> list[str]:
    """Column names, each used once."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip() or f"column_{number}"
        names.append(name if name not in names else f"{name}_{number}")
    return names


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _decode(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _undecodable(cell: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in cell)


def _unreadable(position: int, complaint: str, source: bytes | str) -> Row:
    raw = source if isinstance(source, bytes) else source.encode("utf-8", "surrogateescape")
    quoted = raw[: 4 * _QUOTED_CHARACTERS].decode("utf-8", "replace").rstrip()[:_QUOTED_CHARACTERS]
    return Row(unreadable=complaint, metadata={"source_text": quoted} if quoted else {}, position=position)
