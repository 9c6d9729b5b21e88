"""Runs synchronous use cases for the asynchronous edge: a bounded pool that refuses at once what it cannot take."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

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

        A place is free again when the work ends, not when its caller leaves: abandoned work still occupies its thread.
        """
        if self._taken >= self._places:
            raise AtomasError(Reason.OVERLOADED, "The service is busy with other calls. Try again in a moment.")
        self._taken += 1
        loop = asyncio.get_running_loop()
        work = functools.partial(contextvars.copy_context().run, functools.partial(use_case, *args, **kwargs))
        future = loop.run_in_executor(self._pool, work)
        future.add_done_callback(self._leave)
        return await asyncio.shield(future)

    def _leave(self, future: asyncio.Future[R]) -> None:
        self._taken -= 1
        if not future.cancelled():
            # An abandoned failure is reported here and nowhere else.
            future.exception()

    def close(self) -> None:
        """Returns when running use cases have ended."""
        self._pool.shutdown(wait=True, cancel_futures=True)
