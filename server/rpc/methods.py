"""The service's methods by name, for callers in this process: the same handlers as gRPC's, without a network between."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc

from server.ports import Models
from server.rpc.watching import Watch


@dataclass(frozen=True)
class _Details:
    """What a generic handler asks of a call."""

    method: str
    invocation_metadata: tuple[()] = ()


class _Gated(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]  # grpc's stubs leave the class untyped
    """Handlers of one service, each behind the gate."""

    def __init__(self, handlers: Any, guarded: Callable[[str, Any], Any]) -> None:
        self._handlers, self._guarded = handlers, guarded

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; None when the service has no such method."""
        handler = self._handlers.service(handler_call_details)
        return None if handler is None else self._guarded(handler_call_details.method, handler)


class MethodTable:
    """Stands before a gRPC server when services are added to it, and remembers their handlers."""

    def __init__(self, server: Any, models: Models, guarded: Callable[[str, Any], Any], watch: Watch) -> None:
        """`guarded` puts the gate before a handler, given its path; `watch` is for callers, who put it around what they call."""
        self.watch = watch
        self._server = server
        self._guarded = guarded
        self._models = models
        self._generic: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Called by generated code."""
        gated = [_Gated(handler, self._guarded) for handler in handlers]
        self._server.add_generic_rpc_handlers(gated)
        self._generic += gated

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Called by generated code of newer tools, after the above."""
        gated = {name: self._guarded(f"/{service_name}/{name}", handler) for name, handler in method_handlers.items()}
        self._server.add_registered_method_handlers(service_name, gated)

    def pinned(self) -> AbstractContextManager[None]:
        """As around every call over gRPC: what begins with one model ends with it."""
        return self._models.pinned()

    def handler(self, path: str) -> Any | None:
        """The handler of a method by its path, such as `/atomas.v1.LibraryService/GetLibrary`; None when nobody implements it."""
        for generic in self._generic:
            handler = generic.service(_Details(path))
            if handler is not None:
                call = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
                # Servicers inherit a refusal from generated code for what they do not implement.
                return None if call.__module__.endswith("_pb2_grpc") else handler
        return None
