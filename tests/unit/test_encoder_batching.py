"""The batcher: few forward passes for many callers, no call lost, no call answered that nobody waits for."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from encoder.batching import BatcherClosedError, BatcherFullError, TokenBudgetBatcher
from encoder.inference import Encoder
from tests.encoder_models import sample_pairs, small_checkpoint

PATIENCE = 30.0


class CountingEncoder:
    """Encodes an item as its length; waits at the gate; fails on `poison`."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.threads: set[int] = set()
        self.busy = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode("text", texts)

    def encode_molecules(self, smiles: Sequence[str]) -> NDArray[np.float32]:
        return self._encode("molecule", smiles)

    def _encode(self, kind: str, items: Sequence[str]) -> NDArray[np.float32]:
        self.busy.set()
        assert self.gate.wait(PATIENCE)
        self.threads.add(threading.get_ident())
        self.batches.append((kind, list(items)))
        if any("poison" in item for item in items):
            raise ValueError(f"poison among {len(items)}")
        return np.array([[len(item)] for item in items], dtype=np.float32)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def batcher(encoder: CountingEncoder) -> Iterator[TokenBudgetBatcher]:
    batcher = TokenBudgetBatcher(encoder, batch_tokens=10, wait_seconds=0.0, max_waiting_tokens=20)
    yield batcher
    encoder.gate.set()
    batcher.close()


def _hold(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> "Future[NDArray[np.float32]]":
    """Occupy the model, so that what follows waits in the queue."""
    encoder.gate.clear()
    encoder.busy.clear()
    held = batcher.submit("text", "held", 1)
    assert encoder.busy.wait(PATIENCE)
    return held


def test_calls_that_wait_share_a_pass_up_to_the_token_budget(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    futures = [batcher.submit("text", item, 4) for item in ("a", "bb", "ccc", "dddd")]
    encoder.gate.set()
    assert [future.result(PATIENCE)[0] for future in futures] == [1, 2, 3, 4]
    assert encoder.batches[1:] == [("text", ["a", "bb"]), ("text", ["ccc", "dddd"])]


def test_an_item_larger_than_the_budget_gets_a_pass_of_its_own(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    futures = [batcher.submit("text", item, cost) for item, cost in (("a", 1), ("huge", 15), ("b", 1))]
    encoder.gate.set()
    for future in futures:
        future.result(PATIENCE)
    assert encoder.batches[1:] == [("text", ["a"]), ("text", ["huge"]), ("text", ["b"])]


def test_texts_and_molecules_of_a_batch_go_to_their_own_passes(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    futures = [batcher.submit(kind, item, 1) for kind, item in (("text", "a"), ("molecule", "CCO"), ("text", "bb"))]
    encoder.gate.set()
    assert [future.result(PATIENCE)[0] for future in futures] == [1, 3, 2]
    assert sorted(encoder.batches[1:]) == [("molecule", ["CCO"]), ("text", ["a", "bb"])]


def test_a_poisonous_item_fails_alone(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    good, bad, also_good = (batcher.submit("text", item, 1) for item in ("good", "poison", "better"))
    encoder.gate.set()
    assert good.result(PATIENCE)[0] == 4
    assert also_good.result(PATIENCE)[0] == 6
    with pytest.raises(ValueError, match="poison among 1"):
        bad.result(PATIENCE)


def test_a_cancelled_call_costs_nothing(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    gone, kept = batcher.submit("text", "gone", 1), batcher.submit("text", "kept", 1)
    assert gone.cancel()
    encoder.gate.set()
    assert kept.result(PATIENCE)[0] == 4
    assert encoder.batches[1:] == [("text", ["kept"])]
    with pytest.raises(CancelledError):
        gone.result(PATIENCE)


def test_a_call_past_its_deadline_costs_nothing(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    late, kept = batcher.submit("text", "late", 1, time.monotonic()), batcher.submit("text", "kept", 1, time.monotonic() + PATIENCE)
    encoder.gate.set()
    assert kept.result(PATIENCE)[0] == 4
    with pytest.raises(TimeoutError, match="deadline"):
        late.result(PATIENCE)
    assert encoder.batches[1:] == [("text", ["kept"])]


def test_a_full_queue_refuses_at_once_and_takes_calls_again_when_drained(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    _hold(encoder, batcher)
    waiting = [batcher.submit("text", "a", 10), batcher.submit("text", "b", 10)]
    with pytest.raises(BatcherFullError, match="20 tokens are waiting"):
        batcher.submit("text", "c", 1)
    encoder.gate.set()
    for future in waiting:
        future.result(PATIENCE)
    assert batcher.submit("text", "c", 1).result(PATIENCE)[0] == 1


def test_an_empty_queue_takes_an_item_above_its_bound(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    assert batcher.submit("text", "enormous", 1000).result(PATIENCE)[0] == 8


def test_close_finishes_what_waits_and_refuses_what_follows(encoder: CountingEncoder, batcher: TokenBudgetBatcher) -> None:
    held = _hold(encoder, batcher)
    waiting = [batcher.submit("text", item, 6) for item in ("a", "bb", "ccc")]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    encoder.gate.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert [future.result(0)[0] for future in (held, *waiting)] == [4, 1, 2, 3]
    with pytest.raises(BatcherClosedError):
        batcher.submit("text", "late", 1)


def test_close_twice_is_close_once(batcher: TokenBudgetBatcher) -> None:
    batcher.close()
    batcher.close()


def test_an_unknown_kind_is_refused(batcher: TokenBudgetBatcher) -> None:
    with pytest.raises(ValueError, match="text or molecule"):
        batcher.submit("protein", "MKV", 1)


@pytest.mark.parametrize("arguments", [{"batch_tokens": 0}, {"wait_seconds": -1.0}, {"max_waiting_tokens": 0}])
def test_impossible_bounds_are_refused(encoder: CountingEncoder, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        TokenBudgetBatcher(encoder, **arguments)  # type: ignore[arg-type]  # the point of the test


def test_many_threads_get_their_own_answers_from_one_model_thread(encoder: CountingEncoder) -> None:
    batcher = TokenBudgetBatcher(encoder, batch_tokens=50, wait_seconds=0.001)
    with ThreadPoolExecutor(16) as callers:
        lengths = list(callers.map(lambda n: batcher.submit("text", "x" * n, n).result(PATIENCE)[0], range(1, 200)))
    batcher.close()
    assert lengths == list(range(1, 200))
    assert len(encoder.threads) == 1
    assert len(encoder.batches) < 199


def test_batched_vectors_are_those_of_the_encoder() -> None:
    encoder = Encoder(small_checkpoint())
    texts = [pair.text for pair in sample_pairs()[:30]]
    expected = encoder.encode_texts(texts)
    batcher = TokenBudgetBatcher(encoder, batch_tokens=200)
    futures = [batcher.submit("text", text, encoder.text_tokens(text)) for text in texts]
    np.testing.assert_allclose(np.stack([future.result(PATIENCE) for future in futures]), expected, atol=1e-5)
    batcher.close()
