"""The queue of answers to this process: one thread receives them and wakes the callers that wait."""

import contextlib
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

import structlog
from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue

from server.adapters.broker import BROKER_ERRORS, HEARTBEAT_SECONDS

log = structlog.get_logger(__name__)

Answer: TypeAlias = Mapping[str, Any]

# The broker drops the queue of a process that has been gone for so long.
EXPIRES_SECONDS = 60
_LOOK_UP_SECONDS = 0.5


class Replies:
    """Answers by the id of their question. The thread and its connection start with the first question.

    Celery's own results were tried: each waiting thread has a connection of its own there, and after a restart of RabbitMQ none of them
    hears an answer again.
    """

    def __init__(self, app: Celery, silence_seconds: float) -> None:
        """Workers count as gone when questions have waited for `silence_seconds` without any answer, until one comes."""
        self._app = app
        self._silence_seconds = silence_seconds
        self.queue = f"replies.{uuid.uuid4().hex}"
        self._waiting: dict[str, Future[Answer]] = {}
        self._silent_since: float | None = None
        self._lock = threading.Lock()
        self._listening = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, question: str) -> Future[Answer]:
        """The answer to come; to be called before the question is sent."""
        answer: Future[Answer] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="replies", daemon=True)
                self._thread.start()
            self._waiting[question] = answer
            if self._silent_since is None:
                self._silent_since = time.monotonic()
        # Redis keeps answers for a listener that is about to come, but RabbitMQ has no queue before there is one.
        self._listening.wait(_LOOK_UP_SECONDS)
        return answer

    def forget(self, question: str) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._waiting.pop(question, None)
            if not self._waiting and self._silent_seconds() < self._silence_seconds:
                # Whoever was in a hurry proves nothing about the workers.
                self._silent_since = None

    def silence_left(self) -> float:
        """Seconds until the workers count as gone, unless an answer comes; 0 when they do."""
        with self._lock:
            return max(0.0, self._silence_seconds - self._silent_seconds())

    def _silent_seconds(self) -> float:
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def close(self) -> None:
        """Returns when the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._app.connection_for_read(heartbeat=HEARTBEAT_SECONDS) as connection:
                    self._receive(connection)
            except BROKER_ERRORS as error:
                self._listening.clear()
                log.warning("no answers: the broker is away", error=str(error))
                self._stopping.wait(_LOOK_UP_SECONDS)
            except Exception:
                # A thread that died here would leave every query without an answer.
                self._listening.clear()
                log.exception("no answers: listening failed")
                self._stopping.wait(_LOOK_UP_SECONDS)

    def _receive(self, connection: Connection) -> None:
        queue = Queue(self.queue, Exchange(""), routing_key=self.queue, expires=EXPIRES_SECONDS)
        with connection.channel() as channel, Consumer(channel, [queue], callbacks=[self._take], accept=["json"], no_ack=True):
            self._listening.set()
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=_LOOK_UP_SECONDS)
                if connection.supports_heartbeats:
                    connection.heartbeat_check()

    def _take(self, body: Answer, message: Any) -> None:
        with self._lock:
            answer = self._waiting.pop(message.properties.get("correlation_id", ""), None)
            self._silent_since = time.monotonic() if self._waiting else None
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(body)
