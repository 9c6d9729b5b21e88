"""What every vector index does alike: the fake, the engine in process, the engine over the wire, the client's local mode, a real server."""

import itertools
import math
import threading
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.domain.compounds import JsonValue
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Among, And, Condition, Filter, Not, Or
from server.domain.search import Leg
from server.ports import Point, Question, ScoredPoint, Vector, VectorIndex
from tests.contract.indexes import INDEXES
from tests.fakes_index import FakeIndex

DIMENSION = 16


@pytest.fixture(params=sorted(INDEXES))
def index(request: pytest.FixtureRequest) -> Iterator[VectorIndex]:
    with INDEXES[request.param](DIMENSION) as opened:
        yield opened


@pytest.fixture(scope="module", params=sorted(set(INDEXES) - {"fake"}))
def shared_index(request: pytest.FixtureRequest) -> Iterator[VectorIndex]:
    """For properties: every example takes a library of its own."""
    with INDEXES[request.param](DIMENSION) as opened:
        yield opened


def vectors(count: int, seed: int = 0) -> list[Vector]:
    return list(np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32))


def identifier(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


def point(
    number: int,
    vector: Vector,
    library: str = "one",
    text: Vector | None = None,
    fields: dict[str, JsonValue] | None = None,
) -> Point:
    legs: dict[Leg, Vector] = {Leg.MOLECULES: vector} if text is None else {Leg.MOLECULES: vector, Leg.TEXTS: text}
    return Point(identifier(number), library, legs, fields or {}, f"document {number} α{library}")


def numbers(hits: Sequence[object]) -> list[int]:
    return [hit.id.int for hit in hits]  # type: ignore[attr-defined] # hits of search


def cosine(a: Vector, b: Vector) -> float:
    return float(np.dot(a.astype(float), b.astype(float)) / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float)))


def test_an_empty_index_answers_everything_with_nothing(index: VectorIndex) -> None:
    assert index.count() == 0
    assert index.count("one") == 0
    assert list(index.ids()) == []
    assert index.search(Leg.MOLECULES, vectors(2), 5) == [[], []]
    assert index.search(Leg.MOLECULES, [], 5) == []
    assert index.fetch_vectors([identifier(1)]) == {}
    assert index.documents([identifier(1)]) == {}
    index.upsert([])
    index.delete([])
    index.delete([identifier(1)])
    index.delete_library("one")
    index.flush()
    assert index.model_version == "m1" or index.model_version.startswith("test-")


def test_search_ranks_by_exact_cosine_and_returns_documents(index: VectorIndex) -> None:
    stored = vectors(300)
    index.upsert([point(i, vector) for i, vector in enumerate(stored)])
    for query in vectors(5, seed=1):
        [hits] = index.search(Leg.MOLECULES, [query], 20)
        exact = sorted(((cosine(query, vector), i) for i, vector in enumerate(stored)), reverse=True)[:20]
        assert numbers(hits) == [i for _, i in exact]
        assert [hit.score for hit in hits] == pytest.approx([score for score, _ in exact], abs=1e-3)
        assert index.documents([hit.id for hit in hits]) == {identifier(i): f"document {i} αone" for _, i in exact}


def test_length_does_not_matter_even_where_squares_overflow(index: VectorIndex) -> None:
    a, b, query = vectors(3)
    index.upsert([point(1, a * np.float32(1e30)), point(2, b * np.float32(1e-30))])
    [hits] = index.search(Leg.MOLECULES, [query * np.float32(1e25)], 2)
    assert {hit.id.int: hit.score for hit in hits} == pytest.approx({1: cosine(a, query), 2: cosine(b, query)}, abs=1e-3)


