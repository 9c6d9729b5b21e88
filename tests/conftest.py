"""One embedded server with a few hundred real compounds, shared by all tests of a worker that meet the service as users do: `e2e`, `rest`, `portal`."""

import gzip
import json
import os
import pathlib
import sys
from collections.abc import Generator, Iterator

import pytest
import structlog

from atomas import Client
from tests.memory import use_for_temporary_files
from tests.running import ROOT, RunningServer, running_server

use_for_temporary_files()

# The suite runs several processes at once: torch's threads of each would wait for one another, spinning, for far longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Unasked, structlog prints every local variable of every frame of an exception, which takes longer than what was tested.
_plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])

COMPOUNDS = 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Commands choose the threads of their process, which here goes on with other tests; what a test put in torch's place is gone by now."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The first compounds of the shipped sample, and caffeine."""
    path = tmp_path_factory.mktemp("sample") / "sample.jsonl"
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        lines = [line for line, _ in zip(source, range(COMPOUNDS), strict=False)]
    caffeine = {"id": "CHEBI:27732", "name": "caffeine", "smiles": "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "synonyms": ["guaranine"]}
    path.write_text("".join(lines) + json.dumps(caffeine) + "\n")
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, sample: pathlib.Path) -> Iterator[RunningServer]:
    """A running server that holds the sample as the library `chebi`."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        with Client(running.address) as client:
            client.import_compounds(sample, library="chebi")
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.address) as connected:
        yield connected
