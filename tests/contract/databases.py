"""Databases to run one suite over: the declared fake, SQLite, PostgreSQL; each fresh, with a schema made by migrating."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.ports import Database
from tests.fakes_database import FakeDatabase
from tests.services import PostgresServer, postgres

# Long enough for a busy machine, short enough to wait for in a test.
WAIT_SECONDS = 5.0

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> PostgresServer:
    """The server with a migrated database `template` to copy from: faster than migrating for each test."""
    _execute(postgres_server, "CREATE DATABASE {}", "template")
    migrate(postgres_server.url("template"))
    return postgres_server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a database without any table."""
    name = f"empty_{next(_numbers)}"
    _execute(postgres_server, "CREATE DATABASE {}", name)
    yield postgres_server.url(name)
    _execute(postgres_server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def postgres_url(migrated_postgres: PostgresServer) -> Iterator[str]:
    """URL of a migrated, empty database."""
    name = f"test_{next(_numbers)}"
    _execute(migrated_postgres, "CREATE DATABASE {} TEMPLATE template STRATEGY file_copy", name)
    yield migrated_postgres.url(name)
    _execute(migrated_postgres, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """URL of a migrated, empty database."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'atomas.sqlite3')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_url(request: pytest.FixtureRequest) -> str:
    """URL of a migrated, empty database of each kind."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of each kind without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    url: str = request.getfixturevalue("empty_postgres")
    return url


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database of each kind."""
    if request.param == "fake":
        yield FakeDatabase()
        return
    opened = SqlDatabase(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"), wait_seconds=WAIT_SECONDS)
    yield opened
    opened.close()


def _execute(server: PostgresServer, statement: LiteralString, name: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
