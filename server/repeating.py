"""Work that is repeated on a thread of its own while something else goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def repeated(work: Callable[[], object], seconds: float, name: str, *, at_once: bool = False) -> Iterator[None]:
    """Does the work every so often while the block runs, the first time after one pause or at once."""
    ended = threading.Event()

    def loop() -> None:
        pause = 0.0 if at_once else seconds
        while not ended.wait(pause):
            pause = seconds
            try:
                work()
            except Exception:
                # The next round may find the store back.
                log.warning("failed, and will be tried again", work=name, exc_info=True)

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
