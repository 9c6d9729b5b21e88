"""The gate before every method: who calls, whether the caller may, whether it asks for too much. gRPC and HTTP pass the same one."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from server.domain.access import EVERY_LIBRARY, Caller, denied
from server.domain.errors import AtomasError, Reason
from server.ports import Database, Trust
from server.rpc.access_rules import RULES, Rule
from server.rpc.calls import Calls
from server.rpc.costs import Tokens
from server.rpc.limits import CallLimits
from server.usecases.authorise import CALLER, identify

AUTHORIZATION = "authorization"
# How long a stream that is under way may outlive its key.
RECHECK_SECONDS = 1.0
# Derivations of keys wait here, apart from the calls of those who are known.
_THREADS, _WAITING = 2, 64


class Gate:
    """Wraps the handlers of all methods."""

    def __init__(self, database: Database, trust: Trust, limits: CallLimits, tokens: Tokens) -> None:
        self._database, self._trust, self._limits, self._tokens = database, trust, limits, tokens
        self._calls = Calls(_THREADS, _WAITING)

    def close(self) -> None:
        """Returns when nobody is being identified any more."""
        self._calls.close()

    async def identify(self, context: Any) -> Caller:
        """Raises UNAUTHENTICATED, OVERLOADED, DATABASE_UNAVAILABLE."""
        if not self._trust.required:
            return identify("", self._database, self._trust)
        said = str(dict(context.invocation_metadata() or ()).get(AUTHORIZATION, ""))
        kind, _, credential = said.partition(" ")
        return await self._calls.run(identify, credential.strip() if kind.lower() == "bearer" else "", self._database, self._trust)

    def authorise(self, caller: Caller, path: str, request: Any) -> None:
        """Raises PERMISSION_DENIED, and INVALID_NAME for what names no library at all."""
        rule = rule_of(path)
        if caller.may(rule.level, EVERY_LIBRARY):
            return
        if not caller.scopes or max(scope.level for scope in caller.scopes) < rule.level:
            raise denied()
        if not all(caller.may(rule.level, library) for library in rule.libraries(request)):
            raise denied()

    def guarded(self, path: str, handler: Any) -> Any:
        """The handler behind the gate."""
        codecs = {"request_deserializer": _tolerant(handler.request_deserializer), "response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(path, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._answering(path, handler.unary_stream), **codecs)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._conversing(path, handler.stream_stream), **codecs)
        raise NotImplementedError(f"{path}: the gate knows no streams of requests with a single answer.")

    def _unary(self, path: str, call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(call)
        async def gated(request: Any, context: Any) -> Any:
            caller = await self._enter(path, request, context)
            with self._limits.place(caller.name):
                return await call(request, context)

        return gated

    def _answering(self, path: str, call: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        @functools.wraps(call)
        async def gated(request: Any, context: Any) -> AsyncIterator[Any]:
            caller = await self._enter(path, request, context)
            checked = time.monotonic()
            with self._limits.place(caller.name):
                async for answer in call(request, context):
                    checked = await self._recheck(checked, context)
                    yield answer

        return gated

    def _conversing(self, path: str, call: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def admitted(requests: Any, caller: Caller, context: Any) -> AsyncIterator[Any]:
            first, checked = True, time.monotonic()
            async for request in requests:
                _require_message(request)
                if first:
                    self.authorise(caller, path, request)
                    first = False
                checked = await self._recheck(checked, context)
                # Who streams too fast is slowed down, not sent away: the network holds the sender back.
                units = self._units(path, request)
                wait = self._limits.wait_seconds(caller.name, units)
                while wait:
                    await asyncio.sleep(wait)
                    wait = self._limits.wait_seconds(caller.name, units)
                yield request

        @functools.wraps(call)
        async def gated(requests: Any, context: Any) -> AsyncIterator[Any]:
            caller = await self.identify(context)
            CALLER.set(caller)
            with self._limits.place(caller.name):
                async for answer in call(admitted(requests, caller, context), context):
                    yield answer

        return gated

    async def _enter(self, path: str, request: Any, context: Any) -> Caller:
        caller = await self.identify(context)
        _require_message(request)
        # Known before it is refused: the audit log names it.
        CALLER.set(caller)
        self.authorise(caller, path, request)
        self._limits.take(caller.name, self._units(path, request))
        return caller

    def _units(self, path: str, request: Any) -> int:
        """Nobody counts tokens for a limit that there is not."""
        return rule_of(path).cost(request, self._tokens) if self._limits.counts else 0

    async def _recheck(self, checked: float, context: Any) -> float:
        if self._trust.required and time.monotonic() - checked >= RECHECK_SECONDS:
            await self.identify(context)
            return time.monotonic()
        return checked


def _tolerant(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Gives None for what is no message: gRPC itself would call that an error of the server's."""

    def read(content: bytes) -> Any:
        try:
            return decode(content)
        except DecodeError:
            return None

    return read


def _require_message(request: Any) -> None:
    if request is None:
        raise AtomasError(Reason.INVALID_ARGUMENT, "What was sent is no message of this method: the contract is proto/atomas/v1.")


def rule_of(path: str) -> Rule:
    """Raises PERMISSION_DENIED for a method that nobody has decided about."""
    rule = RULES.get(path)
    if rule is None:
        raise AtomasError(Reason.PERMISSION_DENIED, f"{path} has no access rule.")
    return rule
