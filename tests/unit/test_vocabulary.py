"""The text vocabulary: nothing is lost, whatever the text; what may not be written next is forbidden."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from encoder.model.decoder import END
from encoder.syntax import NoLoop, SmilesSyntax
from encoder.tokenizer import SmilesVocabulary, split_smiles
from encoder.vocabulary import TextVocabulary

TEXTS = [
    "The molecule is a steroid ester that is cholesterol.",
    "It has a role as a plant metabolite.",
    " (2S)-2-amino-3-methylbutanoic acid",
] * 3
VOCABULARY = TextVocabulary.learn(TEXTS, 400)
MOLECULES = ["CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "C1CC2CCC1CC2", "F/C=C\\F", "[Na+].[Cl-]", "CC(C)(C)C%10CC(Br)C%10"]
SMILES = SmilesVocabulary(sorted({token for smiles in MOLECULES for token in split_smiles(smiles)}))
SYNTAX = SmilesSyntax(SMILES)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_is_given_back(text: str) -> None:
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


def test_learnt_words_are_single_tokens_and_unknown_ones_are_spelt() -> None:
    assert len(VOCABULARY.encode("The molecule is a steroid")) == 5
    assert len(VOCABULARY.encode("qqqq")) == 4


def test_a_written_vocabulary_is_read_as_it_was() -> None:
    again = TextVocabulary.from_json(VOCABULARY.to_json())
    assert len(again) == len(VOCABULARY)
    assert again.encode_all(TEXTS) == VOCABULARY.encode_all(TEXTS)
    assert TextVocabulary.learn(TEXTS, 400).to_json() == VOCABULARY.to_json()


def test_what_is_no_text_or_no_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        VOCABULARY.encode("\ud800")
    with pytest.raises(ValueError, match="no vocabulary"):
        TextVocabulary.from_json("{}")


def forbidden_after(smiles: str) -> set[str]:
    """What may not follow these tokens, the end as an empty string."""
    outputs = torch.tensor([[[token + 1 for token in SMILES.encode(smiles)]]], dtype=torch.long)
    (found_V,) = SYNTAX(outputs)[0]
    return {"" if output == END else SMILES.tokens[output - 1] for output in found_V.nonzero().flatten().tolist()}


@pytest.mark.parametrize("smiles", MOLECULES)
def test_no_token_of_a_valid_smiles_is_forbidden(smiles: str) -> None:
    tokens = split_smiles(smiles)
    for place, token in enumerate([*tokens, ""]):
        assert token not in forbidden_after("".join(tokens[:place])), smiles[:place]


@pytest.mark.parametrize("smiles", ["CC(C", "C1CC", "C%10CC", "CC=", "C/", "C(", "c1ccccc1Oc1"])
def test_nothing_ends_while_something_is_open(smiles: str) -> None:
    assert "" in forbidden_after(smiles)
    assert Chem.MolFromSmiles(smiles) is None


def test_only_an_open_branch_can_be_closed() -> None:
    assert ")" in forbidden_after("CC")
    assert ")" in forbidden_after("CC(C)")
    assert ")" in forbidden_after("CC(")
    assert ")" not in forbidden_after("CC(C")


def test_tokens_in_a_row_are_written_once_only() -> None:
    never_thrice = NoLoop(outputs=9, length=3)
    assert never_thrice(torch.tensor([[[1, 2, 3, 1, 2]]]))[0, 0].nonzero().flatten().tolist() == [3]
    assert not never_thrice(torch.tensor([[[1, 2, 3, 2, 1]]])).any()
    assert not never_thrice(torch.zeros(2, 3, 0, dtype=torch.long)).any()
    # Rows of a batch that have ended are padded with the end, which may follow itself.
    assert not never_thrice(torch.tensor([[[1, END, END, END, END]]])).any()
