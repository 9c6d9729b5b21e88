"""Every encoder: unit vectors in order, whoever asks at the same time; refusals with their reason."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from deploy.services import LocalService
from encoder.batching import TokenBudgetBatcher
from encoder.inference import Encoder as Model
from server.adapters.local_encoder import LocalEncoder
from server.adapters.model_places import facts_of
from server.adapters.worker_encoder import WorkerEncoder
from server.domain.errors import AtomasError, Reason
from server.ports import Encoder
from tests.contract.brokers import new_app, running_worker
from tests.encoder_models import small_checkpoint
from tests.fakes import FakeEncoder
from tests.fakes_models import fake_ports
from workers.app import register

MAX_TOKENS = 50
# Length of the vectors of phrases and fragments.
WIDTH = 16
TEXTS = ["a steroid", "a beta-lactam antibiotic", "an alkaloid of opium", "a sugar", "a steroid"]
SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCO", "C[C@H](N)C(=O)O"]


@contextmanager
def fake(request: pytest.FixtureRequest) -> Iterator[Encoder]:
    """Hashed bags."""
    yield FakeEncoder(max_tokens=MAX_TOKENS, fragment_dimension=WIDTH)


@contextmanager
def local(request: pytest.FixtureRequest) -> Iterator[Encoder]:
    """The model in this process."""
    model = Model(small_checkpoint(max_tokens=MAX_TOKENS, hierarchy_width=WIDTH))
    encoder = LocalEncoder(model, TokenBudgetBatcher(model), "1")
    yield encoder
    encoder.close()


def over(broker: str) -> Callable[[pytest.FixtureRequest], Iterator[Encoder]]:
    """The model in a worker."""

    def worker(request: pytest.FixtureRequest) -> Iterator[Encoder]:
        server: LocalService = request.getfixturevalue(broker)
        worker_app, app = new_app(server), new_app(server)
        with local(request) as answering:
            ports = fake_ports(answering)
            model = answering.model
            facts = facts_of(model)
            with running_worker(worker_app, lambda app: register(app, ports, 1)):
                asking = WorkerEncoder(app, facts, model.molecule_standard, cache_entries=2, silence_seconds=20)
                yield asking
                asking.close()
        app.close()
        worker_app.close()

    return worker


ENCODERS = {
    "fake": fake,
    "local": local,
    "redis": contextmanager(over("redis_server")),
    "rabbitmq": contextmanager(over("rabbitmq_server")),
}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Iterator[Encoder]:
    with ExitStack() as stack:
        yield stack.enter_context(ENCODERS[request.param](request))


def test_vectors_have_length_one_and_the_order_of_the_items(encoder: Encoder) -> None:
    for encode, items in ((encoder.encode_texts, TEXTS), (encoder.encode_molecules, SMILES)):
        vectors = encode(items)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(items), encoder.model.dimension)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        for item, vector in zip(items, vectors, strict=True):
            np.testing.assert_allclose(encode([item])[0], vector, atol=1e-5)


def test_nothing_gives_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode_texts([]).shape == (0, encoder.model.dimension)
    assert encoder.encode_molecules([]).shape == (0, encoder.model.dimension)


def test_callers_at_the_same_time_get_the_vectors_of_their_own_items(encoder: Encoder) -> None:
    texts = [f"compound number {n}" for n in range(40)]
    barrier = threading.Barrier(8)

    def ask(start: int) -> list[np.ndarray]:
        barrier.wait(20)
        return [encoder.encode_texts([text], 60.0)[0] for text in texts[start::8]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    alone = encoder.encode_texts(texts)
    for start, vectors in enumerate(answers):
        np.testing.assert_allclose(np.stack(vectors), alone[start::8], atol=1e-5)


def test_a_list_longer_than_one_message_comes_back_whole(encoder: Encoder) -> None:
    texts = [f"text {n}" for n in range(150)]
    vectors = encoder.encode_texts(texts)
    np.testing.assert_allclose(vectors[[0, 75, 149]], encoder.encode_texts([texts[0], texts[75], texts[149]]), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "items", "reason"),
    [
        ("text", ["fine", "word " * (MAX_TOKENS + 1)], Reason.TEXT_TOO_LONG),
        ("text", ["  "], Reason.EMPTY_QUERY),
        ("molecule", ["C" * (MAX_TOKENS + 1)], Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_its_reason(encoder: Encoder, kind: str, items: list[str], reason: Reason) -> None:
    encode = encoder.encode_texts if kind == "text" else encoder.encode_molecules
    with pytest.raises(AtomasError) as caught:
        encode(items)
    assert caught.value.reason is reason


def test_a_deadline_that_has_passed_is_said_to_have_passed(encoder: Encoder) -> None:
    with pytest.raises(AtomasError) as caught:
        encoder.encode_texts(["never asked before"], 0.0)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


def test_phrases_and_fragments_are_unit_vectors_with_weights_beside_the_same_vector(encoder: Encoder) -> None:
    assert encoder.model.fragment_dimension == WIDTH
    for in_parts, encode, items in (
        (encoder.encode_texts_and_phrases, encoder.encode_texts, TEXTS),
        (encoder.encode_molecules_and_fragments, encoder.encode_molecules, SMILES),
    ):
        found = in_parts(items)
        np.testing.assert_allclose(np.stack([vector for vector, _ in found]), encode(items), atol=1e-5)
        for item, (_, parts) in zip(items, found, strict=True):
            assert parts
            assert parts.vectors.dtype == parts.weights.dtype == np.float32
            assert parts.vectors.shape == (len(parts.weights), WIDTH)
            np.testing.assert_allclose(np.linalg.norm(parts.vectors, axis=1), 1, atol=1e-5)
            assert parts.weights.sum() == pytest.approx(1, abs=1e-5)
            [(_, alone)] = in_parts([item])
            np.testing.assert_allclose(alone.vectors, parts.vectors, atol=1e-4)
            np.testing.assert_allclose(alone.weights, parts.weights, atol=1e-4)
        assert in_parts([]) == []


def test_many_texts_keep_their_own_phrases_whatever_their_number(encoder: Encoder) -> None:
    texts = ["word " * (1 + n % 40) + f"number {n}" for n in range(40)]
    found = encoder.encode_texts_and_phrases(texts)
    for n in (0, 31, 32, 39):
        [(_, alone)] = encoder.encode_texts_and_phrases([texts[n]])
        np.testing.assert_allclose(found[n][1].vectors, alone.vectors, atol=1e-4)


@pytest.mark.parametrize(("item", "reason"), [("word " * (MAX_TOKENS + 1), Reason.TEXT_TOO_LONG), (" ", Reason.EMPTY_QUERY)])
def test_what_has_no_vector_has_no_phrases(encoder: Encoder, item: str, reason: Reason) -> None:
    with pytest.raises(AtomasError) as caught:
        encoder.encode_texts_and_phrases(["fine", item])
    assert caught.value.reason is reason
    with pytest.raises(AtomasError) as caught:
        encoder.encode_molecules_and_fragments(["C" * (MAX_TOKENS + 1)])
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_model_without_hierarchy_gives_the_vectors_and_no_parts() -> None:
    model = Model(small_checkpoint(max_tokens=MAX_TOKENS))
    plain = LocalEncoder(model, TokenBudgetBatcher(model), "1")
    for bare in (plain, FakeEncoder(max_tokens=MAX_TOKENS)):
        assert bare.model.fragment_dimension == 0
        for in_parts, encode, items in (
            (bare.encode_texts_and_phrases, bare.encode_texts, TEXTS),
            (bare.encode_molecules_and_fragments, bare.encode_molecules, SMILES),
        ):
            found = in_parts(items)
            np.testing.assert_allclose(np.stack([vector for vector, _ in found]), encode(items), atol=1e-5)
            assert not any(parts for _, parts in found)
    plain.close()


def test_an_explanation_weighs_phrases_and_atoms(encoder: Encoder) -> None:
    text, smiles = "a nitrogen atom and oxygen", "NCCO"
    found = encoder.explain(text, smiles)
    [text_vector], [molecule_vector] = encoder.encode_texts([text]), encoder.encode_molecules([smiles])
    assert found.score == pytest.approx(float(text_vector @ molecule_vector), abs=1e-4)
    assert sum(phrase.weight for phrase in found.phrases) == pytest.approx(1, abs=1e-4)
    for phrase in found.phrases:
        assert 0 <= phrase.start < phrase.end <= len(text)
        assert len(phrase.atom_weights) == 4
        assert sum(phrase.atom_weights) == pytest.approx(1, abs=1e-4) or not any(phrase.atom_weights)
    for level in found.levels:
        assert len(level.similarities) == len(level.text_clusters) * len(level.molecule_clusters)


@pytest.mark.parametrize(
    ("text", "smiles", "reason"),
    [("word " * (MAX_TOKENS + 1), "CCO", Reason.TEXT_TOO_LONG), ("a text", "C" * (MAX_TOKENS + 1), Reason.TOO_LARGE)],
)
def test_what_is_too_long_is_not_explained(encoder: Encoder, text: str, smiles: str, reason: Reason) -> None:
    with pytest.raises(AtomasError) as caught:
        encoder.explain(text, smiles)
    assert caught.value.reason is reason


def test_tokens_are_counted_as_the_limit_counts_them(encoder: Encoder) -> None:
    assert encoder.text_tokens("word " * MAX_TOKENS) == MAX_TOKENS == encoder.model.max_tokens
    assert encoder.encode_texts(["word " * MAX_TOKENS]).shape == (1, encoder.model.dimension)
    assert encoder.molecule_tokens("CCO") < encoder.molecule_tokens("CCOCC")
