"""A second model beside the serving one: filled while imports go on, compared, activated, rolled back, deleted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.adapters.live_models import LiveModels
from server.domain.compounds import point_id
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState
from server.domain.search import Query
from server.jobs import EmbedCompounds, FillIndex, IndexCompounds
from server.ports import VectorIndex
from server.usecases import manage_models, reindex_compounds
from server.usecases.manage_libraries import delete_compound, delete_library
from server.usecases.manage_models import activate_model, compare_models, delete_model, get_model, list_models, settle_serving
from server.usecases.reindex_compounds import cancel_reindex, get_reindex, start_reindex
from server.usecases.search_compounds import search_compounds
from server.usecases.track_operations import run_job, sweep
from tests.builders import import_rows, row
from tests.fakes import FakeEncoder
from tests.unit.conftest import World

ROWS = [row(i + 1, "C" * (i + 1) + "O", f"A:{i}", f"alcohol {i}", f"a chain of {i} and its hydroxyl") for i in range(20)]
ETHANOL = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"


class OtherEncoder(FakeEncoder):
    """Another opinion of the same words."""

    def __init__(self, version: str = "second") -> None:
        super().__init__(version, dimension=32)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage_models, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(manage_models, "GRACE_SECONDS", 0.0)


@pytest.fixture
def filled(world: World) -> World:
    """A library in the serving model, and another checkpoint at hand."""
    import_rows(world.ports, ROWS)
    world.work()
    world.places.add(OtherEncoder())
    return world


def second(world: World) -> VectorIndex:
    return world.places.indexes["second"]


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(AtomasError) as caught:
        call()
    return caught.value.reason


def forget_opened(world: World) -> None:
    """As after a restart."""
    models = world.ports.models
    assert isinstance(models, LiveModels)
    models.close()


def reindexed(world: World) -> World:
    start_reindex("/models/second", world.ports)
    world.work()
    return world


def states(world: World) -> dict[str, ModelState]:
    return {model.version: model.state for model, _ in list_models(world.ports)}


def test_a_fill_gives_every_compound_a_vector_of_the_second_model(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex_compounds, "FILL_BATCH", 3)
    monkeypatch.setattr(reindex_compounds, "BATCHES_PER_STEP", 2)
    begun = start_reindex("/models/second", filled.ports)
    assert (begun.done, begun.indexed_count, begun.compound_count) == (False, 0, 20)
    assert get_model("second", filled.ports)[0].state is ModelState.FILLING
    filled.work()
    assert sorted(second(filled).ids()) == sorted(filled.index.ids())
    ended = get_reindex(begun.id, filled.ports)
    assert (ended.done, ended.cancelled, ended.indexed_count) == (True, False, 20)
    assert [(model.version, count) for model, count in list_models(filled.ports)] == [("fake", 20), ("second", 20)]
    assert states(filled) == {"fake": ModelState.SERVING, "second": ModelState.READY}


def test_progress_and_the_time_left_are_told_while_a_fill_goes_on(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex_compounds, "FILL_BATCH", 5)
    begun = start_reindex("/models/second", filled.ports)
    assert begun.time_left(datetime.now(UTC)) is None
    while get_reindex(begun.id, filled.ports).indexed_count < 10:
        run_job(filled.queue.jobs.pop(0), filled.ports)
    half = get_reindex(begun.id, filled.ports)
    assert half.model.create_time is not None
    left = half.time_left(half.model.create_time + timedelta(seconds=30))
    assert left == timedelta(seconds=30)


def test_asking_twice_is_one_fill(filled: World) -> None:
    first = start_reindex("/models/second", filled.ports)
    assert start_reindex("/models/second", filled.ports).id == first.id
    assert filled.queue.jobs == [FillIndex("second", 1, 0)]
    filled.work()
    assert start_reindex("/models/second", filled.ports).done


@pytest.mark.parametrize(
    ("path", "reason"), [("models/second", Reason.INVALID_ARGUMENT), ("/models/nothing-here", Reason.INVALID_ARGUMENT)]
)
def test_a_folder_without_a_checkpoint_is_refused(filled: World, path: str, reason: Reason) -> None:
    assert refusal(lambda: start_reindex(path, filled.ports)) is reason
    assert list(states(filled)) == ["fake"]


def test_an_index_is_not_ready_while_other_workers_still_fill_it(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex_compounds, "SETTLING_SECONDS", 0.0)
    fill = start_reindex("/models/second", filled.ports)
    run_job(filled.queue.jobs.pop(0), filled.ports)
    elsewhere = [job for job in filled.queue.jobs if isinstance(job, IndexCompounds)]
    for _ in range(10):
        (step,) = (job for job in filled.queue.jobs if isinstance(job, FillIndex))
        filled.queue.jobs = []
        run_job(step, filled.ports)
        assert not get_reindex(fill.id, filled.ports).done
    filled.queue.jobs += elsewhere
    filled.work()
    assert get_reindex(fill.id, filled.ports).done


def test_an_index_is_ready_though_imports_never_pause(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex_compounds, "SETTLING_SECONDS", 0.0)
    fill = start_reindex("/models/second", filled.ports)
    for number in range(12):
        # Read, and indexed for the serving model alone so far.
        import_rows(filled.ports, [row(1, "N" + "C" * (number + 1), f"N:{number}")])
        steps = [job for job in filled.queue.jobs if not isinstance(job, EmbedCompounds)]
        filled.queue.jobs = []
        with monkeypatch.context() as patched:
            patched.setattr(filled.ports.queue, "send", filled.queue.jobs.append)
            for job in steps:
                run_job(job, filled.ports)
        if get_reindex(fill.id, filled.ports).done:
            break
    assert get_reindex(fill.id, filled.ports).done


def test_both_indexes_receive_what_is_imported_during_and_after_a_fill(filled: World) -> None:
    start_reindex("/models/second", filled.ports)
    import_rows(filled.ports, [row(1, "CCCCCCN", "B:1", "an amine")])
    filled.work()
    assert second(filled).count() == filled.index.count() == 21
    import_rows(filled.ports, [row(1, "CCCCCCCN", "B:2", "another amine")])
    filled.work()
    activate_model("second", filled.ports)
    import_rows(filled.ports, [row(1, "CCCCCCCCN", "B:3", "a third")])
    filled.work()
    assert second(filled).count() == filled.index.count() == 23


def test_deletions_leave_both_indexes(filled: World) -> None:
    reindexed(filled)
    delete_compound("lib", ETHANOL, filled.ports)
    for index in (filled.index, second(filled)):
        assert index.documents([point_id("lib", ETHANOL)]) == {}
        assert index.count() == 19
    delete_library("lib", True, filled.ports)
    filled.work()
    assert second(filled).count() == filled.index.count() == 0


def test_a_second_model_that_cannot_encode_holds_no_import_up_and_the_sweep_makes_up_for_it(filled: World) -> None:
    reindexed(filled)
    absent = filled.places.encoders.pop("second")
    forget_opened(filled)
    import_rows(filled.ports, [row(1, "CCCCCCN", "B:1", "an amine")])
    filled.work()
    assert (filled.index.count(), second(filled).count()) == (21, 20)
    filled.places.encoders["second"] = absent
    sweep(filled.ports)
    assert filled.queue.jobs == [IndexCompounds("lib", ("BMVXCPBXGZKUPN-UHFFFAOYSA-N",), "second")]
    filled.work()
    assert second(filled).count() == 21


def test_calls_follow_the_switch_and_the_way_back(filled: World) -> None:
    reindexed(filled)
    models = filled.ports.models
    with models.pinned():
        activate_model("second", filled.ports)
        # What began with the former model ends with it.
        assert models.serving() == "fake"
    assert models.serving() == "second"
    assert states(filled) == {"second": ModelState.SERVING, "fake": ModelState.RETIRED}
    activate_model("fake", filled.ports)
    assert models.serving() == "fake"
    assert states(filled) == {"fake": ModelState.SERVING, "second": ModelState.RETIRED}


def test_a_call_that_began_with_a_model_ends_with_it_though_it_is_deleted(filled: World) -> None:
    reindexed(filled)
    models = filled.ports.models
    with models.pinned():
        encoder = models.encoder(models.serving())
        activate_model("second", filled.ports)
        delete_model("fake", filled.ports)
        models.refresh()
        assert models.serving() == "fake"
        assert models.encoder(models.serving()) is encoder
        assert models.index(models.serving()).count() == 20
    filled.work()
    assert "fake" not in filled.places.indexes


def test_a_model_that_is_not_filled_cannot_be_activated_or_compared(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start_reindex("/models/second", filled.ports)
    assert refusal(lambda: activate_model("second", filled.ports)) is Reason.MODEL_NOT_READY
    assert refusal(lambda: compare_models("second", [], 3, filled.ports)) is Reason.MODEL_NOT_READY
    assert refusal(lambda: activate_model("third", filled.ports)) is Reason.MODEL_NOT_FOUND
    filled.work()
    monkeypatch.setattr(manage_models, "MOST_MISSING", 2)
    with filled.ports.database.transaction() as transaction:
        keys = [compound.inchikey for compound in transaction.compounds.page("lib", "", 3)]
        transaction.compounds.forget_indexed("lib", keys, "second")
    assert refusal(lambda: activate_model("second", filled.ports)) is Reason.MODEL_NOT_READY


def test_a_model_that_nobody_can_load_is_not_activated(filled: World) -> None:
    reindexed(filled)
    filled.places.encoders.pop("second")
    forget_opened(filled)
    assert refusal(lambda: activate_model("second", filled.ports)) is Reason.ENCODER_UNAVAILABLE
    assert filled.ports.models.serving() == "fake"


def test_comparisons_say_what_each_model_answers(filled: World) -> None:
    reindexed(filled)
    found = compare_models("second", ["a chain of 3"], 5, filled.ports)
    assert [each.text for each in found] == ["a chain of 3"]
    page = search_compounds(Query(library=None, text="a chain of 3", limit=5), "", filled.ports, max_text_characters=100)
    assert list(found[0].former) == [("lib", hit.compound.inchikey) for hit in page.hits]
    assert 0 <= found[0].overlap <= 1
    assert all(each.overlap == 1 for each in compare_models("fake", [], 5, filled.ports))
    with filled.ports.database.reading() as transaction:
        names = {compound.display_name for compound in transaction.compounds.page("lib", "", 100)}
    assert {each.text for each in compare_models("second", [], 5, filled.ports)} <= names


def test_the_serving_model_cannot_be_deleted_and_another_can(filled: World) -> None:
    reindexed(filled)
    assert refusal(lambda: delete_model("fake", filled.ports)) is Reason.MODEL_NOT_READY
    delete_model("second", filled.ports)
    assert list(states(filled)) == ["fake"]
    assert refusal(lambda: get_model("second", filled.ports)) is Reason.MODEL_NOT_FOUND
    filled.work()
    assert "second" not in filled.places.indexes
    with filled.ports.database.reading() as transaction:
        assert transaction.models.get("second").state is ModelState.DELETED
        assert len(transaction.compounds.unindexed("second", 100)) == 20
    # And filled again, from nothing.
    reindexed(filled)
    assert second(filled).count() == 20


def test_a_deletion_whose_job_was_lost_is_swept(filled: World) -> None:
    reindexed(filled)
    delete_model("second", filled.ports)
    filled.queue.lose_all()
    sweep(filled.ports)
    filled.work()
    assert "second" not in filled.places.indexes


def test_a_cancelled_fill_is_removed(filled: World) -> None:
    fill = start_reindex("/models/second", filled.ports)
    cancelled = cancel_reindex(fill.id, filled.ports)
    assert (cancelled.done, cancelled.cancelled) == (True, True)
    filled.work()
    assert "second" not in filled.places.indexes
    assert get_reindex(fill.id, filled.ports).cancelled


def test_a_fill_that_lost_its_job_is_taken_up_again(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = start_reindex("/models/second", filled.ports)
    former = filled.queue.jobs[0]
    filled.queue.lose_all()
    sweep(filled.ports)
    assert filled.queue.jobs == []
    monkeypatch.setattr(reindex_compounds, "STALL_SECONDS", 0.0)
    sweep(filled.ports)
    assert filled.queue.jobs == [FillIndex("second", 2, 0)]
    # The one that was believed lost comes late and ends at once.
    filled.queue.jobs.insert(0, former)
    filled.work()
    assert get_reindex(fill.id, filled.ports).done
    assert second(filled).count() == 20


def test_what_is_unknown_is_no_operation(filled: World) -> None:
    assert refusal(lambda: get_reindex("reindex-nothing", filled.ports)) is Reason.OPERATION_NOT_FOUND


def test_the_database_says_who_serves_and_a_lost_checkpoint_gives_way(world: World) -> None:
    database = world.ports.database
    other = OtherEncoder().model
    assert settle_serving(other, "", lambda model: True, database).version == "fake"
    assert settle_serving(other, "/models/second", lambda model: False, database).version == "second"
    with database.reading() as transaction:
        assert {model.version: model.state for model in transaction.models.all()} == {
            "fake": ModelState.DELETING,
            "second": ModelState.SERVING,
        }


def test_a_model_of_before_is_told_of_its_fragments_when_the_service_starts(world: World) -> None:
    known = replace(world.encoder.model, fragment_dimension=16)
    assert settle_serving(known, "", lambda model: True, world.ports.database).model == known
    with world.ports.database.reading() as transaction:
        assert transaction.models.get(known.version).model == known
