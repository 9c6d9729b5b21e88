"""Bring the structure index in line with SQL, beside the vectors and by the same means: jobs that may run twice, a sweep that finds what is missing."""

import time
import uuid
from collections.abc import Sequence

from server.domain.compounds import Compound, point_id
from server.domain.errors import AtomasError, Reason
from server.jobs import FillStructures
from server.ports import Ports, StructureEntry
from server.usecases.bring_in_line import bring_in_line

FILL_BATCH = 500
# A job that lasts longer than the broker waits would be given to another worker meanwhile.
FILL_SECONDS = 60.0


def index_structures(library: str, inchikeys: Sequence[str], ports: Ports) -> None:
    """Makes the structure index agree with the compounds as they are now."""

    def write(compounds: Sequence[Compound], gone: Sequence[uuid.UUID]) -> str:
        generation = ports.structures.upsert([structure_entry(compound) for compound in compounds])
        ports.structures.delete(gone)
        return generation

    bring_in_line(library, inchikeys, write, ports)


def structure_entry(compound: Compound) -> StructureEntry:
    """What the structure index keeps of a compound."""
    structure = compound.structure
    skeleton = structure.parent_inchikey.partition("-")[0]
    return StructureEntry(
        point_id(compound.library, compound.inchikey), compound.library, structure.smiles, skeleton, structure.fingerprint
    )


def fill_structures(ports: Ports) -> None:
    """Brings over what the structure index lacks, and lets it answer once that is everything; goes on in another job when it takes long."""
    generation = ports.structures.generation
    end = time.monotonic() + FILL_SECONDS
    while missing := _missing(generation, ports):
        for library in dict.fromkeys(library for library, _ in missing):
            index_structures(library, [inchikey for owner, inchikey in missing if owner == library], ports)
        if time.monotonic() > end or ports.structures.generation != generation:
            ports.queue.send(FillStructures())
            return
    ports.structures.declare_complete()


def structures_lack_something(chunks_waiting: bool, ports: Ports) -> bool:
    """Whether a fill is needed: the index is new, or was when a former one ended early. While chunks are on their way the structures they
    bring are too. An index that is away has to come back first."""
    try:
        if not ports.structures.complete:
            return True
        return not chunks_waiting and bool(_missing(ports.structures.generation, ports))
    except AtomasError as error:
        if error.reason is not Reason.INDEX_UNAVAILABLE:
            raise
        return False


def _missing(generation: str, ports: Ports) -> list[tuple[str, str]]:
    if not generation:
        return []
    with ports.database.reading() as transaction:
        return transaction.compounds.unindexed(generation, FILL_BATCH)
