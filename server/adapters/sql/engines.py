"""Connections to SQLite and PostgreSQL, set up so that an acknowledged row survives and nobody waits without end."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool

from server.domain.errors import AtomasError, Reason

CONNECT_TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class Engines:
    """Where a database's transactions take their connections from."""

    writing: Engine
    reading: Engine

    def dispose(self) -> None:
        self.writing.dispose()
        if self.reading is not self.writing:
            self.reading.dispose()


def parse_url(url: str) -> URL:
    """A `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME` URL. Raises INVALID_ARGUMENT for anything else."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text itself is not repeated: it may hold a password.
        raise AtomasError(
            Reason.INVALID_ARGUMENT, "The database URL cannot be read: write sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    raise AtomasError(
        Reason.INVALID_ARGUMENT, f"{parsed.render_as_string()} is no database to keep compounds in: use a SQLite file or PostgreSQL."
    )


def open_engines(url: str, connections: int, wait_seconds: float) -> Engines:
    """Engines for a URL; no connection is made yet.

    At most `connections` are used at once. `wait_seconds` bounds the wait for a connection and for a lock; on PostgreSQL
    four times as much bounds a statement.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed,
            # Statements are logged without their values, which are confidential.
            hide_parameters=True,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=wait_seconds,
            # A round trip per transaction, for which a restart of PostgreSQL goes unnoticed.
            pool_pre_ping=True,
            connect_args=_postgresql_arguments(wait_seconds),
        )
        return Engines(engine, engine)
    # SQLite has one writer at a time: waiting for the only writing connection is fair and free, waiting for the file's lock is a busy loop.
    return Engines(
        _sqlite_engine(parsed, 1, wait_seconds, read_only=False), _sqlite_engine(parsed, connections, wait_seconds, read_only=True)
    )


def migration_engine(url: str) -> Engine:
    """An engine for one schema change: a single connection, statements of any length, foreign keys checked by the migration itself."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS})
    engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": 60})
    # Rebuilding a table, the only way to alter one in SQLite, must not cascade to the rows that refer to it.
    _prepare_sqlite(engine, "BEGIN IMMEDIATE", {"journal_mode": "WAL", "synchronous": "FULL", "foreign_keys": "OFF"})
    return engine


def _postgresql_arguments(wait_seconds: float) -> dict[str, Any]:
    milliseconds = max(1, int(wait_seconds * 1000))
    settings = {
        "lock_timeout": milliseconds,
        "statement_timeout": 4 * milliseconds,
        # A server that stopped in mid-transaction must not keep its locks.
        "idle_in_transaction_session_timeout": 4 * milliseconds,
        "timezone": "UTC",
    }
    return {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "atomas",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }


def _sqlite_engine(url: URL, connections: int, wait_seconds: float, *, read_only: bool) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        # The pool hands a connection to one thread at a time.
        connect_args={"timeout": wait_seconds, "check_same_thread": False},
    )
    pragmas = {
        "journal_mode": "WAL",
        # Each commit waits for the disk (a few milliseconds on most) and is worth it: with NORMAL a power cut could take back acknowledged rows.
        "synchronous": "FULL",
        "foreign_keys": "ON",
        # Rows come in random order of their keys, so most commits touch most pages of the indexes: gathered in a log of
        # 64 MiB (of 4 KiB pages) a page is written back once for many commits. The log shrinks again after a larger transaction.
        "wal_autocheckpoint": str(16 * 2**10),
        "journal_size_limit": str(64 * 2**20),
        # KiB, as negative numbers are.
        "cache_size": str(-64 * 2**10),
        "temp_store": "MEMORY",
    }
    if read_only:
        # The writing connection has set the journal mode, which stays with the file.
        del pragmas["journal_mode"]
        pragmas["query_only"] = "ON"
    # IMMEDIATE takes the write lock before the first read, so that no transaction fails half-way for having read too early.
    _prepare_sqlite(engine, "BEGIN" if read_only else "BEGIN IMMEDIATE", pragmas)
    return engine


def _prepare_sqlite(engine: Engine, begin: str, pragmas: dict[str, str]) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        # The driver would begin transactions by rules of its own, and never before a read or a schema change.
        connection.isolation_level = None
        cursor = connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
