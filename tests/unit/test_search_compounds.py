"""Search: legs, fusion, filters, pages."""

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.search import Leg, Query
from server.usecases.manage_libraries import delete_compound, delete_library, purge_library
from server.usecases.search_compounds import query_words, search_compounds, search_many
from tests.builders import import_rows, row
from tests.unit.conftest import World

ROWS = [
    row(1, "CCO", "A:1", "ethanol", "a primary alcohol", year=1800),
    row(2, "CO", "A:2", "methanol", "the simplest alcohol", year=1661),
    row(3, "c1ccccc1", "A:3", "benzene", "an aromatic hydrocarbon"),
    row(4, "CC(=O)O", "A:4", "acetic acid"),
    row(5, "CCCCCC"),
]


@pytest.fixture
def library(world: World) -> World:
    import_rows(world.ports, ROWS)
    import_rows(world.ports, [row(1, "OCC", "B:1", "spirit")], library="other")
    world.work()
    return world


def names(world: World, query: Query, filter_text: str = "") -> list[str]:
    page = search_compounds(query, filter_text, world.ports, max_text_characters=1_000)
    return [hit.compound.display_name for hit in page.hits]


def refused(world: World, query: Query, filter_text: str = "") -> Reason:
    with pytest.raises(AtomasError) as caught:
        search_compounds(query, filter_text, world.ports, max_text_characters=1_000)
    return caught.value.reason


def test_words_find_the_text_that_holds_them(library: World) -> None:
    assert names(library, Query("lib", text="the simplest alcohol methanol", legs=frozenset({Leg.TEXTS})))[0] == "methanol"


def test_a_structure_finds_itself_first_in_any_spelling(library: World) -> None:
    for spelling in ("CCO", "OCC", "C(O)C", "[CH3][CH2][OH]"):
        page = search_compounds(Query("lib", structure=spelling, legs=frozenset({Leg.MOLECULES})), "", library.ports, max_text_characters=9)
        assert page.hits[0].compound.display_name == "ethanol"
        assert page.hits[0].score == pytest.approx(1.0, abs=1e-3)


