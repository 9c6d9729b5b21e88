"""kill -9 of every part of a fleet: every acknowledged row is a compound with its vector, once."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atomas import AtomasError, Client, OperationState, UnavailableError
from deploy.fleet import Fleet
from tests.faults.fleets import (
    Disturbed,
    Row,
    contents,
    kill_while,
    paused,
    real_compounds,
    running_fleet,
    stop_while,
    wait_for,
    wait_until_done,
)

ROWS = 240
CHUNK = 20
PATTERN = 'substructure("C(=O)O")'


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One fleet for every test of this file: each works in a library of its own, and leaves everything running."""
    with running_fleet("redis", job_resend_seconds="2") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return real_compounds(ROWS)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault shall meet chunks in every state."""
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", CHUNK)


@pytest.fixture(scope="module")
def undisturbed(fleet: Fleet, rows: list[Row]) -> dict[str, tuple[str, ...]]:
    """What an import that nothing disturbs ends with."""
    with Client(fleet.address) as client:
        client.import_compounds(rows, library="calm")
        return contents(client, "calm")


def kill_server(fleet: Fleet) -> None:
    fleet.server.kill()
    fleet.restart_server()


def kill_import_worker(fleet: Fleet) -> None:
    """With the verdicts made and not yet stored."""
    kill_while(fleet, "import", "compounds", "%FROM compounds%FOR UPDATE%")


def kill_index_worker(fleet: Fleet) -> None:
    """With the vectors written and not yet noted."""
    kill_while(fleet, "index", "index_entries", "INSERT INTO index_entries%")


def stop_import_worker(fleet: Fleet) -> None:
    stop_while(fleet, "import", "compounds", "%FROM compounds%FOR UPDATE%")


def stop_index_worker(fleet: Fleet) -> None:
    stop_while(fleet, "index", "index_entries", "INSERT INTO index_entries%")


def restart_broker(fleet: Fleet) -> None:
    fleet.broker.kill()
    fleet.broker.start()


def restart_database(fleet: Fleet) -> None:
    fleet.postgres.kill()
    fleet.postgres.start()


def restart_index(fleet: Fleet) -> None:
    fleet.index.kill()
    fleet.index.start()


FAULTS: list[Callable[[Fleet], None]] = [
    kill_server,
    kill_import_worker,
    kill_index_worker,
    stop_import_worker,
    stop_index_worker,
    restart_broker,
    restart_database,
    restart_index,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.replace("_", "-"))
def test_no_acknowledged_row_is_lost_or_doubled(
    fault: Callable[[Fleet], None], fleet: Fleet, rows: list[Row], undisturbed: dict[str, tuple[str, ...]]
) -> None:
    library = fault.__name__.replace("_", "-")
    sending = Disturbed(fleet.address, rows, library)
    sending.wait_for(ROWS // 3)
    fault(fleet)
    sending.finish()
    with Client(fleet.address) as client:
        wait_until_done(client)
        assert contents(client, library) == undisturbed
        assert all(operation.state is OperationState.SUCCEEDED for operation in client.operations())


def test_jobs_that_a_broker_lost_are_sent_again(fleet: Fleet, rows: list[Row], undisturbed: dict[str, tuple[str, ...]]) -> None:
    with Client(fleet.address) as client:
        with paused(fleet.workers["import"]):
            client.import_compounds(rows, library="lost-queue", wait=False)
            assert contents(client, "lost-queue") == {}
            # This Redis writes nothing to disk.
            fleet.broker.kill()
            fleet.broker.start()
        wait_until_done(client)
        assert contents(client, "lost-queue") == undisturbed


def test_rows_are_accepted_while_the_broker_is_away(fleet: Fleet, rows: list[Row], undisturbed: dict[str, tuple[str, ...]]) -> None:
    with Client(fleet.address) as client:
        fleet.broker.kill()
        client.import_compounds(rows, library="no-broker", wait=False)
        fleet.broker.start()
        wait_until_done(client)
        assert contents(client, "no-broker") == undisturbed


def test_a_cancelled_import_makes_no_more_compounds(fleet: Fleet, rows: list[Row], undisturbed: dict[str, tuple[str, ...]]) -> None:
    with Client(fleet.address) as client:
        with paused(fleet.workers["import"]):
            report = client.import_compounds(rows, library="cancelled", wait=False)
            client.cancel(report.operation)
        # Whatever is sent later is done later: the queue is empty of the cancelled import's jobs by then.
        client.import_compounds(rows[:CHUNK], library="after-the-cancelled")
        made = contents(client, "cancelled")
        operation = client.operation(report.operation)
    assert operation.state is OperationState.CANCELLED
    assert operation.counts.received == ROWS
    assert len(made) == operation.counts.created < len(undisturbed)


def test_a_server_of_a_fleet_has_no_torch_in_its_process_and_the_encoder_has(fleet: Fleet, undisturbed: dict[str, tuple[str, ...]]) -> None:
    with Client(fleet.address) as client:
        assert client.search("an alcohol", library="calm", limit=3)

    def loaded(process: "subprocess.Popen[bytes] | None") -> bool:
        assert process is not None
        return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()

    assert not loaded(fleet.server.process)
    assert not loaded(fleet.workers["import"].process)
    assert loaded(fleet.workers["encode"].process)


def test_queries_are_refused_without_encoders_and_answered_again_when_one_is_back(
    fleet: Fleet, undisturbed: dict[str, tuple[str, ...]]
) -> None:
    encode = fleet.workers["encode"]
    with Client(fleet.address) as client:
        client.search("a question that was asked before", library="calm", limit=1)
        encode.kill()
        with pytest.raises(UnavailableError, match="python -m workers --queues encode"):
            client.search("a question that nobody has asked", library="calm", limit=1)
        assert client.search("a question that was asked before", library="calm", limit=1)
        encode.start()
        encode.wait()
        assert client.search("a question that nobody has asked", library="calm", limit=1)


def acids(client: Client) -> set[str]:
    return {hit.compound.inchikey for hit in client.search(library="structures", filter=PATTERN, limit=500)}


def acids_again(client: Client, right: set[str]) -> bool:
    try:
        return acids(client) == right
    except AtomasError:
        return False


def test_structures_are_found_missed_while_their_keeper_is_away_and_filled_again(fleet: Fleet, rows: list[Row]) -> None:
    with Client(fleet.address) as client:
        client.import_compounds(rows[: ROWS // 2], library="structures")
        wait_until_done(client)
        right = acids(client)
        assert right
        fleet.structures.kill()
        with pytest.raises(AtomasError) as caught:
            acids(client)
        assert caught.value.reason == "INDEX_UNAVAILABLE"
        assert client.search("an acid", library="structures", limit=3)
        assert client.search(structure="CC(=O)O", library="structures", limit=3)
        fleet.structures.start()
        fleet.structures.wait()
        wait_for(lambda: acids_again(client, right), "the keeper came back with other answers")
        fleet.structures.kill()
        (fleet.folder / "structures" / "structures.log").unlink()
        fleet.structures.start()
        fleet.structures.wait()
        wait_for(lambda: acids_again(client, right), "the keeper was not filled again")
