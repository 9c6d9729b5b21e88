"""Nobody gets anywhere without the right: every method that the server's reflection names, and every path that its document does."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.longrunning import operations_proto_pb2 as operations
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from atomas.v1 import access_service_pb2 as access
from atomas.v1 import embedding_service_pb2 as embedding
from atomas.v1 import generation_service_pb2 as generation
from atomas.v1 import library_pb2
from atomas.v1 import library_service_pb2 as libraries
from atomas.v1 import model_service_pb2 as models
from atomas.v1 import search_service_pb2 as search
from atomas.v1 import structure_service_pb2 as structures
from server.domain.access import EVERY_LIBRARY, Level
from server.domain.generation import ID_PREFIX
from server.rpc.access_rules import OPEN_SERVICES, RULES
from server.rpc.app import SERVICES
from server.usecases.track_operations import list_operations
from tests.security.served import Served, call

ETHANOL = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
UNKNOWN_OPERATION = "0" * 32
UNKNOWN_GENERATION = f"{ID_PREFIX}{UNKNOWN_OPERATION}"

# For each method a request about a library and an operation of it.
REQUESTS: Mapping[str, Callable[[str, str], Any]] = {
    "CreateLibrary": lambda library, _: libraries.CreateLibraryRequest(library_id=library),
    "GetLibrary": lambda library, _: libraries.GetLibraryRequest(name=f"libraries/{library}"),
    "ListLibraries": lambda library, _: libraries.ListLibrariesRequest(),
    "UpdateLibrary": lambda library, _: libraries.UpdateLibraryRequest(library=library_pb2.Library(name=f"libraries/{library}")),
    "DeleteLibrary": lambda library, _: libraries.DeleteLibraryRequest(name=f"libraries/{library}"),
    "GetCompound": lambda library, _: libraries.GetCompoundRequest(name=f"libraries/{library}/compounds/{ETHANOL}"),
    "ListCompounds": lambda library, _: libraries.ListCompoundsRequest(parent=f"libraries/{library}"),
    "DeleteCompound": lambda library, _: libraries.DeleteCompoundRequest(name=f"libraries/{library}/compounds/{ETHANOL}"),
    "ImportCompounds": lambda library, _: libraries.ImportCompoundsRequest(
        start=libraries.ImportCompoundsRequest.Start(
            parent=f"libraries/{library}", request_id="b7c1d0a4-5c1e-4a38-9a53-6d1f0c6f7a10", allow_missing=True
        )
    ),
    "ExportCompounds": lambda library, _: libraries.ExportCompoundsRequest(parent=f"libraries/{library}"),
    "ListRejections": lambda _, operation: libraries.ListRejectionsRequest(operation=f"operations/{operation}"),
    "SearchCompounds": lambda library, _: search.SearchCompoundsRequest(parent=f"libraries/{library}", text="alcohol"),
    "BatchSearchCompounds": lambda library, _: search.BatchSearchCompoundsRequest(
        parent="libraries/-", requests=[search.SearchCompoundsRequest(parent=f"libraries/{library}", text="alcohol")]
    ),
    "ExplainHit": lambda library, _: search.ExplainHitRequest(compound=f"libraries/{library}/compounds/{ETHANOL}", text="alcohol"),
    "EmbedTexts": lambda library, _: embedding.EmbedTextsRequest(texts=["alcohol"]),
    "EmbedStructures": lambda library, _: embedding.EmbedStructuresRequest(structures=["CCO"]),
    "StandardiseStructure": lambda library, _: structures.StandardiseStructureRequest(structure="OCC"),
    "DrawStructure": lambda library, _: structures.DrawStructureRequest(structure="OCC"),
    "GenerateMolecules": lambda library, _: generation.GenerateMoleculesRequest(parent=f"libraries/{library}", text="alcohol"),
    "DescribeStructure": lambda library, _: generation.DescribeStructureRequest(parent=f"libraries/{library}", structure="CCO"),
    "WatchGeneration": lambda _, operation: generation.WatchGenerationRequest(operation=f"operations/{operation}"),
    "GetModel": lambda library, _: models.GetModelRequest(name="models/-"),
    "ListModels": lambda library, _: models.ListModelsRequest(),
    "ReindexCompounds": lambda library, _: models.ReindexCompoundsRequest(path="/nowhere"),
    "CompareModels": lambda library, _: models.CompareModelsRequest(name="models/x", texts=["alcohol"]),
    "ActivateModel": lambda library, _: models.ActivateModelRequest(name="models/x"),
    "DeleteModel": lambda library, _: models.DeleteModelRequest(name="models/x"),
    "CreateApiKey": lambda library, _: access.CreateApiKeyRequest(),
    "ListApiKeys": lambda library, _: access.ListApiKeysRequest(),
    "RevokeApiKey": lambda library, _: access.RevokeApiKeyRequest(name="apiKeys/abcdefghij"),
    "ListOperations": lambda library, _: operations.ListOperationsRequest(),
    "GetOperation": lambda _, operation: operations.GetOperationRequest(name=f"operations/{operation}"),
    "WaitOperation": lambda _, operation: operations.WaitOperationRequest(name=f"operations/{operation}"),
    "CancelOperation": lambda _, operation: operations.CancelOperationRequest(name=f"operations/{operation}"),
    "DeleteOperation": lambda _, operation: operations.DeleteOperationRequest(name=f"operations/{operation}"),
}
# They speak of no library in particular, and tell a caller of nothing but what it may read.
NARROWED = {
    "ListLibraries", "EmbedTexts", "EmbedStructures", "StandardiseStructure", "DrawStructure", "GetModel", "ListModels", "ListOperations",
}  # fmt: skip


def reflected(channel: grpc.Channel) -> dict[str, Any]:
    """Every method that the server says it has, by path, without those open to all."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool, found = DescriptorPool(database), {}
    for name in database.get_services():
        if name not in OPEN_SERVICES:
            for method in pool.FindServiceByName(name).methods:
                found[f"/{name}/{method.name}"] = method
    return found


