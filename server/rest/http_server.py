"""The HTTP server beside gRPC: the gateway and the portal on a port of their own, in the same event loop."""

import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.domain.errors import AtomasError, Reason
from server.portal.pages import portal
from server.rest.calls import Caller
from server.rest.gateway import Gateway
from server.rest.guards import Guards, allowed_hosts
from server.rpc.authentication import Gate
from server.rpc.certificates import Certificates
from server.rpc.methods import MethodTable
from server.settings import Settings

_BACKLOG = 512
_KEEP_ALIVE_SECONDS = 75


def http_app(methods: MethodTable, gate: Gate, settings: Settings) -> ASGIApp:
    """Everything that is served over HTTP."""
    gateway, pages = Gateway(Caller(methods, gate), settings), portal()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/v1/") or scope["path"] == "/openapi.json":
            response = await gateway.answer(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return Guards(app, allowed_hosts(settings.http_listen, settings.http_hosts))


class HttpServer:
    """The HTTP side of a service: `start` to serve, `stop` to drain."""

    def __init__(self, methods: MethodTable, gate: Gate, settings: Settings) -> None:
        self._settings = settings
        certificates = self._certificates = Certificates.of(settings)
        self._server = _Server(
            uvicorn.Config(
                http_app(methods, gate, settings),
                ssl_context_factory=(lambda config, default: certificates.http_context()) if certificates else None,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Binds and serves; returns the URL. Raises INVALID_ARGUMENT when the address cannot be taken."""
        host, _, port = self._settings.http_listen.rpartition(":")
        bound = _bound(host.strip("[]"), port)
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        return f"{'https' if self._certificates else 'http'}://{host}:{bound.getsockname()[1]}/"

    async def stop(self) -> None:
        """Takes no new requests and lets running ones end within the grace period."""
        if self._serving is not None:
            self._server.should_exit = True
            with suppress(asyncio.CancelledError):
                await self._serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the whole service's business."""
        yield


def _bound(host: str, port: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            # A restart need not wait for the former server's last packets.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            # Who reads the URL may ask at once.
            bound.listen(_BACKLOG)
            bound.setblocking(False)
        except BaseException:
            bound.close()
            raise
    except (OSError, ValueError, OverflowError):
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            f"Cannot serve HTTP on {host}:{port}: another program has the port, or the address is not of this machine. "
            "Set ATOMAS_HTTP_LISTEN to a free one, such as 127.0.0.1:8081, or to nothing for no HTTP.",
        ) from None
    return bound
