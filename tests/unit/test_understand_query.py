"""One box: what a query is taken for, and who comes first."""

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.search import Interpretation, Kind, Query, SearchPage
from server.usecases.search_compounds import search_compounds
from server.usecases.understand_query import looks_like_structure
from tests.builders import import_rows, row
from tests.unit.conftest import World

CAFFEINE = "CN1C=NC2=C1C(=O)N(C)C(=O)N2C"
ROWS = [
    row(1, CAFFEINE, "CHEBI:27732", "caffeine", "a trimethylxanthine", synonyms=("1,3,7-trimethylxanthine", "Coffeinum")),
    row(2, "Cn1cnc2[nH]c(=O)[nH]c(=O)c12", "CHEBI:28946", "7-methylxanthine", "a monomethylxanthine found in coffee"),
    row(3, "[C-]#[O+]", "CHEBI:17245", "carbon monoxide", "a toxic gas", synonyms=("CO",)),
    row(4, "C[C@H](N)C(=O)O", "CHEBI:16977", "L-alanine", "an amino acid"),
    row(5, "C[C@@H](N)C(=O)O", "CHEBI:15570", "D-alanine", "an amino acid"),
    row(6, "CC12CCC(CC1)C(C)(C)O2", "CHEBI:27961", "1,8-cineole", "a monoterpenoid", synonyms=("eucalyptol",)),
    row(7, "OC1CCCCC1", "CHEBI:18099", "cyclohexanol", "an alcohol"),
]


@pytest.fixture
def library(world: World) -> World:
    import_rows(world.ports, ROWS)
    world.work()
    return world


def ask(world: World, text: str, filter_text: str = "", library: str | None = "lib") -> SearchPage:
    return search_compounds(Query(library, anything=text), filter_text, world.ports, max_text_characters=1_000)


def first(page: SearchPage) -> str:
    return page.hits[0].compound.display_name


@pytest.mark.parametrize(
    "spelling", ["caffeine", "Caffeine", " CAFFEINE ", "coffeinum", "1,3,7-Trimethylxanthine", "1 3 7 trimethyl-xanthine"]
)
def test_a_name_in_any_spelling_finds_its_compound_first_and_then_what_is_like_it(library: World, spelling: str) -> None:
    page = ask(library, spelling)
    assert page.interpretation.kind is Kind.NAME
    assert first(page) == "caffeine"
    assert len(page.hits) == len(ROWS)
    assert [hit.score for hit in page.hits] == sorted((hit.score for hit in page.hits), reverse=True)


def test_a_name_in_another_spelling_is_said(library: World) -> None:
    assert ask(library, "caffeine").interpretation == Interpretation(Kind.NAME)
    assert ask(library, "CAFFEINE").interpretation == Interpretation(Kind.NAME, corrected_name="caffeine")


@pytest.mark.parametrize("typo", ["cafeine", "caffiene", "caffeinne", "coffeine", "1,3,7-trimethilxanthine"])
def test_a_typo_is_corrected_and_said(library: World, typo: str) -> None:
    page = ask(library, typo)
    assert (page.interpretation.kind, first(page)) == (Kind.NAME, "caffeine")
    assert page.interpretation.corrected_name in ("caffeine", "1,3,7-trimethylxanthine")


def test_words_that_texts_use_are_no_typos(library: World) -> None:
    import_rows(library.ports, [row(1, "CCCCO", "X:1", "alcohols", "some alcohol or other")], library="more")
    library.work()
    assert ask(library, "alcohol", library="more").interpretation.kind is Kind.TEXT
    assert ask(library, "alcohool", library="more").interpretation.kind is Kind.TEXT
    assert ask(library, "alcohol", library=None).interpretation.kind is Kind.TEXT


