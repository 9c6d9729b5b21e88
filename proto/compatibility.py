"""Finds what a changed contract would break for clients that were built with the former one."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_Type = FieldDescriptorProto.Type
_Label = FieldDescriptorProto.Label
_Found: TypeAlias = Iterator[str]


def breaking_changes(former: FileDescriptorSet, present: FileDescriptorSet) -> list[str]:
    """One sentence for each change that breaks a client of `former`: on the wire, in JSON, or in its source. Additions break nothing."""
    found: list[str] = []
    messages, enums = _messages(present), _enums(present)
    services = {f"{file.package}.{service.name}": service for file in present.file for service in file.service}
    for name, message in _messages(former).items():
        found.extend(_message_breaks(name, message, messages[name]) if name in messages else [f"Message {name} was removed."])
    for name, enum in _enums(former).items():
        found.extend(_enum_breaks(name, enum, enums[name]) if name in enums else [f"Enum {name} was removed."])
    for file in former.file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            found.extend(_service_breaks(name, service, services[name]) if name in services else [f"Service {name} was removed."])
    return found


def _message_breaks(name: str, former: DescriptorProto, present: DescriptorProto) -> _Found:
    by_number = {field.number: field for field in present.field}
    by_name = {field.name: field for field in present.field}
    for field in former.field:
        full_name = f"{name}.{field.name}"
        if field.number in by_number:
            yield from _field_breaks(full_name, field, by_number[field.number], former, present)
        elif field.name in by_name:
            yield f"Field {full_name} was renumbered from {field.number} to {by_name[field.name].number}."
        else:
            yield f"Field {full_name} was removed."
    for field in present.field:
        if any(reserved.start <= field.number < reserved.end for reserved in former.reserved_range):
            yield f"Field {name}.{field.name} takes the reserved number {field.number}."


def _field_breaks(
    name: str, former: FieldDescriptorProto, present: FieldDescriptorProto, message: DescriptorProto, present_message: DescriptorProto
) -> _Found:
    if former.name != present.name:
        yield f"Field {name} was renamed to {present.name}."
    if (former.type, former.type_name) != (present.type, present.type_name):
        yield f"Field {name} was retyped from {_type(former)} to {_type(present)}."
    if former.label != present.label:
        yield f"Field {name} went from {_label(former)} to {_label(present)}."
    if _oneof(former, message) != _oneof(present, present_message):
        yield f"Field {name} moved from {_oneof(former, message)} to {_oneof(present, present_message)}."


def _enum_breaks(name: str, former: EnumDescriptorProto, present: EnumDescriptorProto) -> _Found:
    numbers = {value.name: value.number for value in present.value}
    for value in former.value:
        if value.name not in numbers:
            yield f"Enum value {name}.{value.name} was removed."
        elif numbers[value.name] != value.number:
            yield f"Enum value {name}.{value.name} was renumbered from {value.number} to {numbers[value.name]}."


def _service_breaks(name: str, former: ServiceDescriptorProto, present: ServiceDescriptorProto) -> _Found:
    methods = {method.name: method for method in present.method}
    for method in former.method:
        full_name = f"{name}.{method.name}"
        if method.name not in methods:
            yield f"Method {full_name} was removed."
            continue
        now = methods[method.name]
        if method.input_type != now.input_type:
            yield f"Method {full_name} takes {now.input_type} instead of {method.input_type}."
        if method.output_type != now.output_type:
            yield f"Method {full_name} answers {now.output_type} instead of {method.output_type}."
        if (method.client_streaming, method.server_streaming) != (now.client_streaming, now.server_streaming):
            yield f"Method {full_name} changed its streaming."


def _messages(contract: FileDescriptorSet) -> Mapping[str, DescriptorProto]:
    return {name: message for file in contract.file for top in file.message_type for name, message in _nested(file.package, top)}


def _nested(parent: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    name = f"{parent}.{message.name}"
    yield name, message
    for inner in message.nested_type:
        yield from _nested(name, inner)


def _enums(contract: FileDescriptorSet) -> Mapping[str, EnumDescriptorProto]:
    top = {f"{file.package}.{enum.name}": enum for file in contract.file for enum in file.enum_type}
    return top | {f"{name}.{enum.name}": enum for name, message in _messages(contract).items() for enum in message.enum_type}


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name or _Type.Name(field.type)


def _label(field: FieldDescriptorProto) -> str:
    return _Label.Name(field.label)


def _oneof(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """Explicit presence counts as a oneof of its own, as it does for protobuf."""
    return f"oneof {message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else "no oneof"
