"""Background jobs on threads of this process; what is lost with the process the sweep finds in the database again."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import structlog

from server.domain.errors import AtomasError, Reason
from server.jobs import JOBS, Job
from server.observability.context import carried
from server.observability.jobs import job_under_way
from server.retries import retry_of

log = structlog.get_logger(__name__)
_Waiting: TypeAlias = "queue.SimpleQueue[tuple[Job, Mapping[str, str]] | None]"


class LocalQueue:
    """One thread per queue name: chunks are read in order while the index takes in former ones."""

    def __init__(self, attempts: int, retry_seconds: float = 1.0) -> None:
        self._attempts = attempts
        self._retry_seconds = retry_seconds
        # Each with what it carries of the call that sent it.
        self._queues: dict[str, _Waiting] = {job.queue: queue.SimpleQueue() for job in JOBS}
        self._waiting: set[Job] = set()
        self._failures: Counter[Job] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, run: Callable[[Job], None], give_up: Callable[[Job, Reason, str], None]) -> None:
        """Begins to work; `give_up` is told of a job that failed for good."""
        for name, jobs in self._queues.items():
            thread = threading.Thread(target=self._work, args=(jobs, run, give_up), name=f"jobs-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def send(self, job: Job) -> None:
        """Queues a job; one that already waits or runs is not queued twice."""
        with self._lock:
            if job in self._waiting or self._stopping.is_set():
                return
            self._waiting.add(job)
        self._queues[job.queue].put((job, carried()))

    def send_again(self, job: Job) -> None:
        """As `send`: what waits or runs here is known."""
        self.send(job)

    def depth(self) -> dict[str, int]:
        """Jobs that wait, per queue."""
        return {name: jobs.qsize() for name, jobs in self._queues.items()}

    def close(self) -> None:
        """Returns when the running jobs have ended; waiting ones stay in the database."""
        self._stopping.set()
        for jobs in self._queues.values():
            jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: _Waiting, run: Callable[[Job], None], give_up: Callable[[Job, Reason, str], None]) -> None:
        while (next_one := jobs.get()) is not None and not self._stopping.is_set():
            job, carrier = next_one
            with job_under_way(job, carrier) as outcome:
                reason, message = self._attempt(job, run)
                outcome.reason = reason
            with self._lock:
                self._waiting.discard(job)
            if reason is None:
                self._failures.pop(job, None)
                continue
            self._failures[job] += retry_of(reason, self._attempts).attempts is not None
            if self._failures[job] >= self._attempts:
                self._failures.pop(job)
                self._give_up(job, reason, message, give_up)
            else:
                self._stopping.wait(self._retry_seconds)
                self.send(job)

    @staticmethod
    def _give_up(job: Job, reason: Reason, message: str, give_up: Callable[[Job, Reason, str], None]) -> None:
        try:
            give_up(job, reason, message)
        except Exception:
            # The sweep sends the job again, and it is given up then.
            log.warning("job could not be given up", job=job.name, exc_info=True)

    @staticmethod
    def _attempt(job: Job, run: Callable[[Job], None]) -> tuple[Reason | None, str]:
        try:
            run(job)
        except AtomasError as error:
            return error.reason, error.message
        except Exception as error:
            # A thread that died here would stop every import silently.
            log.exception("job failed")
            return Reason.INTERNAL, f"{job.name} failed: {type(error).__name__}. The server's log has the details."
        return None, ""
