"""Filters of searches, put to molecules that nobody has stored: descriptors, elements, and questions about structures."""

from collections.abc import Sequence
from uuid import UUID

from server.domain.compounds import Compound, Structure, point_id
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Among, And, Condition, Filter, Not, Or, Structural
from server.ports import Ports
from server.usecases.index_compounds import fields_of
from server.usecases.known_compounds import tanimoto
from server.usecases.meet_filter import meets
from server.usecases.parse_filter import parse_filter
from server.usecases.resolve_structures import read_molecule

# As float32 tells similarities apart, so that 3/5 reaches a threshold of 0.6, as in searches.
_ROUNDING = 1e-7


def candidate_filter(text: str) -> Filter | None:
    """The filter's tree, None when it is blank. Raises INVALID_FILTER, UNKNOWN_FIELD, also for what only stored compounds have."""
    tree = parse_filter(text, {})
    _refuse_stored(tree)
    return tree


def check_structures(filter: Filter | None, ports: Ports) -> None:
    """Raises what reading a structure of the filter would: INVALID_SMARTS, the chemistry door's reasons, INDEX_UNAVAILABLE."""
    match filter:
        case Structural("substructure" | "smarts"):
            ports.structures.check_pattern(_pattern(filter))
        case Structural():
            read_molecule(filter.structure, ports)
        case Not(part):
            check_structures(part, ports)
        case And(parts) | Or(parts):
            for part in parts:
                check_structures(part, ports)
        case _:
            pass


def passing(filter: Filter | None, structures: Sequence[Structure], ports: Ports) -> list[bool]:
    """Which of the molecules meet the filter."""
    if filter is None:
        return [True] * len(structures)
    compounds = [Compound("", structure, ()) for structure in structures]
    ids = [point_id("", structure.inchikey) for structure in structures]
    answered = _answered(filter, structures, ids, ports)
    return [meets(answered, id, fields_of(compound)) for id, compound in zip(ids, compounds, strict=True)]


def _refuse_stored(filter: Filter | None) -> None:
    match filter:
        case Condition("id" | "has"):
            raise AtomasError(
                Reason.INVALID_FILTER, f"A molecule that is generated has no {filter.field!r}: filter by descriptors, elements, structures."
            )
        case Not(part):
            _refuse_stored(part)
        case And(parts) | Or(parts):
            for part in parts:
                _refuse_stored(part)
        case _:
            pass


def _answered(filter: Filter, structures: Sequence[Structure], ids: Sequence[UUID], ports: Ports) -> Filter:
    match filter:
        case Structural():
            return Among(frozenset(id for id, holds in zip(ids, _holds(filter, structures, ports), strict=True) if holds))
        case Not(part):
            return Not(_answered(part, structures, ids, ports))
        case And(parts):
            return And(tuple(_answered(part, structures, ids, ports) for part in parts))
        case Or(parts):
            return Or(tuple(_answered(part, structures, ids, ports) for part in parts))
        case other:
            return other


def _holds(asked: Structural, structures: Sequence[Structure], ports: Ports) -> list[bool]:
    if asked.question in ("substructure", "smarts"):
        return [bool(atoms) for atoms in ports.structures.matched_atoms(_pattern(asked), [each.smiles for each in structures])]
    molecule = read_molecule(asked.structure, ports)
    if asked.question == "same_skeleton":
        return [each.parent_inchikey[:14] == molecule.skeleton for each in structures]
    if asked.question == "similar":
        return [tanimoto(each.fingerprint, molecule.fingerprint) >= asked.threshold - _ROUNDING for each in structures]
    return [bool(ports.structures.matched_atoms(each.smiles, [molecule.smiles])[0]) for each in structures]


def _pattern(asked: Structural) -> str:
    return f"smarts:{asked.structure}" if asked.question == "smarts" else asked.structure
