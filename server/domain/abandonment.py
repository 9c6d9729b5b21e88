"""Work whose caller has left: whoever waits on its behalf stops waiting, and what has not begun does not begin."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Abandonment:
    """Of one piece of work. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._abandoned = False
        self._stops: dict[int, Callable[[], object]] = {}

    @property
    def happened(self) -> bool:
        """Whether nobody waits for the work any more."""
        return self._abandoned

    def happen(self) -> None:
        """The caller has left: stops what has been noted, and what will be."""
        with self._lock:
            self._abandoned = True
            stops, self._stops = list(self._stops.values()), {}
        for stop in stops:
            stop()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """While the block runs, an abandonment calls `stop`, on whatever thread it happens."""
        with self._lock:
            if not self._abandoned:
                self._stops[id(stop)] = stop
        if self._abandoned:
            stop()
        try:
            yield
        finally:
            with self._lock:
                self._stops.pop(id(stop), None)


# Of the call that is being worked on; work without one is never abandoned.
ABANDONMENT: ContextVar[Abandonment | None] = ContextVar("abandonment", default=None)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """As `Abandonment.stopping`, of the present call."""
    present = ABANDONMENT.get()
    if present is None:
        yield
    else:
        with present.stopping(stop):
            yield
