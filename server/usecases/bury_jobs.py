"""What becomes of work that cannot be done: the row or compound at fault is named, and everything else goes on."""

from server.domain.errors import Reason
from server.domain.operations import ChunkState, Rejection, State
from server.jobs import EmbedCompounds, Generate, IndexCompounds, Job, ReadChunk
from server.ports import Ports
from server.usecases.index_compounds import complete
from server.usecases.live_models import live_models

# A list of compounds is cut into so many parts to find the one at fault: three rounds for a chunk.
PARTS = 16


def bury(job: Job, reason: Reason, message: str, ports: Ports) -> bool:
    """Takes a job out of the way that failed for good; False where nothing but trying again will help."""
    match job:
        case ReadChunk(operation, chunk):
            _reject_rows(operation, chunk, message, ports)
        case EmbedCompounds(operation, chunk):
            _index_in_parts(operation, chunk, ports)
        case IndexCompounds(library, inchikeys, model) if len(inchikeys) > 1:
            _send_parts(library, inchikeys, model, ports)
        case IndexCompounds(library, inchikeys, model):
            for inchikey in inchikeys:
                _refuse(library, inchikey, model, f"{reason}: {message}", ports)
        case Generate(generation):
            with ports.database.transaction() as transaction:
                transaction.generations.fail(generation, reason.value, message)
        case _:
            return False
    return True


def _reject_rows(operation_id: str, number: int, message: str, ports: Ports) -> None:
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        chunk = transaction.operations.chunk(operation_id, number)
        if chunk.state is not ChunkState.ACCEPTED or operation.state.final:
            return
        rejections = [Rejection(row.position, Reason.CRASHED, message, row) for row in chunk.rows]
        transaction.operations.mark_read(operation_id, number, created=0, updated=0, duplicate=0, rejections=rejections, changed=())
    ports.queue.send(EmbedCompounds(operation_id, number))


def _index_in_parts(operation_id: str, number: int, ports: Ports) -> None:
    """Sends a chunk's compounds in parts; once each is indexed or refused, the chunk is done."""
    with ports.database.reading() as transaction:
        operation = transaction.operations.get(operation_id)
        chunk = transaction.operations.chunk(operation_id, number)
        if chunk.state is not ChunkState.READ or operation.state is State.CANCELLED:
            return
        serving = ports.models.serving()
        entries = transaction.compounds.entries(operation.library, serving, "", len(chunk.changed), chunk.changed)
    if waiting := tuple(entry.inchikey for entry in entries if entry.waiting):
        _send_parts(operation.library, waiting, "", ports)
        return
    with ports.database.transaction() as transaction:
        transaction.operations.lock(operation_id)
        transaction.operations.mark_indexed(operation_id, number, 0)
    complete(operation_id, ports)


def _send_parts(library: str, inchikeys: tuple[str, ...], model: str, ports: Ports) -> None:
    size = -(-len(inchikeys) // PARTS)
    for start in range(0, len(inchikeys), size):
        ports.queue.send(IndexCompounds(library, inchikeys[start : start + size], model))


def _refuse(library: str, inchikey: str, model: str, error: str, ports: Ports) -> None:
    with ports.database.transaction() as transaction:
        found = transaction.compounds.get_many(library, [inchikey])
        for stored in live_models(ports) if found else ():
            if model in ("", stored.version):
                transaction.compounds.mark_refused(library, inchikey, found[inchikey].revision, stored.version, error)
