"""What SQL databases do when something breaks: a killed process, a server that is away, locks held by others, wrong URLs."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from tests.contract.values import add_library, compound, inchikey, open_import
from tests.services import PostgresServer, free_port

_WRITE_UNTIL_KILLED = """
import sys
from server.adapters.sql.transaction import SqlDatabase
from tests.contract.values import compound

database = SqlDatabase(sys.argv[1])
for chunk in range(int(sys.argv[2]), 10**6):
    with database.transaction() as transaction:
        transaction.compounds.save([compound(chunk * 20 + i) for i in range(20)])
    print(chunk, flush=True)
"""


def unavailable(work: Callable[[], object]) -> AtomasError:
    with pytest.raises(AtomasError) as raised:
        work()
    assert raised.value.reason is Reason.DATABASE_UNAVAILABLE
    return raised.value


def read(database: SqlDatabase) -> list[Library]:
    with database.reading() as transaction:
        return transaction.libraries.page("", 10)


def test_a_killed_process_loses_nothing_that_was_committed(sqlite_url: str) -> None:
    database = SqlDatabase(sqlite_url)
    add_library(database)
    for _ in range(3):
        with database.reading() as transaction:
            before = transaction.libraries.get("lib").compound_count
        command = [sys.executable, "-c", _WRITE_UNTIL_KILLED, sqlite_url, str(before // 20)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(15)][-1]
        os.kill(process.pid, signal.SIGKILL)
        # What it wrote between the last line read here and its end is committed too.
        rest = process.stdout.read().split()
        process.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with database.reading() as transaction:
            counted = transaction.libraries.get("lib").compound_count
            found = transaction.compounds.page("lib", "", 10**6)
        # Whole chunks, all the acknowledged ones, and the count agrees.
        assert counted >= (acknowledged + 1) * 20
        assert counted % 20 == 0
        assert [one.inchikey for one in found] == [inchikey(number) for number in range(counted)]
    database.close()
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_each_commit_on_sqlite_waits_for_the_disk(sqlite_url: str) -> None:
    database = SqlDatabase(sqlite_url)
    with database.transaction() as transaction:
        connection = transaction.compounds._session.connection
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


@pytest.mark.parametrize("path", ["missing/folder/atomas.sqlite3", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, path: str) -> None:
    url = f"sqlite:///{tmp_path / path}"
    database = SqlDatabase(url)
    for work in (lambda: read(database), lambda: add_library(database), database.check, lambda: migrate(url)):
        error = unavailable(work)
        assert str(tmp_path / path) in error.message
        assert "folder" in error.message


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    file = tmp_path / "atomas.sqlite3"
    file.write_bytes(b"something else entirely" * 1000)
    assert "no intact SQLite database" in unavailable(SqlDatabase(f"sqlite:///{file}").check).message


def test_a_full_disk_is_said_so_and_nothing_is_lost(sqlite_url: str) -> None:
    database = SqlDatabase(sqlite_url)
    add_library(database, compounds=5)

    def fill() -> None:
        with database.transaction() as transaction:
            connection = transaction.compounds._session.connection
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}")
            transaction.compounds.save([compound(number) for number in range(5, 5000)])

    with pytest.raises(AtomasError) as raised:
        fill()
    assert raised.value.reason is Reason.DISK_FULL
    assert "free some space" in raised.value.message
    assert read(database)[0].compound_count == 5
    database.close()


def test_a_writer_that_waits_too_long_for_another_is_refused(sql_url: str) -> None:
    slow, impatient = SqlDatabase(sql_url), SqlDatabase(sql_url, wait_seconds=0.2)
    add_library(slow, compounds=1)
    with slow.transaction() as holder:
        holder.compounds.get_many("lib", [inchikey(0)], for_update=True)

        def write() -> None:
            with impatient.transaction() as transaction:
                transaction.compounds.get_many("lib", [inchikey(0)], for_update=True)

        unavailable(write)
        assert len(read(impatient)) == 1
    write()
    slow.close()
    impatient.close()


def test_more_transactions_than_connections_wait_and_then_are_refused(sql_url: str) -> None:
    database = SqlDatabase(sql_url, connections=1, wait_seconds=0.2)
    with database.reading():
        assert "too busy" in unavailable(lambda: read(database)).message
    assert read(database) == []
    database.close()


def test_writers_of_one_process_take_turns(sqlite_url: str) -> None:
    database = SqlDatabase(sqlite_url)
    add_library(database)
    inside = threading.Semaphore(1)
    overlaps: list[int] = []

    def write(first: int) -> None:
        for number in range(first, first + 20):
            with database.transaction() as transaction:
                if not inside.acquire(blocking=False):
                    overlaps.append(number)
                    continue
                transaction.compounds.save([compound(number)])
                inside.release()

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert read(database)[0].compound_count == 80
    database.close()


def test_a_server_that_nobody_runs_is_said_to_be_unreachable() -> None:
    url = f"postgresql://atomas:secret-word@127.0.0.1:{free_port()}/atomas"
    database = SqlDatabase(url)
    for work in (lambda: read(database), lambda: add_library(database), database.check, lambda: migrate(url)):
        error = unavailable(work)
        assert "cannot be reached" in error.message
        assert "127.0.0.1" in error.message
        assert "secret-word" not in error.message


@pytest.mark.parametrize(("old", "new"), [("atomas:", "stranger:"), ("/postgres", "/no-such-database")])
def test_a_server_that_turns_us_away_is_said_to_be_unreachable(postgres_server: PostgresServer, old: str, new: str) -> None:
    database = SqlDatabase(postgres_server.url().replace(old, new))
    error = unavailable(database.check)
    assert "cannot be reached" in error.message
    assert postgres_server.password not in error.message


def test_a_connection_cut_off_in_mid_transaction_loses_it_and_the_next_one_works(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database)

    def cut_off() -> None:
        with database.transaction() as transaction:
            transaction.compounds.save([compound(0)])
            me = transaction.compounds._session.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with psycopg.connect(postgres_server.url(), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [me])
            transaction.compounds.save([compound(1)])

    unavailable(cut_off)
    assert read(database)[0].compound_count == 0
    add_library(database, "next")
    database.close()


def test_idle_connections_that_died_go_unnoticed(postgres_server: PostgresServer, postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database)
    with psycopg.connect(postgres_server.url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'atomas'")
    assert len(read(database)) == 1
    database.close()


def test_a_deadlock_is_a_conflict_that_can_be_tried_again(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database, compounds=2)
    meeting = threading.Barrier(2)
    refusals: list[AtomasError] = []

    def lock(first: int, second: int) -> None:
        try:
            with database.transaction() as transaction:
                transaction.compounds.get_many("lib", [inchikey(first)], for_update=True)
                meeting.wait()
                transaction.compounds.get_many("lib", [inchikey(second)], for_update=True)
        except AtomasError as error:
            refusals.append(error)

    threads = [threading.Thread(target=lock, args=pair) for pair in ((0, 1), (1, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(error.reason, error.details["cause"]) for error in refusals] == [(Reason.DATABASE_UNAVAILABLE, "conflict")]
    database.close()


def test_two_new_compounds_from_two_transactions_are_a_conflict_not_a_loss(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database)
    refusals: list[AtomasError] = []

    def late() -> None:
        try:
            with database.transaction() as transaction:
                transaction.compounds.save([compound(0), compound(1)])
        except AtomasError as error:
            refusals.append(error)

    with database.transaction() as early:
        early.compounds.save([compound(1)])
        thread = threading.Thread(target=late)
        thread.start()
        # Until the other one waits for this one's row, or has failed without waiting.
        while thread.is_alive() and not waiting_for_locks(database):
            pass
    thread.join()
    assert [error.details["cause"] for error in refusals] == ["conflict"]
    assert read(database)[0].compound_count == 1
    database.close()


def test_a_library_is_not_deleted_under_a_transaction_that_writes_into_it(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database)
    order: list[str] = []

    def delete() -> None:
        with database.transaction() as transaction:
            transaction.libraries.mark_deleted("lib")
        order.append("deleted")

    with database.transaction() as writer:
        writer.compounds.get_many("lib", [inchikey(0)], for_update=True)
        thread = threading.Thread(target=delete)
        thread.start()
        while thread.is_alive() and not waiting_for_locks(database):
            pass
        writer.compounds.save([compound(0)])
        order.append("saved")
    thread.join()
    assert order == ["saved", "deleted"]
    assert read(database) == []
    database.close()


def test_deleting_a_library_does_not_block_an_import_crosswise(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database)
    open_import(database)
    refusals: list[AtomasError] = []

    def delete() -> None:
        try:
            with database.transaction() as transaction:
                transaction.libraries.mark_deleted("lib")
        except AtomasError as error:
            refusals.append(error)

    with database.transaction() as writer:
        writer.operations.lock("op")
        thread = threading.Thread(target=delete)
        thread.start()
        while thread.is_alive() and not waiting_for_locks(database):
            pass
        writer.compounds.save([compound(0)])
    thread.join()
    assert refusals == []
    assert read(database) == []
    database.close()


def test_a_compound_removed_while_it_is_marked_as_indexed_spoils_nothing(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url)
    add_library(database, compounds=2)
    refusals: list[AtomasError] = []

    def mark() -> None:
        try:
            with database.transaction() as transaction:
                transaction.compounds.mark_indexed("lib", {inchikey(0): 1, inchikey(1): 1}, "model")
        except AtomasError as error:
            refusals.append(error)

    with database.transaction() as remover:
        remover.compounds.mark_deleted("lib", inchikey(0))
        remover.compounds.remove_deleted("lib", [inchikey(0)])
        thread = threading.Thread(target=mark)
        thread.start()
        while thread.is_alive() and not waiting_for_locks(database):
            pass
    thread.join()
    assert refusals == []
    with database.reading() as transaction:
        assert transaction.compounds.unindexed("model", 10) == []
    database.close()


def waiting_for_locks(database: SqlDatabase) -> bool:
    with database.reading() as transaction:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool(transaction.compounds._session.connection.exec_driver_sql(query).scalar_one())


def test_an_import_can_go_on_while_the_operation_is_locked(postgres_url: str) -> None:
    database = SqlDatabase(postgres_url, wait_seconds=1.0)
    add_library(database)
    open_import(database, chunks=1)
    with database.transaction() as holder:
        holder.operations.lock("op")
        with database.transaction() as transaction:
            assert transaction.operations.chunk("op", 0, for_update=True).number == 0
            transaction.compounds.save([compound(0)])
    assert read(database)[0].compound_count == 1
    database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:p@h/d", "sqlite://", "sqlite:///:memory:", "postgresql://u:secret@h:port/d"])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(AtomasError) as raised:
        SqlDatabase(url)
    assert raised.value.reason is Reason.INVALID_ARGUMENT
    assert "secret" not in raised.value.message


def test_errors_do_not_repeat_structures(sql_url: str) -> None:
    database = SqlDatabase(sql_url)
    add_library(database, compounds=1)

    def collide() -> None:
        with database.transaction() as transaction:
            transaction.compounds.save([compound(0)])

    error = unavailable(collide)
    assert inchikey(0) not in error.message + str(error.details)
    database.close()
