"""Around every call, whoever carries it: request id, log record, metrics, trace, audit record, and errors translated from the one table."""

import asyncio
import time
import uuid
from typing import Any

import grpc
import structlog
from grpc import aio

from server.domain.errors import AtomasError, Reason
from server.observability.metrics import CALLS_IN_FLIGHT, RPC_SECONDS
from server.observability.traces import CallSpan
from server.rpc.auditing import Auditor
from server.rpc.errors import code_of, status_of

log = structlog.get_logger(__name__)
STATUS_DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"


class Watch:
    """Watches the calls of a service."""

    def __init__(self, auditor: Auditor | None = None) -> None:
        """Without an auditor there is no audit log."""
        self._auditor = auditor

    def call(self, path: str, context: Any, request: Any = None) -> "Watched":
        """A call from beginning to end; its context is told of a refusal by `abort`. A stream tells its first message later, by `saw`."""
        return Watched(path, context, request, self._auditor)


class Watched:
    """One call, as an asynchronous context manager."""

    def __init__(self, path: str, context: Any, request: Any, auditor: Auditor | None) -> None:
        self._path, self._context, self._request, self._auditor = path, context, request, auditor
        service, _, self._method = path.strip("/").partition("/")
        self._said = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        given = self._said.get(REQUEST_ID, "")
        # A caller's id is taken over when it is one: anything else could forge log lines.
        self._request_id = given if given.replace("-", "").isalnum() and len(given) <= 64 else uuid.uuid4().hex
        self._service = service

    def saw(self, request: Any) -> None:
        """What the call is about."""
        self._request = request

    async def __aenter__(self) -> "Watched":
        self._started = time.perf_counter()
        CALLS_IN_FLIGHT.labels(self._method).inc()
        structlog.contextvars.bind_contextvars(request_id=self._request_id)
        self._span = CallSpan(self._service, self._method, self._said)
        if self._auditor is not None:
            try:
                self._auditor.require_working()
            except AtomasError as error:
                await self._end(error)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        seconds = time.perf_counter() - self._started
        code, failure = _judge(error)
        reason = failure.reason.value if failure else ""
        CALLS_IN_FLIGHT.labels(self._method).dec()
        RPC_SECONDS.labels(self._method, code.name).observe(seconds)
        facts = {"method": self._method, "code": code.name, **({"reason": reason} if reason else {}), "seconds": round(seconds, 4)}
        if self._auditor is not None:
            self._auditor.record(self._path, self._request, self._context, self._request_id, facts)
        record = log.error if reason == Reason.INTERNAL else log.info
        # Only what nobody foresaw deserves a traceback in the log.
        record("call", **facts, exc_info=None if isinstance(error, AtomasError) or failure is None else error)
        self._span.end(code.value[0], reason or code.name)
        if failure is not None:
            details = status_of(failure, self._request_id).SerializeToString()
            await self._context.abort(code, failure.message, ((STATUS_DETAILS, details), (REQUEST_ID, self._request_id)))


def _judge(error: BaseException | None) -> tuple[grpc.StatusCode, AtomasError | None]:
    match error:
        case None:
            return grpc.StatusCode.OK, None
        case AtomasError():
            return code_of(error.reason), error
        case asyncio.CancelledError() | GeneratorExit() | aio.AbortError():
            return grpc.StatusCode.CANCELLED, None
        case _:
            message = "The service failed in a way it should not. The request id finds the reason in the server's log."
            return grpc.StatusCode.INTERNAL, AtomasError(Reason.INTERNAL, message)
