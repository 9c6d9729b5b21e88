"""RDKit's MACCS keys in less than half its time: what an atom, its neighbours or rings decide is looked up, the rest is matched."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import xor

from rdkit import Chem
from rdkit.Chem import MACCSkeys, rdMolDescriptors

# What the atom queries of the definitions ask for: element, aromaticity, hydrogens, ring membership, charge. Equal kinds match equally.
AtomKind = tuple[int, bool, int, bool, int]
BondKind = tuple[Chem.BondType, bool]

_USUAL_BONDS = frozenset((Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC))
_AROMATIC_RINGS, _FRAGMENTS = 125, 166
_LARGE_RINGS = range(8, 15)
_MAX_FUSED_RINGS = 6  # 2**6 unions of rings are looked through; beyond them matching is faster
_MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One substructure that sets a key, and the atoms and bonds without which it need not be looked for."""

    query: Chem.Mol
    once: int  # atom queries that some atom must match, as bits
    twice: int  # atom queries that two atoms must match, as bits
    bonds: int  # bond queries, ends included, that some bond must match, as bits


@dataclass(frozen=True, slots=True)
class _Star:
    """A substructure of one atom and some of its neighbours."""

    key: int
    centre: int  # atom query
    leaves: tuple[int, ...]  # leaf queries


def _bits(indices: Iterable[int]) -> int:
    return sum(1 << index for index in indices)


class _Definitions:
    """The keys as RDKit's own SMARTS define them, sorted by what decides them."""

    def __init__(self) -> None:
        self.atom_queries: list[Chem.Atom] = []
        self.bond_queries: list[tuple[int, Chem.Bond, int]] = []
        self.by_atom: list[tuple[int, int, int]] = []  # (key, atom query, least number)
        self.by_bond: list[tuple[int, int, int]] = []  # (key, bond query, least number)
        self.leaf_queries: list[tuple[Chem.Bond, int]] = []  # (bond query, atom query of a neighbour)
        self.by_star: list[_Star] = []
        self.by_ring: dict[int, tuple[range, bool, int]] = {}  # key: sizes, with a heteroatom, least number
        self.by_match: list[tuple[int, int, tuple[_Pattern, ...], Chem.Mol]] = []  # (key, least number, alternatives, the whole query)
        self._atoms: dict[str, int] = {}
        self._bonds: dict[tuple[int, str, int], int] = {}
        self._leaves: dict[tuple[str, int], int] = {}
        self._queries: list[Chem.Mol] = []  # owns the queries' atoms and bonds
        for key, (smarts, more_than) in MACCSkeys.smartsPatts.items():
            if smarts != "?":
                self._sort(key, smarts, more_than + 1)

    def _sort(self, key: int, smarts: str, least: int) -> None:
        query = Chem.MolFromSmarts(smarts)
        self._queries.append(query)
        size = query.GetNumAtoms()
        first = query.GetAtomWithIdx(0).GetSmarts()
        if "$" in smarts:
            alternatives = [Chem.MolFromSmarts(part) for part in smarts.removeprefix("[$(").removesuffix(")]").split("),$(")]
            self._queries += alternatives
            if all(part.GetNumAtoms() == part.GetNumBonds() and part.GetNumAtoms() in _LARGE_RINGS for part in alternatives):
                self.by_ring[key] = (_LARGE_RINGS, False, least)
            else:
                self.by_match.append((key, least, tuple(map(self._pattern, alternatives)), query))
        elif size == query.GetNumBonds():
            self.by_ring[key] = (range(size, size + 1), first != "*", least)
        elif size == 1:
            self.by_atom.append((key, self._atom_query(query.GetAtomWithIdx(0)), least))
        elif size == 2:
            self.by_bond.append((key, self._bond_query(query.GetBondWithIdx(0)), least))
        elif least == 1 and (centre := next((atom for atom in query.GetAtoms() if atom.GetDegree() == size - 1), None)):
            leaves = tuple(self._leaf_query(bond, self._atom_query(bond.GetOtherAtom(centre))) for bond in centre.GetBonds())
            self.by_star.append(_Star(key, self._atom_query(centre), leaves))
        else:
            self.by_match.append((key, least, (self._pattern(query),), query))

    def _pattern(self, query: Chem.Mol) -> _Pattern:
        atoms = Counter(self._atom_query(atom) for atom in query.GetAtoms())
        bonds = {self._bond_query(bond) for bond in query.GetBonds()}
        return _Pattern(query, _bits(atoms), _bits(index for index, number in atoms.items() if number > 1), _bits(bonds))

    def _atom_query(self, atom: Chem.Atom) -> int:
        index = self._atoms.setdefault(atom.GetSmarts(), len(self.atom_queries))
        if index == len(self.atom_queries):
            self.atom_queries.append(atom)
        return index

    def _bond_query(self, bond: Chem.Bond) -> int:
        ends = self._atom_query(bond.GetBeginAtom()), self._atom_query(bond.GetEndAtom())
        index = self._bonds.setdefault((ends[0], bond.GetSmarts() or "unwritten", ends[1]), len(self.bond_queries))
        if index == len(self.bond_queries):
            self.bond_queries.append((ends[0], bond, ends[1]))
        return index

    def _leaf_query(self, bond: Chem.Bond, atom: int) -> int:
        index = self._leaves.setdefault((bond.GetSmarts() or "unwritten", atom), len(self.leaf_queries))
        if index == len(self.leaf_queries):
            self.leaf_queries.append((bond, atom))
        return index


