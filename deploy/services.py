"""Starts the servers of a fleet as local processes on loopback, for development and tests: PostgreSQL, Redis, RabbitMQ, the index."""

import abc
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 90
INSTALL = "deploy/install-test-services.sh"


class LocalService(abc.ABC):
    """A server with a port and a folder of its own, which outlive its processes."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Port 0 takes a free one. The folder is made when it is missing, and kept."""
        self.folder = folder
        self.port = port or free_port()
        self.log = folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where it answers."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What to run; raises FileNotFoundError with the command that installs a missing server."""

    def environment(self) -> Mapping[str, str]:
        """What is added to the environment."""
        return {}

    def prepare(self) -> None:  # noqa: B027  # most services need nothing
        """Makes the folder ready before the first start."""

    def ready(self) -> bool:
        """Whether it takes work: by default, whether it listens."""
        return self._listening()

    def start(self) -> None:
        """Returns when the server takes work."""
        self.prepare()
        self.process = self.run(self.command())
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.ready():
                return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"{self.name} did not start on port {self.port}:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        """Ends the server in its own time."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()

    def kill(self) -> None:
        """kill -9 of the server and of everything that it started."""
        self._kill_group()

    def _kill_group(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # The leader may be gone before its children are.
        while self._listening():
            time.sleep(0.02)

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def run(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Starts a program of the server, as `nobody` where this process is root: PostgreSQL refuses to be root."""
        owner = "nobody" if os.geteuid() == 0 else None
        if owner:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, owner, "nogroup")
        with self.log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **self.environment()},
                user=owner,
                group="nogroup" if owner else None,
                extra_groups=[] if owner else None,
                start_new_session=True,
            )


class Postgres(LocalService):
    """PostgreSQL with one user, `atomas`, whose password is in the folder."""

    name = "PostgreSQL"
    # The fast shutdown: clients are cut off.
    stop_signal = signal.SIGINT

    def database_url(self, database: str) -> str:
        return f"postgresql://atomas:{(self.folder / 'password').read_text()}@127.0.0.1:{self.port}/{database}"

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def prepare(self) -> None:
        if (self.folder / "data" / "PG_VERSION").exists():
            # A server that was killed leaves it behind, and another process may have its number by now.
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            return
        (self.folder / "password").write_text(secrets.token_urlsafe(16))
        locale = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"]
        account = ["--username=atomas", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        initdb = [str(_program("initdb")), f"--pgdata={self.folder / 'data'}", "--encoding=UTF8", "--no-sync", *locale, *account]
        if self.run(initdb).wait(START_SECONDS) != 0:
            raise RuntimeError(f"initdb failed:\n{self.log.read_text()}")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 100,
            "deadlock_timeout": "200ms",
        }
        return [str(_program("postgres")), "-D", str(self.folder / "data"), *(f"--{name}={value}" for name, value in settings.items())]

    def start(self) -> None:
        self._logged = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def ready(self) -> bool:
        # It listens before it has recovered.
        with self.log.open("rb") as log:
            log.seek(self._logged)
            return b"ready to accept connections" in log.read()


class Redis(LocalService):
    """Redis without persistence: what it held is gone when it stops."""

    name = "Redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        listen = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [_installed("redis-server"), *listen, "--save", "", "--appendonly", "no", "--protected-mode", "yes"]


class RabbitMq(LocalService):
    """RabbitMQ with its default user, which only loopback may use."""

    name = "RabbitMQ"

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder, port)
        self._distribution, self._mapper = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": "atomas@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            # A port mapper of its own, so that it can be ended with the server.
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper),
            # Two schedulers that do not spin: the machine has other work.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def prepare(self) -> None:
        # Chosen anew at each start: since the last choice another process may have taken them.
        self._distribution, self._mapper = free_port(), free_port()
        (self.folder / "rabbitmq.conf").write_text("loopback_users.guest = true\nlog.console = true\nlog.file = false\n")
        (self.folder / "enabled_plugins").write_text("[].\n")

    def _kill_group(self) -> None:
        super()._kill_group()
        # The port mapper has left the group.
        mapper = [_installed("epmd"), "-port", str(self._mapper), "-kill"]
        subprocess.run(mapper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def command(self) -> list[str]:
        # Debian's wrapper insists on being root or rabbitmq; the server itself does not.
        for path in sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server")):
            return [str(path)]
        return [_installed("rabbitmq-server")]


class IndexServer(LocalService):
    """The in-process engine behind Qdrant's protocol; no Qdrant."""

    name = "The index server"

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "deploy.index_server", "--folder", str(self.folder / "collections"), "--port", str(self.port)]

    def run(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        # Python's environment may be closed to nobody.
        with self.log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)


def free_port(wanted: int = 0) -> int:
    """The wanted port of the loopback interface when nobody listens there, or any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("No loopback port is free.")


def _program(name: str) -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return installed[-1] if installed else Path(_installed(name, "PostgreSQL"))


def _installed(name: str, product: str = "") -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{product or name} is not installed: run `{INSTALL}`.")
    return found
