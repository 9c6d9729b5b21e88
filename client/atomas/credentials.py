"""Who the caller is, and how the service proves what it is: API key and TLS of a channel."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from atomas.channel import channel_options
from atomas.errors import InvalidArgumentError

API_KEY_VARIABLE = "ATOMAS_API_KEY"
CA_VARIABLE = "ATOMAS_CA_CERTIFICATE"
# Metadata to send with the next call, such as the `traceparent` of a trace.
CallMetadata: TypeAlias = Callable[[], Mapping[str, str]]
_Shows: TypeAlias = Callable[[], tuple[tuple[str, str], ...]]


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


def open_channel(address: str, credentials: Credentials, metadata: CallMetadata | None = None) -> grpc.Channel:
    """A blocking channel that shows the key, and sends the metadata, with every call."""
    options = channel_options(address)
    if credentials.encrypted:
        channel = grpc.secure_channel(address, credentials.channel_credentials(), options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    shows = _shows(credentials, metadata)
    return grpc.intercept_channel(channel, _Shown(shows)) if shows else channel


def open_aio_channel(address: str, credentials: Credentials, metadata: CallMetadata | None = None) -> grpc.aio.Channel:
    """The same for asyncio; to be called where the event loop runs."""
    options = channel_options(address)
    shows = _shows(credentials, metadata)
    interceptors: list[grpc.aio.ClientInterceptor] | None = None
    if shows:
        interceptors = [_ShownUnary(shows), _ShownAnswers(shows), _ShownStreams(shows)]
    if credentials.encrypted:
        return grpc.aio.secure_channel(address, credentials.channel_credentials(), options=options, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror or error}.", reason="INVALID_CREDENTIALS") from None


def _shows(credentials: Credentials, metadata: CallMetadata | None) -> _Shows | None:
    """What goes along with a call that begins now; None for channels with which nothing goes along."""
    if not credentials.api_key and metadata is None:
        return None
    known = (_authorization(credentials),) if credentials.api_key else ()
    return lambda: (*known, *(metadata().items() if metadata is not None else ()))


def _authorization(credentials: Credentials) -> tuple[str, str]:
    if not all(33 <= ord(letter) < 127 for letter in credentials.api_key):
        # The key itself must not end up in a message.
        raise InvalidArgumentError("The API key holds characters that no key has: use it as it was shown.", reason="INVALID_CREDENTIALS")
    return ("authorization", f"Bearer {credentials.api_key}")


class _Details(grpc.ClientCallDetails):  # type: ignore[misc, unused-ignore]  # grpc's stubs leave the class untyped
    """Details of a blocking call with more headers."""

    def __init__(self, details: Any, shown: tuple[tuple[str, str], ...]) -> None:
        self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
        self.metadata = (*(details.metadata or ()), *shown)
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


class _Shown(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc, unused-ignore]
    def __init__(self, shows: _Shows) -> None:
        self._shows = shows

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._shows()), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._shows()), request)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(_Details(details, self._shows()), requests)


class _ShownAsync:
    def __init__(self, shows: _Shows) -> None:
        self._shows = shows

    async def _with_key(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._shows())
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
