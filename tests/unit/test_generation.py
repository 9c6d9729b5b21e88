"""Generation: beams and draws against exhaustive enumeration, repeatable, apart from batch mates, counted."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder import generation
from encoder.context import ReadItem, collate
from encoder.generation import Cancelled, Candidate, Generated, Sampling, beam_search, rerank, sample
from encoder.model.decoder import END, Decoder, DecoderConfig, Task, pad_targets
from encoder.model.source import Source
from encoder.prose import Manner

CONFIG = DecoderConfig(
    text_vocabulary=5, smiles_vocabulary=3, encoder_width=8, encoder_dimension=4, width=16, layers=1, heads=2, feed_forward=16, dropout=0.3
)
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


def read(lengths: tuple[int, ...] = ENCODER_LENGTHS) -> Source:
    """Items of so many encoder tokens, those of an odd number with a neighbour to copy from."""
    items = []
    for length in lengths:
        generator = torch.Generator().manual_seed(length)
        pieces = [[[0, 1, 2, 1]]] if length % 2 else []
        vectors = torch.randn(1 + len(pieces), CONFIG.encoder_dimension, generator=generator)
        tokens_EC = torch.randn(length, CONFIG.encoder_width, generator=generator)
        items.append(ReadItem(tokens_EC, vectors[0], Manner.PROSE, pieces, vectors[1:], np.ones(len(pieces), np.float32)))
    return collate(items)


def log_probability(decoder: Decoder, task: Task, ids: tuple[int, ...], source: Source) -> float:
    """Log-probability of one sequence and its end, decoded at once."""
    targets_BL, _ = pad_targets([ids])
    with torch.no_grad():
        return float(decoder(targets_BL, task, source).sum())


def every_sequence(decoder: Decoder, task: Task, source: Source) -> dict[tuple[int, ...], float]:
    """Log-probability of every sequence of 1 to 3 tokens."""
    tokens = range(CONFIG.vocabulary(task))
    sequences = itertools.chain.from_iterable(itertools.product(tokens, repeat=length) for length in range(1, MAX_TOKENS + 1))
    return {ids: log_probability(decoder, task, ids, source) for ids in sequences}


def assert_same(some: Generated, other: Generated) -> None:
    assert [candidate.ids for candidate in some.candidates] == [candidate.ids for candidate in other.candidates]
    for one, another in zip(some.candidates, other.candidates, strict=True):
        assert one.log_probability == pytest.approx(another.log_probability, abs=1e-4)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_search_finds_the_best_of_all_sequences(decoder: Decoder, task: Task, length_penalty: float) -> None:
    source = read()
    found = beam_search(decoder, task, source, beams=30, max_tokens=MAX_TOKENS, length_penalty=length_penalty)
    for item, generated in enumerate(found):
        exact = every_sequence(decoder, task, source.select(torch.tensor([item])))
        ranked = sorted(exact, key=lambda ids: -exact[ids] / (len(ids) + 1) ** length_penalty)
        assert [candidate.ids for candidate in generated.candidates[:5]] == ranked[:5]
        for candidate in generated.candidates:
            assert candidate.log_probability == pytest.approx(exact[candidate.ids], abs=1e-4)


def test_one_beam_follows_the_likeliest_token_and_ends_where_the_mean_is_best(decoder: Decoder) -> None:
    source = read((4,))
    path: list[int] = []
    with torch.no_grad():
        state = decoder.start(Task.DESCRIBE, source)
        last_BN = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(6):
            last_BN = decoder.step(state, last_BN)[:, :, 1:].argmax(dim=2) + 1
            path.append(int(last_BN) - 1)
    prefixes = [tuple(path[:length]) for length in range(1, 7)]
    best = max(prefixes, key=lambda ids: log_probability(decoder, Task.DESCRIBE, ids, source) / (len(ids) + 1))
    (generated,) = beam_search(decoder, Task.DESCRIBE, source, beams=1, max_tokens=6)
    assert [candidate.ids for candidate in generated.candidates] == [best]


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_fault_12_beams_of_a_batch_equal_those_of_each_item_alone(decoder: Decoder, beams: int) -> None:
    together = beam_search(decoder, Task.DESCRIBE, read(), beams, max_tokens=12)
    for item, length in enumerate(ENCODER_LENGTHS):
        (alone,) = beam_search(decoder, Task.DESCRIBE, read((length,)), beams, max_tokens=12)
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
    together = sample(decoder, Task.DESCRIBE, read(), sampling)
    for item, length in enumerate(ENCODER_LENGTHS):
        torch.manual_seed(item)
        (alone,) = sample(decoder, Task.DESCRIBE, read((length,)), sampling)
        assert_same(together[item], alone)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_draws_are_the_same_whether_ended_rows_are_dropped_and_however_the_likeliest_are_found(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, top_p: float
) -> None:
    sampling = Sampling(12, 5, MAX_TOKENS + 6, top_p=top_p)
    answers = []
    for dropping, likeliest in ((0.0, 100), (1.0, 1), (generation.WORTH_DROPPING, generation.LIKELIEST)):
        monkeypatch.setattr(generation, "WORTH_DROPPING", dropping)
        monkeypatch.setattr(generation, "LIKELIEST", likeliest)
        answers.append(sample(decoder, Task.GENERATE, read(), sampling))
    assert len({len(candidate.ids) for candidate in answers[0][0].candidates}) > 2
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            assert_same(one, other)


def test_another_seed_draws_others(decoder: Decoder) -> None:
    drawn = {
        seed: tuple(
            candidate.ids for candidate in sample(decoder, Task.DESCRIBE, read((4,)), Sampling(8, seed, max_tokens=6))[0].candidates
        )
        for seed in range(3)
    }
    assert len(set(drawn.values())) == 3


def test_more_candidates_of_a_seed_continue_the_same_draws(decoder: Decoder) -> None:
    few, many = (sample(decoder, Task.DESCRIBE, read((4,)), Sampling(count, seed=5, max_tokens=6))[0].candidates for count in (4, 40))
    assert {candidate.ids for candidate in few} <= {candidate.ids for candidate in many}


def draws(decoder: Decoder, task: Task, sampling: Sampling) -> Counter[tuple[int, ...]]:
    """How often each finished sequence was drawn for one item."""
    seen: Counter[tuple[int, ...]] = Counter()

    def remember(ids: tuple[int, ...]) -> None:
        seen[ids] += 1

    sample(decoder, task, read((4,)), sampling, remember)
    return seen


def test_draws_follow_the_probabilities_of_the_decoder(decoder: Decoder) -> None:
    drawn = 4000
    seen = draws(decoder, Task.GENERATE, Sampling(drawn, seed=1, max_tokens=MAX_TOKENS))
    exact = every_sequence(decoder, Task.GENERATE, read((4,)))
    not_empty = 1.0 - math.exp(log_probability(decoder, Task.GENERATE, (), read((4,))))
    for ids, value in exact.items():
        share = math.exp(value) / not_empty
        assert abs(seen[ids] / drawn - share) < 5 * math.sqrt(share * (1 - share) / drawn) + 1e-3, ids


def test_a_low_temperature_keeps_to_the_likeliest_token(decoder: Decoder) -> None:
    path: list[int] = []
    with torch.no_grad():
        state = decoder.start(Task.DESCRIBE, read((4,)))
        for _ in range(6):
            logits_V = decoder.step(state, torch.tensor([path[-1:] or [END]]))[0, 0]
            path.append(int(logits_V[END + 1 :].argmax()) + 1 if not path else int(logits_V.argmax()))
    (cold,) = sample(decoder, Task.DESCRIBE, read((4,)), Sampling(20, seed=1, max_tokens=5, temperature=1e-3))
    if END in path:
        assert [candidate.ids for candidate in cold.candidates] == [tuple(output - 1 for output in path[: path.index(END)])]
    else:
        assert cold.unfinished == 20


def test_top_p_draws_the_likeliest_tokens_alone(decoder: Decoder) -> None:
    with torch.no_grad():
        state = decoder.start(Task.DESCRIBE, read((4,)))
        first_V = decoder.step(state, torch.zeros(1, 1, dtype=torch.long))[0, 0, 1:].softmax(dim=0)
    ranked = first_V.argsort(descending=True).tolist()
    top_p = float(first_V[ranked[0]]) + 0.5 * float(first_V[ranked[1]])
    seen = draws(decoder, Task.DESCRIBE, Sampling(300, seed=1, max_tokens=12, top_p=top_p))
    assert {ids[0] for ids in seen} == set(ranked[:2])


def test_log_probabilities_are_those_of_the_decoder_whatever_the_temperature(decoder: Decoder) -> None:
    source = read((4,))
    (generated,) = sample(decoder, Task.DESCRIBE, source, Sampling(10, seed=1, max_tokens=6, temperature=1.7, top_p=0.95))
    for candidate in generated.candidates:
        assert candidate.log_probability == pytest.approx(log_probability(decoder, Task.DESCRIBE, candidate.ids, source), abs=1e-4)
    values = [candidate.log_probability for candidate in generated.candidates]
    assert values == sorted(values, reverse=True)


def test_fault_12_invalid_candidates_are_dropped_and_drawn_again_until_there_are_enough(decoder: Decoder) -> None:
    def even_first(ids: tuple[int, ...]) -> tuple[int, ...] | None:
        return ids if ids[0] % 2 == 0 else None

    (generated,) = sample(decoder, Task.DESCRIBE, read((4,)), Sampling(10, seed=3, max_tokens=12, max_draws=500), even_first)
    assert len(generated.candidates) == 10
    assert all(candidate.ids[0] % 2 == 0 for candidate in generated.candidates)
    assert len({candidate.ids for candidate in generated.candidates}) == 10
    assert generated.rejected > 0
    assert generated.drawn <= 500


def test_candidates_of_one_identity_are_one_and_the_likeliest_stands_for_them(decoder: Decoder) -> None:
    def as_a_set(ids: tuple[int, ...]) -> frozenset[int]:
        return frozenset(ids)

    everything = sample(decoder, Task.DESCRIBE, read((4,)), Sampling(200, seed=3, max_tokens=3))[0]
    merged = sample(decoder, Task.DESCRIBE, read((4,)), Sampling(200, seed=3, max_tokens=3), as_a_set)[0]
    best: dict[frozenset[int], float] = {}
    for candidate in everything.candidates:
        identity = frozenset(candidate.ids)
        best[identity] = max(best.get(identity, -math.inf), candidate.log_probability)
    assert {frozenset(candidate.ids): candidate.log_probability for candidate in merged.candidates} == best
    assert merged.duplicates > everything.duplicates


def test_every_draw_is_accounted_for_when_nothing_is_valid(decoder: Decoder) -> None:
    sampling = Sampling(5, seed=0, max_tokens=2, max_draws=23)
    for generated in sample(decoder, Task.DESCRIBE, read(), sampling, lambda ids: None):
        assert generated.candidates == ()
        assert generated.drawn == 23 == generated.rejected + generated.unfinished
        assert generated.unfinished > 0


def test_nothing_empty_is_ever_written(decoder: Decoder) -> None:
    hasty = Decoder(CONFIG).eval()
    hasty.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        hasty.end.copy_(100.0 * hasty.norm.weight)
        hasty.prefix.copy_(hasty.end.expand_as(hasty.prefix))
        hasty.manner.zero_()
        for weight in hasty.layers.parameters():
            weight.zero_()
    for generated in beam_search(hasty, Task.DESCRIBE, read(), beams=3, max_tokens=4):
        assert all(candidate.ids for candidate in generated.candidates)
    for generated in sample(hasty, Task.DESCRIBE, read(), Sampling(6, seed=0, max_tokens=4)):
        assert all(candidate.ids for candidate in generated.candidates)


def test_more_beams_than_sequences_give_every_sequence_once(decoder: Decoder) -> None:
    (generated,) = beam_search(decoder, Task.GENERATE, read((4,)), beams=100, max_tokens=2)
    assert sorted(candidate.ids for candidate in generated.candidates) == sorted(
        itertools.chain(itertools.product(range(3), repeat=1), itertools.product(range(3), repeat=2))
    )


def test_a_decoder_in_training_is_used_without_dropout_and_left_in_training(decoder: Decoder) -> None:
    expected = beam_search(decoder, Task.DESCRIBE, read(), beams=2, max_tokens=6)
    decoder.train()
    try:
        assert beam_search(decoder, Task.DESCRIBE, read(), beams=2, max_tokens=6) == expected
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
        beam_search(decoder, Task.DESCRIBE, read(), beams=0, max_tokens=5)


def test_whoever_gives_up_is_left_alone_at_the_next_token(decoder: Decoder) -> None:
    asked = []

    def after_three() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        beam_search(decoder, Task.DESCRIBE, read(), beams=2, max_tokens=12, cancelled=after_three)
    assert len(asked) == 4
    with pytest.raises(Cancelled):
        sample(decoder, Task.DESCRIBE, read(), Sampling(4, seed=0, max_tokens=12), cancelled=lambda: True)


def test_a_decoder_that_learnt_its_pairs_writes_them_back_in_both_directions() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, text_vocabulary=9, smiles_vocabulary=9, width=32, feed_forward=32, dropout=0.0)
    decoder = Decoder(config)
    texts = [(1, 2, 3, 4, 5), (1, 2, 3), (7, 7, 7, 7), (0, 8), (5, 4, 3, 2, 1)]
    molecules = [ids[::-1] for ids in texts]
    # Random embeddings in place of the encoder; the first nine stand for the words, the others for the tokens of SMILES.
    embeddings = torch.randn(18, config.encoder_width)

    def encode(sequences: list[tuple[int, ...]], first: int) -> Source:
        none_K = np.zeros(0, np.float32)
        vector_X, none_KX = torch.zeros(config.encoder_dimension), torch.zeros(0, config.encoder_dimension)
        rows = [embeddings[torch.tensor(ids) + first] for ids in sequences]
        return collate([ReadItem(tokens_EC, vector_X, Manner.PROSE, [], none_KX, none_K) for tokens_EC in rows])

    directions = {Task.DESCRIBE: (molecules, 9, texts), Task.GENERATE: (texts, 0, molecules)}
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(120):
        loss = torch.zeros(())
        for task, (inputs, first, outputs) in directions.items():
            targets_BL, mask_BL = pad_targets(outputs)
            loss = loss - decoder(targets_BL, task, encode(inputs, first))[mask_BL].mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
    for task, (inputs, first, outputs) in directions.items():
        source = encode(inputs, first)
        found = beam_search(decoder, task, source, beams=4, max_tokens=10)
        assert [generated.candidates[0].ids for generated in found] == outputs
        drawn = sample(decoder, task, source, Sampling(4, seed=0, max_tokens=10, temperature=0.5))
        assert [generated.candidates[0].ids for generated in drawn] == outputs
