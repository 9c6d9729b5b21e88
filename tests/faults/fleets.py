"""What tests of a fleet share: imports that can be disturbed, faults, and the check that nothing is lost or doubled."""

import gzip
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
from psycopg import sql

from atomas import Client
from atomas.types import ImportProgress, ImportReport
from deploy.fleet import WORKERS, Fleet, Program
from tests.confidential import assert_confidential
from tests.running import ROOT
from tests.services import open_folder

PATIENCE_SECONDS = 120

Row = dict[str, object]


@contextmanager
def running_fleet(broker: str, workers: tuple[str, ...] = WORKERS, **settings: str) -> Iterator[Fleet]:
    """A fleet that looks for lost work all the time; its logs hold nothing confidential when the block ends."""
    quick = {
        "chemistry_processes": "1",
        "encoder_threads": "1",
        "sweep_seconds": "0.5",
        "encoder_silence_seconds": "2",
        "log_level": "warning",
    }
    with open_folder("fleet") as folder:
        fleet = Fleet(folder, broker, **{**quick, **settings})
        fleet.start(workers)
        try:
            yield fleet
        finally:
            fleet.kill()
        assert_confidential(folder.glob("*.log"))


def real_compounds(count: int) -> list[Row]:
    """The first rows of the shipped sample."""
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        return [json.loads(line) for line, _ in zip(source, range(count), strict=False)]


def contents(client: Client, library: str) -> dict[str, tuple[str, ...]]:
    """InChIKey -> names and ids; fails unless the index holds exactly the compounds that the database holds, each once."""
    compounds = {c.inchikey: (c.name, *c.source_ids, *c.synonyms) for c in client.compounds(library)}
    found = client.search("a molecule", library=library, target="molecules", limit=len(compounds) + 10, ids_only=True)
    keys = [hit.compound.resource_name.rpartition("/")[2] for hit in found]
    assert sorted(keys) == sorted(compounds), "index and database differ"
    return compounds


def slowly(rows: Iterable[Row]) -> Iterator[Row]:
    """So that the fault meets a stream that is still open."""
    for row in rows:
        time.sleep(0.01)
        yield row


def trickling(rows: list[Row], copied: Callable[[], bool]) -> Iterator[Row]:
    """Rows that go on coming while a copy is made; the last of them come when it is."""
    for number, row in enumerate(rows):
        if number > 120 and not copied():
            time.sleep(0.05)
        if number > len(rows) - 50:
            wait_for(copied, "the copy was never made")
        yield row


class Disturbed:
    """An import on a thread of its own, disturbed when `acknowledged` rows are durable."""

    def __init__(self, address: str, rows: Iterable[Row], library: str) -> None:
        self._acknowledged = 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(1)
        self.report: Future[ImportReport] = self._pool.submit(self._send, address, rows, library)

    def _send(self, address: str, rows: Iterable[Row], library: str) -> ImportReport:
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


def kill_while(fleet: Fleet, queue: str, table: str, statement: str) -> None:
    """Holds a table until a worker's transaction waits for it, and kills the worker there."""
    worker = fleet.workers[queue]
    with held(fleet, table, statement):
        worker.kill()
    worker.start()
    worker.wait()


def stop_while(fleet: Fleet, queue: str, table: str, statement: str) -> None:
    """As `kill_while`, but tells the worker to stop: it must finish what it has begun, and then go."""
    worker = fleet.workers[queue]
    assert worker.process is not None
    with held(fleet, table, statement):
        worker.process.terminate()
        time.sleep(1.0)
        assert worker.process.poll() is None, f"the worker of {queue} left its job behind"
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    worker.start()
    worker.wait()


@contextmanager
def held(fleet: Fleet, table: str, statement: str) -> Iterator[None]:
    """A table that nobody else gets at, from when a transaction waits for it with such a statement."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with psycopg.connect(fleet.postgres.url) as holder, psycopg.connect(fleet.postgres.url, autocommit=True) as watcher:
        holder.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        wait_for(lambda: watcher.execute(waiting, [statement]).fetchone() != (0,), f"nobody waited for {table}")
        yield


@contextmanager
def paused(worker: Program) -> Iterator[None]:
    """The worker takes nothing and does nothing."""
    assert worker.process is not None
    worker.process.send_signal(signal.SIGSTOP)
    yield
    worker.process.send_signal(signal.SIGCONT)
