"""Watch and cancel operations, and send again what was lost between a commit and its job."""

from collections.abc import Sequence

from server.domain.errors import AtomasError, Reason
from server.domain.operations import Operation, Rejection, State
from server.jobs import EmbedCompounds, IndexCompounds, Job, PurgeLibrary, ReadChunk, RemoveDeleted
from server.ports import Ports
from server.usecases.import_compounds import read_chunk
from server.usecases.index_compounds import complete, embed_chunk, index_compounds
from server.usecases.manage_libraries import purge_library, remove_deleted

SWEEP_BATCH = 1_000


def get_operation(operation_id: str, ports: Ports) -> Operation:
    """Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        return transaction.operations.get(operation_id)


def list_operations(before: str, limit: int, ports: Ports) -> list[Operation]:
    """Newest first, from the one after the operation with the id `before`. Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        return transaction.operations.page(before, limit)


def cancel_operation(operation_id: str, ports: Ports) -> Operation:
    """Stops an import: rows without a verdict are dropped, compounds already made stay. A finished operation stays as it is."""
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        if not operation.state.final:
            transaction.operations.set_state(operation_id, State.CANCELLED)
        return transaction.operations.get(operation_id)


def fail_operation(operation_id: str, reason: Reason, message: str, ports: Ports) -> None:
    """Ends an operation whose job failed for good."""
    with ports.database.transaction() as transaction:
        if not transaction.operations.lock(operation_id).state.final:
            transaction.operations.set_state(operation_id, State.FAILED, (reason.value, message))


def give_up(job: Job, reason: Reason, message: str, ports: Ports) -> None:
    """Makes a job that failed for good visible as its operation's error; work without an operation the sweep tries again later."""
    if isinstance(job, ReadChunk | EmbedCompounds):
        fail_operation(job.operation, reason, message, ports)


def list_rejections(operation_id: str, after: int, limit: int, ports: Ports) -> list[Rejection]:
    """By position in the source. Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        transaction.operations.get(operation_id)
        return transaction.operations.rejections(operation_id, after, limit)


def run_job(job: Job, ports: Ports) -> None:
    """Does one background job; every job may be done twice."""
    try:
        match job:
            case ReadChunk(operation, chunk):
                read_chunk(operation, chunk, ports)
            case EmbedCompounds(operation, chunk):
                embed_chunk(operation, chunk, ports)
            case IndexCompounds(library, inchikeys):
                index_compounds(library, inchikeys, ports)
            case RemoveDeleted(library, inchikeys):
                remove_deleted(library, list(inchikeys), ports)
            case PurgeLibrary(library):
                purge_library(library, ports)
    except AtomasError as error:
        # Deleted between sending and doing: nothing is left to do.
        if error.reason not in (Reason.OPERATION_NOT_FOUND, Reason.LIBRARY_NOT_FOUND):
            raise


def sweep(ports: Ports) -> int:
    """Sends unfinished work again and completes what needs no work any more; returns how much was found.

    Several servers may sweep at once: every job may be done twice.
    """
    with ports.database.reading() as transaction:
        chunks = transaction.operations.unfinished_chunks(SWEEP_BATCH)
        completable = transaction.operations.completable()
        purgeable = transaction.libraries.purgeable()
        deleted = transaction.compounds.deleted(SWEEP_BATCH)
        # Compounds whose chunk will never index them: of cancelled imports, or of a former index.
        orphans = [] if chunks else transaction.compounds.unindexed(ports.index.model_version, SWEEP_BATCH)
    for operation, chunk, state in chunks:
        ports.queue.send_again(ReadChunk(operation, chunk) if state == "ACCEPTED" else EmbedCompounds(operation, chunk))
    for operation in completable:
        complete(operation, ports)
    for library in purgeable:
        ports.queue.send(PurgeLibrary(library))
    for library, inchikeys in _by_library(deleted).items():
        ports.queue.send(RemoveDeleted(library, inchikeys))
    for library, inchikeys in _by_library(orphans).items():
        ports.queue.send(IndexCompounds(library, inchikeys))
    return len(chunks) + len(completable) + len(purgeable) + len(deleted) + len(orphans)


def _by_library(places: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    return {library: tuple(inchikey for owner, inchikey in places if owner == library) for library, _ in places}
