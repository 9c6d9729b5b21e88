"""Fill the indexes of a service at rest from its database, here and now: what jobs do while it runs."""

from collections.abc import Callable

from server.domain.errors import AtomasError
from server.ports import Ports
from server.usecases.index_compounds import index_compounds
from server.usecases.index_structures import fill_structures
from server.usecases.live_models import live_models

BATCH = 500


def fill_indexes(ports: Ports, progress: Callable[[str, int], None]) -> int:
    """Brings every index up to date; returns how many compounds were left to the service, which notes what is wrong with each.

    `progress` is told of each batch: of which index, and how many compounds have been gone through.
    """
    left = 0
    for model in live_models(ports):
        done, after = 0, None
        while True:
            with ports.database.reading() as transaction:
                missing = transaction.compounds.unindexed(model.version, BATCH, after)
            if not missing:
                break
            after = missing[-1]
            for library in dict.fromkeys(library for library, _ in missing):
                inchikeys = [inchikey for owner, inchikey in missing if owner == library]
                try:
                    index_compounds(library, inchikeys, ports, model.version)
                except AtomasError:
                    # One of them is at fault; the service finds out which.
                    left += len(inchikeys)
            done += len(missing)
            progress(f"model {model.version}", done)
    fill_structures(ports)
    return left
