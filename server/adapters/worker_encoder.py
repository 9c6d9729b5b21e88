"""The encoder in the workers: this process asks over the broker, remembers recent queries, and never imports torch."""

import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
from celery import Celery
from numpy.typing import NDArray

from encoder.manifest import ModelFacts, molecule_tokens, text_tokens
from server.adapters.broker import BROKER_ERRORS
from server.adapters.replies import Answer, Replies
from server.domain.abandonment import stopping
from server.domain.errors import AtomasError, Reason
from server.domain.explanations import Explanation
from server.domain.models import ModelVersion
from server.jobs import EncodeAnswer, EncodeItems, EncodeKind, from_payload, to_payload, unpack_vectors
from server.observability.context import carried
from server.observability.metrics import QUERY_CACHE
from server.ports import Parts, Vector

Encoded = TypeVar("Encoded")

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
        self._model = ModelVersion(facts.version, facts.dimension, molecule_standard, facts.max_tokens, facts.fragment_dimension)
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

    def encode_texts_and_phrases(self, texts: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """A unit vector and the phrases of each text. Raises ENCODER_UNAVAILABLE too, when no worker answers."""
        if not self._model.fragment_dimension:
            return [(vector, Parts.none()) for vector in self.encode_texts(texts, timeout_seconds)]
        return self._asked_for("text and phrases", texts, timeout_seconds, self._read_parts)

    def encode_molecules_and_fragments(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """A unit vector and the fragments of each molecule. Raises ENCODER_UNAVAILABLE too, when no worker answers."""
        if not self._model.fragment_dimension:
            return [(vector, Parts.none()) for vector in self.encode_molecules(smiles, timeout_seconds)]
        return self._asked_for("molecule and fragments", smiles, timeout_seconds, self._read_parts)

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
        vectors = self._asked_for(kind, items, timeout_seconds, self._read)
        return np.stack(vectors) if vectors else np.zeros((0, self._model.dimension), np.float32)

    def _asked_for(
        self, kind: EncodeKind, items: Sequence[str], timeout_seconds: float | None, read: Callable[[Answer, int], Sequence[Encoded]]
    ) -> list[Encoded]:
        """One answer for each item, in order: remembered, or from a worker."""
        deadline = time.monotonic() + (PATIENCE_SECONDS if timeout_seconds is None else timeout_seconds)
        found: dict[str, Encoded] = {
            item: known for item in dict.fromkeys(items) if (known := self._cache.get((self._model.version, kind, item))) is not None
        }
        missing = [item for item in dict.fromkeys(items) if item not in found]
        QUERY_CACHE.labels("hit").inc(len(found))
        QUERY_CACHE.labels("miss").inc(len(missing))
        questions = [tuple(missing[start : start + ITEMS_PER_QUESTION]) for start in range(0, len(missing), ITEMS_PER_QUESTION)]
        with self._asked(kind, questions, deadline) as answers:
            for asked, answer in zip(questions, answers, strict=True):
                for item, encoded in zip(asked, read(self._wait(answer, deadline), len(asked)), strict=True):
                    found[item] = encoded
                    self._cache.put((self._model.version, kind, item), encoded)
        return [found[item] for item in items]

    @contextmanager
    def _asked(self, kind: EncodeKind, questions: Sequence[tuple[str, ...]], deadline: float) -> Iterator[list[Future[Answer]]]:
        answers: dict[str, Future[Answer]] = {}
        try:
            for items in questions:
                question = uuid.uuid4().hex
                answers[question] = self._replies.expect(question)
                until = time.time() + max(0.0, deadline - time.monotonic())
                self._send(question, EncodeItems(kind, items, self._model.version, until))
            with stopping(lambda: [answer.cancel() for answer in answers.values()]):
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
            except CancelledError:
                # Workers finish what they have begun, and nobody hears of it.
                raise AtomasError(Reason.DEADLINE_EXCEEDED, "The caller left before the query was encoded.") from None
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

    def _read(self, payload: Answer, count: int) -> Sequence[Vector]:
        return self._vectors(self._answer(payload), count)

    def _read_parts(self, payload: Answer, count: int) -> list[tuple[Vector, Parts]]:
        answer = self._answer(payload)
        if len(answer.part_counts) != count:
            raise AtomasError(
                Reason.ENCODER_UNAVAILABLE, "A worker of the queue `encode` is of an older release than this server. Bring it up to date."
            )
        ends = np.cumsum(answer.part_counts)[:-1]
        vectors = np.split(unpack_vectors(answer.parts, self._model.fragment_dimension), ends)
        weights = np.split(unpack_vectors(answer.part_weights, 1)[:, 0], ends)
        parts = [Parts(*each) for each in zip(vectors, weights, strict=True)]
        return list(zip(self._vectors(answer, count), parts, strict=True))

    def _vectors(self, answer: EncodeAnswer, count: int) -> Sequence[Vector]:
        vectors = unpack_vectors(answer.vectors, self._model.dimension)
        if len(vectors) != count:
            raise AtomasError(Reason.INTERNAL, f"A worker answered {count} items with {len(vectors)} vectors.")
        return list(vectors)


class VectorCache:
    """What was encoded last, by model version, kind and item. Thread-safe."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._vectors: OrderedDict[tuple[str, str, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, str]) -> Any:
        """None for what is not, or no longer, remembered."""
        with self._lock:
            if key in self._vectors:
                self._vectors.move_to_end(key)
            return self._vectors.get(key)

    def put(self, key: tuple[str, str, str], vector: Any) -> None:
        """Remembers one and forgets the one that was not asked for the longest."""
        with self._lock:
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            while len(self._vectors) > self._entries:
                self._vectors.popitem(last=False)
