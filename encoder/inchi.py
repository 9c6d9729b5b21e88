"""InChIKeys as identity, a stand-in where InChI has no answer, and the usual drawing of what an InChI leaves open."""

import hashlib

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

rdBase.DisableLog("rdApp.*")

# An InChI does not say where a mobile hydrogen or the charge of an ion sits, and RDKit's choice is seldom a chemist's: charges go to
# the strongest acid, hydrogens make amides, lactams and amines.
_MOBILE_HYDROGEN_RULES = """//
charge to sulfur acid	([O;-1;$(O-C=N),$(O-C=C),$(O-c),$(O-C=O),$(O-P=O):1].[O;H1;$(O-S=O):2])>>([O;H1;+0:1].[O;H0;-1:2])
charge to phosphorus acid	([O;-1;$(O-C=N),$(O-C=C),$(O-c),$(O-C=O):1].[O;H1;$(O-P=O);!$(O-P-[O;-1]):2])>>([O;H1;+0:1].[O;H0;-1:2])
charge to carboxylic acid	([O;-1;$(O-C=N),$(O-C=C),$(O-c):1].[O;H1;$(O-C=O):2])>>([O;H1;+0:1].[O;H0;-1:2])
second charge to phosphorus acid	([O;-1;$(O-C=N),$(O-C=C),$(O-c):1].[O;H1;$(O-P=O):2])>>([O;H1;+0:1].[O;H0;-1:2])
amide	[O,S;H1;X2;+0:1]-[C;+0:2]=[N;+0;H0;X2:3]>>[*;H0:1]=[C:2]-[N:3]
primary amide	[O,S;H1;X2;+0:1]-[C;+0:2]=[N;+0;H1:3]>>[*;H0:1]=[C:2]-[N;H2:3]
lactam	[O,S;H1;X2;+0:1]-[c;+0:2]:[n;+0;X2;H0:3]>>[*;H0:1]=[c:2]:[nH:3]
amine away from a lactam	[N;X2;+0:1]=[c:2]:[nH:3]:[c;!$(c=[O,S]):4]>>[N:1]-[c:2]:[n;H0:3]:[c:4]
amine	[N;X2;+0:1]=[c:2]:[nH:3]>>[N:1]-[c:2]:[n;H0:3]
amine across the ring	[N;X2;+0:1]=[c:2]:[c,n:3]:[c,n:4]:[nH:5]>>[N:1]-[c:2]:[*:3]:[*:4]:[n;H0:5]
9H-purine	[nH;r6:1]:[c;R2:2]:[n;r5;H0;X2:3]>>[n;H0:1]:[c:2]:[nH:3]
histidine	[nH:1]1:[c;$(c-[#6]):2]:[cH:3]:[n;X2:4]:[cH:5]:1>>[n;H0:1]1:[c:2]:[cH:3]:[nH:4]:[cH:5]:1
"""
_MOBILE_HYDROGENS = rdMolStandardize.NormalizerFromData(_MOBILE_HYDROGEN_RULES, rdMolStandardize.CleanupParameters())
_STAND_IN_FLAG = "XX"


def inchikey(molecule: Chem.Mol, smiles: str) -> str:
    """Standard InChIKey of a molecule, or the stand-in key of its canonical SMILES where InChI cannot express it.

    InChI knows no attachment points, quadruple bonds or molecules of more than 1,023 atoms.
    """
    if "->" in smiles or "<-" in smiles:
        molecule = _without_dative_bonds(molecule)
    return Chem.MolToInchiKey(molecule) or stand_in_key(molecule, smiles)


def keeps_identity(molecule: Chem.Mol, inchi: str) -> bool:
    """Whether the molecule read from a standard InChI still has its InChIKey; of a non-standard InChI nothing can be said."""
    return not inchi.startswith("InChI=1S/") or Chem.MolToInchiKey(molecule) == Chem.InchiToInchiKey(inchi)


def is_standard_inchikey(key: str) -> bool:
    """Tell an InChIKey from a stand-in, which has the same shape and `XX` where an InChIKey has `SA`."""
    return not key.endswith(_STAND_IN_FLAG, 0, 25)


def stand_in_key(molecule: Chem.Mol, smiles: str) -> str:
    """A key shaped like an InChIKey: 14 letters hashed from the skeleton, 8 from the full SMILES, `XX`, `X`."""
    skeleton = Chem.MolToSmiles(molecule, isomericSmiles=False)
    return f"{_letters(skeleton, 14)}-{_letters(smiles, 8)}{_STAND_IN_FLAG}-X"


def settle_mobile_hydrogens(molecule: Chem.Mol) -> Chem.Mol:
    """Draw a molecule read from an InChI as chemists would: amides, lactams and amines instead of their tautomers.

    The InChI stays the same, otherwise the molecule is returned as it was.
    """
    settled = Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    if settled is None:
        return molecule
    try:
        _MOBILE_HYDROGENS.normalizeInPlace(settled)
        settled = Chem.MolFromSmiles(Chem.MolToSmiles(settled))
    # A rule may lead where RDKit cannot follow (no Kekulé structure); the molecule is then left alone.
    except (ValueError, RuntimeError):
        return molecule
    return settled if settled is not None and Chem.MolToInchi(settled) == Chem.MolToInchi(molecule) else molecule


def _without_dative_bonds(molecule: Chem.Mol) -> Chem.Mol:
    """The donors beside the metal, as the standard InChI sees a complex: RDKit's InChI writer refuses dative bonds."""
    parts = Chem.RWMol(molecule)
    dative = [(bond.GetBeginAtom(), bond.GetEndAtom()) for bond in parts.GetBonds() if bond.GetBondType() == Chem.BondType.DATIVE]
    for donor, acceptor in dative:
        donor.SetNumExplicitHs(donor.GetTotalNumHs())
        donor.SetNoImplicit(True)
        parts.RemoveBond(donor.GetIdx(), acceptor.GetIdx())
    return parts.GetMol()


def _letters(text: str, count: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest())
    letters = []
    for _ in range(count):
        number, rest = divmod(number, 26)
        letters.append(chr(ord("A") + rest))
    return "".join(letters)
