"""The ports of jobs: the queue that delivers them, and which of them were begun."""

from collections.abc import Mapping
from typing import Protocol

from server.jobs import Job


class JobQueue(Protocol):
    """At-least-once delivery of jobs. A job that cannot be sent is no error: the sweep finds its work in the database."""

    def send(self, job: Job) -> None:
        """Sends a job, unless the same one has just been sent from here."""
        ...

    def send_again(self, job: Job) -> None:
        """For the sweep: sends a job that somebody has sent before, unless it may still be on its way."""
        ...

    def depth(self) -> Mapping[str, int]:
        """What waits, by queue; nothing where that cannot be found out."""
        ...


class JobStarts(Protocol):
    """Jobs that were begun. Whoever does a job shows signs of life until its end: one that falls silent has died of it, or with it."""

    def begin(self, job: str, start: str, silent_seconds: float) -> int:
        """Note a start; returns how many former starts of the job have been silent for so long."""
        ...

    def beat(self, job: str, start: str) -> None:
        """A sign of life."""
        ...

    def end(self, job: str, start: str | None = None) -> None:
        """Forget one start, or all when the job is done."""
        ...

    def forget(self, older_than_seconds: float) -> None:
        """Forget starts that nobody will ask for again."""
        ...
