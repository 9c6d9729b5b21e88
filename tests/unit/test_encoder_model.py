"""The encoder network: starts as the bag of features, and an item's vector is its own."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from encoder.model.atomas import AtomasEncoder, TokenBatch
from encoder.model.backbone import Backbone
from encoder.model.config import EncoderConfig, Modality
from tests.encoder_models import sample_features, sample_pairs, small_model

TEXTS, MOLECULES = sample_features()
MODALITIES: list[Modality] = ["text", "molecule"]


def _batch(modality: Modality, items: list[str]) -> TokenBatch:
    return TokenBatch.from_features(TEXTS(items) if modality == "text" else MOLECULES(items))


def _items(modality: Modality, count: int = 12) -> list[str]:
    pairs = sample_pairs()[::20][:count]
    return [pair.text if modality == "text" else pair.smiles for pair in pairs]


@pytest.mark.parametrize("modality", MODALITIES)
def test_layers_with_closed_gates_leave_the_bag_of_features(modality: Modality) -> None:
    bag = small_model(layers=0)
    grown = AtomasEncoder(replace(bag.config, layers=2)).eval()
    missing, unexpected = grown.load_state_dict(bag.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("backbone.") or name.endswith("importance.weight") for name in missing)
    batch = _batch(modality, _items(modality))
    with torch.inference_mode():
        torch.testing.assert_close(grown(modality, batch).vectors_BE, bag.vectors(modality, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_vector_does_not_depend_on_padding_or_batch_mates(modality: Modality, layers: int) -> None:
    model = small_model(layers)
    items = _items(modality)
    together = model(modality, _batch(modality, items)).vectors_BE
    alone = torch.cat([model(modality, _batch(modality, [item])).vectors_BE for item in items])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", MODALITIES)
def test_padding_content_is_never_read(modality: Modality) -> None:
    model = small_model()
    batch = _batch(modality, _items(modality))
    embedded = model.tower(modality).embed(batch)
    spoilt = embedded.masked_fill(~batch.mask_BL[..., None], 1e3)
    clean = model.encode_tokens(modality, embedded, batch).vectors_BE
    torch.testing.assert_close(model.encode_tokens(modality, spoilt, batch).vectors_BE, clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("pass_tokens", [1, 100, 100_000])
def test_ragged_passes_give_the_vectors_of_one_padded_pass(modality: Modality, pass_tokens: int) -> None:
    model = small_model()
    batch = _batch(modality, _items(modality))
    tokens_TD = model.tower(modality).embed(batch)[batch.mask_BL]
    ragged = model.encode_ragged(modality, tokens_TD, batch.mass_T, batch.mask_BL.sum(1), pass_tokens)
    torch.testing.assert_close(ragged, model(modality, batch).vectors_BE, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layers", "tells"), [(0, False), (2, True)])
def test_only_layers_can_tell_the_order_of_tokens(layers: int, tells: bool) -> None:
    model = small_model(layers)
    batch = _batch("text", ["acid of the methyl ester"])
    embedded_BLD = model.tower("text").embed(batch)
    order_T = torch.tensor([4, 1, 2, 3, 0])
    moved = model.encode_tokens("text", embedded_BLD[:, order_T], replace(batch, mass_T=batch.mass_T[order_T])).vectors_BE
    difference = (moved - model.encode_tokens("text", embedded_BLD, batch).vectors_BE).abs().max()
    assert (difference > 1e-4).item() is tells


def test_attention_sees_distances_and_not_places() -> None:
    model = small_model()
    torch.manual_seed(1)
    tokens_BLD = torch.randn(1, 5, model.config.width)
    shifted_BLD = torch.cat([torch.randn(1, 3, model.config.width), tokens_BLD], dim=1)
    mask_BL = torch.tensor([[False] * 3 + [True] * 5])
    here = model.backbone(tokens_BLD, torch.ones(1, 5, dtype=torch.bool))
    there = model.backbone(shifted_BLD, mask_BL)[:, 3:]
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


def test_vectors_have_length_one() -> None:
    vectors = small_model()("molecule", _batch("molecule", _items("molecule"))).vectors_BE
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_gates_learn_from_zero() -> None:
    model = AtomasEncoder(replace(small_model().config, layers=1))
    batch = _batch("text", _items("text"))
    model("text", batch).vectors_BE[:, 0].sum().backward()
    gates = [parameter for name, parameter in model.named_parameters() if name.endswith("_gate")]
    assert len(gates) == 2
    assert all(gate.grad is not None and gate.grad.abs().max() > 0 for gate in gates)


def test_both_modalities_go_through_the_same_layers() -> None:
    model = small_model()
    assert isinstance(model.backbone, Backbone)
    layers = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(layers) == 2 * model.config.layers + 2  # two in each shared layer, one in each modality's head


def test_config_survives_json_and_names_foreign_fields() -> None:
    config = small_model().config
    assert EncoderConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="wings"):
        EncoderConfig.from_json({**config.to_json(), "wings": 2})
    with pytest.raises(ValueError, match="incomplete"):
        EncoderConfig.from_json({"width": 32})
    with pytest.raises(ValueError, match="rotary"):
        replace(config, attention_width=18, attention_heads=4)
