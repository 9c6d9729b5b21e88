"""Every unary call of the API as data: what is sent, where to, and how the answer is decoded."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypedDict, TypeVar

from google.longrunning import operations_proto_pb2 as longrunning
from google.protobuf import empty_pb2, field_mask_pb2, wrappers_pb2
from google.protobuf.message import Message

from atomas import codec
from atomas.errors import InvalidArgumentError
from atomas.types import Compound, Embeddings, Health, Library, Model, Operation, Rejection, SearchAnswer, SearchPage, Target
from atomas.v1 import embedding_service_pb2 as embedding
from atomas.v1 import library_pb2
from atomas.v1 import library_service_pb2 as library
from atomas.v1 import model_service_pb2 as model
from atomas.v1 import search_service_pb2 as search

Result = TypeVar("Result")
Answer = TypeVar("Answer", bound=Message)

MAX_PAGE_SIZE = 1000
# Items of one embedding call; longer lists are sent as several, so that each answer comes well within a deadline.
EMBED_BATCH = 256
# Searches of one call, for the same reason; the service takes up to 1,000.
SEARCH_BATCH = 500

_LIBRARY = "/atomas.v1.LibraryService/"
_SEARCH = "/atomas.v1.SearchService/"
_EMBEDDING = "/atomas.v1.EmbeddingService/"
_MODEL = "/atomas.v1.ModelService/"
_OPERATIONS = "/google.longrunning.Operations/"
IMPORT_COMPOUNDS = _LIBRARY + "ImportCompounds"
EXPORT_COMPOUNDS = _LIBRARY + "ExportCompounds"

# The contract's names of fields that people know by another.
_CONTRACT_FIELDS = {"resource_name": "name", "name": "display_name"}
_TARGETS = {
    Target.BOTH: search.SearchCompoundsRequest.TARGET_UNSPECIFIED,
    Target.MOLECULES: search.SearchCompoundsRequest.MOLECULES,
    Target.TEXTS: search.SearchCompoundsRequest.TEXTS,
    Target.FINGERPRINTS: search.SearchCompoundsRequest.FINGERPRINTS,
}


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One unary call; `decode` takes the message that `parse` makes of the answer."""

    path: str
    request: Message
    parse: Callable[[bytes], Any]
    decode: Callable[[Any], Result]
    # Puts in what the service says of the time it took, in seconds by stage.
    timed: Callable[[Result, Mapping[str, float]], Result] | None = None

    def result(self, answer: Message, trailing: Iterable[tuple[str, Any]]) -> Result:
        """The answer decoded; `trailing` is the metadata that followed it."""
        result = self.decode(answer)
        return result if self.timed is None else self.timed(result, codec.decode_timings(trailing))

    @staticmethod
    def serialize(request: Message) -> bytes:
        return request.SerializeToString()


@dataclass(frozen=True, slots=True)
class Page(Generic[Result]):
    """Some items of a list, and the token of the next page, empty on the last."""

    items: Sequence[Result]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Query:
    """A search before it has a page size and a token."""

    request: search.SearchCompoundsRequest

    def page(self, page_size: int, page_token: str = "") -> Call[SearchPage]:
        request = search.SearchCompoundsRequest()
        request.CopyFrom(self.request)
        request.page_size, request.page_token = page_size, page_token
        return Call(
            _SEARCH + "SearchCompounds",
            request,
            search.SearchCompoundsResponse.FromString,
            codec.decode_search_page,
            lambda page, seconds: replace(page, timings=seconds),
        )


def check_limit(limit: int) -> int:
    if limit < 0:
        raise InvalidArgumentError(f"A limit of {limit} makes no sense: use 0 or more.", reason="INVALID_ARGUMENT")
    return limit


def library_name(name: "str | Library") -> str:
    """`libraries/{library}` for an id, a resource name or a Library."""
    text = name.resource_name if isinstance(name, Library) else name
    return text if text.startswith("libraries/") else f"libraries/{text}"


