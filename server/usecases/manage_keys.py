"""Make, list and revoke API keys."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from server.domain.access import ApiKey, Level, Scope, checked
from server.domain.errors import AtomasError, Reason
from server.ports import Database, SecretHashes

MAX_SCOPES = 100
MAX_NAME_CHARACTERS = 200
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def create_key(
    display_name: str, scopes: Sequence[Scope], expire_time: datetime | None, database: Database, hashes: SecretHashes
) -> tuple[ApiKey, str]:
    """The stored key and its secret, which nobody can find out later. Raises INVALID_ARGUMENT, INVALID_NAME."""
    if not 1 <= len(scopes) <= MAX_SCOPES:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"A key has 1 to {MAX_SCOPES} scopes, not {len(scopes)}: say what it may do, such as chebi:read."
        )
    if len(display_name) > MAX_NAME_CHARACTERS:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"The display name has {len(display_name)} characters; {MAX_NAME_CHARACTERS} are allowed."
        )
    if expire_time is not None and expire_time <= datetime.now(UTC):
        raise AtomasError(Reason.INVALID_ARGUMENT, "The key would have expired already: name a time to come, or none.")
    levels: dict[str, Level] = {}
    for scope in map(checked, scopes):
        levels[scope.library] = max(scope.level, levels.get(scope.library, scope.level))
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(10))
    secret = f"atk_{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey(prefix, hashes.hash(secret), tuple(Scope(*item) for item in sorted(levels.items())), display_name, expire_time=expire_time)
    with database.transaction() as transaction:
        return transaction.api_keys.add(key), secret


def list_keys(after: str, limit: int, database: Database) -> list[ApiKey]:
    """Up to `limit` keys with prefixes greater than `after`."""
    with database.reading() as transaction:
        return transaction.api_keys.page(after, limit)


def revoke_key(prefix: str, database: Database) -> ApiKey:
    """Ends a key for good; revoking it again changes nothing. Raises API_KEY_NOT_FOUND."""
    with database.transaction() as transaction:
        return transaction.api_keys.revoke(prefix)
