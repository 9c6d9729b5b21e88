"""The Qdrant index over loopback gRPC: what it asks of a server, and what it does when the server fails."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import grpc
import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest

from deploy.index_server import WireServer, wire_server
from server.adapters.qdrant_index import POINTS_PER_CALL, QUERIES_PER_CALL, CollectionSettings, QdrantIndex
from server.adapters.qdrant_points import DESCRIPTOR_PATHS
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Condition, Not
from server.domain.search import VECTOR_LEGS, Leg
from server.ports import Point, Vector

DIMENSION = 8


@pytest.fixture
def wire() -> Iterator[tuple[str, WireServer]]:
    with wire_server() as running:
        yield running


def vector(seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def points(count: int) -> list[Point]:
    return [Point(uuid.UUID(int=i), "one", {Leg.MOLECULES: vector(i)}, {"metadata.year": 1900 + i}, f"document {i}") for i in range(count)]


def test_a_collection_is_created_for_scale(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    settings = CollectionSettings(shards=6, replicas=2, write_consistency=2)
    with closing(QdrantIndex(url, "m1", DIMENSION, settings=settings)) as index:
        index.upsert(points(3))
    created = server.created("atomas_m1")
    assert (created.shard_number, created.replication_factor, created.write_consistency_factor) == (6, 2, 2)
    assert created.on_disk_payload
    vectors = GrpcToRest.convert_vectors_config(created.vectors_config)
    assert isinstance(vectors, dict)
    for params in vectors.values():
        assert isinstance(params.quantization_config, models.ScalarQuantization)
        assert params.quantization_config.scalar.always_ram
    assert {name: (params.size, params.on_disk) for name, params in vectors.items()} == {
        leg.value: (DIMENSION, True) for leg in VECTOR_LEGS
    }
    assert server.tenants == ["library"]
    assert set(server.indexed("atomas_m1")) == {"library", "terms", *DESCRIPTOR_PATHS, "numbers.metadata-2e-year"}


def test_fragments_lie_on_disk_without_a_graph_and_without_a_second_copy(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    QdrantIndex(url, "m1", DIMENSION, fragment_dimension=4).close()
    vectors = GrpcToRest.convert_vectors_config(server.created("atomas_m1").vectors_config)
    assert isinstance(vectors, dict)
    fragments = vectors[Leg.FRAGMENTS.value]
    assert (fragments.size, fragments.on_disk, fragments.quantization_config) == (4, True, None)
    assert (fragments.distance, fragments.datatype) == (models.Distance.DOT, models.Datatype.TURBO8)
    assert fragments.hnsw_config is not None
    assert fragments.hnsw_config.m == 0
    assert not server.created("atomas_m1").HasField("quantization_config")


def test_opening_again_creates_nothing(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        index.upsert(points(3))
    server.calls.clear()
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        assert index.count() == 3
        index.upsert(points(3))
    assert server.calls == ["CollectionExists", "GetCollection", "Count", "Upsert"]


def test_every_model_version_has_a_collection_of_its_own(wire: tuple[str, WireServer]) -> None:
    url, _ = wire
    with closing(QdrantIndex(url, "m1", DIMENSION)) as former, closing(QdrantIndex(url, "m2", DIMENSION + 1)) as other:
        former.upsert(points(3))
        assert (former.count(), other.count()) == (3, 0)
        assert (former.model_version, other.model_version) == ("m1", "m2")
        other.drop()
        assert former.count() == 3


def test_a_collection_made_for_other_vectors_is_refused(wire: tuple[str, WireServer]) -> None:
    url, _ = wire
    QdrantIndex(url, "m1", DIMENSION).close()
    with pytest.raises(AtomasError, match="atomas_m1") as raised:
        QdrantIndex(url, "m1", DIMENSION + 1)
    assert raised.value.reason is Reason.SCHEMA_MISMATCH


def test_of_two_processes_that_create_a_collection_both_succeed(wire: tuple[str, WireServer], monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = wire
    QdrantIndex(url, "m1", DIMENSION).close()
    answers = iter([False, True])
    monkeypatch.setattr(QdrantIndex, "_exists", lambda index: next(answers))
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        assert index.count() == 0


def test_large_writes_and_batches_go_in_bounded_messages(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        server.calls.clear()
        index.upsert(points(2 * POINTS_PER_CALL + 1))
        # The year is indexed before the first point that has it.
        assert server.calls == ["CreateFieldIndex", "Upsert", "Upsert", "Upsert"]
        server.calls.clear()
        found = index.search(Leg.MOLECULES, [vector(i) for i in range(QUERIES_PER_CALL + 1)], 1)
        assert [hits[0].id.int for hits in found] == list(range(QUERIES_PER_CALL + 1))
        assert server.calls == ["QueryBatch", "QueryBatch"]


def test_a_server_that_comes_back_is_asked_again(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        index.upsert(points(5))
        server.fail_next(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
        assert len(index.search(Leg.MOLECULES, [vector()], 10, ["one"], Not(Condition("id", "=", "x")))[0]) == 5
        server.fail_next(grpc.StatusCode.UNAVAILABLE)
        index.delete([uuid.UUID(int=0)])
        assert index.count() == 4


@pytest.mark.parametrize(
    ("status", "attempts", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, 3, Reason.INDEX_UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3, Reason.OVERLOADED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 1, Reason.INDEX_UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, 1, Reason.INDEX_UNAVAILABLE),
        (grpc.StatusCode.UNAUTHENTICATED, 1, Reason.INDEX_UNAVAILABLE),
    ],
)
def test_a_failure_that_lasts_is_named(wire: tuple[str, WireServer], status: grpc.StatusCode, attempts: int, reason: Reason) -> None:
    url, server = wire
    with closing(QdrantIndex(url, "m1", DIMENSION, attempts=3)) as index:
        server.calls.clear()
        server.fail_next(*[status] * 3)
        with pytest.raises(AtomasError) as raised:
            index.count()
        assert raised.value.reason is reason
        assert server.calls == ["Count"] * attempts


def test_an_unreachable_server_is_named_with_its_address() -> None:
    with pytest.raises(AtomasError, match=r"127\.0\.0\.1:1") as raised:
        QdrantIndex("grpc://127.0.0.1:1", "m1", DIMENSION, attempts=2)
    assert raised.value.reason is Reason.INDEX_UNAVAILABLE


def test_a_server_that_hangs_is_given_up_after_the_timeout(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    with closing(QdrantIndex(url, "m1", DIMENSION, timeout_seconds=1)) as index:
        server.hang()
        try:
            with pytest.raises(AtomasError, match="DEADLINE_EXCEEDED"):
                index.count()
        finally:
            server.go_on()
        assert index.count() == 0


def test_a_collection_that_was_dropped_is_an_outage_not_an_empty_answer(wire: tuple[str, WireServer]) -> None:
    url, _ = wire
    with closing(QdrantIndex(url, "m1", DIMENSION)) as index:
        index.drop()
        with pytest.raises(AtomasError, match="NOT_FOUND"):
            index.search(Leg.MOLECULES, [vector()], 1)


@pytest.mark.parametrize("url", ["", "localhost:6333", "ftp://host", "http://", "grpc://host:port"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Qdrant"):
        QdrantIndex(url, "m1", DIMENSION)
