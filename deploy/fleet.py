"""A whole fleet from local programs on loopback: database, broker, index, structure keeper, three workers, one gRPC server; for development and tests.

python -m deploy.fleet [--broker redis|rabbitmq] [--folder var/fleet]

Other settings are taken from the environment; QDRANT_URL names a Qdrant server to use instead of the in-process engine.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.services import ROOT, IndexServer, LocalService, Postgres, RabbitMq, Redis, free_port

START_SECONDS = 180
BROKERS: dict[str, type[LocalService]] = {"redis": Redis, "rabbitmq": RabbitMq}
WORKERS = ("import", "index", "encode")


class Program:
    """One of our own processes; it is ready when it says so."""

    def __init__(self, name: str, arguments: list[str], ready: str, folder: Path, environment: Mapping[str, str]) -> None:
        """`ready` is a pattern of the line that the program prints when it takes work."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._output = folder / f"{name}.out"
        self._arguments, self._ready, self._environment = arguments, ready, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts without waiting: programs start side by side."""
        with self._output.open("wb") as output, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> str:
        """What the pattern's group matched, once the program is ready. Raises RuntimeError with its log when it ends before."""
        assert self.process is not None, "start the program first"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(self._ready, self._output.read_text()):
                return found.group(1)
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def kill(self) -> None:
        """kill -9, children included."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            finally:
                self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code. Whoever does not end in time is killed."""
        assert self.process is not None, "start the program first"
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.kill()


class Fleet:
    """Servers and programs with their state in one folder."""

    def __init__(self, folder: Path, broker: str = "redis", listen: str = "127.0.0.1:0", **settings: str) -> None:
        """`settings` by their field names, for every program. A Qdrant server is used when the environment names one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.postgres = Postgres(folder / "postgres")
        self.broker = BROKERS[broker](folder / broker)
        self.index = IndexServer(folder / "index")
        self._qdrant_url = os.environ.get("QDRANT_URL", "")
        self._listen, self._settings = listen, settings
        self._structures_address = f"127.0.0.1:{free_port()}"
        self.structures: Program
        self.server: Program
        self.workers: dict[str, Program] = {}
        self.address = ""

    @property
    def services(self) -> list[LocalService]:
        """What must run before the programs."""
        return [self.postgres, self.broker, *([] if self._qdrant_url else [self.index])]

    def environment(self) -> dict[str, str]:
        """What programs of this fleet are told."""
        told = {
            "database_url": self.postgres.url,
            "broker_url": self.broker.url,
            "qdrant_url": self._qdrant_url or self.index.url,
            "structures_listen": self._structures_address,
            "structures_url": f"grpc://{self._structures_address}",
            "data_dir": str(self.folder),
            "listen": self._listen,
            "http_listen": "127.0.0.1:0",
            **self._settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ATOMAS_")}
        return {**inherited, **{f"ATOMAS_{name.upper()}": value for name, value in told.items()}}

    def worker_arguments(self, queue: str) -> list[str]:
        """What Python is to run as the queue's worker."""
        return ["-m", "workers", "--queues", queue]

    def start(self, workers: tuple[str, ...] = WORKERS) -> None:
        """Returns when everything takes work; stops what it started when something does not."""
        try:
            for service in self.services:
                service.start()
            environment = self.environment()
            subprocess.run([sys.executable, "-m", "server", "migrate"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
            self.workers = {queue: self._worker(queue) for queue in workers}
            self.server = Program("server", ["-m", "server"], r"serves on (\S+:\d+)", self.folder, environment)
            self.structures = Program(
                "structures", ["-m", "server", "structures"], r"keeps structures on (\S+:\d+)", self.folder, environment
            )
            for program in (self.structures, self.server, *self.workers.values()):
                program.start()
            self.structures.wait()
            self.address = self.server.wait()
            for worker in self.workers.values():
                worker.wait()
        except BaseException:
            self.kill()
            raise

    def add_worker(self, queue: str) -> Program:
        """One more worker, ready."""
        self.workers[queue] = worker = self._worker(queue)
        worker.start()
        worker.wait()
        return worker

    def _worker(self, queue: str) -> Program:
        return Program(f"worker-{queue}", self.worker_arguments(queue), r"worker takes (.+),", self.folder, self.environment())

    def restart_server(self) -> str:
        """A server on the address of the former one, ready."""
        self._listen = self.address
        self.server = Program("server", ["-m", "server"], r"serves on (\S+:\d+)", self.folder, self.environment())
        self.server.start()
        self.address = self.server.wait()
        return self.address

    def stop(self) -> None:
        """Everything, in its own time."""
        for program in (getattr(self, "server", None), *self.workers.values(), getattr(self, "structures", None)):
            if program is not None and program.process is not None:
                program.stop()
        for service in reversed(self.services):
            service.stop()

    def kill(self) -> None:
        """Everything, at once."""
        for program in (getattr(self, "server", None), *self.workers.values(), getattr(self, "structures", None)):
            if program is not None:
                program.kill()
        for service in self.services:
            service.kill()


def main() -> None:
    """Runs a fleet until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=BROKERS, default="redis")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "fleet", help="state and logs of everything")
    options = parser.parse_args()
    stopped = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stopped.set())
    own = ("database_url", "broker_url", "qdrant_url", "structures_url", "structures_listen", "data_dir", "listen")
    given = {name.removeprefix("ATOMAS_").lower(): value for name, value in os.environ.items() if name.startswith("ATOMAS_")}
    settings = {name: value for name, value in given.items() if name not in own}
    fleet = Fleet(options.folder.resolve(), options.broker, f"127.0.0.1:{free_port(50051)}", **settings)
    try:
        fleet.start((*WORKERS, "generate"))
    except (FileNotFoundError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    print(
        f"The fleet serves on {fleet.address}: PostgreSQL, {fleet.broker.name}, a structure keeper, {len(fleet.workers)} workers; "
        f"state and logs in {fleet.folder}."
    )
    print(
        f"Try `ATOMAS_ADDRESS={fleet.address} atomas import data/chebi_sample.jsonl.gz --library chebi`. Ctrl-C stops everything.",
        flush=True,
    )
    stopped.wait()
    print("Stopping.", flush=True)
    fleet.stop()


if __name__ == "__main__":
    main()
