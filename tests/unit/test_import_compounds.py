"""Import: every row ends with a verdict, nothing acknowledged is lost, nothing happens twice."""

import uuid
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from server.domain.compounds import point_id
from server.domain.errors import AtomasError, Reason
from server.domain.operations import State
from server.jobs import FillStructures, IndexCompounds, RemoveDeleted
from server.usecases.import_compounds import accept_rows, finish_import, start_import
from server.usecases.manage_libraries import delete_compound, get_compound, get_library
from server.usecases.track_operations import cancel_operation, get_operation, list_rejections, run_job, sweep
from tests.builders import import_rows, row
from tests.unit.conftest import World

ETHANOL = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
ROWS = [
    row(1, "CCO", "A:1", "ethanol", "a primary alcohol"),
    row(2, "not a smiles"),
    row(3, "OCC", "A:2", "alcohol"),
    row(4, "", "A:3"),
    row(5, "line 5 is no JSON", kind="unreadable"),
    row(6, "c1ccccc1", "A:4", "benzene", year=1825, source="x", tags=["solvent", "aromatic"]),
    row(7, "OCC", "A:2", "alcohol"),
]


def test_every_row_ends_with_a_verdict(world: World) -> None:
    operation = import_rows(world.ports, ROWS)
    assert operation.state is State.PROCESSING
    world.work()
    done = get_operation(operation.id, world.ports)
    assert done.state is State.SUCCEEDED
    counts = done.counts
    assert (counts.received, counts.created, counts.updated, counts.duplicate, counts.rejected) == (7, 2, 1, 1, 3)
    assert dict(counts.rejected_by_reason) == {"INVALID_SMILES": 1, "EMPTY": 1, "UNREADABLE": 1}
    assert [r.position for r in list_rejections(operation.id, 0, 10, world.ports)] == [2, 4, 5]
    assert [r.position for r in list_rejections(operation.id, 2, 1, world.ports)] == [4]


def test_spellings_of_one_molecule_become_one_compound_that_keeps_both_records(world: World) -> None:
    import_rows(world.ports, ROWS)
    world.work()
    compound = get_compound("lib", ETHANOL, world.ports)
    assert (compound.display_name, compound.synonyms, compound.source_ids) == ("ethanol", ("alcohol",), ("A:1", "A:2"))
    assert get_library("lib", world.ports).compound_count == 2
    assert world.index.count() == 2


def test_importing_again_changes_nothing_and_says_so(world: World) -> None:
    import_rows(world.ports, ROWS)
    world.work()
    before, calls = get_compound("lib", ETHANOL, world.ports), world.encoder.calls
    again = import_rows(world.ports, ROWS)
    world.work()
    counts = get_operation(again.id, world.ports).counts
    assert (counts.created, counts.updated, counts.duplicate) == (0, 0, 4)
    assert get_compound("lib", ETHANOL, world.ports) == before
    assert world.encoder.calls == calls


def test_a_changed_record_updates_the_compound_and_its_point(world: World) -> None:
    import_rows(world.ports, [row(1, "CCO", "A:1", "ethanol")])
    world.work()
    operation = import_rows(world.ports, [row(1, "CCO", "A:1", "ethyl alcohol")])
    world.work()
    assert get_operation(operation.id, world.ports).counts.updated == 1
    assert get_compound("lib", ETHANOL, world.ports).display_name == "ethyl alcohol"
    assert world.index.ids("lib").__next__() == point_id("lib", ETHANOL)


def test_jobs_that_were_lost_are_found_by_the_sweep(world: World) -> None:
    operation = import_rows(world.ports, ROWS)
    world.queue.lose_all()
    assert sweep(world.ports) > 0
    world.work()
    assert get_operation(operation.id, world.ports).state is State.SUCCEEDED
    assert sweep(world.ports) == 0


def test_a_job_done_twice_counts_once(world: World) -> None:
    operation = import_rows(world.ports, ROWS)
    world.queue.jobs = [job for job in world.queue.jobs for _ in range(2)]
    world.work()
    assert get_operation(operation.id, world.ports).counts.created == 2


