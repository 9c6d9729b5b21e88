"""Calls about API keys as data: create, list, revoke."""

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from atomas.calls import Call, Page, library_name
from atomas.errors import InvalidArgumentError
from atomas.keys import AccessLevel, ApiKey, NewApiKey
from atomas.v1 import access_service_pb2 as access

_ACCESS = "/atomas.v1.AccessService/"
EVERY_LIBRARY = "-"


def create_api_key(scopes: Mapping[str, AccessLevel | str], name: str, expire_time: datetime | None) -> Call[NewApiKey]:
    request = access.CreateApiKeyRequest(api_key=access.ApiKey(display_name=name))
    for library, level in scopes.items():
        place = f"libraries/{EVERY_LIBRARY}" if library == EVERY_LIBRARY else library_name(library)
        request.api_key.scopes.add(library=place, level=access.Scope.Level.Value(_level(level).value))
    if expire_time is not None:
        request.api_key.expire_time.FromDatetime(expire_time.astimezone(UTC))
    return Call(
        _ACCESS + "CreateApiKey", request, access.CreateApiKeyResponse.FromString, lambda said: NewApiKey(_key(said.api_key), said.secret)
    )


def list_api_keys(page_token: str) -> Call[Page[ApiKey]]:
    request = access.ListApiKeysRequest(page_size=1000, page_token=page_token)
    return Call(
        _ACCESS + "ListApiKeys",
        request,
        access.ListApiKeysResponse.FromString,
        lambda said: Page([_key(each) for each in said.api_keys], said.next_page_token),
    )


def revoke_api_key(key: str | ApiKey) -> Call[ApiKey]:
    """The key by its prefix or resource name."""
    prefix = key.prefix if isinstance(key, ApiKey) else key.removeprefix("apiKeys/")
    return Call(_ACCESS + "RevokeApiKey", access.RevokeApiKeyRequest(name=f"apiKeys/{prefix}"), access.ApiKey.FromString, _key)


def _level(level: AccessLevel | str) -> AccessLevel:
    try:
        return AccessLevel(level.upper())
    except ValueError:
        known = ", ".join(each.lower() for each in AccessLevel)
        raise InvalidArgumentError(f"{level[:40]!r} is no level: choose one of {known}.", reason="INVALID_LEVEL") from None


def _key(message: access.ApiKey) -> ApiKey:
    return ApiKey(
        prefix=message.name.rpartition("/")[2],
        name=message.display_name,
        scopes={
            scope.library.rpartition("/")[2]: AccessLevel(access.Scope.Level.Name(scope.level)) for scope in message.scopes if scope.level
        },
        create_time=_time(message.create_time),
        expire_time=_time(message.expire_time) if message.HasField("expire_time") else None,
        revoke_time=_time(message.revoke_time) if message.HasField("revoke_time") else None,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
