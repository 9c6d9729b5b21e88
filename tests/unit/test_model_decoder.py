"""The decoder: two directions from one set of weights, causal, blind to padding, able to copy, the same step by step as at once."""

# Shape legend:  B items, N rows of one item, L tokens written, E encoder tokens, C encoder width, M copyable tokens, V outputs of a task

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder.context import ReadItem, collate
from encoder.model.decoder import END, Decoder, DecoderConfig, Task, pad_targets
from encoder.model.decoder_state import FIRST_ROOM
from encoder.model.source import Source
from encoder.prose import Manner

CONFIG = DecoderConfig(
    text_vocabulary=11,
    smiles_vocabulary=7,
    encoder_width=12,
    encoder_dimension=6,
    width=16,
    layers=2,
    heads=2,
    feed_forward=24,
    dropout=0.0,
)
BOTH_TASKS = pytest.mark.parametrize("task", list(Task))


def make_decoder(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(CONFIG).eval()


def item(length: int, copied: int, seed: int) -> ReadItem:
    """An item of `length` encoder tokens with two neighbours, the first of `copied` tokens."""
    generator = torch.Generator().manual_seed(seed)
    pieces = [[torch.randint(0, 7, (copied,), generator=generator).tolist()], [[1, 2], [3]]] if copied else []
    neighbours_KX = torch.randn(len(pieces), CONFIG.encoder_dimension, generator=generator)
    tokens_EC = torch.randn(length, CONFIG.encoder_width, generator=generator)
    vector_X = torch.randn(CONFIG.encoder_dimension, generator=generator)
    return ReadItem(tokens_EC, vector_X, Manner.PROSE, pieces, neighbours_KX, np.full(len(pieces), 0.5, dtype=np.float32))


def sources(*lengths: int, copying: bool = True) -> Source:
    """Items of so many encoder tokens; every other one has neighbours to copy from."""
    return collate([item(length, length if copying and place % 2 == 0 else 0, length) for place, length in enumerate(lengths)])


def every_log_probability(decoder: Decoder, targets_BL: Tensor, task: Task, source: Source) -> Tensor:
    """Log-probabilities (B, L, V) of all outputs, decoded step by step."""
    state = decoder.start(task, source)
    last_BN = torch.zeros(len(targets_BL), 1, dtype=torch.long)
    steps = []
    for position in range(targets_BL.shape[1]):
        steps.append(decoder.step(state, last_BN)[:, 0])
        last_BN = targets_BL[:, position : position + 1]
    return torch.stack(steps, dim=1)


def test_targets_are_closed_by_their_end_and_padded() -> None:
    targets_BL, mask_BL = pad_targets([[0, 4], [3]])
    assert targets_BL.tolist() == [[1, 5, END], [4, END, END]]
    assert mask_BL.tolist() == [[True, True, True], [True, True, False]]


@BOTH_TASKS
def test_probabilities_cover_the_end_and_the_tokens_of_the_task_alone(task: Task) -> None:
    targets_BL, _ = pad_targets([[0, 1, 2], [3, 4, 5]])
    found_BLV = every_log_probability(make_decoder(), targets_BL, task, sources(5, 4))
    assert found_BLV.shape == (2, 4, 1 + CONFIG.vocabulary(task))
    torch.testing.assert_close(found_BLV.exp().sum(dim=2), torch.ones(2, 4), atol=1e-5, rtol=1e-5)


@BOTH_TASKS
def test_a_probability_depends_on_the_targets_before_it_alone(task: Task) -> None:
    decoder = make_decoder()
    first, _ = pad_targets([[0, 1, 2, 3, 4]])
    second, _ = pad_targets([[0, 1, 5, 3, 4]])
    one, other = decoder(first, task, sources(5)), decoder(second, task, sources(5))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 3], other[:, 3])


@BOTH_TASKS
@pytest.mark.parametrize("copying", [False, True])
def test_incremental_decoding_equals_decoding_at_once(task: Task, copying: bool) -> None:
    decoder = make_decoder()
    # More than twice the room that the state starts with.
    targets_BL = torch.randint(1, 8, (2, 2 * FIRST_ROOM + 3), generator=torch.Generator().manual_seed(0))
    source = sources(5, 9, copying=copying)
    stepwise_BL = every_log_probability(decoder, targets_BL, task, source).gather(2, targets_BL[:, :, None]).squeeze(2)
    torch.testing.assert_close(stepwise_BL, decoder(targets_BL, task, source), atol=1e-5, rtol=1e-5)


def test_rows_of_an_item_are_decoded_apart_and_follow_their_selection() -> None:
    decoder = make_decoder()
    source = sources(5, 9, 2)
    sequences_BNL = torch.randint(1, 7, (3, 4, 6), generator=torch.Generator().manual_seed(0))
    state = decoder.start(Task.GENERATE, source)
    decoder.step(state, sequences_BNL[:, :, 0])
    for position in range(3):
        decoder.step(state, sequences_BNL[:, :, position])
    # Row 3 of each item takes the place of row 0, then the middle item leaves.
    state.select_rows((torch.arange(3)[:, None] * 4 + torch.tensor([3, 1, 2, 3])).flatten())
    state.select_items(torch.tensor([0, 2]))
    chosen = sequences_BNL[[0, 2]][:, [3, 1, 2, 3]]
    step_BNV = decoder.step(state, chosen[:, :, 3])
    for place, number in enumerate((0, 2)):
        alone = every_log_probability(decoder, chosen[place, :, :5], Task.GENERATE, source.select(torch.tensor([number] * 4)))
        torch.testing.assert_close(step_BNV[place], alone[:, 4], atol=1e-5, rtol=1e-5)