def test_equal_scores_are_ordered_by_id_also_where_the_limit_cuts(index: VectorIndex) -> None:
    same, other = vectors(2)
    order = [int(i) for i in np.random.default_rng(3).permutation(60)]
    index.upsert([point(i, same, library=f"l{i % 3}") for i in order])
    index.upsert([point(100, other)])
    for limit in (1, 7, 30, 59, 60):
        [hits] = index.search(Leg.MOLECULES, [same], limit)
        assert numbers(hits) == list(range(limit))
    [everything] = index.search(Leg.MOLECULES, [same], 100)
    assert numbers(everything) == [*range(60), 100]


def test_search_keeps_to_the_libraries_it_is_given(index: VectorIndex) -> None:
    index.upsert([point(i, vector, library=f"l{i % 4}") for i, vector in enumerate(vectors(40))])
    query = vectors(1, seed=1)

    def found(libraries: Sequence[str] | None) -> set[int]:
        return {number % 4 for number in numbers(index.search(Leg.MOLECULES, query, 100, libraries)[0])}

    assert found(None) == {0, 1, 2, 3}
    assert found(["l1"]) == {1}
    assert found(["l1", "l3", "unknown"]) == {1, 3}
    assert found(["unknown"]) == set()
    assert found([]) == set()


def test_a_leg_finds_only_the_points_that_have_it(index: VectorIndex) -> None:
    stored = vectors(20)
    index.upsert([point(i, vector, text=vector[::-1].copy() if i % 5 == 0 else None) for i, vector in enumerate(stored)])
    [texts] = index.search(Leg.TEXTS, [stored[5][::-1].copy()], 100)
    assert sorted(numbers(texts)) == [0, 5, 10, 15]
    assert texts[0].id == identifier(5)
    assert texts[0].score == pytest.approx(1, abs=1e-3)
    assert len(index.search(Leg.MOLECULES, [stored[5]], 100)[0]) == 20


def test_a_batch_of_queries_answers_as_each_alone(index: VectorIndex) -> None:
    index.upsert([point(i, vector, library=f"l{i % 2}") for i, vector in enumerate(vectors(100))])
    queries = vectors(150, seed=1)
    condition = Not(Condition("id", "=", "x"))
    together = index.search(Leg.MOLECULES, queries, 7, ["l1"], condition)
    assert len(together) == 150
    for query, hits in zip(queries[::10], together[::10], strict=True):
        [alone] = index.search(Leg.MOLECULES, [query], 7, ["l1"], condition)
        assert numbers(alone) == numbers(hits)
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_upsert_replaces_the_whole_point(index: VectorIndex) -> None:
    a, b, text = vectors(3)
    index.upsert([point(1, a, text=text, fields={"charge": 1, "metadata.x": "y"})])
    index.upsert([point(1, b, library="two", fields={"formula": "C"})])
    assert index.count() == 1
    assert index.count("one") == 0
    assert index.search(Leg.TEXTS, [text], 10) == [[]]
    [[hit]] = index.search(Leg.MOLECULES, [b], 10, ["two"], Condition("formula", "=", "C"))
    assert hit.score == pytest.approx(1, abs=1e-3)
    assert index.documents([hit.id]) == {hit.id: "document 1 αtwo"}
    assert index.search(Leg.MOLECULES, [b], 10, None, Or((Condition("charge", "=", 1), Condition("metadata.x", "=", "y")))) == [[]]


def test_the_last_of_several_points_with_one_id_stays(index: VectorIndex) -> None:
    a, b = vectors(2)
    index.upsert([point(1, a, library="old"), point(2, a), point(1, b, library="new")])
    assert (index.count(), index.count("old"), index.count("new")) == (2, 0, 1)


def test_deleted_points_are_gone(index: VectorIndex) -> None:
    stored = vectors(30)
    index.upsert([point(i, vector, library=f"l{i % 3}") for i, vector in enumerate(stored)])
    index.delete([identifier(i) for i in (0, 1, 999)])
    assert index.count() == 28
    assert not {0, 1} & set(numbers(index.search(Leg.MOLECULES, [stored[0]], 100)[0]))
    assert index.fetch_vectors([identifier(0)]) == {}
    assert index.documents([identifier(i) for i in (0, 2)]) == {identifier(2): "document 2 αl2"}
    index.delete_library("l2")
    assert (index.count("l0"), index.count("l1"), index.count("l2"), index.count()) == (9, 9, 0, 18)
    index.upsert([point(0, stored[0])])
    assert numbers(index.search(Leg.MOLECULES, [stored[0]], 1)[0]) == [0]


