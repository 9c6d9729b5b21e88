"""An index that was made before there was a lexical leg."""

from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge

from server.adapters import edge_shard
from server.adapters.edge_index import EdgeIndex
from server.adapters.qdrant_points import LIBRARY
from server.domain.search import Leg
from server.ports import Point, Question
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
