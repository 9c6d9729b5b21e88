"""What the cartridge's companion processes do with patterns: read them, and match what the cartridge reads otherwise than we do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rdkit import Chem

from encoder.molecules import Limits, Structure
from encoder.patterns import match_parameters, matched_atoms, misleads_screening, read_pattern, required_elements
from encoder.readings import Reading, reading


@dataclass(frozen=True)
class ReadPattern:
    """A pattern as this RDKit reads it, to be compared with what the cartridge's makes of it."""

    notation: Literal["smarts", "molecule"]
    text: str
    # What the cartridge writes for the same pattern: the SMARTS without marks of stereochemistry, or the molecule's reading. Neither where
    # its fingerprints would mislead it.
    smarts: str | None
    molecule: Reading | None
    # Atomic numbers that every match holds.
    elements: list[int]

    @property
    def has_any_atoms(self) -> bool:
        return self.molecule is not None and any(atom[0] == 0 for atom in self.molecule[0])


def read(structure: Structure, limits: Limits) -> ReadPattern:
    """The pattern in `structure.text`. Raises MoleculeError."""
    pattern = read_pattern(structure.text, limits)
    elements = required_elements(pattern)
    if misleads_screening(pattern.query):
        return ReadPattern(pattern.notation, pattern.text, None, None, elements)
    if pattern.notation == "smarts":
        return ReadPattern("smarts", pattern.text, Chem.MolToSmarts(pattern.query, isomericSmiles=False), None, elements)
    return ReadPattern("molecule", pattern.text, None, reading(Chem.MolFromSmiles(pattern.text)), elements)


def atoms_in(smiles: Sequence[str], structure: Structure, limits: Limits) -> list[list[int]]:
    """For each canonical SMILES the atoms that matches of the pattern cover. Raises MoleculeError."""
    pattern = read_pattern(structure.text, limits)
    return [matched_atoms(pattern, Chem.MolFromSmiles(text)) for text in smiles]


def holders(smiles: Sequence[str], structure: Structure, limits: Limits) -> list[bool]:
    """Whether each canonical SMILES holds the pattern. Raises MoleculeError."""
    query, params = read_pattern(structure.text, limits).query, match_parameters(1)
    return [Chem.MolFromSmiles(text).HasSubstructMatch(query, params) for text in smiles]


def parts(smiles: Sequence[str], structure: Structure, limits: Limits) -> list[bool]:
    """Whether each canonical SMILES is a substructure of the molecule in `structure.text`, canonical SMILES too."""
    whole, params = Chem.MolFromSmiles(structure.text), match_parameters(1)
    return [whole.HasSubstructMatch(Chem.MolFromSmiles(text), params) for text in smiles]
