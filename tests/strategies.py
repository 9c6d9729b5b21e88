"""Hypothesis strategies for chemistry: real molecules, their spellings, and text that is none."""

import gzip
import json
from functools import cache
from pathlib import Path

from hypothesis import assume
from hypothesis import strategies as st
from rdkit import Chem

from encoder.molecules import Structure

DATA = Path(__file__).parents[1] / "data"

# Structures of the library on which canonical SMILES, stereochemistry or standardisation have been seen to go astray.
HARD_SMILES = ()


@cache
def library_smiles(every: int = 100) -> tuple[str, ...]:
    """Structures of the shipped library as their source spells them: every hundredth one, then the hard ones."""
    with gzip.open(DATA / "chebi.jsonl.gz", "rt") as lines:
        sample = [json.loads(line)["smiles"] for i, line in enumerate(lines) if i % every == 0]
    return (*(smiles for smiles in sample if Chem.MolFromSmiles(smiles) is not None), *HARD_SMILES)


real_smiles = st.deferred(lambda: st.sampled_from(library_smiles()))


@st.composite
def spellings(draw: st.DrawFn, smiles: str) -> Structure:
    """Another way of writing the same molecule.

    RDKit as a writer loses stereochemistry now and then (ring stereo in random order, diene geometry in a drawing). What it
    itself does not read back as the same InChIKey is no spelling of the molecule and is thrown away.
    """
    molecule = Chem.MolFromSmiles(smiles)
    how = draw(st.sampled_from(["random", "kekulised", "explicit hydrogens", "molfile V2000", "molfile V3000"]))
    # Renumbering atoms makes every writer below start elsewhere, reproducibly.
    order = draw(st.permutations(range(molecule.GetNumAtoms())))
    shuffled = Chem.RenumberAtoms(molecule, list(order))
    if how.startswith("molfile"):
        block = Chem.MolToMolBlock(shuffled, forceV3000=how.endswith("V3000"))
        assume(_same(molecule, Chem.MolFromMolBlock(block)))
        return Structure("molblock", block)
    if how == "kekulised":
        Chem.Kekulize(shuffled, clearAromaticFlags=True)
    if how == "explicit hydrogens":
        shuffled = Chem.AddHs(shuffled)
    text = Chem.MolToSmiles(shuffled, canonical=False, kekuleSmiles=how == "kekulised")
    assume(_same(molecule, Chem.MolFromSmiles(text)))
    return Structure("smiles", text)


def _same(molecule: Chem.Mol, reread: Chem.Mol | None) -> bool:
    return reread is not None and Chem.MolToInchiKey(molecule) == Chem.MolToInchiKey(reread)


_SMILES_CHARACTERS = "CNOPSFIBrcnos[]()=#$:./\\@+-%0123456789*H~>|"


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A text with a few characters removed, doubled or replaced."""
    characters = list(text)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(characters) - 1)))
        characters[position : position + draw(st.integers(0, 2))] = draw(st.text(st.sampled_from(_SMILES_CHARACTERS) | st.characters(), max_size=2))
    return "".join(characters)


def _other_notations(smiles: str) -> st.SearchStrategy[str]:
    molecule = Chem.MolFromSmiles(smiles)
    return st.sampled_from([smiles, Chem.MolToInchi(molecule), Chem.MolToMolBlock(molecule), Chem.MolToV3KMolBlock(molecule)])


nasty_text = st.one_of(
    st.text(),
    # Lone surrogates are text to Python and to nobody else.
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lu"])),
    st.text(st.sampled_from(_SMILES_CHARACTERS), max_size=60),
    st.text(st.sampled_from("InChI=1S/CHON123456789-(),;*hqpbtms+"), max_size=60).map("InChI=1S/".__add__),
    real_smiles.flatmap(_other_notations).flatmap(damaged),
)
