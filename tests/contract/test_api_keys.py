"""API keys: every database keeps them alike."""

from datetime import UTC, datetime, timedelta

import pytest

from server.domain.access import ApiKey, Level, Scope
from server.domain.errors import AtomasError, Reason
from server.ports import Database

KEY = ApiKey(
    "abcdefghij", "hash", (Scope("-", Level.ADMIN), Scope("lib", Level.READ)), "name", expire_time=datetime(2100, 1, 1, tzinfo=UTC)
)


def add(database: Database, key: ApiKey) -> ApiKey:
    with database.transaction() as transaction:
        return transaction.api_keys.add(key)


def test_a_key_is_read_as_it_was_added(database: Database) -> None:
    added = add(database, KEY)
    assert added.create_time is not None
    with database.reading() as transaction:
        stored = transaction.api_keys.get("abcdefghij")
    assert stored == added
    assert (stored.scopes, stored.expire_time, stored.revoke_time) == (KEY.scopes, KEY.expire_time, None)


def test_a_key_that_is_not_there_is_told(database: Database) -> None:
    with pytest.raises(AtomasError) as refused, database.reading() as transaction:
        transaction.api_keys.get("abcdefghij")
    assert refused.value.reason is Reason.API_KEY_NOT_FOUND
    with pytest.raises(AtomasError) as refused, database.transaction() as transaction:
        transaction.api_keys.revoke("abcdefghij")
    assert refused.value.reason is Reason.API_KEY_NOT_FOUND


def test_a_revoked_key_stays_with_the_time_of_its_first_revocation(database: Database) -> None:
    add(database, KEY)
    times = []
    for _ in range(2):
        with database.transaction() as transaction:
            times.append(transaction.api_keys.revoke("abcdefghij").revoke_time)
    assert times[0] == times[1] is not None
    with database.reading() as transaction:
        assert not transaction.api_keys.get("abcdefghij").valid_at(datetime.now(UTC))


def test_pages_are_in_the_order_of_prefixes(database: Database) -> None:
    for prefix in ("c000000000", "a000000000", "b000000000"):
        add(database, ApiKey(prefix, "hash", KEY.scopes))
    with database.reading() as transaction:
        assert [key.prefix for key in transaction.api_keys.page("", 2)] == ["a000000000", "b000000000"]
        assert [key.prefix for key in transaction.api_keys.page("b000000000", 2)] == ["c000000000"]


def test_a_prefix_is_given_once(database: Database) -> None:
    add(database, KEY)
    with pytest.raises(AtomasError) as refused:
        add(database, KEY)
    assert refused.value.reason is Reason.DATABASE_UNAVAILABLE


def test_a_key_is_valid_until_it_expires() -> None:
    now = datetime.now(UTC)
    assert ApiKey("a", "hash", (), expire_time=now + timedelta(seconds=1)).valid_at(now)
    assert not ApiKey("a", "hash", (), expire_time=now).valid_at(now)