def test_a_compound_finds_its_neighbours_but_not_itself(library: World) -> None:
    found = names(library, Query("lib", compound=("lib", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"), legs=frozenset({Leg.MOLECULES})))
    assert "ethanol" not in found
    assert len(found) == 4


def test_a_hit_says_what_each_leg_said(library: World) -> None:
    page = search_compounds(Query("lib", text="aromatic hydrocarbon benzene"), "", library.ports, max_text_characters=100)
    best = page.hits[0]
    assert best.compound.display_name == "benzene"
    assert {leg.leg for leg in best.legs} == {Leg.MOLECULES, Leg.TEXTS, Leg.LEXICAL}
    assert [leg.rank for leg in best.legs if leg.leg is Leg.TEXTS] == [1]
    assert list(best.matched_words) == ["aromatic", "hydrocarbon", "benzene"]
    assert all(len(hit.legs) == 3 for hit in page.hits)
    assert [hit.score for hit in page.hits] == sorted((hit.score for hit in page.hits), reverse=True)


def test_legs_are_weighed_as_asked(library: World) -> None:
    by_words = Query("lib", text="hydrocarbon", weights={Leg.MOLECULES: 0, Leg.TEXTS: 0})
    page = search_compounds(by_words, "", library.ports, max_text_characters=100)
    assert [(hit.compound.display_name, [leg.leg for leg in hit.legs]) for hit in page.hits] == [("benzene", [Leg.LEXICAL])]
    assert refused(library, Query("lib", text="acid", weights={Leg.MOLECULES: -1})) is Reason.INVALID_ARGUMENT
    assert refused(library, Query("lib", structure="CCO", weights={Leg.LEXICAL: 1})) is Reason.INVALID_ARGUMENT


def test_several_libraries_are_searched_at_once(library: World) -> None:
    import_rows(library.ports, [row(1, "OCC", "C:1", "third")], library="more")
    library.work()
    query = Query(None, libraries=("lib", "more"), structure="CCO", limit=2)
    assert set(names(library, query)) == {"ethanol", "third"}
    assert refused(library, Query(None, libraries=("lib", "nowhere"), text="acid")) is Reason.LIBRARY_NOT_FOUND


def test_many_searches_answer_as_each_alone_and_fail_alone(library: World) -> None:
    queries = [
        (Query("lib", text="the simplest alcohol"), ""),
        (Query("lib", text=" "), ""),
        (Query("lib", anything="ethanol"), "heavy_atoms < 4"),
        (Query("lib", structure="C1CC"), ""),
        (Query("lib", text="word " * 1_500), ""),
        (Query("other", structure="CCO"), ""),
        (Query("nowhere", text="acid"), ""),
        (Query("lib", text="acid"), "colour ="),
        (Query("lib", text="the simplest alcohol", limit=2, offset=1), ""),
    ]
    before = library.encoder.calls
    pages = search_many(queries, library.ports, max_text_characters=10_000)
    # One for the texts, two for the halves of those with one too long, and so on; not one for each.
    assert library.encoder.calls - before <= 6
    reasons = [page.reason if isinstance(page, AtomasError) else None for page in pages]
    assert reasons == [
        None, Reason.EMPTY_QUERY, None, Reason.INVALID_SMILES, Reason.TEXT_TOO_LONG, None, Reason.LIBRARY_NOT_FOUND, Reason.INVALID_FILTER, None,
    ]  # fmt: skip
    for (query, filter_text), page in zip(queries, pages, strict=True):
        if not isinstance(page, AtomasError):
            alone = search_compounds(query, filter_text, library.ports, max_text_characters=10_000)
            assert (page.hits, page.more, page.interpretation) == (alone.hits, alone.more, alone.interpretation)


def test_a_library_is_searched_alone_and_all_together(library: World) -> None:
    query = Query("other", structure="CCO", legs=frozenset({Leg.MOLECULES}))
    assert names(library, query) == ["spirit"]
    assert set(names(library, Query(None, structure="CCO", legs=frozenset({Leg.MOLECULES}), limit=2))) == {"ethanol", "spirit"}


def test_filters_keep_what_meets_them(library: World) -> None:
    query = Query("lib", text="alcohol")
    assert set(names(library, query, "metadata.year < 1700")) == {"methanol"}
    assert set(names(library, query, "id = A:3 OR heavy_atoms = 2")) == {"benzene", "methanol"}
    assert refused(library, query, "metadata.colour = red") is Reason.UNKNOWN_FIELD


def test_pages_follow_each_other_without_repeats_or_gaps(library: World) -> None:
    whole = names(library, Query("lib", text="alcohol", limit=10))
    parts: list[str] = []
    for offset in range(0, 5, 2):
        page = search_compounds(Query("lib", text="alcohol", limit=2, offset=offset), "", library.ports, max_text_characters=99)
        parts += [hit.compound.display_name for hit in page.hits]
        assert page.more is (offset < 4)
        assert [hit.rank for hit in page.hits] == list(range(offset + 1, offset + 1 + len(page.hits)))
    assert parts == whole


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (Query("lib", text="  "), Reason.EMPTY_QUERY),
        (Query("lib"), Reason.EMPTY_QUERY),
        (Query("lib", text="x" * 1_001), Reason.TEXT_TOO_LONG),
        (Query("lib", structure="C1CC"), Reason.INVALID_SMILES),
        (Query("lib", structure=""), Reason.EMPTY),
        (Query("nowhere", text="acid"), Reason.LIBRARY_NOT_FOUND),
        (Query("lib", compound=("lib", "NOPE")), Reason.COMPOUND_NOT_FOUND),
        (Query("lib", text="acid", offset=250), Reason.INVALID_ARGUMENT),
        (Query("lib", text="acid", offset=10_000, legs=frozenset({Leg.TEXTS})), Reason.INVALID_ARGUMENT),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(library: World, query: Query, reason: Reason) -> None:
    assert refused(library, query) is reason


def test_what_was_deleted_is_found_no_more(library: World) -> None:
    delete_compound("lib", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", library.ports)
    assert "ethanol" not in names(library, Query("lib", structure="CCO", legs=frozenset({Leg.MOLECULES})))
    with pytest.raises(AtomasError) as caught:
        delete_library("lib", False, library.ports)
    assert caught.value.reason is Reason.LIBRARY_NOT_EMPTY
    delete_library("lib", True, library.ports)
    assert refused(library, Query("lib", text="acid")) is Reason.LIBRARY_NOT_FOUND
    library.work()
    assert library.index.count("lib") == 0


def test_a_late_second_purge_leaves_a_new_library_of_the_same_name_alone(library: World) -> None:
    delete_library("lib", True, library.ports)
    library.work()
    import_rows(library.ports, ROWS)
    library.work()
    purge_library("lib", library.ports)
    assert names(library, Query("lib", structure="CCO", legs=frozenset({Leg.MOLECULES})))[0] == "ethanol"


def test_common_words_explain_nothing() -> None:
    assert query_words("The molecule is a steroid with an 11-oxo group") == ["steroid", "11-oxo", "group"]
