"""Make an index agree with SQL about some compounds, whoever else writes them meanwhile: what both kinds of indexes are filled by."""

import uuid
from collections.abc import Callable, Sequence
from typing import TypeAlias

from server.domain.compounds import Compound, point_id
from server.ports import Ports

# Takes what the index shall hold and ids of what it shall lack; gives the name under which SQL notes what it holds, empty for none.
Write: TypeAlias = Callable[[Sequence[Compound], Sequence[uuid.UUID]], str]


def bring_in_line(library: str, inchikeys: Sequence[str], write: Write, ports: Ports) -> None:
    """Writes the compounds as they are now, until they are.

    Workers may index one compound at the same time, and the last to write may have read first: whoever finds at the end that a compound
    is another one by now does it again.
    """
    pending = list(inchikeys)
    while pending:
        ports.storage.require_free_space()
        with ports.database.reading() as transaction:
            compounds = transaction.compounds.get_many(library, pending)
        index = write(list(compounds.values()), [point_id(library, inchikey) for inchikey in pending if inchikey not in compounds])
        written = {inchikey: compound.revision for inchikey, compound in compounds.items()}
        with ports.database.transaction() as transaction:
            now = transaction.compounds.revisions(library, pending)
            if index:
                transaction.compounds.mark_indexed(library, written, index)
        pending = [inchikey for inchikey in pending if written.get(inchikey) != now.get(inchikey)]
