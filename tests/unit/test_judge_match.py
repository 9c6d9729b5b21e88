"""Whether anything matches well, measured against queries without meaning."""

from uuid import UUID

import pytest

from server.domain.search import Leg, Query
from server.ports import Question, ScoredPoint
from server.usecases.judge_match import FALSE_PASS_SHARE, SALADS, SEED, MatchJudge, measure, word_salads
from server.usecases.search_compounds import search_compounds
from server.usecases.words import query_weights
from tests.builders import import_rows, row
from tests.unit.conftest import World

ROWS = [
    row(1, "CCO", "A:1", "ethanol", "a primary alcohol"),
    row(2, "c1ccccc1", "A:2", "benzene", "an aromatic hydrocarbon"),
    row(3, "CC(=O)O", "A:3", "acetic acid", "the simplest carboxylic acid found in vinegar"),
]


@pytest.fixture
def library(world: World) -> World:
    import_rows(world.ports, ROWS)
    world.work()
    return world


def found(molecules: float, texts: float) -> dict[Leg, list[ScoredPoint]]:
    return {leg: [ScoredPoint(UUID(int=1), score)] for leg, score in ((Leg.MOLECULES, molecules), (Leg.TEXTS, texts))}


def test_the_measure_is_what_meaningless_queries_reach(library: World) -> None:
    measured = measure(library.ports)
    assert (measured.model_version, measured.count) == (library.index.model_version, 3)
    for leg in (Leg.MOLECULES, Leg.TEXTS):
        limit = measured.limits[leg]
        best = [points[0].score for points in library.index.search(leg, list(library.encoder.encode_texts(word_salads(SEED, SALADS))), 1)]
        assert sum(score > limit for score in best) <= FALSE_PASS_SHARE * SALADS
        assert max(best) >= limit


def test_nothing_is_said_before_there_is_a_measure(world: World) -> None:
    judge = MatchJudge(world.ports)
    judge.refresh()
    assert not judge.no_good_match(found(0.0, 0.0), "words")


def test_hits_are_bad_when_no_leg_is_better_than_chance(library: World) -> None:
    judge = MatchJudge(library.ports)
    judge.refresh()
    limits = measure(library.ports).limits
    low, high = (limits[Leg.MOLECULES] - 0.01, limits[Leg.TEXTS] - 0.01), (limits[Leg.MOLECULES] + 0.01, limits[Leg.TEXTS] + 0.01)
    assert judge.no_good_match(found(*low), "words")
    assert not judge.no_good_match(found(low[0], high[1]), "words")
    assert not judge.no_good_match(found(high[0], low[1]), "words")
    assert not judge.no_good_match({Leg.LEXICAL: found(*low)[Leg.TEXTS]}, "words")


def test_a_search_says_so(library: World) -> None:
    judge = MatchJudge(library.ports)
    judge.refresh()

    def said(text: str) -> bool:
        return search_compounds(Query("lib", text=text), "", library.ports, max_text_characters=99, judge=judge).no_good_match

    assert not said("the simplest carboxylic acid found in vinegar")
    assert said("zebra")


def test_words_that_the_library_holds_are_a_match(library: World) -> None:
    import_rows(library.ports, [row(i, "C" * i, f"B:{i}", "", "festival budget") for i in range(1, 4)], library="more")
    library.work()
    judge = MatchJudge(library.ports)
    judge.refresh()
    low = found(-1.0, -1.0)
    limit = measure(library.ports).limits[Leg.LEXICAL]
    assert limit > 0
    assert judge.no_good_match(low | {Leg.LEXICAL: []}, "ten words")
    assert judge.no_good_match(low | {Leg.LEXICAL: [ScoredPoint(UUID(int=1), 2 * limit)]}, "two words")
    assert not judge.no_good_match(low | {Leg.LEXICAL: [ScoredPoint(UUID(int=1), 2.1 * limit)]}, "two words")


def test_common_words_that_one_compound_brings_together_are_a_match(library: World) -> None:
    import_rows(
        library.ports, [row(i, "C" * i, f"B:{i}", "", "human metabolite" if i < 9 else "budget") for i in range(1, 10)], library="more"
    )
    library.work()
    judge = MatchJudge(library.ports)
    judge.refresh()
    low = found(-1.0, -1.0)

    def judged(text: str) -> bool:
        [points] = library.index.search_legs([Question(Leg.LEXICAL, query_weights(text))], 100)
        common = [ScoredPoint(point.id, 0.01) for point in points]
        return judge.no_good_match(low | {Leg.LEXICAL: common}, text)

    assert not judged("human metabolites")
    assert judged("human vinegar")
    assert judged("human")
    import_rows(library.ports, [row(i, "C" * i, f"C:{i}", "", "human") for i in range(1, 45)], library="further")
    library.work()
    assert not judged("human")


def test_a_larger_index_or_another_model_is_measured_anew(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = MatchJudge(library.ports)
    judge.refresh()
    calls = library.encoder.calls
    judge.refresh()
    assert library.encoder.calls == calls
    import_rows(library.ports, [row(i, "C" * i, f"B:{i}", f"alkane {i}") for i in range(1, 6)], library="more")
    library.work()
    calls = library.encoder.calls
    judge.refresh()
    assert library.encoder.calls == calls + 1
    monkeypatch.setattr(library.index, "_model_version", "another")
    assert not judge.no_good_match(found(-1.0, -1.0), "words")
    judge.refresh()
    assert judge.no_good_match(found(-1.0, -1.0), "words")
