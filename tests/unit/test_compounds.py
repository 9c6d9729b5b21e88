"""Merging source records into compounds."""

from hypothesis import given
from hypothesis import strategies as st

from server.domain.compounds import Compound, SourceRecord, Structure, point_id
from server.domain.documents import compound_of, document_of

STRUCTURE = Structure(
    "CCO", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "CCO", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", {"charge": 0, "formula": "C2H6O"}, b"\x01" * 256
)
short = st.text("abc", max_size=3)
records = st.builds(
    SourceRecord,
    source_id=short,
    display_name=short,
    synonyms=st.lists(short, max_size=2).map(tuple),
    descriptions=st.lists(short, max_size=2).map(tuple),
    metadata=st.dictionaries(short, st.integers(0, 3) | st.booleans() | short, max_size=2),
    order=st.tuples(st.sampled_from(["2024", "2025"]), st.integers(1, 5)),
)


def compound(*said: SourceRecord) -> Compound:
    merged = Compound("lib", STRUCTURE, said[:1])
    for record in said[1:]:
        merged = merged.merged_with(record)
    return merged


@given(st.lists(records, min_size=1, max_size=4), records)
def test_importing_a_record_again_changes_nothing(said: list[SourceRecord], record: SourceRecord) -> None:
    once = compound(*said).merged_with(record)
    assert once.merged_with(record) is once


def test_a_record_with_the_same_id_replaces_the_former_in_place() -> None:
    first = SourceRecord("A:1", "old", order=("2024", 1))
    second = SourceRecord("A:2", "other", order=("2024", 2))
    merged = compound(first, second, SourceRecord("A:1", "new", order=("2025", 9)))
    assert merged.display_name == "new"
    assert merged.synonyms == ("other",)
    assert merged.source_ids == ("A:1", "A:2")
    assert merged.revision == 3


def test_the_earliest_record_names_the_compound_whatever_came_in_first() -> None:
    late = SourceRecord("A:2", "late", metadata={"x": "late"}, order=("2024", 7))
    early = SourceRecord("A:1", "early", metadata={"x": "early"}, order=("2024", 1))
    assert compound(late, early).display_name == compound(early, late).display_name == "early"
    assert compound(late, early).metadata == {"x": "early"}


@given(st.lists(records, min_size=1, max_size=3))
def test_the_index_gives_back_what_it_was_given(said: list[SourceRecord]) -> None:
    original = compound(*said)
    read = compound_of(document_of(original))
    assert (read.display_name, read.synonyms, read.descriptions, read.metadata, read.source_ids) == (
        original.display_name,
        original.synonyms,
        original.descriptions,
        original.metadata,
        original.source_ids,
    )
    assert read.structure.descriptors == original.structure.descriptors


def test_point_ids_depend_on_library_and_structure_alone() -> None:
    assert point_id("a", "K") == point_id("a", "K")
    assert len({point_id("a", "K"), point_id("b", "K"), point_id("a", "L")}) == 3
