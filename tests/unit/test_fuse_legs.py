"""Fusion: one ranking out of what several legs said."""

from uuid import UUID

import numpy as np
import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.search import Kind, Leg
from server.ports import Parts, ScoredPoint
from server.usecases.fuse_legs import MAX_PHRASES, USUAL_WEIGHTS, fuse, heaviest, leg_scores, realign, weights_of

ONE, TWO, THREE = (UUID(int=i) for i in (1, 2, 3))


def points(**scores: float) -> list[ScoredPoint]:
    names = {"one": ONE, "two": TWO, "three": THREE}
    return [ScoredPoint(names[name], score) for name, score in scores.items()]


def test_a_single_leg_keeps_its_scores() -> None:
    assert fuse({Leg.LEXICAL: points(two=12.0, one=3.0)}, {Leg.LEXICAL: 0.1}, 5) == {TWO: 12.0, ONE: 3.0}


def test_scores_are_the_weighted_mean_of_the_legs() -> None:
    found = {Leg.MOLECULES: points(one=0.8, two=0.4), Leg.TEXTS: points(two=0.9, one=0.6)}
    assert fuse(found, {Leg.MOLECULES: 1.0, Leg.TEXTS: 1.0}, 5) == pytest.approx({ONE: 0.7, TWO: 0.65})
    assert list(fuse(found, {Leg.MOLECULES: 1.0, Leg.TEXTS: 3.0}, 5)) == [TWO, ONE]


def test_words_count_by_their_share_of_the_best() -> None:
    found = {Leg.MOLECULES: points(one=0.5, two=0.5, three=0.5), Leg.LEXICAL: points(two=40.0, one=10.0)}
    fused = fuse(found, {Leg.MOLECULES: 1.0, Leg.LEXICAL: 1.0}, 5)
    assert fused == pytest.approx({TWO: 0.75, ONE: 0.375, THREE: 0.25})


def test_a_point_that_a_leg_did_not_reach_counts_as_its_last() -> None:
    found = {Leg.MOLECULES: points(one=0.9, two=0.7), Leg.TEXTS: points(three=0.6, one=0.2)}
    fused = fuse(found, {Leg.MOLECULES: 1.0, Leg.TEXTS: 1.0}, 2)
    assert fused == pytest.approx({ONE: 0.55, TWO: 0.45, THREE: 0.65})
    full = fuse({Leg.MOLECULES: points(one=0.9, two=0.7), Leg.LEXICAL: points(one=8.0)}, {Leg.MOLECULES: 1.0, Leg.LEXICAL: 1.0}, 1)
    assert full == pytest.approx({ONE: 0.95, TWO: 0.85})


def test_a_leg_without_answers_changes_no_order() -> None:
    found = {Leg.MOLECULES: points(two=0.9, one=0.7), Leg.TEXTS: [], Leg.LEXICAL: []}
    assert list(fuse(found, USUAL_WEIGHTS[Kind.TEXT], 5)) == [TWO, ONE]
    assert fuse({Leg.MOLECULES: [], Leg.TEXTS: []}, USUAL_WEIGHTS[Kind.TEXT], 5) == {}


def test_equal_scores_are_ordered_by_id() -> None:
    found = {Leg.MOLECULES: points(three=0.5, one=0.5, two=0.5), Leg.TEXTS: points(three=0.1, two=0.1, one=0.1)}
    assert list(fuse(found, {Leg.MOLECULES: 1.0, Leg.TEXTS: 1.0}, 3)) == [ONE, TWO, THREE]


def test_every_leg_says_score_rank_and_weight_of_every_hit() -> None:
    found = {Leg.MOLECULES: points(one=0.9), Leg.LEXICAL: points(two=7.0)}
    said = leg_scores(found, {Leg.MOLECULES: {TWO: 0.3}}, {Leg.MOLECULES: 1.0, Leg.LEXICAL: 0.5}, [TWO, ONE])
    assert [(leg.leg, leg.score, leg.rank, leg.weight) for leg in said[TWO]] == [
        (Leg.MOLECULES, 0.3, 0, 1.0),
        (Leg.LEXICAL, 7.0, 1, 0.5),
    ]
    assert [(leg.leg, leg.score, leg.rank) for leg in said[ONE]] == [(Leg.MOLECULES, 0.9, 1), (Leg.LEXICAL, 0.0, 0)]


def test_aligned_hits_are_ordered_again_and_the_others_stay_behind() -> None:
    fused = {ONE: 0.8, TWO: 0.7, THREE: 0.69}
    assert realign(fused, points(two=0.9, one=0.3), 2.0, 1.0) == pytest.approx({TWO: 2.3 / 3, ONE: 1.9 / 3, THREE: 1.68 / 3})
    assert list(realign(fused, points(two=0.9, one=0.3), 2.0, 1.0)) == [TWO, ONE, THREE]
    assert list(realign(fused, points(two=0.9, one=0.8), 2.0, 0.1)) == [ONE, TWO, THREE]
    assert realign(fused, [], 2.0, 1.0) == fused


def test_of_many_phrases_the_heaviest_stay_in_order() -> None:
    numbers = np.arange(1, MAX_PHRASES + 11)
    weights = np.asarray(numbers / numbers.sum(), np.float32)
    kept = heaviest(Parts(np.arange(MAX_PHRASES + 10, dtype=np.float32)[:, None], weights))
    assert kept.vectors[:, 0].tolist() == list(range(10, MAX_PHRASES + 10))
    assert kept.weights.sum() == pytest.approx(1.0)
    assert kept.weights[0] / kept.weights[-1] == pytest.approx(11 / (MAX_PHRASES + 10))
    few = Parts(np.ones((3, 1), np.float32), np.full(3, 1 / 3, np.float32))
    assert heaviest(few) is few


def test_weights_are_the_usual_ones_unless_told() -> None:
    assert weights_of(Kind.TEXT, None, {}) == dict(USUAL_WEIGHTS[Kind.TEXT])
    fragments = USUAL_WEIGHTS[Kind.TEXT][Leg.FRAGMENTS]
    assert weights_of(Kind.TEXT, None, {Leg.TEXTS: 0, Leg.LEXICAL: 2}) == {Leg.MOLECULES: 1.0, Leg.LEXICAL: 2, Leg.FRAGMENTS: fragments}
    assert weights_of(Kind.STRUCTURE, frozenset({Leg.TEXTS}), {}) == {Leg.TEXTS: 1.0}
    assert weights_of(Kind.STRUCTURE, None, {Leg.LEXICAL: 0})


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (Kind.TEXT, {Leg.MOLECULES: 0, Leg.TEXTS: 0, Leg.LEXICAL: 0}),
        (Kind.TEXT, {Leg.TEXTS: -1}),
        (Kind.STRUCTURE, {Leg.FRAGMENTS: 1}),
        (Kind.TEXT, {Leg.TEXTS: float("nan")}),
        (Kind.TEXT, {Leg.TEXTS: float("inf")}),
        (Kind.STRUCTURE, {Leg.LEXICAL: 1}),
        (Kind.NAME, {Leg.FINGERPRINTS: 1}),
    ],
)
def test_weights_that_make_no_sense_are_refused(kind: Kind, asked: dict[Leg, float]) -> None:
    with pytest.raises(AtomasError) as raised:
        weights_of(kind, None, asked)
    assert raised.value.reason is Reason.INVALID_ARGUMENT
