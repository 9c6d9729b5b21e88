"""Search by structure: filters that ask about structures, the leg of fingerprints, lists, matched atoms, what happens without the index."""

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.search import Hit, Leg, Query, SearchPage
from server.usecases.export_compounds import export_step, start_export
from server.usecases.manage_libraries import delete_compound
from server.usecases.search_compounds import search_compounds
from server.usecases.track_operations import sweep
from tests.builders import import_rows, row
from tests.unit.conftest import World

ROWS = [
    row(1, "CC(=O)Oc1ccccc1C(=O)O", "A:1", "aspirin", "relieves pain", approved="1899-03-06"),
    row(2, "OC(=O)c1ccccc1O", "A:2", "salicylic acid", "a plant hormone", approved="1950-01-01T00:00:00Z"),
    row(3, "OC(=O)c1ccccc1O.[Na]", "A:3", "odd salt"),
    row(4, "[Na+].[O-]C(=O)c1ccccc1O", "A:4", "sodium salicylate"),
    row(5, "Clc1ccccc1Cl", "A:5", "dichlorobenzene"),
    row(6, "Clc1ccccc1", "A:6", "chlorobenzene"),
    row(7, "CCO", "A:7", "ethanol", "a primary alcohol"),
    row(8, "N[C@@H](C)C(=O)O", "A:8", "L-alanine"),
    row(9, "N[C@H](C)C(=O)O", "A:9", "D-alanine"),
]


@pytest.fixture
def library(world: World) -> World:
    import_rows(world.ports, ROWS, chunk=4)
    import_rows(world.ports, [row(1, "c1ccccc1", "B:1", "benzene")], library="other")
    world.work()
    return world


def search(world: World, query: Query, filter_text: str = "") -> SearchPage:
    return search_compounds(query, filter_text, world.ports, max_text_characters=1_000)


def found(world: World, filter_text: str, library: str | None = "lib") -> set[str]:
    return {hit.compound.display_name for hit in search(world, Query(library, limit=100), filter_text).hits}


def test_a_filter_alone_lists_what_meets_it(library: World) -> None:
    assert found(library, 'substructure("c1ccccc1C(=O)O")') == {"aspirin", "salicylic acid", "sodium salicylate", "odd salt"}
    assert found(library, 'smarts("c1ccccc1C(=O)[OH]")') == {"aspirin", "salicylic acid", "odd salt"}
    assert found(library, 'substructure("c1ccccc1") AND NOT substructure("Cl") AND rings < 2', None) >= {"benzene", "aspirin"}
    assert found(library, 'superstructure("CCOC(=O)c1ccccc1OC(C)=O")') == {"aspirin", "salicylic acid", "ethanol"}
    assert found(library, "charge > 1 AND charge < 1") == set()


def test_a_skeleton_leaves_salts_charges_and_stereochemistry_aside(library: World) -> None:
    assert found(library, 'same_skeleton("OC(=O)c1ccccc1O")') >= {"salicylic acid", "sodium salicylate"}
    assert found(library, 'same_skeleton("CC(N)C(=O)[O-]")') == {"L-alanine", "D-alanine"}


def test_similarity_has_a_threshold(library: World) -> None:
    assert found(library, 'similar("OC(=O)c1ccccc1O", 1)') == {"salicylic acid"}
    assert "ethanol" not in found(library, 'similar("OC(=O)c1ccccc1O", 0.4)')


def test_elements_formulas_dates_and_presence(library: World) -> None:
    assert found(library, "elements.Cl >= 2") == {"dichlorobenzene"}
    assert found(library, "elements.Cl = 1") == {"chlorobenzene"}
    assert found(library, "elements.O = 0") == {"dichlorobenzene", "chlorobenzene"}
    assert found(library, "formula = O2H6C2 OR formula = H6C2O") == {"ethanol"}
    assert found(library, "metadata.approved < 1900-01-01") == {"aspirin"}
    assert found(library, "metadata.approved = 1950-01-01") == {"salicylic acid"}
    assert found(library, "has(texts)") == {"aspirin", "salicylic acid", "ethanol"}
    assert found(library, "has(metadata.approved) AND NOT has(synonyms)") == {"aspirin", "salicylic acid"}


def test_a_filter_on_structures_holds_for_ranked_hits(library: World) -> None:
    hits = search(library, Query("lib", text="acid"), 'substructure("c1ccccc1")').hits
    assert {hit.compound.display_name for hit in hits} <= found(library, 'substructure("c1ccccc1")')
    assert hits


