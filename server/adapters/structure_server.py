"""The structure keeper of a fleet: one process that every server and worker asks over gRPC, and what they ask it with."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc

from server.adapters.keeper_messages import Message, decoded
from server.adapters.rdkit_structures import Keeper
from server.domain.errors import AtomasError, Reason
from server.observability.context import carried, working_for

_SERVICE, _METHOD = "atomas.internal.StructureKeeper", "Call"
# Ids of every compound of a large library are one message.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
# A restarting keeper is found again within a second, not after gRPC's growing pauses of up to two minutes.
_CHANNEL = [
    *_OPTIONS[:2],
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_THREADS = 32
_PATIENCE_SECONDS = 300.0
# A keeper that is restarted reads its log meanwhile.
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.5
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class StructureServer:
    """A keeper behind a port. It trusts whoever reaches it: bind it to a network that only the fleet is in."""

    def __init__(self, keeper: Keeper, listen: str) -> None:
        """Raises INVALID_ARGUMENT when the address cannot be taken."""
        self._keeper = keeper
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: grpc.unary_unary_rpc_method_handler(self._answer)}),)
        )
        try:
            self.port = self._server.add_insecure_port(listen)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise AtomasError(
                Reason.INVALID_ARGUMENT, f"Cannot listen on {listen}: another program has the port, or the address is not of this machine."
            )

    def start(self) -> None:
        """Takes calls."""
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Lets running calls end within the time."""
        self._server.stop(grace_seconds).wait()

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            question = decoded(request)
            head = dict(question.head)
            limit = head.pop("limit", None)
            carrier = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
            with working_for(carrier, "keeper"):
                return self._keeper.call(head, question.parts, limit).encoded()
        except AtomasError as error:
            return Message({"error": {"reason": error.reason.value, "message": error.message}}).encoded()
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise


class RemoteKeeper:
    """Keeper of another process, at `grpc://HOST:PORT`. Calls may be repeated without harm, and are when nobody answers."""

    def __init__(self, url: str) -> None:
        """Raises INVALID_ARGUMENT for an address that is none; connects when it is first asked."""
        parts = urlsplit(url)
        if parts.scheme != "grpc" or not parts.hostname or not parts.port:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{url!r} is no address of a structure keeper. Write it as grpc://HOST:PORT.")
        self._address = f"{parts.hostname}:{parts.port}"
        self._channel = grpc.insecure_channel(self._address, options=_CHANNEL)
        self._call: Any = self._channel.unary_unary(f"/{_SERVICE}/{_METHOD}")

    def call(self, head: Mapping[str, Any], parts: Sequence[bytes] = (), seconds: float | None = None) -> Message:
        """The answer. Raises what the keeper refuses, INDEX_UNAVAILABLE when it is away."""
        content = Message({**head, "limit": seconds}, parts).encoded()
        # It may first wait for its turn as long as the question may take.
        timeout = _PATIENCE_SECONDS if seconds is None else 2 * seconds + 5
        answer = decoded(self._asked(content, timeout))
        if error := answer.head.get("error"):
            raise AtomasError(Reason(error["reason"]), error["message"])
        return answer

    def close(self) -> None:
        """Ends the connection; the keeper goes on."""
        self._channel.close()

    def _asked(self, content: bytes, timeout: float) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                return bytes(self._call(content, timeout=timeout, metadata=tuple(carried().items())))
            except grpc.RpcError as error:
                code = error.code() if isinstance(error, grpc.Call) else None
                if code in _PASSING and attempt + 1 < _ATTEMPTS:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                name = code.name if code else "no status"
                raise AtomasError(
                    Reason.INDEX_UNAVAILABLE,
                    f"The structure keeper at {self._address} did not answer ({name}). Start it by `python -m server structures`.",
                ) from error
        raise AssertionError("unreachable")
