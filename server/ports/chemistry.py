"""The port of the chemistry door: structures standardised and drawn."""

from collections.abc import Sequence
from typing import Protocol

from encoder import molecules
from encoder.drawing import Look
from encoder.molecules import Molecule, MoleculeError


class Chemistry(Protocol):
    """The chemistry door behind a guard: a molecule that hangs or crashes RDKit is a rejection, never an outage."""

    def standardise_many(self, structures: Sequence[molecules.Structure]) -> list[Molecule | MoleculeError]:
        """One result per structure, in order."""
        ...

    def standardise_one(self, structure: molecules.Structure) -> Molecule | MoleculeError:
        """For queries: as above, ahead of bulk work."""
        ...

    def draw(self, structure: molecules.Structure, look: Look) -> str | MoleculeError:
        """The standardised structure as an SVG element; the error may be that of the substructure to mark."""
        ...

    def molblocks(self, smiles: Sequence[str]) -> list[str | MoleculeError]:
        """Standardised molecules as molblocks with 2-D coordinates, in order: bulk work."""
        ...
