"""Generation: beams and draws against exhaustive enumeration, repeatable, apart from batch mates, counted."""

# Shape legend:  B items, E encoder tokens, C encoder width

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoder.generation import Candidate, Generated, Sampling, beam_search, rerank, sample
from encoder.model.decoder import END, Decoder, DecoderConfig, Task, pad_targets
from encoder.model.losses import generation_loss

CONFIG = DecoderConfig(text_vocabulary=5, smiles_vocabulary=3, encoder_width=8, width=16, layers=1, heads=2, feed_forward=16, dropout=0.3)
MAX_TOKENS = 3
ENCODER_LENGTHS = (4, 1, 9, 2, 6)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    with torch.no_grad():
        # Wider than at the start of a training, so that sequences differ in probability.
        for weight in decoder.layers.parameters():
            weight.mul_(2.0)
    return decoder


def encoded(lengths: tuple[int, ...] = ENCODER_LENGTHS) -> tuple[Tensor, Tensor]:
    tokens_BEC = torch.full((len(lengths), max(lengths), CONFIG.encoder_width), 1e3)
    for item, length in enumerate(lengths):
        tokens_BEC[item, :length] = torch.randn(length, CONFIG.encoder_width, generator=torch.Generator().manual_seed(length))
    return tokens_BEC, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def log_probability(decoder: Decoder, task: Task, ids: tuple[int, ...], encoder_BEC: Tensor, mask_BE: Tensor) -> float:
    """Log-probability of one sequence and its end, decoded at once."""
    targets_BL, _ = pad_targets([ids])
    with torch.no_grad():
        log_probability_LV = decoder(targets_BL, task, encoder_BEC, mask_BE)[0].log_softmax(dim=1)
    return float(log_probability_LV.gather(1, targets_BL[0][:, None]).sum())


def every_sequence(decoder: Decoder, task: Task, encoder_BEC: Tensor, mask_BE: Tensor) -> dict[tuple[int, ...], float]:
    """Log-probability of every sequence of 1 to 3 tokens."""
    tokens = range(CONFIG.vocabulary(task))
    sequences = itertools.chain.from_iterable(itertools.product(tokens, repeat=length) for length in range(1, MAX_TOKENS + 1))
    return {ids: log_probability(decoder, task, ids, encoder_BEC, mask_BE) for ids in sequences}


def assert_same(some: Generated, other: Generated) -> None:
    assert [candidate.ids for candidate in some.candidates] == [candidate.ids for candidate in other.candidates]
    for one, another in zip(some.candidates, other.candidates, strict=True):
        assert one.log_probability == pytest.approx(another.log_probability, abs=1e-4)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_search_finds_the_best_of_all_sequences(decoder: Decoder, task: Task, length_penalty: float) -> None:
    encoder_BEC, mask_BE = encoded()
    found = beam_search(decoder, task, encoder_BEC, mask_BE, beams=30, max_tokens=MAX_TOKENS, length_penalty=length_penalty)
    for item, generated in enumerate(found):
        exact = every_sequence(decoder, task, encoder_BEC[item : item + 1], mask_BE[item : item + 1])
        ranked = sorted(exact, key=lambda ids: -exact[ids] / (len(ids) + 1) ** length_penalty)
        assert [candidate.ids for candidate in generated.candidates[:5]] == ranked[:5]
        for candidate in generated.candidates:
            assert candidate.log_probability == pytest.approx(exact[candidate.ids], abs=1e-4)


