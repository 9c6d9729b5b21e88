"""What each method of the contract needs of its caller, and what it costs; a method that is not here answers nobody."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.domain.access import EVERY_LIBRARY, Level
from server.rpc import costs, names

Libraries = Callable[[Any], Iterable[str]]


@dataclass(frozen=True)
class Rule:
    """A level, and the libraries in which the caller needs it.

    Without libraries the caller needs the level somewhere, and the method itself narrows what it tells to what the caller may read.
    """

    level: Level
    # Ids, or EVERY_LIBRARY.
    libraries: Libraries = lambda request: ()
    cost: costs.Cost = costs.call


def _library(field: str) -> Libraries:
    return lambda request: [names.library_id(getattr(request, field))]


def _everywhere(request: Any) -> Iterable[str]:
    return [EVERY_LIBRARY]


def _compound(request: Any) -> Iterable[str]:
    return [names.compound_ids(request.name)[0]]


def _asked(request: Any) -> Iterable[str]:
    """Libraries that a question names, and that of the compound it is about; `libraries/-` is narrowed by the method."""
    named = [*([request.parent] if getattr(request, "parent", "") else ()), *getattr(request, "libraries", ())]
    found = [library for name in named if (library := names.library_id_or_any(name)) is not None]
    return [*found, names.compound_ids(request.compound)[0]] if getattr(request, "compound", "") else found


def _batch(request: Any) -> Iterable[str]:
    return [*_asked(request), *(library for each in request.requests for library in _asked(each))]


def _import(request: Any) -> Iterable[str]:
    """Of an import's first message; the others go on with what it began."""
    return [names.library_id(request.start.parent)]


_READ, _WRITE, _ADMIN = Level.READ, Level.WRITE, Level.ADMIN
_SERVICE_ADMIN = Rule(_ADMIN, _everywhere)

RULES: Mapping[str, Rule] = {
    "/atomas.v1.LibraryService/CreateLibrary": Rule(_ADMIN, lambda request: [request.library_id]),
    "/atomas.v1.LibraryService/GetLibrary": Rule(_READ, _library("name")),
    "/atomas.v1.LibraryService/ListLibraries": Rule(_READ),
    "/atomas.v1.LibraryService/UpdateLibrary": Rule(_ADMIN, lambda request: [names.library_id(request.library.name)]),
    "/atomas.v1.LibraryService/DeleteLibrary": Rule(_ADMIN, _library("name")),
    "/atomas.v1.LibraryService/GetCompound": Rule(_READ, _compound),
    "/atomas.v1.LibraryService/ListCompounds": Rule(_READ, _library("parent")),
    "/atomas.v1.LibraryService/DeleteCompound": Rule(_WRITE, _compound),
    "/atomas.v1.LibraryService/ImportCompounds": Rule(_WRITE, _import, costs.rows),
    "/atomas.v1.LibraryService/ExportCompounds": Rule(_READ, _library("parent")),
    "/atomas.v1.LibraryService/ListRejections": Rule(_READ),
    "/atomas.v1.SearchService/SearchCompounds": Rule(_READ, _asked, costs.search),
    "/atomas.v1.SearchService/BatchSearchCompounds": Rule(_READ, _batch, costs.searches),
    "/atomas.v1.SearchService/ExplainHit": Rule(_READ, _asked, costs.search),
    "/atomas.v1.EmbeddingService/EmbedTexts": Rule(_READ, cost=costs.texts),
    "/atomas.v1.EmbeddingService/EmbedStructures": Rule(_READ, cost=costs.structures),
    "/atomas.v1.StructureService/StandardiseStructure": Rule(_READ),
    "/atomas.v1.StructureService/DrawStructure": Rule(_READ),
    "/atomas.v1.GenerationService/GenerateMolecules": Rule(_READ, _asked, costs.generation),
    "/atomas.v1.GenerationService/DescribeStructure": Rule(_READ, _asked, costs.generation),
    "/atomas.v1.GenerationService/WatchGeneration": Rule(_READ),
    "/atomas.v1.ModelService/GetModel": Rule(_READ),
    "/atomas.v1.ModelService/ListModels": Rule(_READ),
    "/atomas.v1.ModelService/ReindexCompounds": _SERVICE_ADMIN,
    "/atomas.v1.ModelService/CompareModels": _SERVICE_ADMIN,
    "/atomas.v1.ModelService/ActivateModel": _SERVICE_ADMIN,
    "/atomas.v1.ModelService/DeleteModel": _SERVICE_ADMIN,
    "/atomas.v1.AccessService/CreateApiKey": _SERVICE_ADMIN,
    "/atomas.v1.AccessService/ListApiKeys": _SERVICE_ADMIN,
    "/atomas.v1.AccessService/RevokeApiKey": _SERVICE_ADMIN,
    # Each tells of operations in libraries that the caller may read, and stops those where it may write.
    "/google.longrunning.Operations/ListOperations": Rule(_READ),
    "/google.longrunning.Operations/GetOperation": Rule(_READ),
    "/google.longrunning.Operations/WaitOperation": Rule(_READ),
    "/google.longrunning.Operations/CancelOperation": Rule(_WRITE),
    "/google.longrunning.Operations/DeleteOperation": Rule(_WRITE),
}
# Methods that answer whoever asks, because probes and clients need them first: they tell nothing of what is stored.
OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
