"""A background job under way: its log records name it and its operation, it is measured, and it is a span."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from server.domain.errors import Reason
from server.jobs import Job
from server.observability.context import working_for
from server.observability.metrics import JOB_SECONDS
from server.observability.traces import mark_failed

log = structlog.get_logger(__name__)
DONE = "done"


@dataclass
class Outcome:
    """How the attempt ended: None for well."""

    reason: Reason | None = None


@contextmanager
def job_under_way(job: Job, carrier: Mapping[str, str]) -> Iterator[Outcome]:
    """For one attempt, by whoever does it; the block tells its outcome. `carrier` came with the job from the call that sent it."""
    outcome, started = Outcome(), time.perf_counter()
    with working_for(carrier, f"job {job.name}", job=job.name, **_subject(job)):
        try:
            yield outcome
        finally:
            seconds = time.perf_counter() - started
            JOB_SECONDS.labels(job.name, outcome.reason or DONE).observe(seconds)
            if outcome.reason is None:
                log.debug("job done", seconds=round(seconds, 4))
            else:
                mark_failed(outcome.reason)
                log.warning("job refused", reason=outcome.reason.value, seconds=round(seconds, 4))


def _subject(job: Job) -> dict[str, str]:
    """The long-running operation that the job belongs to, by the name that callers know it by."""
    found = getattr(job, "operation", "") or getattr(job, "generation", "")
    return {"operation": f"operations/{found}"} if found else {}
