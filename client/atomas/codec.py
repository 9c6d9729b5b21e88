"""Between protobuf messages and the client's values; no message leaves the client undecoded."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.longrunning import operations_proto_pb2 as longrunning
from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from atomas.types import (
    Compound,
    Descriptors,
    Embedding,
    Embeddings,
    Hit,
    ImportCounts,
    Interpretation,
    JsonValue,
    LegScore,
    Library,
    Model,
    Operation,
    OperationState,
    QueryKind,
    ReindexProgress,
    Rejection,
    Row,
    SearchAnswer,
    SearchPage,
    SearchResult,
)
from atomas.v1 import embedding_service_pb2, generation_service_pb2, library_pb2, library_service_pb2, model_service_pb2, search_service_pb2

# Protobuf readers give up on deeply nested messages, and one such row would take its whole chunk with it.
_MAX_METADATA_DEPTH = 12
# JSON's whole numbers beyond this lose digits as doubles.
_MAX_EXACT_INTEGER = 2**53
_STRUCTURES = ("smiles", "inchi", "molblock", "unreadable")


# Trailing metadata of a search.
TIMINGS = "atomas-timings"


def decode_library(message: library_pb2.Library) -> Library:
    return Library(
        resource_name=message.name,
        name=message.display_name,
        description=message.description,
        compound_count=message.compound_count,
        create_time=_time(message, "create_time"),
        update_time=_time(message, "update_time"),
    )


def decode_compound(message: library_pb2.Compound) -> Compound:
    return Compound(
        resource_name=message.name,
        name=message.display_name,
        synonyms=tuple(message.synonyms),
        source_ids=tuple(message.source_ids),
        smiles=message.smiles,
        inchikey=message.inchikey,
        parent_smiles=message.parent_smiles,
        parent_inchikey=message.parent_inchikey,
        descriptions=tuple(message.descriptions),
        descriptors=decode_descriptors(message.descriptors) if message.HasField("descriptors") else None,
        metadata=decode_metadata(message.metadata),
        create_time=_time(message, "create_time"),
        update_time=_time(message, "update_time"),
        molblock=message.molblock,
    )


def decode_search_page(message: search_service_pb2.SearchCompoundsResponse) -> SearchPage:
    return SearchPage(
        hits=tuple(_hit(hit) for hit in message.hits),
        next_page_token=message.next_page_token,
        model=message.model,
        interpretation=_interpretation(message.interpretation),
        no_good_match=message.no_good_match,
    )


def decode_timings(trailing: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Seconds by stage; empty where the service said nothing of them."""
    said = next((value for name, value in trailing if name == TIMINGS), "")
    stages = (stage.split(";") for stage in str(said).split(",") if ";" in stage)
    return {name: float(seconds) for name, seconds in stages}


def decode_search_answers(message: search_service_pb2.BatchSearchCompoundsResponse) -> tuple[SearchAnswer, ...]:
    return tuple(_answer(result) for result in message.results)


def decode_embeddings(
    message: embedding_service_pb2.EmbedTextsResponse | embedding_service_pb2.EmbedStructuresResponse,
) -> Embeddings:
    return Embeddings(embeddings=tuple(_embedding(embedding) for embedding in message.embeddings), model=message.model)


def decode_model(message: model_service_pb2.Model) -> Model:
    known = message.state in model_service_pb2.Model.State.values()
    return Model(
        resource_name=message.name,
        state=model_service_pb2.Model.State.Name(message.state) if known else str(message.state),
        dimension=message.dimension,
        molecule_standard=message.molecule_standard,
        max_tokens=message.max_tokens,
        compound_count=message.compound_count,
    )


