"""All rows of a database as lines of JSON, and back: one snapshot out, one transaction in, the same lines for SQLite and PostgreSQL."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Boolean, Connection, Dialect, LargeBinary, MetaData, Table, func, inspect, select, text

from server.adapters.sql.engines import open_engines, parse_url
from server.adapters.sql.failures import translated
from server.adapters.sql.migrate import connected, downgrade, migrate, require_current_schema, require_known, stored_revision
from server.adapters.sql.tables import UtcTime, job_starts, metadata
from server.domain.errors import AtomasError, Reason

# Signs of life of jobs that nobody does where the rows are put.
TRANSIENT = frozenset({job_starts.name})
INDEX_ENTRIES = "index_entries"
# What a service is empty without. Models are registered by its first start already.
CONTENT = ("libraries", "compounds", "operations", "api_keys", "generations")
_ROWS = 1_000


@dataclass(frozen=True)
class Snapshot:
    """A database at one moment."""

    # Of the schema.
    revision: str
    # Tables in an order in which they can be put back, each as its lines: the columns with their kinds first, then rows.
    tables: Iterator[tuple[str, Iterator[str]]]


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """What a database holds at this moment, whoever writes meanwhile; read once, table by table. Raises SCHEMA_MISMATCH, DATABASE_UNAVAILABLE."""
    name = parse_url(url).render_as_string(hide_password=True)
    engines = open_engines(url, connections=1, wait_seconds=60.0)
    try:
        with translated(name), engines.reading.connect() as fresh:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if fresh.dialect.name == "postgresql" else {}
            connection = fresh.execution_options(**options)
            with connection.begin():
                require_current_schema(connection, name)
                revision = stored_revision(connection) or ""
                yield Snapshot(revision, _tables(connection))
    finally:
        engines.dispose()


def put_back(url: str, revision: str, tables: Callable[[], Iterable[tuple[str, Iterable[str]]]], *, indexed: bool) -> None:
    """Fills an empty database with a snapshot's lines, all or nothing, and brings it to this release's schema.

    `indexed` says that the indexes hold what the lines say they do; otherwise they count as empty. Raises INVALID_ARGUMENT where the
    database is not empty, SCHEMA_MISMATCH for a snapshot of a newer release, DATABASE_UNAVAILABLE.
    """
    name = parse_url(url).render_as_string(hide_password=True)
    require_known(revision, "The backup")
    with translated(name):
        with connected(url) as connection:
            _require_empty(connection, name)
            stored = stored_revision(connection)
        if stored not in (None, revision):
            # Nothing is in it but its schema, and that of the lines is an older one.
            downgrade(url, "base")
        migrate(url, revision)
        with connected(url) as connection, connection.begin():
            _fill(connection, name, tables(), indexed)
        migrate(url)


def require_empty(url: str) -> None:
    """Raises INVALID_ARGUMENT when a database holds anything of a service, DATABASE_UNAVAILABLE."""
    name = parse_url(url).render_as_string(hide_password=True)
    with translated(name), connected(url) as connection:
        _require_empty(connection, name)


def _require_empty(connection: Connection, name: str) -> None:
    present = set(inspect(connection).get_table_names())
    for table in CONTENT:
        if table in present and (count := connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()):
            raise AtomasError(
                Reason.INVALID_ARGUMENT,
                f"{name} is not empty, it holds {count:,} {table.replace('_', ' ')}: a backup is restored into an empty service alone.",
            )


def _tables(connection: Connection) -> Iterator[tuple[str, Iterator[str]]]:
    for table in metadata.sorted_tables:
        if table.name not in TRANSIENT:
            yield table.name, _lines(connection, table)


def _lines(connection: Connection, table: Table) -> Iterator[str]:
    kinds = [_kind(column.type) for column in table.columns]
    yield json.dumps([[column.name, kind] for column, kind in zip(table.columns, kinds, strict=True)])
    streamed = {"stream_results": True, "yield_per": _ROWS}
    for row in connection.execute(select(table).order_by(*table.primary_key), execution_options=streamed):
        yield json.dumps([_plain(value) for value in row])


def _kind(type_: Any) -> str:
    if isinstance(type_, LargeBinary):
        return "bytes"
    if isinstance(type_, UtcTime):
        return "time"
    return "boolean" if isinstance(type_, Boolean) else "plain"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def _fill(connection: Connection, name: str, tables: Iterable[tuple[str, Iterable[str]]], indexed: bool) -> None:
    # The schema as it is in the database: that of the lines, which may be older than this release's.
    present = MetaData()
    present.reflect(connection)
    if connection.dialect.name == "postgresql":
        # Whoever serves meanwhile sees nothing of it, or everything.
        everything = ", ".join(f'"{table}"' for table in present.tables)
        connection.execute(text(f"LOCK TABLE {everything} IN ACCESS EXCLUSIVE MODE"))
    _require_empty(connection, name)
    for table in reversed(present.sorted_tables):
        if table.name != "alembic_version":
            connection.execute(table.delete())
    for table_name, lines in tables:
        if indexed or table_name != INDEX_ENTRIES:
            _insert(connection, present.tables[table_name], iter(lines))
    if connection.dialect.name == "postgresql":
        _continue_numbers(connection, present.tables.values())
    elif connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
        raise AtomasError(Reason.INVALID_ARGUMENT, "The backup has rows that refer to nothing; nothing was restored.")


def _insert(connection: Connection, table: Table, lines: Iterator[str]) -> None:
    columns: Sequence[tuple[str, str]] = json.loads(next(lines))
    readers = [_reader(kind, connection.dialect) for _, kind in columns]
    while batch := list(islice(lines, _ROWS)):
        rows: list[Mapping[str, Any]] = []
        for line in batch:
            values = zip(columns, readers, json.loads(line), strict=True)
            rows.append({column: value if value is None else read(value) for (column, _), read, value in values})
        connection.execute(table.insert(), rows)


def _reader(kind: str, dialect: Dialect) -> Callable[[Any], Any]:
    match kind:
        case "bytes":
            return base64.b64decode
        case "time":
            return _naive_time if dialect.name == "sqlite" else datetime.fromisoformat
        case "boolean":
            return bool
        case _:
            return lambda value: value


def _naive_time(said: str) -> datetime:
    return datetime.fromisoformat(said).astimezone(UTC).replace(tzinfo=None)


def _continue_numbers(connection: Connection, tables: Iterable[Table]) -> None:
    """PostgreSQL gives out the next number of a key from a counter, which rows that bring their own leave where it is."""
    for table in tables:
        for column in table.primary_key:
            counter = connection.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": f'"{table.name}"', "column": column.name}
            ).scalar()
            highest = connection.execute(select(func.max(column))).scalar() if counter else None
            if highest is not None:
                connection.execute(text("SELECT setval(:counter, :highest)"), {"counter": counter, "highest": highest})