def test_one_beam_follows_the_likeliest_token_and_ends_where_the_mean_is_best(decoder: Decoder) -> None:
    encoder = encoded((4,))
    path: list[int] = []
    for _ in range(6):
        with torch.no_grad():
            logits_V = decoder(pad_targets([path])[0], Task.DESCRIBE, *encoder)[0, -1]
        path.append(int(logits_V[1:].argmax()))
    prefixes = [tuple(path[:length]) for length in range(1, 7)]
    best = max(prefixes, key=lambda ids: log_probability(decoder, Task.DESCRIBE, ids, *encoder) / (len(ids) + 1))
    (generated,) = beam_search(decoder, Task.DESCRIBE, *encoder, beams=1, max_tokens=6)
    assert [candidate.ids for candidate in generated.candidates] == [best]


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_fault_12_beams_of_a_batch_equal_those_of_each_item_alone(decoder: Decoder, beams: int) -> None:
    encoder_BEC, mask_BE = encoded()
    together = beam_search(decoder, Task.DESCRIBE, encoder_BEC, mask_BE, beams, max_tokens=12)
    for item, length in enumerate(ENCODER_LENGTHS):
        (alone,) = beam_search(decoder, Task.DESCRIBE, *encoded((length,)), beams, max_tokens=12)
        assert_same(together[item], alone)
        assert 1 <= len(alone.candidates) <= beams


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63), st.floats(0.3, 2.0), st.floats(0.1, 1.0), st.integers(1, 6))
def test_fault_12_draws_are_the_same_with_the_same_seed_and_whatever_the_batch(
    seed: int, temperature: float, top_p: float, count: int
) -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    sampling = Sampling(count, seed, max_tokens=8, temperature=temperature, top_p=top_p)
    together = sample(decoder, Task.DESCRIBE, *encoded(), sampling)
    for item, length in enumerate(ENCODER_LENGTHS):
        torch.manual_seed(item)
        (alone,) = sample(decoder, Task.DESCRIBE, *encoded((length,)), sampling)
        assert_same(together[item], alone)


def test_another_seed_draws_others(decoder: Decoder) -> None:
    drawn = {
        seed: tuple(
            candidate.ids for candidate in sample(decoder, Task.DESCRIBE, *encoded((4,)), Sampling(8, seed, max_tokens=6))[0].candidates
        )
        for seed in range(3)
    }
    assert len(set(drawn.values())) == 3


def test_more_candidates_of_a_seed_continue_the_same_draws(decoder: Decoder) -> None:
    few, many = (sample(decoder, Task.DESCRIBE, *encoded((4,)), Sampling(count, seed=5, max_tokens=6))[0].candidates for count in (4, 40))
    assert {candidate.ids for candidate in few} <= {candidate.ids for candidate in many}


def draws(decoder: Decoder, task: Task, sampling: Sampling) -> Counter[tuple[int, ...]]:
    """How often each finished sequence was drawn for one item."""
    seen: Counter[tuple[int, ...]] = Counter()

    def remember(ids: tuple[int, ...]) -> None:
        seen[ids] += 1

    sample(decoder, task, *encoded((4,)), sampling, remember)
    return seen


def test_draws_follow_the_probabilities_of_the_decoder(decoder: Decoder) -> None:
    drawn = 4000
    seen = draws(decoder, Task.GENERATE, Sampling(drawn, seed=1, max_tokens=MAX_TOKENS))
    exact = every_sequence(decoder, Task.GENERATE, *encoded((4,)))
    not_empty = 1.0 - math.exp(log_probability(decoder, Task.GENERATE, (), *encoded((4,))))
    for ids, value in exact.items():
        share = math.exp(value) / not_empty
        assert abs(seen[ids] / drawn - share) < 5 * math.sqrt(share * (1 - share) / drawn) + 1e-3, ids


def test_a_low_temperature_keeps_to_the_likeliest_token(decoder: Decoder) -> None:
    path: list[int] = []
    while len(path) <= 12 and (not path or path[-1] != END):
        with torch.no_grad():
            logits_V = decoder(pad_targets([[output - 1 for output in path]])[0], Task.DESCRIBE, *encoded((4,)))[0, -1]
        path.append(int(logits_V.argmax()) if path else int(logits_V[1:].argmax()) + 1)
    cold = draws(decoder, Task.DESCRIBE, Sampling(20, seed=1, max_tokens=12, temperature=1e-3))
    assert cold == {tuple(output - 1 for output in path[:-1]): 20}


