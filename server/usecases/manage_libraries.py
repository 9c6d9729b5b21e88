"""Create, read, change and delete libraries and single compounds."""

import time
from dataclasses import replace

from server.domain.compounds import Compound, point_id
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library, check_library_id
from server.jobs import PurgeLibrary, RemoveDeleted
from server.ports import Ports
from server.usecases.live_models import live_indexes

# Rows removed per transaction: short enough that imports into other libraries hardly notice.
PURGE_BATCH = 5_000
POLL_SECONDS = 0.05


def create_library(library: Library, ports: Ports) -> Library:
    """Raises INVALID_NAME, LIBRARY_EXISTS, DISK_FULL."""
    check_library_id(library.id)
    ports.storage.require_free_space()
    with ports.database.transaction() as transaction:
        return transaction.libraries.add(replace(library, display_name=library.display_name or library.id))


def get_library(library_id: str, ports: Ports) -> Library:
    """Raises LIBRARY_NOT_FOUND."""
    with ports.database.reading() as transaction:
        return transaction.libraries.get(library_id)


def list_libraries(after: str, limit: int, ports: Ports) -> list[Library]:
    """Up to `limit` libraries with ids greater than `after`."""
    with ports.database.reading() as transaction:
        return transaction.libraries.page(after, limit)


def update_library(library_id: str, display_name: str | None, description: str | None, ports: Ports) -> Library:
    """Changes what is not None. Raises LIBRARY_NOT_FOUND."""
    with ports.database.transaction() as transaction:
        library = transaction.libraries.get(library_id)
        if display_name is not None:
            library = replace(library, display_name=display_name or library_id)
        if description is not None:
            library = replace(library, description=description)
        return transaction.libraries.update(library)


def delete_library(library_id: str, force: bool, ports: Ports, *, patience_seconds: float = 0.0) -> None:
    """Hides a library for good and leaves its removal from every store to a job, for whose end it waits a little.

    Raises LIBRARY_NOT_FOUND, and LIBRARY_NOT_EMPTY unless forced.
    """
    with ports.database.transaction() as transaction:
        library = transaction.libraries.get(library_id)
        if library.compound_count and not force:
            raise AtomasError(
                Reason.LIBRARY_NOT_EMPTY,
                f"Library {library_id} holds {library.compound_count} compounds. Ask again with force to delete them too.",
            )
        transaction.libraries.mark_deleted(library_id)
    ports.queue.send(PurgeLibrary(library_id))
    # The name is free again once everything is gone: for a small library before the caller can ask.
    end = time.monotonic() + patience_seconds
    while time.monotonic() < end and _is_dying(library_id, ports):
        time.sleep(POLL_SECONDS)


def purge_library(library_id: str, ports: Ports) -> None:
    """Second half of a deletion: vectors first, so that no hit can point at rows that are gone. Does nothing to a library that lives.

    A second run that comes late must not touch a new library of the same name.
    """
    if not _is_dying(library_id, ports):
        return
    for index in live_indexes(ports):
        index.delete_library(library_id)
        index.flush()
    ports.structures.delete_library(library_id)
    done = False
    while not done:
        with ports.database.transaction() as transaction:
            done = transaction.libraries.purge(library_id, PURGE_BATCH)


def _is_dying(library_id: str, ports: Ports) -> bool:
    with ports.database.reading() as transaction:
        return library_id in transaction.libraries.purgeable()


def get_compound(library_id: str, inchikey: str, ports: Ports) -> Compound:
    """Raises LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND."""
    with ports.database.reading() as transaction:
        transaction.libraries.get(library_id)
        return transaction.compounds.get(library_id, inchikey)


def list_compounds(library_id: str, after: str, limit: int, ports: Ports) -> list[Compound]:
    """Up to `limit` compounds with InChIKeys greater than `after`. Raises LIBRARY_NOT_FOUND."""
    with ports.database.reading() as transaction:
        transaction.libraries.get(library_id)
        return transaction.compounds.page(library_id, after, limit)


def delete_compound(library_id: str, inchikey: str, ports: Ports) -> None:
    """Raises LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND.

    The compound is gone when its mark is stored. Its vector goes at once where that works, so that the caller does not find it again; a job
    makes sure of it whatever happens here.
    """
    with ports.database.transaction() as transaction:
        transaction.libraries.get(library_id)
        transaction.compounds.mark_deleted(library_id, inchikey)
    try:
        remove_deleted(library_id, [inchikey], ports)
    except AtomasError:
        ports.queue.send(RemoveDeleted(library_id, (inchikey,)))


def remove_deleted(library_id: str, inchikeys: list[str], ports: Ports) -> None:
    """Second half of a deletion: vectors first, then rows."""
    points = [point_id(library_id, inchikey) for inchikey in inchikeys]
    for index in live_indexes(ports):
        index.delete(points)
        index.flush()
    ports.structures.delete(points)
    with ports.database.transaction() as transaction:
        transaction.compounds.remove_deleted(library_id, inchikeys)
