"""Hierarchical alignment: what a score is made of, that padding never counts, and that training on the loss aligns."""

# Shape legend:  B pairs, T text tokens, S SMILES tokens, L tokens, K clusters, D width

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from encoder.model.alignment import AlignmentConfig, FusionWeights, HierarchicalAlignment, in_batch_contrastive, token_similarity

WIDTH = 16
CONFIG = AlignmentConfig(width=WIDTH, heads=4, fusion_width=8)


def random_items(*lengths: int, seed: int = 0, padded_to: int | None = None, padding: float = 1e3) -> tuple[Tensor, Tensor]:
    """Random tokens of some items in one batch, whose padding holds junk."""
    generator = torch.Generator().manual_seed(seed)
    longest = padded_to or max(lengths)
    tokens_BLD = torch.full((len(lengths), longest, WIDTH), padding)
    mask_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    for item, length in enumerate(lengths):
        tokens_BLD[item, :length] = torch.randn(length, WIDTH, generator=generator)
    return tokens_BLD, mask_BL


def even_weights(mask_BL: Tensor) -> Tensor:
    return mask_BL.float() / mask_BL.sum(dim=1, keepdim=True)


def plain_score(text_TD: Tensor, smiles_SD: Tensor, text_weights_T: Tensor, smiles_weights_S: Tensor) -> float:
    cosine_TS = F.normalize(text_TD, dim=1) @ F.normalize(smiles_SD, dim=1).T
    from_text = sum(float(weight * row.max()) for weight, row in zip(text_weights_T, cosine_TS, strict=True))
    from_smiles = sum(float(weight * column.max()) for weight, column in zip(smiles_weights_S, cosine_TS.T, strict=True))
    return (from_text + from_smiles) / 2


def make_alignment(config: AlignmentConfig = CONFIG) -> HierarchicalAlignment:
    torch.manual_seed(0)
    return HierarchicalAlignment(config)


def test_the_score_is_the_weighted_best_partner_cosine_of_both_directions() -> None:
    text_lengths, smiles_lengths = (3, 7, 5), (9, 2, 4)
    text_BTD, text_mask_BT = random_items(*text_lengths, seed=1)
    smiles_BSD, smiles_mask_BS = random_items(*smiles_lengths, seed=2)
    weigh = FusionWeights(WIDTH, 8)
    text_weights_BT, smiles_weights_BS = weigh(text_BTD, text_mask_BT), weigh(smiles_BSD, smiles_mask_BS)
    scores_BB = token_similarity(text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, text_weights_BT, smiles_weights_BS)
    for i, text_length in enumerate(text_lengths):
        for j, smiles_length in enumerate(smiles_lengths):
            plain = plain_score(
                text_BTD[i, :text_length],
                smiles_BSD[j, :smiles_length],
                text_weights_BT[i, :text_length],
                smiles_weights_BS[j, :smiles_length],
            )
            assert float(scores_BB[i, j]) == pytest.approx(plain, abs=1e-5)


def test_texts_and_molecules_may_differ_in_number() -> None:
    text_BTD, text_mask_BT = random_items(3, 4, 5)
    smiles_BSD, smiles_mask_BS = random_items(6, 2)
    scores = token_similarity(text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, even_weights(text_mask_BT), even_weights(smiles_mask_BS))
    assert scores.shape == (3, 2)


def test_fault_4_fusion_weights_leave_nothing_to_padding() -> None:
    torch.manual_seed(0)
    tokens_BLD, mask_BL = random_items(3, 20, padded_to=512)
    weights_BL = FusionWeights(WIDTH, 8)(tokens_BLD, mask_BL)
    torch.testing.assert_close(weights_BL.sum(dim=1), torch.ones(2))
    assert (weights_BL[~mask_BL] == 0).all()
    assert (weights_BL[mask_BL] > 0).all()