_DEFINITIONS = _Definitions()
_memory = threading.Lock()  # of all that follows: two models of one process featurise on two threads
_queries_of_atom: dict[AtomKind, tuple[int, ...]] = {}
_queries_of_bond: dict[tuple[AtomKind, BondKind, AtomKind], tuple[int, ...]] = {}
_code_of_neighbour: dict[tuple[BondKind, AtomKind], int] = {}
_leaves_of_neighbour: dict[int, frozenset[int]] = {}  # by code
_keys_of_star: dict[tuple[AtomKind, tuple[int, ...]], tuple[int, ...]] = {}


def maccs_keys(
    molecule: Chem.Mol, smiles: str, atoms: Sequence[Chem.Atom], bonds: Sequence[Chem.Bond], bond_rings: Sequence[Sequence[int]]
) -> list[int]:
    """The numbers of the MACCS keys that a sanitised molecule has, ascending: those of RDKit's MACCS fingerprint, to the bit.

    `smiles` is any spelling of the molecule; its atoms, bonds and rings (bonds by index) are what the caller has read already. May be called
    from any thread.
    """
    with _memory:
        return _keys(molecule, smiles, atoms, bonds, bond_rings)


def _keys(
    molecule: Chem.Mol, smiles: str, atoms: Sequence[Chem.Atom], bonds: Sequence[Chem.Bond], bond_rings: Sequence[Sequence[int]]
) -> list[int]:
    if len(_keys_of_star) > _MAX_REMEMBERED:
        for memory in (_queries_of_atom, _queries_of_bond, _code_of_neighbour, _leaves_of_neighbour, _keys_of_star):
            memory.clear()
    kinds = [(a.GetAtomicNum(), a.GetIsAromatic(), a.GetTotalNumHs(True), a.IsInRing(), a.GetFormalCharge()) for a in atoms]
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bonds]
    types = [bond.GetBondType() for bond in bonds]
    if not _USUAL_BONDS.issuperset(types):
        # Rings over dative bonds are rings to some definitions and none to others.
        return list(rdMolDescriptors.GetMACCSKeysFingerprint(molecule).GetOnBits())
    atom_matches = [0] * len(_DEFINITIONS.atom_queries)
    for kind, number in Counter(kinds).items():
        found = _queries_of_atom.get(kind)
        if found is None:
            atom = atoms[kinds.index(kind)]
            found = _queries_of_atom[kind] = tuple(i for i, query in enumerate(_DEFINITIONS.atom_queries) if query.Match(atom))
        for index in found:
            atom_matches[index] += number
    in_ring = set().union(*bond_rings)
    bond_kinds = [(kind, place in in_ring) for place, kind in enumerate(types)]
    triples = [(kinds[a], kind, kinds[b]) for (a, b), kind in zip(ends, bond_kinds, strict=True)]
    bond_matches = [0] * len(_DEFINITIONS.bond_queries)
    for triple, number in Counter(triples).items():
        found = _queries_of_bond.get(triple)
        if found is None:
            found = _queries_of_bond[triple] = _matching_bonds(triple, bonds[triples.index(triple)])
        for index in found:
            bond_matches[index] += number

    keys = [key for key, query, least in _DEFINITIONS.by_atom if atom_matches[query] >= least]
    keys += [key for key, query, least in _DEFINITIONS.by_bond if bond_matches[query] >= least]
    keys += _star_keys(atoms, kinds, ends, bond_kinds)
    keys += _matched_keys(molecule, atom_matches, bond_matches)
    if in_ring:
        keys += _ring_keys(molecule, kinds, ends, list(map(frozenset, bond_rings)))
        if sum(all(bonds[place].GetIsAromatic() for place in ring) for ring in bond_rings) > 1:
            keys.append(_AROMATIC_RINGS)
    if "." in smiles and len(Chem.GetMolFrags(molecule)) > 1:
        keys.append(_FRAGMENTS)
    return sorted(keys)