def test_top_p_draws_the_likeliest_tokens_alone(decoder: Decoder) -> None:
    with torch.no_grad():
        state = decoder.start(Task.DESCRIBE, *encoded((4,)))
        first_V = decoder.step(state, torch.zeros(1, 1, dtype=torch.long))[0, 0, 1:].softmax(dim=0)
    ranked = first_V.argsort(descending=True).tolist()
    top_p = float(first_V[ranked[0]]) + 0.5 * float(first_V[ranked[1]])
    seen = draws(decoder, Task.DESCRIBE, Sampling(300, seed=1, max_tokens=12, top_p=top_p))
    assert {ids[0] for ids in seen} == set(ranked[:2])


def test_log_probabilities_are_those_of_the_decoder_whatever_the_temperature(decoder: Decoder) -> None:
    encoder = encoded((4,))
    (generated,) = sample(decoder, Task.DESCRIBE, *encoder, Sampling(10, seed=1, max_tokens=6, temperature=1.7, top_p=0.95))
    for candidate in generated.candidates:
        assert candidate.log_probability == pytest.approx(log_probability(decoder, Task.DESCRIBE, candidate.ids, *encoder), abs=1e-4)
    values = [candidate.log_probability for candidate in generated.candidates]
    assert values == sorted(values, reverse=True)


def test_fault_12_invalid_candidates_are_dropped_and_drawn_again_until_there_are_enough(decoder: Decoder) -> None:
    def even_first(ids: tuple[int, ...]) -> tuple[int, ...] | None:
        return ids if ids[0] % 2 == 0 else None

    (generated,) = sample(decoder, Task.DESCRIBE, *encoded((4,)), Sampling(10, seed=3, max_tokens=12, max_draws=500), even_first)
    assert len(generated.candidates) == 10
    assert all(candidate.ids[0] % 2 == 0 for candidate in generated.candidates)
    assert len({candidate.ids for candidate in generated.candidates}) == 10
    assert generated.rejected > 0
    assert generated.drawn <= 500


def test_candidates_of_one_identity_are_one_and_the_likeliest_stands_for_them(decoder: Decoder) -> None:
    def as_a_set(ids: tuple[int, ...]) -> frozenset[int]:
        return frozenset(ids)

    everything = sample(decoder, Task.DESCRIBE, *encoded((4,)), Sampling(200, seed=3, max_tokens=3))[0]
    merged = sample(decoder, Task.DESCRIBE, *encoded((4,)), Sampling(200, seed=3, max_tokens=3), as_a_set)[0]
    best: dict[frozenset[int], float] = {}
    for candidate in everything.candidates:
        identity = frozenset(candidate.ids)
        best[identity] = max(best.get(identity, -math.inf), candidate.log_probability)
    assert {frozenset(candidate.ids): candidate.log_probability for candidate in merged.candidates} == best
    assert merged.duplicates > everything.duplicates


def test_every_draw_is_accounted_for_when_nothing_is_valid(decoder: Decoder) -> None:
    sampling = Sampling(5, seed=0, max_tokens=2, max_draws=23)
    for generated in sample(decoder, Task.DESCRIBE, *encoded(), sampling, lambda ids: None):
        assert generated.candidates == ()
        assert generated.drawn == 23 == generated.rejected + generated.unfinished
        assert generated.unfinished > 0


def test_nothing_empty_is_ever_written(decoder: Decoder) -> None:
    hasty = Decoder(CONFIG).eval()
    hasty.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        hasty.end.copy_(100.0 * hasty.norm.weight)
        hasty.prefix.weight.copy_(hasty.end.expand_as(hasty.prefix.weight))
        for weight in hasty.layers.parameters():
            weight.zero_()
    for generated in beam_search(hasty, Task.DESCRIBE, *encoded(), beams=3, max_tokens=4):
        assert all(candidate.ids for candidate in generated.candidates)
    for generated in sample(hasty, Task.DESCRIBE, *encoded(), Sampling(6, seed=0, max_tokens=4)):
        assert all(candidate.ids for candidate in generated.candidates)


