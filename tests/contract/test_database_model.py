"""SQLite and PostgreSQL beside the fake: whatever happens in whatever order, all of them say the same."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import sql

from server.adapters.sql.transaction import SqlDatabase
from server.domain.errors import AtomasError
from server.domain.libraries import Library
from server.domain.operations import Operation, State
from server.ports import Database, Transaction
from tests.contract.values import compound, import_rows, inchikey, record, rejection
from tests.fakes_database import FakeDatabase
from tests.services import PostgresServer

LIBRARIES = ("a", "a-b", "ab")
MODELS = ("model-1", "model-2")
ROWS = 3

libraries = st.sampled_from(LIBRARIES)
numbers = st.integers(0, 5)
some_numbers = st.sets(numbers, max_size=4).map(sorted)
operations = st.sampled_from([f"op-{library}-{n}" for library in LIBRARIES for n in range(2)])
chunks = st.integers(0, 2)


class Databases(RuleBasedStateMachine):
    """Does everything to a database and to the fake."""

    open_database: Callable[[], SqlDatabase]

    def __init__(self) -> None:
        super().__init__()
        self.database = type(self).open_database()
        self.fake = FakeDatabase()

    def teardown(self) -> None:
        self.database.close()

    def both(self, work: Callable[[Transaction], Any], abort: bool = False) -> None:
        """One transaction on each side, with the same result or the same refusal; `abort` fails it at the end."""
        outcomes = [_outcome(side, work, abort) for side in (self.database, self.fake)]
        assert outcomes[0] == outcomes[1]

    @initialize()
    def begin_with_something(self) -> None:
        for library in LIBRARIES[:2]:
            self.add_library(library)
            self.merge(library, [0, 1, 2], "p", abort=False)
            self.open_operation(library, 0)
            self.accept(f"op-{library}-0", abort=False)

    @rule(library=libraries)
    def add_library(self, library: str) -> None:
        self.both(lambda t: bare(t.libraries.add(Library(library, f"{library}!"))))

    @rule(library=libraries, name=st.sampled_from("xy"), kinds=st.sets(st.sampled_from(["number", "text"])))
    def describe_library(self, library: str, name: str, kinds: set[str]) -> None:
        self.both(lambda t: t.libraries.add_fields(library, {name: frozenset(kinds)}) if kinds else None)
        self.both(lambda t: bare(t.libraries.update(Library(library, f"now {name}", name))))

    @rule(library=libraries, limit=st.sampled_from([1, 100, 100]))
    def purge_library(self, library: str, limit: int) -> None:
        # A step may end anywhere between rows, so only its end is compared.
        for side in (self.database, self.fake):
            while not _purge(side, library, limit):
                pass

    @rule(library=libraries)
    def delete_library(self, library: str) -> None:
        self.both(lambda t: t.libraries.mark_deleted(library))

    @rule(library=libraries, chosen=some_numbers, name=st.sampled_from("pq"), abort=st.booleans())
    def merge(self, library: str, chosen: list[int], name: str, abort: bool) -> None:
        def work(transaction: Transaction) -> None:
            keys = [inchikey(number) for number in chosen]
            known = transaction.compounds.get_many(library, keys, for_update=True)
            new = {number: compound(number, record(name), library=library) for number in chosen}
            merged = [known[inchikey(n)].merged_with(record(name)) if inchikey(n) in known else new[n] for n in chosen]
            transaction.compounds.save(merged)

        self.both(work, abort)

    @rule(library=libraries, number=numbers)
    def save_unread(self, library: str, number: int) -> None:
        self.both(lambda t: t.compounds.save([compound(number, library=library)]))

    @rule(library=libraries, number=numbers, abort=st.booleans())
    def delete_compound(self, library: str, number: int, abort: bool) -> None:
        self.both(lambda t: t.compounds.mark_deleted(library, inchikey(number)), abort)

    @rule(library=libraries, chosen=some_numbers)
    def remove_deleted(self, library: str, chosen: list[int]) -> None:
        self.both(lambda t: t.compounds.remove_deleted(library, [inchikey(number) for number in chosen]))

    @rule(library=libraries, chosen=some_numbers, model=st.sampled_from(MODELS), late=st.integers(0, 1))
    def index(self, library: str, chosen: list[int], model: str, late: int) -> None:
        def work(transaction: Transaction) -> None:
            found = transaction.compounds.get_many(library, [inchikey(number) for number in chosen])
            transaction.compounds.mark_indexed(library, {key: one.revision - late for key, one in found.items()}, model)

        self.both(work)

    @rule(library=libraries, number=st.integers(0, 1))
    def open_operation(self, library: str, number: int) -> None:
        opened = Operation(f"op-{library}-{number}", library, f"request {number}", "file", State.RECEIVING)
        self.both(lambda t: bare(t.operations.open(opened)))

    @rule(operation=operations, abort=st.booleans())
    def accept(self, operation: str, abort: bool) -> None:
        def work(transaction: Transaction) -> int:
            received = transaction.operations.lock(operation).counts.received
            return transaction.operations.accept(operation, import_rows(received + 1, ROWS))

        self.both(work, abort)

    @rule(operation=operations, chunk=chunks, rejected=st.integers(0, ROWS))
    def read_chunk(self, operation: str, chunk: int, rejected: int) -> None:
        def work(transaction: Transaction) -> None:
            rows = transaction.operations.chunk(operation, chunk, for_update=True).rows
            verdicts = [rejection(row.position, "TIMEOUT" if row.position % 2 else "EMPTY") for row in rows[:rejected]]
            created = max(0, len(rows) - rejected)
            transaction.operations.mark_read(
                operation, chunk, created=created, updated=0, duplicate=0, rejections=verdicts, changed=[inchikey(chunk)]
            )

        self.both(work)

    @rule(operation=operations, chunk=chunks, shortened=st.integers(0, 1))
    def index_chunk(self, operation: str, chunk: int, shortened: int) -> None:
        self.both(lambda t: t.operations.mark_indexed(operation, chunk, shortened))

    @rule(operation=operations, state=st.sampled_from(State))
    def set_state(self, operation: str, state: State) -> None:
        def work(transaction: Transaction) -> None:
            # As the use cases do: what is final stays so.
            if not transaction.operations.lock(operation).state.final:
                transaction.operations.set_state(operation, state, ("INTERNAL", "broke") if state is State.FAILED else None)

        self.both(work)

    @invariant()
    def both_say_the_same(self) -> None:
        with self.database.reading() as real, self.fake.reading() as fake:
            assert said(real) == said(fake)


def said(transaction: Transaction) -> dict[str, object]:
    """Everything that can be read, without times."""
    listed = transaction.libraries.page("", 100)
    found = transaction.operations.page("", 100)
    return {
        "libraries": [bare(library) for library in listed],
        "purgeable": sorted(transaction.libraries.purgeable()),
        "compounds": [bare(one) for library in LIBRARIES for one in transaction.compounds.page(library, "", 100)],
        "deleted": sorted(transaction.compounds.deleted(100)),
        "unindexed": [sorted(transaction.compounds.unindexed(model, 100)) for model in MODELS],
        "operations": [bare(operation) for operation in found],
        "ended": [operation.id for operation in found if operation.end_time],
        "unfinished": transaction.operations.unfinished_chunks(100),
        "completable": transaction.operations.completable(),
        "rejections": [transaction.operations.rejections(operation.id, 0, 100) for operation in found],
        "chunks": [
            transaction.operations.chunk(operation.id, number) for operation in found for number in range(operation.counts.received // ROWS)
        ],
    }


def bare(value: Any) -> Any:
    """The value without the times at which each side did its work."""
    value = replace(value, create_time=None, update_time=None)
    return replace(value, end_time=None) if isinstance(value, Operation) else value


class _AbortedError(Exception):
    pass


def _outcome(database: Database, work: Callable[[Transaction], Any], abort: bool) -> object:
    try:
        with database.transaction() as transaction:
            result = work(transaction)
            if abort:
                raise _AbortedError
    except AtomasError as error:
        return error.reason
    except _AbortedError:
        return "aborted"
    return result


def _purge(database: Database, library: str, limit: int) -> bool:
    with database.transaction() as transaction:
        return transaction.libraries.purge(library, limit)


def run(open_database: Callable[[], SqlDatabase], examples: int) -> None:
    machine = type("DatabasesOfOneKind", (Databases,), {"open_database": staticmethod(open_database)})
    # Not shrunk: with databases behind every step that would outlast any time limit.
    limits = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(machine, settings=limits)


def test_sqlite_says_what_the_fake_says(migrated_sqlite: Path, tmp_path: Path) -> None:
    names = itertools.count()
    run(lambda: SqlDatabase(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / f'{next(names)}.sqlite3')}"), examples=15)


@pytest.fixture
def postgres_copies(migrated_postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes one migrated, empty database after the other."""
    made: list[str] = []

    def make() -> str:
        made.append(f"model_{len(made)}")
        with psycopg.connect(migrated_postgres.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template").format(sql.Identifier(made[-1])))
        return migrated_postgres.url(made[-1])

    yield make
    with psycopg.connect(migrated_postgres.url(), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_postgresql_says_what_the_fake_says(postgres_copies: Callable[[], str]) -> None:
    run(lambda: SqlDatabase(postgres_copies()), examples=6)
