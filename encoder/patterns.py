"""Substructure patterns: SMARTS, or a molecule in any notation, read into one query with errors that say where the mistake is."""

import re
from dataclasses import dataclass
from typing import Literal

from rdkit import Chem, rdBase

from encoder.normal_form import normal_form
from encoder.notations import parse_any, recognise
from encoder.structures import DEFAULT_LIMITS, Limits, MoleculeError, Reason

rdBase.DisableLog("rdApp.*")

# `smarts:[OH]` is read as SMARTS although it is valid SMILES too, `smiles:CCO` as nothing else than SMILES.
_PREFIX = re.compile(r"\s*(smarts|smiles):", re.IGNORECASE)
_LOG_POSITION = re.compile(r"around position (\d+)")
_RECURSION = re.compile(r"\$\(")
# RDKit reads `[#6]` in SMILES too, but whoever writes it thinks in SMARTS, where `[OH]` beside it asks for a hydrogen.
_ATOMIC_NUMBER = re.compile(r"\[[^\]]*#\d")
_MOST_RECURSIONS = 100
_ELEMENTS = 128
# In a pattern `*` stands for any atom; in a stored molecule it is an attachment point.
_ANY_ATOMS = Chem.AdjustQueryParameters.NoAdjustments()
_ANY_ATOMS.makeDummiesQueries = True


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for in molecules."""

    query: Chem.Mol
    notation: Literal["smarts", "molecule"]
    # The SMARTS, or the molecule as canonical SMILES, from which other toolkits can make the same query.
    text: str


def read_pattern(text: str, limits: Limits = DEFAULT_LIMITS) -> Pattern:
    """A pattern from SMILES, InChI or a molfile where the text is one, otherwise from SMARTS.

    A molecule is brought into the normal form of all stored molecules, so any of its spellings finds the same; its hydrogens are not part
    of the question, which those of SMARTS are. A prefix `smarts:` or `smiles:` decides where both would be possible.
    Raises `MoleculeError` (INVALID_SMARTS, EMPTY, TOO_LARGE), and nothing else for any text.
    """
    prefix = _PREFIX.match(text)
    forced = prefix[1].lower() if prefix else ""
    body = text[prefix.end() :] if prefix else text
    if not body.strip():
        raise MoleculeError(Reason.EMPTY, "The pattern is empty: give SMARTS or SMILES.")
    if forced == "smiles" or (not forced and not _ATOMIC_NUMBER.search(body)):
        try:
            form = normal_form(parse_any(body, limits))
            return Pattern(Chem.AdjustQueryProperties(form.molecule, _ANY_ATOMS), "molecule", form.smiles)
        except MoleculeError as error:
            if forced or error.reason is Reason.TOO_LARGE or recognise(body) != "smiles":
                raise
    return Pattern(_smarts(body, limits), "smarts", body.strip())


def matched_atoms(pattern: Pattern, molecule: Chem.Mol, most_matches: int = 1_000) -> list[int]:
    """Indices of the molecule's atoms that any match of the pattern covers, sorted; empty when it does not match."""
    params = match_parameters(most_matches)
    return sorted({atom for match in molecule.GetSubstructMatches(pattern.query, params) for atom in match})


def match_parameters(most_matches: int) -> Chem.SubstructMatchParameters:
    """How this service matches: constitution alone, as RDKit does by default; marks of stereochemistry in a pattern do not narrow it."""
    params = Chem.SubstructMatchParameters()
    params.useChirality = False
    params.maxMatches = most_matches
    return params


def misleads_screening(molecule: Chem.Mol) -> bool:
    """Whether a bond counts as aromatic for RDKit's pattern fingerprint but not for its matching: the triple bond of an aryne."""
    return any(bond.GetIsAromatic() and bond.GetBondType() != Chem.BondType.AROMATIC for bond in molecule.GetBonds())


def required_elements(pattern: Pattern) -> list[int]:
    """Atomic numbers that every match must hold; atoms that leave a choice count as none."""
    return sorted({atom.GetAtomicNum() for atom in pattern.query.GetAtoms() if _is_one_element(atom)})


def _is_one_element(atom: Chem.Atom) -> bool:
    if not 0 < atom.GetAtomicNum() < _ELEMENTS:
        return False
    if not atom.HasQuery():
        return True
    # One line is one primitive: `[Pt]`, `[#7]`, `c`; anything that branches or negates has more lines or `!=`.
    described = atom.DescribeQuery().strip()
    return "\n" not in described and described.startswith(("AtomAtomicNum ", "AtomType ")) and "!=" not in described


def _smarts(text: str, limits: Limits) -> Chem.Mol:
    smarts = text.strip()
    if len(smarts) > limits.max_characters:
        raise MoleculeError(Reason.TOO_LARGE, f"The pattern has {len(smarts):,} characters; at most {limits.max_characters:,} are read.")
    for position, character in enumerate(smarts, 1):
        if not "!" <= character <= "~":
            shown = f"“{character}” " if character.isprintable() else ""
            raise _invalid(f"it holds the character {shown}(U+{ord(character):04X}), which no SMARTS contains", position)
    if ">>" in smarts:
        raise MoleculeError(Reason.INVALID_SMARTS, "The pattern is a reaction, not one structure.")
    # RDKit reads nested patterns by calling itself.
    if len(_RECURSION.findall(smarts)) > _MOST_RECURSIONS:
        raise MoleculeError(Reason.TOO_LARGE, f"The pattern holds more than {_MOST_RECURSIONS} recursive patterns $(...).")
    with rdBase.CaptureErrorLog() as log:
        try:
            query = Chem.MolFromSmarts(smarts)
            complaint = log.messages
        except MemoryError:
            raise
        # RDKit raises half a dozen unrelated types on malformed text; to the caller they are all one thing.
        except Exception as error:
            query, complaint = None, f"{log.messages} {error}"
    if query is None:
        raise _explained(smarts, complaint)
    if query.GetNumAtoms() == 0:
        raise MoleculeError(Reason.EMPTY, "The pattern holds no atoms.")
    if query.GetNumAtoms() > limits.max_atoms:
        raise MoleculeError(Reason.TOO_LARGE, f"The pattern has {query.GetNumAtoms():,} atoms; at most {limits.max_atoms:,} are handled.")
    # Matching asks the query for its rings where it names them.
    Chem.FastFindRings(query)
    query.UpdatePropertyCache(strict=False)
    return query


def _explained(smarts: str, log: str) -> MoleculeError:
    if position := _LOG_POSITION.search(log):
        at = min(max(int(position[1]), 1), len(smarts))
        return _invalid(f"check for mistakes near {smarts[max(0, at - 6) : at + 6]!r}", at)
    if "unclosed ring" in log:
        return _invalid("a ring is not closed", len(smarts))
    if "parentheses" in log:
        return _invalid("a parenthesis is not closed", len(smarts))
    return _invalid("it breaks the rules of the notation", len(smarts))


def _invalid(what: str, position: int) -> MoleculeError:
    return MoleculeError(Reason.INVALID_SMARTS, f"The pattern is neither SMARTS nor SMILES: {what} (position {position}).")
