"""A job that kills whoever does it is not done for ever: what is at fault is named, everything else goes on."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from encoder.molecules import Molecule, MoleculeError, Structure
from server.domain.errors import AtomasError, Reason
from server.domain.operations import State
from server.jobs import EmbedCompounds, IndexCompounds, Job, ReadChunk
from server.ports import Database
from server.usecases import bury_jobs, watch_jobs
from server.usecases.track_operations import get_operation, give_up, list_rejections, run_job, sweep
from tests.builders import import_rows, row
from tests.unit.conftest import World

ROWS = [row(i + 1, "C" * (i + 1) + "O", f"A:{i}", f"alcohol {i}") for i in range(8)]
POISON = "CCCCCO"


class KilledError(BaseException):
    """Stands for the end of the process: no code of the service runs after it."""


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started and did not end is dead at once; nothing tidies up after a death."""
    monkeypatch.setattr(watch_jobs, "SILENT_SECONDS", 0.0)
    end = watch_jobs._end

    def unless_dead(key: str, start: str | None, database: Database) -> None:
        if sys.exc_info()[0] is not KilledError:
            end(key, start, database)

    monkeypatch.setattr(watch_jobs, "_end", unless_dead)


@pytest.fixture
def deadly(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Encoding one of the compounds kills."""
    encode = world.encoder.encode_molecules

    def kill(smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        if POISON in smiles:
            raise KilledError
        return encode(smiles, timeout_seconds)

    monkeypatch.setattr(world.encoder, "encode_molecules", kill)
    return world


def work(world: World, rounds: int = 60) -> int:
    """Workers that die and are started again, and the sweep; returns how many died."""
    deaths = 0
    for _ in range(rounds):
        while world.queue.jobs:
            try:
                run_job(world.queue.jobs.pop(0), world.ports)
            except KilledError:
                deaths += 1
        if not sweep(world.ports):
            break
    return deaths


def test_a_chunk_that_kills_its_readers_is_rejected_row_by_row_and_the_import_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    standardise = world.ports.chemistry.standardise_many

    def kill(structures: Sequence[Structure]) -> list[Molecule | MoleculeError]:
        if any(structure.text == POISON for structure in structures):
            raise KilledError
        return standardise(structures)

    monkeypatch.setattr(world.ports.chemistry, "standardise_many", kill)
    operation = import_rows(world.ports, ROWS, chunk=2)
    assert work(world) == watch_jobs.MOST_DEATHS
    ended = get_operation(operation.id, world.ports)
    assert ended.state is State.SUCCEEDED
    assert ended.counts.rejected_by_reason == {"CRASHED": 2}
    assert ended.counts.created == 6
    assert [each.position for each in list_rejections(operation.id, 0, 10, world.ports)] == [5, 6]
    assert "killed" in list_rejections(operation.id, 0, 10, world.ports)[0].message


def test_a_compound_that_kills_its_encoders_is_found_and_noted_and_the_others_are_indexed(
    deadly: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bury_jobs, "PARTS", 2)
    operation = import_rows(deadly.ports, ROWS, chunk=8)
    deaths = work(deadly)
    # At most three for each list it is in: the chunk, four, two, itself.
    assert deaths <= 4 * watch_jobs.MOST_DEATHS
    assert get_operation(operation.id, deadly.ports).state is State.SUCCEEDED
    assert deadly.index.count() == 7
    with deadly.ports.database.reading() as transaction:
        refused = [entry for entry in transaction.compounds.entries("lib", "fake", "", 100) if entry.error]
        assert [transaction.compounds.get("lib", entry.inchikey).structure.smiles for entry in refused] == [POISON]
    assert "killed" in refused[0].error
    assert sweep(deadly.ports) == 0


def test_a_compound_that_was_refused_is_tried_again_when_it_changes(deadly: World) -> None:
    import_rows(deadly.ports, ROWS, chunk=8)
    work(deadly)
    import_rows(deadly.ports, [row(1, POISON, "B:1", "another name for it")])
    assert work(deadly) >= watch_jobs.MOST_DEATHS


def test_compounds_that_cannot_be_encoded_are_given_up_one_by_one(world: World) -> None:
    import_rows(world.ports, ROWS[:2])
    world.work()
    with world.ports.database.transaction() as transaction:
        keys = tuple(compound.inchikey for compound in transaction.compounds.page("lib", "", 10))
        transaction.compounds.forget_indexed("lib", keys, "fake")
    give_up(IndexCompounds("lib", keys), Reason.INTERNAL, "It failed.", world.ports)
    assert world.queue.jobs == [IndexCompounds("lib", (key,)) for key in keys]
    world.queue.lose_all()
    for key in keys:
        give_up(IndexCompounds("lib", (key,)), Reason.INTERNAL, "It failed.", world.ports)
    assert sweep(world.ports) == 0
    with world.ports.database.reading() as transaction:
        assert [entry.error for entry in transaction.compounds.entries("lib", "fake", "", 10)] == ["INTERNAL: It failed."] * 2


@pytest.mark.parametrize(
    "job", [ReadChunk("gone", 0), EmbedCompounds("gone", 0), IndexCompounds("gone", ("A",)), IndexCompounds("gone", ("A", "B"))]
)
def test_burying_what_is_gone_is_no_error(world: World, job: Job) -> None:
    for number in range(watch_jobs.MOST_DEATHS):
        with world.ports.database.transaction() as transaction:
            transaction.job_starts.begin(watch_jobs._key(job), f"start {number}", 0.0)
    run_job(job, world.ports)


def test_failures_that_leave_the_worker_alive_do_not_count_as_deaths(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = import_rows(world.ports, ROWS[:2])
    job = world.queue.jobs.pop()

    def fail(structures: Sequence[Structure]) -> list[Molecule | MoleculeError]:
        raise AtomasError(Reason.DATABASE_UNAVAILABLE, "away")

    with monkeypatch.context() as patched:
        patched.setattr(world.ports.chemistry, "standardise_many", fail)
        for _ in range(2 * watch_jobs.MOST_DEATHS):
            with pytest.raises(AtomasError):
                run_job(job, world.ports)
    run_job(job, world.ports)
    assert get_operation(operation.id, world.ports).counts.rejected == 0


def test_whoever_still_shows_signs_of_life_is_not_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_jobs, "SILENT_SECONDS", 60.0)
    operation = import_rows(world.ports, ROWS[:2])
    job = world.queue.jobs[0]
    for number in range(2 * watch_jobs.MOST_DEATHS):
        with world.ports.database.transaction() as transaction:
            transaction.job_starts.begin(watch_jobs._key(job), f"another worker {number}", 60.0)
    world.work()
    assert get_operation(operation.id, world.ports).counts.created == 2