def decode_operation(message: longrunning.Operation) -> Operation:
    if message.metadata.Is(model_service_pb2.ReindexMetadata.DESCRIPTOR):
        return _decode_reindex(message)
    if message.metadata.Is(generation_service_pb2.GenerationMetadata.DESCRIPTOR):
        return _decode_generation(message)
    metadata = library_service_pb2.ImportMetadata()
    message.metadata.Unpack(metadata)
    result = library_service_pb2.ImportResult()
    finished = message.HasField("response") and message.response.Unpack(result)
    reason, text = _refusal(message.error)
    return Operation(
        resource_name=message.name,
        state=_state(message, metadata),
        done=message.done,
        library=metadata.library.removeprefix("libraries/"),
        source=metadata.source,
        counts=decode_counts(result.counts if finished else metadata.counts),
        reason=reason,
        message=text,
        create_time=_time(metadata, "create_time"),
        update_time=_time(metadata, "update_time"),
        end_time=_time(metadata, "end_time"),
    )


def _decode_reindex(message: longrunning.Operation) -> Operation:
    metadata = model_service_pb2.ReindexMetadata()
    message.metadata.Unpack(metadata)
    reason, text = _refusal(message.error)
    state = _state(message, library_service_pb2.ImportMetadata())
    left = metadata.time_left.ToTimedelta().total_seconds() if metadata.HasField("time_left") else None
    return Operation(
        resource_name=message.name,
        state=state if message.done else OperationState.PROCESSING,
        done=message.done,
        model=metadata.model,
        reindex=ReindexProgress(metadata.indexed_count, metadata.compound_count, left),
        reason=reason,
        message=text,
        create_time=_time(metadata, "create_time"),
        end_time=_time(metadata, "end_time"),
    )


def _decode_generation(message: longrunning.Operation) -> Operation:
    metadata = generation_service_pb2.GenerationMetadata()
    message.metadata.Unpack(metadata)
    reason, text = _refusal(message.error)
    return Operation(
        resource_name=message.name,
        state=_state(message, library_service_pb2.ImportMetadata()) if message.done else OperationState.PROCESSING,
        done=message.done,
        source="generation",
        reason=reason,
        message=text,
        create_time=_time(metadata, "create_time"),
        end_time=_time(metadata, "end_time"),
    )


def decode_counts(message: library_service_pb2.ImportCounts) -> ImportCounts:
    return ImportCounts(
        received=message.received,
        created=message.created,
        updated=message.updated,
        duplicate=message.duplicate,
        rejected=message.rejected,
        rejected_by_reason=dict(sorted(message.rejected_by_reason.items())),
        indexed=message.indexed,
        shortened_texts=message.shortened_texts,
    )


def decode_rejection(message: library_service_pb2.Rejection) -> Rejection:
    return Rejection(position=message.position, reason=message.reason, message=message.message, row=decode_row(message.row))


def decode_row(message: library_service_pb2.ImportRow) -> Row:
    kind = message.WhichOneof("structure") or "smiles"
    return Row(
        **{kind: getattr(message, kind)},
        id=message.source_id,
        name=message.display_name,
        synonyms=tuple(message.synonyms),
        descriptions=tuple(message.descriptions),
        metadata=decode_metadata(message.metadata),
        position=message.position,
    )


def encode_row(row: Row, position: int) -> library_service_pb2.ImportRow:
    """The row as it is sent; what cannot be sent becomes an unreadable row that says why."""
    try:
        message = library_service_pb2.ImportRow(
            position=row.position if row.position is not None else position,
            source_id=row.id,
            display_name=row.name,
            synonyms=row.synonyms,
            descriptions=row.descriptions,
        )
        for kind in _STRUCTURES:
            if (structure := getattr(row, kind)) is not None:
                setattr(message, kind, structure)
        if row.metadata:
            encode_metadata(row.metadata, message.metadata)
    except UnicodeEncodeError as error:
        return encode_row(
            Row(unreadable=f"The row holds text that is not valid Unicode ({error.reason}).", position=row.position), position
        )
    except (TypeError, ValueError) as error:
        return encode_row(Row(unreadable=f"The row cannot be sent: {error}."), position)
    return message


def decode_metadata(message: struct_pb2.Struct) -> dict[str, JsonValue]:
    return {name: _plain(value) for name, value in message.fields.items()}


def encode_metadata(metadata: Mapping[str, JsonValue], target: struct_pb2.Struct) -> None:
    for name, value in metadata.items():
        if value is not None:
            _fill(target.fields[name], value, _MAX_METADATA_DEPTH)


