"""Names and values as the engine's payload keeps them."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from server.adapters.qdrant_points import MAX_METADATA_INDEXES, NUMBERS, EnginePoint, escaped, number_path, paths_to_index, term

PATH = re.compile(r"numbers\.[A-Za-z0-9_-]*")
FIELD = st.text(max_size=8) | st.text(alphabet="a-2d=:#.\\x", max_size=6)
VALUE = st.text(max_size=8) | st.text(alphabet="a=:#true", max_size=6) | st.booleans()


@given(FIELD)
def test_any_name_makes_a_path_that_needs_no_quotes(field: str) -> None:
    assert PATH.fullmatch(number_path(field))


@given(FIELD, FIELD)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


@given(FIELD, VALUE, FIELD, VALUE)
def test_terms_are_equal_only_for_equal_fields_and_values(one: str, value: str | bool, other: str, other_value: str | bool) -> None:
    same = (one, type(value), value) == (other, type(other_value), other_value)
    assert (term(one, value) == term(other, other_value)) == same


@given(st.text(min_size=100, max_size=300), st.text(min_size=100, max_size=300))
def test_long_values_stay_different(one: str, other: str) -> None:
    assert (term("f", one) == term("f", other)) == (one == other)
    assert len(term("f", one)) < 150


def test_counts_of_common_elements_get_an_index_and_take_none_from_metadata() -> None:
    def point(**numbers: list[float]) -> EnginePoint:
        return EnginePoint(uuid.uuid4(), {}, {NUMBERS: {escaped(name.replace("__", ".")): values for name, values in numbers.items()}})

    common, rare = {f"elements__{symbol}": [1.0] for symbol in ("C", "Cl")}, {f"elements__{symbol}": [1.0] for symbol in ("Pt", "Se", "Ca")}
    metadata = {f"metadata__m{number}": [1.0] for number in range(MAX_METADATA_INDEXES + 5)}
    paths = paths_to_index([point(**common, **rare), point(**metadata)], set())
    assert [path for path in paths if "elements" in path] == [number_path("elements.C"), number_path("elements.Cl")]
    assert len(paths) == 2 + MAX_METADATA_INDEXES
    assert paths_to_index([point(**common, **rare), point(**metadata)], set(paths)) == []
