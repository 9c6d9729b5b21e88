"""Export: a library, or what of it meets a filter, step by step in a stable order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from encoder.molecules import MoleculeError
from server.domain.compounds import Compound, point_id
from server.domain.filters import Filter
from server.ports import Ports
from server.usecases.index_compounds import fields_of
from server.usecases.meet_filter import meets
from server.usecases.parse_filter import parse_filter
from server.usecases.resolve_structures import resolve_structures

# Compounds looked at in one step: a short transaction, and a sign of life every few milliseconds however few meet the filter.
STEP_COMPOUNDS = 200


@dataclass(frozen=True)
class Export:
    """What is exported."""

    library: str
    filter: Filter | None
    # Compounds of the library at the start.
    compound_count: int
    with_molblocks: bool = False


@dataclass(frozen=True)
class ExportStep:
    """Compounds that meet the filter, among the next ones that were looked at."""

    compounds: Sequence[Compound]
    examined: int
    # InChIKey to go on after; empty when nothing is left.
    after: str
    # By InChIKey; a structure that cannot be drawn has none.
    molblocks: Mapping[str, str] = field(default_factory=dict)


def start_export(library_id: str, filter_text: str, with_molblocks: bool, ports: Ports) -> Export:
    """Raises LIBRARY_NOT_FOUND, INVALID_FILTER, UNKNOWN_FIELD, and as `resolve_structures`."""
    with ports.database.reading() as transaction:
        library = transaction.libraries.get(library_id)
    filter = resolve_structures(parse_filter(filter_text, library.fields), [library_id], ports)
    return Export(library_id, filter, library.compound_count, with_molblocks)


def export_step(export: Export, after: str, ports: Ports) -> ExportStep:
    """The next compounds by InChIKey, from the one after `after`. Raises LIBRARY_NOT_FOUND once the library is gone."""
    with ports.database.reading() as transaction:
        transaction.libraries.get(export.library)
        found = transaction.compounds.page(export.library, after, STEP_COMPOUNDS)
    chosen = [
        each for each in found if export.filter is None or meets(export.filter, point_id(export.library, each.inchikey), fields_of(each))
    ]
    blocks = ports.chemistry.molblocks([each.structure.smiles for each in chosen]) if export.with_molblocks else []
    drawn = {each.inchikey: block for each, block in zip(chosen, blocks, strict=bool(blocks)) if not isinstance(block, MoleculeError)}
    return ExportStep(chosen, len(found), found[-1].inchikey if len(found) == STEP_COMPOUNDS else "", drawn)
