"""Explained hits as messages of the contract."""

from atomas.v1 import search_service_pb2 as pb
from server.domain.explanations import Cluster
from server.usecases.explain_hit import ExplainedHit


def explanation_response(found: ExplainedHit) -> pb.ExplainHitResponse:
    """An explained hit as the contract says it."""
    return pb.ExplainHitResponse(
        smiles=found.smiles,
        score=found.explanation.score,
        phrases=[
            pb.ExplainedPhrase(
                start=phrase.start,
                end=phrase.end,
                text=found.text[phrase.start : phrase.end],
                weight=phrase.weight,
                atom_weights=phrase.atom_weights,
                colour=colour,
            )
            for phrase, colour in zip(found.explanation.phrases, found.colours.phrases, strict=True)
        ],
        levels=[
            pb.AlignmentLevel(
                level=level.name,
                text_clusters=[_cluster(cluster) for cluster in level.text_clusters],
                molecule_clusters=[_cluster(cluster) for cluster in level.molecule_clusters],
                similarities=level.similarities,
            )
            for level in found.explanation.levels
        ],
        matched_atoms=found.matched_atoms,
        svg=found.svg,
    )


def _cluster(cluster: Cluster) -> pb.AlignmentLevel.Cluster:
    return pb.AlignmentLevel.Cluster(spans=cluster.spans, atoms=cluster.atoms, weight=cluster.weight)
