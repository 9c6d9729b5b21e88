"""Export of a library: everything once, in a stable order, or what meets a filter."""

import pytest

from encoder.molecules import standardise
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.usecases import export_compounds
from server.usecases.export_compounds import export_step, start_export
from server.usecases.manage_libraries import delete_library
from tests.builders import import_rows, row
from tests.unit.conftest import World

ALCOHOLS = [row(n, "C" * n + "O", f"ID:{n}", f"alcohol {n}", source="even" if n % 2 == 0 else "odd") for n in range(1, 12)]


@pytest.fixture
def filled(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(export_compounds, "STEP_COMPOUNDS", 4)
    import_rows(world.ports, ALCOHOLS)
    world.work()
    return world


def exported(world: World, filter_text: str = "") -> list[Compound]:
    export = start_export("lib", filter_text, False, world.ports)
    compounds: list[Compound] = []
    after, first = "", True
    while after or first:
        step = export_step(export, after, world.ports)
        compounds += step.compounds
        after, first = step.after, False
    return compounds


def test_every_compound_is_exported_once_in_the_order_of_its_inchikey(filled: World) -> None:
    keys = [compound.inchikey for compound in exported(filled)]
    assert keys == sorted(standardise("C" * n + "O").inchikey for n in range(1, 12))


def test_an_export_goes_on_after_any_compound(filled: World) -> None:
    export = start_export("lib", "", False, filled.ports)
    keys = [compound.inchikey for compound in exported(filled)]
    assert [compound.inchikey for compound in export_step(export, keys[6], filled.ports).compounds] == keys[7:11]


def test_a_filter_chooses_what_is_exported_and_every_compound_is_counted(filled: World) -> None:
    assert {c.display_name for c in exported(filled, 'metadata.source = "even" AND heavy_atoms > 5')} == {
        "alcohol 6",
        "alcohol 8",
        "alcohol 10",
    }
    assert {c.display_name for c in exported(filled, "NOT id = 'ID:3' AND molecular_weight < 70")} == {"alcohol 1", "alcohol 2"}
    assert exported(filled, "molecular_weight < 1") == []
    export = start_export("lib", "molecular_weight < 1", False, filled.ports)
    assert export.compound_count == 11
    assert export_step(export, "", filled.ports).examined == 4


def test_molblocks_come_when_they_are_asked_for(filled: World) -> None:
    step = export_step(start_export("lib", "", True, filled.ports), "", filled.ports)
    assert {standardise(block).inchikey for block in step.molblocks.values()} == {compound.inchikey for compound in step.compounds}
    assert export_step(start_export("lib", "", False, filled.ports), "", filled.ports).molblocks == {}


@pytest.mark.parametrize(
    ("library", "filter_text", "reason"),
    [
        ("none", "", Reason.LIBRARY_NOT_FOUND),
        ("lib", "molecular_weight <", Reason.INVALID_FILTER),
        ("lib", "colour = 1", Reason.UNKNOWN_FIELD),
    ],
)
def test_an_export_that_makes_no_sense_is_refused_before_it_begins(filled: World, library: str, filter_text: str, reason: Reason) -> None:
    with pytest.raises(AtomasError) as refusal:
        start_export(library, filter_text, False, filled.ports)
    assert refusal.value.reason is reason


def test_a_library_that_is_deleted_meanwhile_ends_its_export(filled: World) -> None:
    export = start_export("lib", "", False, filled.ports)
    delete_library("lib", True, filled.ports)
    with pytest.raises(AtomasError) as refusal:
        export_step(export, "", filled.ports)
    assert refusal.value.reason is Reason.LIBRARY_NOT_FOUND
