"""Jobs over Celery: sent by name as JSON, done by workers; what the broker loses the sweep sends again."""

import threading
import time
from collections import OrderedDict

import structlog
from celery import Celery

from server.adapters.broker import BROKER_ERRORS
from server.jobs import Job, to_payload
from server.observability.context import carried

log = structlog.get_logger(__name__)

# While the broker is away nobody waits for it more often than this.
_PAUSE_SECONDS = 2.0
_REMEMBERED_JOBS = 100_000


class CeleryQueue:
    """The `JobQueue` port on a broker. Thread-safe."""

    def __init__(self, app: Celery, resend_seconds: float) -> None:
        """A job whose work still stands `resend_seconds` after it was sent counts as lost."""
        self._app = app
        self._resend_seconds = resend_seconds
        self._lock = threading.Lock()
        # When each job was last sent from here or, if others sent it, first missed.
        self._times: OrderedDict[Job, float] = OrderedDict()
        self._away_until = 0.0

    def send(self, job: Job) -> None:
        """Sends a job unless the same one was sent from here within `resend_seconds`; a broker that is away is no error."""
        with self._lock:
            now = time.monotonic()
            if now < self._times.get(job, -self._resend_seconds) + self._resend_seconds:
                return
            self._remember(job, now)
        self._send(job)

    def send_again(self, job: Job) -> None:
        """For the sweep: sends a job whose work has stood still for `resend_seconds`."""
        with self._lock:
            now = time.monotonic()
            since = self._times.get(job)
            if since is None:
                # A worker or another server sent it, or this one before it was restarted.
                self._remember(job, now)
            if since is None or now < since + self._resend_seconds:
                return
            self._remember(job, now)
        self._send(job)

    def depth(self) -> dict[str, int]:
        """Messages that no worker has taken, by queue, the encoder's questions too; nothing while the broker is away."""
        if time.monotonic() < self._away_until:
            return {}
        try:
            with self._app.connection_for_read() as connection, connection.channel() as channel:
                return {queue.name: int(queue(channel).queue_declare().message_count) for queue in self._app.conf.task_queues}
        except BROKER_ERRORS as error:
            log.info("the broker is away; queues cannot be measured", error=type(error).__name__)
            return {}

    def _remember(self, job: Job, when: float) -> None:
        self._times[job] = when
        self._times.move_to_end(job)
        if len(self._times) > _REMEMBERED_JOBS:
            self._times.popitem(last=False)

    def _send(self, job: Job) -> None:
        try:
            if time.monotonic() >= self._away_until:
                self._app.send_task(job.name, args=[to_payload(job), 0], queue=job.queue, headers=carried())
                return
        except BROKER_ERRORS as error:
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            log.warning("the broker is away; the sweep will send what it missed", job=job.name, error=str(error))
        with self._lock:
            # The next sweep shall send it.
            self._remember(job, time.monotonic() - self._resend_seconds)