def test_ids_lists_every_point_in_order(index: VectorIndex) -> None:
    order = [int(i) for i in np.random.default_rng(1).permutation(2_500)]
    vector = vectors(1)[0]
    index.upsert([point(i, vector, library=f"l{i % 2}") for i in order])
    assert [id.int for id in index.ids()] == list(range(2_500))
    assert [id.int for id in index.ids("l1")] == list(range(1, 2_500, 2))
    index.delete_library("l1")
    assert [id.int for id in index.ids()] == list(range(0, 2_500, 2))


def test_stored_vectors_come_back_at_length_one(index: VectorIndex) -> None:
    a, b, text = vectors(3)
    index.upsert([point(1, a), point(2, b, text=text)])
    found = index.fetch_vectors([identifier(1), identifier(2), identifier(3)])
    assert set(found) == {identifier(1), identifier(2)}
    assert set(found[identifier(1)]) == {Leg.MOLECULES}
    assert set(found[identifier(2)]) == {Leg.MOLECULES, Leg.TEXTS}
    for stored, original in ((found[identifier(1)][Leg.MOLECULES], a), (found[identifier(2)][Leg.TEXTS], text)):
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, original / np.linalg.norm(original), atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        np.ones(DIMENSION - 1),
        np.ones((1, DIMENSION)),
        np.zeros(DIMENSION),
        np.array([np.nan] + [1] * (DIMENSION - 1)),
        np.array([np.inf] + [1] * (DIMENSION - 1)),
    ],
    ids=["short", "matrix", "zero", "nan", "inf"],
)
def test_a_vector_without_direction_is_refused_before_anything_is_written(index: VectorIndex, bad: Vector) -> None:
    good = vectors(1)[0]
    bad = bad.astype(np.float32)
    with pytest.raises(ValueError, match=r"shape|direction"):
        index.upsert([point(1, good), point(2, bad)])
    with pytest.raises(ValueError, match=r"shape|direction"):
        index.upsert([point(1, good), point(2, good, text=bad)])
    with pytest.raises(ValueError, match=r"shape|direction"):
        index.search(Leg.MOLECULES, [good, bad], 5)
    assert index.count() == 0


def test_an_unknown_vector_name_is_refused_before_anything_is_written(index: VectorIndex) -> None:
    good = vectors(1)[0]
    with pytest.raises(ValueError, match="shapes"):
        index.upsert([point(1, good), Point(identifier(2), "one", {"shapes": good}, {}, "")])  # type: ignore[dict-item] # that is the point
    assert index.count() == 0


@pytest.mark.parametrize("place", ["document", "short", "long"])
def test_text_that_is_no_unicode_is_refused_before_anything_is_written(index: VectorIndex, place: str) -> None:
    good = vectors(1)[0]
    half = "half of a pair: \ud83d"
    fields: dict[str, dict[str, JsonValue]] = {"document": {}, "short": {"metadata.x": half}, "long": {"metadata.x": ["a", half * 100]}}
    bad = Point(identifier(2), "one", {Leg.MOLECULES: good}, fields[place], half if place == "document" else "")
    with pytest.raises(ValueError, match=r"Unicode|surrogates"):
        index.upsert([point(1, good), bad])
    assert index.count() == 0


