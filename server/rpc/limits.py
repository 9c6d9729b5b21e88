"""How much one caller may ask for: calls at once, and units a second with a reserve."""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from server.domain.errors import AtomasError, Reason
from server.rpc.errors import RETRY_DETAIL

REMEMBERED_CALLERS = 10_000


class CallLimits:
    """Of one server process; used from its event loop alone."""

    def __init__(self, calls: int, caller_calls: int, units_per_second: float, reserve: float) -> None:
        """Calls at once, of all and of each caller, and the bucket of each caller; 0 stands for no limit."""
        self._calls, self._caller_calls = calls, caller_calls
        self._rate, self._reserve = units_per_second, max(reserve, 1.0)
        self._running: Counter[str] = Counter()
        # What each caller has left, and when that was: callers that were not heard of for long have all of it.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def counts(self) -> bool:
        """Whether units are counted at all."""
        return self._rate > 0

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """A place for a call as long as the block runs. Raises OVERLOADED."""
        if self._calls and self._running.total() >= self._calls:
            raise AtomasError(Reason.OVERLOADED, "The service is busy with other calls. Try again in a moment.")
        if self._caller_calls and self._running[caller] >= self._caller_calls:
            message = f"This caller has {self._caller_calls} calls under way, which is all it may have. Wait for one to end."
            raise AtomasError(Reason.OVERLOADED, message)
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]

    def wait_seconds(self, caller: str, units: int) -> float:
        """0 when the units have been taken, else how long the caller has to wait before it asks again.

        One request may cost more than the reserve: it passes while anything is left, and the caller waits until the debt is paid.
        """
        if not self._rate:
            return 0.0
        now = time.monotonic()
        left, then = self._buckets.get(caller, (self._reserve, now))
        left = min(self._reserve, left + (now - then) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[caller] = (left if wait else left - units, now)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > REMEMBERED_CALLERS:
            self._buckets.popitem(last=False)
        return wait

    def take(self, caller: str, units: int) -> None:
        """Raises RATE_LIMITED with the time to wait."""
        if wait := self.wait_seconds(caller, units):
            message = f"This caller asks for more than {self._rate:g} units (tokens, rows, calls) a second. Try again in {wait:.1f} s."
            raise AtomasError(Reason.RATE_LIMITED, message, **{RETRY_DETAIL: f"{wait:.3f}"})
