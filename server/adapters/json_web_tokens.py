"""Bearer tokens of an identity provider: JSON Web Tokens checked against the provider's public keys."""

import jwt

from server.adapters.key_sets import KeySet
from server.domain.access import Caller, parse_scope
from server.domain.errors import AtomasError, Reason

# Signatures by key pairs alone: with a shared secret whoever can check tokens could make them.
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
LEEWAY_SECONDS = 30
MAX_CHARACTERS = 16_384
SCOPE_PREFIX = "atomas:"


class JsonWebTokens:
    """The `Tokens` port."""

    def __init__(self, keys: KeySet, audience: str, issuer: str, scope_claim: str) -> None:
        """Raises INVALID_ARGUMENT when there is no audience: tokens made for others would be taken."""
        if not audience:
            raise AtomasError(Reason.INVALID_ARGUMENT, "Tokens are made for somebody: set ATOMAS_JWT_AUDIENCE to the name of this service.")
        self._keys, self._audience, self._issuer, self._claim = keys, audience, issuer, scope_claim

    def caller(self, token: str) -> Caller | None:
        """Who the token speaks of. Scopes are the words `atomas:LIBRARY:LEVEL` of the claim; its other words are for other services."""
        if len(token) > MAX_CHARACTERS:
            return None
        try:
            key = self._keys.key(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                return None
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
        except (jwt.PyJWTError, AtomasError, TypeError, ValueError):
            return None
        return Caller(f"token/{claims['sub']}"[:200], scopes)
