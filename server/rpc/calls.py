"""Runs synchronous use cases for the asynchronous edge: a bounded pool that refuses at once what it cannot take."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from server.domain.abandonment import ABANDONMENT, Abandonment
from server.domain.errors import AtomasError, Reason

P = ParamSpec("P")
R = TypeVar("R")


class Calls:
    """The bridge from the event loop to the use cases."""

    def __init__(self, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="calls")
        self._places = threads + queue
        self._taken = 0

    async def run(self, use_case: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The use case's result. Raises OVERLOADED when every place is taken.

        When its caller leaves, work that waits for a thread is dropped, and work under way stops waiting for the encoder (`ABANDONMENT`). A
        place is free again when the work ends, not when its caller leaves: what cannot be stopped still occupies its thread.
        """
        if self._taken >= self._places:
            raise AtomasError(Reason.OVERLOADED, "The service is busy with other calls. Try again in a moment.")
        loop, context, abandonment = asyncio.get_running_loop(), contextvars.copy_context(), Abandonment()
        context.run(ABANDONMENT.set, abandonment)
        future = self._pool.submit(context.run, functools.partial(use_case, *args, **kwargs))
        self._taken += 1
        future.add_done_callback(functools.partial(self._told, loop))
        waited = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:
            # An abandoned failure is reported to nobody.
            waited.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            if not future.cancel():
                abandonment.happen()
            raise

    def _told(self, loop: asyncio.AbstractEventLoop, future: "Future[Any]") -> None:
        # Of work that outlives the loop nobody counts the places.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._taken -= 1

    def close(self) -> None:
        """Returns when running use cases have ended."""
        self._pool.shutdown(wait=True, cancel_futures=True)
