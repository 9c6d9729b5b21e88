"""The containers' health check: what it says of a server and of a worker that is well, and of ones that are not."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.healthcheck import server_complaint, structures_complaint, worker_complaint
from deploy.services import free_port


@pytest.fixture
def served() -> Iterator[tuple[health.HealthServicer, int]]:
    """A health service and its port."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]", ""])
def test_a_serving_server_is_well(host: str, served: tuple[health.HealthServicer, int]) -> None:
    assert server_complaint(f"{host}:{served[1]}") == ""


def test_a_server_that_is_shutting_down_is_not_well(served: tuple[health.HealthServicer, int]) -> None:
    served[0].set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert "NOT_SERVING" in server_complaint(f"127.0.0.1:{served[1]}")


def test_a_server_that_is_not_there_is_not_well() -> None:
    assert "does not answer" in server_complaint(f"127.0.0.1:{free_port()}")


def test_a_structure_keeper_is_well_while_it_takes_connections(served: tuple[health.HealthServicer, int]) -> None:
    assert structures_complaint(f"0.0.0.0:{served[1]}") == ""
    assert "does not answer" in structures_complaint(f"127.0.0.1:{free_port()}")


def test_a_worker_is_well_while_it_is_connected_to_its_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        url = f"redis://:secret@127.0.0.1:{broker.getsockname()[1]}/0"
        # Listening is not being connected.
        assert "No process here is connected" in worker_complaint(url)
        with socket.create_connection(broker.getsockname()):
            assert worker_complaint(url) == ""
    complaint = worker_complaint(url)
    assert "No process here is connected" in complaint
    assert "secret" not in complaint


def test_a_connection_over_ipv6_counts(tmp_path: Path) -> None:
    table = tmp_path / "tcp6"
    mapped = "0000000000000000FFFF00000100007F:18EB"
    table.write_text(f"header\n 0: 00000000000000000000000000000000:A000 {mapped} 01 rest\n")
    assert worker_complaint("redis://127.0.0.1", (table,)) == ""
    table.write_text(table.read_text().replace(" 01 ", " 06 "))
    assert worker_complaint("redis://127.0.0.1", (table,)) != ""


def test_a_broker_without_an_address_is_a_sentence() -> None:
    assert "has no address" in worker_complaint("redis://no-such-host.invalid:6379/0")
