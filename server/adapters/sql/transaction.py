"""The database of the service: the only place that begins, commits and rolls back."""

from collections.abc import Iterator
from contextlib import contextmanager

from server.adapters.sql.api_keys import SqlApiKeys
from server.adapters.sql.compounds import SqlCompounds
from server.adapters.sql.engines import open_engines, parse_url
from server.adapters.sql.failures import translated
from server.adapters.sql.generations import SqlGenerations
from server.adapters.sql.job_starts import SqlJobStarts
from server.adapters.sql.libraries import SqlLibraries
from server.adapters.sql.migrate import require_current_schema
from server.adapters.sql.models import SqlModels
from server.adapters.sql.names import SqlNames
from server.adapters.sql.operations import SqlOperations
from server.adapters.sql.session import Session


class SqlTransaction:
    """The `Transaction` port."""

    def __init__(self, session: Session) -> None:
        self.libraries = SqlLibraries(session)
        self.compounds = SqlCompounds(session)
        self.operations = SqlOperations(session)
        self.names = SqlNames(session)
        self.models = SqlModels(session)
        self.job_starts = SqlJobStarts(session)
        self.generations = SqlGenerations(session)
        self.api_keys = SqlApiKeys(session)


class SqlDatabase:
    """The `Database` port over SQLite or PostgreSQL."""

    def __init__(self, url: str, connections: int = 16, wait_seconds: float = 10.0) -> None:
        """Connects only when first used. Raises INVALID_ARGUMENT for a URL that names no database.

        At most `connections` transactions run at once; one that waits longer than `wait_seconds` for a connection or a lock is
        refused with DATABASE_UNAVAILABLE.
        """
        self._engines = open_engines(url, connections, wait_seconds)
        self._name = parse_url(url).render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        with translated(self._name), self._engines.writing.begin() as connection:
            yield SqlTransaction(Session(connection, writes=True))

    @contextmanager
    def reading(self) -> Iterator[SqlTransaction]:
        with translated(self._name), self._engines.reading.connect() as fresh:
            # PostgreSQL takes one snapshot for the whole transaction; SQLite's connections for reading do so by themselves.
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if fresh.dialect.name == "postgresql" else {}
            connection = fresh.execution_options(**options)
            with connection.begin():
                yield SqlTransaction(Session(connection, writes=False))

    def check(self) -> None:
        with translated(self._name), self._engines.reading.connect() as connection:
            require_current_schema(connection, self._name)

    def close(self) -> None:
        self._engines.dispose()