def test_fault_5_padding_never_lifts_a_negative_best_similarity_to_zero() -> None:
    # The only partner points the other way: the score must be -1 on both sides, whatever stands on the padding.
    text_BTD, text_mask_BT = random_items(2, padded_to=6, padding=0.0)
    text_BTD[0, :2] = 1.0
    smiles_BSD, smiles_mask_BS = random_items(3, padded_to=9, padding=0.0)
    smiles_BSD[0, :3] = -2.0
    for padding in (0.0, 1.0, -1.0):
        text_BTD[~text_mask_BT] = padding
        smiles_BSD[~smiles_mask_BS] = padding
        # A longer neighbour keeps the padding from being cropped away.
        neighbour_BTD, neighbour_mask_BT = random_items(6)
        score_BB = token_similarity(
            torch.cat([text_BTD, neighbour_BTD]),
            torch.cat([text_mask_BT, neighbour_mask_BT]),
            torch.cat([smiles_BSD, random_items(9)[0]]),
            torch.cat([smiles_mask_BS, torch.ones(1, 9, dtype=torch.bool)]),
            even_weights(torch.cat([text_mask_BT, neighbour_mask_BT])),
            even_weights(torch.cat([smiles_mask_BS, torch.ones(1, 9, dtype=torch.bool)])),
        )
        assert float(score_BB[0, 0]) == pytest.approx(-1.0)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves the class untyped
    """Remembers how many numbers the largest tensor made under it held."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def largest_tensor() -> LargestTensor:
    return LargestTensor()  # type: ignore[no-untyped-call]  # torch leaves the class untyped


def test_fault_10_similarities_are_cropped_to_real_lengths_and_made_in_chunks() -> None:
    text_BTD, text_mask_BT = random_items(*[12] * 16, padded_to=512)
    smiles_BSD, smiles_mask_BS = random_items(*[20] * 16, padded_to=512)
    weights = even_weights(text_mask_BT), even_weights(smiles_mask_BS)
    with largest_tensor() as whole:
        at_once = token_similarity(text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, *weights)
    assert whole.numbers == 16 * 16 * 12 * 20
    with largest_tensor() as chunked:
        limit = 3 * 16 * 12 * 20
        in_chunks = token_similarity(text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, *weights, max_similarities=limit)
    assert chunked.numbers == limit
    torch.testing.assert_close(in_chunks, at_once)


def test_fault_10_one_long_item_does_not_lengthen_the_others() -> None:
    lengths = [10] * 47 + [100]
    text_BTD, text_mask_BT = random_items(*lengths)
    smiles_BSD, smiles_mask_BS = random_items(*lengths, seed=1)
    with largest_tensor() as largest:
        token_similarity(
            text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, even_weights(text_mask_BT), even_weights(smiles_mask_BS), 1 << 40
        )
    # The last block of 16 texts and molecules is as long as its longest item; all 48 would be nine times as large.
    assert largest.numbers == (16 * 100) ** 2


def test_scores_keep_the_order_of_the_batch_whatever_the_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    text_lengths, smiles_lengths = (torch.randint(1, 30, (count,), generator=generator).tolist() for count in (40, 35))
    text_BTD, text_mask_BT = random_items(*text_lengths)
    smiles_BSD, smiles_mask_BS = random_items(*smiles_lengths, seed=1)
    text_weights_BT, smiles_weights_BS = even_weights(text_mask_BT), even_weights(smiles_mask_BS)
    scores_BB = token_similarity(text_BTD, text_mask_BT, smiles_BSD, smiles_mask_BS, text_weights_BT, smiles_weights_BS)
    for i, j in ((0, 0), (39, 34), (17, 3), (5, 29)):
        text_TD, smiles_SD = text_BTD[i, : text_lengths[i]], smiles_BSD[j, : smiles_lengths[j]]
        plain = plain_score(text_TD, smiles_SD, text_weights_BT[i, : len(text_TD)], smiles_weights_BS[j, : len(smiles_SD)])
        assert float(scores_BB[i, j]) == pytest.approx(plain, abs=1e-5)


def test_fault_3_and_10_no_level_of_an_item_depends_on_padding_or_on_the_batch() -> None:
    alignment = make_alignment().eval()
    lengths = (1, 5, 30, 64)
    tokens_BLD, mask_BL = random_items(*lengths, padded_to=100)
    together = alignment.levels(tokens_BLD, mask_BL, "text")
    for item, length in enumerate(lengths):
        alone = alignment.levels(tokens_BLD[item : item + 1, :length], mask_BL[item : item + 1, :length], "text")
        for level_together, level_alone in zip(together, alone, strict=True):
            clusters = int(level_together.mask_BK[item].sum())
            assert clusters == int(level_alone.mask_BK.sum())
            assert torch.equal(level_together.assignment_BL[item, :length], level_alone.assignment_BL[0])
            torch.testing.assert_close(level_together.tokens_BKD[item, :clusters], level_alone.tokens_BKD[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(level_together.weights_BK[item, :clusters], level_alone.weights_BK[0], atol=1e-5, rtol=1e-5)


def test_levels_shrink_by_the_ratios_and_assignments_name_original_tokens() -> None:
    alignment = make_alignment()
    tokens_BLD, mask_BL = random_items(40, 7)
    levels = alignment.levels(tokens_BLD, mask_BL, "molecule")
    assert [level.mask_BK.sum(dim=1).tolist() for level in levels] == [[40, 7], [10, 2], [5, 1]]
    for level in levels:
        assert level.assignment_BL.shape == mask_BL.shape
        assert (level.assignment_BL[~mask_BL] == -1).all()
        for item in range(2):
            named = set(level.assignment_BL[item][mask_BL[item]].tolist())
            assert named == set(range(int(level.mask_BK[item].sum())))
    # Tokens that level 1 merged stay together at level 2.
    for cluster in range(10):
        together = levels[2].assignment_BL[0][levels[1].assignment_BL[0] == cluster]
        assert len(set(together.tolist())) == 1


def test_modalities_have_weights_of_their_own() -> None:
    alignment = make_alignment()
    tokens_BLD, mask_BL = random_items(20)
    text, molecule = (alignment.levels(tokens_BLD, mask_BL, modality) for modality in ("text", "molecule"))
    assert not torch.allclose(text[1].tokens_BKD, molecule[1].tokens_BKD)
    assert not torch.allclose(text[0].weights_BK, molecule[0].weights_BK)


def test_fault_9_pairs_that_share_a_molecule_or_text_are_no_negatives() -> None:
    scores_BB = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    shared_BB = torch.eye(3, dtype=torch.bool)
    shared_BB[0, 1] = shared_BB[1, 0] = True
    without_BB = torch.tensor([[5.0, -1e9, 0.0], [-1e9, 5.0, 0.0], [0.0, 0.0, 5.0]])
    torch.testing.assert_close(in_batch_contrastive(scores_BB, shared_BB), in_batch_contrastive(without_BB))
    assert in_batch_contrastive(scores_BB, shared_BB) < in_batch_contrastive(scores_BB)


def test_the_loss_is_the_sum_of_its_three_levels() -> None:
    alignment = make_alignment()
    text, smiles = random_items(5, 9, seed=1), random_items(12, 30, seed=2)
    loss = alignment(*text, *smiles)
    assert len(loss.per_level) == 3
    torch.testing.assert_close(loss.total, sum(loss.per_level, torch.zeros(())))


def test_an_item_without_tokens_is_refused_with_what_to_do() -> None:
    text_BTD, text_mask_BT = random_items(3, 4)
    text_mask_BT[1] = False
    with pytest.raises(ValueError, match="leave it out of the batch"):
        make_alignment()(text_BTD, text_mask_BT, *random_items(3, 4))


def test_the_scale_stays_below_one_hundred() -> None:
    alignment = make_alignment()
    text, smiles = random_items(5, 9, seed=1), random_items(12, 30, seed=2)
    with torch.no_grad():
        alignment.log_scale.fill_(50.0)
    assert alignment(*text, *smiles).total <= 3 * 200.0


def test_align_pair_explains_the_score_of_each_level() -> None:
    alignment = make_alignment().eval()
    (text_BTD, text_mask), (smiles_BSD, smiles_mask) = random_items(13, seed=1), random_items(21, seed=2)
    pairs = alignment.align_pair(text_BTD[0], smiles_BSD[0])
    batch_scores = alignment.similarities(
        alignment.levels(text_BTD, text_mask, "text"), alignment.levels(smiles_BSD, smiles_mask, "molecule")
    )
    for pair, batch_score in zip(pairs, batch_scores, strict=True):
        rebuilt = pair.text_weights_T @ pair.similarity_TS.amax(dim=1) / 2 + pair.smiles_weights_S @ pair.similarity_TS.amax(dim=0) / 2
        assert pair.score == pytest.approx(float(rebuilt), abs=1e-5)
        assert pair.score == pytest.approx(float(batch_score), abs=1e-5)
        assert pair.between_tokens().shape == (13, 21)
        row, column = int(pair.text_assignment_L[4]), int(pair.smiles_assignment_L[17])
        assert pair.between_tokens()[4, 17] == pair.similarity_TS[row, column]
    assert pairs[0].between_tokens().equal(pairs[0].similarity_TS)


def test_training_on_the_hierarchy_alone_lowers_its_loss_and_finds_the_partners() -> None:
    """Concepts are words here and atoms there, in other vectors and other orders, among noise words; only alignment can link them."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    concepts, pairs = 12, 32
    atoms, words = torch.nn.Embedding(concepts, WIDTH), torch.nn.Embedding(concepts + 4, WIDTH)
    held = torch.stack([torch.randperm(concepts, generator=generator)[:4] for _ in range(pairs)])
    smiles_ids_BS = held.repeat(1, 2)
    noise = concepts + torch.randint(0, 4, (pairs, 4), generator=generator)
    text_ids_BT = torch.cat([held.flip(1), noise], dim=1)
    mask = torch.ones(pairs, 8, dtype=torch.bool)
    alignment = HierarchicalAlignment(CONFIG)
    parameters = [*alignment.parameters(), *atoms.parameters(), *words.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)

    def hits_per_level() -> list[float]:
        with torch.no_grad():
            text_levels = alignment.levels(words(text_ids_BT), mask, "text")
            smiles_levels = alignment.levels(atoms(smiles_ids_BS), mask, "molecule")
            scores = alignment.similarities(text_levels, smiles_levels)
        return [float((score.argmax(dim=1) == torch.arange(pairs)).float().mean()) for score in scores]

    before = hits_per_level()
    losses = []
    for _ in range(100):
        loss = alignment(words(text_ids_BT), mask, atoms(smiles_ids_BS), mask)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append([level.item() for level in loss.per_level])
    after = hits_per_level()
    assert all(start < 0.1 for start in before)
    # Level 0 sees each token alone and confuses items that share three concepts of four; the merged levels see combinations.
    assert after[0] > 0.4
    assert min(after[1:]) > 0.9
    assert all(last < 0.5 * first for first, last in zip(losses[0], losses[-1], strict=True))
    # The fusion weights have learnt that noise words say nothing.
    weights_BT = alignment.levels(words(text_ids_BT), mask, "text")[0].weights_BK
    assert weights_BT[:, :4].sum() > 2 * weights_BT[:, 4:].sum()
