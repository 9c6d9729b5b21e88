"""The encoder in the workers, with real brokers: what happens when workers or brokers are away, what is remembered, what is shared."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.services import LocalService, Redis, free_port
from encoder.batching import TokenBudgetBatcher
from encoder.manifest import ModelFacts
from encoder.tokenizer import split_text
from server.adapters.broker import celery_app
from server.adapters.celery_queue import CeleryQueue
from server.adapters.worker_encoder import WorkerEncoder
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelVersion
from server.jobs import PurgeLibrary, ReadChunk
from tests.contract.brokers import BROKERS, new_app, running_worker
from tests.fakes import FakeEncoder
from tests.fakes_models import fake_ports
from tests.services import running_service
from workers.app import register

FACTS = ModelFacts("fake", 64, 1_000)
SILENCE_SECONDS = 0.5


@pytest.fixture(scope="module")
def redis() -> Iterator[LocalService]:
    with running_service(Redis) as server:
        yield server


@contextmanager
def asking(broker: LocalService, cache_entries: int = 0, silence_seconds: float = SILENCE_SECONDS) -> Iterator[WorkerEncoder]:
    """The port as a server has it."""
    app = celery_app(broker.url, 600)
    encoder = WorkerEncoder(app, FACTS, "1", cache_entries, silence_seconds)
    yield encoder
    encoder.close()
    app.close()


@contextmanager
def answering(broker: LocalService, encoder: FakeEncoder) -> Iterator[None]:
    """A worker."""
    ports = fake_ports(encoder)
    app = new_app(broker)
    with running_worker(app, lambda app: register(app, ports, 1)):
        yield
    app.close()


def refusal(encoder: WorkerEncoder, text: str = "water", timeout_seconds: float | None = 20.0) -> AtomasError:
    with pytest.raises(AtomasError) as caught:
        encoder.encode_texts([text], timeout_seconds)
    return caught.value


def test_without_a_worker_the_encoder_is_unavailable_and_says_what_to_run(redis: LocalService) -> None:
    with asking(redis) as encoder:
        for text in ("first", "second"):
            error = refusal(encoder, text)
            assert error.reason is Reason.ENCODER_UNAVAILABLE
            assert "python -m workers --queues encode" in error.message


def test_a_caller_with_less_patience_than_that_is_told_of_its_deadline(redis: LocalService) -> None:
    with asking(redis, silence_seconds=20) as encoder:
        assert refusal(encoder, timeout_seconds=0.2).reason is Reason.DEADLINE_EXCEEDED


def test_callers_in_a_hurry_prove_nothing_about_the_workers(redis: LocalService) -> None:
    class Slow(FakeEncoder):
        def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
            threading.Event().wait(1.5)
            return super().encode_texts(texts)

    with asking(redis, silence_seconds=4) as encoder:
        assert refusal(encoder, "hurry", 0.1).reason is Reason.DEADLINE_EXCEEDED
        threading.Event().wait(4)
        with answering(redis, Slow()):
            assert encoder.encode_texts(["patience"], 20.0).shape == (1, FACTS.dimension)


def test_without_a_broker_the_encoder_is_unavailable() -> None:
    class Nowhere(Redis):
        @property
        def url(self) -> str:
            return f"redis://127.0.0.1:{free_port()}/0"

    with asking(Nowhere.__new__(Nowhere)) as encoder:
        error = refusal(encoder)
    assert error.reason is Reason.ENCODER_UNAVAILABLE
    assert "broker" in error.message


def test_a_worker_with_another_model_refuses(redis: LocalService) -> None:
    with answering(redis, FakeEncoder(version="another")), asking(redis) as encoder:
        error = refusal(encoder)
    assert error.reason is Reason.ENCODER_UNAVAILABLE
    assert "another" in error.message


def test_a_query_is_remembered_until_others_push_it_out(redis: LocalService) -> None:
    worker = FakeEncoder()
    with asking(redis, cache_entries=2, silence_seconds=20) as encoder, answering(redis, worker):
        first = encoder.encode_texts(["water"])
        assert worker.calls == 1
        np.testing.assert_array_equal(encoder.encode_texts(["water", "water"])[1], first[0])
        # A molecule that is spelt like a text is another question.
        encoder.encode_molecules(["water"])
        assert worker.calls == 2
        encoder.encode_texts(["ice"])
        encoder.encode_texts(["steam"])
        calls = worker.calls
        np.testing.assert_array_equal(encoder.encode_texts(["water"]), first)
        assert worker.calls == calls + 1


def test_concurrent_queries_share_forward_passes(redis: LocalService) -> None:
    passes: list[int] = []
    begin = threading.Event()

    class Model:
        """Waits with its first pass until everybody has asked."""

        def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            begin.wait(20)
            passes.append(len(texts))
            return np.ones((len(texts), FACTS.dimension), np.float32)

        encode_molecules = encode_texts

    class Batched(FakeEncoder):
        def __init__(self, batcher: TokenBudgetBatcher) -> None:
            super().__init__()
            self.arrived = threading.Semaphore(0)
            self._batcher = batcher

        def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
            futures = [self._batcher.submit("text", text, len(split_text(text))) for text in texts]
            self.arrived.release()
            return np.stack([future.result(20) for future in futures])

    batcher = TokenBudgetBatcher(Model())
    worker = Batched(batcher)
    with asking(redis, silence_seconds=30) as encoder, answering(redis, worker), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(encoder.encode_texts, [f"text {n}"], 30.0) for n in range(8)]
        for _ in answers:
            assert worker.arrived.acquire(timeout=20)
        begin.set()
        assert all(answer.result(20).shape == (1, FACTS.dimension) for answer in answers)
    batcher.close()
    assert sum(passes) == 8
    assert len(passes) <= 2


@pytest.mark.parametrize("kind", BROKERS)
def test_answers_come_again_after_the_broker_was_killed(kind: str) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(running_service(BROKERS[kind]))
        encoder = stack.enter_context(asking(broker, silence_seconds=1))
        stack.enter_context(answering(broker, FakeEncoder()))
        assert encoder.encode_texts(["before"], 20.0).shape == (1, FACTS.dimension)
        broker.kill()
        assert refusal(encoder, "meanwhile").reason is Reason.ENCODER_UNAVAILABLE
        broker.start()
        for attempt in range(60):
            try:
                assert encoder.encode_texts([f"after {attempt}"], 2.0).shape == (1, FACTS.dimension)
                return
            except AtomasError as error:
                assert error.reason in (Reason.ENCODER_UNAVAILABLE, Reason.DEADLINE_EXCEEDED)
        raise AssertionError("no answer since the broker is back")


def test_a_job_that_could_not_be_sent_is_sent_by_the_next_sweep() -> None:
    job = ReadChunk("operation", 1)
    with running_service(Redis) as broker:
        app = celery_app(broker.url, 600)
        queue = CeleryQueue(app, resend_seconds=3600)

        def waiting() -> int:
            with app.connection_for_read() as connection, connection.channel() as channel:
                return int(app.amqp.queues["import"](channel).queue_declare(passive=False).message_count)

        broker.kill()
        queue.send(job)
        broker.start()
        for _ in range(100):
            queue.send_again(job)
            if waiting():
                break
            threading.Event().wait(0.1)
        queue.send_again(job)
        queue.send(job)
        assert waiting() == 1
        app.close()


def test_the_sweep_does_not_send_what_may_be_on_its_way(redis: LocalService) -> None:
    app = new_app(redis)
    queue = CeleryQueue(app, resend_seconds=3600)
    # Another server sent it.
    queue.send_again(ReadChunk("operation", 2))
    queue.send(PurgeLibrary("lib"))
    queue.send(PurgeLibrary("lib"))
    with app.connection_for_read() as connection, connection.channel() as channel:
        assert app.amqp.queues["import"](channel).queue_declare().message_count == 0
        assert app.amqp.queues["index"](channel).queue_declare().message_count == 1
    hasty = CeleryQueue(app, resend_seconds=0.01)
    hasty.send_again(ReadChunk("operation", 2))
    threading.Event().wait(0.05)
    hasty.send_again(ReadChunk("operation", 2))
    with app.connection_for_read() as connection, connection.channel() as channel:
        assert app.amqp.queues["import"](channel).queue_declare().message_count == 1
    app.close()


def test_facts_are_those_of_the_model(redis: LocalService) -> None:
    with asking(redis) as encoder:
        assert encoder.model == ModelVersion("fake", 64, "1", 1_000)
        assert encoder.text_tokens("two words") == 2
