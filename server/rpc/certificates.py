"""TLS for gRPC and HTTP from the same files, which may be renewed while the server runs."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import structlog

from server.domain.errors import AtomasError, Reason
from server.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Loaded:
    stamp: tuple[tuple[int, int], ...]
    chain: bytes
    key: bytes
    # Authorities of the clients that are let in; None lets in anyone.
    clients: bytes | None


class Certificates:
    """A certificate, its key, and the authorities of clients. Thread-safe.

    Files are looked at with each new connection. Half a renewal, a certificate without its key, leaves the former pair in use.
    """

    def __init__(self, chain: Path, key: Path, clients: Path | None) -> None:
        """Raises INVALID_ARGUMENT for files that are no pair."""
        self._chain, self._key, self._clients = chain, key, clients
        self._lock = threading.Lock()
        self._loaded = self._load(self._stamp())
        self._tried = self._served = self._loaded.stamp

    @classmethod
    def of(cls, settings: Settings) -> "Certificates | None":
        """None when the settings name no certificate. Raises INVALID_ARGUMENT when they name half of one."""
        if settings.tls_certificate is None and settings.tls_key is None and settings.tls_client_ca is None:
            return None
        if settings.tls_certificate is None or settings.tls_key is None:
            raise AtomasError(Reason.INVALID_ARGUMENT, "TLS needs both: set ATOMAS_TLS_CERTIFICATE and ATOMAS_TLS_KEY.")
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server that follow the files."""
        # The stubs forget that None is an answer.
        renewed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._renewed)
        return grpc.dynamic_ssl_server_credentials(_configuration(self._loaded), renewed, self._clients is not None)

    def http_context(self) -> ssl.SSLContext:
        """The TLS context of an HTTP server, likewise."""
        context = _context(self._chain, self._key, self._clients)
        stamp = self._loaded.stamp

        def follow(connection: ssl.SSLObject, name: str | None, former: ssl.SSLContext) -> None:
            nonlocal context, stamp
            present = self._present()
            if present.stamp != stamp:
                try:
                    renewed = _context(self._chain, self._key, self._clients)
                except (OSError, ssl.SSLError):
                    # Somebody is just writing: the next connection finds the pair.
                    return
                renewed.sni_callback = follow
                context, stamp = renewed, present.stamp
            connection.context = context

        context.sni_callback = follow
        return context

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC with each handshake; None changes nothing."""
        present = self._present()
        if present.stamp == self._served:
            return None
        self._served = present.stamp
        return _configuration(present)

    def _present(self) -> _Loaded:
        with self._lock:
            stamp = self._stamp()
            if stamp != self._tried:
                self._tried = stamp
                try:
                    self._loaded = self._load(stamp)
                    log.info("the TLS certificate was renewed")
                except AtomasError as error:
                    log.warning("the TLS files changed and are no pair; the former ones stay in use", message=error.message)
            return self._loaded

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stat(path) for path in (self._chain, self._key, self._clients) if path is not None)

    def _load(self, stamp: tuple[tuple[int, int], ...]) -> _Loaded:
        try:
            _context(self._chain, self._key, self._clients)
            clients = self._clients.read_bytes() if self._clients else None
            return _Loaded(stamp, self._chain.read_bytes(), self._key.read_bytes(), clients)
        except (OSError, ssl.SSLError) as error:
            message = (
                f"{self._chain} and {self._key} are no certificate with its key ({error}): set ATOMAS_TLS_CERTIFICATE and ATOMAS_TLS_KEY."
            )
            raise AtomasError(Reason.INVALID_ARGUMENT, message) from None


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.chain)], loaded.clients)


def _context(chain: Path, key: Path, clients: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain, key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size
