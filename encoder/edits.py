"""Molecules one small step away from a given one: other charges, the mirror image, a link more or less in a chain, a group more or less."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdChemReactions
from rdkit.Chem.MolStandardize import rdMolStandardize

_ACID = "[OX2H1;$(O[C,S,P]=O):1]>>[O-:1]"
_BASE = "[NX3;!$(N-[C,S,P,N]=[O,S,N]);!$(N-a);!$(N#*);!$(N=*):1]>>[N+:1]"
_STEPS = {
    "a base is protonated": _BASE,
    "a link is added to a chain": "[CH2;!R:1][CH2,CH3;!R:2]>>[C:1]C[C:2]",
    "a link is taken from a chain": "[CH2,CH3;!R:1][CH2;!R][CH2;!R:2]>>[C:1][C:2]",
    "a methyl group is added to a hetero atom": "[OX2H1,NX3;H1,H2:1]>>[*:1]C",
    "a methyl group is lost from a hetero atom": "[O,N;!$([N+]):1][CH3]>>[*:1]",
    "a hydroxy group is added": "[C;H1,H2,H3;!$(C=O);!$(C-[O,N]):1]>>[C:1]O",
    "a hydroxy group is added to a ring": "[c;H1:1]>>[c:1]O",
    "a hydroxy group is lost": "[C,c;!$(C=O):1][OX2H1]>>[*:1]",
    "a hydroxy group is oxidised": "[C;H1,H2;!$(C=O):1][OX2H1:2]>>[C:1]=[O:2]",
    "a carbonyl group is reduced": "[#6:3][C;!$(C-[O,N,S]):1](=[O:2])[#6:4]>>[#6:3][C:1]([O:2])[#6:4]",
    "a double bond is added to a chain": "[CH2;!R:1][CH2;!R:2]>>[C:1]=[C:2]",
    "a double bond is lost from a chain": "[C;!R:1]=[C;!R:2]>>[C:1][C:2]",
    "an acid is esterified": "[C:1](=[O:2])[OX2H1:3]>>[C:1](=[O:2])[O:3]C",
}
_EACH = 12
"""Products of one step at most: a long chain has many places for the same change."""


def edited(smiles: str) -> list[str]:
    """Canonical SMILES of the molecules one step away, without repetitions and without the molecule itself; ValueError when unreadable.

    Charges come first: texts often describe a molecule by its conjugate acid or base.
    """
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"{smiles[:200]!r} is no molecule that can be edited")
    found = {str(Chem.MolToSmiles(molecule)): False}
    with rdBase.BlockLogs():
        for other in _products(molecule):
            try:
                Chem.SanitizeMol(other)
                written = str(Chem.MolToSmiles(other))
            except (ValueError, RuntimeError):
                continue
            if Chem.MolFromSmiles(written) is not None:
                found.setdefault(written, True)
    return [other for other, is_new in found.items() if is_new]


def improved(starts: Sequence[str], score: Callable[[Sequence[str]], NDArray[np.float32]], rounds: int, kept: int) -> list[str]:
    """Molecules found by editing some molecules, and the best `kept` again in every further round; all of them, best first, no start among them.

    `score` gives each SMILES a number, the higher the better.
    """
    found: dict[str, float] = dict.fromkeys(starts, -np.inf)
    edit_next = list(starts)
    done: set[str] = set()
    for _ in range(rounds):
        done.update(edit_next)
        fresh = list(dict.fromkeys(other for smiles in edit_next for other in edited(smiles) if other not in found))
        if not fresh:
            break
        found.update(zip(fresh, score(fresh).tolist(), strict=True))
        edit_next = [smiles for smiles in _best_first(found) if smiles not in done][:kept]
    return [smiles for smiles in _best_first(found) if smiles not in set(starts)]


def _best_first(found: dict[str, float]) -> list[str]:
    return sorted(found, key=lambda smiles: -found[smiles])


def _products(molecule: Chem.Mol) -> Iterator[Chem.Mol]:
    neutral = rdMolStandardize.Uncharger().uncharge(Chem.Mol(molecule))
    yield neutral
    for start in (molecule, neutral):
        yield from _deprotonated(start)
    yield _mirrored(molecule)
    for name in _STEPS:
        for (product,) in _reaction(_STEPS[name]).RunReactants((molecule,), maxProducts=_EACH):
            yield product


def _deprotonated(molecule: Chem.Mol) -> Iterator[Chem.Mol]:
    """With one acid hydrogen less, with two, and so on to the last, each the first that is found."""
    present = molecule
    for _ in range(_EACH):
        products = _reaction(_ACID).RunReactants((present,), maxProducts=1)
        if not products:
            return
        present = products[0][0]
        try:
            Chem.SanitizeMol(present)
        except (ValueError, RuntimeError):
            return
        yield Chem.Mol(present)
        for (zwitterion,) in _reaction(_BASE).RunReactants((present,), maxProducts=1):
            yield zwitterion


def _mirrored(molecule: Chem.Mol) -> Chem.Mol:
    other = Chem.Mol(molecule)
    for atom in other.GetAtoms():
        atom.InvertChirality()
    return other


@cache
def _reaction(smarts: str) -> rdChemReactions.ChemicalReaction:
    return rdChemReactions.ReactionFromSmarts(smarts)
