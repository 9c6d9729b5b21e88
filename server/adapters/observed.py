"""Ports with a clock and a span around their calls."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, cast

from prometheus_client import Histogram

from encoder.batching import Batch
from server.adapters.keeper_messages import Message
from server.adapters.rdkit_structures import Keeper
from server.observability.metrics import (
    BATCH_ITEMS,
    BATCH_SECONDS,
    BATCH_TOKENS,
    BATCH_WAIT_SECONDS,
    ENCODE_SECONDS,
    INDEX_SECONDS,
    STRUCTURE_SECONDS,
)
from server.observability.traces import Attribute, past_span, span
from server.ports import Encoder, VectorIndex

# Those that give iterators are left out: they return before they have done anything.
INDEX_CALLS = ("upsert", "delete", "delete_library", "search", "search_legs", "align", "documents", "fetch_vectors", "count", "flush")
ENCODER_CALLS = ("encode_texts", "encode_molecules", "encode_texts_and_phrases", "encode_molecules_and_fragments", "explain")


def observed_index(index: VectorIndex) -> VectorIndex:
    """The same index, observed."""
    return cast(VectorIndex, _Observed(index, "index", INDEX_CALLS, INDEX_SECONDS.labels))


def observed_encoder(encoder: Encoder, place: Literal["local", "worker"]) -> Encoder:
    """The same encoder, observed where it is asked; `place` is where its model lives."""
    return cast(Encoder, _Observed(encoder, "encoder", ENCODER_CALLS, lambda call: ENCODE_SECONDS.labels(place, call)))


class _Observed:
    """Stands before a port, of which it has every attribute."""

    def __init__(self, port: object, name: str, calls: Sequence[str], seconds: Callable[[str], Histogram]) -> None:
        self._port = port
        for call in calls:
            setattr(self, call, _timed(getattr(port, call), f"{name}.{call}", seconds(call)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def _timed(method: Callable[..., Any], name: str, seconds: Histogram) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            with span(name, None, **_size(args)):
                return method(*args, **kwargs)
        finally:
            seconds.observe(time.perf_counter() - started)

    return call


def _size(args: Sequence[Any]) -> dict[str, Attribute]:
    many = bool(args) and isinstance(args[0], Sequence) and not isinstance(args[0], str)
    return {"items": len(args[0])} if many else {}


class ObservedKeeper:
    """A structure keeper with its calls observed."""

    def __init__(self, keeper: Keeper, seconds: Histogram = STRUCTURE_SECONDS) -> None:
        self._keeper, self._seconds = keeper, seconds

    def call(self, head: Mapping[str, Any], parts: Sequence[bytes] = (), seconds: float | None = None) -> Message:
        """As the keeper's own."""
        name, started = str(head["call"]), time.perf_counter()
        try:
            with span(f"structures.{name}"):
                return self._keeper.call(head, parts, seconds)
        finally:
            self._seconds.labels(name).observe(time.perf_counter() - started)

    def close(self) -> None:
        self._keeper.close()


def observe_batch(batch: Batch) -> None:
    """For the model's batcher."""
    BATCH_ITEMS.labels(batch.kind).observe(len(batch.contexts))
    BATCH_TOKENS.labels(batch.kind).observe(batch.tokens)
    BATCH_WAIT_SECONDS.labels(batch.kind).observe(batch.wait_seconds)
    BATCH_SECONDS.labels(batch.kind).observe(batch.seconds)
    past_span("encoder.batch", batch.contexts, batch.seconds, kind=batch.kind, items=len(batch.contexts), tokens=batch.tokens)
