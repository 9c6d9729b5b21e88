"""The hierarchy in the model: which tokens take part, what an item's levels depend on, and where clusters lead back to."""

import pytest
import torch

from encoder.model.atomas import AtomasEncoder, TokenBatch
from encoder.model.config import MODALITIES, Modality
from encoder.tokenizer import is_atom, split_smiles
from tests.encoder_models import sample_features, sample_pairs, small_model

TEXTS, MOLECULES = sample_features()


@pytest.fixture(scope="module")
def model() -> AtomasEncoder:
    return small_model(layers=0, hierarchy_width=16)


def _batch(modality: Modality, items: list[str]) -> TokenBatch:
    return TokenBatch.from_features(TEXTS(items) if modality == "text" else MOLECULES(items))


def _items(modality: Modality) -> list[str]:
    return [pair.text if modality == "text" else pair.smiles for pair in sample_pairs()[::20][:10]]


def test_atoms_take_part_and_spelling_does_not(model: AtomasEncoder) -> None:
    smiles = "CC(=O)Oc1ccccc1C(=O)O"
    level = model.levels("molecule", model("molecule", _batch("molecule", [smiles])))[0]
    taking_part = (level.assignment_BL[0] >= 0).tolist()
    assert taking_part == [False, *(is_atom(token) for token in split_smiles(smiles))]
    assert level.mask_BK.sum() == 13


def test_a_molecule_without_known_atoms_is_represented_by_its_whole(model: AtomasEncoder) -> None:
    batch = _batch("molecule", ["CCO"])
    encoded = model("molecule", batch)
    encoded.mass_BL[0, 1:] = 0
    assert [level.assignment_BL[0].tolist() for level in model.levels("molecule", encoded)] == [[0, -1, -1, -1]] * 3


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_level_merges_the_one_below_whatever_the_padding(model: AtomasEncoder, modality: Modality) -> None:
    items = _items(modality)
    levels = model.levels(modality, model(modality, _batch(modality, items)))
    counts = [level.mask_BK.sum(1) for level in levels]
    torch.testing.assert_close(counts[1], torch.ceil(counts[0] * 0.25).long())
    torch.testing.assert_close(counts[2], torch.ceil(counts[1] * 0.5).long())
    for level, count in zip(levels, counts, strict=True):
        torch.testing.assert_close(level.assignment_BL.amax(1) + 1, count)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_levels_of_an_item_do_not_depend_on_its_batch(model: AtomasEncoder, modality: Modality) -> None:
    items = _items(modality)
    together = model.levels(modality, model(modality, _batch(modality, items)))
    for row, item in enumerate(items):
        for level, alone in zip(together, model.levels(modality, model(modality, _batch(modality, [item]))), strict=True):
            count, length = alone.tokens_BKD.shape[1], alone.assignment_BL.shape[1]
            torch.testing.assert_close(level.tokens_BKD[row, :count], alone.tokens_BKD[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(level.weights_BK[row, :count], alone.weights_BK[0], atol=1e-4, rtol=0)
            assert level.assignment_BL[row, :length].tolist() == alone.assignment_BL[0].tolist()


def test_a_model_without_hierarchy_says_so() -> None:
    plain = small_model(layers=0)
    with pytest.raises(ValueError, match="no hierarchy"):
        plain.levels("text", plain("text", _batch("text", ["a steroid"])))
