"""Every database keeps generations alike: one worker holds each, and only that one adds to it."""

from dataclasses import replace

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.generation import (
    Candidate,
    Description,
    Finding,
    Generation,
    GenerationCounts,
    GenerationRequest,
    GenerationState,
    KnownCompound,
    Task,
)
from server.domain.operations import Backlog
from server.ports import Database

LONG, NONE = 60.0, 0.0
REQUEST = GenerationRequest(Task.MOLECULES, "a β-lactam\0", ("lib",), 3, 2**60, "model", 12.5, "rings > 1", 60, True, False)
NEAR = KnownCompound("lib", "KEY", "name", "CC", 0.25)
FOUND = Candidate("CCO", "A-KEY", -1.5, 0.25, True, (NEAR,), {"rings": 0, "formula": "C2H6O", "clogp": -0.5})
OTHER = replace(FOUND, inchikey="B-KEY", nearest=())
COUNTS = GenerationCounts(4, 1, {"DUPLICATE": 2, "INVALID_SMILES": 1})


@pytest.fixture
def added(database: Database) -> Database:
    with database.transaction() as transaction:
        transaction.generations.add(Generation("generation-1", REQUEST))
    return database


def claim(database: Database, worker: str, silent_seconds: float = LONG) -> bool:
    with database.transaction() as transaction:
        return transaction.generations.claim("generation-1", worker, silent_seconds)


def stored(database: Database) -> Generation:
    with database.reading() as transaction:
        return transaction.generations.get("generation-1")


def found(database: Database, after: int = 0) -> list[Finding]:
    with database.reading() as transaction:
        return transaction.generations.findings("generation-1", after)


def test_a_generation_is_read_back_as_it_was_asked(added: Database) -> None:
    generation = stored(added)
    assert replace(generation.request, source="") == replace(REQUEST, source="")
    assert generation.request.source.startswith("a β-lactam")
    assert (generation.state, generation.counts, generation.start_time) == (GenerationState.QUEUED, GenerationCounts(), None)
    assert generation.create_time is not None


def test_an_unknown_generation_is_not_found(database: Database) -> None:
    with pytest.raises(AtomasError) as caught, database.reading() as transaction:
        transaction.generations.get("generation-0")
    assert caught.value.reason is Reason.OPERATION_NOT_FOUND


def test_one_worker_holds_it_until_it_falls_silent(added: Database) -> None:
    assert claim(added, "first")
    assert claim(added, "first")
    assert not claim(added, "second")
    started = stored(added).start_time
    assert claim(added, "second", NONE)
    assert stored(added).start_time == started
    with added.transaction() as transaction:
        assert transaction.generations.beat("generation-1", "second")
        assert not transaction.generations.beat("generation-1", "first")


def test_a_released_generation_is_anybodys(added: Database) -> None:
    claim(added, "first")
    with added.transaction() as transaction:
        transaction.generations.release("generation-1", "first")
        assert transaction.generations.waiting(LONG, 5) == ["generation-1"]
    assert claim(added, "second")


def test_findings_are_read_in_their_order_and_from_where_one_was(added: Database) -> None:
    claim(added, "first")
    with added.transaction() as transaction:
        assert transaction.generations.add_findings("generation-1", "first", 0, [FOUND], COUNTS)
        assert transaction.generations.add_findings("generation-1", "first", 1, [OTHER], COUNTS)
        transaction.generations.note_neighbours("generation-1", "first", [NEAR])
    assert (found(added), found(added, 1), found(added, 2)) == ([FOUND, OTHER], [OTHER], [])
    assert (stored(added).counts, stored(added).neighbours) == (COUNTS, (NEAR,))


def test_descriptions_are_read_back(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.generations.add(Generation("generation-1", replace(REQUEST, task=Task.DESCRIPTIONS)))
    claim(database, "first")
    said = Description("It is.", -2.0, 0.5, ("It is an anion.",))
    with database.transaction() as transaction:
        transaction.generations.add_findings("generation-1", "first", 0, [said], COUNTS)
    assert found(database) == [said]


@pytest.mark.parametrize("state", [GenerationState.SUCCEEDED, GenerationState.FAILED, GenerationState.CANCELLED])
def test_what_has_ended_changes_no_more(added: Database, state: GenerationState) -> None:
    claim(added, "first")
    with added.transaction() as transaction:
        generations = transaction.generations
        if state is GenerationState.SUCCEEDED:
            generations.succeed("generation-1", "first", "BUDGET")
        elif state is GenerationState.FAILED:
            generations.fail("generation-1", "INTERNAL", "It broke.")
        else:
            generations.cancel("generation-1")
    ended = stored(added)
    assert ended.state is state
    assert ended.end_time is not None
    assert ended.error == (("INTERNAL", "It broke.") if state is GenerationState.FAILED else None)
    assert ended.shortfall == ("BUDGET" if state is GenerationState.SUCCEEDED else "")
    assert not claim(added, "second", NONE)
    with added.transaction() as transaction:
        assert not transaction.generations.add_findings("generation-1", "first", 0, [FOUND], COUNTS)
        assert not transaction.generations.beat("generation-1", "first")
        transaction.generations.fail("generation-1", "INTERNAL", "Again.")
        transaction.generations.cancel("generation-1")
        assert transaction.generations.running(5) == []
        assert transaction.generations.waiting(NONE, 5) == []
    assert stored(added) == ended
    assert found(added) == []


def test_only_the_holder_ends_it_well(added: Database) -> None:
    claim(added, "first")
    with added.transaction() as transaction:
        transaction.generations.succeed("generation-1", "second", "")
    assert stored(added).state is GenerationState.RUNNING


def test_waiting_are_those_that_nobody_works_on(added: Database) -> None:
    with added.transaction() as transaction:
        assert transaction.generations.waiting(LONG, 5) == ["generation-1"]
    claim(added, "first")
    with added.transaction() as transaction:
        assert transaction.generations.waiting(LONG, 5) == []
        assert transaction.generations.waiting(NONE, 5) == ["generation-1"]
        assert [each.id for each in transaction.generations.running(5)] == ["generation-1"]


def test_old_ones_are_forgotten_with_what_they_found(added: Database) -> None:
    claim(added, "first")
    with added.transaction() as transaction:
        transaction.generations.add_findings("generation-1", "first", 0, [FOUND], COUNTS)
        transaction.generations.forget(NONE)
        transaction.generations.succeed("generation-1", "first", "")
        transaction.generations.forget(LONG)
    assert stored(added).id == "generation-1"
    with added.transaction() as transaction:
        transaction.generations.forget(NONE)
        transaction.generations.add(Generation("generation-1", REQUEST))
    assert found(added) == []


def test_the_backlog_holds_what_nobody_has_begun(added: Database) -> None:
    with added.reading() as transaction:
        waiting = transaction.generations.backlog()
    assert waiting.count == 1
    assert 0 <= waiting.oldest_seconds < 60
    assert claim(added, "worker")
    with added.reading() as transaction:
        assert transaction.generations.backlog() == Backlog()