def test_hits_show_the_atoms_that_the_filter_asked_for(library: World) -> None:
    def atoms(filter_text: str) -> dict[str, list[int]]:
        hits = search(library, Query("lib", limit=20), filter_text).hits
        return {hit.compound.display_name: list(hit.matched_atoms) for hit in hits}

    [(name, covered)] = atoms("smarts('[OH]') AND id = A:7").items()
    assert (name, covered) == ("ethanol", [2])
    assert atoms('NOT substructure("c1ccccc1") AND id = A:7') == {"ethanol": []}


def test_fingerprints_rank_by_tanimoto_and_keep_the_filter(library: World) -> None:
    def leg(hit: Hit) -> tuple[Leg, float]:
        [said] = hit.legs
        return said.leg, said.score

    query = Query("lib", structure="OC(=O)c1ccccc1O", legs=frozenset({Leg.FINGERPRINTS}), limit=20)
    page = search(library, query)
    assert next(hit.compound.display_name for hit in page.hits) == "salicylic acid"
    assert leg(page.hits[0]) == (Leg.FINGERPRINTS, 1.0)
    assert [hit.score for hit in page.hits] == sorted((hit.score for hit in page.hits), reverse=True)
    assert len(page.hits) == len(ROWS)
    kept = search(library, query, "elements.Cl > 0").hits
    assert {hit.compound.display_name for hit in kept} == {"dichlorobenzene", "chlorobenzene"}


def test_a_structure_is_compared_by_vectors_and_fingerprints_together(library: World) -> None:
    best = search(library, Query("lib", structure="OC(=O)c1ccccc1O")).hits[0]
    assert best.compound.display_name == "salicylic acid"
    assert [(leg.leg, leg.rank) for leg in best.legs] == [(Leg.MOLECULES, 1), (Leg.FINGERPRINTS, 1)]
    assert best.score == pytest.approx(1.0)


def test_fingerprints_cannot_be_asked_by_words(library: World) -> None:
    with pytest.raises(AtomasError) as caught:
        search(library, Query("lib", text="acid", legs=frozenset({Leg.FINGERPRINTS})))
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_pages_of_a_list_follow_each_other(library: World) -> None:
    whole = [hit.compound.inchikey for hit in search(library, Query("lib", limit=100), "rings >= 0").hits]
    parts: list[str] = []
    for offset in range(0, 12, 2):
        page = search(library, Query("lib", limit=2, offset=offset), "rings >= 0")
        parts += [hit.compound.inchikey for hit in page.hits]
        assert page.more is (offset + 2 < len(whole))
    assert parts == whole
    assert len(whole) == len(ROWS)


@pytest.mark.parametrize(
    ("filter_text", "reason"),
    [
        ('substructure("C1CC")', Reason.INVALID_SMARTS),
        ('superstructure("C1CC")', Reason.INVALID_SMILES),
        ('similar("", 0.5)', Reason.EMPTY),
        ('substructure("")', Reason.EMPTY),
        ("", Reason.EMPTY_QUERY),
    ],
)
def test_a_structure_that_cannot_be_read_is_refused(library: World, filter_text: str, reason: Reason) -> None:
    with pytest.raises(AtomasError) as caught:
        search(library, Query("lib"), filter_text)
    assert caught.value.reason is reason


def test_without_the_structure_index_words_go_on_and_structures_say_why_not(library: World) -> None:
    library.structures.renew()
    hits = search(library, Query("lib", structure="CCO")).hits
    assert [leg.leg for leg in hits[0].legs] == [Leg.MOLECULES]
    for query, filter_text in (
        (Query("lib"), 'substructure("C")'),
        (Query("lib", structure="CCO", legs=frozenset({Leg.FINGERPRINTS})), ""),
    ):
        with pytest.raises(AtomasError) as caught:
            search(library, query, filter_text)
        assert caught.value.reason is Reason.INDEX_UNAVAILABLE


def test_a_lost_structure_index_is_filled_again_by_the_sweep(library: World) -> None:
    library.structures.renew()
    sweep(library.ports)
    library.work()
    assert library.structures.complete
    assert library.structures.count("lib") == library.index.count("lib")
    assert found(library, 'substructure("Cl")') == {"dichlorobenzene", "chlorobenzene"}
    sweep(library.ports)
    assert library.queue.jobs == []


def test_what_was_deleted_is_no_structure_any_more(library: World) -> None:
    delete_compound("lib", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", library.ports)
    library.work()
    assert library.structures.count("lib") == len(ROWS) - 1
    assert found(library, 'substructure("CCO") AND heavy_atoms = 3') == set()


def test_an_export_keeps_to_structures_too(library: World) -> None:
    export = start_export("lib", 'substructure("Cl") AND elements.Cl = 2', False, library.ports)
    assert [each.display_name for each in export_step(export, "", library.ports).compounds] == ["dichlorobenzene"]
