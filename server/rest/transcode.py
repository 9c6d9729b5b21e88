"""Between HTTP and the contract's messages: protobuf's JSON mapping, with complaints that say what to write instead."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from server.domain.errors import AtomasError, Reason
from server.rest.bindings import Binding

# Fields by name, with what is wanted of each; nothing more said means all of it.
_Tree: TypeAlias = dict[str, "_Tree"]
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def request_message(binding: Binding, path: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes) -> Message:
    """The method's request. Raises INVALID_ARGUMENT for a body or a parameter that does not fit."""
    descriptor = binding.method.input_type
    values: dict[str, Any] = {}
    if binding.body == "*":
        values = _object(body)
    elif binding.body:
        values = {binding.body: _object(body)}
    bound = {variable.field for variable in binding.template.variables} | {binding.body}
    _add_parameters(values, query, descriptor, bound, allowed=binding.body != "*")
    for field, value in path.items():
        _put(values, descriptor, field.split("."), value)
    _check_names(values, descriptor)
    request = message_factory.GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(_masks_in_camel_case(values, descriptor), request)
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
        complaint = " ".join(str(error).split())[:300].rstrip(".")
        raise _invalid(f"The request does not fit {descriptor.name}: {complaint}.") from None
    return request


def as_json(message: Message, request: Any = None) -> Any:
    """The message as JSON data, fields with their default values too; of hits' compounds those that the request asked for."""
    document = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    if request is not None and "read_mask" in request.DESCRIPTOR.fields_by_name and request.read_mask.paths:
        wanted: _Tree = {}
        for path in request.read_mask.ToJsonString().split(","):
            place = wanted
            for part in path.split("."):
                place = place.setdefault(part, {})
        for hit in document.get("hits", ()):
            hit["compound"] = _part(hit["compound"], wanted)
    return document


def _part(values: Any, wanted: "_Tree") -> Any:
    """What was not asked for must not look as if it were empty."""
    if not wanted or not isinstance(values, dict):
        return values
    return {name: _part(value, wanted[name]) for name, value in values.items() if name in wanted}


def parameter_fields(descriptor: Descriptor) -> list[FieldDescriptor]:
    """Fields that a query parameter of their own name can hold."""
    return [field for field in descriptor.fields if _field(descriptor, [field.name]) is not None]


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"The body is not JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise _invalid("The body must be one JSON object in braces.")
    return value


def _check_names(values: Mapping[str, Any], descriptor: Descriptor) -> None:
    known = {spelling for field in descriptor.fields for spelling in (field.name, field.json_name)}
    if unknown := sorted(set(values) - known):
        names = ", ".join(field.json_name for field in descriptor.fields)
        raise _invalid(f"{descriptor.name} has no field {unknown[0][:100]!r}; it has {names}.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _add_parameters(
    values: dict[str, Any], query: Iterable[tuple[str, str]], descriptor: Descriptor, bound: set[str], allowed: bool
) -> None:
    """Query parameters as fields, `a.b` for fields of fields; one that is given several times is a list."""
    for name, text in query:
        path = [_snake(part) for part in name.split(".")]
        field = _field(descriptor, path) if allowed and path[0] not in bound else None
        if field is None:
            known = [each.json_name for each in descriptor.fields if each.name not in bound] if allowed else []
            hint = f"known ones: {', '.join(known)}" if known else "this method takes none"
            raise _invalid(f"No query parameter is called {name[:100]!r}; {hint}.")
        _put(values, descriptor, path, _parameter(field, name, text))


def _field(descriptor: Descriptor, path: list[str]) -> FieldDescriptor | None:
    """The field at the path, when a parameter can hold it."""
    field = descriptor.fields_by_name.get(path[0])
    if field is None:
        return None
    if len(path) > 1:
        inner = field.message_type
        return _field(inner, path[1:]) if inner is not None and not field.is_repeated and not _one_text(inner) else None
    return field if field.message_type is None or _one_text(field.message_type) else None


def _one_text(message: Descriptor) -> bool:
    """Messages that JSON writes as one text."""
    return message.full_name in ("google.protobuf.FieldMask", "google.protobuf.Timestamp", "google.protobuf.Duration")


def _parameter(field: FieldDescriptor, name: str, text: str) -> Any:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return text
    if text.lower() not in _TRUTH:
        raise _invalid(f"{name} is true or false, not {text[:50]!r}.")
    return _TRUTH[text.lower()]


def _put(values: dict[str, Any], descriptor: Descriptor, path: list[str], value: Any) -> None:
    """Sets a field of the JSON data under its proto name, in place of whatever spelling was there."""
    field = descriptor.fields_by_name[path[0]]
    present = values.pop(field.json_name, None) if field.json_name != field.name else None
    present = values.get(field.name, present)
    if len(path) > 1 and field.message_type is not None:
        inner = present if isinstance(present, dict) else {}
        _put(inner, field.message_type, path[1:], value)
        values[field.name] = inner
    elif field.is_repeated:
        values[field.name] = [*(present if isinstance(present, list) else []), value]
    else:
        values[field.name] = value


def _masks_in_camel_case(values: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    """Field masks as JSON wants them, `displayName`, also where somebody wrote the contract's `display_name`."""
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask":
            for spelling in (field.name, field.json_name):
                if isinstance(values.get(spelling), str):
                    values[spelling] = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), values[spelling])
    return values


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def _invalid(message: str) -> AtomasError:
    return AtomasError(Reason.INVALID_ARGUMENT, message)
