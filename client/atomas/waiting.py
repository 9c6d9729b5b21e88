"""When to look at a long-running operation again, and what its end means."""

from time import monotonic

from atomas.errors import AtomasError, DeadlineExceededError, OperationFailedError, UnavailableError
from atomas.types import ImportReport, Operation, OperationState

_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.05, 1.0
# A service that restarts goes on with its operations; it is given this long to come back.
_PATIENCE_SECONDS = 120.0


class OperationWatch:
    """The pace of one wait: often at first, then every second, with patience for a service that restarts."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._deadline = None if timeout_seconds is None else monotonic() + timeout_seconds
        self._delay_seconds = _FIRST_DELAY_SECONDS
        self._missing_since: float | None = None

    def seen(self, operation: Operation) -> float:
        """Seconds until the next look at an operation that is not done. Raises DeadlineExceededError when the wait is over."""
        self._missing_since = None
        self._delay_seconds = min(self._delay_seconds * 1.5, _MAX_DELAY_SECONDS)
        return self._bounded(self._delay_seconds, operation.resource_name)

    def missed(self, error: AtomasError, name: str) -> float:
        """Seconds until the next look after one that failed; raises the error when waiting is of no use."""
        now = monotonic()
        self._missing_since = self._missing_since or now
        if not isinstance(error, UnavailableError | DeadlineExceededError) or now - self._missing_since > _PATIENCE_SECONDS:
            raise error
        return self._bounded(_MAX_DELAY_SECONDS, name)

    def _bounded(self, delay_seconds: float, name: str) -> float:
        if self._deadline is None:
            return delay_seconds
        remaining_seconds = self._deadline - monotonic()
        if remaining_seconds <= 0:
            raise DeadlineExceededError(f"{name} is not done yet; it goes on, so wait for it again.", reason="DEADLINE_EXCEEDED")
        return min(delay_seconds, remaining_seconds)


def checked(operation: Operation) -> Operation:
    """A finished operation; raises OperationFailedError when it failed."""
    if operation.state is OperationState.FAILED:
        raise OperationFailedError(
            operation.message or f"{operation.resource_name} failed without a word.", reason=operation.reason, operation=operation
        )
    return operation


def report(operation: Operation, rows: int) -> ImportReport:
    return ImportReport(
        operation=operation.resource_name, library=operation.library, state=operation.state, rows=rows, counts=operation.counts
    )
