"""Short ways to build values that tests need."""

import uuid

from server.domain.compounds import JsonValue, SourceRecord
from server.domain.operations import ImportRow, Operation, StructureKind
from server.ports import Ports
from server.usecases.import_compounds import accept_rows, finish_import, start_import


def row(
    position: int,
    structure: str,
    source_id: str = "",
    name: str = "",
    text: str = "",
    kind: StructureKind = "smiles",
    synonyms: tuple[str, ...] = (),
    **metadata: JsonValue,
) -> ImportRow:
    """One row of a source."""
    descriptions = (text,) if text else ()
    return ImportRow(position, kind, structure, SourceRecord(source_id, name, synonyms, descriptions, metadata))


def import_rows(ports: Ports, rows: list[ImportRow], library: str = "lib", chunk: int = 2, request_id: str = "") -> Operation:
    """Sends all rows and finishes; the jobs still wait in the queue."""
    operation = start_import(library, request_id or str(uuid.uuid4()), "test", True, ports)
    for offset in range(0, len(rows), chunk):
        accept_rows(operation.id, offset, rows[offset : offset + chunk], ports)
    return finish_import(operation.id, len(rows), ports)