@BOTH_TASKS
def test_padding_is_never_read_nor_copied(task: Task) -> None:
    decoder = make_decoder()
    targets_BL, _ = pad_targets([[0, 1], [2, 3], [4, 5]])
    source = sources(3, 8, 6)
    masked = {"tokens_BEC": ~source.mask_BE[:, :, None], "copied_BM": ~source.copied_mask_BM, "owner_BM": ~source.copied_mask_BM}
    fillings = {"tokens_BEC": 1e3, "copied_BM": 2, "owner_BM": 1}
    spoilt = replace(source, **{name: getattr(source, name).masked_fill(mask, fillings[name]) for name, mask in masked.items()})
    together = decoder(targets_BL, task, spoilt)
    for place, (length, copied) in enumerate(((3, 3), (8, 0), (6, 6))):
        alone = decoder(targets_BL[place : place + 1], task, collate([item(length, copied, length)]))
        torch.testing.assert_close(together[place : place + 1], alone, atol=1e-5, rtol=1e-5)


def test_what_follows_a_match_in_a_neighbour_is_likelier_than_without_it() -> None:
    """Untrained weights know nothing, yet a neighbour that holds what was just written says what comes next."""
    decoder = make_decoder()
    matching = ReadItem(torch.zeros(1, 12), torch.zeros(6), Manner.PROSE, [[[1, 2, 3, 4]]], torch.zeros(1, 6), np.ones(1, np.float32))
    other = replace(matching, pieces=[[[3, 2, 1, 4]]])
    targets_BL, _ = pad_targets([[1, 2, 3]])
    with_match, without = (decoder(targets_BL, Task.DESCRIBE, collate([given]))[0, 2] for given in (matching, other))
    assert with_match > without + 1.0


def test_the_vector_the_manner_and_the_neighbours_are_read() -> None:
    decoder = make_decoder()
    targets_BL, _ = pad_targets([[1, 2]])
    source = sources(4)
    plain = decoder(targets_BL, Task.DESCRIBE, source)
    for changed in (
        replace(source, vector_BX=source.vector_BX + 1),
        replace(source, manner_B=source.manner_B + 1),
        replace(source, neighbours_BKX=source.neighbours_BKX + 1),
        replace(source, likeness_BK=source.likeness_BK + 1),
        replace(source, owner_BM=1 - source.owner_BM),
    ):
        assert not torch.allclose(decoder(targets_BL, Task.DESCRIBE, changed), plain, atol=1e-5)


def test_the_order_of_what_was_written_matters() -> None:
    decoder = make_decoder()
    one, other = (decoder(pad_targets([ids])[0], Task.DESCRIBE, sources(4, copying=False))[:, -1] for ids in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_input_and_output_embeddings_are_tied() -> None:
    decoder = make_decoder()
    tables = [name for name, weight in decoder.named_parameters() if CONFIG.text_vocabulary in weight.shape]
    assert tables == ["tokens.0"]


def test_a_token_outside_the_vocabulary_of_the_task_is_an_error() -> None:
    with pytest.raises(IndexError):
        make_decoder()(pad_targets([[9, 9, 1]])[0], Task.GENERATE, sources(4))


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        Decoder(DecoderConfig(text_vocabulary=1, smiles_vocabulary=1, encoder_width=4, encoder_dimension=4, width=16, heads=3))


def test_fault_13_one_set_of_weights_learns_both_directions_and_keeps_them_in_one_checkpoint(tmp_path: Path) -> None:
    """The same encoder tokens are described in one direction and written as SMILES in the other: only the prefix tells which."""
    source = sources(4, 6, 5, copying=False)
    written = {Task.DESCRIBE: [[1, 2, 3], [10, 2, 2, 9], [4]], Task.GENERATE: [[0, 0, 6], [6, 5], [1, 2, 3, 4]]}
    decoder = make_decoder().train()
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(80):
        loss = torch.zeros(())
        for task, sequences in written.items():
            targets_BL, mask_BL = pad_targets(sequences)
            loss = loss - decoder(targets_BL, task, source)[mask_BL].mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
    save_file(decoder.state_dict(), tmp_path / "decoder.safetensors")
    loaded = make_decoder(seed=1)
    loaded.load_state_dict(load_file(tmp_path / "decoder.safetensors"))
    for task, sequences in written.items():
        targets_BL, mask_BL = pad_targets(sequences)
        assert every_log_probability(loaded, targets_BL, task, source).argmax(dim=2)[mask_BL].equal(targets_BL[mask_BL])