def compound_name(compound: "str | Compound", in_library: "str | Library | None") -> str:
    """`libraries/{library}/compounds/{compound}` for a resource name, a Compound, `library/INCHIKEY`, or an InChIKey of a library."""
    text = compound.resource_name if isinstance(compound, Compound) else compound
    if text.startswith("libraries/"):
        return text
    head, slash, key = text.partition("/")
    if slash:
        return f"{library_name(head)}/compounds/{key.removeprefix('compounds/')}"
    if in_library is None:
        raise InvalidArgumentError(
            f"Which library holds {text[:80]!r}? Name the library, or write libraries/LIBRARY/compounds/INCHIKEY.", reason="INVALID_NAME"
        )
    return f"{library_name(in_library)}/compounds/{text}"


def operation_name(operation: "str | Operation") -> str:
    text = operation.resource_name if isinstance(operation, Operation) else operation
    return text if text.startswith("operations/") else f"operations/{text}"


def model_name(name: "str | Model") -> str:
    text = name.resource_name if isinstance(name, Model) else name
    return text if text.startswith("models/") else f"models/{text}"


def create_library(library_id: str, name: str, description: str) -> Call[Library]:
    request = library.CreateLibraryRequest(
        library=library_pb2.Library(display_name=name, description=description), library_id=library_id.removeprefix("libraries/")
    )
    return _call(_LIBRARY + "CreateLibrary", request, library_pb2.Library.FromString, codec.decode_library)


def get_library(name: "str | Library") -> Call[Library]:
    request = library.GetLibraryRequest(name=library_name(name))
    return _call(_LIBRARY + "GetLibrary", request, library_pb2.Library.FromString, codec.decode_library)


def list_libraries(page_token: str) -> Call[Page[Library]]:
    request = library.ListLibrariesRequest(page_size=MAX_PAGE_SIZE, page_token=page_token)
    return _call(
        _LIBRARY + "ListLibraries",
        request,
        library.ListLibrariesResponse.FromString,
        lambda answer: Page([codec.decode_library(item) for item in answer.libraries], answer.next_page_token),
    )


def update_library(of: "str | Library", name: str | None, description: str | None) -> Call[Library]:
    changed = {"display_name": name, "description": description}
    mask = [field for field, value in changed.items() if value is not None]
    if not mask:
        raise InvalidArgumentError("Nothing to update: give a name, a description, or both.", reason="INVALID_ARGUMENT")
    request = library.UpdateLibraryRequest(
        library=library_pb2.Library(name=library_name(of), display_name=name or "", description=description or ""),
        update_mask=field_mask_pb2.FieldMask(paths=mask),
    )
    return _call(_LIBRARY + "UpdateLibrary", request, library_pb2.Library.FromString, codec.decode_library)


def delete_library(name: "str | Library", force: bool) -> Call[None]:
    return _no_answer(_LIBRARY + "DeleteLibrary", library.DeleteLibraryRequest(name=library_name(name), force=force))


def get_compound(compound: "str | Compound", in_library: "str | Library | None") -> Call[Compound]:
    request = library.GetCompoundRequest(name=compound_name(compound, in_library))
    return _call(_LIBRARY + "GetCompound", request, library_pb2.Compound.FromString, codec.decode_compound)


def list_compounds(of: "str | Library", page_token: str) -> Call[Page[Compound]]:
    request = library.ListCompoundsRequest(parent=library_name(of), page_size=MAX_PAGE_SIZE, page_token=page_token)
    return _call(
        _LIBRARY + "ListCompounds",
        request,
        library.ListCompoundsResponse.FromString,
        lambda answer: Page([codec.decode_compound(item) for item in answer.compounds], answer.next_page_token),
    )


def delete_compound(compound: "str | Compound", in_library: "str | Library | None") -> Call[None]:
    return _no_answer(_LIBRARY + "DeleteCompound", library.DeleteCompoundRequest(name=compound_name(compound, in_library)))


def list_rejections(operation: "str | Operation", page_token: str) -> Call[Page[Rejection]]:
    request = library.ListRejectionsRequest(operation=operation_name(operation), page_size=MAX_PAGE_SIZE, page_token=page_token)
    return _call(
        _LIBRARY + "ListRejections",
        request,
        library.ListRejectionsResponse.FromString,
        lambda answer: Page([codec.decode_rejection(item) for item in answer.rejections], answer.next_page_token),
    )


