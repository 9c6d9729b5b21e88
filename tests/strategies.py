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
HARD_SMILES: tuple[str, ...] = (
    "Cl[C@H]1[C@H](Cl)[C@@H](Cl)[C@H](Cl)[C@H](Cl)[C@H]1Cl",
    "O[C@@]1(/C=C/[C@H](CCC=2C(O[C@H](C/C(=C/CC1)/C)C2)=O)C(C)C)C",
    "C(N)(O[C@@H]\\1[C@H](\\C=C/C=C(/C(NC2=CC(C(=C(C[C@H](C[C@@H]([C@@H]([C@H](/C=C1\\C)C)O)OC)C)C2=O)NCCN(C)C)=O)=O)\\C)OC)=O",
    "O[C@H]1CC(O[C@@H](C\\C=C/CCC[C@@H]([C@@H]([C@H](C(C1(C)C)=O)C)O)C)/C(=C/C=1N=C(SC1)C)/C)=O",
    "C/1=C\\CCCCCC1",
    "C/C=1/CC[C@@H]2[C@H](OC(C2=C)=O)/C=C(/CC/C1)\\C",
    "C[C@]12OC([C@H](C[C@H]1O)CC2)(C)C",
    "C(=O)(O)CC\\C=C/C[C@H]([C@H](C=CC=C\\C=C/C=C/[C@H](C\\C=C/CC)O)SC[C@H](N)C(=O)NCC(=O)O)O",
    "C(CCCCCCC\\C=C/C=C1[C@H](CCCCC)O1)(=O)[O-]",
    "O=C1[N-]C([CH-]C(N1)=O)=O",
    "c1[cH-]cnn1",
    "[CH-]1C=CC=C1.[CH-]1C=CC=C1.[Ru+2]",
    "C(=O)([O-])C[C-]1OC(C=C1C(=O)[O-])=O",
    "C(=O)(O)CCCC(=O)N[C-]1C=CC=C1.CN(C(=O)[C-]1C=CC=C1)C.[Fe+2]",
    "C[C-]1C(NC(NC1=O)=O)=O",
    "[Cl-].CC(/C=C(\\B1OC(C(O1)(C)C)(C)C)/[C-]1C=CC=C1)(C)C.[CH-]1C=CC=C1.[Zr+2]",
    "C1(=CC=CC=C1)P([C-]1C=CC=C1)C1=CC=CC=C1.[C-]1(C=CC=C1)P(C1=CC=CC=C1)C1=CC=CC=C1.[Fe+2]",
    "F[P-](F)(F)(F)(F)F",
    "OC1=CC2=C(N=C(S2)C=2S[CH-]C(N2)=O)C=C1",
    "C[N+]1=C2C=CC=C(C2=NC2=CC=CC=C12)[O-]",
    "I=O",
    "[NH3+][C@H](C(=O)[O-])C[N+]1=CC(=C(C=C1)[O-])[O-]",
    "Nc1c([S@+]([O-])C(F)(F)F)c(nn1-c1c(Cl)cc(cc1Cl)C(F)(F)F)C#N",
    "[H][N]([H])([H])[Pt](Cl)(Cl)[N]([H])([H])[H]",
    "[H][N]1([H])[C@@H]2CCCC[C@H]2[N]([H])([H])[Pt]11OC(=O)C(=O)O1",
    "C12C(C3C(C(CC3)*)(C)CC1)CCC=4C2(CCC(C4)=O)C",
    "[SiH2-][SiH3]",
    "C(CCC)[N+]1(OI(C2=C1C=CC=C2)([O-])=O)C",
    "[Fe-4](C#N)(C#N)(C#N)(C#N)(C#N)C#N.[NH4+].[NH4+].[NH4+].[NH4+]",
    "C(=O)([O-])CC(=O)OC[C@@H]1[C@H]([C@@H]([C@H]([C@H](OC=2C(=[O+]C3=CC(=CC(=C3C2)[O-])[O-])C2=CC(=C(C(=C2)O)O)O)O1)O)O)O",
    "[H][C@@]1(C)CNC(=O)CC[C@]2(C)[C@@H](CC(N)=O)[C@@]3([H])N4C2=C(C)C2=[N+]5C(=CC6=[N+]7C(=C(C)C8=[N+]([C@]3(C)[C@@](C)(CC(N)=O)[C@@H]8CCC(N)=O)[Co-3]457(C#N)[n+]3cn([C@H]4O[C@H](CO)[C@@H](OP([O-])(=O)O1)[C@H]4O)c1cc(C)c(C)cc31)[C@@](C)(CC(N)=O)[C@@H]6CCC(N)=O)C(C)(C)[C@@H]2CCC(N)=O",
    "O=C(C)[CH-]C(C)=O.[Cr+2].O=C(C)[CH-]C(C)=O",
    "[Na].C(C)(=O)NS(=O)(C1=CC=C(C=C1)N)=O",
    "[Fe-3](C#N)(C#N)(C#N)(C#N)(C#N)C#N",
    "[H][C@@]1(C[C@@H]2CC[N@]1C[C@@H]2C=C)[C@@H](O)c1ccnc2ccc(OC)cc12",
    "C1(=CC=CC=C1)/C=1/C=2C=C\\C(=C(\\C3=CC=C(\\C(=C/4\\C=C/C(=C(/C=5C=C\\C(=C(\\C6=CC=C(\\C(=C/7\\C=C/C1/N7)\\C7=C(C=C(C=C7C)C)C)C=C6)/C6=C(C=C(C=C6C)C)C)\\N5)\\C5=CC=CC=C5)/N4)\\C4=C(C=C(C=C4C)C)C)C=C3)/C3=C(C=C(C=C3C)C)C)\\N2",
)


@cache
def library_rows(every: int = 100) -> tuple[tuple[str, str], ...]:
    """Every hundredth readable structure of the shipped library as its source spells it, with its published InChIKey."""
    with gzip.open(DATA / "chebi.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for i, line in enumerate(lines) if i % every == 0]
    return tuple((row["smiles"], row["inchikey"]) for row in rows if Chem.MolFromSmiles(row["smiles"]) is not None)


def library_smiles() -> tuple[str, ...]:
    """A sample of the shipped library, ordinary structures first, then the hard ones."""
    return (*(smiles for smiles, _ in library_rows()), *HARD_SMILES)


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
        characters[position : position + draw(st.integers(0, 2))] = draw(
            st.text(st.sampled_from(_SMILES_CHARACTERS) | st.characters(), max_size=2)
        )
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
