"""A database is copied as it is at one moment, and put into an empty one of either kind without loss, or not at all."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from server.adapters.password_hashes import PasswordHashes
from server.adapters.sql.copying import INDEX_ENTRIES, put_back, snapshot
from server.adapters.sql.engines import migration_engine
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.access import parse_scope
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.ports import Database
from server.usecases.manage_keys import create_key
from server.usecases.manage_libraries import create_library
from server.usecases.track_operations import run_job
from tests.builders import import_rows, row
from tests.unit.conftest import World, world

__all__ = ["world"]

Copy = dict[str, list[str]]


def copied(url: str) -> tuple[str, Copy]:
    with snapshot(url) as taken:
        return taken.revision, {name: list(lines) for name, lines in taken.tables}


@contextmanager
def filled(url: str, world: World) -> Iterator[Database]:
    """A database with a library, compounds, a rejection, an import under way and a key; indexes are fakes."""
    with closing(SqlDatabase(url)) as database:
        ports = replace(world.ports, database=database)
        with database.transaction() as transaction:
            for model in world_models(world):
                transaction.models.put(model)
        create_library(Library("held", 'Größe \u2028 "quoted"', "tab\tand\nline"), ports)
        rows = [row(1, "CCO", "id-1", "ethanol", "an alcohol", purity=0.5, tags=["a", None]), row(2, "no molecule"), row(3, "CCN", "id-2")]
        import_rows(ports, rows, library="held")
        world.queue.run_all(lambda job: run_job(job, ports))
        import_rows(ports, [row(1, "CCCO", "id-3")], library="held")
        create_key("key", [parse_scope("held:read")], None, database, PasswordHashes())
        yield database


def world_models(world: World) -> list[Any]:
    with world.ports.database.reading() as transaction:
        return list(transaction.models.all())


def values(copy: Copy, table: str, column: str) -> list[Any]:
    header = [name for name, _ in json.loads(copy[table][0])]
    return [json.loads(line)[header.index(column)] for line in copy[table][1:]]


@pytest.mark.parametrize("indexed", [True, False])
def test_what_was_copied_from_one_kind_is_the_same_in_the_other(sql_url: str, empty_url: str, world: World, indexed: bool) -> None:
    with filled(sql_url, world):
        revision, before = copied(sql_url)
    assert len(before["compounds"]) == 1 + 2
    assert len(before["rejections"]) == 1 + 1
    assert values(before, "import_chunks", "pending").count(True) == 1
    put_back(empty_url, revision, lambda: before.items(), indexed=indexed)
    _, after = copied(empty_url)
    if not indexed:
        assert len(before[INDEX_ENTRIES]) > 1
        assert len(after.pop(INDEX_ENTRIES)) == 1
        del before[INDEX_ENTRIES]
    assert after == before
    # Numbers go on where those that came with the rows end.
    with closing(SqlDatabase(empty_url)) as database:
        ports = replace(world.ports, database=database)
        create_library(Library("later"), ports)
        create_key("later", [parse_scope("later:read")], None, database, PasswordHashes())
        import_rows(ports, [row(1, "CCCCO", "id-9")], library="later")
        world.queue.run_all(lambda job: run_job(job, ports))
    _, later = copied(empty_url)
    keys = values(later, "compounds", "key")
    assert len(keys) == len(set(keys)) == 4, "what was under way is done, what came later has numbers of its own"


def test_a_copy_is_of_one_moment_whoever_writes_meanwhile(sql_url: str, world: World) -> None:
    with filled(sql_url, world) as database:
        ports = replace(world.ports, database=database)
        _, before = copied(sql_url)
        with snapshot(sql_url) as taken:
            found: Copy = {}
            for number, (name, lines) in enumerate(taken.tables):
                create_library(Library(f"meanwhile-{number}"), ports)
                import_rows(ports, [row(1, f"{'C' * (number + 5)}O", f"id-{number}")], library=f"meanwhile-{number}")
                found[name] = list(lines)
        assert found == before


def test_a_database_that_holds_something_is_left_alone(sql_url: str, world: World, tmp_path: Path) -> None:
    with filled(sql_url, world):
        revision, before = copied(sql_url)
        with pytest.raises(AtomasError, match="is not empty, it holds 1 libraries") as refused:
            put_back(sql_url, revision, lambda: before.items(), indexed=True)
        assert refused.value.reason is Reason.INVALID_ARGUMENT
        assert copied(sql_url)[1] == before


def test_a_copy_that_breaks_off_leaves_nothing(sql_url: str, empty_url: str, world: World) -> None:
    with filled(sql_url, world):
        revision, before = copied(sql_url)

    def broken() -> Iterator[tuple[str, list[str]]]:
        yield from list(before.items())[:5]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        put_back(empty_url, revision, broken, indexed=True)
    put_back(empty_url, revision, lambda: before.items(), indexed=True)
    assert copied(empty_url)[1] == before


def of_an_older_release(copy: Copy, revision: str, folder: Path) -> Copy:
    """The copy without what the older schema has no place for."""
    url = f"sqlite:///{folder / 'older.sqlite3'}"
    migrate(url, revision)
    engine = migration_engine(url)
    tables = inspect(engine)
    older = {}
    for name in set(copy) & set(tables.get_table_names()):
        header = json.loads(copy[name][0])
        known = {column["name"] for column in tables.get_columns(name)}
        kept = [place for place, (column, _) in enumerate(header) if column in known]
        older[name] = [json.dumps([json.loads(line)[place] for place in kept]) for line in copy[name]]
    engine.dispose()
    return {name: older[name] for name in copy if name in older}


def test_a_copy_of_an_older_release_is_put_back_and_brought_up_to_date(sql_url: str, empty_url: str, world: World, tmp_path: Path) -> None:
    with filled(sql_url, world):
        _, before = copied(sql_url)
    older = of_an_older_release(before, "0004", tmp_path)
    assert "generations" in before.keys() - older.keys()
    # An empty service of this release is there already.
    migrate(empty_url)
    put_back(empty_url, "0004", lambda: older.items(), indexed=True)
    _, after = copied(empty_url)
    present = of_an_older_release(after, "0004", tmp_path)
    # A later release may want its indexes filled anew.
    assert {**present, INDEX_ENTRIES: []} == {**older, INDEX_ENTRIES: []}
    assert len(after["generations"]) == 1
    with pytest.raises(AtomasError) as refused:
        put_back(empty_url, "9999", lambda: before.items(), indexed=True)
    assert refused.value.reason is Reason.SCHEMA_MISMATCH
