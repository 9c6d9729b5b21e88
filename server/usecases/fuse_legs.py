"""One ranking out of several: the weighted mean of what the legs said."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import numpy as np

from server.domain.errors import AtomasError, Reason
from server.domain.search import Kind, Leg, LegScore
from server.ports import Parts, ScoredPoint

# Chosen on one half of the ChEBI-20 validation descriptions, confirmed on the other (docs/search.md).
_WORDS = {Leg.MOLECULES: 1.0, Leg.TEXTS: 1.0, Leg.LEXICAL: 0.1, Leg.FRAGMENTS: 0.3}
_STRUCTURE = {Leg.MOLECULES: 1.0, Leg.FINGERPRINTS: 1.0}
USUAL_WEIGHTS: Mapping[Kind, Mapping[Leg, float]] = {
    Kind.TEXT: _WORDS,
    Kind.NAME: _WORDS,
    Kind.STRUCTURE: _STRUCTURE,
    Kind.INCHIKEY: _STRUCTURE,
    Kind.SOURCE_ID: _STRUCTURE,
    Kind.COMPOUND: _STRUCTURE,
}
# Legs that can be asked by words, and by a structure.
BY_WORDS = frozenset({Leg.MOLECULES, Leg.TEXTS, Leg.LEXICAL, Leg.FRAGMENTS})
BY_STRUCTURE = frozenset({Leg.MOLECULES, Leg.TEXTS, Leg.FINGERPRINTS})

# How many of the fused hits are ordered again by their fragments, and by how many phrases: a long text has hundreds that say little.
REALIGNED = 100
MAX_PHRASES = 64


def weights_of(kind: Kind, legs: frozenset[Leg] | None, asked: Mapping[Leg, float]) -> dict[Leg, float]:
    """Weights of the legs to ask, all greater than 0, in a fixed order. Raises INVALID_ARGUMENT."""
    if kind is Kind.FILTER:
        return {}
    weights = dict.fromkeys(legs, 1.0) if legs is not None else dict(USUAL_WEIGHTS[kind])
    weights.update(asked)
    possible = BY_WORDS if kind in (Kind.TEXT, Kind.NAME) else BY_STRUCTURE
    for leg, weight in weights.items():
        if not 0 <= weight <= 1e6:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"The leg {leg} weighs {weight}; weights are numbers from 0 to 1,000,000.")
        if weight and leg not in possible:
            what = "words" if possible is BY_WORDS else "a structure"
            raise AtomasError(Reason.INVALID_ARGUMENT, f"The leg {leg} cannot be asked by {what}. Give it the weight 0, or leave it out.")
    chosen = {leg: weights[leg] for leg in Leg if weights.get(leg)}
    if not chosen.keys() - {Leg.FRAGMENTS}:
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            "Every leg that finds has the weight 0 (fragments only order what others find): give one a greater weight.",
        )
    return chosen


def fuse(found: Mapping[Leg, Sequence[ScoredPoint]], weights: Mapping[Leg, float], depth: int) -> dict[UUID, float]:
    """Scores by id, best first: the weighted mean of what the legs said; a single leg keeps its own scores.

    A point that a leg did not return counts there as much as the last one that it did: up to `depth` it cannot have been better, and a
    compound without texts is not behind for that alone. Only words that a compound lacks count for nothing.
    """
    if len(found) == 1:
        return {point.id: point.score for points in found.values() for point in points}
    total = sum(weights[leg] for leg in found)
    ids: dict[int, UUID] = {}
    # By how much each point is ahead of one that no leg returned. By number: hashing a UUID costs more than all the rest of the fusion.
    ahead: dict[int, float] = {}
    unseen = 0.0
    for leg, points in found.items():
        if not points:
            continue
        # BM25 has no upper bound; cosines and Tanimoto similarities are comparable as they are.
        share = weights[leg] / total / (points[0].score if leg is Leg.LEXICAL else 1.0)
        otherwise = 0.0 if leg is Leg.LEXICAL and len(points) < depth else points[-1].score
        unseen += share * otherwise
        for id, score in points:
            number = id.int
            ids[number] = id
            ahead[number] = ahead.get(number, 0.0) + share * (score - otherwise)
    return {ids[number]: unseen + score for number, score in sorted(ahead.items(), key=lambda item: (-item[1], item[0]))}


def heaviest(phrases: Parts) -> Parts:
    """The phrases that say most, as many as are compared; their weights sum to one again."""
    if len(phrases.weights) <= MAX_PHRASES:
        return phrases
    # Stable: of equal weights the earlier phrases stay.
    chosen = np.sort(np.argsort(-phrases.weights, kind="stable")[:MAX_PHRASES])
    return Parts(phrases.vectors[chosen], phrases.weights[chosen] / phrases.weights[chosen].sum())


def best_points(scores: Mapping[UUID, float]) -> list[ScoredPoint]:
    """Best first, ties by id."""
    return [ScoredPoint(id, score) for id, score in sorted(scores.items(), key=lambda item: (-item[1], item[0].int))]


def realign(fused: Mapping[UUID, float], aligned: Sequence[ScoredPoint], found_weight: float, weight: float) -> dict[UUID, float]:
    """Orders fused hits again by the alignment of some of them, the best first; `found_weight` is that of all legs in `fused` together.

    A hit that was not compared counts as the last that was: those beyond the first `REALIGNED` stay behind these.
    """
    if not aligned:
        return dict(fused)
    known = {point.id.int: point.score for point in aligned}
    least, total = aligned[-1].score, found_weight + weight
    scores = {id: (found_weight * score + weight * known.get(id.int, least)) / total for id, score in fused.items()}
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0].int)))


def leg_scores(
    found: Mapping[Leg, Sequence[ScoredPoint]],
    further: Mapping[Leg, Mapping[UUID, float]],
    weights: Mapping[Leg, float],
    wanted: Collection[UUID],
) -> dict[UUID, list[LegScore]]:
    """What each leg said of the wanted points: from what it found, else from the scores fetched further, else nothing to compare."""
    said: dict[UUID, list[LegScore]] = {point: [] for point in wanted}
    numbers = {point.int for point in wanted}
    for leg, points in found.items():
        ranks = {point.id: (point.score, rank) for rank, point in enumerate(points, 1) if point.id.int in numbers}
        for id in said:
            score, rank = ranks.get(id) or (further.get(leg, {}).get(id, 0.0), 0)
            said[id].append(LegScore(leg, score, rank, weights[leg]))
    return said
