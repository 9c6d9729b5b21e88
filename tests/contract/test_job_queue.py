"""Every job queue: what is sent is done, a failure is tried again as its reason deserves, a job that cannot be done is given up with it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

import pytest

from deploy.services import LocalService
from encoder.manifest import ModelFacts
from server.adapters.broker import celery_app
from server.adapters.celery_queue import CeleryQueue
from server.adapters.local_queue import LocalQueue
from server.adapters.worker_encoder import WorkerEncoder
from server.domain.errors import AtomasError, Reason
from server.jobs import (
    JOBS,
    EmbedCompounds,
    FillIndex,
    FillStructures,
    Generate,
    IndexCompounds,
    Job,
    PurgeLibrary,
    ReadChunk,
    RemoveDeleted,
    RemoveIndex,
)
from server.ports import JobQueue
from server.retries import retry_of
from tests.contract.brokers import new_app, running_worker
from tests.fakes import FakeEncoder, FakeQueue
from tests.fakes_models import fake_ports
from workers import tasks
from workers.app import register

ATTEMPTS = 3
PATIENCE_SECONDS = 30.0
# Before the second attempt; it doubles as ever. How long the real ones are `tests/unit/test_jobs.py` knows.
PAUSE_SECONDS = 0.05
EACH: tuple[Job, ...] = (
    ReadChunk("a", 0),
    EmbedCompounds("a", 0),
    IndexCompounds("lib", ("LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "UHOVQNZJYSORNB-UHFFFAOYSA-N")),
    RemoveDeleted("lib", ("LFQSCWFLJHTTHZ-UHFFFAOYSA-N",)),
    PurgeLibrary("lib"),
    FillIndex("model", 1, 0, ("lib", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N")),
    RemoveIndex("model"),
    FillStructures(),
    Generate("a"),
)


class Bench:
    """Who does the jobs: notes them, and fails as told."""

    def __init__(self) -> None:
        self.done: list[Job] = []
        self.attempts: list[Job] = []
        self.given_up: list[tuple[Job, Reason]] = []
        self.failures: dict[Job, list[Exception]] = {}
        self.gate = threading.Event()
        self.gate.set()

    def run(self, job: Job) -> None:
        assert self.gate.wait(PATIENCE_SECONDS)
        self.attempts.append(job)
        if self.failures.get(job):
            raise self.failures[job].pop(0)
        self.done.append(job)

    def give_up(self, job: Job, reason: Reason, message: str) -> None:
        assert message
        self.given_up.append((job, reason))


class Open(Protocol):
    """Opens a queue whose jobs the bench does."""

    def __call__(self, bench: Bench, request: pytest.FixtureRequest) -> Iterator[JobQueue]: ...


def fake(bench: Bench, request: pytest.FixtureRequest) -> Iterator[JobQueue]:
    """Works when nobody looks."""
    queue, stopping = FakeQueue(), threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            if bench.gate.is_set():
                queue.run_all(bench.run)

    worker = threading.Thread(target=work)
    worker.start()
    yield queue
    stopping.set()
    worker.join()


def local(bench: Bench, request: pytest.FixtureRequest) -> Iterator[JobQueue]:
    """Threads of this process."""
    queue = LocalQueue(ATTEMPTS, retry_seconds=0.01)
    queue.start(bench.run, bench.give_up)
    yield queue
    bench.gate.set()
    queue.close()


def over(broker: str) -> Open:
    """Celery on a broker."""

    def celery(bench: Bench, request: pytest.FixtureRequest) -> Iterator[JobQueue]:
        server: LocalService = request.getfixturevalue(broker)
        app, sender = new_app(server), new_app(server)
        queue = CeleryQueue(sender, resend_seconds=60)
        ports = fake_ports(FakeEncoder(), queue)
        patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        patch.setattr(tasks, "run_job", lambda job, ports: bench.run(job))
        patch.setattr(tasks, "retry_of", lambda reason, attempts: replace(retry_of(reason, attempts), first_seconds=PAUSE_SECONDS))
        patch.setattr(tasks, "give_up", lambda job, reason, message, ports: bench.give_up(job, reason, message))
        with running_worker(app, lambda app: register(app, ports, ATTEMPTS)):
            yield queue
            bench.gate.set()
        sender.close()
        app.close()

    return celery


QUEUES: dict[str, Open] = {"fake": fake, "local": local, "redis": over("redis_server"), "rabbitmq": over("rabbitmq_server")}
RETRYING = ["local", "redis", "rabbitmq"]


@contextmanager
def opened(name: str, bench: Bench, request: pytest.FixtureRequest) -> Iterator[JobQueue]:
    with ExitStack() as stack:
        yield stack.enter_context(contextmanager(QUEUES[name])(bench, request))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_the_suite_knows_every_kind_of_job() -> None:
    assert {type(job) for job in EACH} == set(JOBS)


@pytest.mark.parametrize("name", QUEUES)
def test_every_job_is_done_as_it_was_sent_and_a_repeated_one_once(name: str, bench: Bench, request: pytest.FixtureRequest) -> None:
    with opened(name, bench, request) as queue:
        bench.gate.clear()
        for job in (*EACH, *EACH):
            queue.send(job)
        bench.gate.set()
        wait_for(lambda: len(bench.done) >= len(EACH), "not every job was done")
        queue.send(ReadChunk("last", 0))
        wait_for(lambda: ReadChunk("last", 0) in bench.done, "the last job was not done")
    assert sorted(bench.done, key=str) == sorted((*EACH, ReadChunk("last", 0)), key=str)


@pytest.mark.parametrize("name", QUEUES)
def test_the_depth_of_a_queue_is_what_waits_in_it(name: str, bench: Bench, request: pytest.FixtureRequest) -> None:
    with opened(name, bench, request) as queue:
        assert not any(queue.depth().values())
        bench.gate.clear()
        # More than any of them works on at the same time.
        for chunk in range(20):
            queue.send(ReadChunk("a", chunk))
        wait_for(lambda: 0 < queue.depth()["import"] <= 20, "nothing waited")
        bench.gate.set()
        wait_for(lambda: not any(queue.depth().values()), "something waited for ever")


@pytest.mark.parametrize("name", RETRYING)
def test_a_store_that_is_away_costs_a_job_no_attempt(name: str, bench: Bench, request: pytest.FixtureRequest) -> None:
    job = EmbedCompounds("a", 1)
    bench.failures[job] = [AtomasError(Reason.INDEX_UNAVAILABLE, "away") for _ in range(ATTEMPTS)]
    with opened(name, bench, request) as queue:
        queue.send(job)
        wait_for(lambda: job in bench.done, "the job was not tried again")
    assert len(bench.attempts) == ATTEMPTS + 1
    assert bench.given_up == []


@pytest.mark.parametrize("name", RETRYING)
@pytest.mark.parametrize(
    ("failure", "reason"), [(AtomasError(Reason.TOO_MANY_ITEMS, "no"), Reason.TOO_MANY_ITEMS), (RuntimeError("secret"), Reason.INTERNAL)]
)
def test_a_job_that_cannot_be_done_is_given_up_with_its_reason(
    name: str, failure: Exception, reason: Reason, bench: Bench, request: pytest.FixtureRequest
) -> None:
    job = ReadChunk("a", 2)
    bench.failures[job] = [failure] * ATTEMPTS
    with opened(name, bench, request) as queue:
        queue.send(job)
        wait_for(lambda: bool(bench.given_up), "the job was not given up")
    assert bench.given_up == [(job, reason)]
    assert len(bench.attempts) == ATTEMPTS
    assert bench.done == []


def test_a_job_that_cannot_even_be_given_up_stops_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ReadChunk("a", 3)
    bench.failures[job] = [RuntimeError("secret")] * ATTEMPTS

    def fail(job: Job, reason: Reason, message: str) -> None:
        raise AtomasError(Reason.DATABASE_UNAVAILABLE, "away")

    queue = LocalQueue(ATTEMPTS, retry_seconds=0.01)
    queue.start(bench.run, fail)
    queue.send(job)
    wait_for(lambda: len(bench.attempts) == ATTEMPTS, "the job was not tried")
    queue.send(ReadChunk("a", 4))
    wait_for(lambda: ReadChunk("a", 4) in bench.done, "the queue stands still")
    queue.close()


@pytest.mark.parametrize("broker", ["redis_server", "rabbitmq_server"])
def test_a_broker_that_refuses_us_fails_no_sender_and_is_named_to_who_asks(broker: str, request: pytest.FixtureRequest) -> None:
    server: LocalService = request.getfixturevalue(broker)
    app = celery_app(server.url.replace("guest:guest@", "guest:wrong@").replace("redis://", "redis://nobody:wrong@"), 600)
    CeleryQueue(app, resend_seconds=60).send(ReadChunk("a", 0))
    encoder = WorkerEncoder(app, ModelFacts("model", 8, 100), "1", cache_entries=0, silence_seconds=1)
    with pytest.raises(AtomasError, match="broker") as caught:
        encoder.encode_texts(["water"], 10.0)
    assert caught.value.reason is Reason.ENCODER_UNAVAILABLE
    encoder.close()
