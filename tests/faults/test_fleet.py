"""kill -9 of every part of a fleet: every acknowledged row is a compound with its vector, once."""

import gzip
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from atomas import Client, OperationState, UnavailableError
from atomas.types import ImportProgress, ImportReport
from deploy.fleet import Fleet, Program
from tests.running import ROOT
from tests.services import open_folder

ROWS = 240
CHUNK = 20
PATIENCE_SECONDS = 120
SETTINGS = {
    "chemistry_processes": "1",
    "encoder_threads": "1",
    "sweep_seconds": "0.5",
    "job_resend_seconds": "2",
    "log_level": "warning",
}

Row = dict[str, object]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One fleet for every test of this file: each works in a library of its own, and leaves everything running."""
    with open_folder("fleet") as folder:
        fleet = Fleet(folder, "redis", **SETTINGS)
        fleet.start()
        try:
            yield fleet
        finally:
            fleet.kill()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Real compounds."""
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        return [json.loads(line) for line, _ in zip(source, range(ROWS), strict=False)]


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


def contents(client: Client, library: str) -> dict[str, tuple[str, ...]]:
    """InChIKey -> names and ids; fails unless the index holds exactly the compounds that the database holds, each once."""
    compounds = {c.inchikey: (c.name, *c.source_ids, *c.synonyms) for c in client.compounds(library)}
    found = client.search("a molecule", library=library, target="molecules", limit=len(compounds) + 10, ids_only=True)
    keys = [hit.compound.resource_name.rpartition("/")[2] for hit in found]
    assert sorted(keys) == sorted(compounds), "index and database differ"
    return compounds


def slowly(rows: list[Row]) -> Iterator[Row]:
    """So that the fault meets a stream that is still open."""
    for row in rows:
        time.sleep(0.01)
        yield row


class Disturbed:
    """An import on a thread of its own, disturbed when `acknowledged` rows are durable."""

    def __init__(self, address: str, rows: list[Row], library: str) -> None:
        self._acknowledged = 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(1)
        self.report: Future[ImportReport] = self._pool.submit(self._send, address, rows, library)

    def _send(self, address: str, rows: list[Row], library: str) -> ImportReport:
        with Client(address) as client:
            return client.import_compounds(slowly(rows), library=library, on_progress=self._watch, wait=False)

    def _watch(self, progress: ImportProgress) -> None:
        with self._changed:
            self._acknowledged = progress.rows_acknowledged
            self._changed.notify_all()

    def wait_for(self, acknowledged: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._acknowledged >= acknowledged, PATIENCE_SECONDS)

    def finish(self) -> ImportReport:
        try:
            return self.report.result(PATIENCE_SECONDS)
        finally:
            self._pool.shutdown(wait=False)


def wait_until_done(client: Client) -> None:
    """Returns when no operation works any more."""
    wait_for(lambda: all(operation.done for operation in client.operations()), "the import did not finish")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def kill_server(fleet: Fleet) -> None:
    fleet.server.kill()
    fleet.restart_server()


def kill_import_worker(fleet: Fleet) -> None:
    """With the verdicts made and not yet stored."""
    kill_while(fleet, "import", "compounds", "%FROM compounds%FOR UPDATE%")


def kill_index_worker(fleet: Fleet) -> None:
    """With the vectors written and not yet noted."""
    kill_while(fleet, "index", "index_entries", "INSERT INTO index_entries%")


def kill_while(fleet: Fleet, queue: str, table: str, statement: str) -> None:
    """Holds a table until a worker's transaction waits for it, and kills the worker there."""
    worker = fleet.workers[queue]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with psycopg.connect(fleet.postgres.url) as holder, psycopg.connect(fleet.postgres.url, autocommit=True) as watcher:
        holder.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        wait_for(lambda: watcher.execute(waiting, [statement]).fetchone() != (0,), f"nobody waited for {table}")
        worker.kill()
    worker.start()
    worker.wait()


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


@contextmanager
def paused(worker: Program) -> Iterator[None]:
    """The worker takes nothing and does nothing."""
    assert worker.process is not None
    worker.process.send_signal(signal.SIGSTOP)
    yield
    worker.process.send_signal(signal.SIGCONT)


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
