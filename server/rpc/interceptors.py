"""Puts the watch around every call over gRPC, and pins its model."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from server.ports import Models
from server.rpc.watching import Watch, Watched


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]  # grpc's stubs leave the class untyped
    """Wraps the service's own calls; health and reflection pass through unchanged."""

    def __init__(self, models: Models, watch: Watch) -> None:
        self._models, self._watch = models, watch

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler with this interceptor around it."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or not (path.startswith("/atomas.") or path.startswith("/google.longrunning.")):
            return handler
        codecs = {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(path, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._answering(path, handler.unary_stream), **codecs)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._conversing(path, handler.stream_stream), **codecs)
        return handler

    def _unary(self, path: str, call: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def wrapped(request: Any, context: Any) -> Any:
            # A call that began with one model ends with it: vectors, hits and page tokens of two never meet.
            with self._models.pinned():
                async with self._watch.call(path, context, request):
                    return await call(request, context)

        return wrapped

    def _answering(self, path: str, call: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._watch.call(path, context, request):
                async for response in call(request, context):
                    yield response

        return wrapped

    def _conversing(self, path: str, call: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def wrapped(requests: Any, context: Any) -> AsyncIterator[Any]:
            async with self._watch.call(path, context) as watched:
                async for response in call(seen(requests, watched), context):
                    yield response

        return wrapped


async def seen(requests: AsyncIterator[Any], watched: Watched) -> AsyncIterator[Any]:
    """The requests, the first of which tells what the stream is about."""
    first = True
    async for request in requests:
        if first:
            watched.saw(request)
            first = False
        yield request
