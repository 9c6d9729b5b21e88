"""Around every call: request id, log line, metrics, and errors translated from the one table."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from grpc import aio

from server.domain.errors import AtomasError, Reason
from server.observability import CALL_SECONDS, CALLS
from server.ports import Models
from server.rpc.errors import code_of, status_of

log = structlog.get_logger(__name__)
STATUS_DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]  # grpc's stubs leave the class untyped
    """Wraps the service's own calls; health and reflection pass through unchanged."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler with this interceptor around it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method.startswith("/atomas.") or method.startswith("/google.longrunning.")):
            return handler
        codecs = {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_unary(method, handler.unary_unary, self._models), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_stream(method, handler.unary_stream), **codecs)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(_stream(method, handler.stream_stream), **codecs)
        return handler


def _unary(method: str, call: Callable[[Any, Any], Awaitable[Any]], models: Models) -> Callable[[Any, Any], Awaitable[Any]]:
    async def wrapped(request: Any, context: Any) -> Any:
        # A call that began with one model ends with it: vectors, hits and page tokens of two never meet.
        with models.pinned():
            async with Watched(method, context):
                return await call(request, context)

    return wrapped


def _stream(method: str, call: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def wrapped(requests: Any, context: Any) -> AsyncIterator[Any]:
        async with Watched(method, context):
            async for response in call(requests, context):
                yield response

    return wrapped


class Watched:
    """One call from beginning to end, whoever carries it: its context is told of a refusal by `abort`."""

    def __init__(self, method: str, context: Any) -> None:
        self._method = method.rpartition("/")[2]
        self._context = context
        given = dict(context.invocation_metadata() or ()).get(REQUEST_ID, "")
        # A caller's id is taken over when it is one: anything else could forge log lines.
        self._request_id = given if given.replace("-", "").isalnum() and len(given) <= 64 else uuid.uuid4().hex

    async def __aenter__(self) -> None:
        self._started = time.perf_counter()
        structlog.contextvars.bind_contextvars(request_id=self._request_id)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        seconds = time.perf_counter() - self._started
        code, failure = self._judge(error)
        CALLS.labels(self._method, code.name).inc()
        CALL_SECONDS.labels(self._method).observe(seconds)
        if failure is None:
            log.info("call", method=self._method, code=code.name, seconds=round(seconds, 4))
            return
        record = log.error if failure.reason is Reason.INTERNAL else log.info
        record(
            "call", method=self._method, code=code.name, reason=failure.reason.value, seconds=round(seconds, 4), exc_info=_unexpected(error)
        )
        details = status_of(failure, self._request_id).SerializeToString()
        await self._context.abort(code, failure.message, ((STATUS_DETAILS, details), (REQUEST_ID, self._request_id)))

    @staticmethod
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


def _unexpected(error: BaseException | None) -> BaseException | None:
    """Only what nobody foresaw deserves a traceback in the log."""
    return None if isinstance(error, AtomasError) else error
