"""AccessService: API keys."""

from typing import Any

from atomas.v1 import access_service_pb2 as pb
from atomas.v1.access_service_pb2_grpc import AccessServiceServicer
from server.domain.access import ApiKey, Level, Scope
from server.domain.errors import AtomasError, Reason
from server.ports import Database, SecretHashes
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.paging import page_size
from server.usecases import manage_keys


class AccessServicer(AccessServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, database: Database, hashes: SecretHashes, calls: Calls) -> None:
        self._database, self._hashes, self._calls = database, hashes, calls

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.CreateApiKeyResponse:
        asked = request.api_key
        scopes = [_scope(scope) for scope in asked.scopes]
        expire_time = convert.aware(asked.expire_time) if asked.HasField("expire_time") else None
        key, secret = await self._calls.run(manage_keys.create_key, asked.display_name, scopes, expire_time, self._database, self._hashes)
        return pb.CreateApiKeyResponse(api_key=_message(key), secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> pb.ListApiKeysResponse:
        scope = page_tokens.scope_of(request)
        size = page_size(request.page_size, 100)
        after = page_tokens.decode(request.page_token, scope)
        found = await self._calls.run(manage_keys.list_keys, after, size + 1, self._database)
        token = page_tokens.encode(found[size - 1].prefix, scope) if len(found) > size else ""
        return pb.ListApiKeysResponse(api_keys=[_message(each) for each in found[:size]], next_page_token=token)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.ApiKey:
        return _message(await self._calls.run(manage_keys.revoke_key, names.api_key_prefix(request.name), self._database))


def _scope(scope: pb.Scope) -> Scope:
    if int(scope.level) not in {int(level) for level in Level}:
        raise AtomasError(Reason.INVALID_ARGUMENT, "Each scope has a level: READ, WRITE or ADMIN.")
    library = names.library_id_or_any(scope.library)
    return Scope(names.ANY if library is None else library, Level(scope.level))


def _message(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        name=f"apiKeys/{key.prefix}",
        display_name=key.display_name,
        scopes=[pb.Scope(library=f"libraries/{scope.library}", level=pb.Scope.Level.ValueType(int(scope.level))) for scope in key.scopes],
        create_time=convert.timestamp(key.create_time),
        expire_time=convert.timestamp(key.expire_time),
        revoke_time=convert.timestamp(key.revoke_time),
    )
