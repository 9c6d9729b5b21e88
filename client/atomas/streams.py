"""Drives imports and exports over gRPC streams, blocking and with asyncio: sends, takes acknowledgements, reconnects."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import grpc

from atomas import importing
from atomas.calls import EXPORT_COMPOUNDS, IMPORT_COMPOUNDS
from atomas.errors import AtomasError, CancelledError, InternalError, from_rpc_error
from atomas.importing import ImportSession
from atomas.v1.library_service_pb2 import (
    ExportCompoundsRequest,
    ExportCompoundsResponse,
    ImportCompoundsRequest,
    ImportCompoundsResponse,
    ImportRow,
)

_FAREWELL_SECONDS = 1.0
# What a stream brings: an answer, the error that broke it, or None at its end.
_Event: TypeAlias = ImportCompoundsResponse | AtomasError | None


def export_stream(channel: Any) -> Any:
    """The method that streams a library's compounds, of a blocking or an asyncio channel."""
    return channel.unary_stream(
        EXPORT_COMPOUNDS,
        request_serializer=ExportCompoundsRequest.SerializeToString,
        response_deserializer=ExportCompoundsResponse.FromString,
    )


def send_rows(
    channel: grpc.Channel, address: str, session: ImportSession, batches: Iterator[list[ImportRow]], notify: Callable[[], None]
) -> None:
    """Run the session until the service holds every row.

    The batches are read by the calling thread. When they raise, the rows before it are still made safe, then the exception
    is raised again; before the first row it is raised at once and nothing is sent.
    """
    failure = _add_next(session, batches)
    if failure is not None and session.rows == 0:
        raise failure
    while not session.complete:
        stream = _Stream(channel, address)
        try:
            while not session.complete:
                while (request := session.next_request()) is not None:
                    stream.send(request)
                may_read = session.wants_rows
                for response in stream.received(wait=not may_read):
                    session.receive(response)
                    if session.complete:
                        break
                if may_read and session.wants_rows:
                    failure = _add_next(session, batches)
                notify()
        except _StreamBrokenError as broken:
            time.sleep(session.broke(broken.error))
        finally:
            stream.close(session.complete)
    if failure is not None:
        raise failure


async def send_rows_async(
    channel: grpc.aio.Channel,
    address: str,
    session: ImportSession,
    next_batch: Callable[[], Awaitable[list[ImportRow]]],
    notify: Callable[[], None],
) -> None:
    """As `send_rows`; `next_batch` gives an empty batch at the end."""
    failure = await _add_next_async(session, next_batch)
    if failure is not None and session.rows == 0:
        raise failure
    while not session.complete:
        stream = _AsyncStream(channel, address)
        try:
            while not session.complete:
                while (request := session.next_request()) is not None:
                    await stream.send(request)
                may_read = session.wants_rows
                async for response in stream.received(wait=not may_read):
                    session.receive(response)
                    if session.complete:
                        break
                if may_read and session.wants_rows:
                    failure = await _add_next_async(session, next_batch)
                notify()
        except _StreamBrokenError as broken:
            await asyncio.sleep(session.broke(broken.error))
        finally:
            await stream.close(session.complete)
    if failure is not None:
        raise failure


async def async_batches(rows: AsyncIterable[importing.RowLike]) -> AsyncIterator[list[ImportRow]]:
    """As `importing.batches`, of rows that come asynchronously."""
    batcher = importing.Batcher()
    try:
        async for row in rows:
            if full := batcher.add(row):
                yield full
    except Exception:
        if rest := batcher.rest():
            yield rest
        raise
    if rest := batcher.rest():
        yield rest


class _StreamBrokenError(Exception):
    def __init__(self, error: AtomasError) -> None:
        super().__init__(error.message)
        self.error = error


def _add_next(session: ImportSession, batches: Iterator[list[ImportRow]]) -> Exception | None:
    """Give the session its next rows, or tell it that there are no more; returns what went wrong in reading them."""
    try:
        rows = next(batches, None)
    except Exception as failure:
        session.end()
        return failure
    session.end() if rows is None else session.add(rows)
    return None


