"""Losses: negatives, soft targets, temperature, padding, and the weights of the total."""

# Shape legend:  B pairs of a batch, Q pairs in the queue, D width

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoder.model.losses import ContrastConfig, GlobalContrast, LossWeights, generation_loss, same_item
from encoder.model.momentum import PairQueue, QueuedPairs

WIDTH = 8


def vectors(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def distinct(count: int, start: int = 0) -> tuple[Tensor, Tensor]:
    keys_B = torch.arange(start, start + count)
    return keys_B, keys_B + 1_000_000


class Contrast:
    """The loss with a learnable scale of its own, where every molecule has its text."""

    def __init__(self, config: ContrastConfig | None = None, temperature: float = 0.07) -> None:
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(temperature)))
        self._loss = GlobalContrast(config)

    def __call__(self, *batch: Tensor, queue: QueuedPairs | None = None) -> Tensor:
        loss: Tensor = self._loss(*batch, self.log_scale, queue=queue)
        return loss


def info_nce(text_BD: Tensor, molecule_BD: Tensor, temperature: float) -> Tensor:
    logits_BB = text_BD @ molecule_BD.T / temperature
    targets_B = torch.arange(len(text_BD))
    return (F.cross_entropy(logits_BB, targets_B) + F.cross_entropy(logits_BB.T, targets_B)) / 2


def test_without_soft_targets_and_queue_the_contrast_is_the_mean_cross_entropy_of_both_directions() -> None:
    contrast = Contrast(ContrastConfig(soft_target_weight=0.0))
    text_BD, molecule_BD = vectors(6, 1), vectors(6, 2)
    loss = contrast(text_BD, molecule_BD, text_BD, molecule_BD, *distinct(6))
    torch.testing.assert_close(loss, info_nce(text_BD, molecule_BD, 0.07))


def test_soft_targets_take_their_share_of_the_twins_distribution() -> None:
    text_BD, molecule_BD, twin_text_BD, twin_molecule_BD = (vectors(5, seed) for seed in range(4))
    loss = Contrast()(text_BD, molecule_BD, twin_text_BD, twin_molecule_BD, *distinct(5))
    expected = torch.zeros(())
    for query, candidates, twin_query, twin_candidates in (
        (text_BD, molecule_BD, twin_text_BD, twin_molecule_BD),
        (molecule_BD, text_BD, twin_molecule_BD, twin_text_BD),
    ):
        targets_BB = 0.4 * (twin_query @ twin_candidates.T / 0.07).softmax(dim=1) + 0.6 * torch.eye(5)
        expected = expected + F.cross_entropy(query @ candidates.T / 0.07, targets_BB) / 2
    torch.testing.assert_close(loss, expected)


def test_fault_9_same_items_in_the_batch_change_nothing() -> None:
    """Three pairs, and a fourth that repeats the first one's molecule: the rows of the others see it, the first one's must not."""
    contrast = Contrast(ContrastConfig(soft_target_weight=0.0))
    text_BD, molecule_BD = vectors(4, 1), vectors(4, 2)
    molecule_BD[3] = molecule_BD[0]
    text_keys_B, molecule_keys_B = distinct(4)
    molecule_keys_B[3] = molecule_keys_B[0]
    loss = contrast(text_BD, molecule_BD, text_BD, molecule_BD, text_keys_B, molecule_keys_B)
    logits_BB = text_BD @ molecule_BD.T / 0.07
    logits_BB[0, 3] = logits_BB[3, 0] = -1e9
    targets_B = torch.arange(4)
    expected = (F.cross_entropy(logits_BB, targets_B) + F.cross_entropy(logits_BB.T, targets_B)) / 2
    torch.testing.assert_close(loss, expected)
    assert loss < contrast(text_BD, molecule_BD, text_BD, molecule_BD, *distinct(4))


@pytest.mark.parametrize("shared", ["text", "molecule"])
def test_fault_9_same_items_in_the_queue_change_nothing(shared: str) -> None:
    contrast = Contrast()
    batch = vectors(3, 1), vectors(3, 2), vectors(3, 3), vectors(3, 4)
    text_keys_B, molecule_keys_B = distinct(3)
    text_keys_Q, molecule_keys_Q = distinct(4, start=100)
    (text_keys_Q if shared == "text" else molecule_keys_Q)[:2] = text_keys_B[1] if shared == "text" else molecule_keys_B[1]
    queued_text_QD, queued_molecule_QD = vectors(4, 5), vectors(4, 6)

    def second_row_alone(kept: slice) -> Tensor:
        queue = QueuedPairs(queued_text_QD[kept], queued_molecule_QD[kept], text_keys_Q[kept], molecule_keys_Q[kept])
        one_pair = [tensor[1:2] for tensor in batch]
        loss: Tensor = contrast(*one_pair, text_keys_B[1:2], molecule_keys_B[1:2], queue=queue)
        return loss

    torch.testing.assert_close(second_row_alone(slice(0, 4)), second_row_alone(slice(2, 4)))


