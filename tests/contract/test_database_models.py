"""Every database alike: models, compounds that were refused, what an index should hold, jobs that were begun, imports without a client."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.models import IndexEntry, ModelState, ModelVersion, StoredModel
from server.domain.operations import State
from server.ports import Database
from tests.contract.values import add_library, compound, inchikey, open_import


def stored(version: str, state: ModelState = ModelState.READY) -> StoredModel:
    return StoredModel(ModelVersion(version, 256, "1", 512, 128), state, f"/models/{version}", fill=1)


def put(database: Database, *models: StoredModel) -> None:
    for model in models:
        with database.transaction() as transaction:
            transaction.models.put(model)


def test_models_come_back_as_they_were_put_in_the_order_of_their_registration(database: Database) -> None:
    put(database, stored("b", ModelState.SERVING), stored("a", ModelState.FILLING))
    with database.reading() as transaction:
        found = transaction.models.all()
        assert [replace(each, create_time=None, update_time=None) for each in found] == [
            stored("b", ModelState.SERVING),
            stored("a", ModelState.FILLING),
        ]
        assert transaction.models.get("a") == found[1]
        assert found[0].create_time is not None
        with pytest.raises(AtomasError) as caught:
            transaction.models.get("c")
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


def test_a_model_is_replaced_and_keeps_its_birth(database: Database) -> None:
    put(database, stored("a", ModelState.FILLING))
    with database.transaction() as transaction:
        former = transaction.models.lock()[0]
        transaction.models.put(replace(former, state=ModelState.READY, end_time=datetime(2026, 1, 2, tzinfo=UTC)))
    with database.reading() as transaction:
        now = transaction.models.get("a")
    assert (now.state, now.create_time, now.end_time) == (ModelState.READY, former.create_time, datetime(2026, 1, 2, tzinfo=UTC))
    assert now.update_time is not None
    assert former.update_time is not None
    assert now.update_time > former.update_time


def test_one_model_serves_at_the_most(database: Database) -> None:
    put(database, stored("a", ModelState.SERVING), stored("b"))
    with pytest.raises(AtomasError) as caught:
        put(database, stored("b", ModelState.SERVING))
    assert caught.value.reason is Reason.DATABASE_UNAVAILABLE
    with database.transaction() as transaction:
        transaction.models.put(stored("a", ModelState.RETIRED))
        transaction.models.put(stored("b", ModelState.SERVING))
    with database.reading() as transaction:
        assert [each.state for each in transaction.models.all()] == [ModelState.RETIRED, ModelState.SERVING]


def test_progress_counts_for_the_fill_that_made_it_alone(database: Database) -> None:
    put(database, stored("a", ModelState.FILLING))
    with database.transaction() as transaction:
        assert transaction.models.add_filled("a", 1, 5)
        assert transaction.models.add_filled("a", 1, 2)
        assert not transaction.models.add_filled("a", 2, 100)
        assert not transaction.models.add_filled("b", 1, 100)
        assert transaction.models.get("a").filled == 7
        transaction.models.put(replace(transaction.models.get("a"), state=ModelState.READY))
        assert not transaction.models.add_filled("a", 1, 100)


def test_models_that_nobody_registered_are_not_listed(database: Database) -> None:
    add_library(database, compounds=1)
    with database.transaction() as transaction:
        transaction.compounds.mark_indexed("lib", {inchikey(0): 1}, "a structure index")
        assert transaction.models.all() == []
        with pytest.raises(AtomasError):
            transaction.models.get("a structure index")
    put(database, stored("a structure index"))
    with database.reading() as transaction:
        assert [each.version for each in transaction.models.all()] == ["a structure index"]
        assert transaction.compounds.unindexed("a structure index", 10) == []


@pytest.mark.parametrize("step", [1, 3, 100])
def test_what_an_index_holds_is_forgotten_in_steps(database: Database, step: int) -> None:
    add_library(database, compounds=7)
    revisions = {inchikey(number): 1 for number in range(7)}
    with database.transaction() as transaction:
        transaction.compounds.mark_indexed("lib", revisions, "a")
        transaction.compounds.mark_indexed("lib", revisions, "b")
    after: int | None = 0
    steps = 0
    while after is not None:
        with database.transaction() as transaction:
            after = transaction.models.forget_entries("a", after, step)
        steps += 1
        assert steps < 50
    with database.reading() as transaction:
        assert len(transaction.compounds.unindexed("a", 10)) == 7
        assert transaction.compounds.unindexed("b", 10) == []


def test_entries_say_what_an_index_should_hold(database: Database) -> None:
    add_library(database, compounds=4)
    with database.transaction() as transaction:
        transaction.compounds.mark_indexed("lib", {inchikey(0): 1, inchikey(1): 1}, "a")
        transaction.compounds.mark_indexed("lib", {inchikey(2): 1}, "b")
        transaction.compounds.get_many("lib", [inchikey(1)], for_update=True)
        transaction.compounds.save([replace(compound(1), revision=2)])
        transaction.compounds.mark_deleted("lib", inchikey(3))
    with database.reading() as transaction:
        found = transaction.compounds.entries("lib", "a", "", 10)
        assert found == [IndexEntry(inchikey(0), 1, 1), IndexEntry(inchikey(1), 2, 1), IndexEntry(inchikey(2), 1, None)]
        assert [entry.waiting for entry in found] == [False, True, True]
        assert transaction.compounds.entries("lib", "a", inchikey(0), 1) == found[1:2]
        assert transaction.compounds.entries("lib", "a", "", 10, [inchikey(2), inchikey(9)]) == found[2:]
        assert transaction.compounds.entries("nowhere", "a", "", 10) == []
        assert [entry.indexed for entry in transaction.compounds.entries("lib", "unheard of", "", 10)] == [None] * 3


def test_a_refused_compound_is_not_waited_for_until_it_changes(database: Database) -> None:
    add_library(database, compounds=2)
    with database.transaction() as transaction:
        transaction.compounds.mark_refused("lib", inchikey(0), 1, "a", "CRASHED: it kills.")
    with database.reading() as transaction:
        assert transaction.compounds.unindexed("a", 10) == [("lib", inchikey(1))]
        assert transaction.compounds.entries("lib", "a", "", 1)[0].error == "CRASHED: it kills."
    with database.transaction() as transaction:
        transaction.compounds.get_many("lib", [inchikey(0)], for_update=True)
        transaction.compounds.save([replace(compound(0), revision=2)])
    with database.transaction() as transaction:
        assert ("lib", inchikey(0)) in transaction.compounds.unindexed("a", 10)
        transaction.compounds.mark_indexed("lib", {inchikey(0): 2}, "a")
        assert transaction.compounds.entries("lib", "a", "", 1) == [IndexEntry(inchikey(0), 2, 2, "")]


def test_what_is_forgotten_is_waited_for_again(database: Database) -> None:
    add_library(database, compounds=2)
    with database.transaction() as transaction:
        for model in ("a", "b"):
            transaction.compounds.mark_indexed("lib", {inchikey(0): 1, inchikey(1): 1}, model)
        transaction.compounds.forget_indexed("lib", [inchikey(1), inchikey(7)], "a")
        transaction.compounds.forget_indexed("nowhere", [inchikey(1)], "a")
    with database.reading() as transaction:
        assert transaction.compounds.unindexed("a", 10) == [("lib", inchikey(1))]
        assert transaction.compounds.unindexed("b", 10) == []


def test_starts_that_fell_silent_are_counted_until_their_job_ends(database: Database) -> None:
    def begin(job: str, silent_seconds: float) -> int:
        with database.transaction() as transaction:
            return transaction.job_starts.begin(job, uuid.uuid4().hex, silent_seconds)

    assert [begin("job", 0.0) for _ in range(3)] == [0, 1, 2]
    assert begin("another job", 0.0) == 0
    assert begin("job", 60.0) == 0
    with database.transaction() as transaction:
        transaction.job_starts.begin("job", "mine", 0.0)
        transaction.job_starts.end("job", "mine")
    assert begin("job", 0.0) == 4
    with database.transaction() as transaction:
        transaction.job_starts.end("job")
    assert begin("job", 0.0) == 0


def test_signs_of_life_are_heard_and_old_starts_are_forgotten(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.job_starts.begin("job", "alive", 0.0)
    with database.transaction() as transaction:
        transaction.job_starts.beat("job", "alive")
        transaction.job_starts.beat("job", "ended already")
    with database.transaction() as transaction:
        transaction.job_starts.forget(60.0)
        assert transaction.job_starts.begin("job", "second", 0.0) == 1
    with database.transaction() as transaction:
        transaction.job_starts.forget(0.0)
    with database.transaction() as transaction:
        assert transaction.job_starts.begin("job", "third", 0.0) == 0


def test_an_import_is_idle_when_nothing_is_heard_of_it_and_nothing_is_left_to_do(database: Database) -> None:
    add_library(database)
    open_import(database, "silent")
    open_import(database, "busy", chunks=1)
    open_import(database, "finished")
    with database.transaction() as transaction:
        transaction.operations.set_state("finished", State.PROCESSING)
    with database.transaction() as transaction:
        assert transaction.operations.idle(60.0) == []
        assert transaction.operations.idle(0.0) == ["silent"]
        transaction.operations.mark_read("busy", 0, created=0, updated=0, duplicate=2, rejections=[], changed=[])
        transaction.operations.mark_indexed("busy", 0, 0)
    with database.reading() as transaction:
        assert transaction.operations.idle(0.0) == ["silent", "busy"]
