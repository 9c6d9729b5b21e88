"""Collections of a Qdrant server as a whole: which there are, their removal, their snapshots, and the settings they are made by."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest

from deploy.index_server import WireServer, wire_server
from server.adapters.qdrant_admin import QdrantAdmin
from server.adapters.qdrant_index import CollectionSettings, QdrantIndex
from server.adapters.qdrant_layout import collection_settings
from server.domain.errors import AtomasError, Reason
from server.domain.search import Leg
from server.ports import Point
from server.settings import Settings

DIMENSION = 8


@pytest.fixture
def wire() -> Iterator[tuple[str, WireServer]]:
    with wire_server() as running:
        yield running


def fill(url: str, version: str, settings: CollectionSettings | None = None) -> None:
    with closing(QdrantIndex(url, version, DIMENSION, settings=settings)) as index:
        index.upsert([Point(uuid.UUID(int=1), "lib", {Leg.MOLECULES: np.ones(DIMENSION, np.float32)}, {}, "document")])


def test_collections_are_known_by_their_model_and_dropped_one_by_one(wire: tuple[str, WireServer]) -> None:
    url, _ = wire
    admin = QdrantAdmin(url)
    assert admin.versions() == []
    fill(url, "m1")
    fill(url, "m2")
    assert admin.versions() == ["m1", "m2"]
    admin.drop("m1")
    admin.drop("never was here")
    assert admin.versions() == ["m2"]


def test_snapshots_are_made_of_every_collection_and_listed(wire: tuple[str, WireServer]) -> None:
    url, _ = wire
    fill(url, "m1")
    fill(url, "m2")
    admin = QdrantAdmin(url)
    assert admin.snapshots() == []
    made = admin.create_snapshots()
    assert [each.model_version for each in made] == ["m1", "m2"]
    assert all(each.bytes > 0 and each.create_time is not None for each in made)
    assert admin.snapshots() == made


def test_a_server_that_is_away_is_named(wire: tuple[str, WireServer]) -> None:
    url, server = wire
    server.fail_next(*[grpc.StatusCode.UNAVAILABLE] * 20)
    with pytest.raises(AtomasError, match=r"127\.0\.0\.1") as caught:
        QdrantAdmin(url).versions()
    assert caught.value.reason is Reason.INDEX_UNAVAILABLE


class Restoring(BaseHTTPRequestHandler):
    """Takes the one call that Qdrant offers over HTTP alone."""

    asked: list[tuple[str, dict[str, str]]]
    answer: tuple[int, dict[str, object]]

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        code, answer = self.answer
        said = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def restoring() -> Iterator[HTTPServer]:
    Restoring.asked, Restoring.answer = [], (200, {"result": True, "status": "ok", "time": 0.0})
    with HTTPServer(("127.0.0.1", 0), Restoring) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_snapshot_is_restored_from_where_the_server_finds_it(restoring: HTTPServer) -> None:
    QdrantAdmin(f"http://127.0.0.1:{restoring.server_port}").restore("m1", "file:///snapshots/one")
    ((path, body),) = Restoring.asked
    assert path.startswith("/collections/atomas_m1/snapshots/recover")
    assert (body["location"], body["priority"]) == ("file:///snapshots/one", "snapshot")


def test_a_snapshot_that_cannot_be_restored_is_an_error_with_what_the_server_said(restoring: HTTPServer) -> None:
    Restoring.answer = (400, {"status": {"error": "Snapshot not found"}, "time": 0.0})
    with pytest.raises(AtomasError, match="Snapshot not found") as caught:
        QdrantAdmin(f"http://127.0.0.1:{restoring.server_port}").restore("m1", "file:///nowhere")
    assert caught.value.reason is Reason.INDEX_UNAVAILABLE


def test_the_settings_lay_a_collection_out(wire: tuple[str, WireServer], monkeypatch: pytest.MonkeyPatch) -> None:
    url, server = wire
    for name, value in {"SHARDS": "6", "REPLICAS": "2", "WRITE_CONSISTENCY": "2", "ON_DISK": "false", "QUANTISED": "false"}.items():
        monkeypatch.setenv(f"ATOMAS_QDRANT_{name}", value)
    fill(url, "m1", collection_settings(Settings()))
    created = server.created("atomas_m1")
    assert (created.shard_number, created.replication_factor, created.write_consistency_factor) == (6, 2, 2)
    assert not created.on_disk_payload
    assert not created.HasField("quantization_config")
