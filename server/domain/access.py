"""Who calls, and what they may do: levels per library, API keys without their secrets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from server.domain.errors import AtomasError, Reason
from server.domain.libraries import check_library_id

# Stands for every library, those to come included.
EVERY_LIBRARY = "-"
_SECRET = re.compile(r"atk_(?P<prefix>[a-z0-9]{10})_[A-Za-z0-9_-]{43}")


class Level(IntEnum):
    """What may be done in a library; each level includes those before it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True)
class Scope:
    """A level in a library, or in EVERY_LIBRARY."""

    library: str
    level: Level


@dataclass(frozen=True)
class Caller:
    """Somebody the service knows, for the length of a call."""

    # `key/PREFIX`, `token/SUBJECT`, or `anyone` where nobody is asked who they are.
    name: str
    scopes: Sequence[Scope]

    def may(self, level: Level, library: str) -> bool:
        """Whether this level is granted in the library; EVERY_LIBRARY asks for all of them."""
        return any(scope.level >= level and scope.library in (library, EVERY_LIBRARY) for scope in self.scopes)

    def libraries(self, level: Level) -> list[str] | None:
        """Ids of the libraries where this level is granted, in order; None for all."""
        if self.may(level, EVERY_LIBRARY):
            return None
        return sorted({scope.library for scope in self.scopes if scope.level >= level})


ANYONE = Caller("anyone", (Scope(EVERY_LIBRARY, Level.ADMIN),))


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: whoever reads the database cannot use it."""

    # Public first part of the secret: names the key in lists and logs.
    prefix: str
    secret_hash: str
    scopes: Sequence[Scope]
    display_name: str = ""
    create_time: datetime | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    def valid_at(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)

    @property
    def caller(self) -> Caller:
        """Who calls with this key."""
        return Caller(f"key/{self.prefix}", self.scopes)


def prefix_of(secret: str) -> str | None:
    """The public part of what may be a key's secret; None for anything else."""
    found = _SECRET.fullmatch(secret)
    return found["prefix"] if found else None


def parse_scope(text: str) -> Scope:
    """`chebi:read`, `-:admin`. Raises INVALID_ARGUMENT."""
    library, _, level = text.rpartition(":")
    if level.upper() not in Level.__members__:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"{text[:80]!r} is no scope: write LIBRARY:read, LIBRARY:write or LIBRARY:admin, - for all."
        )
    return checked(Scope(library.removeprefix("libraries/"), Level[level.upper()]))


def checked(scope: Scope) -> Scope:
    """The scope itself; raises INVALID_NAME when no library could have its name."""
    if scope.library != EVERY_LIBRARY:
        check_library_id(scope.library)
    return scope


def denied() -> AtomasError:
    """The one refusal for what is forbidden and for what does not exist: it tells nobody which it was."""
    return AtomasError(
        Reason.PERMISSION_DENIED, "This caller may not do that here, or there is no such place. Ask for a key with the scope it needs."
    )
