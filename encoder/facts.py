"""Facts of a molecule that can be counted: formula, charge, rings, functional groups."""

from collections.abc import Mapping
from functools import cache

from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

# Patterns that any molecule of the class has; wide rather than narrow, as what they miss is taken for an error.
GROUPS: Mapping[str, str] = {
    "carboxylic acid": "[CX3](=[OX1])[OX2H1,OX1-]",
    "ester": "[CX3](=[OX1])[OX2][#6]",
    "alcohol": "[CX4;!$(C=O)][OX2H]",
    "primary alcohol": "[CX4;H2,H3][OX2H]",
    "secondary alcohol": "[CX4H][OX2H]",
    "tertiary alcohol": "[CX4H0][OX2H]",
    "phenol": "c[OX2H1,OX1-]",
    "ether": "[#6,#14][#8X2][#6,#14,#7]",
    "aromatic ether": "[#6][OX2]c",
    "ketone": "[#6]~[#6](=[OX1])~[#6]",
    "aldehyde": "[CX3;H1,H2]=[OX1]",
    "nitrile": "[CX2]#[NX1]",
    "sulfonamide": "[#16](=[OX1])(=[OX1])[#7]",
    "sulfone": "[#6][#16](=[OX1])(=[OX1])[#6]",
    "sulfoxide": "[#6][#16X3](=[OX1])[#6]",
    "thiol": "[#6][SX2H,SX1-]",
    "amide": "[#6X3](=[#8,#16])[#7]",
    "primary amino group": "[#6][NX3H2,NX4H3+]",
    "amine": "[#6][#7]",
    "nitro group": "[#7](~[OX1])~[OX1]",
    "epoxide": "[#6]1[#8][#6]1",
    "lactone": "[#6;R](=[OX1])[#8;R]",
    "lactam": "[#6;R](=[OX1])[#7;R]",
    "urea": "[#7][#6](=[OX1])[#7]",
    "benzene ring": "c1ccccc1",
    "pyridine ring": "n1aaaaa1",
    "furan skeleton": "[#8]1~[#6]~[#6]~[#6]~[#6]~1",
    "thiophene ring": "s1aaaa1",
    "indole ring system": "[#6]~1~[#6]~[#6]~[#6]~[#6]~2~[#6]~1~[#7]~[#6]~[#6]~2",
    "heterocyclic ring": "[!#6;R]",
    "azide": "[#7]~[#7]~[#7]",
    "phosphate": "[#15](~[#8])(~[#8])~[#8]",
    "phosphonic acid": "[#6][#15](=[OX1])([#8])[#8]",
    "sulfonic acid": "[#6,#7][#16](=[OX1])(=[OX1])[OX2H1,OX1-]",
}


@cache
def _pattern(group: str) -> Chem.Mol:
    return Chem.MolFromSmarts(GROUPS[group])


class Facts:
    """What can be counted in one molecule."""

    def __init__(self, smiles: str) -> None:
        """ValueError for a SMILES that cannot be read."""
        self.smiles = smiles
        self._molecule = Chem.MolFromSmiles(smiles)
        if self._molecule is None:
            raise ValueError(f"{smiles[:200]!r} is no molecule whose facts can be counted")

    @property
    def formula(self) -> str:
        """In Hill order, without its charge."""
        return str(CalcMolFormula(self._molecule)).partition("+")[0].partition("-")[0]

    @property
    def charge(self) -> int:
        """Net charge in elementary charges."""
        return int(Chem.GetFormalCharge(self._molecule))

    @property
    def fragments(self) -> int:
        """Parts that no bond holds together: the ions of a salt, molecules of water."""
        return len(Chem.GetMolFrags(self._molecule))

    @property
    def is_zwitterion(self) -> bool:
        """Whether it carries positive and negative charges."""
        charges = [atom.GetFormalCharge() for atom in self._molecule.GetAtoms()]
        return any(charge > 0 for charge in charges) and any(charge < 0 for charge in charges)

    @property
    def rings(self) -> int:
        """Smallest rings that describe all (SSSR)."""
        return int(self._molecule.GetRingInfo().NumRings())

    @property
    def is_aromatic(self) -> bool:
        """Whether any atom is aromatic."""
        return any(atom.GetIsAromatic() for atom in self._molecule.GetAtoms())

    def has_element(self, symbol: str) -> bool:
        """Whether any atom is of the element."""
        return any(atom.GetSymbol() == symbol for atom in self._molecule.GetAtoms())

    def count(self, group: str) -> int:
        """How often a functional group of GROUPS occurs."""
        return len(self._molecule.GetSubstructMatches(_pattern(group), maxMatches=100))
