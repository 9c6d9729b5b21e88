"""Gathers calls of many threads into few forward passes: one thread owns the model."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Answer = TypeVar("Answer")
# Encodes a batch: one answer for each item, in order.
Encode: TypeAlias = Callable[[Sequence[str]], Iterable[Any]]


class BatchEncoder(Protocol):
    """What the batcher needs of an encoder."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def encode_molecules(self, smiles: Sequence[str]) -> NDArray[np.float32]: ...


class BatcherFullError(Exception):
    """More tokens are waiting than the batcher holds; try again shortly."""


class BatcherClosedError(Exception):
    """The batcher was closed."""


@dataclass(slots=True)
class _Call:
    kind: str
    # What encodes it together with others that have the same; None for work of its own.
    encode: Encode | None
    # A text or a molecule; for work of its own, the work.
    item: Any
    cost: int
    deadline: float | None
    future: "Future[Any]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True)
class Batch:
    """What one forward pass did, for whoever observes."""

    kind: str
    tokens: int
    # How long the first item had waited.
    wait_seconds: float
    seconds: float
    # Of the callers, one for each item.
    contexts: list[Context]


class TokenBudgetBatcher:
    """Runs an encoder on its own thread, in batches of up to `batch_tokens` tokens gathered for up to `wait_seconds`.

    Calls whose future was cancelled or whose deadline passed are dropped before they cost anything. When a batch fails, each of its items
    is tried alone, so that only the one at fault fails.
    """

    def __init__(
        self,
        encoder: BatchEncoder,
        batch_tokens: int = 16_384,
        wait_seconds: float = 0.003,
        max_waiting_tokens: int = 1_000_000,
        observe: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """`observe` is told of every forward pass, on the model's thread."""
        if batch_tokens < 1 or max_waiting_tokens < 1 or wait_seconds < 0:
            raise ValueError("batch_tokens and max_waiting_tokens must be positive, wait_seconds not negative")
        self._encode: dict[str, Encode] = {"text": encoder.encode_texts, "molecule": encoder.encode_molecules}
        self._batch_tokens, self._wait_seconds, self._max_waiting_tokens = batch_tokens, wait_seconds, max_waiting_tokens
        self._observe = observe
        self._waiting: deque[_Call] = deque()
        self._waiting_tokens = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, kind: str, item: str, cost: int, deadline: float | None = None) -> "Future[Vector]":
        """Queue a `text` or a `molecule` of `cost` tokens; the future gives its vector (D,).

        `deadline` is a time of `time.monotonic`; once it has passed the future raises TimeoutError. BatcherFullError when too much
        waits, BatcherClosedError after `close`.
        """
        if kind not in self._encode:
            raise ValueError(f"kind must be text or molecule, not {kind!r}")
        return self._queue(_Call(kind, self._encode[kind], item, max(cost, 1), deadline))

    def submit_to(
        self, kind: str, encode: Callable[[Sequence[str]], Iterable[Answer]], item: str, cost: int, deadline: float | None = None
    ) -> "Future[Answer]":
        """Queue an item for a function of the model, which takes the items of one batch together; otherwise as `submit`.

        `kind` is what observers are told.
        """
        return self._queue(_Call(kind, encode, item, max(cost, 1), deadline))

    def submit_work(self, work: Callable[[], Answer], cost: int, deadline: float | None = None) -> "Future[Answer]":
        """Queue something else that only the model's thread may do; otherwise as `submit`."""
        return self._queue(_Call("work", None, work, max(cost, 1), deadline))

    def _queue(self, call: _Call) -> "Future[Any]":
        with self._changed:
            if self._closed:
                raise BatcherClosedError("the batcher is closed")
            # An empty queue takes any item: one that is larger than the bound is refused by the model's own limit, not for ever by this one.
            if self._waiting and self._waiting_tokens + call.cost > self._max_waiting_tokens:
                raise BatcherFullError(f"{self._waiting_tokens} tokens are waiting for the model, at most {self._max_waiting_tokens} may")
            self._waiting.append(call)
            self._waiting_tokens += call.cost
            self._changed.notify()
        return call.future

    def close(self) -> None:
        """Refuse new calls, finish those waiting, and return when the thread has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while calls := self._gather():
            for encode in dict.fromkeys(call.encode for call in calls if call.encode is not None):
                live = [call for call in calls if call.encode == encode and _start(call)]
                if live:
                    self._resolve(live, encode)
            for call in calls:
                if call.encode is None and _start(call):
                    _resolve_work(call)

    def _resolve(self, calls: list[_Call], encode: Encode) -> None:
        started = time.monotonic()
        try:
            answers = encode([call.item for call in calls])
            ended = time.monotonic()
            tokens, waited = sum(call.cost for call in calls), started - min(call.queued for call in calls)
            self._observe(Batch(calls[0].kind, tokens, waited, ended - started, [call.context for call in calls]))
        except Exception as error:
            if len(calls) == 1:
                calls[0].future.set_exception(error)
                return
            for call in calls:
                self._resolve([call], encode)
            return
        for call, answer in zip(calls, answers, strict=True):
            call.future.set_result(answer)

    def _gather(self) -> list[_Call]:
        """The next batch, oldest call first; empty when closed and drained."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._wait_seconds
            while not self._closed and self._waiting_tokens < self._batch_tokens and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            batch: list[_Call] = []
            tokens = 0
            while self._waiting and (not batch or tokens + self._waiting[0].cost <= self._batch_tokens):
                call = self._waiting.popleft()
                self._waiting_tokens -= call.cost
                tokens += call.cost
                batch.append(call)
            return batch


def _start(call: _Call) -> bool:
    """Whether somebody still wants the answer."""
    if not call.future.set_running_or_notify_cancel():
        return False
    if call.deadline is not None and time.monotonic() >= call.deadline:
        call.future.set_exception(TimeoutError("the deadline passed before the model was free"))
        return False
    return True


def _resolve_work(call: _Call) -> None:
    try:
        call.future.set_result(call.item())
    except Exception as error:
        call.future.set_exception(error)
