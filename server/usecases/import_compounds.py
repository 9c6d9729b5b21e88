"""Bulk import: accept rows durably, then give every row its verdict."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from encoder import molecules
from encoder.molecules import Molecule, MoleculeError
from server.domain.compounds import Compound, JsonValue, SourceRecord, Structure
from server.domain.dates import seconds_of
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library, check_library_id
from server.domain.operations import ChunkState, ImportRow, Operation, Rejection, State
from server.jobs import EmbedCompounds, ReadChunk
from server.observability.metrics import IMPORT_REJECTIONS, IMPORT_ROWS
from server.ports import Encoder, Ports

MAX_ROWS_PER_CHUNK = 2_000


def start_import(library_id: str, request_id: str, source: str, allow_missing: bool, ports: Ports) -> Operation:
    """Opens an import, or returns the one that this request id already opened in the library.

    Raises INVALID_ARGUMENT for a request id that is no UUID, INVALID_NAME, LIBRARY_NOT_FOUND, DISK_FULL.
    """
    try:
        request_id = str(uuid.UUID(request_id))
    except ValueError:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, "request_id must be a UUID chosen by the caller, so that a broken import can be resumed."
        ) from None
    check_library_id(library_id)
    ports.storage.require_free_space()
    with ports.database.transaction() as transaction:
        try:
            transaction.libraries.get(library_id)
        except AtomasError as error:
            if error.reason is not Reason.LIBRARY_NOT_FOUND or not allow_missing:
                raise
            transaction.libraries.add(Library(library_id, display_name=library_id))
        return transaction.operations.open(
            Operation(id=uuid.uuid4().hex, library=library_id, request_id=request_id, source=source[:1000], state=State.RECEIVING)
        )


def accept_rows(operation_id: str, offset: int, rows: Sequence[ImportRow], ports: Ports) -> int:
    """Stores rows and returns how many rows of the source are now durable; rows that are already here are skipped.

    Raises IMPORT_GAP when rows before `offset` are missing, IMPORT_CLOSED after the end, TOO_MANY_ITEMS, DISK_FULL.
    """
    if len(rows) > MAX_ROWS_PER_CHUNK:
        raise AtomasError(Reason.TOO_MANY_ITEMS, f"{len(rows)} rows in one message; send at most {MAX_ROWS_PER_CHUNK}.")
    ports.storage.require_free_space()
    chunk = None
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        received = operation.counts.received
        if offset > received:
            raise AtomasError(
                Reason.IMPORT_GAP,
                f"Rows {received + 1} to {offset} are missing: go on from row {received + 1}.",
                acknowledged_rows=str(received),
            )
        fresh = rows[received - offset :]
        if fresh:
            if operation.state is not State.RECEIVING:
                why = f" {operation.error[1]}" if operation.error else ""
                raise AtomasError(Reason.IMPORT_CLOSED, f"Import {operation_id} is {operation.state}; start a new one for more rows.{why}")
            chunk = transaction.operations.accept(operation_id, fresh)
    if chunk is not None:
        ports.queue.send(ReadChunk(operation_id, chunk))
    return received + len(fresh)


def finish_import(operation_id: str, row_count: int, ports: Ports) -> Operation:
    """Says that no more rows will come. Raises IMPORT_INCOMPLETE when not all of `row_count` rows are here."""
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        if operation.counts.received != row_count:
            raise AtomasError(
                Reason.IMPORT_INCOMPLETE,
                f"{operation.counts.received} of {row_count} rows have arrived: send the rest, then finish.",
                acknowledged_rows=str(operation.counts.received),
            )
        if operation.state is State.RECEIVING:
            transaction.operations.set_state(operation_id, State.PROCESSING)
            if transaction.operations.all_indexed(operation_id):
                transaction.operations.set_state(operation_id, State.SUCCEEDED)
        return transaction.operations.get(operation_id)


def close_import(operation_id: str, idle_seconds: float, ports: Ports) -> None:
    """Ends an import whose client did not come back; what it sent stays. Does nothing when it came back meanwhile."""
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        if operation_id in transaction.operations.idle(idle_seconds):
            message = (
                f"The client sent {operation.counts.received:,} rows, did not say that they were all, and has been silent for "
                f"{idle_seconds / 3600:g} hours. They are in the library. Import the whole file again: rows that are here already change nothing."
            )
            transaction.operations.set_state(operation_id, State.FAILED, (Reason.IMPORT_CLOSED.value, message))


@dataclass
class _Verdicts:
    """What becomes of a chunk's rows."""

    created: int = 0
    updated: int = 0
    duplicate: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    changed: dict[str, Compound] = field(default_factory=dict)
    fields: dict[str, frozenset[str]] = field(default_factory=dict)

    def count(self) -> None:
        """In the metrics, once they are stored."""
        for verdict, rows in (("created", self.created), ("updated", self.updated), ("duplicate", self.duplicate)):
            IMPORT_ROWS.labels(verdict).inc(rows)
        IMPORT_ROWS.labels("rejected").inc(len(self.rejections))
        for rejection in self.rejections:
            IMPORT_REJECTIONS.labels(rejection.reason).inc()


