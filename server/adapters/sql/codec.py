"""Domain values to columns and back."""

import json
import zlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from server.domain.compounds import Compound, JsonValue, SourceRecord, Structure
from server.domain.operations import Counts, ImportRow, Operation, Rejection, State

# Rows of any query of these repositories; columns are named where they are selected.
AnyRow = Row[Any]

# One for all: `json.dumps` with options would build an encoder for each value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def compound_columns(compound: Compound) -> dict[str, object]:
    """The columns of `compounds` that hold what the compound says; keys and times are the repository's."""
    structure = compound.structure
    return {
        "inchikey": structure.inchikey,
        "smiles": structure.smiles,
        "parent_smiles": None if structure.parent_smiles == structure.smiles else structure.parent_smiles,
        "parent_inchikey": structure.parent_inchikey,
        "descriptors": _dumps(dict(structure.descriptors)),
        "records": _dumps([_record_json(record) for record in compound.records]),
        "fingerprint": structure.fingerprint,
        "revision": compound.revision,
    }


def compound_from(library: str, row: AnyRow) -> Compound:
    """The compound in a row of `compounds`."""
    structure = Structure(
        smiles=row.smiles,
        inchikey=row.inchikey,
        parent_smiles=row.smiles if row.parent_smiles is None else row.parent_smiles,
        parent_inchikey=row.parent_inchikey,
        descriptors=json.loads(row.descriptors),
        fingerprint=row.fingerprint,
    )
    records = tuple(_record_from(said) for said in json.loads(row.records))
    return Compound(library, structure, records, row.revision, row.create_time, row.update_time)


def names_in(records: str) -> tuple[list[str], list[str]]:
    """Source ids and names that the column `records` of a compound holds, the name first under which it is shown."""
    said = json.loads(records)
    names = [record["name"] for record in said if "name" in record]
    return [record["id"] for record in said if "id" in record], [*names, *(name for record in said for name in record.get("synonyms", ()))]


def operation_from(row: AnyRow, library: str, rejected_by_reason: dict[str, int]) -> Operation:
    """The operation in a row of `operations`."""
    counts = Counts(
        received=row.received,
        created=row.created,
        updated=row.updated,
        duplicate=row.duplicate,
        rejected=row.rejected,
        indexed=row.indexed,
        shortened_texts=row.shortened_texts,
        rejected_by_reason=rejected_by_reason,
    )
    reason_and_message = json.loads(row.error) if row.error else None
    return Operation(
        id=row.id,
        library=library,
        request_id=row.request_id,
        source=row.source,
        state=State(row.state),
        counts=counts,
        error=(reason_and_message[0], reason_and_message[1]) if reason_and_message else None,
        create_time=row.create_time,
        update_time=row.update_time,
        end_time=row.end_time,
    )


def error_text(error: tuple[str, str] | None) -> str | None:
    return None if error is None else _dumps(list(error))


def pack_rows(rows: Sequence[ImportRow]) -> bytes:
    return _pack([_import_row_json(row) for row in rows])


def unpack_rows(packed: bytes | None) -> tuple[ImportRow, ...]:
    return () if packed is None else tuple(_import_row_from(said) for said in _unpack(packed))


def pack_keys(inchikeys: Sequence[str]) -> bytes:
    return _pack(list(inchikeys))


def unpack_keys(packed: bytes | None) -> tuple[str, ...]:
    return () if packed is None else tuple(_unpack(packed))


def rejection_text(rejection: Rejection) -> str:
    return _dumps([rejection.message, _import_row_json(rejection.row)])


def rejection_from(row: AnyRow) -> Rejection:
    """The rejection in a row of `rejections`."""
    message, said = json.loads(row.said)
    return Rejection(row.position, row.reason, message, _import_row_from(said))


def _record_json(record: SourceRecord) -> dict[str, JsonValue]:
    said: dict[str, JsonValue] = {
        "id": record.source_id,
        "name": record.display_name,
        "synonyms": list(record.synonyms),
        "descriptions": list(record.descriptions),
        "metadata": dict(record.metadata),
        "order": list(record.order) if record.order != ("", 0) else [],
    }
    return {name: value for name, value in said.items() if value}


def _record_from(said: dict[str, Any]) -> SourceRecord:
    created, position = said.get("order", ("", 0))
    return SourceRecord(
        source_id=said.get("id", ""),
        display_name=said.get("name", ""),
        synonyms=tuple(said.get("synonyms", ())),
        descriptions=tuple(said.get("descriptions", ())),
        metadata=said.get("metadata", {}),
        order=(created, position),
    )


def _import_row_json(row: ImportRow) -> list[JsonValue]:
    return [row.position, row.kind, row.structure, _record_json(row.record)]


def _import_row_from(said: list[Any]) -> ImportRow:
    position, kind, structure, record = said
    return ImportRow(position, kind, structure, _record_from(record))


def _dumps(value: object) -> str:
    return _ENCODER.encode(value)


def _pack(value: object) -> bytes:
    # Level 1: these bytes live for minutes, and higher levels cost more time than the rest of the write.
    return zlib.compress(_dumps(value).encode("utf-8", "surrogatepass"), 1)


def _unpack(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed).decode("utf-8", "surrogatepass"))
