"""The leg of fragments: what others found is ordered again, by the hierarchy."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.search import Hit, Kind, Leg, Query, SearchPage
from server.ports import Parts
from server.usecases import search_compounds as module
from server.usecases.fuse_legs import USUAL_WEIGHTS
from server.usecases.search_compounds import search_compounds, search_many
from tests.builders import import_rows, row
from tests.fakes import FakeEncoder
from tests.unit.conftest import World, world_of

# The fake's fragments are letters of the SMILES, its phrases the words of the text by their first letter.
ROWS = [
    row(1, "CCO", "A:1", "ethanol", "a drink"),
    row(2, "CCS", "A:2", "ethanethiol", "a drink"),
    row(3, "CCN", "A:3", "ethylamine", "a drink"),
    row(4, "CCCl", "A:4", "chloroethane", "a drink"),
]


@pytest.fixture
def library() -> World:
    world = world_of(FakeEncoder(fragment_dimension=128))
    import_rows(world.ports, ROWS)
    world.work()
    return world


def page_of(world: World, query: Query) -> SearchPage:
    return search_compounds(query, "", world.ports, max_text_characters=10_000)


def said(hit: Hit, leg: Leg) -> tuple[float, int, float]:
    [found] = [each for each in hit.legs if each.leg is leg]
    return found.score, found.rank, found.weight


def noted(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[tuple[Parts, Collection[UUID]]]]:
    """What the index is asked about fragments from now on."""
    calls: list[Sequence[tuple[Parts, Collection[UUID]]]] = []
    align = world.index.align

    def noting(asked: Sequence[tuple[Parts, Collection[UUID]]]) -> list[dict[UUID, float]]:
        calls.append(asked)
        return align(asked)

    monkeypatch.setattr(world.index, "align", noting)
    return calls


def test_words_are_compared_with_fragments_and_every_hit_says_how(library: World) -> None:
    page = page_of(library, Query("lib", text="sulfur sulfide"))
    assert {leg.leg for hit in page.hits for leg in hit.legs} == {Leg.MOLECULES, Leg.TEXTS, Leg.LEXICAL, Leg.FRAGMENTS}
    by_name = {hit.compound.display_name: said(hit, Leg.FRAGMENTS) for hit in page.hits}
    score, rank, weight = by_name["ethanethiol"]
    assert score == pytest.approx(1.0, abs=1e-3)
    assert (rank, weight) == (1, USUAL_WEIGHTS[Kind.TEXT][Leg.FRAGMENTS])
    assert max(score for name, (score, _, _) in by_name.items() if name != "ethanethiol") < 0.1
    assert sorted(rank for _, rank, _ in by_name.values()) == [1, 2, 3, 4]
    assert "align" in page.timings_seconds


def test_a_heavy_leg_of_fragments_decides_the_order(library: World) -> None:
    for word, best in (("sulfur", "ethanethiol"), ("nitrogen", "ethylamine"), ("oxygen", "ethanol"), ("lithium", "chloroethane")):
        page = page_of(library, Query("lib", text=word, weights={Leg.FRAGMENTS: 1_000.0}))
        assert page.hits[0].compound.display_name == best
        assert [hit.score for hit in page.hits] == sorted((hit.score for hit in page.hits), reverse=True)


def test_without_the_leg_nothing_is_compared(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.index, "align", None)
    monkeypatch.setattr(library.encoder, "encode_texts_and_phrases", None)
    for query in (Query("lib", text="sulfur", weights={Leg.FRAGMENTS: 0.0}), Query("lib", text="sulfur", legs=frozenset({Leg.MOLECULES}))):
        assert Leg.FRAGMENTS not in {leg.leg for hit in page_of(library, query).hits for leg in hit.legs}
    assert page_of(library, Query("lib", structure="CCS")).hits[0].compound.display_name == "ethanethiol"


@pytest.mark.parametrize(
    "query",
    [
        Query("lib", text="sulfur", weights={Leg.MOLECULES: 0, Leg.TEXTS: 0, Leg.LEXICAL: 0}),
        Query("lib", text="sulfur", legs=frozenset({Leg.FRAGMENTS})),
        Query("lib", structure="CCS", weights={Leg.FRAGMENTS: 1}),
    ],
    ids=["nothing finds", "alone", "a structure"],
)
def test_fragments_alone_find_nothing_and_structures_have_no_phrases(library: World, query: Query) -> None:
    with pytest.raises(AtomasError) as raised:
        page_of(library, query)
    assert raised.value.reason is Reason.INVALID_ARGUMENT


def test_a_model_without_a_hierarchy_searches_without_the_leg_and_says_so_to_who_names_it(world: World) -> None:
    import_rows(world.ports, ROWS)
    world.work()
    page = page_of(world, Query("lib", text="sulfur"))
    assert {leg.leg for leg in page.hits[0].legs} == {Leg.MOLECULES, Leg.TEXTS, Leg.LEXICAL}
    with pytest.raises(AtomasError, match="hierarchy") as raised:
        page_of(world, Query("lib", text="sulfur", weights={Leg.FRAGMENTS: 1.0}))
    assert raised.value.reason is Reason.INVALID_ARGUMENT


def test_compounds_that_are_not_written_again_yet_are_found_behind(library: World) -> None:
    old = [replace(point, fragments=None) for point in library.index._points.values() if "ethanethiol" in point.document]
    library.index.upsert(old)
    page = page_of(library, Query("lib", text="sulfur", weights={Leg.FRAGMENTS: 1_000.0}))
    assert len(page.hits) == 4
    [hit] = [hit for hit in page.hits if hit.compound.display_name == "ethanethiol"]
    assert said(hit, Leg.FRAGMENTS)[:2] == (0.0, 0)
    library.index.upsert([replace(point, fragments=None) for point in list(library.index._points.values())])
    bare = page_of(library, Query("lib", text="sulfur"))
    without = page_of(library, Query("lib", text="sulfur", weights={Leg.FRAGMENTS: 0.0}))
    assert [(hit.compound.inchikey, hit.score) for hit in bare.hits] == [(hit.compound.inchikey, hit.score) for hit in without.hits]


def test_many_searches_ask_for_their_fragments_at_once_and_answer_as_each_alone(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [(Query("lib", text=text), "") for text in ("sulfur", "nitrogen atom", " ", "oxygen", "sulfur")]
    queries.append((Query("lib", structure="CCO"), ""))
    queries.append((Query("lib", text="oxygen", weights={Leg.FRAGMENTS: 0.0}), ""))
    asked = noted(library, monkeypatch)
    pages = search_many(queries, library.ports, max_text_characters=1_000)
    assert [len(asks) for asks in asked] == [4]
    for (query, _), page in zip(queries, pages, strict=True):
        if isinstance(page, AtomasError):
            assert page.reason is Reason.EMPTY_QUERY
        else:
            alone = page_of(library, query)
            assert [(hit.compound.inchikey, hit.score, hit.legs) for hit in page.hits] == [
                (hit.compound.inchikey, hit.score, hit.legs) for hit in alone.hits
            ]


def test_hits_beyond_the_first_that_are_ordered_again_stay_behind_and_still_say_their_score(
    library: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REALIGNED", 2)
    before = page_of(library, Query("lib", text="nitrogen", weights={Leg.FRAGMENTS: 0.0}))
    page = page_of(library, Query("lib", text="nitrogen", weights={Leg.FRAGMENTS: 50.0}))
    order = [hit.compound.inchikey for hit in before.hits]
    assert {hit.compound.inchikey for hit in page.hits[:2]} == set(order[:2])
    assert [hit.compound.inchikey for hit in page.hits[2:]] == order[2:]
    assert [said(hit, Leg.FRAGMENTS)[1] for hit in page.hits] == [1, 2, 0, 0]
    assert all(said(hit, Leg.FRAGMENTS)[0] > 0 for hit in page.hits)


def test_pages_of_a_search_do_not_repeat_or_lose_a_hit(library: World) -> None:
    whole = page_of(library, Query("lib", text="sulfur and nitrogen", limit=4))
    pages = [page_of(library, Query("lib", text="sulfur and nitrogen", limit=1, offset=n, reach=whole.reach)) for n in range(4)]
    assert [page.hits[0].compound.inchikey for page in pages] == [hit.compound.inchikey for hit in whole.hits]


def test_a_long_text_is_compared_by_its_heaviest_phrases(library: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted(library, monkeypatch)
    page_of(library, Query("lib", text=" ".join(f"word{n}" for n in range(300))))
    [[(phrases, _)]] = asked
    assert phrases.vectors.shape == (64, 128)
    assert np.sum(phrases.weights) == pytest.approx(1.0, abs=1e-5)
