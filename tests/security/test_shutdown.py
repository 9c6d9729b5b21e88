"""SIGTERM: whoever is being served is served, whoever comes later is not, and what was acknowledged is found at the next start."""

import threading
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atomas import Client
from tests.running import running_server


def test_a_server_that_is_told_to_stop_finishes_what_has_begun(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [f"{'C' * length}O" for length in range(1, 41)]
    with running_server(data, shutdown_seconds="10") as server:
        with Client(server.address) as client:
            report = client.import_compounds(rows, library="kept", wait=False)
        said: list[object] = []
        with grpc.insecure_channel(server.address) as channel, Client(server.address, timeout_seconds=30) as client:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            running = threading.Thread(target=lambda: said.extend(client.embed_texts(["water"] * 200)))
            running.start()
            time.sleep(0.1)
            server.process.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            running.join()
            watch.cancel()
        assert len(said) == 200
        assert server.process.wait(60) == 0
    with running_server(data) as server, Client(server.address) as client:
        finished = client.wait(report.operation, timeout_seconds=60)
        assert finished.done
        assert client.get_library("kept").compound_count == 40