def _fill(target: struct_pb2.Value, value: JsonValue, depth: int) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if abs(value) <= _MAX_EXACT_INTEGER:
            target.number_value = value
        else:
            target.string_value = str(value)
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            target.string_value = str(value)
        else:
            target.number_value = value
    elif value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif depth == 0:
        raise ValueError(f"its metadata is nested more than {_MAX_METADATA_DEPTH} levels deep")
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        for name, item in value.items():
            _fill(target.struct_value.fields[name], item, depth - 1)
    elif isinstance(value, Sequence):
        target.list_value.SetInParent()
        for item in value:
            _fill(target.list_value.values.add(), item, depth - 1)
    else:
        raise TypeError(f"its metadata holds a {type(value).__name__}; use text, numbers, booleans, lists and dicts")


def _plain(value: struct_pb2.Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        # Protobuf knows doubles only; whole ones were most likely whole numbers.
        return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT_INTEGER else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return decode_metadata(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return None


def _hit(message: search_service_pb2.SearchHit) -> Hit:
    return Hit(
        rank=message.rank,
        score=message.score,
        compound=decode_compound(message.compound),
        legs=tuple(LegScore(leg=leg.leg, score=leg.score, rank=leg.rank, weight=leg.weight) for leg in message.legs),
        matched_words=tuple(message.matched_words),
        matched_atoms=tuple(message.matched_atoms),
    )


def _interpretation(message: search_service_pb2.Interpretation) -> Interpretation:
    try:
        kind = QueryKind(search_service_pb2.Interpretation.Kind.Name(message.kind))
    except ValueError:
        kind = QueryKind.UNKNOWN
    return Interpretation(kind=kind, smiles=message.smiles, corrected_name=message.corrected_name)


def _answer(message: search_service_pb2.BatchSearchCompoundsResponse.Result) -> SearchAnswer:
    if message.HasField("error"):
        reason, text = _refusal(message.error)
        return SearchAnswer(result=None, reason=reason, message=text)
    page = decode_search_page(message.response)
    return SearchAnswer(SearchResult.of([page], len(page.hits)))


def decode_descriptors(message: library_pb2.Descriptors) -> Descriptors:
    return Descriptors(**{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields if field.name in _DESCRIPTORS})


_DESCRIPTORS = frozenset(Descriptors.__dataclass_fields__)


def _embedding(message: embedding_service_pb2.Embedding) -> Embedding:
    if message.HasField("error"):
        reason, text = _refusal(message.error)
        return Embedding(vector=None, reason=reason, message=text)
    return Embedding(vector=tuple(message.vector))


def _state(message: longrunning.Operation, metadata: library_service_pb2.ImportMetadata) -> OperationState:
    try:
        state = OperationState(library_service_pb2.ImportMetadata.State.Name(metadata.state))
    except ValueError:
        state = OperationState.UNKNOWN
    if state is not OperationState.UNKNOWN or not message.done:
        return state
    if not message.HasField("error"):
        return OperationState.SUCCEEDED
    return OperationState.CANCELLED if message.error.code == code_pb2.CANCELLED else OperationState.FAILED


def _refusal(status: status_pb2.Status) -> tuple[str, str]:
    """Reason and message of an error that is part of an answer; both empty when there is none."""
    if status.code == code_pb2.OK:
        return "", ""
    info = error_details_pb2.ErrorInfo()
    reason = next((info.reason for packed in status.details if packed.Unpack(info)), "")
    return reason or _code_name(status.code), status.message


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else "UNKNOWN"


def _time(message: Message, name: str) -> datetime | None:
    value: timestamp_pb2.Timestamp = getattr(message, name)
    return value.ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def as_json(value: Any) -> JsonValue:
    """Any value of this client as plain JSON data: dataclasses as objects, times in ISO 8601, enumerations as their text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, int, float)) or value is None:
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: as_json(getattr(value, name)) for name in value.__dataclass_fields__}
    return [as_json(item) for item in value]