def read_chunk(operation_id: str, number: int, ports: Ports) -> None:
    """Standardises every row of a chunk and stores the compounds and the rejections in one transaction. Idempotent."""
    with ports.database.reading() as transaction:
        operation = transaction.operations.get(operation_id)
        chunk = transaction.operations.chunk(operation_id, number)
    if chunk.state is not ChunkState.ACCEPTED or operation.state.final:
        return
    ports.storage.require_free_space()
    results = _standardise(chunk.rows, ports)
    with ports.database.transaction() as transaction:
        # Cancelled, deleted or read by another worker meanwhile?
        operation = transaction.operations.lock(operation_id)
        if operation.state.final or transaction.operations.chunk(operation_id, number).state is not ChunkState.ACCEPTED:
            return
        inchikeys = {result.inchikey for result in results if isinstance(result, Molecule)}
        stored = transaction.compounds.get_many(operation.library, sorted(inchikeys), for_update=True)
        verdicts = _judge(operation, chunk.rows, results, stored)
        transaction.compounds.save(list(verdicts.changed.values()))
        if verdicts.fields:
            transaction.libraries.add_fields(operation.library, verdicts.fields)
        transaction.operations.mark_read(
            operation_id,
            number,
            created=verdicts.created,
            updated=verdicts.updated,
            duplicate=verdicts.duplicate,
            rejections=verdicts.rejections,
            changed=sorted(verdicts.changed),
        )
    verdicts.count()
    ports.queue.send(EmbedCompounds(operation_id, number))


@dataclass(frozen=True)
class _Refusal:
    """Why a row cannot become a compound."""

    reason: str
    message: str


def _standardise(rows: Sequence[ImportRow], ports: Ports) -> list[Molecule | _Refusal]:
    written = [molecules.Structure(row.kind, row.structure) for row in rows if row.kind != "unreadable"]
    results = iter(ports.chemistry.standardise_many(written))
    return [
        _Refusal(Reason.UNREADABLE, row.structure) if row.kind == "unreadable" else _verdict(next(results), ports.encoder) for row in rows
    ]


def _verdict(result: Molecule | MoleculeError, encoder: Encoder) -> Molecule | _Refusal:
    if isinstance(result, MoleculeError):
        return _Refusal(result.reason, result.message)
    if (tokens := encoder.molecule_tokens(result.smiles)) > encoder.model.max_tokens:
        return _Refusal(Reason.TOO_LARGE, f"The molecule has {tokens} tokens; the model reads at most {encoder.model.max_tokens}.")
    return result


def _judge(
    operation: Operation, rows: Sequence[ImportRow], results: Sequence[Molecule | _Refusal], stored: Mapping[str, Compound]
) -> _Verdicts:
    verdicts = _Verdicts()
    opened = operation.create_time.isoformat() if operation.create_time else ""
    created: set[str] = set()
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, _Refusal):
            verdicts.rejections.append(Rejection(row.position, result.reason, result.message, row))
            continue
        record = replace(row.record, order=(opened, row.position))
        former = verdicts.changed.get(result.inchikey) or stored.get(result.inchikey)
        if former is None:
            verdicts.created += 1
            created.add(result.inchikey)
            verdicts.changed[result.inchikey] = Compound(operation.library, structure_of(result), (record,))
        else:
            merged = former.merged_with(record)
            if merged is former:
                verdicts.duplicate += 1
                continue
            verdicts.updated += 1
            verdicts.changed[result.inchikey] = merged
        for name, value in record.metadata.items():
            if kinds := _kinds(value):
                verdicts.fields[name] = verdicts.fields.get(name, frozenset()) | kinds
    return verdicts


def structure_of(molecule: Molecule) -> Structure:
    """The domain's view of a standardised molecule."""
    return Structure(
        smiles=molecule.smiles,
        inchikey=molecule.inchikey,
        parent_smiles=molecule.parent_smiles,
        parent_inchikey=molecule.parent_inchikey,
        descriptors=asdict(molecule.descriptors),
        fingerprint=molecule.fingerprint,
    )


def _kinds(value: JsonValue) -> frozenset[str]:
    match value:
        case bool():
            return frozenset({"boolean"})
        case int() | float():
            return frozenset({"number"})
        case str():
            return frozenset({"text", "date"}) if seconds_of(value) else frozenset({"text"})
        case list():
            return frozenset().union(*(_kinds(item) for item in value))
        case _:
            return frozenset()


def record_from(
    source_id: str, display_name: str, synonyms: Sequence[str], descriptions: Sequence[str], metadata: Mapping[str, JsonValue]
) -> SourceRecord:
    """A source record with blanks trimmed and repeats removed."""

    def clean(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))

    return SourceRecord(
        source_id.strip(), display_name.strip(), clean(synonyms), clean(descriptions), {k: _plain(v) for k, v in metadata.items()}
    )


def _plain(value: JsonValue) -> JsonValue:
    """Whole numbers as integers: JSON's numbers travel as doubles, and 2024.0 is not what the source said."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value
