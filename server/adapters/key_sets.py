"""Public keys of an identity provider, from a file or from its address: remembered, renewed, never fetched more often than is decent."""

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import jwt
import structlog

from server.domain.errors import AtomasError, Reason

log = structlog.get_logger(__name__)

FETCH_SECONDS = 3.0
MAX_BYTES = 1 << 20
# A key that the provider has added is asked for at once, but not more often than this: anybody can name a key that nobody has.
PAUSE_SECONDS = 10.0
# A key that the provider has withdrawn must end some day, whether it can be reached or not.
STALE_SECONDS = 24 * 3600.0


class KeySet(Protocol):
    """Where a token's key is looked for. Thread-safe."""

    def key(self, key_id: str) -> jwt.PyJWK | None:
        """None for a key that the provider does not have."""
        ...


class KeySetFile:
    """Keys in a JWKS file. A changed file counts at once; one that cannot be read leaves the former keys in use."""

    def __init__(self, file: Path) -> None:
        """Raises INVALID_ARGUMENT when the file holds no keys."""
        self._file = file
        self._lock = threading.Lock()
        self._stamp = self._stat()
        self._keys = self._read()

    def key(self, key_id: str) -> jwt.PyJWK | None:
        """Looks at the file's time and size first."""
        with self._lock:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = self._read()
                except AtomasError as error:
                    log.warning("the JWKS file changed and cannot be read; the former keys stay in use", message=error.message)
            return _find(self._keys, key_id)

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self._file.stat()
        except OSError:
            return (0, 0)
        return stat.st_mtime_ns, stat.st_size

    def _read(self) -> jwt.PyJWKSet:
        try:
            return jwt.PyJWKSet.from_json(self._file.read_text())
        except (OSError, ValueError, jwt.PyJWTError) as error:
            message = f"{self._file} cannot be read as a JSON Web Key Set ({type(error).__name__}): set ATOMAS_JWT_JWKS_FILE to one."
            raise AtomasError(Reason.INVALID_ARGUMENT, message) from None


class KeySetUrl:
    """Keys at an address of the provider, fetched when they are first needed and again after `refresh_seconds`.

    A provider that is away leaves the former keys in use, for a day. While one thread fetches, others go on with what is here.
    """

    def __init__(self, url: str, refresh_seconds: float, ca_certificate: Path | None = None, clock: Callable[[], float] = time.monotonic):
        """Raises INVALID_ARGUMENT for an address that is neither https nor on loopback."""
        require_safe(url)
        self._url, self._refresh_seconds, self._clock = url, refresh_seconds, clock
        context = ssl.create_default_context(cafile=str(ca_certificate) if ca_certificate else None)
        # Whoever answers must not send us to another place.
        self._open = urllib.request.build_opener(
            _NoRedirects(), urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
        )
        self._fetching = threading.Lock()
        self._keys: jwt.PyJWKSet | None = None
        self._fetched = self._tried = -float("inf")

    def key(self, key_id: str) -> jwt.PyJWK | None:
        """May ask the provider, for no longer than FETCH_SECONDS."""
        now = self._clock()
        found = self._present(key_id, now)
        if (found is None or now - self._fetched >= self._refresh_seconds) and now - self._tried >= PAUSE_SECONDS:
            if self._fetching.acquire(blocking=self._keys is None, timeout=FETCH_SECONDS if self._keys is None else -1):
                try:
                    # Another thread may have been here meanwhile.
                    if self._clock() - self._tried >= PAUSE_SECONDS:
                        self._fetch()
                finally:
                    self._fetching.release()
            found = self._present(key_id, self._clock())
        return found

    def _present(self, key_id: str, now: float) -> jwt.PyJWK | None:
        if self._keys is None or now - self._fetched >= STALE_SECONDS:
            return None
        return _find(self._keys, key_id)

    def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            self._keys, self._fetched = jwt.PyJWKSet.from_json(self._content().decode()), self._clock()
        except (OSError, HTTPException, ValueError, jwt.PyJWTError) as error:
            log.warning(
                "the JWKS address gave no keys; the former ones stay in use", url=self._url, cause=f"{type(error).__name__}: {error}"
            )

    def _content(self) -> bytes:
        end, content = time.monotonic() + FETCH_SECONDS, bytearray()
        with self._open.open(self._url, timeout=FETCH_SECONDS) as answer:
            while block := answer.read1(1 << 16):
                content += block
                if len(content) > MAX_BYTES:
                    raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
                # The timeout is that of each piece.
                if time.monotonic() > end:
                    raise TimeoutError("it came too slowly")
        return bytes(content)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def require_safe(url: str) -> None:
    """Raises INVALID_ARGUMENT unless nobody on the way can put in keys of their own."""
    try:
        parts = urlsplit(url)
        host, safe = parts.hostname or "", parts.scheme == "https"
        parts.port  # noqa: B018  # raises for a port that is none
    except ValueError:
        host, safe = "", False
    if host and (safe or (parts.scheme == "http" and _is_loopback(host))):
        return
    raise AtomasError(
        Reason.INVALID_ARGUMENT, "Keys are fetched over https, or over http from loopback: set ATOMAS_JWT_JWKS_URL to such an address."
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _find(keys: jwt.PyJWKSet, key_id: str) -> jwt.PyJWK | None:
    try:
        return keys[key_id]
    except KeyError:
        return None