class SearchOptions(TypedDict, total=False):
    """What a search may be told beside its text."""

    # Words to search by and nothing else, instead of a query that may be a name, an id or a structure too.
    text: str
    # SMILES to search by, instead of a query.
    smiles: str
    # SMILES, InChI or molblock to search by.
    structure: str
    # A stored compound to search by: Compound, resource name, or `library/INCHIKEY`.
    compound: str | Compound
    # Id, resource name or Library; all libraries when left out.
    library: str | Library | None
    # Ids, resource names or Libraries: several at once, instead of `library`.
    libraries: Sequence[str | Library]
    # Weight of ways of searching in the fusion, by name (`LegScore.leg`); 0 leaves one out.
    weights: Mapping[str, float]
    # Compare with molecules, with texts, or with both.
    target: Target | str
    # Conditions, such as `molecular_weight < 500 AND substructure("c1ccncc1")`.
    filter: str
    # Fields of Compound to fetch, such as ["name", "smiles"]; all when left out.
    fields: Sequence[str]
    # Fetch resource names alone.
    ids_only: bool


def search_compounds(query: str | None, options: SearchOptions) -> Query:
    """A search by exactly one of query, text, smiles, structure and compound; by none of them it lists what meets the filter."""
    structure, compound = options.get("smiles", options.get("structure")), options.get("compound")
    text = options.get("text")
    asked = sum(given is not None for given in (query, text, options.get("smiles"), options.get("structure"), compound))
    if asked > 1 or (not asked and not options.get("filter")):
        raise InvalidArgumentError(
            "Search by exactly one of a query, text, smiles, structure and compound, or by a filter alone.", reason="EMPTY_QUERY"
        )
    if options.get("libraries") and options.get("library") is not None:
        raise InvalidArgumentError("Search either one library or several libraries.", reason="INVALID_ARGUMENT")
    in_library, target, fields = options.get("library"), options.get("target", Target.BOTH), options.get("fields")
    try:
        wanted = Target(target)
    except ValueError:
        known = ", ".join(Target)
        raise InvalidArgumentError(f"{target!r} is no target: use one of {known}.", reason="INVALID_ARGUMENT") from None
    request = search.SearchCompoundsRequest(
        parent=library_name(in_library if in_library is not None else "-"),
        target=_TARGETS[wanted],
        filter=sendable(options.get("filter", "")),
        leg_weights=options.get("weights", {}),
        libraries=[library_name(each) for each in options.get("libraries", ())],
    )
    if query is not None:
        request.query = sendable(query)
    elif text is not None:
        request.text = sendable(text)
    elif structure is not None:
        request.structure = sendable(structure)
    elif compound is not None:
        request.compound = compound_name(compound, in_library)
    if options.get("ids_only"):
        request.read_mask.paths.append("name")
    elif fields is not None:
        request.read_mask.paths.extend(contract_fields(fields))
    return Query(request)


def search_batches(
    queries: "Sequence[str | SearchOptions]", limit: int, options: SearchOptions
) -> Iterator[Call[tuple[SearchAnswer, ...]]]:
    """Calls with up to SEARCH_BATCH searches each; what `options` say holds for every search that does not say otherwise."""
    if isinstance(queries, str):
        raise InvalidArgumentError("Give a list of queries, not one string.", reason="INVALID_ARGUMENT")
    if not 1 <= limit <= MAX_PAGE_SIZE:
        raise InvalidArgumentError(f"A limit of {limit} makes no sense here: use 1 to {MAX_PAGE_SIZE}.", reason="INVALID_ARGUMENT")
    requests = []
    for query in queries:
        words, own = (query, SearchOptions()) if isinstance(query, str) else (None, query)
        request = search_compounds(words, {**options, **own}).request
        request.page_size = limit
        requests.append(request)
    for start in range(0, len(requests), SEARCH_BATCH):
        batch = search.BatchSearchCompoundsRequest(parent=library_name("-"), requests=requests[start : start + SEARCH_BATCH])
        yield _call(_SEARCH + "BatchSearchCompounds", batch, search.BatchSearchCompoundsResponse.FromString, codec.decode_search_answers)