def test_numbers_are_equal_up_to_their_last_bits_and_no_further(index: VectorIndex) -> None:
    vector = vectors(1)[0]
    stored = [math.nextafter(0.3, 1), 123_456_789, 123_456_790, 180.063388, 180.063389, -5e-7, 0.0, math.nextafter(0.3, 0)]
    index.upsert([point(i, vector, fields={"exact_mass": value, "metadata.n": [value]}) for i, value in enumerate(stored)])

    def found(operator: str, value: float) -> list[int]:
        answers = {
            tuple(numbers(index.search(Leg.MOLECULES, [vector], 10, None, Condition(field, operator, value))[0]))  # type: ignore[arg-type] # operators
            for field in ("exact_mass", "metadata.n")
        }
        [only] = answers
        return list(only)

    assert found("=", 0.3) == [0, 7]
    assert found("<=", 0.3) == [0, 5, 6, 7]
    assert found(">=", 0.3) == [0, 1, 2, 3, 4, 7]
    assert found("<", 0.3) == [5, 6]
    assert found(">", 0.3) == [1, 2, 3, 4]
    assert found("=", 123_456_789) == [1]
    assert found(">", 123_456_789) == [2]
    assert found("=", 180.063388) == [3]
    assert found("=", 0) == [6]
    assert found("!=", 0) == [0, 1, 2, 3, 4, 5, 7]
    assert found(">=", 0) == [0, 1, 2, 3, 4, 6, 7]
    assert found("<=", 0) == [5, 6]


def test_values_compare_with_values_of_their_own_kind_alone(index: VectorIndex) -> None:
    vector = vectors(1)[0]
    stored: list[JsonValue] = [1, "1", True, "true", 0, False, "", None, [1, "true"], {"a": 1}]
    index.upsert([point(i, vector, fields={"metadata.x": value}) for i, value in enumerate(stored)])

    def found(value: str | float | bool) -> list[int]:
        return numbers(index.search(Leg.MOLECULES, [vector], 20, None, Condition("metadata.x", "=", value))[0])

    assert found(1) == [0, 8]
    assert found("1") == [1]
    assert found(True) == [2]
    assert found("true") == [3, 8]
    assert found(0) == [4]
    assert found(False) == [5]
    assert found("") == [6]


@pytest.mark.parametrize(
    "condition", [Condition("formula", "<", "C"), Condition("metadata.x", ">=", True), Condition("charge", "=", float("inf"))]
)
def test_a_comparison_without_meaning_is_an_invalid_filter(index: VectorIndex, condition: Condition) -> None:
    with pytest.raises(AtomasError) as raised:
        index.search(Leg.MOLECULES, vectors(1), 5, None, Not(condition))
    assert raised.value.reason is Reason.INVALID_FILTER


def test_points_can_be_chosen_by_id_filter_and_library_in_order(index: VectorIndex) -> None:
    index.upsert(
        [point(number, vector, "one" if number % 2 else "two", fields={"rings": number}) for number, vector in enumerate(vectors(9), 1)]
    )
    some = frozenset(map(identifier, (2, 3, 5, 8, 77)))

    def chosen(libraries: list[str] | None = None, filter: Filter | None = None, only: list[uuid.UUID] | None = None) -> list[int]:
        return [id.int for id in index.select(libraries, filter, only)]

    assert chosen() == list(range(1, 10))
    assert chosen(["two"]) == [2, 4, 6, 8]
    assert chosen(filter=Among(some)) == [2, 3, 5, 8]
    assert chosen(["one"], Not(Among(some))) == [1, 7, 9]
    assert chosen(None, And((Among(some), Condition("rings", ">", 2))), [identifier(8), identifier(2), identifier(78)]) == [8]
    assert chosen(filter=Among(frozenset())) == chosen(only=[]) == []
    assert chosen(filter=Or((Among(frozenset()), Condition("rings", "=", 4)))) == [4]
    [found] = index.search(Leg.MOLECULES, vectors(1), 10, None, Among(some))
    assert sorted(numbers(found)) == [2, 3, 5, 8]


