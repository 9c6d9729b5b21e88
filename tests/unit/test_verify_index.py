"""Verification finds what is missing, stale or orphaned in any index, tells it from what a job will settle, and mends it."""

from dataclasses import replace

import pytest

from server.domain.compounds import point_id
from server.domain.libraries import Library
from server.domain.models import ModelState
from server.jobs import IndexCompounds
from server.usecases import verify_index
from server.usecases.index_structures import structure_entry
from server.usecases.manage_libraries import delete_compound
from server.usecases.reindex_compounds import start_reindex
from server.usecases.track_operations import run_job
from server.usecases.verify_index import Finding, leftovers, verify
from tests.builders import import_rows, row
from tests.fakes import FakeEncoder
from tests.fakes_index import FakeIndex
from tests.unit.conftest import World

ROWS = [row(i + 1, "C" * (i + 1) + "O", f"A:{i}", f"alcohol {i}") for i in range(12)]
ETHANOL = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
METHANOL = "OKKJLVBELUTLKV-UHFFFAOYSA-N"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_index, "SECOND_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(verify_index, "PAGE", 5)


@pytest.fixture
def library(world: World) -> World:
    """Twelve compounds, indexed."""
    import_rows(world.ports, ROWS)
    world.work()
    return world


def wrong(world: World, **options: bool) -> list[Finding]:
    return [finding for finding in verify(world.ports, **options) if finding.wrong]


def test_what_agrees_is_said_to_agree(library: World) -> None:
    findings = list(verify(library.ports))
    assert [(each.index, each.library, each.compounds, each.wrong) for each in findings] == [
        ("model fake", "lib", 12, 0),
        ("structures", "lib", 12, 0),
    ]


def test_a_missing_point_is_found_and_indexed_again(library: World) -> None:
    library.index.delete([point_id("lib", ETHANOL)])
    (found,) = wrong(library)
    assert (found.missing.count, found.missing.examples, found.stale.count, found.orphaned.count) == (1, [ETHANOL], 0, 0)
    wrong(library, repair=True)
    assert library.queue.jobs == [IndexCompounds("lib", (ETHANOL,), "fake")]
    library.work()
    assert wrong(library) == []
    assert library.index.count() == 12


def test_repairs_are_done_here_when_nobody_takes_jobs(library: World) -> None:
    library.index.delete([point_id("lib", ETHANOL)])
    library.structures.delete([point_id("lib", METHANOL)])
    assert {finding.index for finding in wrong(library, repair=True, here=True)} == {"model fake", "structures"}
    assert library.queue.jobs == []
    assert wrong(library) == []


def test_a_point_of_an_older_revision_is_stale(library: World) -> None:
    library_points = dict(library.index._points)
    import_rows(library.ports, [row(1, "CCO", "A:1", "ethanol", "now with a description")])
    library.work()
    id = point_id("lib", ETHANOL)
    # As after restoring an older copy of the index.
    library.index.upsert([library_points[id]])
    (found,) = wrong(library)
    assert (found.stale.count, found.stale.examples) == (1, [ETHANOL])
    wrong(library, repair=True, here=True)
    assert wrong(library) == []


def test_orphans_are_found_by_name_and_removed(library: World) -> None:
    point = library.index._points[point_id("lib", ETHANOL)]
    delete_compound("lib", ETHANOL, library.ports)
    library.index.upsert([point])
    (found,) = wrong(library)
    assert (found.orphaned.count, found.orphaned.examples) == (1, [ETHANOL])
    wrong(library, repair=True)
    assert library.index.count() == 11
    assert wrong(library) == []


def test_points_of_a_library_that_is_gone_are_orphans_of_no_library(library: World) -> None:
    point = library.index._points[point_id("lib", ETHANOL)]
    stray = replace(point, id=point_id("gone", ETHANOL), library="gone", document=point.document.replace('"lib"', '"gone"'))
    library.index.upsert([stray])
    (found,) = wrong(library)
    assert (found.library, found.orphaned.count, found.orphaned.examples) == ("", 1, [f"gone/{ETHANOL}"])
    wrong(library, repair=True)
    assert library.index.count() == 12


def test_structures_without_a_compound_are_orphans(library: World) -> None:
    with library.ports.database.reading() as transaction:
        entry = structure_entry(transaction.compounds.get("lib", ETHANOL))
    delete_compound("lib", ETHANOL, library.ports)
    library.structures.upsert([entry])
    (found,) = wrong(library)
    assert (found.index, found.orphaned.count) == ("structures", 1)
    wrong(library, repair=True)
    assert wrong(library) == []


def test_what_a_job_will_settle_is_waiting_not_wrong(library: World) -> None:
    import_rows(library.ports, [row(1, "CCCl", "B:1", "chloroethane")])
    job = library.queue.jobs.pop(0)
    run_job(job, library.ports)
    finding = next(verify(library.ports))
    assert (finding.waiting, finding.wrong) == (1, 0)
    with library.ports.database.transaction() as transaction:
        # Its vector is about to be removed.
        transaction.compounds.mark_deleted("lib", ETHANOL)
    assert wrong(library) == []


def test_compounds_that_cannot_be_encoded_are_listed_and_not_wrong(library: World) -> None:
    with library.ports.database.transaction() as transaction:
        transaction.compounds.mark_refused("lib", ETHANOL, 1, "fake", "CRASHED: it kills.")
    library.index.delete([point_id("lib", ETHANOL)])
    finding = next(verify(library.ports))
    assert (finding.refused.count, finding.refused.examples, finding.wrong) == (1, [f"{ETHANOL} (CRASHED: it kills.)"], 0)


def test_every_live_model_is_looked_at_and_forgotten_indexes_are_named(library: World) -> None:
    library.places.add(FakeEncoder("second", dimension=16))
    start_reindex("/models/second", library.ports)
    library.work()
    library.places.indexes["second"].delete([point_id("lib", ETHANOL)])
    assert [(finding.index, finding.missing.count) for finding in wrong(library)] == [("model second", 1)]
    library.places.indexes["former"] = FakeIndex("former", 8)
    assert leftovers(library.ports) == ["former"]
    with library.ports.database.transaction() as transaction:
        transaction.models.put(replace(transaction.models.get("second"), state=ModelState.DELETING))
    assert leftovers(library.ports) == ["former"]


def test_a_library_without_compounds_agrees(world: World) -> None:
    with world.ports.database.transaction() as transaction:
        transaction.libraries.add(Library("empty"))
    assert [finding.compounds for finding in verify(world.ports)] == [0, 0]
