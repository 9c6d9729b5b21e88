"""Real servers on loopback for tests: each from a fresh temporary folder, on a free port, as an unprivileged user."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deploy.services import LocalService, Postgres, free_port
from tests.memory import MEMORY

__all__ = ["PostgresServer", "free_port", "open_folder", "postgres", "running_service"]

Service = TypeVar("Service", bound=LocalService)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; the test owns it whole."""

    port: int
    password: str
    process: "subprocess.Popen[bytes]"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://atomas:{self.password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """PostgreSQL without the guarantees that tests do not need (fsync), in a locale that does not sort by bytes.

    Raises FileNotFoundError with the command to run where it is not installed: a missing server is a failure, not a reason to skip.
    """
    with running_service(Postgres) as server:
        assert server.process is not None
        yield PostgresServer(server.port, (server.folder / "password").read_text(), server.process)


@contextmanager
def running_service(kind: type[Service]) -> Iterator[Service]:
    """A started server of its kind; whatever it kept is gone when the block ends."""
    with open_folder(kind.__name__.lower()) as folder:
        server = kind(folder / "server")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """A temporary folder that other users may enter: servers do not run as root."""
    folder = Path(tempfile.mkdtemp(prefix=f"atomas-{name}-", dir=MEMORY))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
