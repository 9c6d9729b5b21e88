"""Why a text finds a molecule: the call, its answer as values."""

from dataclasses import dataclass

from atomas.calls import Call, compound_name
from atomas.types import Compound
from atomas.v1 import search_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class ExplainedPhrase:
    """Words of the text that belong together, and the atoms that they point at."""

    # First character in the text, and the one after the last.
    start: int
    end: int
    text: str
    # Share of the phrase in the text's meaning; all shares sum to 1.
    weight: float
    # Share of each atom; all zero for a phrase that points nowhere.
    atom_weights: tuple[float, ...]
    # As `#rrggbb`; empty for a phrase that is not shown in the drawing.
    colour: str


@dataclass(frozen=True, slots=True)
class TokenCluster:
    """Tokens that are one on a level of the hierarchy: places of the text (start, end), or atoms."""

    spans: tuple[tuple[int, int], ...]
    atoms: tuple[int, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class AlignedLevel:
    """One level of the hierarchy: `atom`, `fragment` or `molecule`; cosines of text clusters (rows) and molecule clusters (columns)."""

    level: str
    text_clusters: tuple[TokenCluster, ...]
    molecule_clusters: tuple[TokenCluster, ...]
    similarities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a text finds a molecule; atoms are numbered from 0, as in `smiles`."""

    smiles: str
    # Cosine similarity of text and molecule.
    score: float
    phrases: tuple[ExplainedPhrase, ...]
    levels: tuple[AlignedLevel, ...]
    matched_atoms: tuple[int, ...]
    # The molecule with its atoms coloured; empty when no drawing was asked for.
    svg: str


def explain(compound: str | Compound | None, structure: str | None, text: str, substructure: str, draw: bool) -> Call[Explanation]:
    """A stored compound or a structure, by a text, a substructure or both."""
    request = pb.ExplainHitRequest(text=text, substructure=substructure, draw=draw)
    if compound is not None:
        request.compound = compound_name(compound, None)
    if structure is not None:
        request.structure = structure
    return Call("/atomas.v1.SearchService/ExplainHit", request, pb.ExplainHitResponse.FromString, _decode)


def _decode(message: pb.ExplainHitResponse) -> Explanation:
    return Explanation(
        smiles=message.smiles,
        score=message.score,
        phrases=tuple(
            ExplainedPhrase(each.start, each.end, each.text, each.weight, tuple(each.atom_weights), each.colour) for each in message.phrases
        ),
        levels=tuple(_decode_level(each) for each in message.levels),
        matched_atoms=tuple(message.matched_atoms),
        svg=message.svg,
    )


def _decode_level(message: pb.AlignmentLevel) -> AlignedLevel:
    columns = max(len(message.molecule_clusters), 1)
    flat = tuple(message.similarities)
    return AlignedLevel(
        message.level,
        tuple(_decode_cluster(each) for each in message.text_clusters),
        tuple(_decode_cluster(each) for each in message.molecule_clusters),
        tuple(flat[start : start + columns] for start in range(0, len(flat), columns)),
    )


def _decode_cluster(message: pb.AlignmentLevel.Cluster) -> TokenCluster:
    return TokenCluster(tuple(zip(message.spans[::2], message.spans[1::2], strict=True)), tuple(message.atoms), message.weight)
