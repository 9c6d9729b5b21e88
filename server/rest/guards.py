"""What stands before every HTTP request: only known names of this host, no requests of other sites' pages, strict headers."""

from collections.abc import Collection
from ipaddress import ip_address

from grpc import StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.rest.refusals import RefusedError, refused_by_gateway

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # For everything but the portal's pages, which say what they need.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def allowed_hosts(listen: str, hosts: str) -> frozenset[str]:
    """Names under which the server may be asked; empty for any.

    A server on loopback without a list answers to loopback's names alone: else a page of another site, whose name its owner points at
    this machine, could read and change what is here.
    """
    named = frozenset(host.strip().lower() for host in hosts.split(",") if host.strip())
    if "*" in named:
        return frozenset()
    if named:
        return named
    address = listen.rpartition(":")[0].strip("[]")
    loopback = address == "localhost" or (_is_address(address) and ip_address(address).is_loopback)
    return frozenset({"localhost", "127.0.0.1", "[::1]", address}) if loopback else frozenset()


class Guards:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes the request on and adds the headers."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(str(scope["method"]), Headers(scope=scope))
        except RefusedError as refusal:
            await refusal.response()(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
        if self._hosts and name not in self._hosts:
            message = f"This server is not {name[:100] or 'without a name'}: ask it as {sorted(self._hosts)[0]}, or add the name to ATOMAS_HTTP_HOSTS."
            raise refused_by_gateway(421, StatusCode.INVALID_ARGUMENT, "WRONG_HOST", message)
        # Browsers name the page that asks. A page of another site may neither write nor make this one read by surprise.
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if method not in SAFE_METHODS and (foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site")):
            message = "A page of another site may not change anything here."
            raise refused_by_gateway(403, StatusCode.PERMISSION_DENIED, "CROSS_SITE", message)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
