"""What a toolkit sees in a molecule, as far as matching asks: two versions of RDKit that see the same match the same."""

from typing import TypeAlias

from rdkit import Chem

# Atoms with what is true of each, bonds with their kinds, and the rings.
Reading: TypeAlias = tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[list[int]]]


def reading(molecule: Chem.Mol) -> Reading:
    """What patterns can ask of the molecule's atoms, bonds and rings; equal for molecules that no pattern can tell apart."""
    atoms: list[tuple[int, ...]] = [
        (
            atom.GetAtomicNum(),
            atom.GetFormalCharge(),
            atom.GetIsotope(),
            atom.GetTotalNumHs(),
            atom.GetNumRadicalElectrons(),
            int(atom.GetHybridization()),
            int(atom.GetIsAromatic()),
        )
        for atom in molecule.GetAtoms()
    ]
    bonds: list[tuple[int, ...]] = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondType()), int(bond.GetIsAromatic())) for bond in molecule.GetBonds()
    ]
    return atoms, bonds, sorted(sorted(ring) for ring in molecule.GetRingInfo().AtomRings())
