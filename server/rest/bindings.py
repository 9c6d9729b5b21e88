"""Which HTTP request means which method: the contract's google.api.http annotations, read from its descriptors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from google.api import annotations_pb2, resource_pb2
from google.longrunning import operations_proto_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from atomas.v1 import (
    access_service_pb2,
    embedding_service_pb2,
    generation_service_pb2,
    library_pb2,
    library_service_pb2,
    model_service_pb2,
    search_service_pb2,
    structure_service_pb2,
)

CONTRACT: Sequence[FileDescriptor] = (
    library_service_pb2.DESCRIPTOR,
    search_service_pb2.DESCRIPTOR,
    structure_service_pb2.DESCRIPTOR,
    embedding_service_pb2.DESCRIPTOR,
    generation_service_pb2.DESCRIPTOR,
    model_service_pb2.DESCRIPTOR,
    access_service_pb2.DESCRIPTOR,
    operations_proto_pb2.DESCRIPTOR,
)
_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([^}]+))?\}")
# Ids hold no colons: what follows one is a custom verb.
_WILDCARDS = {"*": "[^/:]+", "**": "[^:]+"}


@dataclass(frozen=True)
class PathVariable:
    """A field of the request that the path holds, such as `name` = `libraries/{library}`."""

    field: str
    # Names of the ids in it, as the documents call them.
    ids: Sequence[str]


@dataclass(frozen=True)
class Template:
    """A path with variables."""

    # As OpenAPI writes it: `/v1/libraries/{library}:verb`.
    path: str
    variables: Sequence[PathVariable]
    pattern: re.Pattern[str]

    def match(self, raw_path: str) -> Mapping[str, str] | None:
        """Values of the variables by field, when the percent-encoded path fits."""
        found = self.pattern.fullmatch(raw_path)
        if found is None:
            return None
        return {variable.field: unquote(found[f"v{number}"]) for number, variable in enumerate(self.variables)}


@dataclass(frozen=True)
class Binding:
    """One way of calling one method over HTTP."""

    method: MethodDescriptor
    verb: str
    template: Template
    # Empty: everything comes from path and query; `*`: the body is the request; else the field that the body is.
    body: str

    @property
    def handler_path(self) -> str:
        """`/atomas.v1.LibraryService/GetLibrary`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def parse_template(template: str) -> Template:
    """Reads the path syntax of google.api.http: literals, `{field=pattern/*}`, a custom verb at the end."""
    variables: list[PathVariable] = []
    shown, pattern, end = "", "", 0
    for found in _VARIABLE.finditer(template):
        literal, end = template[end : found.start()], found.end()
        segments = (found[2] or "*").split("/")
        ids = [_id_name(segments[place - 1] if place else found[1]) for place, segment in enumerate(segments) if segment in _WILDCARDS]
        names = iter(ids)
        shown += literal + "/".join(f"{{{next(names)}}}" if segment in _WILDCARDS else segment for segment in segments)
        inner = "/".join(_WILDCARDS.get(segment, re.escape(segment)) for segment in segments)
        pattern += re.escape(literal) + f"(?P<v{len(variables)}>{inner})"
        variables.append(PathVariable(found[1], ids))
    return Template(shown + template[end:], variables, re.compile(pattern + re.escape(template[end:])))


def bindings() -> Iterator[Binding]:
    """Every annotated method of the contract."""
    for file in CONTRACT:
        for service in file.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                verb = rule.WhichOneof("pattern")
                if verb:
                    yield Binding(method, verb.upper(), parse_template(getattr(rule, verb)), rule.body)


def _id_name(collection: str) -> str:
    return _SINGULARS.get(collection, collection.rpartition(".")[2])


def _singulars() -> dict[str, str]:
    """`libraries` -> `library`, from the contract's resources."""
    found = {"operations": "operation"}
    for file in (library_pb2.DESCRIPTOR, model_service_pb2.DESCRIPTOR, access_service_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            resource = message.GetOptions().Extensions[resource_pb2.resource]
            if resource.plural:
                found[resource.plural] = resource.singular
    return found


_SINGULARS = _singulars()
