"""One form for every spelling of a molecule: groups drawn one way, ionic salts, canonical SMILES, and the parent compound."""

import re
from dataclasses import dataclass

from rdkit import Chem, rdBase
from rdkit.Chem import rdqueries
from rdkit.Chem.MolStandardize import rdMolStandardize

from encoder.inchi import inchikey, is_standard_inchikey
from encoder.structures import MoleculeError, Reason

rdBase.DisableLog("rdApp.*")

# One way of drawing each group that has several. Every rule needs a cation, so a molecule without one skips them all. Charges are
# only moved where they cancel or delocalise: acids, bases and zwitterions stay as given, for ChEBI tells acetate from acetic acid.
_GROUP_RULES = """//
sulfone	[S;+2:1](-[O;-1:2])-[O;-1:3]>>[S;+0:1](=[O;+0:2])=[O;+0:3]
sulfoxide, phosphine oxide	[S,Se,Te,P,As;+1:1]-[O,S;-1;X1:2]>>[*;+0:1]=[*;+0:2]
azide	[#6,#7,#16:1]-[N;-1;X2:2]-[N;+1;X2:3]#[N;+0;X1:4]>>[*:1]-[N;+0:2]=[N;+1:3]=[N;-1:4]
diazo	[C;-1:1]-[N;+1;X2:2]#[N;+0;X1:3]>>[C;+0:1]=[N;+1:2]=[N;-1:3]
neighbouring charges	[N,P,O,S;-1:1]-[C;+1:2]>>[*;+0:1]=[C;+0:2]
charges across a carbon	[N,O,S;-1:1]-[C;+0:2]=[N,O;+1;!$(*~[-]):3]>>[*;+0:1]=[C:2]-[*;+0:3]
2-pyridone	[N,O,S;-1:1]-[c;+0:2]:[n;+1;!$(*~[-]):3]>>[*;+0:1]=[c:2]:[n;+0:3]
4-pyridone	[N,O,S;-1:1]-[c;+0:2]:[c,n;+0:3]:[c,n;+0:4]:[n;+1;!$(*~[-]):5]>>[*;+0:1]=[c:2]:[*:3]:[*:4]:[n;+0:5]
amidinium	[N;+0;!H0:1]-[C:2]=[N;+1;H0;!$(*~[-]):3]>>[N;+1:1]=[C:2]-[N;+0:3]
"""
_GROUPS = rdMolStandardize.NormalizerFromData(_GROUP_RULES, rdMolStandardize.CleanupParameters())

# RDKit's own list of metals would also take haem and cobalamin apart, and invents hydrogens on aluminium and tin.
_SALT_METALS = "[Li,Na,K,Rb,Cs,Fr,Ca,Sr,Ba,Ra]"
_HAS_SALT_METAL = re.compile(r"\[\d*(?:Li|Na|K|Rb|Cs|Fr|Ca|Sr|Ba|Ra)\b")
_SALTS = rdMolStandardize.MetalDisconnector()
_SALTS.SetMetalNof(Chem.MolFromSmarts(_SALT_METALS + "~[#7,#8,F]"))
_SALTS.SetMetalNon(Chem.MolFromSmarts(_SALT_METALS + "~[#16,#34,Cl,Br,I]"))

_HAS_ATOM_MAP = rdqueries.HasPropQueryAtom("molAtomMapNumber")
_HAS_CHARGE = re.compile(r"[+-]\d*\]")
_LARGEST_ORGANIC = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
# Protons only: hydride is never added, so the parent's InChIKey differs from the fragment's in its last letter at most.
_UNCHARGER = rdMolStandardize.Uncharger(canonicalOrder=True, force=False, protonationOnly=True)
_MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class NormalForm:
    """A molecule in its one form: `molecule` was read from `smiles`, so all that is computed from it depends on `smiles` alone."""

    smiles: str
    inchikey: str
    molecule: Chem.Mol


def normal_form(molecule: Chem.Mol) -> NormalForm:
    """Bring a sanitised molecule into the one form that all its spellings share.

    Kept: stereochemistry, isotopes, charges, all fragments, coordination bonds. Changed: atom maps go, groups are drawn one way, bonds
    between salt metals and heteroatoms become ionic. Tautomers are not merged. A standard InChIKey never changes, so keys published
    elsewhere find the compound: a repair that would change it is not made.
    """
    for atom in molecule.GetAtomsMatchingQuery(_HAS_ATOM_MAP):
        atom.SetAtomMapNum(0)
    smiles, molecule = canonical(molecule)
    key = inchikey(molecule, smiles)
    for _ in range(_MAX_ROUNDS):
        repaired = _repair(molecule, smiles)
        if repaired is None:
            break
        new_smiles, repaired = repaired
        new_key = inchikey(repaired, new_smiles)
        if new_key != key and is_standard_inchikey(key):
            break
        smiles, molecule, key = new_smiles, repaired, new_key
    return NormalForm(smiles, key, molecule)


def canonical(molecule: Chem.Mol) -> tuple[str, Chem.Mol]:
    """Canonical isomeric SMILES that survive being read again, and the molecule read from them.

    Raises `MoleculeError` (UNSUPPORTED) for the rare molecule whose SMILES RDKit cannot read back.
    """
    seen: list[str] = []
    smiles = Chem.MolToSmiles(molecule)
    while smiles not in seen:
        seen.append(smiles)
        molecule = _reread(smiles)
        smiles = Chem.MolToSmiles(molecule)
    if smiles != seen[-1]:
        # RDKit walks in a circle on a few symmetric cages; any rule that picks one member will do.
        smiles = min(seen[seen.index(smiles) :])
        molecule = _reread(smiles)
    return smiles, molecule


def parent_form(form: NormalForm) -> NormalForm:
    """The compound without its counter-ions: the largest organic fragment, uncharged by adding or removing protons alone.

    A mixture without carbon is its own parent: sodium chloride is not a kind of hydrogen chloride.
    """
    charged = _HAS_CHARGE.search(form.smiles) is not None
    molecule = form.molecule
    if "." in form.smiles:
        molecule = _LARGEST_ORGANIC.choose(molecule)
        if not any(atom.GetAtomicNum() == 6 for atom in molecule.GetAtoms()):
            return form
    elif not charged:
        return form
    try:
        uncharged = _UNCHARGER.uncharge(molecule) if charged else molecule
        return form if Chem.MolToSmiles(uncharged) == form.smiles else normal_form(uncharged)
    # A proton on cyclopentadienide ends its aromaticity, which RDKit does not notice: such a fragment keeps its charge.
    except (ValueError, RuntimeError, MoleculeError):
        return normal_form(molecule)


def _repair(molecule: Chem.Mol, smiles: str) -> tuple[str, Chem.Mol] | None:
    """Apply the rules once; None when they change nothing, or lead where RDKit cannot follow."""
    salt = _HAS_SALT_METAL.search(smiles) is not None
    if not salt and "+" not in smiles:
        return None
    try:
        repaired = _SALTS.Disconnect(molecule) if salt else Chem.Mol(molecule)
        # In place: the other way builds every possible product of every rule, and takes minutes over a polymer's hundred sulfoxides.
        _GROUPS.normalizeInPlace(repaired)
        if Chem.MolToSmiles(repaired) == smiles:
            return None
        new_smiles, repaired = canonical(repaired)
    except (ValueError, RuntimeError, MoleculeError):
        return None
    return None if new_smiles == smiles else (new_smiles, repaired)


def _reread(smiles: str) -> Chem.Mol:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise MoleculeError(Reason.UNSUPPORTED, "RDKit reads this structure but cannot read back the SMILES it writes for it.")
    return molecule