def test_pairs_of_the_queue_are_negatives() -> None:
    contrast = Contrast(ContrastConfig(soft_target_weight=0.0))
    text_BD = vectors(2, 1)
    queue = PairQueue(8, WIDTH)
    without = contrast(text_BD, text_BD, text_BD, text_BD, *distinct(2), queue=queue.contents())
    queue.push(text_BD, text_BD, *distinct(2, start=50))
    with_twins = contrast(text_BD, text_BD, text_BD, text_BD, *distinct(2), queue=queue.contents())
    # The queue holds the very same vectors under other keys: each positive has an equal rival.
    assert with_twins > without + 0.5 * math.log(2)


def test_a_batch_of_one_molecule_only_has_no_negatives_and_no_loss() -> None:
    text_keys_B, _ = distinct(3)
    loss = Contrast()(vectors(3, 1), vectors(3, 2), vectors(3, 3), vectors(3, 4), text_keys_B, torch.zeros(3, dtype=torch.int64))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_same_item_is_true_for_a_shared_text_or_molecule() -> None:
    shared = same_item(torch.tensor([1, 2]), torch.tensor([5, 6]), torch.tensor([1, 9, 9]), torch.tensor([9, 6, 9]))
    assert shared.tolist() == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize(("start", "end"), [(1e-6, 0.001), (0.07, 0.07), (3.0, 0.5)])
def test_the_temperature_is_kept_between_its_bounds(start: float, end: float) -> None:
    contrast = Contrast(temperature=start)
    assert contrast(vectors(3, 1), vectors(3, 2), vectors(3, 1), vectors(3, 2), *distinct(3)).isfinite()
    assert math.exp(-float(contrast.log_scale.detach())) == pytest.approx(end)


def test_a_temperature_at_its_bound_still_learns() -> None:
    contrast = Contrast(temperature=3.0)
    text_BD = vectors(4, 1)
    contrast(text_BD, text_BD, text_BD, text_BD, *distinct(4)).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    assert contrast.log_scale.grad is not None
    assert contrast.log_scale.grad != 0


def test_molecules_without_text_are_negatives_of_texts_only() -> None:
    molecule_ND, text_BD = vectors(6, 1), vectors(4, 2)
    loss = Contrast(ContrastConfig(soft_target_weight=0.0))(text_BD, molecule_ND, text_BD, molecule_ND, *distinct(6))
    logits = text_BD @ molecule_ND.T / 0.07
    targets_B = torch.arange(4)
    expected = (F.cross_entropy(logits, targets_B) + F.cross_entropy(logits[:, :4].T, targets_B)) / 2
    torch.testing.assert_close(loss, expected)


def test_gradients_flow_to_the_vectors_and_not_to_the_twins() -> None:
    batch = [vectors(4, seed).requires_grad_() for seed in range(4)]
    Contrast()(*batch, *distinct(4)).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    text_BD, molecule_BD, twin_text_BD, twin_molecule_BD = batch
    for learnt in (text_BD, molecule_BD):
        assert learnt.grad is not None
        assert learnt.grad.isfinite().all()
        assert learnt.grad.abs().sum() > 0
    assert twin_text_BD.grad is None
    assert twin_molecule_BD.grad is None


def test_same_items_leave_no_nan_in_the_gradient() -> None:
    text_BD, molecule_BD = vectors(4, 1).requires_grad_(), vectors(4, 2).requires_grad_()
    keys_B = torch.tensor([1, 1, 2, 2])
    Contrast()(text_BD, molecule_BD, vectors(4, 3), vectors(4, 4), keys_B, keys_B).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    assert text_BD.grad is not None
    assert text_BD.grad.isfinite().all()


def test_the_generation_loss_is_the_mean_over_real_tokens_alone() -> None:
    logits_BLV = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    targets_BL = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(1))
    mask_BL = torch.tensor([[True, True, True, False, False], [True] * 5])
    real = torch.cat([logits_BLV[0, :3], logits_BLV[1]]), torch.cat([targets_BL[0, :3], targets_BL[1]])
    expected = F.cross_entropy(*real)
    torch.testing.assert_close(generation_loss(logits_BLV, targets_BL, mask_BL), expected)
    logits_BLV[0, 3:] = 1e4
    torch.testing.assert_close(generation_loss(logits_BLV, targets_BL, mask_BL), expected)
    assert generation_loss(logits_BLV, targets_BL, torch.zeros_like(mask_BL)) == 0


def test_the_total_weighs_one_ten_one() -> None:
    contrast, generation, hierarchy = torch.tensor(1.0), torch.tensor(0.1), torch.tensor(3.0)
    assert float(LossWeights().total(contrast, generation, hierarchy)) == pytest.approx(1.0 + 1.0 + 3.0)
    assert float(LossWeights().total(contrast)) == pytest.approx(1.0)
