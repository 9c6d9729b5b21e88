"""Molblocks of standardised molecules: what an SDF file holds must be the molecule it was made from."""

import pytest

from encoder.molblocks import molblock
from encoder.molecules import MoleculeError, Reason, Structure, standardise
from tests.strategies import HARD_SMILES, library_smiles

# RDKit's own layout gives the first two contradicting wedges; the others leave the geometry of a double bond open.
HARD_TO_DRAW = (
    "CN1c2ccccc2[C@]23C[C@H]4[C@H]([C@@H]5C[C@H](O)N4[C@@H](C5)[C@H]12)[C@H]3O",
    "C[C@H]1[C@H](OC(=O)CCC(=O)O)O[C@@H]2O[C@@]3(C)CC[C@H]4[C@H](C)CC[C@@H]1[C@@]24OO3",
    "CC(=CC(=O)[O-])/C=C/C1(O)C(C)=CC(=O)CC1(C)C",
    "CCCCC[C@@H]1OC1=C/C=C\\CCCCCCCC(=O)[O-]",
)


@pytest.mark.parametrize("smiles", [*HARD_TO_DRAW, *library_smiles()[::4], *HARD_SMILES])
def test_a_molblock_reads_back_as_its_molecule(smiles: str) -> None:
    molecule = standardise(smiles)
    block = molblock(Structure("smiles", molecule.smiles))
    assert block.rstrip().endswith("M  END")
    assert standardise(block).inchikey == molecule.inchikey


def test_a_molblock_has_coordinates() -> None:
    atoms = [line.split()[:2] for line in molblock(Structure("smiles", "CCO")).splitlines()[4:7]]
    assert len({tuple(place) for place in atoms}) == 3


def test_what_is_no_structure_has_no_molblock() -> None:
    with pytest.raises(MoleculeError) as refusal:
        molblock(Structure("smiles", "C1CC"))
    assert refusal.value.reason is Reason.INVALID_SMILES
