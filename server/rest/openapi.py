"""The OpenAPI document: generated from the contract's descriptors and comments, with the few paths that only HTTP has."""

from collections.abc import Callable, Iterator
from typing import Any

from google.longrunning import operations_proto_pb2
from google.protobuf.descriptor import Descriptor

from server.rest import exports, imports
from server.rest.bindings import Binding, bindings
from server.rest.comments import comments
from server.rest.schemas import Schema, Schemas
from server.rest.transcode import parameter_fields

JSON = "application/json"
# Names of the ids in paths, and what they look like.
_IDS = {
    "library": r"^[a-z0-9][a-z0-9-]{0,62}$",
    "compound": r"^[A-Z]{14}-[A-Z]{10}-[A-Z]$",
    "operation": r"^[0-9a-f]{32}$",
    "apiKey": r"^[a-z0-9]{10}$",
    "model": r"^[A-Za-z0-9._-]{1,128}$",
}
_FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}


def openapi_document(offers: Callable[[str], bool]) -> dict[str, Any]:
    """Paths of the methods that the service offers."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for binding in bindings():
        if offers(binding.handler_path):
            paths.setdefault(binding.template.path, {})[binding.verb.lower()] = _operation(binding, schemas)
    for path, verb, operation in _files(schemas):
        paths.setdefault(path, {})[verb] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atomas",
            "version": "1",
            "description": "Search between molecules and words. The same methods, messages and reasons as the gRPC services of `atomas.v1`, "
            "in protobuf's JSON mapping; every refusal is a google.rpc.Status whose ErrorInfo holds the reason.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**schemas.components, "Status": _status()}.items())),
            "responses": {"Refusal": {"description": "A refusal.", "content": {JSON: {"schema": {"$ref": "#/components/schemas/Status"}}}}},
        },
    }


def _operation(binding: Binding, schemas: Schemas) -> dict[str, Any]:
    method, request = binding.method, binding.method.input_type
    bound = frozenset(variable.field for variable in binding.template.variables)
    operation: dict[str, Any] = {
        "operationId": method.name,
        "tags": [method.containing_service.name],
        "parameters": [*_path_parameters(binding), *_query_parameters(request, bound | {binding.body}, binding, schemas)],
        "responses": _responses({JSON: {"schema": schemas.reference(method.output_type)}}),
    }
    if said := comments().get(method.full_name):
        operation["summary"] = said
    if method.name == "DrawStructure":
        operation["responses"]["200"]["content"]["image/svg+xml"] = {"schema": {"type": "string"}}
    if binding.body:
        schema = schemas.object(request, bound) if binding.body == "*" else schemas.field(request.fields_by_name[binding.body])
        operation["requestBody"] = {"content": {JSON: {"schema": schema}}, "required": bool(schema.get("required")) or binding.body != "*"}
    return operation


def _path_parameters(binding: Binding) -> Iterator[dict[str, Any]]:
    for variable in binding.template.variables:
        yield from (_id(name) for name in variable.ids)


def _id(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": _IDS[name]}}


def _query_parameters(request: Descriptor, bound: frozenset[str], binding: Binding, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if binding.body == "*":
        return
    for field in parameter_fields(request):
        if field.name not in bound:
            schema = schemas.field(field)
            required = field.json_name in schemas.object(request).get("required", ())
            yield {"name": field.json_name, "in": "query", "required": required, "schema": schema}


def _responses(content: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": "OK", "content": content}, "default": {"$ref": "#/components/responses/Refusal"}}


def _status() -> Schema:
    """google.rpc.Status, with its details opened."""
    return {
        "type": "object",
        "description": "Why a call was refused.",
        "properties": {
            "code": {"type": "integer", "description": "google.rpc.Code."},
            "message": {"type": "string", "description": "One sentence for a person."},
            "details": {
                "type": "array",
                "description": "Of type google.rpc.ErrorInfo: the stable `reason`, and `metadata` with the request id.",
                "items": {
                    "type": "object",
                    "properties": {"@type": {"type": "string"}, "reason": {"type": "string"}},
                    "required": ["@type"],
                },
            },
        },
        "required": ["code", "message", "details"],
    }


def _files(schemas: Schemas) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Imports, exports and progress, which gRPC has as streams."""
    operation = schemas.reference(operations_proto_pb2.Operation.DESCRIPTOR)
    formats = {"type": "string", "enum": sorted(exports.KINDS)}
    yield (
        "/v1/libraries/{library}/compounds:import",
        "post",
        {
            "operationId": "ImportFile",
            "tags": ["LibraryService"],
            "summary": "Imports a file of compounds, the body: SMILES, SDF, CSV, TSV, JSON Lines or Parquet, also packed by gzip or zip. "
            "Returns the operation once every row is durable; the same `requestId` goes on with the same import.",
            "parameters": [
                _id("library"),
                _query("source", {"type": "string"}, "Name of the file; its ending tells the format."),
                _query(
                    "format",
                    {"type": "string", "enum": ["auto", "smiles", "sdf", "csv", "tsv", "jsonl", "parquet"]},
                    "When the name does not tell.",
                ),
                _query("requestId", {"type": "string", "format": "uuid"}, "UUID chosen by the caller."),
                _query("allowMissing", {"type": "boolean"}, "Create the library when it is missing."),
            ],
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": _FILE} for kind in ("application/octet-stream", *imports.FORMATS)},
            },
            "responses": _responses({JSON: {"schema": operation}}),
        },
    )
    yield (
        "/v1/libraries/{library}/compounds:export",
        "get",
        {
            "operationId": "ExportFile",
            "tags": ["LibraryService"],
            "summary": "The compounds of a library, or those that meet a filter, as a file; importing it gives the same compounds again "
            "(SMILES files hold structure, id and name).",
            "parameters": [
                _id("library"),
                _query("format", formats, "JSON Lines when left out."),
                _query("filter", {"type": "string"}, "As in searches."),
            ],
            "responses": _responses({kind.partition(";")[0]: {"schema": _FILE} for kind, _ in exports.KINDS.values()}),
        },
    )
    yield (
        "/v1/operations/{operation}:watch",
        "get",
        {
            "operationId": "WatchOperation",
            "tags": ["Operations"],
            "summary": "The operation as server-sent events: now, whenever it changes, and when it is done.",
            "parameters": [_id("operation")],
            "responses": _responses({"text/event-stream": {"schema": {"type": "string"}}}),
        },
    )


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
