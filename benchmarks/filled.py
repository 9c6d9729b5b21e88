"""The embedded service with the shipped library in it, as benchmarks of the search need it."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atomas import Client
from benchmarks.library import shipped_library
from benchmarks.query import Served
from server.bootstrap import service
from server.observability import configure_logs
from server.ports import Ports
from server.settings import Settings

LIBRARY = "chebi"


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much of the library, and where it may be already."""
    parser.add_argument("--compounds", type=int, default=0, help="rows of the library; 0 takes all")
    parser.add_argument("--data-dir", type=Path, help="data folder of a service; filled when it is empty, and kept")


@contextmanager
def filled_service(options: argparse.Namespace) -> Iterator[tuple[Ports, Served]]:
    """The service's ports, and its gRPC server."""
    configure_logs("error", "text")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=options.data_dir or Path(folder), listen="127.0.0.1:0")
        with service(settings) as ports, Served(ports, settings) as served:
            if not ports.index.count(LIBRARY):
                with shipped_library(options.compounds) as library, Client(served.address) as client:
                    client.import_compounds(library, library=LIBRARY)
            yield ports, served
