"""Adaptive merging: how many clusters, which tokens, and that nothing but the item itself decides."""

# Shape legend:  B items, L tokens, K clusters, D width

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from encoder.model.merging import DISTANCE_STEPS, AdaptiveMerging, MergedTokens, cluster_counts, density_peak_clusters

WIDTH = 16


@pytest.fixture
def merging() -> AdaptiveMerging:
    return make_merging()


def make_merging(ratio: float = 0.25) -> AdaptiveMerging:
    torch.manual_seed(0)
    return AdaptiveMerging(WIDTH, ratio, heads=4).eval()


def random_tokens(*lengths: int, seed: int = 0, padded_to: int | None = None) -> tuple[Tensor, Tensor]:
    """Random tokens of some items in one batch; padding holds large junk, so that any use of it shows."""
    generator = torch.Generator().manual_seed(seed)
    longest = padded_to or max(lengths)
    tokens_BLD = torch.full((len(lengths), longest, WIDTH), 1e3)
    mask_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    for item, length in enumerate(lengths):
        tokens_BLD[item, :length] = torch.randn(length, WIDTH, generator=generator)
    return tokens_BLD, mask_BL


def of_item(merged: MergedTokens, item: int, length: int) -> tuple[Tensor, list[int], Tensor]:
    clusters = int(merged.mask_BK[item].sum())
    return merged.tokens_BKD[item, :clusters], merged.assignment_BL[item, :length].tolist(), merged.weights_BL[item, :length]


def test_fault_2_the_number_of_clusters_follows_the_real_length_of_each_item(merging: AdaptiveMerging) -> None:
    lengths = (1, 4, 5, 20, 128)
    merged = merging(*random_tokens(*lengths, padded_to=512))
    assert merged.mask_BK.sum(dim=1).tolist() == [math.ceil(0.25 * length) for length in lengths]


def test_fault_2_level_one_merges_inputs_far_shorter_than_the_padding(merging: AdaptiveMerging) -> None:
    merged = merging(*random_tokens(40, padded_to=512))
    assert merged.mask_BK.sum() == 10
    assert len(set(merged.assignment_BL[0, :40].tolist())) == 10


def test_cluster_counts_do_not_round_up_for_the_sake_of_binary_fractions() -> None:
    mask_BL = torch.ones(1, 100, dtype=torch.bool)
    assert 0.07 * 100 > 7
    assert cluster_counts(mask_BL, 0.07).tolist() == [7]


def test_fault_3_padding_stays_marked_after_merging(merging: AdaptiveMerging) -> None:
    tokens_BLD, mask_BL = random_tokens(3, 12)
    merged = merging(tokens_BLD, mask_BL)
    assert merged.mask_BK.tolist() == [[True, False, False], [True, True, True]]
    assert (merged.tokens_BKD[~merged.mask_BK] == 0).all()
    assert (merged.assignment_BL[~mask_BL] == -1).all()
    assert (merged.assignment_BL[mask_BL] >= 0).all()
    assert (merged.weights_BL[~mask_BL] == 0).all()


def test_fault_6_the_result_does_not_depend_on_any_random_state(merging: AdaptiveMerging) -> None:
    tokens_BLD, mask_BL = random_tokens(30, 17)
    torch.manual_seed(1)
    first = merging(tokens_BLD, mask_BL)
    torch.manual_seed(2)
    second = merging(tokens_BLD, mask_BL)
    assert torch.equal(first.assignment_BL, second.assignment_BL)
    assert torch.equal(first.tokens_BKD, second.tokens_BKD)


def test_fault_6_equal_tokens_are_told_apart_by_their_index() -> None:
    tokens_BLD = torch.ones(1, 6, WIDTH)
    assignment_BL = density_peak_clusters(tokens_BLD, torch.ones(1, 6, dtype=torch.bool), torch.tensor([3]), neighbours=3)
    # All densities and distances are equal: the first three are centres, and the others join the first of the equally near.
    assert assignment_BL.tolist() == [[0, 1, 2, 0, 0, 0]]


def test_rounding_noise_does_not_decide_between_equally_distant_tokens() -> None:
    ring_LD = F.one_hot(torch.arange(12) % 3, WIDTH).float()
    noise = torch.Generator().manual_seed(0)
    mask_BL = torch.ones(1, 12, dtype=torch.bool)
    counts_B = torch.tensor([3])
    exact = density_peak_clusters(ring_LD[None], mask_BL, counts_B, neighbours=3)
    for _ in range(20):
        noisy_LD = ring_LD + 1e-6 * torch.randn(ring_LD.shape, generator=noise)
        assert torch.equal(density_peak_clusters(noisy_LD[None], mask_BL, counts_B, neighbours=3), exact)


def test_well_separated_groups_become_the_clusters_in_the_order_of_the_sequence() -> None:
    generator = torch.Generator().manual_seed(0)
    group_L = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    tokens_LD = 5.0 * F.one_hot(group_L, WIDTH) + 0.05 * torch.randn(12, WIDTH, generator=generator)
    assignment_BL = density_peak_clusters(tokens_LD[None], torch.ones(1, 12, dtype=torch.bool), torch.tensor([3]), neighbours=3)
    assert assignment_BL[0].tolist() == group_L.tolist()