def refusal(channel: grpc.Channel, method: Any, message: Any, secret: str) -> tuple[grpc.StatusCode, str, str]:
    """Code, message and reason; the code is OK when the service did it."""
    answer = message_factory.GetMessageClass(method.output_type).FromString
    try:
        call(channel, method, message, secret, answer)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        trailing = {item.key: item.value for item in error.trailing_metadata()}
        info = error_details_pb2.ErrorInfo()
        for detail in status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b"")).details:
            detail.Unpack(info)
        assert set(info.metadata) <= {"request_id"}, "a refusal tells details of what it refuses"
        return error.code(), str(error.details()), info.reason
    return grpc.StatusCode.OK, "", ""


def import_of_held(guarded: Served) -> str:
    return list_operations("", 1, guarded.ports)[0].id


def test_every_method_has_a_rule_and_a_request_here(channel: grpc.Channel) -> None:
    found = reflected(channel)
    assert {path.split("/")[1] for path in found} == set(SERVICES)
    assert set(found) <= set(RULES), "a method without an access rule"
    assert {path.rpartition("/")[2] for path in RULES} == set(REQUESTS), "a method that these tests do not try"


@pytest.mark.parametrize("kind", ["none", "nonsense", "unknown", "wrong", "revoked", "expired"])
def test_without_a_valid_key_nothing_answers(guarded: Served, channel: grpc.Channel, kind: str) -> None:
    secret = guarded.key("-:admin")
    if kind == "none":
        secret = ""
    elif kind == "nonsense":
        secret = "open sesame"
    elif kind == "unknown":
        secret = "atk_0000000000_" + "A" * 43
    elif kind == "wrong":
        secret = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    elif kind == "revoked":
        assert (
            refusal(channel, reflected(channel)["/atomas.v1.ModelService/ListModels"], REQUESTS["ListModels"]("", ""), secret)[0].name
            == "OK"
        )
        with guarded.ports.database.transaction() as transaction:
            transaction.api_keys.revoke(secret.split("_")[1])
    else:
        with guarded.ports.database.transaction() as transaction:
            key = transaction.api_keys.get(secret.split("_")[1])
            hashed = guarded.trust.hashes.hash("atk_expired000_" + "A" * 43)
            past = datetime.now(UTC) - timedelta(seconds=1)
            transaction.api_keys.add(replace(key, prefix="expired000", secret_hash=hashed, expire_time=past))
        secret = "atk_expired000_" + "A" * 43
    operation = import_of_held(guarded)
    said = {refusal(channel, method, REQUESTS[method.name]("held", operation), secret) for method in reflected(channel).values()}
    assert {(code.name, reason) for code, _, reason in said} == {("UNAUTHENTICATED", "UNAUTHENTICATED")}
    assert len(said) == 1, "refusals tell more than that nobody is known"


def test_a_key_of_another_library_learns_nothing(guarded: Served, channel: grpc.Channel) -> None:
    secret, operation = guarded.key("other:admin"), import_of_held(guarded)
    for path, method in reflected(channel).items():
        if method.name in NARROWED:
            continue
        present = refusal(channel, method, REQUESTS[method.name]("held", operation), secret)
        if "operation" in method.name.lower() or method.name == "WatchGeneration":
            unborn = refusal(channel, method, REQUESTS[method.name]("absent", UNKNOWN_GENERATION), secret)
            assert unborn == present, f"{path} tells what exists"
        absent = refusal(channel, method, REQUESTS[method.name]("absent", UNKNOWN_OPERATION), secret)
        # Operations are never deleted, whoever asks.
        assert present[0].name == "PERMISSION_DENIED" or method.name == "DeleteOperation", path
        assert present == absent, f"{path} tells what exists"