def embed_texts(texts: Sequence[str]) -> Call[Embeddings]:
    request = embedding.EmbedTextsRequest(texts=[sendable(text) for text in texts])
    return _call(_EMBEDDING + "EmbedTexts", request, embedding.EmbedTextsResponse.FromString, codec.decode_embeddings)


def embed_structures(structures: Sequence[str]) -> Call[Embeddings]:
    request = embedding.EmbedStructuresRequest(structures=[sendable(structure) for structure in structures])
    return _call(_EMBEDDING + "EmbedStructures", request, embedding.EmbedStructuresResponse.FromString, codec.decode_embeddings)


def embed_batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    if isinstance(items, str):
        raise InvalidArgumentError("Give a list of texts or structures, not one string.", reason="INVALID_ARGUMENT")
    return (items[start : start + EMBED_BATCH] for start in range(0, len(items), EMBED_BATCH))


def joined(answers: Sequence[Embeddings]) -> Embeddings:
    """The answers for successive batches as one."""
    return Embeddings(tuple(embedding for answer in answers for embedding in answer), answers[0].model if answers else "")


def get_model(name: "str | Model") -> Call[Model]:
    request = model.GetModelRequest(name=model_name(name))
    return _call(_MODEL + "GetModel", request, model.Model.FromString, codec.decode_model)


def list_models(page_token: str) -> Call[Page[Model]]:
    request = model.ListModelsRequest(page_size=MAX_PAGE_SIZE, page_token=page_token)
    return _call(
        _MODEL + "ListModels",
        request,
        model.ListModelsResponse.FromString,
        lambda answer: Page([codec.decode_model(item) for item in answer.models], answer.next_page_token),
    )


def get_operation(operation: "str | Operation") -> Call[Operation]:
    request = longrunning.GetOperationRequest(name=operation_name(operation))
    return _call(_OPERATIONS + "GetOperation", request, longrunning.Operation.FromString, codec.decode_operation)


def list_operations(page_token: str) -> Call[Page[Operation]]:
    request = longrunning.ListOperationsRequest(name="operations", page_size=MAX_PAGE_SIZE, page_token=page_token)
    return _call(
        _OPERATIONS + "ListOperations",
        request,
        longrunning.ListOperationsResponse.FromString,
        lambda answer: Page([codec.decode_operation(item) for item in answer.operations], answer.next_page_token),
    )


def cancel_operation(operation: "str | Operation") -> Call[None]:
    return _no_answer(_OPERATIONS + "CancelOperation", longrunning.CancelOperationRequest(name=operation_name(operation)))


def check_health(service: str) -> Call[Health]:
    """grpc.health.v1 without its package: its two messages are, on the wire, one string and one number."""
    names = {1: Health.SERVING, 2: Health.NOT_SERVING}
    return _call(
        "/grpc.health.v1.Health/Check",
        wrappers_pb2.StringValue(value=service),
        wrappers_pb2.Int32Value.FromString,
        lambda answer: names.get(answer.value, Health.UNKNOWN),
    )


def _call(path: str, request: Message, parse: Callable[[bytes], Answer], decode: Callable[[Answer], Result]) -> Call[Result]:
    return Call(path, request, parse, decode)


def _no_answer(path: str, request: Message) -> Call[None]:
    return _call(path, request, empty_pb2.Empty.FromString, lambda answer: None)


def contract_fields(fields: Sequence[str]) -> list[str]:
    """The contract's names of fields of Compound. Raises InvalidArgumentError for a name that is none."""
    unknown = sorted({field for field in fields if field.partition(".")[0] not in Compound.__dataclass_fields__})
    if unknown:
        known = ", ".join(Compound.__dataclass_fields__)
        raise InvalidArgumentError(f"A compound has no field {', '.join(unknown)}: choose from {known}.", reason="UNKNOWN_FIELD")
    # A hit without its resource name could not be fetched again.
    return list(dict.fromkeys(["name", *(_CONTRACT_FIELDS.get(field, field) for field in fields)]))


def sendable(text: str) -> str:
    """The text itself. Raises InvalidArgumentError for half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"The text is not valid Unicode ({error.reason}).", reason="INVALID_ARGUMENT") from None
    return text
