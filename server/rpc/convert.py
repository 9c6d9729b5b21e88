"""Domain values to messages of the contract and back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from atomas.v1 import library_pb2, library_service_pb2, search_service_pb2
from server.domain.compounds import NUMERIC_DESCRIPTORS, TEXT_DESCRIPTORS, Compound, JsonValue
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.operations import Counts, ImportRow, Operation, Rejection, State
from server.domain.search import Hit, Kind, SearchPage
from server.rpc.errors import cancelled, failed
from server.usecases.import_compounds import record_from

# A search by its filter alone has no query to be understood.
_KINDS = {Kind.FILTER: "KIND_UNSPECIFIED"}


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def aware(message: Timestamp) -> datetime:
    """Raises INVALID_ARGUMENT for a time that no calendar knows."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise AtomasError(Reason.INVALID_ARGUMENT, "The time is none that a calendar knows.") from None


def library_message(library: Library) -> library_pb2.Library:
    return library_pb2.Library(
        name=library.resource_name,
        display_name=library.display_name,
        description=library.description,
        compound_count=library.compound_count,
        create_time=timestamp(library.create_time),
        update_time=timestamp(library.update_time),
    )


def descriptors_message(values: Mapping[str, float | int | str]) -> library_pb2.Descriptors:
    return library_pb2.Descriptors(**cast(Any, {name: values[name] for name in (*NUMERIC_DESCRIPTORS, *TEXT_DESCRIPTORS)}))


def compound_message(compound: Compound) -> library_pb2.Compound:
    structure = compound.structure
    return library_pb2.Compound(
        name=compound.resource_name,
        display_name=compound.display_name,
        synonyms=compound.synonyms,
        source_ids=compound.source_ids,
        smiles=structure.smiles,
        inchikey=structure.inchikey,
        parent_smiles=structure.parent_smiles,
        parent_inchikey=structure.parent_inchikey,
        descriptions=compound.descriptions,
        descriptors=descriptors_message(structure.descriptors),
        metadata=struct(compound.metadata),
        create_time=timestamp(compound.create_time),
        update_time=timestamp(compound.update_time),
    )


def struct(values: Mapping[str, JsonValue]) -> Struct:
    message = Struct()
    message.update(dict(values))
    return message


def check_mask(mask: FieldMask) -> None:
    """Raises INVALID_ARGUMENT for a field that compounds do not have."""
    if not mask.IsValidForDescriptor(library_pb2.Compound.DESCRIPTOR):
        known = ", ".join(field.name for field in library_pb2.Compound.DESCRIPTOR.fields)
        raise AtomasError(Reason.INVALID_ARGUMENT, f"read_mask names a field that compounds do not have. Known fields: {known}.")


def masked(compound: library_pb2.Compound, mask: FieldMask) -> library_pb2.Compound:
    """The fields that the mask names, all when it names none."""
    if not mask.paths:
        return compound
    chosen = library_pb2.Compound()
    mask.MergeMessage(compound, chosen)
    return chosen


def hit_message(hit: Hit, mask: FieldMask) -> search_service_pb2.SearchHit:
    return search_service_pb2.SearchHit(
        rank=hit.rank,
        score=hit.score,
        compound=masked(compound_message(hit.compound), mask),
        legs=[search_service_pb2.LegScore(leg=leg.leg.value, score=leg.score, rank=leg.rank, weight=leg.weight) for leg in hit.legs],
        matched_words=hit.matched_words,
        matched_atoms=hit.matched_atoms,
    )


def search_response(page: SearchPage, next_page_token: str, mask: FieldMask) -> search_service_pb2.SearchCompoundsResponse:
    understood = page.interpretation
    return search_service_pb2.SearchCompoundsResponse(
        hits=[hit_message(hit, mask) for hit in page.hits],
        next_page_token=next_page_token,
        model=f"models/{page.model_version}",
        interpretation=search_service_pb2.Interpretation(
            kind=search_service_pb2.Interpretation.Kind.Value(_KINDS.get(understood.kind, understood.kind.value)),
            smiles=understood.smiles,
            corrected_name=understood.corrected_name,
        ),
        no_good_match=page.no_good_match,
    )


def row_value(row: library_service_pb2.ImportRow) -> ImportRow:
    kind = row.WhichOneof("structure")
    metadata = json_format.MessageToDict(row.metadata) if row.HasField("metadata") else {}
    return ImportRow(
        position=row.position,
        kind=kind or "smiles",
        structure=getattr(row, kind) if kind else "",
        record=record_from(row.source_id, row.display_name, row.synonyms, row.descriptions, metadata),
    )


def row_message(row: ImportRow) -> library_service_pb2.ImportRow:
    record = row.record
    message = library_service_pb2.ImportRow(
        position=row.position,
        source_id=record.source_id,
        display_name=record.display_name,
        synonyms=record.synonyms,
        descriptions=record.descriptions,
        metadata=struct(record.metadata),
    )
    setattr(message, row.kind, row.structure)
    return message


def rejection_message(rejection: Rejection) -> library_service_pb2.Rejection:
    return library_service_pb2.Rejection(
        position=rejection.position, reason=rejection.reason, message=rejection.message, row=row_message(rejection.row)
    )


def counts_message(counts: Counts) -> library_service_pb2.ImportCounts:
    return library_service_pb2.ImportCounts(
        received=counts.received,
        created=counts.created,
        updated=counts.updated,
        duplicate=counts.duplicate,
        rejected=counts.rejected,
        rejected_by_reason=counts.rejected_by_reason,
        indexed=counts.indexed,
        shortened_texts=counts.shortened_texts,
    )


def operation_message(operation: Operation) -> operations_pb2.Operation:
    """As google.longrunning.Operation; a cancelled one is done with an error of code CANCELLED."""
    metadata = library_service_pb2.ImportMetadata(
        state=library_service_pb2.ImportMetadata.State.Value(operation.state.value),
        library=f"libraries/{operation.library}",
        source=operation.source,
        counts=counts_message(operation.counts),
        create_time=timestamp(operation.create_time),
        update_time=timestamp(operation.update_time),
        end_time=timestamp(operation.end_time),
    )
    message = operations_pb2.Operation(name=operation.resource_name, done=operation.state.final)
    message.metadata.Pack(metadata)
    if operation.state is State.SUCCEEDED:
        message.response.Pack(library_service_pb2.ImportResult(counts=counts_message(operation.counts)))
    elif operation.state is State.CANCELLED:
        message.error.CopyFrom(cancelled("The import was cancelled; compounds made before that stay in the library."))
    elif operation.state is State.FAILED:
        message.error.CopyFrom(failed(operation.error, "The import failed."))
    return message