def test_a_stream_that_broke_goes_on_from_the_acknowledged_row(world: World) -> None:
    request = str(uuid.uuid4())
    first = start_import("lib", request, "file", True, world.ports)
    assert accept_rows(first.id, 0, ROWS[:3], world.ports) == 3
    resumed = start_import("lib", request, "file", True, world.ports)
    assert (resumed.id, resumed.counts.received) == (first.id, 3)
    assert accept_rows(resumed.id, 2, ROWS[2:], world.ports) == 7
    assert accept_rows(resumed.id, 0, ROWS[:2], world.ports) == 7
    finish_import(resumed.id, 7, world.ports)
    world.work()
    assert get_operation(first.id, world.ports).counts.received == 7


def test_a_gap_in_the_rows_is_refused(world: World) -> None:
    operation = start_import("lib", str(uuid.uuid4()), "", True, world.ports)
    with pytest.raises(AtomasError) as caught:
        accept_rows(operation.id, 5, ROWS[:1], world.ports)
    assert caught.value.reason is Reason.IMPORT_GAP
    assert caught.value.details["acknowledged_rows"] == "0"


def test_finishing_before_all_rows_have_arrived_is_refused(world: World) -> None:
    operation = start_import("lib", str(uuid.uuid4()), "", True, world.ports)
    with pytest.raises(AtomasError) as caught:
        finish_import(operation.id, 1, world.ports)
    assert caught.value.reason is Reason.IMPORT_INCOMPLETE


def test_rows_after_the_end_are_refused(world: World) -> None:
    operation = import_rows(world.ports, ROWS[:1])
    with pytest.raises(AtomasError) as caught:
        accept_rows(operation.id, 1, ROWS[1:2], world.ports)
    assert caught.value.reason is Reason.IMPORT_CLOSED


def test_an_import_without_rows_succeeds_at_once(world: World) -> None:
    assert import_rows(world.ports, []).state is State.SUCCEEDED


def test_a_missing_library_is_made_only_when_asked(world: World) -> None:
    with pytest.raises(AtomasError) as caught:
        start_import("lib", str(uuid.uuid4()), "", False, world.ports)
    assert caught.value.reason is Reason.LIBRARY_NOT_FOUND


@pytest.mark.parametrize("library", ["", "UPPER", "-x", "a/b", "a" * 64])
def test_a_library_id_that_is_none_is_refused(world: World, library: str) -> None:
    with pytest.raises(AtomasError) as caught:
        start_import(library, str(uuid.uuid4()), "", True, world.ports)
    assert caught.value.reason is Reason.INVALID_NAME


def test_a_request_id_must_be_a_uuid(world: World) -> None:
    with pytest.raises(AtomasError) as caught:
        start_import("lib", "import 1", "", True, world.ports)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_a_cancelled_import_keeps_what_was_made_and_makes_no_more(world: World) -> None:
    operation = import_rows(world.ports, ROWS, chunk=1)
    world.queue.jobs = world.queue.jobs[:1]
    world.work()
    assert cancel_operation(operation.id, world.ports).state is State.CANCELLED
    sweep(world.ports)
    world.work()
    done = get_operation(operation.id, world.ports)
    assert (done.state, done.counts.created) == (State.CANCELLED, 1)
    assert get_compound("lib", ETHANOL, world.ports).display_name == "ethanol"
    assert world.index.count() == 1


def test_a_full_disk_refuses_rows_and_loses_none(world: World) -> None:
    operation = start_import("lib", str(uuid.uuid4()), "", True, world.ports)
    accept_rows(operation.id, 0, ROWS[:2], world.ports)
    world.storage.full = True
    with pytest.raises(AtomasError) as caught:
        accept_rows(operation.id, 2, ROWS[2:], world.ports)
    assert caught.value.reason is Reason.DISK_FULL
    world.storage.full = False
    assert accept_rows(operation.id, 2, ROWS[2:], world.ports) == 7
    finish_import(operation.id, 7, world.ports)
    world.work()
    assert get_operation(operation.id, world.ports).state is State.SUCCEEDED


