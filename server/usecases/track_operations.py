"""Watch and cancel operations, and send again what was lost between a commit and its job."""

from collections.abc import Sequence

from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState
from server.domain.operations import Operation, Rejection, State
from server.jobs import (
    EmbedCompounds,
    FillIndex,
    FillStructures,
    Generate,
    IndexCompounds,
    Job,
    PurgeLibrary,
    ReadChunk,
    RemoveDeleted,
    RemoveIndex,
)
from server.ports import Ports
from server.usecases.bury_jobs import bury
from server.usecases.import_compounds import close_import, read_chunk
from server.usecases.index_compounds import complete, embed_chunk, index_compounds
from server.usecases.index_structures import fill_structures, structures_lack_something
from server.usecases.manage_libraries import purge_library, remove_deleted
from server.usecases.manage_models import remove_index
from server.usecases.reindex_compounds import fill_index, resume_reindexes
from server.usecases.run_generation import resend_generations, run_generation
from server.usecases.watch_jobs import FORGET_SECONDS, MOST_DEATHS, watched

SWEEP_BATCH = 1_000
# A day: whoever sends by hand may sleep over it.
IDLE_SECONDS = 86_400.0


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
    """Makes a job that failed for good visible as its operation's error, or as what is noted of a compound; the rest the sweep tries again."""
    if isinstance(job, ReadChunk | EmbedCompounds):
        fail_operation(job.operation, reason, message, ports)
    else:
        bury(job, reason, message, ports)


def list_rejections(operation_id: str, after: int, limit: int, ports: Ports) -> list[Rejection]:
    """By position in the source. Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        transaction.operations.get(operation_id)
        return transaction.operations.rejections(operation_id, after, limit)


def run_job(job: Job, ports: Ports) -> None:
    """Does one background job; every job may be done twice, and one that kills its workers is not done for ever."""
    try:
        with watched(job, ports) as poisonous:
            if not (poisonous and bury(job, Reason.CRASHED, f"Working on this has killed {MOST_DEATHS} workers.", ports)):
                _do(job, ports)
    except AtomasError as error:
        # Deleted between sending and doing: nothing is left to do.
        if error.reason not in (Reason.OPERATION_NOT_FOUND, Reason.LIBRARY_NOT_FOUND, Reason.MODEL_NOT_FOUND):
            raise


def _do(job: Job, ports: Ports) -> None:
    match job:
        case ReadChunk(operation, chunk):
            read_chunk(operation, chunk, ports)
        case EmbedCompounds(operation, chunk):
            embed_chunk(operation, chunk, ports)
        case IndexCompounds(library, inchikeys, model):
            index_compounds(library, inchikeys, ports, model)
        case RemoveDeleted(library, inchikeys):
            remove_deleted(library, list(inchikeys), ports)
        case PurgeLibrary(library):
            purge_library(library, ports)
        case FillIndex():
            fill_index(job, ports)
        case RemoveIndex(model):
            remove_index(model, ports)
        case FillStructures():
            fill_structures(ports)
        case Generate(generation):
            run_generation(generation, ports)


def sweep(ports: Ports, idle_seconds: float = IDLE_SECONDS) -> int:
    """Sends unfinished work again, completes what needs no work any more, closes imports whose client has been silent for `idle_seconds`;
    returns how much was found.

    Several servers may sweep at once: every job may be done twice.
    """
    with ports.database.reading() as transaction:
        chunks = transaction.operations.unfinished_chunks(SWEEP_BATCH)
        completable = transaction.operations.completable()
        idle = transaction.operations.idle(idle_seconds)
        purgeable = transaction.libraries.purgeable()
        deleted = transaction.compounds.deleted(SWEEP_BATCH)
        models = transaction.models.all()
        # Compounds whose chunk will never index them: of cancelled imports, or of a former index. A fill looks after itself.
        complete_models = (
            [] if chunks else [model.version for model in models if model.state.live and model.state is not ModelState.FILLING]
        )
        orphans = {version: transaction.compounds.unindexed(version, SWEEP_BATCH) for version in complete_models}
    for operation, chunk, state in chunks:
        ports.queue.send_again(ReadChunk(operation, chunk) if state == "ACCEPTED" else EmbedCompounds(operation, chunk))
    for operation in completable:
        complete(operation, ports)
    for operation in idle:
        close_import(operation, idle_seconds, ports)
    for library in purgeable:
        ports.queue.send(PurgeLibrary(library))
    for library, inchikeys in _by_library(deleted).items():
        ports.queue.send(RemoveDeleted(library, inchikeys))
    for version, places in orphans.items():
        for library, inchikeys in _by_library(places).items():
            ports.queue.send(IndexCompounds(library, inchikeys, version))
    deleting = [model.version for model in models if model.state is ModelState.DELETING]
    for version in deleting:
        ports.queue.send(RemoveIndex(version))
    if structures_lack_something(bool(chunks), ports):
        ports.queue.send(FillStructures())
    with ports.database.transaction() as transaction:
        transaction.job_starts.forget(FORGET_SECONDS)
    found = [len(chunks), len(completable), len(idle), len(purgeable), len(deleted), len(deleting), *map(len, orphans.values())]
    return sum(found) + resume_reindexes(ports) + resend_generations(ports)


def _by_library(places: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    return {library: tuple(inchikey for owner, inchikey in places if owner == library) for library, _ in places}
