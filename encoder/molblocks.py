"""Molfiles of standardised molecules: drawn in two dimensions, and proved to read back as the same molecule."""

import threading

from rdkit import Chem
from rdkit.Chem import rdDepictor

from encoder.normal_form import normal_form
from encoder.notations import parse
from encoder.structures import DEFAULT_LIMITS, Limits, MoleculeError, Reason, Structure

# CoordGen is chosen by a flag of the whole process.
_COORDGEN = threading.Lock()


def molblock(structure: Structure, limits: Limits = DEFAULT_LIMITS) -> str:
    """The molecule as a V2000 molblock (V3000 from 1,000 atoms) with computed 2-D coordinates.

    Raises MoleculeError when the structure cannot be read, or when no drawing of it tells all of its stereochemistry. Takes milliseconds,
    but is not interruptible: see `encoder.molecules.standardise`.
    """
    molecule = parse(structure, limits)
    wanted = Chem.MolToSmiles(molecule)
    # A double bond drawn straight says where its ends lie, so one that leaves it open is drawn crossed.
    for place in Chem.FindPotentialStereo(molecule):
        if place.type == Chem.StereoType.Bond_Double and place.specified == Chem.StereoSpecified.Unspecified:
            molecule.GetBondWithIdx(place.centeredOn).SetStereo(Chem.BondStereo.STEREOANY)
    # RDKit's own layout is the tidier one; in a few bridged ring systems its wedges contradict each other and CoordGen's do not.
    for coordgen in (False, True):
        block = _drawn(molecule, coordgen)
        if _same(block, wanted):
            return block
    raise MoleculeError(Reason.UNSUPPORTED, "No drawing of this structure tells all of its stereochemistry; use its SMILES.")


def _drawn(molecule: Chem.Mol, coordgen: bool) -> str:
    drawn = Chem.Mol(molecule)
    with _COORDGEN:
        before = rdDepictor.GetPreferCoordGen()
        rdDepictor.SetPreferCoordGen(coordgen)
        try:
            rdDepictor.Compute2DCoords(drawn)
        finally:
            rdDepictor.SetPreferCoordGen(before)
    return str(Chem.MolToMolBlock(drawn))


def _same(block: str, wanted: str) -> bool:
    """Whether the block reads as the molecule: at once, or once it is standardised as an import would do."""
    read = Chem.MolFromMolBlock(block)
    if read is None:
        return False
    return Chem.MolToSmiles(read) == wanted or normal_form(read).inchikey == normal_form(Chem.MolFromSmiles(wanted)).inchikey
