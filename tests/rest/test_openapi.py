"""The OpenAPI document: complete, in the contract's words, and true of a live server (schemathesis tries)."""

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS

import atomas.v1
from server.rest.bindings import bindings
from server.rest.openapi import openapi_document
from tests.rest.conftest import Http
from tests.running import RunningServer

# Those that hold for protobuf's JSON mapping, which reads more spellings than a schema can name, and for requests that can be
# well-formed and still make no sense.
HELD = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]


OPERATIONS = sorted({binding.method.name for binding in bindings()} | {"ImportFile", "ExportFile", "WatchOperation"})
CASES = 8


@pytest.fixture(scope="session")
def operations(server: RunningServer) -> Mapping[str, Any]:
    """What the server's document describes, by operation id."""
    schema = schemathesis.openapi.from_url(f"{server.url}openapi.json")
    found: list[Any] = [cast(Any, result).ok() for result in schema.get_all_operations()]
    return {operation.definition.raw["operationId"]: operation for operation in found}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_server_answers_as_its_document_says(operations: Mapping[str, Any], http: Http, name: str) -> None:
    if name not in operations:
        (binding,) = (each for each in bindings() if each.method.name == name)
        answer = http(binding.verb, binding.template.path)
        assert (answer.status, answer.reason) == (501, "UNIMPLEMENTED")
        return
    checks = CHECKS.get_by_names(HELD)

    @settings(max_examples=CASES, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
    @given(case=operations[name].as_strategy())
    def answers(case: Any) -> None:
        case.call_and_validate(checks=checks, timeout=60)

    answers()


def test_every_method_with_a_path_is_in_the_document() -> None:
    document = openapi_document(lambda method: True)
    named = {operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()}
    assert named == {binding.method.name for binding in bindings()} | {"ImportFile", "ExportFile", "WatchOperation"}


def test_every_service_of_the_contract_can_be_asked_over_http() -> None:
    services = {name for module in pkgutil.iter_modules(atomas.v1.__path__) if (name := module.name).endswith("_service_pb2")}
    assert services == {Path(binding.method.containing_service.file.name).stem + "_pb2" for binding in bindings()} - {"operations_pb2"}


def test_what_the_service_does_not_offer_is_not_in_the_document() -> None:
    document = openapi_document(lambda method: not method.endswith("/DrawStructure"))
    assert "/v1/structures:draw" not in document["paths"]
    assert "/v1/structures:standardise" in document["paths"]


def test_the_document_speaks_in_the_contracts_words() -> None:
    document = openapi_document(lambda method: True)
    search = document["paths"]["/v1/libraries/{library}/compounds:search"]["post"]
    assert search["summary"] == "Finds compounds by words, by a structure, or by another compound."
    schemas = document["components"]["schemas"]
    assert schemas["Descriptors"]["properties"]["tpsa"]["description"] == "Topological polar surface area in square angstroms."
    body = search["requestBody"]["content"]["application/json"]["schema"]
    # The path holds the parent.
    assert "parent" not in body["properties"]
    assert "Free text." in json.dumps(body)
    fields = [(name, field) for name, schema in schemas.items() for field in schema.get("properties", {}).values()]
    assert sum("description" in field for _, field in fields) > len(fields) / 3


def test_the_live_document_is_complete(http: Http) -> None:
    answer = http("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json()["openapi"] == "3.1.0"
    text = json.dumps(answer.json())
    for reference in set(text.split('"$ref": "#/components/')[1:]):
        kind, name = reference.split('"')[0].split("/")
        assert name in answer.json()["components"][kind]
