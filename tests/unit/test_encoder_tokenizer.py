"""Texts and SMILES as tokens: nothing is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.tokenizer import SmilesVocabulary, is_atom, split_smiles, split_text
from tests.encoder_models import sample_pairs
from tests.strategies import real_smiles

LEARNT = SmilesVocabulary(sorted({token for pair in sample_pairs() for token in split_smiles(pair.smiles)}))


@settings(deadline=None)
@given(st.text())
def test_split_smiles_loses_no_character_of_any_input(text: str) -> None:
    assert "".join(split_smiles(text)) == text


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_smiles_vocabulary_decodes_to_what_it_encoded(text: str) -> None:
    assert LEARNT.decode(LEARNT.encode(text)) == text


@settings(deadline=None)
@given(real_smiles)
def test_smiles_vocabulary_decodes_real_molecules_exactly(smiles: str) -> None:
    assert LEARNT.decode(LEARNT.encode(smiles)) == smiles


def test_backslashes_survive_the_smiles_vocabulary() -> None:
    smiles = "C(/C)=C\\C=C\\[C@@H](O)CC"
    assert LEARNT.decode(LEARNT.encode(smiles)).count("\\") == 2
    assert "\\" in split_smiles(smiles)


def test_smiles_tokens_are_atoms_bonds_branches_and_ring_closures() -> None:
    tokens = split_smiles("[13CH3-]C(=O)c%12ccBrCl%(123)->[Fe+2]")
    assert tokens == ["[13CH3-]", "C", "(", "=", "O", ")", "c", "%12", "c", "c", "Br", "Cl", "%(123)", "->", "[Fe+2]"]
    assert [token for token in tokens if is_atom(token)] == ["[13CH3-]", "C", "O", "c", "c", "c", "Br", "Cl", "[Fe+2]"]


def test_smiles_vocabulary_spells_unknown_bracket_atoms_in_characters() -> None:
    plain = SmilesVocabulary([])
    assert plain.decode(plain.encode("[U+4]")) == "[U+4]"
    assert len(plain.encode("[U+4]")) == 5


def test_smiles_vocabulary_refuses_what_no_smiles_holds() -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        LEARNT.encode("C→O")


def test_smiles_vocabulary_refuses_a_token_named_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        SmilesVocabulary(["Cl", "Cl"])


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="‐‑‒–—−‘’′“”″ςµ", max_codepoint=0xFFFF)))
def test_split_text_keeps_every_character_that_is_no_white_space(text: str) -> None:
    greek = set("αβγδεζηθικλμνξπρστυφχψω")
    lowered = "".join(character for character in text.lower() if character not in greek)
    assert "".join(split_text(lowered)) == "".join(lowered.split())


def test_split_text_separates_words_numbers_and_signs() -> None:
    assert split_text("(2S)-2-Hydroxy, 三 🙂 H2O") == ["(", "2", "s", ")", "-", "2", "-", "hydroxy", ",", "三", "🙂", "h", "2", "o"]


@pytest.mark.parametrize(("typed", "plain"), [("β-D-glucose", "beta-D-glucose"), ("5′‑AMP", "5'-AMP"), ("µ-opioid", "mu-opioid")])
def test_split_text_reads_typographic_and_plain_names_alike(typed: str, plain: str) -> None:
    assert split_text(typed) == split_text(plain)


def test_split_text_finds_nothing_in_white_space() -> None:
    assert split_text(" \t\n ") == []
