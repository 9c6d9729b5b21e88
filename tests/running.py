"""Starts the real service in a process of its own, as a user would, and kills it as a crash would."""

import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.confidential import assert_confidential

ROOT = pathlib.Path(__file__).resolve().parents[1]
START_SECONDS = 120


class RunningServer:
    """A `python -m server` on a free loopback port."""

    def __init__(self, data_dir: pathlib.Path, **settings: str) -> None:
        """Settings by their field names; waits until the server says where it listens."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ATOMAS_")}
        environment |= {
            "ATOMAS_DATA_DIR": str(data_dir),
            "ATOMAS_LISTEN": "127.0.0.1:0",
            "ATOMAS_HTTP_LISTEN": "127.0.0.1:0",
            "ATOMAS_CHEMISTRY_PROCESSES": "1",
            "ATOMAS_ENCODER_THREADS": "1",
            "ATOMAS_SWEEP_SECONDS": "1",
        }
        environment |= {"ATOMAS_" + name.upper(): value for name, value in settings.items()}
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.address = self._wait_for_address()

    def _wait_for_address(self) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                found = re.search(r"serves on (\S+:\d+)(?: and on (\S+/))?,", self.process.stdout.readline())
                if found:
                    self.url = found.group(2) or ""
                    return found.group(1)
        self.kill()
        raise AssertionError(f"The server did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """kill -9, children included: nothing gets to tidy up."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running_server(data_dir: pathlib.Path, **settings: str) -> Iterator[RunningServer]:
    """A server for the length of the block; its log holds nothing confidential at the end."""
    server = RunningServer(data_dir, **settings)
    try:
        yield server
        server.stop()
        assert_confidential([server.log])
    finally:
        server.kill()


def atomas(address: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line as a user would."""
    command = pathlib.Path(sys.executable).with_name("atomas")
    settings = {**os.environ, "ATOMAS_ADDRESS": address, "COLUMNS": "160", **environment}
    return subprocess.run([command, *arguments], env=settings, capture_output=True, text=True, timeout=240, check=False)
