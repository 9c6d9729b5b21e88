"""The real edge, gRPC and HTTP, over declared fakes of what lies behind it: in this process, on free loopback ports."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import grpc

from server.adapters.password_hashes import PasswordHashes
from server.domain.access import parse_scope
from server.ports import Ports, Tokens, Trust
from server.rest.http_server import HttpServer
from server.rpc.app import App
from server.settings import Settings
from server.usecases.manage_keys import create_key


@dataclass(frozen=True)
class Answer:
    """An HTTP response, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Served:
    """A service that asks callers who they are."""

    ports: Ports
    trust: Trust
    app: App
    address: str
    http_port: int

    def key(self, *scopes: str) -> str:
        """The secret of a new key."""
        return create_key("test", [parse_scope(scope) for scope in scopes], None, self.ports.database, self.trust.hashes)[1]

    def http(self, verb: str, path: str, secret: str = "", body: bytes | None = None) -> Answer:
        """Asks over HTTP."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
        try:
            connection.request(verb, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()


@contextmanager
def served(ports: Ports, tokens: Tokens | None = None, **settings: Any) -> Iterator[Served]:
    """The service, on an event loop of its own, while the block runs."""
    chosen = Settings(listen="127.0.0.1:0", http_listen="127.0.0.1:0", shutdown_seconds=0.2, **{"auth_required": True, **settings})
    trust = Trust(chosen.auth_required, PasswordHashes(), tokens)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[App, HttpServer, int, str]:
        app = App(ports, chosen, trust)
        http = HttpServer(app.methods, app.gate, chosen)
        return app, http, await app.start(), await http.start()

    async def stop() -> None:
        await http.stop()
        await app.stop()

    app, http, port, url = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield Served(ports, trust, app, f"127.0.0.1:{port}", int(url.rstrip("/").rpartition(":")[2]))
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def metadata(secret: str) -> tuple[tuple[str, str], ...]:
    """How a key travels over gRPC."""
    return (("authorization", f"Bearer {secret}"),) if secret else ()


def call(channel: grpc.Channel, method: Any, message: Any, secret: str, answer: Any) -> Any:
    """One call of any kind of method; the first answer of a stream. Raises grpc.RpcError."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    codecs = {"request_serializer": lambda sent: sent.SerializeToString(), "response_deserializer": answer}
    said, timeout = metadata(secret), 20
    if method.client_streaming:
        return next(channel.stream_stream(path, **codecs)(iter([message]), timeout=timeout, metadata=said))
    if method.server_streaming:
        return next(channel.unary_stream(path, **codecs)(message, timeout=timeout, metadata=said))
    return channel.unary_unary(path, **codecs)(message, timeout=timeout, metadata=said)
