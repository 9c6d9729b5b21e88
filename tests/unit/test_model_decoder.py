"""The decoder: two directions from one set of weights, causal, blind to padding, and the same step by step as at once."""

# Shape legend:  B items, N rows of one item, L tokens written, E encoder tokens, C encoder width, V outputs of a task

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder.model.decoder import END, FIRST_ROOM, Decoder, DecoderConfig, Task, pad_targets
from encoder.model.losses import generation_loss

CONFIG = DecoderConfig(text_vocabulary=11, smiles_vocabulary=7, encoder_width=12, width=16, layers=2, heads=2, feed_forward=24, dropout=0.0)
BOTH_TASKS = pytest.mark.parametrize("task", list(Task))


def make_decoder(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(CONFIG).eval()


def encoded(*lengths: int, padding: float = 1e3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens_BEC = torch.full((len(lengths), max(lengths), CONFIG.encoder_width), padding)
    for item, length in enumerate(lengths):
        tokens_BEC[item, :length] = torch.randn(length, CONFIG.encoder_width, generator=generator)
    return tokens_BEC, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_targets_are_closed_by_their_end_and_padded() -> None:
    targets_BL, mask_BL = pad_targets([[0, 4], [3]])
    assert targets_BL.tolist() == [[1, 5, END], [4, END, END]]
    assert mask_BL.tolist() == [[True, True, True], [True, True, False]]


@BOTH_TASKS
def test_logits_cover_the_end_and_the_tokens_of_the_task_alone(task: Task) -> None:
    targets_BL, _ = pad_targets([[0, 1, 2]])
    assert make_decoder()(targets_BL, task, *encoded(5)).shape == (1, 4, 1 + CONFIG.vocabulary(task))


@BOTH_TASKS
def test_a_logit_depends_on_the_targets_before_it_alone(task: Task) -> None:
    decoder = make_decoder()
    first, _ = pad_targets([[0, 1, 2, 3, 4]])
    second, _ = pad_targets([[0, 1, 5, 6, 0]])
    logits_first, logits_second = decoder(first, task, *encoded(5)), decoder(second, task, *encoded(5))
    torch.testing.assert_close(logits_first[:, :3], logits_second[:, :3])
    assert not torch.allclose(logits_first[:, 3], logits_second[:, 3])


@BOTH_TASKS
def test_incremental_decoding_equals_decoding_at_once(task: Task) -> None:
    decoder = make_decoder()
    encoder_BEC, mask_BE = encoded(5, 9)
    # More than twice the room that the state starts with.
    targets_BL = torch.randint(1, 8, (2, 2 * FIRST_ROOM + 3), generator=torch.Generator().manual_seed(0))
    at_once = decoder(targets_BL, task, encoder_BEC, mask_BE).log_softmax(dim=2)
    state = decoder.start(task, encoder_BEC, mask_BE)
    last_BN = torch.zeros(2, 1, dtype=torch.long)
    for position in range(targets_BL.shape[1]):
        step_BNV = decoder.step(state, last_BN)
        torch.testing.assert_close(step_BNV[:, 0], at_once[:, position], atol=1e-5, rtol=1e-5)
        last_BN = targets_BL[:, position : position + 1]


def test_rows_of_an_item_are_decoded_apart_and_follow_their_selection() -> None:
    decoder = make_decoder()
    encoder_BEC, mask_BE = encoded(5, 9, 2)
    sequences_BNL = torch.randint(1, 7, (3, 4, 6), generator=torch.Generator().manual_seed(0))
    state = decoder.start(Task.GENERATE, encoder_BEC, mask_BE)
    decoder.step(state, sequences_BNL[:, :, 0])
    for position in range(3):
        decoder.step(state, sequences_BNL[:, :, position])
    # Row 3 of each item takes the place of row 0, then the middle item leaves.
    state.select_rows((torch.arange(3)[:, None] * 4 + torch.tensor([3, 1, 2, 3])).flatten())
    state.select_items(torch.tensor([0, 2]))
    chosen = sequences_BNL[[0, 2]][:, [3, 1, 2, 3]]
    step_BNV = decoder.step(state, chosen[:, :, 3])
    for row, item in enumerate((0, 2)):
        whole = decoder(torch.cat([chosen[row, :, :4], torch.zeros(4, 1, dtype=torch.long)], dim=1), Task.GENERATE,
                        encoder_BEC[item].expand(4, -1, -1), mask_BE[item].expand(4, -1))  # fmt: skip
        torch.testing.assert_close(step_BNV[row], whole[:, 4].log_softmax(dim=1), atol=1e-5, rtol=1e-5)


@BOTH_TASKS
def test_padding_of_the_encoder_is_never_read(task: Task) -> None:
    decoder = make_decoder()
    targets_BL, _ = pad_targets([[0, 1], [2, 3]])
    together = decoder(targets_BL, task, *encoded(3, 8))
    encoder_BEC, mask_BE = encoded(3)
    alone = decoder(targets_BL[:1], task, encoder_BEC, mask_BE)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_the_order_of_what_was_written_matters() -> None:
    decoder = make_decoder()
    one, other = (decoder(pad_targets([ids])[0], Task.DESCRIBE, *encoded(4))[:, -1] for ids in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_input_and_output_embeddings_are_tied() -> None:
    shapes = [tuple(weight.shape) for weight in make_decoder().parameters()]
    assert shapes.count((CONFIG.text_vocabulary, CONFIG.width)) == 1
    assert shapes.count((CONFIG.smiles_vocabulary, CONFIG.width)) == 1
    tables = CONFIG.text_vocabulary + CONFIG.smiles_vocabulary + 1 + len(Task)
    outside = sum(weight.numel() for name, weight in make_decoder().named_parameters() if name.startswith(("layers", "norm")))
    assert sum(weight.numel() for weight in make_decoder().parameters()) == outside + tables * CONFIG.width


def test_a_token_outside_the_vocabulary_of_the_task_is_an_error() -> None:
    with pytest.raises(IndexError):
        make_decoder()(pad_targets([[9, 9, 1]])[0], Task.GENERATE, *encoded(4))


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        Decoder(DecoderConfig(text_vocabulary=1, smiles_vocabulary=1, encoder_width=4, width=16, heads=3))


def test_fault_13_one_set_of_weights_learns_both_directions_and_keeps_them_in_one_checkpoint(tmp_path: Path) -> None:
    """The same encoder tokens are described in one direction and written as SMILES in the other: only the prefix tells which."""
    encoder = encoded(4, 6, 5)
    written = {Task.DESCRIBE: [[1, 2, 3], [10, 2, 2, 9], [4]], Task.GENERATE: [[0, 0, 6], [6, 5], [1, 2, 3, 4]]}
    decoder = make_decoder().train()
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(80):
        loss = torch.zeros(())
        for task, sequences in written.items():
            targets_BL, mask_BL = pad_targets(sequences)
            loss = loss + generation_loss(decoder(targets_BL, task, *encoder), targets_BL, mask_BL)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
    save_file(decoder.state_dict(), tmp_path / "decoder.safetensors")
    loaded = make_decoder(seed=1)
    loaded.load_state_dict(load_file(tmp_path / "decoder.safetensors"))
    for task, sequences in written.items():
        targets_BL, mask_BL = pad_targets(sequences)
        assert loaded(targets_BL, task, *encoder).argmax(dim=2)[mask_BL].equal(targets_BL[mask_BL])
