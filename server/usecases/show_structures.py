"""Structures that nobody stores: their standard form, and drawings."""

from encoder.drawing import Look
from encoder.molecules import Molecule, MoleculeError, Structure
from server.domain.errors import AtomasError, Reason
from server.ports import Ports
from server.usecases.resolve_structures import read_molecule


def standardise_structure(text: str, ports: Ports) -> tuple[Molecule, str]:
    """The molecule as an import would store it, and its molblock, empty where no drawing tells all of its stereochemistry.

    Raises the chemistry door's reasons.
    """
    molecule = read_molecule(text, ports)
    [block] = ports.chemistry.molblocks([molecule.smiles])
    return molecule, "" if isinstance(block, MoleculeError) else block


def draw_structure(text: str, look: Look, ports: Ports) -> str:
    """The structure as an SVG element. Raises the chemistry door's reasons, and INVALID_SMARTS for the substructure to mark."""
    drawn = ports.chemistry.draw(Structure("auto", text), look)
    if isinstance(drawn, MoleculeError):
        raise AtomasError(Reason(drawn.reason), drawn.message)
    return drawn
