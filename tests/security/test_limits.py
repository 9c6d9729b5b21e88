"""What one caller may take, and what is given back when it leaves."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from atomas import Client, OverloadedError
from atomas.v1 import embedding_service_pb2 as embedding
from atomas.v1 import generation_service_pb2 as generation
from atomas.v1 import library_service_pb2 as libraries
from atomas.v1 import search_service_pb2 as search
from atomas.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from encoder.batching import TokenBudgetBatcher
from encoder.manifest import molecule_tokens, text_tokens
from server.adapters.local_encoder import LocalEncoder
from server.domain.abandonment import Abandonment
from server.domain.errors import AtomasError, Reason
from server.rpc import costs
from server.rpc.errors import status_of
from server.rpc.limits import CallLimits
from tests.security.served import Served, metadata, served
from tests.unit.conftest import World

Call: TypeAlias = "grpc.Future[embedding.EmbedTextsResponse]"
Embed: TypeAlias = Callable[..., Call]
TOKENS = costs.Tokens(text_tokens, molecule_tokens)


def test_a_bucket_empties_fills_and_allows_one_large_request() -> None:
    limits = CallLimits(0, 0, units_per_second=1000.0, reserve=10.0)
    limits.take("one", 200)
    with pytest.raises(AtomasError) as refused:
        limits.take("one", 1)
    assert refused.value.reason is Reason.RATE_LIMITED
    assert 0 < float(refused.value.details["retry_seconds"]) <= 0.2
    assert "google.rpc.RetryInfo" in [detail.TypeName() for detail in status_of(refused.value).details]
    limits.take("another", 1)
    time.sleep(0.25)
    limits.take("one", 1)


def test_places_are_given_back_whatever_becomes_of_a_call() -> None:
    limits = CallLimits(calls=3, caller_calls=2, units_per_second=0.0, reserve=1.0)
    for _ in range(5):
        with suppress(KeyError), limits.place("one"), limits.place("one"):
            with pytest.raises(AtomasError) as refused, limits.place("one"):
                pass
            assert refused.value.reason is Reason.OVERLOADED
            with limits.place("two"), pytest.raises(AtomasError), limits.place("three"):
                pass
            raise KeyError


def test_requests_cost_the_tokens_of_what_they_ask_and_their_rows() -> None:
    asked = search.SearchCompoundsRequest(text="a beta-lactam antibiotic")
    text = text_tokens("a beta-lactam antibiotic")
    assert text > 3
    assert costs.search(asked, TOKENS) == 1 + text
    assert costs.search(search.SearchCompoundsRequest(structure="CCO"), TOKENS) == 1 + molecule_tokens("CCO")
    assert costs.searches(search.BatchSearchCompoundsRequest(requests=[asked, asked]), TOKENS) == 1 + 2 * (1 + text)
    assert costs.texts(embedding.EmbedTextsRequest(texts=["water", "a sugar"]), TOKENS) == 1 + 2 + text_tokens("water") + text_tokens(
        "a sugar"
    )
    assert costs.structures(embedding.EmbedStructuresRequest(structures=["CCO"]), TOKENS) == 1 + 1 + molecule_tokens("CCO")
    row = libraries.ImportRow(smiles="CCO", display_name="ethanol", descriptions=["a primary alcohol"])
    rows = libraries.ImportCompoundsRequest(rows=libraries.ImportCompoundsRequest.Rows(rows=[row, row]))
    read = molecule_tokens("CCO") + text_tokens("ethanol") + text_tokens("a primary alcohol")
    assert costs.rows(rows, TOKENS) == 1 + 2 * (1 + read)
    few, many = (generation.GenerateMoleculesRequest(text="a sugar", count=count) for count in (1, 50))
    assert costs.generation(many, TOKENS) - costs.generation(few, TOKENS) == 49 * costs.CANDIDATE_TOKENS
    # Nobody counts the words of a text that no model reads.
    started = time.perf_counter()
    assert costs.texts(embedding.EmbedTextsRequest(texts=["word " * 2_000_000]), TOKENS) > 2_000_000
    assert time.perf_counter() - started < 2


def test_callers_over_their_limits_are_told_when_to_come_back(world: World) -> None:
    # Each call, its item and its token.
    with served(world.ports, caller_units_per_second=0.001, caller_units_reserve=9) as service:
        with Client(service.address, api_key=service.key("-:read"), timeout_seconds=5) as client:
            for _ in range(3):
                client.embed_texts(["water"])
            with pytest.raises(OverloadedError) as refused:
                client.embed_texts(["water"])
        assert refused.value.reason == "RATE_LIMITED"
        assert (refused.value.retry_after_seconds or 0) > 100


def test_a_full_library_takes_no_more_rows(world: World) -> None:
    with (
        served(world.ports, library_max_compounds=1) as service,
        Client(service.address, api_key=service.key("-:admin"), timeout_seconds=3) as client,
    ):
        client.import_compounds(["CC"], library="small", wait=False)
        world.work()
        with pytest.raises(OverloadedError) as refused:
            client.import_compounds(["CCC"], library="small", wait=False)
        assert refused.value.reason == "QUOTA_EXCEEDED"


def test_a_message_beyond_the_limit_is_refused_and_the_connection_goes_on(world: World) -> None:
    with (
        served(world.ports, max_request_bytes=10_000) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        embed = EmbeddingServiceStub(channel).EmbedTexts
        said = metadata(service.key("-:read"))
        with pytest.raises(grpc.RpcError) as refused:
            embed(embedding.EmbedTextsRequest(texts=["x" * 20_000]), metadata=said, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert embed(embedding.EmbedTextsRequest(texts=["water"]), metadata=said, timeout=20).embeddings[0].vector


class Model:
    """An encoder that waits to be let go, and remembers what it was given."""

    version, dimension, max_tokens, fragment_dimension = "0" * 16, 4, 100, 0

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def text_tokens(self, text: str) -> int:
        return 1

    def molecule_tokens(self, smiles: str) -> int:
        return 1

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.begun.set()
        assert self.go.wait(30)
        self.seen.extend(texts)
        return np.full((len(texts), self.dimension), 0.5, np.float32)

    encode_molecules = encode_texts


@contextmanager
def slow(world: World, **settings: Any) -> Iterator[tuple[Served, Model, Embed]]:
    """A service whose model is slow, with one text per forward pass, and what calls it."""
    model: Any = Model()
    with closing(LocalEncoder(model, TokenBudgetBatcher(model, batch_tokens=1), "1")) as encoder:
        ports = replace(world.ports, encoder=encoder)
        with served(ports, **settings) as service, grpc.insecure_channel(service.address) as channel:
            said = metadata(service.key("-:read"))

            def embed(*texts: str, timeout: float = 30) -> Call:
                return EmbeddingServiceStub(channel).EmbedTexts.future(
                    embedding.EmbedTextsRequest(texts=texts), metadata=said, timeout=timeout
                )

            try:
                yield service, model, embed
            finally:
                model.go.set()


def refused_for_lack_of_room(call: Call) -> bool:
    try:
        call.result()
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


def admitted(embed: Embed, text: str) -> Call:
    """A call that has a place, and waits."""
    while True:
        call = embed(text)
        time.sleep(0.2)
        if not call.done():
            return call
        assert refused_for_lack_of_room(call)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_cancelled_call_gives_back_its_place_and_its_work_for_the_model(world: World) -> None:
    with slow(world, request_threads=2, request_queue=1) as (_, model, embed):
        first = embed("first")
        assert model.begun.wait(20)
        waits = [embed("cancelled before the model"), embed("cancelled before a thread")]
        # All three places are taken: two by threads, one by who waits for a thread.
        until(lambda: refused_for_lack_of_room(embed("too many", timeout=0.3)))
        for call in waits:
            call.cancel()
        later = [admitted(embed, "later"), admitted(embed, "latest")]
        model.go.set()
        assert first.result().embeddings[0].vector
        for call in later:
            assert call.result().embeddings[0].vector
        assert "cancelled before the model" not in model.seen
        assert "cancelled before a thread" not in model.seen
        assert {"first", "later", "latest"} <= set(model.seen)


def test_what_is_past_its_deadline_is_not_encoded(world: World) -> None:
    with slow(world) as (_, model, embed):
        first = embed("first")
        assert model.begun.wait(20)
        late = embed("late", timeout=0.3)
        with pytest.raises(grpc.RpcError) as refused:
            late.result()
        assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server counts from when the call reached it, a little later than its caller.
        time.sleep(0.5)
        model.go.set()
        assert first.result().embeddings[0].vector
        assert embed("last").result().embeddings[0].vector
        assert model.seen == ["first", "last"]


def test_work_is_told_once_of_its_abandonment_before_or_after_it_began_to_wait() -> None:
    stopped: list[str] = []
    present = Abandonment()
    with present.stopping(lambda: stopped.append("ended in time")):
        pass
    with present.stopping(lambda: stopped.append("waiting")):
        present.happen()
        present.happen()
    with present.stopping(lambda: stopped.append("came later")):
        pass
    assert stopped == ["waiting", "came later"]
    assert present.happened
