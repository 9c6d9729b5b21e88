"""The structure keeper as its parent sees it: one child process, replaced when a question takes too long or the child dies."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import structlog

from server.adapters.keeper_messages import THREADS, Message, read_message, write_message
from server.domain.errors import AtomasError, Reason

log = structlog.get_logger(__name__)

# The child looks at the clock between two molecules; whoever is later than this sits in one that will not end.
_GRACE_SECONDS = 0.5
# A write waits for the writes before it, a start for the log to be read.
_PATIENCE_SECONDS = 300.0
_ATTEMPTS = 3
_MODULE = "server.adapters.keeper_main"


class _ChildLostError(Exception):
    """The child ended before it answered; another one may answer."""


class _Child:
    """One process and the questions that wait for its answers."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *arguments], cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[Message]] = {}
        self._numbers = itertools.count(1)
        self._lost = False
        self.ready: Future[Message] = Future()
        self._waiting[0] = self.ready
        threading.Thread(target=self._read, name="structure-keeper", daemon=True).start()

    def ask(self, head: Mapping[str, Any], parts: Sequence[bytes]) -> Future[Message]:
        """Sends a question; its answer, or _ChildLostError, comes later."""
        future: Future[Message] = Future()
        assert self._process.stdin is not None
        with self._sending:
            if self._lost:
                raise _ChildLostError
            number = next(self._numbers)
            self._waiting[number] = future
            try:
                write_message(self._process.stdin, Message({**head, "id": number}, parts))  # type: ignore[arg-type] # a binary pipe
            except (OSError, ValueError):
                self._waiting.pop(number, None)
                raise _ChildLostError from None
        return future

    def kill(self) -> None:
        """At once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """After the writes under way."""
        assert self._process.stdin is not None
        with self._sending:
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        finally:
            self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (message := read_message(self._process.stdout)) is not None:  # type: ignore[arg-type] # a binary pipe
                future = self._waiting.pop(message.head["id"], None)
                if future is not None:
                    future.set_result(message)
        except (OSError, ValueError):
            self._process.kill()
        with self._sending:
            self._lost = True
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(_ChildLostError())


class KeeperProcess:
    """Asks the child; thread-safe. Questions under a limit of time end with TIMEOUT, and nobody else's questions with them."""

    def __init__(self, path: Path, live_molecules: int) -> None:
        """Starts the child on its file and does not wait for it: the first question does."""
        self._arguments = [str(path.resolve()), str(live_molecules)]
        self._changing = threading.Lock()
        # One of the child's threads stays free for questions that take no time.
        self._slots = threading.BoundedSemaphore(THREADS - 1)
        self._closed = False
        self._child = _Child(self._arguments)

    def call(self, head: Mapping[str, Any], parts: Sequence[bytes] = (), seconds: float | None = None) -> Message:
        """The answer. Raises what the keeper refuses, TIMEOUT after `seconds`, OVERLOADED, INDEX_UNAVAILABLE."""
        if seconds is None:
            return self._ask(head, parts, None)
        if not self._slots.acquire(timeout=seconds):
            raise AtomasError(Reason.OVERLOADED, "Other structure searches take all the time there is. Try again in a moment.")
        try:
            return self._ask({**head, "seconds": seconds}, parts, seconds)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Ends the child after the writes under way."""
        with self._changing:
            self._closed = True
            self._child.close()

    def _ask(self, head: Mapping[str, Any], parts: Sequence[bytes], seconds: float | None) -> Message:
        for _ in range(_ATTEMPTS):
            child = self._child
            try:
                child.ready.result(_PATIENCE_SECONDS)
                answer = child.ask(head, parts).result(_PATIENCE_SECONDS if seconds is None else seconds + _GRACE_SECONDS)
            except FutureTimeout:
                log.warning("structure keeper replaced: it did not answer in time", call=head["call"])
                self._replace(child)
                if seconds is not None:
                    raise _too_slow(seconds) from None
            except _ChildLostError:
                self._replace(child)
            else:
                return _checked(answer, seconds)
        raise AtomasError(
            Reason.INDEX_UNAVAILABLE,
            f"The structure keeper on {self._arguments[0]} died {_ATTEMPTS} times over one question. Its messages are in the log.",
        )

    def _replace(self, child: _Child) -> None:
        with self._changing:
            if self._closed:
                raise AtomasError(Reason.INDEX_UNAVAILABLE, "The structure index is closed.")
            if self._child is child:
                child.kill()
                self._child = _Child(self._arguments)


def _checked(answer: Message, seconds: float | None) -> Message:
    error = answer.head.get("error")
    if error is None:
        return answer
    if error["reason"] == Reason.TIMEOUT:
        raise _too_slow(seconds or 0)
    raise AtomasError(Reason(error["reason"]), error["message"])


def _too_slow(seconds: float) -> AtomasError:
    return AtomasError(
        Reason.TIMEOUT,
        f"The pattern took longer than {seconds:g} seconds over these libraries. Make it more specific, or search fewer libraries.",
    )
