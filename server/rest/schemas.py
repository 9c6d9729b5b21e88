"""JSON Schemas of the contract's messages, as protobuf's JSON mapping writes and reads them."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from server.rest.comments import comments

Schema: TypeAlias = dict[str, Any]

_F = FieldDescriptor
_INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
# JSON's numbers lose digits beyond 2^53, so they are written as texts; both are read.
_INT64 = {"type": ["string", "integer"], "format": "int64", "pattern": r"^-?\d{1,18}$", "minimum": -(2**63), "maximum": 2**63 - 1}
_SCALARS: Mapping[int, Schema] = {
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _F.TYPE_FLOAT: {"type": "number", "format": "float"},
    _F.TYPE_INT32: _INT32,
    _F.TYPE_INT64: _INT64,
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Fields in camelCase, separated by commas.",
        "examples": ["name,smiles"],
    },
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}


class Schemas:
    """Collects the schemas of messages as they are mentioned."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def reference(self, message: Descriptor) -> Schema:
        """A reference to the message's schema."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        name = component_name(message.full_name)
        if name not in self.components:
            # Named before it is made: messages may hold each other.
            self.components[name] = {}
            self.components[name] = self.object(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """The message as an object, without fields that stand elsewhere, such as in the path."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field) for field in fields},
            "additionalProperties": False,
        }
        if required := [field.json_name for field in fields if "REQUIRED" in behaviours(field)]:
            schema["required"] = required
        return _described(schema, message.full_name)

    def field(self, field: FieldDescriptor) -> Schema:
        """What a field holds."""
        schema = self._field(field)
        if "OUTPUT_ONLY" in behaviours(field):
            schema["readOnly"] = True
        return _described(schema, field.full_name)

    def _field(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._one(field.message_type.fields_by_name["value"])}
        one = self._one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type)
        if field.enum_type is not None:
            return _enumeration(field.enum_type)
        return dict(_SCALARS[field.type])


def component_name(full_name: str) -> str:
    """`atomas.v1.Library` -> `Library`; messages of others keep their package."""
    return full_name.removeprefix("atomas.v1.").replace("google.longrunning.", "").replace("google.rpc.", "")


def behaviours(field: FieldDescriptor) -> Iterator[str]:
    """Names of the field's google.api.field_behavior."""
    return (field_behavior_pb2.FieldBehavior.Name(value) for value in field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _enumeration(enum: EnumDescriptor) -> Schema:
    meanings = [f"`{value.name}`: {said}" for value in enum.values if (said := comments().get(f"{enum.full_name}.{value.name}"))]
    schema: Schema = {"type": "string", "enum": [value.name for value in enum.values]}
    return {**schema, "description": " ".join(meanings)} if meanings else schema


def _described(schema: Schema, full_name: str) -> Schema:
    said = comments().get(full_name)
    if not said:
        return schema
    return {**schema, "description": " ".join(filter(None, (said, schema.get("description"))))}
