"""Edits of molecules: valid, canonical, one step away, and better round by round."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem

from encoder.edits import edited, improved


@pytest.mark.parametrize(
    ("smiles", "wanted"),
    [
        ("CC(=O)O", "CC(=O)[O-]"),
        ("CC(=O)[O-]", "CC(=O)O"),
        ("C[C@H](N)C(=O)O", "C[C@H]([NH3+])C(=O)[O-]"),
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
        ("OP(=O)(O)OC", "COP(=O)([O-])[O-]"),
        ("CCCCO", "CCCCCO"),
        ("CCCCO", "CCCO"),
        ("CCCCO", "CCCC=O"),
        ("CCC(C)=O", "CCC(C)O"),
        ("CCO", "CCOC"),
        ("c1ccccc1", "Oc1ccccc1"),
        ("CCC(=O)O", "CCC(=O)OC"),
    ],
)
def test_a_step_of_chemistry_is_among_the_edits(smiles: str, wanted: str) -> None:
    assert Chem.CanonSmiles(wanted) in edited(smiles)


@pytest.mark.parametrize(
    "smiles", ["C[C@H](N)C(=O)O", "*CC*", "[U]", "b1ccccc1", "[2H]O[2H]", "[Na+].[Cl-]", "C" * 300, "O=C1c2ccccc2C(=O)N1"]
)
def test_edits_are_valid_canonical_new_and_never_repeated(smiles: str) -> None:
    found = edited(smiles)
    assert [Chem.CanonSmiles(other) for other in found] == found
    assert len({*found, Chem.CanonSmiles(smiles)}) == len(found) + 1
    assert edited(smiles) == found


def test_what_cannot_be_read_cannot_be_edited() -> None:
    with pytest.raises(ValueError, match="C1CC"):
        edited("C1CC")


def test_rounds_of_edits_climb_towards_the_better_score() -> None:
    def like_nonanol(smiles: Sequence[str]) -> NDArray[np.float32]:
        return np.array([-abs(Chem.MolFromSmiles(other).GetNumAtoms() - 10) for other in smiles], dtype=np.float32)

    first, later = (improved(["CCCCCO"], like_nonanol, rounds, 3) for rounds in (1, 4))
    assert like_nonanol(first[:1]) == -3
    assert like_nonanol(later[:1]) == 0
    assert "CCCCCO" not in later
    assert improved([], like_nonanol, 2, 3) == []