def test_more_beams_than_sequences_give_every_sequence_once(decoder: Decoder) -> None:
    (generated,) = beam_search(decoder, Task.GENERATE, *encoded((4,)), beams=100, max_tokens=2)
    assert sorted(candidate.ids for candidate in generated.candidates) == sorted(
        itertools.chain(itertools.product(range(3), repeat=1), itertools.product(range(3), repeat=2))
    )


def test_a_decoder_in_training_is_used_without_dropout_and_left_in_training(decoder: Decoder) -> None:
    expected = beam_search(decoder, Task.DESCRIBE, *encoded(), beams=2, max_tokens=6)
    decoder.train()
    try:
        assert beam_search(decoder, Task.DESCRIBE, *encoded(), beams=2, max_tokens=6) == expected
        assert decoder.training
    finally:
        decoder.eval()


def test_fault_12_candidates_are_reranked_by_another_score() -> None:
    likely, unlikely, tied = Candidate((1,), -1.0), Candidate((2,), -9.0), Candidate((3,), -5.0)
    assert rerank([likely, unlikely, tied], [0.2, 0.8, 0.2]) == [unlikely, likely, tied]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 0.0}, "beam search"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_draws": 2}, "cannot give 3"),
    ],
)
def test_impossible_sampling_is_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**{"count": 3, "seed": 0, "max_tokens": 5, **changed})  # type: ignore[arg-type]  # the wrong types are the point


def test_a_beam_search_without_beams_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        beam_search(decoder, Task.DESCRIBE, *encoded(), beams=0, max_tokens=5)


def test_a_decoder_that_learnt_its_pairs_writes_them_back_in_both_directions() -> None:
    torch.manual_seed(0)
    decoder = Decoder(
        DecoderConfig(text_vocabulary=9, smiles_vocabulary=9, encoder_width=8, width=32, layers=1, heads=2, feed_forward=32, dropout=0.0)
    )
    texts = [(1, 2, 3, 4, 5), (1, 2, 3), (7, 7, 7, 7), (0, 8), (5, 4, 3, 2, 1)]
    molecules = [ids[::-1] for ids in texts]
    read = torch.nn.Embedding(18, 8)
    optimiser = torch.optim.Adam([*decoder.parameters(), *read.parameters()], lr=0.01)

    def encode(sequences: list[tuple[int, ...]], first: int) -> tuple[Tensor, Tensor]:
        """A reader in place of the encoder: token embeddings, marked by their places."""
        targets_BL, mask_BL = pad_targets(sequences)
        places_LD = torch.sin(torch.arange(targets_BL.shape[1])[:, None] * torch.arange(1, 9) / 3.0)
        return read(targets_BL.clamp_max(8) + first) + places_LD, mask_BL

    directions = {Task.DESCRIBE: (molecules, 9, texts), Task.GENERATE: (texts, 0, molecules)}
    for _ in range(120):
        loss = torch.zeros(())
        for task, (inputs, first, outputs) in directions.items():
            targets_BL, mask_BL = pad_targets(outputs)
            loss = loss + generation_loss(decoder(targets_BL, task, *encode(inputs, first)), targets_BL, mask_BL)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
    for task, (inputs, first, outputs) in directions.items():
        with torch.no_grad():
            encoder = encode(inputs, first)
        found = beam_search(decoder, task, *encoder, beams=4, max_tokens=10)
        assert [generated.candidates[0].ids for generated in found] == outputs
        drawn = sample(decoder, task, *encoder, Sampling(4, seed=0, max_tokens=10, temperature=0.5))
        assert [generated.candidates[0].ids for generated in drawn] == outputs
