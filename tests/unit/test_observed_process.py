"""A process that is observed: metrics over HTTP for as long as it works, and nothing at all where no setting asks for it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.services import free_port
from server.adapters.observed import ENCODER_CALLS, INDEX_CALLS
from server.domain.errors import AtomasError, Reason
from server.jobs import ReadChunk
from server.observability.process import observed_process
from server.ports import Encoder, VectorIndex
from server.settings import Settings
from server.usecases.take_stock import Stock, take_stock
from tests.builders import import_rows, row
from tests.running import ROOT
from tests.unit.conftest import World

LOADED = """
import sys
import server.__main__, server.rpc.app, server.rest.http_server, server.bootstrap, server.observability.process
print(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
"""


def test_whoever_traces_nothing_does_not_even_load_the_libraries() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_without_settings_nothing_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    with observed_process(Settings(), "test"):
        assert capsys.readouterr().out == ""


@contextmanager
def observed(world: World, port: int) -> Iterator[dict[str, dict[tuple[str, ...], float]]]:
    """Values by metric and labels."""
    with observed_process(Settings(metrics_listen=f"127.0.0.1:{port}"), "test", lambda: take_stock(world.ports)):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            told = answer.read().decode()
        yield {
            family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
            for family in text_string_to_metric_families(told)
        }


def test_the_stock_of_work_is_told_while_the_process_works(world: World) -> None:
    import_rows(world.ports, [row(1, "CCO", "id-1", "ethanol", "a primary alcohol")], library="held")
    port = free_port()
    with observed(world, port) as metrics:
        assert metrics["atomas_queue_messages"][("import",)] == 1
        assert metrics["atomas_backlog_jobs"][(ReadChunk.name,)] == 1
        assert metrics["atomas_backlog_oldest_seconds"][(ReadChunk.name,)] > 0
        assert metrics["atomas_model_serving"] == {(world.encoder.model.version,): 1}
        assert metrics["process_resident_memory_bytes"][()] > 1e6
        assert () in metrics["atomas_child_processes_resident_bytes"]
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_a_database_that_is_away_costs_its_own_metrics_alone(world: World) -> None:
    world.ports.database.down = True  # type: ignore[attr-defined]
    with observed(world, free_port()) as metrics:
        assert "atomas_backlog_jobs" not in metrics or not metrics["atomas_backlog_jobs"]
        assert metrics["atomas_model_serving"]
        assert metrics["process_resident_memory_bytes"]


def test_stock_that_cannot_be_taken_at_all_leaves_the_other_metrics() -> None:
    port = free_port()

    def fail() -> Stock:
        raise RuntimeError

    with (
        observed_process(Settings(metrics_listen=f"127.0.0.1:{port}"), "test", fail),
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer,
    ):
        assert b"process_resident_memory_bytes" in answer.read()


@pytest.mark.parametrize(
    ("port", "observed_calls", "free"),
    [
        # Iterators return before they have done anything; tokens are counted without the model.
        (VectorIndex, INDEX_CALLS, {"select", "ids", "close", "model_version"}),
        (Encoder, ENCODER_CALLS, {"text_tokens", "molecule_tokens", "model"}),
    ],
)
def test_no_call_of_a_port_is_forgotten(port: type, observed_calls: tuple[str, ...], free: set[str]) -> None:
    assert {name for name in vars(port) if not name.startswith("_")} == {*observed_calls, *free}


def test_an_address_that_is_taken_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Settings(metrics_listen=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(AtomasError, match="ATOMAS_METRICS_LISTEN") as caught, observed_process(settings, "test"):
            pass
    assert caught.value.reason is Reason.INVALID_ARGUMENT
