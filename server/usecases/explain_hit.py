"""Why a text finds a molecule: phrases, the atoms they point at, and a drawing that shows both."""

from dataclasses import dataclass

from encoder.drawing import Look
from encoder.molecules import MoleculeError, Structure
from server.domain.errors import AtomasError, Reason
from server.domain.explanations import Coloured, Explanation, coloured
from server.ports import Ports
from server.usecases.manage_libraries import get_compound
from server.usecases.resolve_structures import read_molecule
from server.usecases.understand_query import checked_text

DRAWING_WIDTH, DRAWING_HEIGHT = 480, 340


@dataclass(frozen=True)
class Asked:
    """What to explain: a stored compound (library and InChIKey) or a structure, by a text, a substructure or both."""

    compound: tuple[str, str] | None = None
    structure: str = ""
    text: str = ""
    substructure: str = ""
    draw: bool = False


@dataclass(frozen=True)
class ExplainedHit:
    """The explanation of one molecule; atoms are numbered as in `smiles`."""

    smiles: str
    text: str
    explanation: Explanation
    colours: Coloured
    matched_atoms: tuple[int, ...]
    svg: str


def explain_hit(asked: Asked, ports: Ports, *, max_text_characters: int, timeout_seconds: float | None = None) -> ExplainedHit:
    """Explain a molecule by a text, a substructure or both.

    Raises EMPTY_QUERY for neither, the chemistry door's and the encoder's reasons, COMPOUND_NOT_FOUND, INVALID_SMARTS.
    """
    if not asked.text.strip() and not asked.substructure.strip():
        raise AtomasError(Reason.EMPTY_QUERY, "There is nothing to explain by: give a text, a substructure, or both.")
    smiles = get_compound(*asked.compound, ports).structure.smiles if asked.compound else read_molecule(asked.structure, ports).smiles
    text = checked_text(asked.text, max_text_characters) if asked.text.strip() else ""
    explanation = ports.encoder.explain(text, smiles, timeout_seconds) if text else Explanation(0.0, (), ())
    [matched] = ports.structures.matched_atoms(asked.substructure, [smiles]) if asked.substructure.strip() else [()]
    colours = coloured(explanation.phrases)
    svg = _drawing(smiles, colours, asked.substructure, ports) if asked.draw else ""
    return ExplainedHit(smiles, text, explanation, colours, tuple(matched), svg)


def _drawing(smiles: str, colours: Coloured, substructure: str, ports: Ports) -> str:
    look = Look(DRAWING_WIDTH, DRAWING_HEIGHT, substructure=substructure, colours=colours.atoms)
    drawn = ports.chemistry.draw(Structure("smiles", smiles), look)
    if isinstance(drawn, MoleculeError):
        raise AtomasError(Reason(drawn.reason), drawn.message)
    return drawn
