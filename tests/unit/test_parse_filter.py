"""The filter language: what it accepts, what it means, what it refuses and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.compounds import NUMERIC_DESCRIPTORS
from server.domain.errors import AtomasError, Reason
from server.domain.filters import And, Condition, Filter, Not, Or, Structural
from server.usecases.parse_filter import parse_filter

FIELDS = {"source": {"text", "boolean"}, "year": {"number"}, "odd name": {"text"}, "approved": {"text", "date"}, "code": {"text"}}


def reason_of(text: str) -> Reason:
    with pytest.raises(AtomasError) as caught:
        parse_filter(text, FIELDS)
    return caught.value.reason


def test_a_blank_filter_is_no_filter() -> None:
    assert parse_filter("  \n", FIELDS) is None


def test_conditions_combine_with_and_or_not_and_parentheses() -> None:
    tree = parse_filter('molecular_weight < 500 AND (charge = 0 OR NOT metadata.source = "x") AND -rings >= 3', FIELDS)
    assert tree == And(
        (
            Condition("molecular_weight", "<", 500.0),
            Or((Condition("charge", "=", 0.0), Not(Condition("metadata.source", "=", "x")))),
            Not(Condition("rings", ">=", 3.0)),
        )
    )


def test_values_may_be_words_strings_numbers_and_booleans() -> None:
    assert parse_filter("id = CHEBI:27732", FIELDS) == Condition("id", "=", "CHEBI:27732")
    assert parse_filter("formula = C8H10N4O2", FIELDS) == Condition("formula", "=", "C8H10N4O2")
    assert parse_filter("metadata.year >= 1.5e3", FIELDS) == Condition("metadata.year", ">=", 1500.0)
    assert parse_filter("metadata.source = true", FIELDS) == Condition("metadata.source", "=", True)
    assert parse_filter('metadata."odd name" = "a \\"b\\""', FIELDS) == Condition("metadata.odd name", "=", 'a "b"')


def test_functions_ask_about_structures_and_presence() -> None:
    assert parse_filter("substructure(\"c1ccccc1\") AND NOT smarts('[OH]')", FIELDS) == And(
        (Structural("substructure", "c1ccccc1"), Not(Structural("smarts", "[OH]")))
    )
    assert parse_filter('similar ("CCO", 0.6) OR superstructure("CCO")', FIELDS) == Or(
        (Structural("similar", "CCO", 0.6), Structural("superstructure", "CCO"))
    )
    assert parse_filter('same_skeleton("F/C=C\\F")', FIELDS) == Structural("same_skeleton", "F/C=C\\F")
    assert parse_filter('has(texts) AND has(metadata."odd name")', FIELDS) == And(
        (Condition("has", "=", "texts"), Condition("has", "=", "metadata.odd name"))
    )


def test_elements_are_counted_and_none_is_a_count() -> None:
    assert parse_filter("elements.Cl >= 2", FIELDS) == And((Condition("elements", "=", "Cl"), Condition("elements.Cl", ">=", 2.0)))
    assert parse_filter("elements.Cl < 2", FIELDS) == Or((Not(Condition("elements", "=", "Cl")), Condition("elements.Cl", "<", 2.0)))
    assert parse_filter("elements.Cl != 0", FIELDS) == Not(parse_filter("elements.Cl = 0", FIELDS) or And(()))


def test_formulas_are_the_same_in_any_order() -> None:
    assert parse_filter("formula = O4C9H8", FIELDS) == parse_filter('formula = "C9H8O4"', FIELDS) == Condition("formula", "=", "C9H8O4")


def test_dates_are_compared_as_dates() -> None:
    day, next_day = 988_848_000.0, 988_934_400.0
    assert parse_filter("metadata.approved >= 2001-05-03", FIELDS) == Condition("date.approved", ">=", day)
    assert parse_filter('metadata.approved > "2001-05-03"', FIELDS) == Condition("date.approved", ">=", next_day)
    assert parse_filter("metadata.approved <= 2001-05-03", FIELDS) == Condition("date.approved", "<", next_day)
    assert parse_filter("metadata.approved = 2001-05-03", FIELDS) == Condition("day.approved", "=", day / 86_400)
    assert parse_filter("metadata.approved < 2001-05-03T02:00:00+02:00", FIELDS) == Condition("date.approved", "<", day)
    assert parse_filter('metadata.code = "2001-05-03"', FIELDS) == Condition("metadata.code", "=", "2001-05-03")


@pytest.mark.parametrize(
    "text", ["mass < 3", "metadata.unknown = 1", "molecular_weigth < 500", 'colour("red")', "has(colour)", "elements.cl > 1"]
)
def test_a_field_that_no_compound_has_is_refused(text: str) -> None:
    assert reason_of(text) is Reason.UNKNOWN_FIELD


@pytest.mark.parametrize(
    "text",
    [
        "charge",
        "charge =",
        "= 3",
        "charge = 0 AND",
        "(charge = 0",
        "charge = 0 charge = 1",
        "charge = x",
        'id < "a"',
        "charge = true",
        "metadata.year = x",
        "metadata.year = true",
        "metadata.code = 3",
        "metadata.code < abc",
        "metadata.approved > soon",
        "metadata.approved > 3",
        "substructure(CCO)",
        'substructure("CCO", 3)',
        "substructure()",
        'similar("CCO")',
        'similar("CCO", 1.5)',
        'similar("CCO", 0)',
        "has(3)",
        'substructure("C") rings = 1',
        " AND ".join(['substructure("C")'] * 11),
        "'",
        "a" * 20_000,
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(text: str) -> None:
    assert reason_of(text) is Reason.INVALID_FILTER


def test_mixing_and_with_or_needs_parentheses() -> None:
    assert reason_of("charge = 0 AND rings = 1 OR rings = 2") is Reason.INVALID_FILTER


def test_a_filter_with_too_many_conditions_is_refused() -> None:
    assert reason_of(" OR ".join(["charge = 0"] * 201)) is Reason.INVALID_FILTER


@given(st.text(max_size=60))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        parse_filter(text, FIELDS)
    except AtomasError as error:
        assert error.reason in (Reason.INVALID_FILTER, Reason.UNKNOWN_FIELD)


conditions: st.SearchStrategy[Filter] = st.builds(
    Condition,
    st.sampled_from(NUMERIC_DESCRIPTORS),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)),
)
trees = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda p: And(tuple(p))),
        st.lists(inner, min_size=2, max_size=3).map(lambda p: Or(tuple(p))),
    ),
    max_leaves=6,
)


def written(tree: Filter) -> str:
    match tree:
        case Condition(field, operator, value):
            return f"{field} {operator} {value}"
        case Not(part):
            return f"NOT ({written(part)})"
        case And(parts):
            return " AND ".join(f"({written(part)})" for part in parts)
        case Or(parts):
            return " OR ".join(f"({written(part)})" for part in parts)
    raise AssertionError(f"no filter of this test: {tree}")


@given(trees)
def test_reading_what_a_tree_was_written_as_gives_the_tree(tree: Filter) -> None:
    assert parse_filter(written(tree), FIELDS) == tree