def _matching_bonds(triple: tuple[AtomKind, BondKind, AtomKind], bond: Chem.Bond) -> tuple[int, ...]:
    first, _, second = triple
    begin, end = _queries_of_atom[first], _queries_of_atom[second]
    return tuple(
        index
        for index, (one, query, other) in enumerate(_DEFINITIONS.bond_queries)
        if ((one in begin and other in end) or (other in begin and one in end)) and query.Match(bond)
    )


def _star_keys(atoms: Sequence[Chem.Atom], kinds: list[AtomKind], ends: list[tuple[int, int]], bond_kinds: list[BondKind]) -> set[int]:
    neighbours: list[list[int]] = [[] for _ in kinds]
    for (a, b), kind in zip(ends, bond_kinds, strict=True):
        for atom, other in ((a, b), (b, a)):
            neighbour = kind, kinds[other]
            neighbours[atom].append(_code_of_neighbour.setdefault(neighbour, len(_code_of_neighbour)))
    stars = {
        (kind, tuple(sorted(codes))): place for place, (kind, codes) in enumerate(zip(kinds, neighbours, strict=True)) if len(codes) > 1
    }
    keys: set[int] = set()
    for star, place in stars.items():
        found = _keys_of_star.get(star)
        if found is None:
            found = _keys_of_star[star] = _matching_stars(atoms[place], kinds, star[1])
        keys.update(found)
    return keys


def _matching_stars(atom: Chem.Atom, kinds: list[AtomKind], codes: tuple[int, ...]) -> tuple[int, ...]:
    if not _leaves_of_neighbour.keys() >= set(codes):
        _learn_neighbours(atom, kinds)
    around = [_leaves_of_neighbour[code] for code in codes]
    queries = _queries_of_atom[kinds[atom.GetIdx()]]
    return tuple(star.key for star in _DEFINITIONS.by_star if star.centre in queries and _can_place(star.leaves, around))


def _learn_neighbours(atom: Chem.Atom, kinds: list[AtomKind]) -> None:
    for bond in atom.GetBonds():
        other = kinds[bond.GetOtherAtomIdx(atom.GetIdx())]
        code = _code_of_neighbour[(bond.GetBondType(), bond.IsInRing()), other]
        queries = _queries_of_atom[other]
        _leaves_of_neighbour[code] = frozenset(
            index for index, (query, leaf) in enumerate(_DEFINITIONS.leaf_queries) if leaf in queries and query.Match(bond)
        )