def plain_clusters(tokens_LD: Tensor, count: int, neighbours: int) -> list[int]:
    """The algorithm once more, token by token, as its description reads."""
    everyone = range(len(tokens_LD))
    squared = [[float((tokens_LD[i].double() - tokens_LD[j].double()).square().mean()) for j in everyone] for i in everyone]
    squared = [[round(value * DISTANCE_STEPS) / DISTANCE_STEPS for value in row] for row in squared]
    density = []
    for i in everyone:
        nearest = sorted(squared[i][j] for j in everyone if j != i)[:neighbours]
        density.append((math.exp(-sum(nearest) / max(len(nearest), 1)), -i))
    largest = max(map(max, squared))
    to_denser = [min((squared[i][j] for j in everyone if density[j] > density[i]), default=largest) for i in everyone]
    ranked = sorted(everyone, key=lambda i: -density[i][0] * math.sqrt(to_denser[i]))
    centres = sorted(ranked[:count])
    return [centres.index(i) if i in centres else min(range(count), key=lambda k: squared[i][centres[k]]) for i in everyone]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 24), min_size=1, max_size=4), st.integers(0, 10_000), st.sampled_from([0.25, 0.5]), st.integers(1, 4))
def test_batched_clusters_equal_the_plain_algorithm(lengths: list[int], seed: int, ratio: float, neighbours: int) -> None:
    tokens_BLD, mask_BL = random_tokens(*lengths, seed=seed)
    counts_B = cluster_counts(mask_BL, ratio)
    assignment_BL = density_peak_clusters(tokens_BLD, mask_BL, counts_B, neighbours)
    for item, length in enumerate(lengths):
        plain = plain_clusters(tokens_BLD[item, :length], int(counts_B[item]), neighbours)
        assert assignment_BL[item, :length].tolist() == plain


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 10_000))
def test_an_item_merges_the_same_alone_and_padded_among_others(lengths: list[int], padding: int, seed: int) -> None:
    merging = make_merging()
    tokens_BLD, mask_BL = random_tokens(*lengths, seed=seed, padded_to=max(lengths) + padding)
    together = merging(tokens_BLD, mask_BL)
    for item, length in enumerate(lengths):
        alone = merging(tokens_BLD[item : item + 1, :length], mask_BL[item : item + 1, :length])
        tokens_KD, assignment, weights_L = of_item(together, item, length)
        assert assignment == alone.assignment_BL[0].tolist()
        torch.testing.assert_close(tokens_KD, alone.tokens_BKD[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weights_L, alone.weights_BL[0], atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.booleans(), st.integers(0, 10_000))
def test_no_cluster_is_empty_and_its_weights_sum_to_one(lengths: list[int], ratio: float, repeated: bool, seed: int) -> None:
    tokens_BLD, mask_BL = random_tokens(*lengths, seed=seed)
    if repeated:
        tokens_BLD[:] = tokens_BLD[:, :1]
    merged = make_merging(ratio)(tokens_BLD, mask_BL)
    for item, length in enumerate(lengths):
        _, assignment, weights_L = of_item(merged, item, length)
        clusters = int(merged.mask_BK[item].sum())
        assert sorted(set(assignment)) == list(range(clusters))
        sums_K = torch.zeros(clusters).index_add(0, torch.tensor(assignment), weights_L)
        torch.testing.assert_close(sums_K, torch.ones(clusters))


def test_the_token_score_decides_the_share_in_the_cluster(merging: AdaptiveMerging) -> None:
    tokens_BLD, mask_BL = random_tokens(4)
    with torch.no_grad():
        merging.score.weight.zero_()
    equal = merging(tokens_BLD, mask_BL)
    torch.testing.assert_close(equal.weights_BL[0], torch.full((4,), 0.25))


def test_the_token_score_is_added_to_the_attention_of_the_merged_tokens() -> None:
    # With a cluster for every token the merge itself cannot depend on the score: what changes comes from the attention.
    merging = make_merging(ratio=1.0)
    tokens_BLD, mask_BL = random_tokens(6)
    before = merging(tokens_BLD, mask_BL)
    with torch.no_grad():
        merging.score.weight.mul_(5.0)
    after = merging(tokens_BLD, mask_BL)
    torch.testing.assert_close(after.weights_BL, before.weights_BL)
    assert not torch.allclose(after.tokens_BKD, before.tokens_BKD, atol=1e-3)


def test_very_large_token_scores_do_not_overflow(merging: AdaptiveMerging) -> None:
    with torch.no_grad():
        merging.score.weight.mul_(1e4)
    merged = merging(*random_tokens(20, 5))
    assert merged.tokens_BKD.isfinite().all()


def test_gradients_reach_every_weight_and_every_real_token_alone(merging: AdaptiveMerging) -> None:
    tokens_BLD, mask_BL = random_tokens(9, 16)
    tokens_BLD.requires_grad_()
    merged = merging(tokens_BLD, mask_BL)
    merged.tokens_BKD.square().sum().backward()
    for name, weight in merging.named_parameters():
        assert weight.grad is not None, name
        if name != "score.bias":  # A score added to all tokens alike changes nothing: its gradient is zero by right.
            assert weight.grad.abs().sum() > 0, name
    assert tokens_BLD.grad is not None
    assert (tokens_BLD.grad.abs().sum(dim=2) > 0).equal(mask_BL)


def test_an_item_without_tokens_has_no_clusters_and_spoils_no_other(merging: AdaptiveMerging) -> None:
    tokens_BLD, mask_BL = random_tokens(8, 8)
    mask_BL[0] = False
    merged = merging(tokens_BLD, mask_BL)
    assert merged.mask_BK.sum(dim=1).tolist() == [0, 2]
    assert merged.tokens_BKD.isfinite().all()


@pytest.mark.parametrize(
    ("ratio", "heads", "neighbours", "message"),
    [(0.0, 4, 3, "ratio"), (1.5, 4, 3, "ratio"), (0.5, 3, 3, "heads"), (0.5, 4, 0, "neighbours")],
)
def test_impossible_shapes_are_refused(ratio: float, heads: int, neighbours: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveMerging(WIDTH, ratio, heads, neighbours)