async def _add_next_async(session: ImportSession, next_batch: Callable[[], Awaitable[list[ImportRow]]]) -> Exception | None:
    try:
        rows = await next_batch()
    except Exception as failure:
        session.end()
        return failure
    session.add(rows) if rows else session.end()
    return None


class _Stream:
    """A blocking stream whose both directions the caller's thread can use without ever getting stuck between them."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._address = address
        self._outbox: queue.SimpleQueue[ImportCompoundsRequest | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        open_stream = channel.stream_stream(
            IMPORT_COMPOUNDS,
            request_serializer=ImportCompoundsRequest.SerializeToString,
            response_deserializer=ImportCompoundsResponse.FromString,
        )
        self._call = open_stream(iter(self._outbox.get, None))
        self._reader = threading.Thread(target=self._read, name="atomas-import", daemon=True)
        self._reader.start()

    def send(self, request: ImportCompoundsRequest) -> None:
        self._outbox.put(request)

    def received(self, wait: bool) -> Iterator[ImportCompoundsResponse]:
        """The answers that have come; with `wait` at least one. Raises _StreamBrokenError."""
        timeout_seconds = importing.STALL_SECONDS if wait else 0.0
        while True:
            try:
                event = self._inbox.get(timeout=timeout_seconds) if timeout_seconds else self._inbox.get_nowait()
            except queue.Empty:
                if timeout_seconds:
                    raise _StreamBrokenError(importing.stream_stalled()) from None
                return
            yield _response(event)
            timeout_seconds = 0.0

    def close(self, complete: bool) -> None:
        self._outbox.put(None)
        if complete:
            # Whoever hangs up looks to the service like somebody who gave up.
            self._reader.join(_FAREWELL_SECONDS)
        self._call.cancel()
        self._reader.join()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._inbox.put(response)
            self._inbox.put(None)
        except grpc.RpcError as error:
            self._inbox.put(from_rpc_error(error, self._address))


class _AsyncStream:
    """As _Stream, for asyncio."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._address = address
        self._inbox: asyncio.Queue[_Event] = asyncio.Queue()
        self._write_failed = False
        open_stream = channel.stream_stream(
            IMPORT_COMPOUNDS,
            request_serializer=ImportCompoundsRequest.SerializeToString,
            response_deserializer=ImportCompoundsResponse.FromString,
        )
        self._call = open_stream()
        self._reader = asyncio.create_task(self._read())

    async def send(self, request: ImportCompoundsRequest) -> None:
        try:
            await self._call.write(request)
        except asyncio.InvalidStateError:
            # The stream has ended; the reader tells with which status.
            pass
        except grpc.RpcError:
            self._write_failed = True

    async def received(self, wait: bool) -> AsyncIterator[ImportCompoundsResponse]:
        if wait:
            try:
                yield self._response(await asyncio.wait_for(self._inbox.get(), importing.STALL_SECONDS))
            except TimeoutError:
                raise _StreamBrokenError(importing.stream_stalled()) from None
        else:
            # The reader gets its turn even when rows come without waiting.
            await asyncio.sleep(0)
        while not self._inbox.empty():
            yield self._response(self._inbox.get_nowait())

    def _response(self, event: _Event) -> ImportCompoundsResponse:
        # Writing to a stream that the service has just ended makes grpc.aio put an INTERNAL of its own in place of the service's status.
        return _response(None if self._write_failed and isinstance(event, InternalError) else event)

    async def close(self, complete: bool) -> None:
        if complete:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                await self._call.done_writing()
            await asyncio.wait({self._reader}, timeout=_FAREWELL_SECONDS)
        self._call.cancel()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        try:
            while isinstance(response := await self._call.read(), ImportCompoundsResponse):
                self._inbox.put_nowait(response)
            self._inbox.put_nowait(None)
        except grpc.RpcError as error:
            self._inbox.put_nowait(from_rpc_error(error, self._address))
        except asyncio.CancelledError:
            self._inbox.put_nowait(CancelledError("The import's stream was cancelled.", reason="CANCELLED"))
            raise


def _response(event: _Event) -> ImportCompoundsResponse:
    if isinstance(event, ImportCompoundsResponse):
        return event
    raise _StreamBrokenError(event or importing.stream_ended_early())
