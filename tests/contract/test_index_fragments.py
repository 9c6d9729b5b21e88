"""What every vector index does with fragments: the fake, the engine in process, the engine over the wire, the client's local mode, a real server."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from server.domain.search import Leg
from server.ports import Parts, Point, VectorIndex
from tests.contract.indexes import FRAGMENT_DIMENSION, INDEXES
from tests.contract.test_vector_index import DIMENSION, identifier

# What a byte a number leaves of a cosine.
TOLERANCE = 0.02


@pytest.fixture(params=sorted(INDEXES))
def index(request: pytest.FixtureRequest) -> Iterator[VectorIndex]:
    with INDEXES[request.param](DIMENSION) as opened:
        yield opened


def units(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, FRAGMENT_DIMENSION))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def phrases(count: int, seed: int) -> Parts:
    return Parts(units(count, seed), np.random.default_rng(seed).dirichlet(np.ones(count)).astype(np.float32))


def point(number: int, fragments: np.ndarray | None, library: str = "one") -> Point:
    vector = np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)
    return Point(identifier(number), library, {Leg.MOLECULES: vector}, {}, "", fragments=fragments)


def alignment(asked: Parts, fragments: np.ndarray) -> float:
    return float(asked.weights @ (asked.vectors @ fragments.T).max(axis=1))


def test_each_point_scores_the_weighted_best_cosines_of_its_fragments(index: VectorIndex) -> None:
    stored = {number: units(1 + number % 5, number) for number in range(60)}
    index.upsert([point(number, fragments) for number, fragments in stored.items()])
    asked = [(phrases(1 + n, 100 + n), [identifier(i) for i in range(n, 60, 3)]) for n in range(3)]
    for (query, ids), found in zip(asked, index.align(asked), strict=True):
        expected = {id: alignment(query, stored[id.int]) for id in ids}
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=TOLERANCE)


def test_a_light_phrase_counts_less_than_a_heavy_one(index: VectorIndex) -> None:
    first, second = np.eye(FRAGMENT_DIMENSION, dtype=np.float32)[:2]
    index.upsert([point(1, first[None]), point(2, second[None])])
    query = Parts(np.stack([first, second]), np.array([0.9, 0.1], np.float32))
    [found] = index.align([(query, [identifier(1), identifier(2)])])
    assert found == pytest.approx({identifier(1): 0.9, identifier(2): 0.1}, abs=TOLERANCE)


def test_the_length_of_a_fragment_does_not_matter(index: VectorIndex) -> None:
    fragments, query = units(3, 1), phrases(2, 2)
    index.upsert([point(1, fragments), point(2, fragments * np.array([[0.1], [7.0], [1e3]], np.float32))])
    [found] = index.align([(query, [identifier(1), identifier(2)])])
    assert found == pytest.approx(dict.fromkeys((identifier(1), identifier(2)), alignment(query, fragments)), abs=TOLERANCE)


def test_points_without_fragments_or_gone_are_not_among_the_answers(index: VectorIndex) -> None:
    index.upsert([point(1, units(2, 1)), point(2, None), point(3, units(2, 3)), point(4, units(2, 4))])
    index.delete([identifier(3)])
    index.upsert([point(4, None)])
    [found] = index.align([(phrases(2, 9), [identifier(n) for n in (1, 2, 3, 4, 5)])])
    assert found.keys() == {identifier(1)}


def test_a_point_written_again_has_its_new_fragments(index: VectorIndex) -> None:
    query = phrases(3, 5)
    index.upsert([point(1, units(4, 1))])
    index.upsert([point(1, units(2, 7))])
    [found] = index.align([(query, [identifier(1)])])
    assert found == pytest.approx({identifier(1): alignment(query, units(2, 7))}, abs=TOLERANCE)


def test_nothing_asked_is_answered_with_nothing(index: VectorIndex) -> None:
    index.upsert([point(1, units(2, 1))])
    assert index.align([]) == []
    asked = [(Parts.none(), [identifier(1)]), (phrases(2, 1), []), (phrases(2, 1), [identifier(1)])]
    empty, nobody, found = index.align(asked)
    assert not empty
    assert not nobody
    assert found.keys() == {identifier(1)}


def test_many_questions_at_once_answer_as_each_alone(index: VectorIndex) -> None:
    index.upsert([point(number, units(3, number)) for number in range(40)])
    asked = [(phrases(1 + n % 4, n), [identifier(i % 40) for i in range(n, n + 7)]) for n in range(150)]
    together = index.align(asked)
    for n in (0, 17, 64, 149):
        assert together[n] == pytest.approx(index.align([asked[n]])[0], abs=1e-6)


def test_fragments_are_no_leg_that_finds_or_is_fetched(index: VectorIndex) -> None:
    index.upsert([point(1, units(2, 1))])
    [vectors] = index.fetch_vectors([identifier(1)]).values()
    assert set(vectors) == {Leg.MOLECULES}
    assert len(index.search(Leg.MOLECULES, [np.ones(DIMENSION, np.float32)], 5)[0]) == 1


@pytest.mark.parametrize(
    "fragments",
    [
        np.ones((2, FRAGMENT_DIMENSION + 1), np.float32),
        np.zeros((1, FRAGMENT_DIMENSION), np.float32),
        np.full((1, FRAGMENT_DIMENSION), np.nan, np.float32),
    ],
    ids=["length", "zeros", "not finite"],
)
def test_fragments_that_cannot_be_compared_are_refused_before_anything_is_written(index: VectorIndex, fragments: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r".+"):
        index.upsert([point(1, units(1, 1)), point(2, fragments)])
    assert index.count() == 0
    index.upsert([point(1, units(1, 1))])
    with pytest.raises(ValueError, match=r".+"):
        index.align([(Parts(fragments, np.ones(len(fragments), np.float32)), [identifier(1)])])
    with pytest.raises(ValueError, match=r".+"):
        index.align([(replace(phrases(2, 1), weights=np.array([1.0, np.nan], np.float32)), [identifier(1)])])
