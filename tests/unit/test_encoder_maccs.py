"""The shortcuts of the features give what RDKit gives without them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

from encoder import maccs
from encoder.maccs import maccs_keys
from tests.strategies import HARD_SMILES, library_smiles, real_smiles

CAGES = [
    "C1C2CC3CC1CC(C2)C3",  # adamantane
    "C12C3C4C1C5C2C3C45",  # cubane: six rings, many cycles that are no ring
    "C1CC2CCC1C2",  # norbornane: a cycle of six through two rings of five
    "C1CC1C1CC1",
    "C1CC2(C1)CCC2",
    "c1ccc2cc3ccccc3cc2c1",
    "C1CCCCCCCCCCCCC1",
    "C1CCCCCCCCCCCCCCC1",  # sixteen atoms: larger than any ring that a key asks for
    "c1cc2ccc3cccc4ccc(c1)c2c34",  # pyrene
    "C1=CC2=C3C4=C1C1=C5C6=C4C4=C3C3=C7C8=C4C6=C4C5=C(C=C1)C=C4C8=CC=C7C=C2C=C3",  # more fused rings than are united
    "C1CN2CCN1CC2",
    "O1NS1",
    "C1.C1",  # a ring closure across a dot: one molecule
    "[Na+].[Cl-]",
    "[H][H]",
    "[H+]",
    "*1CC*1",
    "N->[Pt]1(Cl)NCCN->1",
]


def keys_of(smiles: str) -> list[int]:
    molecule = Chem.MolFromSmiles(smiles)
    return maccs_keys(
        molecule, smiles, list(molecule.GetAtoms()), list(molecule.GetBonds()), [tuple(ring) for ring in molecule.GetRingInfo().BondRings()]
    )


def keys_of_rdkit(smiles: str) -> list[int]:
    return list(rdMolDescriptors.GetMACCSKeysFingerprint(Chem.MolFromSmiles(smiles)).GetOnBits())


@pytest.mark.parametrize("smiles", [smiles for smiles in [*CAGES, *HARD_SMILES] if Chem.MolFromSmiles(smiles) is not None])
def test_hard_molecules_have_the_keys_that_rdkit_finds(smiles: str) -> None:
    assert keys_of(smiles) == keys_of_rdkit(smiles)


def test_real_molecules_have_the_keys_that_rdkit_finds() -> None:
    for smiles in library_smiles():
        if Chem.MolFromSmiles(smiles) is not None:
            assert keys_of(smiles) == keys_of_rdkit(smiles), smiles


@settings(max_examples=200, deadline=None)
@given(real_smiles, real_smiles)
def test_fragments_together_have_the_keys_that_rdkit_finds(first: str, second: str) -> None:
    assert keys_of(f"{first}.{second}") == keys_of_rdkit(f"{first}.{second}")


def test_without_stereo_labels_flat_environments_hold_the_chiral_ones() -> None:
    chiral = rdFingerprintGenerator.GetMorganGenerator(radius=2, includeChirality=True)
    flat = rdFingerprintGenerator.GetMorganGenerator(radius=3)
    seen = 0
    for smiles in library_smiles():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or set("@/\\") & set(smiles):
            continue
        seen += 1
        outputs = []
        for generator in (chiral, flat):
            output = rdFingerprintGenerator.AdditionalOutput()
            output.AllocateAtomToBits()
            generator.GetSparseCountFingerprint(molecule, additionalOutput=output)
            outputs.append(output.GetAtomToBits())
        for short, long in zip(*outputs, strict=True):
            assert tuple(long[: len(short)]) == tuple(short), smiles
    assert seen > 50


def test_threads_share_what_is_remembered_and_what_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maccs, "_MAX_REMEMBERED", 50)
    smiles = [text for text in library_smiles()[:120] if Chem.MolFromSmiles(text) is not None]
    expected = list(map(keys_of_rdkit, smiles))
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: list(map(keys_of, smiles)), range(4)):
            assert found == expected
