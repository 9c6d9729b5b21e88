"""What every database does alike: the declared fake, SQLite, PostgreSQL."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.domain.compounds import Compound, SourceRecord
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.operations import Backlog, Chunk, ChunkState, Counts, ImportRow, Operation, Rejection, State
from server.ports import Database, Transaction
from tests.contract.values import add_library, compound, import_rows, inchikey, open_import, record, rejection

MODEL = "model-1"


def refused(work: Callable[[], object]) -> Reason:
    """The reason for which the work is refused."""
    with pytest.raises(AtomasError) as raised:
        work()
    assert raised.value.message
    return raised.value.reason


def stored(database: Database, number: int, library: str = "lib") -> Compound:
    with database.reading() as transaction:
        return transaction.compounds.get(library, inchikey(number))


def merge(transaction: Transaction, number: int, said: SourceRecord, library: str = "lib") -> None:
    """Adds a record to a compound, new or known, as an import does."""
    known = transaction.compounds.get_many(library, [inchikey(number)], for_update=True)
    former = known.get(inchikey(number))
    transaction.compounds.save([former.merged_with(said) if former else compound(number, said, library=library)])


def count(database: Database, library: str = "lib") -> int:
    with database.reading() as transaction:
        return transaction.libraries.get(library).compound_count


def unindexed(database: Database, model: str = MODEL) -> list[tuple[str, str]]:
    with database.reading() as transaction:
        return transaction.compounds.unindexed(model, 100)


def at_the_same_time(*works: Callable[[], None]) -> list[AtomasError]:
    """Runs the works in threads that start together; returns what was refused, lets everything else fail the test."""
    barrier = threading.Barrier(len(works))
    refusals: list[AtomasError] = []
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except AtomasError as error:
            refusals.append(error)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return refusals


def until_done(work: Callable[[], None]) -> None:
    """Runs the work again after a conflict, as a job queue does."""
    while True:
        try:
            return work()
        except AtomasError as error:
            if error.reason is not Reason.DATABASE_UNAVAILABLE:
                raise


class TestTransactions:
    def test_a_block_that_ends_is_kept_and_one_that_raises_leaves_nothing(self, database: Database) -> None:
        add_library(database, "kept", compounds=1)

        def fail() -> None:
            with database.transaction() as transaction:
                transaction.libraries.add(Library("lost"))
                transaction.compounds.save([compound(7, library="kept")])
                transaction.compounds.mark_deleted("kept", inchikey(0))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with database.reading() as transaction:
            assert [library.id for library in transaction.libraries.page("", 10)] == ["kept"]
            assert [found.inchikey for found in transaction.compounds.page("kept", "", 10)] == [inchikey(0)]
        assert count(database, "kept") == 1

    def test_reading_sees_one_moment_while_others_write(self, database: Database) -> None:
        add_library(database, compounds=2)
        with database.reading() as reader:
            assert reader.libraries.get("lib").compound_count == 2
            # Returns at once: a writer does not wait for readers.
            with database.transaction() as writer:
                merge(writer, 1, record("more"))
                merge(writer, 2, record("new"))
            assert reader.libraries.get("lib").compound_count == 2
            assert len(reader.compounds.page("lib", "", 10)) == 2
            assert reader.compounds.get("lib", inchikey(1)).revision == 1
        assert count(database) == 3
        assert stored(database, 1).revision == 2

    def test_reading_does_not_wait_for_a_writer_nor_see_its_work(self, database: Database) -> None:
        add_library(database, compounds=1)
        with database.transaction() as writer:
            merge(writer, 0, record("unfinished"))
            assert stored(database, 0).revision == 1
        assert stored(database, 0).revision == 2

    @pytest.mark.parametrize(
        "write",
        [
            lambda transaction: transaction.libraries.add(Library("new")),
            lambda transaction: transaction.libraries.mark_deleted("lib"),
            lambda transaction: transaction.compounds.save([compound(5)]),
            lambda transaction: transaction.compounds.get_many("lib", [inchikey(0)], for_update=True),
            lambda transaction: transaction.compounds.mark_indexed("lib", {inchikey(0): 1}, MODEL),
            lambda transaction: transaction.operations.lock("op"),
            lambda transaction: transaction.operations.accept("op", import_rows(1, 1)),
            lambda transaction: transaction.operations.chunk("op", 0, for_update=True),
            lambda transaction: transaction.operations.set_state("op", State.FAILED),
        ],
    )
    def test_reading_refuses_to_write_or_to_lock(self, database: Database, write: Callable[[Transaction], object]) -> None:
        add_library(database, compounds=1)
        open_import(database)
        with pytest.raises(RuntimeError, match="reading"), database.reading() as transaction:
            write(transaction)
        with database.reading() as transaction:
            assert transaction.libraries.get("lib").compound_count == 1
            assert transaction.operations.get("op").state is State.RECEIVING

    def test_check_accepts_a_migrated_database(self, database: Database) -> None:
        database.check()


class TestLibraries:
    def test_a_library_comes_back_as_it_was_added(self, database: Database) -> None:
        fields = {"mass": frozenset({"number", "text"}), "source": frozenset({"text"})}
        created = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
        with database.transaction() as transaction:
            added = transaction.libraries.add(Library("lib", "Größe", "β-lactams\nand more", fields=fields, create_time=created))
        with database.reading() as transaction:
            assert transaction.libraries.get("lib") == added
        assert added == Library("lib", "Größe", "β-lactams\nand more", 0, fields, created, added.update_time)
        assert added.update_time is not None
        assert added.update_time.utcoffset() == timedelta(0)

    def test_times_are_stamped_when_not_given(self, database: Database) -> None:
        before = datetime.now(UTC)
        add_library(database)
        with database.reading() as transaction:
            library = transaction.libraries.get("lib")
        assert library.create_time is not None
        assert before <= library.create_time <= datetime.now(UTC)

    def test_a_taken_id_is_refused_and_the_transaction_goes_on(self, database: Database) -> None:
        add_library(database, "taken")
        with database.transaction() as transaction:
            assert refused(lambda: transaction.libraries.add(Library("taken", "Other"))) is Reason.LIBRARY_EXISTS
            transaction.libraries.add(Library("free"))
        with database.reading() as transaction:
            assert [library.display_name for library in transaction.libraries.page("", 10)] == ["", "Taken"]

    def test_an_unknown_library_is_not_found(self, database: Database) -> None:
        with database.transaction() as transaction:
            for work in (
                lambda: transaction.libraries.get("none"),
                lambda: transaction.libraries.update(Library("none")),
                lambda: transaction.libraries.add_fields("none", {"x": frozenset({"text"})}),
                lambda: transaction.libraries.mark_deleted("none"),
                lambda: transaction.compounds.save([compound(1, library="none")]),
                lambda: transaction.compounds.mark_deleted("none", inchikey(1)),
                lambda: transaction.operations.open(Operation("op", "none", "r", "", State.RECEIVING)),
            ):
                assert refused(work) is Reason.LIBRARY_NOT_FOUND
            assert transaction.compounds.get_many("none", [inchikey(1)]) == {}
            assert transaction.compounds.page("none", "", 10) == []

    def test_pages_follow_the_bytes_of_the_ids(self, database: Database) -> None:
        # A dictionary would sort `a-c` after `aa`, and `z` before `0`.
        ids = ["0", "9-x", "a", "a-c", "aa", "ab", "z"]
        for library in reversed(ids):
            add_library(database, library)
        with database.reading() as transaction:
            pages = [[library.id for library in transaction.libraries.page(after, 3)] for after in ("", "a", "ab", "z")]
        assert pages == [["0", "9-x", "a"], ["a-c", "aa", "ab"], ["z"], []]

    def test_update_changes_the_names_and_the_update_time_only(self, database: Database) -> None:
        add_library(database, compounds=2)
        with database.transaction() as transaction:
            before = transaction.libraries.get("lib")
            after = transaction.libraries.update(replace(before, display_name="New", description="Said", compound_count=99))
        assert after == replace(before, display_name="New", description="Said", update_time=after.update_time)
        assert before.update_time is not None
        assert after.update_time is not None
        assert after.update_time >= before.update_time

    def test_fields_gather_kinds(self, database: Database) -> None:
        add_library(database)
        for fields in ({"x": frozenset({"number"})}, {"x": frozenset({"text"}), "y": frozenset({"boolean"})}, {"x": frozenset({"number"})}):
            with database.transaction() as transaction:
                transaction.libraries.add_fields("lib", fields)
        with database.reading() as transaction:
            assert transaction.libraries.get("lib").fields == {"x": frozenset({"number", "text"}), "y": frozenset({"boolean"})}

    def test_a_deleted_library_is_invisible_until_purged_and_then_its_id_is_free(self, database: Database) -> None:
        add_library(database, "other", compounds=1)
        add_library(database, compounds=5)
        open_import(database, chunks=2)
        with database.transaction() as transaction:
            transaction.compounds.mark_deleted("lib", inchikey(4))
            transaction.operations.mark_read("op", 0, created=0, updated=0, duplicate=1, rejections=[rejection(1)], changed=[])
            transaction.compounds.mark_indexed("lib", {inchikey(0): 1}, MODEL)
            transaction.libraries.add_fields("lib", {"x": frozenset({"number"})})
            transaction.libraries.mark_deleted("lib")
        with database.transaction() as transaction:
            assert transaction.libraries.purgeable() == ["lib"]
            assert [library.id for library in transaction.libraries.page("", 10)] == ["other"]
            assert transaction.compounds.get_many("lib", [inchikey(0)]) == {}
            assert transaction.compounds.revisions("lib", [inchikey(0)]) == {}
            assert transaction.compounds.deleted(10) == []
            assert transaction.compounds.unindexed(MODEL, 10) == [("other", inchikey(0))]
            assert transaction.operations.unfinished_chunks(10) == []
            assert refused(lambda: transaction.libraries.get("lib")) is Reason.LIBRARY_NOT_FOUND
            assert refused(lambda: transaction.libraries.mark_deleted("lib")) is Reason.LIBRARY_NOT_FOUND
            assert refused(lambda: transaction.compounds.get("lib", inchikey(0))) is Reason.COMPOUND_NOT_FOUND
            assert refused(lambda: transaction.libraries.add(Library("lib"))) is Reason.LIBRARY_EXISTS
        steps = 1
        while not purge(database, "lib", 2):
            steps += 1
        assert steps >= 3
        add_library(database, compounds=1)
        with database.reading() as transaction:
            assert transaction.libraries.purgeable() == []
            assert transaction.libraries.get("lib").compound_count == 1
            assert transaction.libraries.get("lib").fields == {}
            assert transaction.libraries.get("other").compound_count == 1
            assert refused(lambda: transaction.operations.get("op")) is Reason.OPERATION_NOT_FOUND
            assert ("lib", inchikey(0)) in transaction.compounds.unindexed(MODEL, 10)

    def test_deleting_a_library_cancels_its_running_imports(self, database: Database) -> None:
        add_library(database)
        open_import(database, "running", chunks=1)
        open_import(database, "done")
        with database.transaction() as transaction:
            transaction.operations.set_state("done", State.SUCCEEDED)
            transaction.libraries.mark_deleted("lib")
        with database.reading() as transaction:
            running, done = transaction.operations.get("running"), transaction.operations.get("done")
        assert (running.state, done.state) == (State.CANCELLED, State.SUCCEEDED)
        assert running.end_time is not None

    def test_purge_leaves_a_library_alone_that_is_not_deleted(self, database: Database) -> None:
        add_library(database, compounds=2)
        assert purge(database, "lib", 100)
        assert purge(database, "unknown", 100)
        assert count(database) == 2


def purge(database: Database, library: str, limit: int) -> bool:
    with database.transaction() as transaction:
        return transaction.libraries.purge(library, limit)


class TestCompounds:
    def test_a_compound_comes_back_as_it_was_saved(self, database: Database) -> None:
        add_library(database)
        records = (
            SourceRecord("A:1", "β-carotene", ("naïve", "x\\y"), ("It is\norange.", "说明"), {}, ("2026-01-01T00:00:00+00:00", 7)),
            SourceRecord(metadata={"n": 1.5, "i": 3, "flag": True, "tags": ["a", 1, None], "deep": {"k": [False]}, "null": None}),
            SourceRecord(display_name="a NUL \0 and quotes ' \" ; --"),
        )
        saved = replace(compound(3, *records), revision=4)
        with database.transaction() as transaction:
            transaction.compounds.save([saved])
        found = stored(database, 3)
        assert found == replace(saved, create_time=found.create_time, update_time=found.update_time)
        assert found.create_time is not None
        assert found.create_time == found.update_time

    def test_a_compound_that_is_its_own_parent_comes_back_so(self, database: Database) -> None:
        add_library(database, compounds=2)
        same, other = stored(database, 0).structure, stored(database, 1).structure
        assert (same.parent_smiles, same.parent_inchikey) == (same.smiles, same.inchikey)
        assert other.parent_smiles != other.smiles

    def test_an_unknown_compound_is_not_found(self, database: Database) -> None:
        add_library(database, compounds=1)
        with database.reading() as transaction:
            for key in (inchikey(1), "", "x\0", "'; --"):
                assert refused(lambda key=key: transaction.compounds.get("lib", key)) is Reason.COMPOUND_NOT_FOUND  # type: ignore[misc] # bound at once
            assert transaction.compounds.get_many("lib", [inchikey(1), inchikey(0)]).keys() == {inchikey(0)}
            assert transaction.compounds.get_many("lib", []) == {}
            assert transaction.compounds.revisions("lib", [inchikey(1), inchikey(0), "x\0"]) == {inchikey(0): 1}
            assert transaction.compounds.revisions("lib", []) == transaction.compounds.revisions("none", [inchikey(0)]) == {}

    def test_pages_follow_the_inchikeys(self, database: Database) -> None:
        add_library(database, "other", compounds=3)
        add_library(database, compounds=5)
        with database.reading() as transaction:
            first = transaction.compounds.page("lib", "", 3)
            second = transaction.compounds.page("lib", first[-1].inchikey, 3)
        assert [found.inchikey for found in first + second] == [inchikey(number) for number in range(5)]
        assert {found.library for found in first + second} == {"lib"}

    def test_a_merge_replaces_the_row_and_keeps_its_birth(self, database: Database) -> None:
        add_library(database, compounds=1)
        before = stored(database, 0)
        with database.transaction() as transaction:
            merge(transaction, 0, record("second"))
            merge(transaction, 0, record("third"))
        after = stored(database, 0)
        assert [said.display_name for said in after.records] == ["compound 0", "second", "third"]
        assert (after.revision, after.create_time) == (3, before.create_time)
        assert before.update_time is not None
        assert after.update_time is not None
        assert after.update_time > before.update_time
        assert count(database) == 1

    def test_a_row_keeps_its_birth_even_when_the_new_value_has_none(self, database: Database) -> None:
        add_library(database, compounds=1)
        before = stored(database, 0)
        with database.transaction() as transaction:
            transaction.compounds.get_many("lib", [inchikey(0)], for_update=True)
            transaction.compounds.save([replace(before, create_time=None, revision=2)])
        assert stored(database, 0).create_time == before.create_time

    def test_a_compound_deleted_and_saved_in_one_transaction_is_there(self, database: Database) -> None:
        add_library(database, compounds=1)
        with database.transaction() as transaction:
            transaction.compounds.get_many("lib", [inchikey(0)], for_update=True)
            transaction.compounds.mark_deleted("lib", inchikey(0))
            transaction.compounds.save([compound(0, record("back"))])
        assert stored(database, 0).display_name == "back"
        assert stored(database, 0).revision > 1
        assert count(database) == 1

    def test_what_was_not_read_for_update_is_not_overwritten(self, database: Database) -> None:
        add_library(database, compounds=1)

        def overwrite() -> None:
            with database.transaction() as transaction:
                transaction.compounds.get_many("lib", [inchikey(0)])
                transaction.compounds.save([compound(5), compound(0, record("overwritten"))])

        with pytest.raises(AtomasError) as raised:
            overwrite()
        assert raised.value.reason is Reason.DATABASE_UNAVAILABLE
        assert raised.value.details["cause"] == "conflict"
        assert stored(database, 0).display_name == "compound 0"
        assert count(database) == 1

    def test_a_transaction_may_save_twice_and_the_last_of_two_equal_keys_stays(self, database: Database) -> None:
        add_library(database)
        with database.transaction() as transaction:
            transaction.compounds.save([compound(0, record("first")), compound(0, record("second"))])
            transaction.compounds.save([compound(0, record("third"))])
            assert transaction.compounds.get("lib", inchikey(0)).display_name == "third"
        assert count(database) == 1

    def test_thousands_of_compounds_in_one_transaction(self, database: Database) -> None:
        add_library(database)
        numbers = range(12_000)
        with database.transaction() as transaction:
            transaction.compounds.save([compound(number) for number in numbers])
        with database.reading() as transaction:
            assert len(transaction.compounds.get_many("lib", [inchikey(number) for number in numbers])) == len(numbers)
        assert count(database) == len(numbers)

    def test_the_count_follows_what_is_visible(self, database: Database) -> None:
        add_library(database, "other", compounds=2)
        add_library(database, compounds=4)
        with database.transaction() as transaction:
            transaction.compounds.mark_deleted("lib", inchikey(1))
            transaction.compounds.mark_deleted("lib", inchikey(2))
            assert refused(lambda: transaction.compounds.mark_deleted("lib", inchikey(1))) is Reason.COMPOUND_NOT_FOUND
            assert transaction.libraries.get("lib").compound_count == 2
        with database.transaction() as transaction:
            transaction.compounds.remove_deleted("lib", [inchikey(1)])
            merge(transaction, 2, record("back"))
            merge(transaction, 9, record("new"))
        assert (count(database), count(database, "other")) == (4, 2)

    def test_a_deleted_compound_is_hidden_until_its_row_is_removed(self, database: Database) -> None:
        add_library(database, compounds=3)
        with database.transaction() as transaction:
            transaction.compounds.mark_deleted("lib", inchikey(1))
        with database.transaction() as transaction:
            assert transaction.compounds.deleted(10) == [("lib", inchikey(1))]
            assert transaction.compounds.deleted(0) == []
            assert [found.inchikey for found in transaction.compounds.page("lib", "", 10)] == [inchikey(0), inchikey(2)]
            assert transaction.compounds.get_many("lib", [inchikey(1)], for_update=True) == {}
            transaction.compounds.remove_deleted("lib", [inchikey(0), inchikey(1)])
        with database.reading() as transaction:
            assert transaction.compounds.deleted(10) == []
            assert [found.inchikey for found in transaction.compounds.page("lib", "", 10)] == [inchikey(0), inchikey(2)]

    def test_unindexed_lists_new_and_changed_compounds_per_model(self, database: Database) -> None:
        add_library(database, "other", compounds=1)
        add_library(database, compounds=3)
        with database.transaction() as transaction:
            transaction.compounds.mark_indexed("lib", {inchikey(0): 1, inchikey(1): 1, inchikey(77): 1}, MODEL)
        assert unindexed(database) == [("other", inchikey(0)), ("lib", inchikey(2))]
        with database.transaction() as transaction:
            merge(transaction, 1, record("changed"))
            transaction.compounds.mark_indexed("lib", {inchikey(2): 1}, MODEL)
        assert unindexed(database) == [("other", inchikey(0)), ("lib", inchikey(1))]
        assert len(unindexed(database, "model-2")) == 4
        with database.transaction() as transaction:
            transaction.compounds.mark_indexed("lib", {inchikey(1): 2}, MODEL)
        assert unindexed(database) == [("other", inchikey(0))]

    def test_unindexed_can_be_walked_through(self, database: Database) -> None:
        add_library(database, "other", compounds=2)
        add_library(database, compounds=3)
        walked: list[tuple[str, str]] = []
        with database.reading() as transaction:
            while page := transaction.compounds.unindexed(MODEL, 2, walked[-1] if walked else None):
                walked += page
            assert transaction.compounds.unindexed(MODEL, 10, ("lib", inchikey(999))) == walked
        assert walked == unindexed(database)
        assert len(walked) == 5

    def test_a_compound_that_comes_back_is_unindexed_whatever_happened_to_its_vector(self, database: Database) -> None:
        add_library(database, compounds=1)
        with database.transaction() as transaction:
            transaction.compounds.mark_indexed("lib", {inchikey(0): 1}, MODEL)
            transaction.compounds.mark_deleted("lib", inchikey(0))
        with database.transaction() as transaction:
            merge(transaction, 0, record("back"))
        assert unindexed(database) == [("lib", inchikey(0))]
        assert stored(database, 0).display_name == "back"
        with database.transaction() as transaction:
            transaction.compounds.mark_indexed("lib", {inchikey(0): stored(database, 0).revision}, MODEL)
        assert unindexed(database) == []
        # The job that removes the vector of the deleted one runs late, after the new vector came.
        with database.transaction() as transaction:
            transaction.compounds.remove_deleted("lib", [inchikey(0)])
        assert stored(database, 0).display_name == "back"
        assert unindexed(database) == [("lib", inchikey(0))]


class TestOperations:
    def test_an_operation_comes_back_as_it_was_opened(self, database: Database) -> None:
        add_library(database)
        opened = open_import(database)
        assert opened == Operation(
            "op", "lib", "request of op", "file.smi", State.RECEIVING, Counts(), None, opened.create_time, opened.update_time
        )
        assert opened.create_time is not None
        with database.reading() as transaction:
            assert transaction.operations.get("op") == opened
            assert transaction.operations.all_indexed("op")

    def test_the_same_request_is_the_same_operation_in_a_library(self, database: Database) -> None:
        add_library(database, "other")
        add_library(database)
        open_import(database, chunks=1)
        with database.transaction() as transaction:
            again = transaction.operations.open(Operation("new id", "lib", "request of op", "other.smi", State.RECEIVING))
            elsewhere = transaction.operations.open(Operation("second", "other", "request of op", "other.smi", State.RECEIVING))
        assert (again.id, again.source, again.counts.received) == ("op", "file.smi", 2)
        assert elsewhere.id == "second"

    def test_an_unknown_operation_or_chunk_is_not_found(self, database: Database) -> None:
        add_library(database)
        open_import(database)
        with database.transaction() as transaction:
            operations = transaction.operations
            for work in (
                lambda: operations.get("none"),
                lambda: operations.lock("none"),
                lambda: operations.page("none", 10),
                lambda: operations.accept("none", import_rows(1, 1)),
                lambda: operations.chunk("none", 0),
                lambda: operations.chunk("op", 0),
                lambda: operations.set_state("none", State.FAILED),
                lambda: operations.all_indexed("none"),
            ):
                assert refused(work) is Reason.OPERATION_NOT_FOUND
            assert operations.rejections("none", 0, 10) == []

    def test_pages_begin_with_the_newest(self, database: Database) -> None:
        add_library(database)
        for number in range(5):
            open_import(database, f"op-{number}")
        with database.reading() as transaction:
            first = transaction.operations.page("", 2)
            second = transaction.operations.page(first[-1].id, 10)
        assert [operation.id for operation in first + second] == ["op-4", "op-3", "op-2", "op-1", "op-0"]

    def test_accepted_rows_come_back_in_chunks(self, database: Database) -> None:
        add_library(database)
        open_import(database)
        odd = SourceRecord("id", "näme \0", ("s",), ("d",), {"n": 1.5, "x": [True, None]})
        rows = [
            ImportRow(1, "molblock", "\n\n\nM  END", odd),
            ImportRow(5, "unreadable", "bad line"),
            ImportRow(6, "inchi", "InChI=1S/CH4/h1H4"),
        ]
        with database.transaction() as transaction:
            assert transaction.operations.lock("op").counts.received == 0
            assert transaction.operations.accept("op", rows) == 0
            assert transaction.operations.accept("op", import_rows(7, 2)) == 1
            assert transaction.operations.lock("op").counts.received == 5
        with database.reading() as transaction:
            assert transaction.operations.chunk("op", 0) == Chunk("op", 0, ChunkState.ACCEPTED, tuple(rows))
            assert transaction.operations.chunk("op", 1).rows == tuple(import_rows(7, 2))
            assert not transaction.operations.all_indexed("op")

    @pytest.mark.parametrize("positions", [[0], [-1], [3, 3], [4, 2]])
    def test_row_positions_that_do_not_grow_are_refused(self, database: Database, positions: list[int]) -> None:
        add_library(database)
        open_import(database)
        rows = [ImportRow(position, "smiles", "C") for position in positions]
        with database.transaction() as transaction:
            assert refused(lambda: transaction.operations.accept("op", rows)) is Reason.IMPORT_PROTOCOL

    def test_row_positions_grow_from_chunk_to_chunk(self, database: Database) -> None:
        add_library(database)
        open_import(database, chunks=2)
        with database.transaction() as transaction:
            assert refused(lambda: transaction.operations.accept("op", import_rows(4, 2))) is Reason.IMPORT_PROTOCOL
            assert transaction.operations.accept("op", import_rows(5, 2)) == 2

    def test_verdicts_are_counted_once_and_rejections_listed_by_position(self, database: Database) -> None:
        add_library(database)
        open_import(database, chunks=2, rows=5)
        rejected = [rejection(4), rejection(2, "TIMEOUT")]
        for _ in range(2):
            with database.transaction() as transaction:
                transaction.operations.mark_read("op", 0, created=1, updated=2, duplicate=0, rejections=rejected, changed=["K1", "K2"])
        with database.transaction() as transaction:
            transaction.operations.mark_read("op", 1, created=0, updated=0, duplicate=4, rejections=[rejection(7)], changed=[])
        with database.reading() as transaction:
            operation, chunk = transaction.operations.get("op"), transaction.operations.chunk("op", 0)
            pages = [transaction.operations.rejections("op", after, 2) for after in (0, 4, 7)]
        assert (chunk.state, chunk.changed) == (ChunkState.READ, ("K1", "K2"))
        by_reason = {"INVALID_SMILES": 2, "TIMEOUT": 1}
        assert operation.counts == Counts(received=10, created=1, updated=2, duplicate=4, rejected=3, rejected_by_reason=by_reason)
        assert pages == [[rejection(2, "TIMEOUT"), rejection(4)], [rejection(7)], []]

    def test_a_rejection_keeps_the_row_as_it_was_sent(self, database: Database) -> None:
        add_library(database)
        open_import(database, chunks=1)
        sent = Rejection(
            2, "INVALID_SMILES", "odd \0 \ud800 text", ImportRow(2, "smiles", "C\0(", SourceRecord("i", "n", (), (), {"k": 1}))
        )
        with database.transaction() as transaction:
            transaction.operations.mark_read("op", 0, created=0, updated=0, duplicate=1, rejections=[sent], changed=[])
        with database.reading() as transaction:
            [found] = transaction.operations.rejections("op", 0, 10)
        assert found.row == sent.row
        assert found.message.startswith("odd \0 ")

    def test_an_indexed_chunk_is_counted_once_and_forgets_its_rows(self, database: Database) -> None:
        add_library(database)
        open_import(database, chunks=2)
        with database.transaction() as transaction:
            transaction.operations.mark_indexed("op", 0, 9)
            assert transaction.operations.chunk("op", 0).state is ChunkState.ACCEPTED
            transaction.operations.mark_read("op", 0, created=1, updated=0, duplicate=0, rejections=[rejection(2)], changed=["K"])
            transaction.operations.mark_indexed("op", 0, 1)
            transaction.operations.mark_indexed("op", 0, 1)
            counts = transaction.operations.get("op").counts
            assert (counts.indexed, counts.shortened_texts) == (1, 1)
            assert transaction.operations.chunk("op", 0) == Chunk("op", 0, ChunkState.INDEXED, (), ())
            assert not transaction.operations.all_indexed("op")
            transaction.operations.mark_read("op", 1, created=0, updated=0, duplicate=2, rejections=[], changed=[])
            transaction.operations.mark_indexed("op", 1, 0)
            assert transaction.operations.all_indexed("op")
            assert transaction.operations.get("op").counts.indexed == 3

    def test_unfinished_chunks_are_listed_oldest_first_until_indexed_or_given_up(self, database: Database) -> None:
        add_library(database)
        open_import(database, "z-first", chunks=2)
        open_import(database, "a-second", chunks=2)
        with database.transaction() as transaction:
            transaction.operations.mark_read("z-first", 1, created=2, updated=0, duplicate=0, rejections=[], changed=[])
            transaction.operations.mark_read("a-second", 0, created=2, updated=0, duplicate=0, rejections=[], changed=[])
            transaction.operations.mark_indexed("a-second", 0, 0)
            assert transaction.operations.unfinished_chunks(10) == [
                ("z-first", 0, "ACCEPTED"),
                ("z-first", 1, "READ"),
                ("a-second", 1, "ACCEPTED"),
            ]
            assert transaction.operations.unfinished_chunks(1) == [("z-first", 0, "ACCEPTED")]
            transaction.operations.set_state("z-first", State.CANCELLED)
            assert transaction.operations.unfinished_chunks(10) == [("a-second", 1, "ACCEPTED")]

    def test_the_backlog_counts_what_is_left_and_knows_its_age(self, database: Database) -> None:
        add_library(database)
        with database.reading() as transaction:
            assert transaction.operations.backlog() == (Backlog(), Backlog())
        open_import(database, "running", chunks=3)
        open_import(database, "stopped", chunks=2)
        threading.Event().wait(0.05)
        with database.transaction() as transaction:
            transaction.operations.mark_read("running", 0, created=2, updated=0, duplicate=0, rejections=[], changed=[])
            transaction.operations.set_state("stopped", State.CANCELLED)
        with database.reading() as transaction:
            unread, unindexed = transaction.operations.backlog()
        assert (unread.count, unindexed.count) == (2, 1)
        assert 0.05 <= unread.oldest_seconds < 60
        assert 0.05 <= unindexed.oldest_seconds < 60

    def test_only_operations_that_process_and_have_all_chunks_indexed_are_completable(self, database: Database) -> None:
        add_library(database)
        for name, state in (
            ("receiving", State.RECEIVING),
            ("waiting", State.PROCESSING),
            ("ready", State.PROCESSING),
            ("done", State.SUCCEEDED),
        ):
            open_import(database, name, chunks=1)
            with database.transaction() as transaction:
                transaction.operations.mark_read(name, 0, created=2, updated=0, duplicate=0, rejections=[], changed=[])
                if name != "waiting":
                    transaction.operations.mark_indexed(name, 0, 0)
                transaction.operations.set_state(name, state)
        open_import(database, "empty")
        with database.transaction() as transaction:
            transaction.operations.set_state("empty", State.PROCESSING)
            assert transaction.operations.completable() == ["ready", "empty"]

    def test_a_final_state_stamps_the_end_and_drops_raw_rows(self, database: Database) -> None:
        add_library(database)
        open_import(database, chunks=1)
        with database.transaction() as transaction:
            transaction.operations.set_state("op", State.PROCESSING)
            assert transaction.operations.get("op").end_time is None
            transaction.operations.set_state("op", State.FAILED, ("INTERNAL", 'It "broke".'))
        with database.reading() as transaction:
            operation, chunk = transaction.operations.get("op"), transaction.operations.chunk("op", 0)
        assert (operation.state, operation.error) == (State.FAILED, ("INTERNAL", 'It "broke".'))
        assert operation.end_time is not None
        assert operation.end_time == operation.update_time
        assert chunk.rows == ()
        assert operation.counts.received == 2


class TestSideBySide:
    def test_merging_one_new_compound_at_once_loses_no_record(self, database: Database) -> None:
        add_library(database)

        def work(name: str) -> Callable[[], None]:
            def once() -> None:
                with database.transaction() as transaction:
                    merge(transaction, 1, record(name))

            return lambda: until_done(once)

        names = [f"from thread {number}" for number in range(4)]
        assert at_the_same_time(*[work(name) for name in names]) == []
        found = stored(database, 1)
        assert sorted(said.display_name for said in found.records) == names
        assert (found.revision, count(database)) == (4, 1)

    def test_overlapping_batches_at_once_end_complete(self, database: Database) -> None:
        add_library(database, compounds=10)

        def work(numbers: list[int], name: str) -> Callable[[], None]:
            def once() -> None:
                with database.transaction() as transaction:
                    known = transaction.compounds.get_many("lib", [inchikey(number) for number in numbers], for_update=True)
                    said = record(name)
                    transaction.compounds.save(
                        [known[inchikey(n)].merged_with(said) if inchikey(n) in known else compound(n, said) for n in numbers]
                    )

            return lambda: until_done(once)

        forwards = list(range(30))
        assert at_the_same_time(work(forwards, "forwards"), work(forwards[::-1], "backwards"), work(forwards[10:], "new ones")) == []
        with database.reading() as transaction:
            found = transaction.compounds.page("lib", "", 100)
        said = [{item.display_name for item in one.records} >= {"forwards", "backwards"} for one in found]
        assert said == [True] * 30
        assert count(database) == 30

    def test_chunks_accepted_at_once_get_numbers_of_their_own(self, database: Database) -> None:
        add_library(database)
        open_import(database)
        numbers: list[int] = []

        def accept() -> None:
            for _ in range(5):
                with database.transaction() as transaction:
                    received = transaction.operations.lock("op").counts.received
                    number = transaction.operations.accept("op", import_rows(received + 1, 3))
                numbers.append(number)

        assert at_the_same_time(*[accept] * 4) == []
        assert sorted(numbers) == list(range(20))
        with database.reading() as transaction:
            assert transaction.operations.get("op").counts.received == 60
            assert [row.position for number in range(20) for row in transaction.operations.chunk("op", number).rows] == list(range(1, 61))

    def test_one_request_opened_at_once_is_one_operation(self, database: Database) -> None:
        add_library(database)
        opened: list[str] = []

        def work(number: int) -> Callable[[], None]:
            def once() -> None:
                with database.transaction() as transaction:
                    opened.append(transaction.operations.open(Operation(f"op-{number}", "lib", "request", "", State.RECEIVING)).id)

            return once

        assert at_the_same_time(*[work(number) for number in range(4)]) == []
        assert len(opened) == 4
        assert len(set(opened)) == 1

    def test_a_library_deleted_during_imports_ends_deleted(self, database: Database) -> None:
        add_library(database)
        open_import(database)

        def save() -> None:
            for number in range(10):

                def once(number: int = number) -> None:
                    with database.transaction() as transaction:
                        transaction.operations.lock("op")
                        merge(transaction, number, record("said"))

                until_done(once)

        def delete() -> None:
            with database.transaction() as transaction:
                transaction.libraries.mark_deleted("lib")

        refusals = at_the_same_time(save, lambda: until_done(delete), save)
        assert {error.reason for error in refusals} <= {Reason.LIBRARY_NOT_FOUND}
        while not purge(database, "lib", 3):
            pass
        with database.reading() as transaction:
            assert transaction.libraries.purgeable() == []
