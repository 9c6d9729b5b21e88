"""The yardstick of the generation benchmark: transformers' `generate` on the decoder's weights writes what the decoder writes."""

import numpy as np
import pytest
import torch

from benchmarks.generate import Ways, greedy
from benchmarks.transformers_decoder import TransformersDecoder, write
from encoder.context import ReadItem, collate
from encoder.model.decoder import END, Decoder, DecoderConfig, Task
from encoder.model.source import Source
from encoder.prose import Manner

CONFIG = DecoderConfig(
    text_vocabulary=9, smiles_vocabulary=12, encoder_width=8, encoder_dimension=4, width=16, layers=2, heads=2, feed_forward=16
)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(2)
    decoder = Decoder(CONFIG).eval()
    with torch.no_grad():
        for weight in decoder.layers.parameters():
            weight.mul_(2.0)
        # Long sequences.
        decoder.end.sub_(2.0 * decoder.norm.weight * decoder.end.sign())
    return decoder


def read(copying: bool) -> Source:
    generator = torch.Generator().manual_seed(1)
    pieces = [[[0, 1, 2, 1, 3, 4], [5, 6]]] if copying else []
    vectors = torch.randn(1 + len(pieces), CONFIG.encoder_dimension, generator=generator)
    tokens_EC = torch.randn(7, CONFIG.encoder_width, generator=generator)
    return collate([ReadItem(tokens_EC, vectors[0], Manner.PROSE, pieces, vectors[1:], np.ones(len(pieces), np.float32))])


def never_the_last_again(outputs_BNL: torch.Tensor) -> torch.Tensor:
    """Something to forbid."""
    forbidden_BNV = torch.zeros(*outputs_BNL.shape[:2], CONFIG.smiles_vocabulary + 1, dtype=torch.bool)
    if outputs_BNL.shape[2]:
        forbidden_BNV.scatter_(2, outputs_BNL[:, :, -1:], True)
        forbidden_BNV[:, :, END] = False
    return forbidden_BNV


@pytest.mark.parametrize("copying", [True, False])
def test_both_write_the_same_likeliest_sequence_with_the_same_probabilities(decoder: Decoder, copying: bool) -> None:
    ways = Ways(decoder, read(copying), never_the_last_again)
    assert ways.difference() < 1e-4
    assert len(greedy(decoder, read(copying), never_the_last_again)[0]) > 5


def test_other_weights_are_told_apart(decoder: Decoder) -> None:
    ways = Ways(decoder, read(copying=True), never_the_last_again)
    torch.manual_seed(9)
    ways.decoder = Decoder(CONFIG).eval()
    with pytest.raises(AssertionError, match="transformers writes"):
        ways.difference()


def test_draws_have_the_probabilities_of_the_decoder(decoder: Decoder) -> None:
    source = read(copying=True)
    model = TransformersDecoder(decoder, Task.GENERATE)
    torch.manual_seed(0)
    drawn = write(model, model.read(source), 3, None, rows=4_000, do_sample=True, temperature=1.0, top_k=0)
    state = decoder.start(Task.GENERATE, source)
    expected_V = decoder.step(state, torch.tensor([[END]]))[0, 0].detach().exp()
    expected_V[END] = 0.0
    counts_V = torch.tensor([row[0] for row in drawn]).bincount(minlength=len(expected_V))
    assert counts_V[END] == 0
    torch.testing.assert_close(counts_V / len(drawn), expected_V / expected_V.sum(), atol=0.03, rtol=0.0)