def test_filters_nested_forty_levels_deep_are_understood(index: VectorIndex) -> None:
    vector = vectors(1)[0]
    index.upsert([point(1, vector, fields={"charge": 0})])
    tree: Filter = Condition("charge", "!=", 0)
    for level in range(39):
        tree = Not(tree) if level % 3 == 0 else And((tree,)) if level % 3 == 1 else Or((tree,))
    # Thirteen negations of something false.
    assert numbers(index.search(Leg.MOLECULES, [vector], 5, ["one"], tree)[0]) == [1]


def test_searches_and_writes_may_come_from_many_threads(index: VectorIndex) -> None:
    stored = vectors(400)
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                work()  # type: ignore[operator] # a function of no arguments
            except BaseException as error:
                failures.append(error)

        return threading.Thread(target=run)

    def write(start: int) -> None:
        for i in range(start, start + 100, 10):
            index.upsert([point(j, stored[j], library=f"l{start}") for j in range(i, i + 10)])
            index.flush()
        index.delete([identifier(j) for j in range(start, start + 50)])

    def search() -> None:
        while not done.is_set():
            [hits] = index.search(Leg.MOLECULES, [stored[0]], 10)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            index.count()

    readers = [guarded(search) for _ in range(2)]
    writers = [guarded(lambda start=start: write(start)) for start in (0, 100, 200, 300)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert [id.int for id in index.ids()] == [i for i in range(400) if i % 100 >= 50]


def words_point(number: int, words: dict[int, float], library: str = "one") -> Point:
    return Point(identifier(number), library, {Leg.MOLECULES: vectors(1)[0]}, {"charge": number}, f"document {number}", words)


def lexical(index: VectorIndex, words: dict[int, float], limit: int = 10, **options: object) -> list[ScoredPoint]:
    [hits] = index.search_legs([Question(Leg.LEXICAL, words)], limit, **options)  # type: ignore[arg-type] # options of search_legs
    return hits


def test_rare_words_weigh_more_than_common_ones(index: VectorIndex) -> None:
    everywhere, rare, never = 7, 4_294_967_295, 12
    index.upsert([words_point(i, {everywhere: 1.0, **({rare: 2.0} if i == 3 else {})}) for i in range(10)] + [point(99, vectors(1)[0])])
    hits = lexical(index, {everywhere: 1.0, rare: 1.0, never: 5.0})
    assert [hit.id.int for hit in hits] == [3, 0, 1, 2, 4, 5, 6, 7, 8, 9]
    common = math.log(1 + 0.5 / 10.5)
    assert hits[0].score == pytest.approx(common + 2 * math.log(1 + 9.5 / 1.5), rel=1e-3)
    assert hits[1].score == pytest.approx(common, rel=1e-3)
    assert lexical(index, {never: 1.0}) == []
    assert lexical(index, {}) == []


def test_words_are_searched_within_libraries_filters_and_chosen_points(index: VectorIndex) -> None:
    index.upsert([words_point(i, {1: 1.0 + i}, library=f"l{i % 2}") for i in range(8)])
    assert [hit.id.int for hit in lexical(index, {1: 1.0}, libraries=["l1"])] == [7, 5, 3, 1]
    assert [hit.id.int for hit in lexical(index, {1: 1.0}, filter=Condition("charge", "<", 3))] == [2, 1, 0]
    assert [hit.id.int for hit in lexical(index, {1: 1.0}, only=[identifier(6), identifier(2), identifier(77)])] == [6, 2]
    assert lexical(index, {1: 1.0}, only=[]) == []


def test_questions_to_several_legs_answer_as_each_alone(index: VectorIndex) -> None:
    a, b, query = vectors(3)
    both = [Point(identifier(i), "one", {Leg.MOLECULES: v, Leg.TEXTS: -v}, {}, "", {i: 1.0, 5: 1.0}) for i, v in ((1, a), (2, b))]
    index.upsert(both)
    questions = [Question(Leg.MOLECULES, query), Question(Leg.LEXICAL, {}), Question(Leg.TEXTS, query), Question(Leg.LEXICAL, {2: 1.0})]
    together = index.search_legs(questions, 5)
    assert [numbers(hits) for hits in together] == [numbers(index.search_legs([question], 5)[0]) for question in questions]
    assert numbers(together[0]) == numbers(together[2])[::-1]
    assert (numbers(together[1]), numbers(together[3])) == ([], [2])
    [[alone]] = index.search_legs([Question(Leg.MOLECULES, query)], 5, only=[identifier(2)])
    assert alone.score == pytest.approx(cosine(b, query), abs=1e-3)


def test_words_are_replaced_and_deleted_with_their_point(index: VectorIndex) -> None:
    index.upsert([words_point(1, {1: 1.0}), words_point(2, {1: 2.0}), words_point(3, {1: 3.0})])
    index.upsert([words_point(1, {2: 1.0}), point(2, vectors(1)[0])])
    assert [hit.id.int for hit in lexical(index, {1: 1.0})] == [3]
    assert [hit.id.int for hit in lexical(index, {2: 1.0})] == [1]
    assert set(index.fetch_vectors([identifier(1)])[identifier(1)]) == {Leg.MOLECULES}
    index.delete([identifier(1)])
    assert lexical(index, {2: 1.0}) == []


@pytest.mark.parametrize("words", [{-1: 1.0}, {1 << 32: 1.0}, {1: math.nan}, {1: math.inf}, {1: 0.0}, {1: -2.0}])
def test_words_that_weigh_nothing_sensible_are_refused_before_anything_is_written(index: VectorIndex, words: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="weigh"):
        index.upsert([words_point(1, {1: 1.0}), words_point(2, words)])
    with pytest.raises(ValueError, match="weigh"):
        lexical(index, words)
    with pytest.raises(ValueError, match="cannot be asked"):
        index.search_legs([Question(Leg.MOLECULES, {1: 1.0})], 5)
    assert index.count() == 0


# Few names and values, so that conditions often hold; the names are as bad as people's columns.
NAMES = ("charge", "id", "metadata.a b", 'metadata.x"].y[0]', "metadata.Größe-2")
LONG = "long " * 100
NUMBERS = st.sampled_from([-1, 0, 1, 0.1 + 0.2, 0.3, 1e15, 1e-9])
TEXTS = st.sampled_from(["", "a", "A", "1", "true", "é", "a=b", "\0", "👩‍🔬", LONG, LONG + "!"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.just({"nested": 1}) | st.just([[1], {"a": "a"}, 1e400])
FIELDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
CONDITIONS = st.builds(Condition, st.sampled_from(NAMES), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NUMBERS) | st.builds(
    Condition, st.sampled_from(NAMES), st.sampled_from(["=", "!="]), st.booleans() | TEXTS
)
TREES = st.recursive(
    CONDITIONS,
    lambda parts: (
        st.builds(Not, parts)
        | st.builds(And, st.lists(parts, max_size=3).map(tuple))
        | st.builds(Or, st.lists(parts, max_size=3).map(tuple))
    ),
    max_leaves=8,
)
libraries = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(FIELDS, min_size=1, max_size=8), trees=st.lists(TREES, min_size=1, max_size=6))
def test_filters_mean_the_same_everywhere(shared_index: VectorIndex, rows: list[dict[str, JsonValue]], trees: list[Filter]) -> None:
    library, vector = f"property-{next(libraries)}", vectors(1)[0]
    points = [point(i, vector, library=library, fields=fields) for i, fields in enumerate(rows)]
    oracle = FakeIndex("m1", DIMENSION)
    oracle.upsert(points)
    shared_index.upsert(points)
    try:
        for tree in trees:
            [expected] = oracle.search(Leg.MOLECULES, [vector], 10, [library], tree)
            [found] = shared_index.search(Leg.MOLECULES, [vector], 10, [library], tree)
            assert numbers(found) == numbers(expected), tree
    finally:
        shared_index.delete_library(library)
