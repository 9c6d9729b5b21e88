"""The encoder in the workers: this process asks over the broker, remembers recent queries, and never imports torch."""

import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Literal

import numpy as np
from celery import Celery
from numpy.typing import NDArray

from encoder.manifest import ModelFacts, molecule_tokens, text_tokens
from server.adapters.broker import BROKER_ERRORS
from server.adapters.replies import Answer, Replies
from server.domain.errors import AtomasError, Reason
from server.domain.explanations import Explanation
from server.domain.models import ModelVersion
from server.jobs import EncodeAnswer, EncodeItems, from_payload, to_payload, unpack_vectors
from server.observability.context import carried
from server.observability.metrics import QUERY_CACHE
from server.ports import Vector

# Small enough that a long list is shared among workers and the first answers come early.
ITEMS_PER_QUESTION = 32
# Without a deadline of its own a call still must not wait for ever.
PATIENCE_SECONDS = 600.0
# How long a question is given when those before it had no answer: a worker that came back is noticed, and nobody waits long.
PROBE_SECONDS = 1.0


class WorkerEncoder:
    """The `Encoder` port on workers of the queue `encode`. Thread-safe; concurrent calls share a worker's forward passes."""

    def __init__(self, app: Celery, facts: ModelFacts, molecule_standard: str, cache_entries: int, silence_seconds: float) -> None:
        """Up to `cache_entries` vectors are remembered. Without any answer for `silence_seconds` the workers count as gone."""
        self._app = app
        self._model = ModelVersion(facts.version, facts.dimension, molecule_standard, facts.max_tokens)
        self._silence_seconds = silence_seconds
        self._replies = Replies(app, silence_seconds)
        self._cache = VectorCache(cache_entries)

    @property
    def model(self) -> ModelVersion:
        return self._model

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) unit vectors. Raises ENCODER_UNAVAILABLE too, when no worker answers."""
        return self._encode("text", texts, timeout_seconds)

    def encode_molecules(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) unit vectors. Raises ENCODER_UNAVAILABLE too, when no worker answers."""
        return self._encode("molecule", smiles, timeout_seconds)

    def explain(self, text: str, smiles: str, timeout_seconds: float | None = None) -> Explanation:
        """Raises ENCODER_UNAVAILABLE too, when no worker answers."""
        deadline = time.monotonic() + (PATIENCE_SECONDS if timeout_seconds is None else timeout_seconds)
        with self._asked("explanation", [(text, smiles)], deadline) as [answer]:
            return Explanation.from_json(json.loads(self._answer(self._wait(answer, deadline)).explanation))

    def text_tokens(self, text: str) -> int:
        return text_tokens(text)

    def molecule_tokens(self, smiles: str) -> int:
        return molecule_tokens(smiles)

    def close(self) -> None:
        """Stops listening for answers."""
        self._replies.close()

    def _encode(self, kind: Literal["text", "molecule"], items: Sequence[str], timeout_seconds: float | None) -> NDArray[np.float32]:
        deadline = time.monotonic() + (PATIENCE_SECONDS if timeout_seconds is None else timeout_seconds)
        found = {
            item: vector for item in dict.fromkeys(items) if (vector := self._cache.get((self._model.version, kind, item))) is not None
        }
        missing = [item for item in dict.fromkeys(items) if item not in found]
        QUERY_CACHE.labels("hit").inc(len(found))
        QUERY_CACHE.labels("miss").inc(len(missing))
        questions = [tuple(missing[start : start + ITEMS_PER_QUESTION]) for start in range(0, len(missing), ITEMS_PER_QUESTION)]
        with self._asked(kind, questions, deadline) as answers:
            for asked, answer in zip(questions, answers, strict=True):
                vectors = self._read(self._wait(answer, deadline), len(asked))
                for item, vector in zip(asked, vectors, strict=True):
                    found[item] = vector
                    self._cache.put((self._model.version, kind, item), vector)
        return np.stack([found[item] for item in items]) if items else np.zeros((0, self._model.dimension), np.float32)

    @contextmanager
    def _asked(
        self, kind: Literal["text", "molecule", "explanation"], questions: Sequence[tuple[str, ...]], deadline: float
    ) -> Iterator[list[Future[Answer]]]:
        answers: dict[str, Future[Answer]] = {}
        try:
            for items in questions:
                question = uuid.uuid4().hex
                answers[question] = self._replies.expect(question)
                until = time.time() + max(0.0, deadline - time.monotonic())
                self._send(question, EncodeItems(kind, items, self._model.version, until))
            yield list(answers.values())
        finally:
            for question in answers:
                self._replies.forget(question)

    def _send(self, question: str, content: EncodeItems) -> None:
        try:
            self._app.send_task(
                content.name,
                args=[to_payload(content)],
                queue=content.queue,
                task_id=question,
                reply_to=self._replies.queue,
                delivery_mode=1,
                headers=carried(),
            )
        except BROKER_ERRORS as error:
            raise AtomasError(
                Reason.ENCODER_UNAVAILABLE, "The encoder cannot be asked, because the message broker is away. Try again in a moment."
            ) from error

    def _wait(self, answer: Future[Answer], deadline: float) -> Answer:
        probed = time.monotonic() + PROBE_SECONDS
        while True:
            now = time.monotonic()
            try:
                return answer.result(max(0.0, min(max(now + self._replies.silence_left(), probed), deadline) - now))
            except TimeoutError:
                if self._replies.silence_left() == 0.0 and time.monotonic() >= min(probed, deadline):
                    raise AtomasError(
                        Reason.ENCODER_UNAVAILABLE,
                        f"No encoder has answered for {self._silence_seconds:g} seconds or more. Workers of the queue `encode` with model "
                        f"{self._model.version} must be running: `python -m workers --queues encode`.",
                    ) from None
                if time.monotonic() >= deadline:
                    raise AtomasError(Reason.DEADLINE_EXCEEDED, "The deadline passed before the query was encoded.") from None

    def _answer(self, payload: Answer) -> EncodeAnswer:
        answer = from_payload(EncodeAnswer, payload)
        if answer.reason:
            raise AtomasError(Reason(answer.reason), answer.message)
        return answer

    def _read(self, payload: Answer, count: int) -> NDArray[np.float32]:
        answer = self._answer(payload)
        vectors = unpack_vectors(answer.vectors, self._model.dimension)
        if len(vectors) != count:
            raise AtomasError(Reason.INTERNAL, f"A worker answered {count} items with {len(vectors)} vectors.")
        return vectors


class VectorCache:
    """The vectors that were asked for last, by model version, kind and item. Thread-safe."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._vectors: OrderedDict[tuple[str, str, str], Vector] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, str]) -> Vector | None:
        """None for what is not, or no longer, remembered."""
        with self._lock:
            if key in self._vectors:
                self._vectors.move_to_end(key)
            return self._vectors.get(key)

    def put(self, key: tuple[str, str, str], vector: Vector) -> None:
        """Remembers a vector and forgets the one that was not asked for the longest."""
        with self._lock:
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            while len(self._vectors) > self._entries:
                self._vectors.popitem(last=False)
