"""Computed properties of a molecule by which searches filter, and its Morgan fingerprint."""

import re
from dataclasses import dataclass

from rdkit import Chem, DataStructs
from rdkit.Chem import Crippen, rdFingerprintGenerator, rdMolDescriptors
from rdkit.Chem import Descriptors as RDKitDescriptors

FINGERPRINT_BITS = 2048
FINGERPRINT_RADIUS = 2

_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BITS)
_ELEMENT = re.compile(r"[A-Z][a-z]?")
_CHARGE_AT_END = re.compile(r"[+-]\d*$")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Properties of the full standardised structure, counter-ions included."""

    molecular_weight: float
    """Average mass in g/mol; attachment points weigh nothing."""
    exact_mass: float
    """Monoisotopic mass in Da, without the mass of missing or extra electrons."""
    clogp: float
    """Crippen's logarithm of the octanol-water partition coefficient."""
    tpsa: float
    """Topological polar surface area in square ångström (nitrogen and oxygen)."""
    hbd: int
    """Hydrogen-bond donors."""
    hba: int
    """Hydrogen-bond acceptors."""
    rotatable_bonds: int
    """Rotatable bonds by RDKit's strict definition: no amides, no ring bonds."""
    rings: int
    """Smallest rings."""
    aromatic_rings: int
    """Smallest rings that are aromatic throughout."""
    heavy_atoms: int
    """Atoms other than hydrogen; attachment points do not count."""
    charge: int
    """Net charge in elementary charges."""
    stereo_centres: int
    """Tetrahedral stereocentres, specified or not."""
    fraction_csp3: float
    """Share of the carbon atoms that are sp3, 0 to 1."""
    formula: str
    """Molecular formula in Hill order, without charge; isotopes count as their element."""
    elements: tuple[str, ...]
    """Symbols of the elements present, sorted."""


def describe(molecule: Chem.Mol) -> Descriptors:
    """Compute the descriptors of a sanitised molecule with implicit hydrogens."""
    formula = _CHARGE_AT_END.sub("", rdMolDescriptors.CalcMolFormula(molecule))
    return Descriptors(
        molecular_weight=RDKitDescriptors.MolWt(molecule),
        exact_mass=rdMolDescriptors.CalcExactMolWt(molecule),
        clogp=Crippen.MolLogP(molecule),
        tpsa=rdMolDescriptors.CalcTPSA(molecule),
        hbd=rdMolDescriptors.CalcNumHBD(molecule),
        hba=rdMolDescriptors.CalcNumHBA(molecule),
        rotatable_bonds=rdMolDescriptors.CalcNumRotatableBonds(molecule),
        rings=rdMolDescriptors.CalcNumRings(molecule),
        aromatic_rings=rdMolDescriptors.CalcNumAromaticRings(molecule),
        heavy_atoms=molecule.GetNumHeavyAtoms(),
        charge=Chem.GetFormalCharge(molecule),
        stereo_centres=_stereo_centres(molecule),
        fraction_csp3=rdMolDescriptors.CalcFractionCSP3(molecule),
        formula=formula,
        elements=tuple(sorted(set(_ELEMENT.findall(formula)))),
    )


def fingerprint(molecule: Chem.Mol) -> bytes:
    """Morgan bit fingerprint (radius 2, 2,048 bits, no chirality) as 256 bytes, least significant bit first in each byte."""
    return bytes(DataStructs.BitVectToBinaryText(_MORGAN.GetFingerprint(molecule)))


def _stereo_centres(molecule: Chem.Mol) -> int:
    return sum(1 for site in Chem.FindPotentialStereo(molecule) if site.type == Chem.StereoType.Atom_Tetrahedral)
