"""The service's methods by name, for callers in this process: the same handlers as gRPC's, without a network between."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from server.ports import Models


@dataclass(frozen=True)
class _Details:
    """What a generic handler asks of a call."""

    method: str
    invocation_metadata: tuple[()] = ()


class MethodTable:
    """Stands before a gRPC server when services are added to it, and remembers their handlers."""

    def __init__(self, server: Any, models: Models) -> None:
        self._server = server
        self._models = models
        self._generic: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Called by generated code."""
        self._server.add_generic_rpc_handlers(handlers)
        self._generic += handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Called by generated code of newer tools, after the above."""
        self._server.add_registered_method_handlers(service_name, method_handlers)

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
