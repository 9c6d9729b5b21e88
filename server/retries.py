"""How often a job that failed is tried again, and after which pauses, by the reason of its failure."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.domain.errors import Reason


@dataclass(frozen=True)
class Retry:
    """Pauses double from the first to the longest."""

    # None: as long as it takes.
    attempts: int | None
    first_seconds: float
    longest_seconds: float

    def pause_seconds(self, failures: int) -> float:
        """Before the next attempt, after so many failures."""
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(max(failures - 1, 0), 30))


# The store is away or full, a worker is missing: that is not the job's fault.
RETRIES: Mapping[Reason, Retry] = {
    Reason.DATABASE_UNAVAILABLE: Retry(None, 0.5, 15),
    Reason.INDEX_UNAVAILABLE: Retry(None, 0.5, 15),
    Reason.ENCODER_UNAVAILABLE: Retry(None, 1, 15),
    Reason.OVERLOADED: Retry(None, 1, 15),
    Reason.DEADLINE_EXCEEDED: Retry(None, 1, 15),
    Reason.DISK_FULL: Retry(None, 5, 60),
}


def retry_of(reason: Reason, attempts: int) -> Retry:
    """What to do after a failure; `attempts` is for reasons that may be the job's own fault."""
    return RETRIES.get(reason) or Retry(attempts, 1, 30)
