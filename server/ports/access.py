"""The ports by which callers are known: API keys, hashes of their secrets, tokens of identity providers."""

from dataclasses import dataclass
from typing import Protocol

from server.domain.access import ApiKey, Caller


class ApiKeys(Protocol):
    """API keys in SQL; they are never removed, so that lists tell who once could do what."""

    def add(self, key: ApiKey) -> ApiKey:
        """Stamps the creation time. Raises DATABASE_UNAVAILABLE when the prefix is taken."""
        ...

    def get(self, prefix: str) -> ApiKey:
        """Raises API_KEY_NOT_FOUND."""
        ...

    def page(self, after: str, limit: int) -> list[ApiKey]:
        """Keys with a prefix greater than `after`, by prefix."""
        ...

    def revoke(self, prefix: str) -> ApiKey:
        """Stamps the time of the first revocation. Raises API_KEY_NOT_FOUND."""
        ...


class SecretHashes(Protocol):
    """Hashes from which no secret can be won back in useful time. Thread-safe."""

    def hash(self, secret: str) -> str: ...

    def verify(self, hashed: str, secret: str) -> bool:
        """Whether the hash is of this secret; may remember the answer for a while."""
        ...


class Tokens(Protocol):
    """Signed bearer tokens of an identity provider. Thread-safe."""

    def caller(self, token: str) -> Caller | None:
        """Who a valid token speaks of, with the scopes it carries; None for any other."""
        ...


@dataclass(frozen=True)
class Trust:
    """By what the edge knows callers."""

    # False lets anyone do anything: for loopback.
    required: bool
    hashes: SecretHashes
    tokens: Tokens | None = None