def test_lists_and_searches_hold_nothing_of_other_libraries(guarded: Served, channel: grpc.Channel) -> None:
    secret = guarded.key("other:read")
    for path, method in reflected(channel).items():
        if method.name in NARROWED:
            answer = call(channel, method, REQUESTS[method.name]("held", ""), secret, lambda sent: sent)
            assert b"held" not in answer, path
    methods = reflected(channel)
    everywhere = search.SearchCompoundsRequest(parent="libraries/-", text="alcohol")
    batch = search.BatchSearchCompoundsRequest(parent="libraries/-", requests=[search.SearchCompoundsRequest(text="alcohol")])
    for name, message in {"SearchCompounds": everywhere, "BatchSearchCompounds": batch}.items():
        method = methods[f"/atomas.v1.SearchService/{name}"]
        assert b"held" not in call(channel, method, message, secret, lambda sent: sent)
        assert b"held" in call(channel, method, message, guarded.key("held:read"), lambda sent: sent)


@pytest.mark.parametrize(
    "message",
    [
        search.SearchCompoundsRequest(parent="libraries/-", libraries=["libraries/other", "libraries/held"], text="alcohol"),
        search.SearchCompoundsRequest(parent="libraries/other", compound=f"libraries/held/compounds/{ETHANOL}"),
    ],
)
def test_no_field_of_a_search_reaches_another_library(guarded: Served, channel: grpc.Channel, message: Any) -> None:
    method = reflected(channel)["/atomas.v1.SearchService/SearchCompounds"]
    assert refusal(channel, method, message, guarded.key("other:read"))[0].name == "PERMISSION_DENIED"


@pytest.mark.parametrize(("scope", "highest"), [("held:read", Level.READ), ("held:write", Level.WRITE), ("held:admin", Level.ADMIN)])
def test_a_level_ends_where_the_next_begins(guarded: Served, channel: grpc.Channel, scope: str, highest: Level) -> None:
    secret, operation = guarded.key(scope), import_of_held(guarded)
    for path, method in reflected(channel).items():
        message = REQUESTS[method.name]("held", operation)
        everywhere = EVERY_LIBRARY in list(RULES[path].libraries(message))
        if RULES[path].level > highest or everywhere:
            assert refusal(channel, method, message, secret)[0].name == "PERMISSION_DENIED", path


def test_a_read_key_reads_and_a_write_key_imports_but_makes_no_library(guarded: Served, channel: grpc.Channel) -> None:
    methods = reflected(channel)
    get, start = methods["/atomas.v1.LibraryService/GetLibrary"], methods["/atomas.v1.LibraryService/ImportCompounds"]
    assert refusal(channel, get, REQUESTS["GetLibrary"]("held", ""), guarded.key("held:read"))[0].name == "OK"
    assert refusal(channel, start, REQUESTS["ImportCompounds"]("held", ""), guarded.key("held:write"))[0].name == "OK"
    assert refusal(channel, start, REQUESTS["ImportCompounds"]("unborn", ""), guarded.key("unborn:write"))[2] == "LIBRARY_NOT_FOUND"
    assert refusal(channel, start, REQUESTS["ImportCompounds"]("unborn", ""), guarded.key("unborn:admin"))[0].name == "OK"


PATHS_OPEN_TO_ALL = {"/openapi.json"}


def http_paths(guarded: Served, library: str, operation: str) -> list[tuple[str, str]]:
    """Every verb and path of the service's own description, with names put in."""
    document = json.loads(guarded.http("GET", "/openapi.json").body)
    ids = {"library": library, "compound": ETHANOL, "operation": operation, "model": "x", "apiKey": "abcdefghij", "api_key": "abcdefghij"}
    return [
        (verb.upper(), re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path))
        for path, verbs in document["paths"].items()
        for verb in verbs
        if path not in PATHS_OPEN_TO_ALL
    ]


@pytest.mark.parametrize("secret", ["", "open sesame", "atk_0000000000_" + "A" * 43])
def test_no_path_answers_without_a_valid_key(guarded: Served, secret: str) -> None:
    paths = http_paths(guarded, "held", import_of_held(guarded))
    assert len(paths) > 20
    for verb, path in paths:
        answer = guarded.http(verb, path, secret, b"{}" if verb in ("POST", "PATCH") else None)
        assert answer.status == 401, (verb, path, answer.body)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_paths_of_a_library_do_not_tell_a_stranger_whether_it_exists(guarded: Served) -> None:
    secret, operation = guarded.key("other:admin"), import_of_held(guarded)
    present, absent = http_paths(guarded, "held", operation), http_paths(guarded, "absent", UNKNOWN_OPERATION)
    tried = 0
    for (verb, path), (_, missing) in zip(present, absent, strict=True):
        if path == missing:
            continue
        body = b"{}" if verb in ("POST", "PATCH") else None
        told, untold = guarded.http(verb, path, secret, body), guarded.http(verb, missing, secret, body)
        assert told.status == untold.status, (verb, path)
        assert told.status == 403 or b"held" not in told.body, (verb, path, told.body)
        tried += told.status == 403
    assert tried > 10
