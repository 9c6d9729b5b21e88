"""Who the caller is, and how the service proves what it is: API key and TLS of a channel."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from atomas.channel import channel_options
from atomas.errors import InvalidArgumentError

API_KEY_VARIABLE = "ATOMAS_API_KEY"
CA_VARIABLE = "ATOMAS_CA_CERTIFICATE"


@dataclass(frozen=True)
class Credentials:
    """What a client shows and expects; `Credentials.from_environment` takes ATOMAS_API_KEY and ATOMAS_CA_CERTIFICATE."""

    # Secret of an API key, or a token.
    api_key: str = ""
    # Encrypt, and believe the authorities that this machine believes.
    tls: bool = False
    # PEM file of the authorities to believe instead; encrypts.
    ca_certificate: Path | None = None
    # PEM files of the client's own certificate and key, for services that ask for one; encrypts.
    client_certificate: Path | None = None
    client_key: Path | None = None

    def __repr__(self) -> str:
        """Without the secret: values end up in logs."""
        return f"Credentials(api_key={'***' if self.api_key else ''!r}, encrypted={self.encrypted})"

    @classmethod
    def from_environment(cls) -> "Credentials":
        ca = os.environ.get(CA_VARIABLE, "")
        return cls(api_key=os.environ.get(API_KEY_VARIABLE, "").strip(), ca_certificate=Path(ca) if ca else None)

    def with_api_key(self, api_key: str | None) -> "Credentials":
        """The same with another key, unless it is None."""
        return self if api_key is None else replace(self, api_key=api_key)

    @property
    def encrypted(self) -> bool:
        return self.tls or self.ca_certificate is not None or self.client_certificate is not None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Raises InvalidArgumentError for files that cannot be read."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise InvalidArgumentError("A client certificate comes with its key: give both files.", reason="INVALID_CREDENTIALS")
        return grpc.ssl_channel_credentials(_read(self.ca_certificate), _read(self.client_key), _read(self.client_certificate))


def open_channel(address: str, credentials: Credentials) -> grpc.Channel:
    """A blocking channel that shows the key with every call."""
    options = channel_options(address)
    if credentials.encrypted:
        channel = grpc.secure_channel(address, credentials.channel_credentials(), options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    return grpc.intercept_channel(channel, _Shown(_metadata(credentials))) if credentials.api_key else channel


def open_aio_channel(address: str, credentials: Credentials) -> grpc.aio.Channel:
    """The same for asyncio; to be called where the event loop runs."""
    options = channel_options(address)
    shown = _metadata(credentials)
    known: list[grpc.aio.ClientInterceptor] = [_ShownUnary(shown), _ShownAnswers(shown), _ShownStreams(shown)]
    interceptors = known if credentials.api_key else None
    if credentials.encrypted:
        return grpc.aio.secure_channel(address, credentials.channel_credentials(), options=options, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror or error}.", reason="INVALID_CREDENTIALS") from None


def _metadata(credentials: Credentials) -> tuple[str, str]:
    if not all(33 <= ord(letter) < 127 for letter in credentials.api_key):
        # The key itself must not end up in a message.
        raise InvalidArgumentError("The API key holds characters that no key has: use it as it was shown.", reason="INVALID_CREDENTIALS")
    return ("authorization", f"Bearer {credentials.api_key}")


class _Details(grpc.ClientCallDetails):  # type: ignore[misc, unused-ignore]  # grpc's stubs leave the class untyped
    """Details of a blocking call with one more header."""

    def __init__(self, details: Any, shown: tuple[str, str]) -> None:
        self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
        self.metadata = (*(details.metadata or ()), shown)
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


class _Shown(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc, unused-ignore]
    def __init__(self, shown: tuple[str, str]) -> None:
        self._shown = shown

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._shown), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._shown), request)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(_Details(details, self._shown), requests)


class _ShownAsync:
    def __init__(self, shown: tuple[str, str]) -> None:
        self._shown = shown

    async def _with_key(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._shown)
        return await continuation(details._replace(metadata=metadata), request)


class _ShownUnary(_ShownAsync, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return await self._with_key(continuation, details, request)


class _ShownAnswers(_ShownAsync, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc, unused-ignore]
    async def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return await self._with_key(continuation, details, request)


class _ShownStreams(_ShownAsync, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc, unused-ignore]
    async def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return await self._with_key(continuation, details, requests)
