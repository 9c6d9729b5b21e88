"""The one door to chemistry: any spelling of a molecule in, one standardised molecule out, or a reason why not."""

from dataclasses import dataclass, field

from rdkit import Chem

from encoder.descriptors import FINGERPRINT_BITS, Descriptors, describe, fingerprint
from encoder.inchi import is_standard_inchikey
from encoder.normal_form import normal_form, parent_form
from encoder.notations import parse, parse_any, parse_inchi, parse_molblock, parse_smiles
from encoder.structures import DEFAULT_LIMITS, Kind, Limits, MoleculeError, Reason, Structure

__all__ = [
    "DEFAULT_LIMITS",
    "FINGERPRINT_BITS",
    "STANDARD_VERSION",
    "Descriptors",
    "Kind",
    "Limits",
    "Molecule",
    "MoleculeError",
    "Reason",
    "Structure",
    "is_standard_inchikey",
    "parse_any",
    "parse_inchi",
    "parse_molblock",
    "parse_smiles",
    "standardise",
    "standardise_structure",
]

# Part of every model's hash. Raise it whenever any field of any Molecule changes, be it by this code or by a new RDKit: the golden
# test tells when.
STANDARD_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Molecule:
    """A standardised molecule: equal for every spelling of the same structure."""

    smiles: str
    """Canonical isomeric SMILES of the full structure, as RDKit writes it; reading and writing it again changes nothing."""
    inchikey: str
    """Standard InChIKey of the full structure: its identity. Where InChI has no answer, a stand-in (`is_standard_inchikey` is false)."""
    parent_smiles: str
    """Canonical SMILES of the compound without counter-ions and, where protons can do it, without charges."""
    parent_inchikey: str
    """InChIKey of the parent: the same for an acid and its salts."""
    skeleton: str
    """First block of the parent's InChIKey: the same for stereoisomers, isotopologues, salts and protonation states."""
    descriptors: Descriptors
    fingerprint: bytes = field(repr=False)
    """Morgan fingerprint of the full structure, 256 bytes."""


def standardise(text: str, limits: Limits = DEFAULT_LIMITS) -> Molecule:
    """Standardise a molecule written as SMILES, InChI, molfile or SD record, whichever it is.

    Raises `MoleculeError` with a reason, and nothing else for any text. Takes milliseconds for an ordinary molecule but is not
    interruptible: whoever handles text of strangers goes through the chemistry pool.
    """
    return standardise_structure(Structure("auto", text), limits)


def standardise_structure(structure: Structure, limits: Limits = DEFAULT_LIMITS) -> Molecule:
    """Standardise a structure whose notation is known; see `standardise`."""
    molecule = parse(structure, limits)
    try:
        return _standardised(molecule)
    except (MoleculeError, MemoryError):
        raise
    # RDKit raises half a dozen unrelated types on structures it reads but cannot work with; to the caller they are all one thing.
    except Exception as error:
        raise MoleculeError(
            Reason.UNSUPPORTED, f"RDKit reads this structure but cannot standardise it ({type(error).__name__})."
        ) from error


def _standardised(molecule: Chem.Mol) -> Molecule:
    full = normal_form(molecule)
    parent = parent_form(full)
    return Molecule(
        smiles=full.smiles,
        inchikey=full.inchikey,
        parent_smiles=parent.smiles,
        parent_inchikey=parent.inchikey,
        skeleton=parent.inchikey.partition("-")[0],
        descriptors=describe(full.molecule),
        fingerprint=fingerprint(full.molecule),
    )
