"""Servers and workers agree on names, queues and payloads; failures are tried again as their reason deserves."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.molecules import Molecule, MoleculeError, Structure
from server.adapters.broker import address, celery_app
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState, ModelVersion, StoredModel
from server.domain.operations import State
from server.jobs import (
    JOBS,
    QUEUES,
    EncodeAnswer,
    EncodeItems,
    IndexCompounds,
    Job,
    ReadChunk,
    from_payload,
    pack_vectors,
    to_payload,
    unpack_vectors,
)
from server.retries import RETRIES, retry_of
from server.usecases.embed_items import answer_question
from server.usecases.track_operations import get_operation
from tests.builders import import_rows, row
from tests.unit.conftest import World
from workers.app import register
from workers.tasks import attempt, job_task

ATTEMPTS = 3
REDIS = "redis://127.0.0.1:1/0"


def test_workers_register_exactly_what_servers_send(world: World) -> None:
    app = celery_app(REDIS, 600)
    register(app, world.ports, ATTEMPTS)
    sent = {kind.name for kind in JOBS} | {EncodeItems.name}
    assert {name for name in app.tasks if not name.startswith("celery.")} == sent
    assert {queue.name for queue in app.conf.task_queues} == set(QUEUES) == {kind.queue for kind in JOBS} | {EncodeItems.queue}


def test_jobs_are_acknowledged_when_they_are_done_and_questions_when_they_are_taken(world: World) -> None:
    app = celery_app(REDIS, 600)
    register(app, world.ports, ATTEMPTS)
    assert all(app.tasks[kind.name].acks_late and app.tasks[kind.name].reject_on_worker_lost for kind in JOBS)
    assert not app.tasks[EncodeItems.name].acks_late
    assert app.conf.accept_content == ["json"]


texts = st.text(max_size=20)
messages: st.SearchStrategy[Job | EncodeItems | EncodeAnswer] = st.one_of(
    *(st.from_type(kind) for kind in JOBS),
    st.builds(EncodeItems, st.sampled_from(["text", "molecule"]), st.lists(texts).map(tuple), texts, st.floats(0, 1e10)),
    st.builds(EncodeAnswer, texts, texts, st.lists(st.integers(0, 9)).map(tuple), texts, texts, texts),
)


def test_an_answer_says_nothing_of_what_it_does_not_hold_so_that_servers_of_before_read_it() -> None:
    assert to_payload(EncodeAnswer(vectors="AAAA")) == {"vectors": "AAAA"}
    assert to_payload(EncodeAnswer(reason="EMPTY_QUERY", message="Nothing.")) == {"reason": "EMPTY_QUERY", "message": "Nothing."}


@given(messages)
def test_a_message_survives_json(message: Job | EncodeItems | EncodeAnswer) -> None:
    assert from_payload(type(message), json.loads(json.dumps(to_payload(message)))) == message


def test_a_payload_of_another_release_is_refused() -> None:
    with pytest.raises(TypeError):
        from_payload(ReadChunk, {"operation": "a", "part": 1})


@given(st.integers(0, 5), st.integers(1, 8), st.data())
def test_vectors_survive_the_way_bit_by_bit(count: int, dimension: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(width=32, allow_nan=False), min_size=count * dimension, max_size=count * dimension))
    vectors = np.array(values, np.float32).reshape(count, dimension)
    np.testing.assert_array_equal(unpack_vectors(pack_vectors(vectors), dimension), vectors)


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        unpack_vectors(pack_vectors(np.zeros((1, 5), np.float32)), 4)


@given(st.sampled_from(Reason), st.integers(1, 100))
def test_pauses_grow_to_a_bound(reason: Reason, failures: int) -> None:
    retry = retry_of(reason, ATTEMPTS)
    assert 0 < retry.pause_seconds(failures) <= retry.pause_seconds(failures + 1) <= retry.longest_seconds
    assert (retry.attempts is None) == (reason in RETRIES)


@pytest.mark.parametrize("url", ["sqs://queue", "127.0.0.1:6379", "", "amqp//x"])
def test_a_broker_of_another_kind_is_refused_by_name(url: str) -> None:
    with pytest.raises(AtomasError, match="ATOMAS_BROKER_URL") as caught:
        celery_app(url, 600)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_the_password_of_a_broker_is_not_shown() -> None:
    assert address("amqp://atomas:secret@broker:5672//") == "amqp://broker:5672//"


class FakeTask:
    """What a task sees of Celery."""

    class SentAgainError(Exception):
        """The job was sent again."""

    class request:  # noqa: N801 - Celery's own name
        retries = 0
        # No headers: nobody's call sent this job.
        get = staticmethod(dict[str, str]().get)

    def __init__(self) -> None:
        self.sent: list[tuple[list[Any], float]] = []

    def retry(self, args: list[Any], headers: dict[str, str], countdown: float) -> Exception:
        self.sent.append((args, countdown))
        return self.SentAgainError()


class BrokenChemistry:
    """Fails in a way that nobody foresaw."""

    def standardise_many(self, structures: Sequence[Structure]) -> list[Molecule | MoleculeError]:
        raise RuntimeError("a secret detail")

    def standardise_one(self, structure: Structure) -> Molecule | MoleculeError:
        raise RuntimeError("a secret detail")


def test_a_job_that_fails_for_good_becomes_the_error_of_its_operation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = import_rows(world.ports, [row(1, "CCO")])
    job = world.queue.jobs.pop()
    assert isinstance(job, ReadChunk)
    monkeypatch.setattr(world.ports.chemistry, "standardise_many", BrokenChemistry().standardise_many)
    do, task, failures = job_task(ReadChunk, world.ports, ATTEMPTS), FakeTask(), 0
    for _ in range(ATTEMPTS - 1):
        with pytest.raises(FakeTask.SentAgainError):
            do(task, to_payload(job), failures)
        failures = task.sent[-1][0][1]
        assert get_operation(operation.id, world.ports).state is State.PROCESSING
    do(task, to_payload(job), failures)
    failed = get_operation(operation.id, world.ports)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert failed.error[0] == Reason.INTERNAL
    assert "import.read_chunk" in failed.error[1]
    assert "secret" not in failed.error[1]


def test_a_worker_without_the_checkpoint_refuses_to_encode(world: World) -> None:
    with world.ports.database.transaction() as transaction:
        transaction.models.put(StoredModel(ModelVersion("another", 8, "1", 100), ModelState.READY))
    answer = answer_question(EncodeItems("text", ("water",), "another", 0.0), 10.0, world.ports)
    assert answer.reason == Reason.ENCODER_UNAVAILABLE
    assert answer.vectors == ""
    unheard_of = answer_question(EncodeItems("text", ("water",), "unheard of", 0.0), 10.0, world.ports)
    assert unheard_of.reason == Reason.ENCODER_UNAVAILABLE


def test_a_job_for_a_library_that_is_gone_is_done(world: World) -> None:
    assert attempt(IndexCompounds("nowhere", ("LFQSCWFLJHTTHZ-UHFFFAOYSA-N",)), world.ports) is None
