"""Calls of the service's methods from HTTP requests: the handlers of gRPC with a context that is no network's."""

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, NoReturn

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from starlette.requests import Request

from server.domain.errors import AtomasError
from server.rest.refusals import RefusedError, refused_by_gateway, refused_by_service
from server.rpc.authentication import Gate
from server.rpc.errors import code_of, status_of
from server.rpc.interceptors import seen
from server.rpc.methods import MethodTable
from server.rpc.search_servicer import TIMINGS
from server.rpc.watching import REQUEST_ID, STATUS_DETAILS
from server.usecases.authorise import CALLER

CALL_SECONDS = 60.0


class HttpContext:
    """What servicers see of a call: the part of grpc.aio.ServicerContext that they use."""

    transport = "http"

    def __init__(self, request: Request, seconds: float | None = CALL_SECONDS) -> None:
        self._metadata = tuple((name, value) for name, value in request.headers.items())
        self._end = None if seconds is None else time.monotonic() + seconds
        self._trailing: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The request's headers."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds; None when the call may take as long as it likes."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str]]) -> None:
        self._trailing.update(metadata)

    async def abort(self, code: StatusCode, message: str, trailing: Iterable[tuple[str, Any]] = ()) -> NoReturn:
        """Raises RefusedError."""
        said = dict(trailing)
        status = Status.FromString(said.get(STATUS_DETAILS, b"")) if STATUS_DETAILS in said else Status(code=code.value[0], message=message)
        raise refused_by_service(code, status, said.get(REQUEST_ID, ""))

    def headers(self) -> dict[str, str]:
        """What the call said of itself: stage timings, as browsers show them."""
        stages = [stage.split(";") for stage in self._trailing.get(TIMINGS, "").split(",") if ";" in stage]
        return {"Server-Timing": ", ".join(f"{name};dur={float(seconds) * 1e3:.2f}" for name, seconds in stages)} if stages else {}


class Caller:
    """Calls methods by their paths."""

    def __init__(self, methods: MethodTable, gate: Gate) -> None:
        self._methods = methods
        self._gate = gate

    async def admit(self, request: Request, path: str, message: Message | None = None) -> None:
        """Lets in those who are known, before their bodies are read; with a message only those who may call the method so.

        Raises RefusedError. The methods themselves ask again.
        """
        context = HttpContext(request)
        try:
            caller = await self._gate.identify(context)
            CALLER.set(caller)
            if message is not None:
                self._gate.authorise(caller, path, message)
        except AtomasError as error:
            # As a call that was refused, which it is.
            async with self._methods.watch.call(path, context, message):
                raise error

    def offers(self, path: str) -> bool:
        """Whether the service implements the method."""
        return self._methods.handler(path) is not None

    async def unary(self, path: str, request: Message, context: HttpContext) -> Any:
        """One answer. Raises RefusedError."""
        handler = self._handler(path)
        with self._methods.pinned():
            async with self._methods.watch.call(path, context, request):
                return await handler.unary_unary(request, context)

    async def unwatched(self, path: str, request: Message, context: HttpContext) -> Any:
        """As `unary`, without a line in the log: for those who ask the same again and again."""
        try:
            with self._methods.pinned():
                return await self._handler(path).unary_unary(request, context)
        except AtomasError as error:
            raise refused_by_service(code_of(error.reason), status_of(error), "") from None

    async def stream(self, path: str, requests: Any, context: HttpContext) -> AsyncIterator[Any]:
        """Answers as they come; `requests` is one message or a stream of them, as the method wants. Raises RefusedError."""
        handler = self._handler(path)
        watch = self._methods.watch
        if handler.unary_stream:
            async with watch.call(path, context, requests):
                async for answer in handler.unary_stream(requests, context):
                    yield answer
            return
        async with watch.call(path, context) as watched:
            async for answer in handler.stream_stream(seen(requests, watched), context):
                yield answer

    def _handler(self, path: str) -> Any:
        handler = self._methods.handler(path)
        if handler is None:
            raise not_offered(path)
        return handler


def not_offered(path: str) -> RefusedError:
    """A method of the contract that this service does not implement."""
    message = f"This service does not offer {path.rpartition('/')[2]}."
    return refused_by_gateway(501, StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", message)
