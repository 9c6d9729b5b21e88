"""Bearer tokens of an identity provider: JSON Web Tokens checked against the provider's public keys in a JWKS file."""

import threading
from pathlib import Path

import jwt
import structlog

from server.domain.access import Caller, parse_scope
from server.domain.errors import AtomasError, Reason

log = structlog.get_logger(__name__)
# Signatures by key pairs alone: with a shared secret whoever can check tokens could make them.
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
LEEWAY_SECONDS = 30
MAX_CHARACTERS = 16_384
SCOPE_PREFIX = "atomas:"


class JsonWebTokens:
    """The `Tokens` port. A changed JWKS file counts from the next token on; one that cannot be read leaves the former keys in use."""

    def __init__(self, jwks_file: Path, audience: str, issuer: str, scope_claim: str) -> None:
        """Raises INVALID_ARGUMENT when the file holds no keys, or when there is no audience: tokens made for others would be taken."""
        if not audience:
            raise AtomasError(Reason.INVALID_ARGUMENT, "Tokens are made for somebody: set ATOMAS_JWT_AUDIENCE to the name of this service.")
        self._file, self._audience, self._issuer, self._claim = jwks_file, audience, issuer, scope_claim
        self._lock = threading.Lock()
        self._stamp = self._stat()
        self._keys = self._read()

    def caller(self, token: str) -> Caller | None:
        """Who the token speaks of. Scopes are the words `atomas:LIBRARY:LEVEL` of the claim; its other words are for other services."""
        if len(token) > MAX_CHARACTERS:
            return None
        try:
            key = self._present_keys()[str(jwt.get_unverified_header(token).get("kid", ""))]
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer or None,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "sub"]},
            )
            said = claims.get(self._claim, "")
            words = said.split() if isinstance(said, str) else [str(word) for word in said]
            scopes = tuple(parse_scope(word.removeprefix(SCOPE_PREFIX)) for word in words if word.startswith(SCOPE_PREFIX))
        except (jwt.PyJWTError, KeyError, AtomasError, TypeError, ValueError):
            return None
        return Caller(f"token/{claims['sub']}"[:200], scopes)

    def _present_keys(self) -> jwt.PyJWKSet:
        with self._lock:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = self._read()
                except AtomasError as error:
                    log.warning("the JWKS file changed and cannot be read; the former keys stay in use", message=error.message)
            return self._keys

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