def _can_place(leaves: tuple[int, ...], around: list[frozenset[int]]) -> bool:
    """Whether every leaf finds a neighbour of its own."""
    if not leaves:
        return True
    return any(leaves[0] in found and _can_place(leaves[1:], around[:place] + around[place + 1 :]) for place, found in enumerate(around))


def _matched_keys(molecule: Chem.Mol, atom_matches: list[int], bond_matches: list[int]) -> Iterator[int]:
    # Looked for is only what the absence of an atom or a bond does not rule out: half of the patterns of an ordinary molecule.
    no_atom = _bits(index for index, number in enumerate(atom_matches) if number < 1)
    no_two_atoms = _bits(index for index, number in enumerate(atom_matches) if number < 2)
    no_bond = _bits(index for index, number in enumerate(bond_matches) if number < 1)
    for key, least, alternatives, whole in _DEFINITIONS.by_match:
        for pattern in alternatives:
            if pattern.bonds & no_bond or pattern.twice & no_two_atoms or pattern.once & no_atom:
                continue
            if molecule.HasSubstructMatch(pattern.query):
                if least == 1 or len(molecule.GetSubstructMatches(whole)) >= least:
                    yield key
                break


def _ring_keys(molecule: Chem.Mol, kinds: list[AtomKind], ends: list[tuple[int, int]], bond_rings: list[frozenset[int]]) -> Iterator[int]:
    systems = _fused_systems(bond_rings)
    if any(len(system) > _MAX_FUSED_RINGS for system in systems):
        on = rdMolDescriptors.GetMACCSKeysFingerprint(molecule)
        yield from (key for key in _DEFINITIONS.by_ring if on[key])
        return
    cycles = {frozenset(atom for bond in ring for atom in ends[bond]) for ring in bond_rings}
    has_large = any(len(cycle) in _LARGE_RINGS for cycle in cycles)
    for system in systems:
        for bonds in _unions(system):
            # One large ring is as good as many.
            if len(bonds) < (_LARGE_RINGS.start if has_large else _LARGE_RINGS.stop) and (cycle := _atoms_of_cycle(bonds, ends)):
                cycles.add(cycle)
                has_large = has_large or len(cycle) in _LARGE_RINGS
    for key, (sizes, hetero, least) in _DEFINITIONS.by_ring.items():
        found = [cycle for cycle in cycles if len(cycle) in sizes and (not hetero or any(kinds[atom][0] not in (1, 6) for atom in cycle))]
        if len(found) >= least:
            yield key


def _fused_systems(rings: Sequence[frozenset[int]]) -> list[list[frozenset[int]]]:
    """Groups of rings that hang together by common bonds: no cycle leaves its group."""
    systems: list[list[frozenset[int]]] = []
    for ring in rings:
        touching = [system for system in systems if any(ring & other for other in system)]
        if touching:
            systems = [system for system in systems if system not in touching]
        systems.append([ring, *(other for system in touching for other in system)])
    return systems


def _unions(system: list[frozenset[int]]) -> Iterator[frozenset[int]]:
    """Symmetric differences of two rings or more: every cycle that is no ring itself is among them."""
    for count in range(2, len(system) + 1):
        for chosen in combinations(system, count):
            yield reduce(xor, chosen)


def _atoms_of_cycle(bonds: frozenset[int], ends: list[tuple[int, int]]) -> frozenset[int] | None:
    """The atoms of one simple cycle, None when the bonds are something else."""
    neighbours: dict[int, list[int]] = {}
    for bond in bonds:
        a, b = ends[bond]
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    if not bonds or len(neighbours) != len(bonds):
        return None
    start = before = ends[next(iter(bonds))][0]
    atom = neighbours[start][0]
    steps = 1
    while atom != start:
        first, second = neighbours[atom]
        before, atom = atom, second if first == before else first
        steps += 1
    return frozenset(neighbours) if steps == len(bonds) else None
