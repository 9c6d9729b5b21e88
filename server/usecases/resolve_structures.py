"""Questions about structures in a filter, put to the structure index before anybody else sees the filter."""

import uuid
from collections.abc import Iterator, Mapping, Sequence

from encoder.molecules import Molecule, MoleculeError, Structure
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Among, And, Filter, Not, Or, Structural
from server.ports import Ports, ScoredPoint

# Neighbours looked at for each one wanted, when a filter may refuse some; as many times more when it refuses too many.
FIRST_LOOK = 4


def resolve_structures(filter: Filter | None, libraries: Sequence[str] | None, ports: Ports) -> Filter | None:
    """The filter with every question about structures answered by the points it is true of.

    Raises INVALID_SMARTS and the chemistry door's reasons for structures that cannot be read, TIMEOUT, OVERLOADED, INDEX_UNAVAILABLE.
    """
    match filter:
        case Structural():
            return Among(frozenset(_points(filter, libraries, ports)))
        case Not(part):
            return Not(_resolved(part, libraries, ports))
        case And(parts):
            return And(tuple(_resolved(part, libraries, ports) for part in parts))
        case Or(parts):
            return Or(tuple(_resolved(part, libraries, ports) for part in parts))
        case other:
            return other


def patterns_of(filter: Filter | None) -> list[str]:
    """Patterns that a hit may have met, whose atoms are worth showing: those that the filter asks for, not those it excludes."""
    return list(dict.fromkeys(_patterns(filter)))


def read_molecule(text: str, ports: Ports) -> Molecule:
    """Any spelling of a molecule, through the chemistry door. Raises its reasons."""
    molecule = ports.chemistry.standardise_one(Structure("auto", text))
    if isinstance(molecule, MoleculeError):
        raise AtomasError(Reason(molecule.reason), molecule.message)
    return molecule


def nearest_structures(
    fingerprint: bytes, count: int, libraries: Sequence[str] | None, filter: Filter | None, ports: Ports
) -> list[ScoredPoint]:
    """The `count` compounds of the greatest Tanimoto similarity among those that meet the filter, ties by id. Raises INDEX_UNAVAILABLE."""
    if filter is None:
        return list(ports.structures.nearest(fingerprint, count, libraries))
    asked = FIRST_LOOK * count
    while True:
        near = ports.structures.nearest(fingerprint, asked, libraries)
        passing = set(ports.index.select(libraries, filter, [point.id for point in near]))
        kept = [point for point in near if point.id in passing][:count]
        # Fewer than asked for: nobody is left to look at.
        if len(kept) == count or len(near) < asked:
            return kept
        asked *= FIRST_LOOK


def matched_atoms(patterns: Sequence[str], compounds: Mapping[uuid.UUID, Compound], ports: Ports) -> dict[uuid.UUID, list[int]]:
    """Atoms of each compound's SMILES that any of the patterns covers."""
    covered: dict[uuid.UUID, set[int]] = {id: set() for id in compounds}
    smiles = [compound.structure.smiles for compound in compounds.values()]
    for pattern in patterns if smiles else ():
        for id, atoms in zip(compounds, ports.structures.matched_atoms(pattern, smiles), strict=True):
            covered[id].update(atoms)
    return {id: sorted(atoms) for id, atoms in covered.items()}


def _resolved(part: Filter, libraries: Sequence[str] | None, ports: Ports) -> Filter:
    resolved = resolve_structures(part, libraries, ports)
    assert resolved is not None
    return resolved


def _points(asked: Structural, libraries: Sequence[str] | None, ports: Ports) -> Sequence[uuid.UUID]:
    structures = ports.structures
    match asked.question:
        case "substructure" | "smarts":
            return structures.containing(_pattern(asked), libraries)
        case "superstructure":
            return structures.contained_in(read_molecule(asked.structure, ports).smiles, libraries)
        case "same_skeleton":
            return structures.with_skeleton(read_molecule(asked.structure, ports).skeleton, libraries)
        case "similar":
            fingerprint = read_molecule(asked.structure, ports).fingerprint
            return [point.id for point in structures.similar(fingerprint, asked.threshold, libraries)]


def _pattern(asked: Structural) -> str:
    return f"smarts:{asked.structure}" if asked.question == "smarts" else asked.structure


def _patterns(filter: Filter | None) -> Iterator[str]:
    match filter:
        case Structural("substructure" | "smarts"):
            yield _pattern(filter)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _patterns(part)