def test_a_molecule_beyond_the_models_length_is_rejected_and_others_pass(world: World) -> None:
    operation = import_rows(world.ports, [row(1, "C" * 990), row(2, "C" * 400 + "[13CH2]" * 200 + "C"), row(3, "CCO")])
    world.work()
    counts = get_operation(operation.id, world.ports).counts
    assert (counts.created, counts.rejected, dict(counts.rejected_by_reason)) == (2, 1, {"TOO_LARGE": 1})


def test_a_text_beyond_the_models_length_is_shortened_and_counted(world: World) -> None:
    operation = import_rows(world.ports, [row(1, "CCO", "A:1", "ethanol", "word " * 2_000)])
    world.work()
    assert get_operation(operation.id, world.ports).counts.shortened_texts == 1
    assert world.index.count() == 1


def test_the_sweep_has_compounds_of_a_cancelled_import_indexed(world: World) -> None:
    operation = import_rows(world.ports, ROWS, chunk=7)
    run_job(world.queue.jobs.pop(0), world.ports)
    world.queue.lose_all()
    cancel_operation(operation.id, world.ports)
    assert world.index.count() == 0
    assert sweep(world.ports) == 2
    assert [type(job) for job in world.queue.jobs] == [IndexCompounds, FillStructures]
    world.work()
    assert world.index.count() == 2
    assert sweep(world.ports) == 0


def test_the_sweep_finishes_a_deletion_that_was_interrupted(world: World) -> None:
    import_rows(world.ports, ROWS)
    world.work()
    with world.ports.database.transaction() as transaction:
        transaction.compounds.mark_deleted("lib", ETHANOL)
    assert sweep(world.ports) == 1
    assert [type(job) for job in world.queue.jobs] == [RemoveDeleted]
    world.work()
    assert point_id("lib", ETHANOL) not in set(world.index.ids())
    assert sweep(world.ports) == 0


def update_meanwhile(world: World) -> None:
    import_rows(world.ports, [row(1, "CCO", "A:9", "spirit")])
    world.work()


def delete_meanwhile(world: World) -> None:
    delete_compound("lib", ETHANOL, world.ports)


@pytest.mark.parametrize(("change", "found"), [(update_meanwhile, ["spirit"]), (delete_meanwhile, [])])
def test_a_compound_that_changes_while_it_is_encoded_is_indexed_as_it_ends(
    world: World, change: Callable[[World], None], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import_rows(world.ports, ROWS[:1])
    run_job(world.queue.jobs.pop(0), world.ports)
    embed = world.queue.jobs.pop(0)
    encode, changes = world.encoder.encode_molecules, iter([change])

    def meanwhile(smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        for disturb in changes:
            disturb(world)
        return encode(smiles, timeout_seconds)

    monkeypatch.setattr(world.encoder, "encode_molecules", meanwhile)
    run_job(embed, world.ports)
    documents = world.index.documents([point_id("lib", ETHANOL)]).values()
    assert [name for document in documents for name in ("spirit",) if name in document] == found
    assert world.index.count() == len(found)
    assert sweep(world.ports) == 0


def test_an_import_whose_client_never_came_back_is_closed_and_keeps_what_it_sent(world: World) -> None:
    request = str(uuid.uuid4())
    operation = start_import("lib", request, "test", True, world.ports)
    accept_rows(operation.id, 0, [row(1, "CCO"), row(2, "CCN")], world.ports)
    # Rows that are still on their way keep it open, however long it was silent.
    sweep(world.ports, 0.0)
    assert get_operation(operation.id, world.ports).state is State.RECEIVING
    world.work()
    sweep(world.ports, 3600.0)
    assert get_operation(operation.id, world.ports).state is State.RECEIVING
    sweep(world.ports, 0.0)
    closed = get_operation(operation.id, world.ports)
    assert closed.state is State.FAILED
    assert closed.error is not None
    assert closed.error[0] == Reason.IMPORT_CLOSED
    assert closed.counts.created == closed.counts.indexed == 2
    # The client that comes back after all is told so.
    assert start_import("lib", request, "test", True, world.ports).state is State.FAILED
    with pytest.raises(AtomasError, match="Import the whole file again") as caught:
        accept_rows(operation.id, 2, [row(3, "CCC")], world.ports)
    assert caught.value.reason is Reason.IMPORT_CLOSED