@pytest.mark.parametrize(
    ("query", "kind", "name"),
    [
        (CAFFEINE, Kind.STRUCTURE, "caffeine"),
        ("Cn1cnc2c1c(=O)n(C)c(=O)n2C", Kind.STRUCTURE, "caffeine"),
        ("InChI=1S/C8H10N4O2/c1-10-4-9-6-5(10)7(13)12(3)8(14)11(6)2/h4H,1-3H3", Kind.STRUCTURE, "caffeine"),
        ("RYYVLZVUVIJVGH-UHFFFAOYSA-N", Kind.INCHIKEY, "caffeine"),
        ("ryyvlzvuvijvgh-uhfffaoysa-n", Kind.INCHIKEY, "caffeine"),
        ("RYYVLZVUVIJVGH", Kind.INCHIKEY, "caffeine"),
        ("CHEBI:27732", Kind.SOURCE_ID, "caffeine"),
        ("chebi:27732", Kind.SOURCE_ID, "caffeine"),
        # Carbon monoxide is called so; methanol is written so.
        ("CO", Kind.NAME, "carbon monoxide"),
        ("OC", Kind.STRUCTURE, None),
        ("a stimulant found in coffee", Kind.TEXT, None),
        ("poison", Kind.TEXT, None),
        ("CHEBI:1", Kind.TEXT, None),
        ("AAAAAAAAAAAAAA", Kind.TEXT, None),
        ("bacon", Kind.TEXT, None),
        ("CB1", Kind.TEXT, None),
        ("Кофеин", Kind.TEXT, None),
    ],
)
def test_every_kind_of_query_is_recognised(library: World, query: str, kind: Kind, name: str | None) -> None:
    page = ask(library, query)
    assert page.interpretation.kind is kind
    assert name is None or first(page) == name


def test_the_structure_that_was_searched_with_is_said(library: World) -> None:
    for query in (CAFFEINE, "CHEBI:27732", "RYYVLZVUVIJVGH-UHFFFAOYSA-N"):
        assert ask(library, query).interpretation.smiles == "Cn1c(=O)c2c(ncn2C)n(C)c1=O"


def test_the_first_block_of_an_inchikey_finds_all_stereoisomers_first(library: World) -> None:
    page = ask(library, "QNAYBMKLOCPYGJ")
    assert {hit.compound.display_name for hit in page.hits[:2]} == {"L-alanine", "D-alanine"}
    assert len(page.hits) > 2


def test_a_key_of_no_compound_finds_nothing(library: World) -> None:
    page = ask(library, "AAAAAAAAAAAAAA-UHFFFAOYSA-N")
    assert (page.interpretation.kind, list(page.hits)) == (Kind.INCHIKEY, [])
    assert page.no_good_match


def test_a_named_compound_meets_the_filter_too(library: World) -> None:
    assert "caffeine" not in [hit.compound.display_name for hit in ask(library, "caffeine", "heavy_atoms < 10").hits]
    assert first(ask(library, "caffeine", "heavy_atoms > 10")) == "caffeine"


def test_names_are_looked_up_in_the_libraries_searched(library: World) -> None:
    import_rows(library.ports, [row(1, "CCO", "X:1", "ethanol")], library="more")
    library.work()
    assert ask(library, "caffeine", library="more").interpretation.kind is Kind.TEXT
    assert first(ask(library, "caffeine", library=None)) == "caffeine"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", Reason.EMPTY_QUERY),
        ("  \n", Reason.EMPTY_QUERY),
        ("x " * 600, Reason.TEXT_TOO_LONG),
        ("CC(=O", Reason.INVALID_SMILES),
        ("c1ccccc1=", Reason.INVALID_SMILES),
        ("[Xx]", Reason.INVALID_SMILES),
        ("InChI=1S/nonsense", Reason.INVALID_INCHI),
    ],
)
def test_what_cannot_be_answered_is_refused(library: World, query: str, reason: Reason) -> None:
    with pytest.raises(AtomasError) as raised:
        ask(library, query)
    assert raised.value.reason is reason


@pytest.mark.parametrize("pattern", ["[#6]~[#7]", "[$([CX4]),$([cX3])]", "[C,N]=O"])
def test_a_pattern_is_refused_by_the_chemistry_door_not_taken_for_words(library: World, pattern: str) -> None:
    with pytest.raises(AtomasError) as raised:
        ask(library, pattern)
    assert raised.value.reason in (Reason.INVALID_SMILES, Reason.UNSUPPORTED)


@pytest.mark.parametrize(
    "text", ["💊", "💊 caffeine 💊", "カフェイン", "x" * 999, "'; DROP TABLE compounds; --", "%", "_", "\\", "NaN", "-1"]
)
def test_odd_texts_get_an_answer(library: World, text: str) -> None:
    assert ask(library, text).hits


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("CCO", True), ("C", True), ("IN", True), ("[Na+].[Cl-]", True), ("C/C=C/C", True), ("c1ccccc1", True), ("[$([CX4])]", True),
        ("CC |atomProp|", True), ("caffeine", False), ("1,2-dichloroethane", False), ("10-12", False), ("", False), ("(+)", False),
        ("bicyclo[2.2.1]heptane", False), ("CCO ethanol", False), ("Cn1cnc2 c1", False),
    ],
)  # fmt: skip
def test_structures_are_told_by_their_letters(text: str, looks: bool) -> None:
    assert looks_like_structure(text) is looks
