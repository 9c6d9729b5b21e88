"""How the client reaches the service: address, channel options, retries."""

import ipaddress
import json
import os
import random
import re
from collections.abc import Sequence

from atomas.errors import AtomasError, InvalidArgumentError, OverloadedError

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_PORT = 50051
ADDRESS_VARIABLE = "ATOMAS_ADDRESS"

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# An overloaded service is asked again this often, when it says when to come back and the deadline allows.
OVERLOAD_ATTEMPTS = 5

# Calls that may run twice without harm; gRPC itself repeats them when the service was not there for a moment.
_IDEMPOTENT = {
    "atomas.v1.LibraryService": ("GetLibrary", "ListLibraries", "UpdateLibrary", "GetCompound", "ListCompounds", "ListRejections"),
    "atomas.v1.SearchService": ("SearchCompounds",),
    "atomas.v1.EmbeddingService": ("EmbedTexts", "EmbedStructures"),
    "atomas.v1.ModelService": ("GetModel", "ListModels"),
    "google.longrunning.Operations": ("GetOperation", "ListOperations", "CancelOperation"),
}
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]*)(?::(?P<port>\d{1,5}))?")


def resolve_address(address: str | None) -> str:
    """The address to call: the given one, or ATOMAS_ADDRESS, or 127.0.0.1:50051; a missing port is 50051.

    Raises InvalidArgumentError for what is neither `host:port` nor a gRPC target such as `unix:/run/atomas.sock`.
    """
    given = (address if address is not None else os.environ.get(ADDRESS_VARIABLE, "")).strip() or DEFAULT_ADDRESS
    if re.match(r"(unix|unix-abstract|dns|ipv4|ipv6|xds):", given):
        return given
    match = _HOST_AND_PORT.fullmatch(given)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 1 <= port <= 65535:
        raise InvalidArgumentError(
            f"{given[:80]!r} is no address: write host:port, such as {DEFAULT_ADDRESS}, without http:// or a path.",
            reason="INVALID_ADDRESS",
        )
    return f"{match['host'] or 'localhost'}:{port}"


def channel_options(address: str) -> Sequence[tuple[str, str | int]]:
    """gRPC options of every channel: message sizes, keepalive, quick reconnects, retries."""
    options: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # A connection that died silently is noticed while a call waits on it.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", service_config()),
        # Clients do not inherit each other's broken connections.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _is_loopback(address):
        # A company's http_proxy variable would otherwise swallow calls to this very machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def service_config() -> str:
    """gRPC's own JSON for which calls are repeated on UNAVAILABLE."""
    names = [{"service": service, "method": method} for service, methods in _IDEMPOTENT.items() for method in methods]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY_POLICY}]})


def overload_delay_seconds(error: AtomasError, attempt: int, remaining_seconds: float) -> float | None:
    """How long to wait before asking an overloaded service again; None when the error has to be told.

    `attempt` counts from 1. A refused call did nothing, so any call may be repeated.
    """
    if not isinstance(error, OverloadedError) or error.retry_after_seconds is None or attempt >= OVERLOAD_ATTEMPTS:
        return None
    # Callers that were refused together must not come back together.
    delay_seconds = error.retry_after_seconds * random.uniform(1.0, 1.5)
    return delay_seconds if delay_seconds < remaining_seconds else None


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
