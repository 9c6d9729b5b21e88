"""API keys as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AccessLevel(StrEnum):
    """What a key may do in a library; each level includes those before it."""

    READ = "READ"
    WRITE = "WRITE"
    ADMIN = "ADMIN"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    # Public first part of the secret.
    prefix: str
    name: str
    # Level by library id; `-` for every library.
    scopes: Mapping[str, AccessLevel]
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made; the secret is shown here and nowhere else."""

    key: ApiKey
    secret: str = field(repr=False)
