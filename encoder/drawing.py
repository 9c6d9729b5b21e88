"""Drawings of molecules as SVG, with atoms coloured by whoever knows why."""

import re
from dataclasses import dataclass

from rdkit import Chem

from encoder.molecules import DEFAULT_LIMITS, Limits, Structure, standardise_structure
from encoder.patterns import matched_atoms, read_pattern

# Atoms that a substructure matched: amber, legible under black and under white lines.
MATCHED_COLOUR = "#f2a93b"
_RADIUS = 0.35
_DECLARATION = re.compile(r"<\?xml[^>]*\?>\s*")


@dataclass(frozen=True)
class Look:
    """How a molecule is drawn: size in pixels, and what is coloured."""

    width: int = 300
    height: int = 200
    dark: bool = False
    # SMARTS or SMILES whose atoms are marked; empty for none.
    substructure: str = ""
    # Atoms of the canonical SMILES, from 0, and their colours as `#rrggbb`; they win over the substructure's.
    colours: tuple[tuple[int, str], ...] = ()


def draw(look: Look, structure: Structure, limits: Limits = DEFAULT_LIMITS) -> str:
    """The standardised structure as an SVG element on no background. Raises `MoleculeError`, also for the substructure."""
    # Heavy to import, and only the processes that draw need it.
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = Chem.MolFromSmiles(standardise_structure(structure, limits).smiles)
    marked = matched_atoms(read_pattern(look.substructure, limits), molecule) if look.substructure else []
    colours = {atom: _rgb(MATCHED_COLOUR) for atom in marked}
    colours.update((atom, _rgb(colour)) for atom, colour in look.colours if 0 <= atom < molecule.GetNumAtoms())
    canvas = rdMolDraw2D.MolDraw2DSVG(look.width, look.height)
    options = canvas.drawOptions()
    options.clearBackground = False
    options.fillHighlights = True
    if look.dark:
        rdMolDraw2D.SetDarkMode(options)
    bonds = {
        bond.GetIdx(): colours[bond.GetBeginAtomIdx()]
        for bond in molecule.GetBonds()
        if colours.get(bond.GetBeginAtomIdx()) is not None and colours.get(bond.GetBeginAtomIdx()) == colours.get(bond.GetEndAtomIdx())
    }
    prepared = rdMolDraw2D.PrepareMolForDrawing(molecule)
    canvas.DrawMolecule(
        prepared,
        highlightAtoms=list(colours),
        highlightAtomColors=colours,
        highlightBonds=list(bonds),
        highlightBondColors=bonds,
        highlightAtomRadii=dict.fromkeys(colours, _RADIUS),
    )
    canvas.FinishDrawing()
    # The element alone, so that a page can hold it.
    return _DECLARATION.sub("", canvas.GetDrawingText()).strip()


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
