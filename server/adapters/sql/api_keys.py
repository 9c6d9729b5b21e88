"""API keys in SQL: hashes of their secrets, never the secrets."""

import json
from typing import Any

from sqlalchemy import Row, select, update

from server.adapters.sql.session import Session
from server.adapters.sql.tables import api_keys
from server.domain.access import ApiKey, Level, Scope
from server.domain.errors import AtomasError, Reason


class SqlApiKeys:
    """The `ApiKeys` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, key: ApiKey) -> ApiKey:
        self._session.write(
            self._session.insert(api_keys).values(
                prefix=key.prefix,
                secret_hash=key.secret_hash,
                display_name=key.display_name,
                scopes=json.dumps([[scope.library, scope.level.name] for scope in key.scopes]),
                create_time=self._session.now,
                expire_time=key.expire_time,
            )
        )
        return self.get(key.prefix)

    def get(self, prefix: str) -> ApiKey:
        row = self._session.connection.execute(select(api_keys).where(api_keys.c.prefix == prefix)).one_or_none()
        if row is None:
            raise AtomasError(Reason.API_KEY_NOT_FOUND, f"There is no API key {prefix!r}.")
        return _key_from(row)

    def page(self, after: str, limit: int) -> list[ApiKey]:
        query = select(api_keys).where(api_keys.c.prefix > after).order_by(api_keys.c.prefix).limit(limit)
        return [_key_from(row) for row in self._session.connection.execute(query)]

    def revoke(self, prefix: str) -> ApiKey:
        chosen = (api_keys.c.prefix == prefix) & api_keys.c.revoke_time.is_(None)
        self._session.write(update(api_keys).where(chosen).values(revoke_time=self._session.now))
        return self.get(prefix)


def _key_from(row: Row[Any]) -> ApiKey:
    return ApiKey(
        prefix=row.prefix,
        secret_hash=row.secret_hash,
        scopes=tuple(Scope(library, Level[level]) for library, level in json.loads(row.scopes)),
        display_name=row.display_name,
        create_time=row.create_time,
        expire_time=row.expire_time,
        revoke_time=row.revoke_time,
    )
