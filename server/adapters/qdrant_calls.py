"""Calls to a Qdrant server: how it is reached, how long it is waited for, and its failures as the service's own."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from server.domain.errors import AtomasError, Reason

P = ParamSpec("P")
T = TypeVar("T")

GRPC_PORT, HTTP_PORT = 6334, 6333
# A restarting server is found again within a second, not after gRPC's growing pauses of up to two minutes.
_CHANNEL = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.min_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1_000}


class QdrantCalls:
    """Repeats calls that find no server for a few seconds; only for calls that may be repeated without harm."""

    def __init__(self, url: str, attempts: int = 5) -> None:
        self._address = urlsplit(url).netloc.rpartition("@")[2] or "this process"
        self._attempts = attempts

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Its result. Raises INDEX_UNAVAILABLE, OVERLOADED."""
        attempts = Retrying(
            retry=retry_if_exception(_passing),
            stop=stop_after_attempt(self._attempts),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        )
        try:
            return attempts(call, *args, **kwargs)
        except ResourceExhaustedResponse as error:
            raise AtomasError(Reason.OVERLOADED, f"The Qdrant server at {self._address} is busy. Try again later.") from error
        except ApiException as error:
            raise AtomasError(Reason.INDEX_UNAVAILABLE, f"The Qdrant server at {self._address} did not do its work: {error}") from error
        except grpc.RpcError as error:
            status = _status(error)
            said = error.details() if isinstance(error, grpc.Call) else error
            if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise AtomasError(Reason.OVERLOADED, f"The Qdrant server at {self._address} is busy: {said}") from error
            name = status.name if status else "no status"
            raise AtomasError(
                Reason.INDEX_UNAVAILABLE, f"The Qdrant server at {self._address} did not do its work ({name}): {said}"
            ) from error


def connect(url: str, api_key: str | None, timeout_seconds: int) -> QdrantClient:
    """A client that connects when it is first used. Raises ValueError for what is no address."""
    try:
        parts = urlsplit(url)
        given = parts.port
    except ValueError:
        parts, given = urlsplit(""), None
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a Qdrant server. Write it as http://HOST:6333, or grpc://HOST:6334.")
    over_grpc = parts.scheme.startswith("grpc")
    port = given if given and over_grpc else GRPC_PORT
    return QdrantClient(
        host=parts.hostname,
        # Only snapshots are restored over HTTP.
        port=given if given and not over_grpc else HTTP_PORT,
        grpc_port=port,
        https=parts.scheme in ("https", "grpcs"),
        api_key=api_key,
        prefer_grpc=True,
        timeout=timeout_seconds,
        grpc_options=dict(_CHANNEL),
        # Would ask over REST, which firewalls may close.
        check_compatibility=False,
    )


def _status(error: BaseException) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call) else None


def _passing(error: BaseException) -> bool:
    return isinstance(error, ResourceExhaustedResponse) or _status(error) in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
