"""Drawings: one SVG element, coloured atoms where asked, refusals with reasons."""

from xml.etree import ElementTree

import pytest

from encoder.drawing import MATCHED_COLOUR, Look, draw
from encoder.molecules import MoleculeError, Reason, Structure

ASPIRIN = Structure("auto", "CC(=O)Oc1ccccc1C(=O)O")


def test_a_drawing_is_one_element_of_the_size_asked_for() -> None:
    root = ElementTree.fromstring(draw(Look(320, 240), ASPIRIN))
    assert root.tag.endswith("svg")
    assert (root.get("width"), root.get("height")) == ("320px", "240px")


def test_atoms_of_a_substructure_are_marked_and_others_are_not() -> None:
    def marks(look: Look) -> int:
        return draw(look, ASPIRIN).upper().count(MATCHED_COLOUR.upper())

    assert marks(Look()) == 0
    assert 0 < marks(Look(substructure="C(=O)O")) < marks(Look(substructure="*"))
    assert marks(Look(substructure="[Pt]")) == 0


def test_chosen_colours_win_and_atoms_that_do_not_exist_are_left_out() -> None:
    drawing = draw(Look(substructure="*", colours=((0, "#123456"), (99, "#654321"))), ASPIRIN)
    assert "#123456" in drawing
    assert "#654321" not in drawing


def test_every_spelling_is_drawn_the_same() -> None:
    assert (
        len({draw(Look(), Structure("auto", text)) for text in ("CCO", "OCC", "[CH3][CH2][OH]", "InChI=1S/C2H6O/c1-2-3/h3H,2H2,1H3")}) == 1
    )


def test_dark_drawings_have_no_black_lines() -> None:
    assert "#000000" in draw(Look(), ASPIRIN)
    assert "#000000" not in draw(Look(dark=True), ASPIRIN)


@pytest.mark.parametrize(
    ("text", "substructure", "reason"),
    [("C1CC", "", Reason.INVALID_SMILES), ("", "", Reason.EMPTY), ("CCO", "C1CC", Reason.INVALID_SMARTS)],
)
def test_what_cannot_be_read_is_refused(text: str, substructure: str, reason: Reason) -> None:
    with pytest.raises(MoleculeError) as caught:
        draw(Look(substructure=substructure), Structure("auto", text))
    assert caught.value.reason is reason
