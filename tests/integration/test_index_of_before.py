"""Indexes that were made before there was a lexical leg, and before there were fragments."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge
from numpy.typing import NDArray

from deploy.index_server import wire_server
from server.adapters import edge_shard
from server.adapters.edge_index import EdgeIndex
from server.adapters.qdrant_index import QdrantIndex
from server.adapters.qdrant_points import LIBRARY
from server.domain.errors import AtomasError, Reason
from server.domain.search import Leg
from server.ports import Parts, Point, Question, VectorIndex
from tests.contract.test_vector_index import identifier


def test_an_index_without_words_is_opened_and_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = np.ones(4, dtype=np.float32)
    with monkeypatch.context() as before:
        before.setattr(edge_shard, "_ADD_WORDS", edge.UpdateOperation.create_field_index(LIBRARY, edge.KeywordIndexParams(is_tenant=True)))
        old = EdgeIndex.open(tmp_path / "index", "m1", 4)
        old.upsert([Point(identifier(1), "one", {Leg.MOLECULES: vector}, {}, "old")])
        old.close()
    for _ in range(2):
        index = EdgeIndex.open(tmp_path / "index", "m1", 4)
        assert index.search(Leg.MOLECULES, [vector], 5)[0][0].id == identifier(1)
        index.upsert([Point(identifier(2), "one", {Leg.MOLECULES: vector}, {}, "new", {7: 1.0})])
        assert [hit.id for hit in index.search_legs([Question(Leg.LEXICAL, {7: 1.0})], 5)[0]] == [identifier(2)]
        assert index.documents([identifier(1)]) == {identifier(1): "old"}
        index.close()


def fragments(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((2, 8)).astype(np.float32)


def opened_in_a_folder(place: Path, fragment_dimension: int) -> VectorIndex:
    return EdgeIndex.open(place / "index", "m1", 4, fragment_dimension=fragment_dimension)


def test_an_index_without_fragments_is_opened_and_takes_them(tmp_path: Path) -> None:
    assert_takes_fragments(partial(opened_in_a_folder, tmp_path))


def test_a_collection_without_fragments_is_opened_and_takes_them() -> None:
    with wire_server() as (url, server):
        assert_takes_fragments(lambda fragment_dimension: QdrantIndex(url, "m1", 4, fragment_dimension=fragment_dimension))
        assert [call for call in server.calls if call in ("CreateVectorName", "UpdateCollection")] == [
            "CreateVectorName",
            "UpdateCollection",
        ]


def assert_takes_fragments(open_index: Callable[[int], VectorIndex]) -> None:
    """Old points are found as before and have no fragments until they are written again; opened without any, the index keeps its place for them."""
    vector, query = np.ones(4, dtype=np.float32), Parts(fragments(5), np.array([0.5, 0.5], np.float32))
    old = open_index(0)
    old.upsert([Point(identifier(i), "one", {Leg.MOLECULES: vector}, {}, "old") for i in (1, 2)])
    assert old.align([(query, [identifier(1)])]) == [{}]
    old.close()
    known = {identifier(2)}
    for dimension, number in ((8, 3), (0, 4), (8, 1)):
        index = open_index(dimension)
        assert len(index.search(Leg.MOLECULES, [vector], 5)[0]) == index.count() == max(2, len(known) + 1)
        if number == 3:
            index.upsert([Point(identifier(2), "one", {Leg.MOLECULES: vector}, {}, "new", fragments=fragments(2))])
        index.upsert([Point(identifier(number), "one", {Leg.MOLECULES: vector}, {}, "new", fragments=fragments(number))])
        known.add(identifier(number))
        assert index.align([(query, [identifier(i) for i in range(1, 6)])])[0].keys() == known
        index.close()
    with pytest.raises(AtomasError) as raised:
        open_index(9)
    assert raised.value.reason is Reason.SCHEMA_MISMATCH
