"""The momentum twin follows its module, and the queue holds the latest pairs and survives a checkpoint."""

# Shape legend:  B pairs of a batch, Q pairs in the queue, D width

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.momentum import MomentumTwin, PairQueue, stable_key

WIDTH = 4


def pairs(first: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs numbered from `first`; their number stands in vectors and keys."""
    keys_B = torch.arange(first, first + count)
    vectors_BD = keys_B[:, None].float().expand(-1, WIDTH)
    return vectors_BD, -vectors_BD, 10 * keys_B, 100 * keys_B


def test_the_twin_moves_a_two_hundredth_of_the_way_at_each_update() -> None:
    module = nn.Linear(2, 2)
    twin = MomentumTwin(module, momentum=0.995)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    twin.update(module)
    (weight, _) = twin.twin.parameters()
    torch.testing.assert_close(weight, before + 0.005)
    twin.momentum = 0.5
    for _ in range(50):
        twin.update(module)
    torch.testing.assert_close(weight, before + 1.0, atol=1e-4, rtol=0.0)


def test_the_twin_starts_equal_takes_no_gradient_and_never_drops_out() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9))
    twin = MomentumTwin(module).train()
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(twin(inputs), module.eval()(inputs))
    assert not any(weight.requires_grad for weight in twin.parameters())
    assert not twin(inputs.requires_grad_()).requires_grad


def test_the_twin_copies_buffers() -> None:
    module = nn.BatchNorm1d(3)
    twin = MomentumTwin(module)
    module(torch.randn(8, 3) + 5.0)
    twin.update(module)
    for followed, current in zip(twin.twin.buffers(), module.buffers(), strict=True):
        assert torch.equal(followed, current)


def test_the_twin_has_storage_of_its_own() -> None:
    module = nn.Linear(2, 2)
    twin = MomentumTwin(module)
    with torch.no_grad():
        module.weight.zero_()
    assert twin.twin.get_parameter("weight").abs().sum() > 0


def test_a_momentum_of_one_or_more_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum"):
        MomentumTwin(nn.Linear(1, 1), momentum=1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, 14), max_size=8))
def test_the_queue_holds_the_latest_pairs_in_step(capacity: int, batches: list[int]) -> None:
    queue = PairQueue(capacity, WIDTH)
    seen = 0
    for count in batches:
        queue.push(*pairs(seen, count))
        seen += count
    held = queue.contents()
    numbers = held.text_keys_Q // 10
    assert sorted(numbers.tolist()) == list(range(max(0, seen - capacity), seen))
    assert torch.equal(held.molecule_keys_Q, 100 * numbers)
    assert torch.equal(held.text_QD, numbers[:, None].float().expand(-1, WIDTH))
    assert torch.equal(held.molecule_QD, -held.text_QD)


def test_an_empty_queue_offers_no_negatives() -> None:
    assert PairQueue(5, WIDTH).contents().text_QD.shape == (0, WIDTH)


def test_what_was_taken_from_the_queue_is_not_changed_by_a_later_push() -> None:
    queue = PairQueue(2, WIDTH)
    queue.push(*pairs(1, 2))
    held = queue.contents()
    queue.push(*pairs(5, 2))
    assert held.text_keys_Q.tolist() == [10, 20]


def test_twin_and_queue_continue_from_a_safetensors_checkpoint(tmp_path: Path) -> None:
    state = nn.ModuleDict({"twin": MomentumTwin(nn.Linear(3, 3)), "queue": PairQueue(3, WIDTH)})
    queue = state["queue"]
    assert isinstance(queue, PairQueue)
    queue.push(*pairs(1, 4))
    save_file(state.state_dict(), tmp_path / "state.safetensors")
    resumed = nn.ModuleDict({"twin": MomentumTwin(nn.Linear(3, 3)), "queue": PairQueue(3, WIDTH)})
    resumed.load_state_dict(load_file(tmp_path / "state.safetensors"))
    resumed_queue = resumed["queue"]
    assert isinstance(resumed_queue, PairQueue)
    for either in (queue, resumed_queue):
        either.push(*pairs(5, 1))
    assert torch.equal(queue.contents().text_QD, resumed_queue.contents().text_QD)
    inputs = F.normalize(torch.randn(2, 3), dim=1)
    assert torch.equal(state["twin"](inputs), resumed["twin"](inputs))


def test_keys_are_signed_64_bit_numbers_and_the_same_in_every_process() -> None:
    texts = ["", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "β-alanine"]
    keys = [stable_key(text) for text in texts]
    assert torch.tensor(keys, dtype=torch.int64).tolist() == keys
    # Written down, because queues outlive the process that filled them.
    assert keys == [-1970711489451281740, -2603179773489274915, -9084904285690988440]
