"""Real servers on loopback for tests: each from a fresh temporary folder, on a free port, as an unprivileged user."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60


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
    programs = _postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="atomas-postgres-"))
    try:
        password = secrets.token_urlsafe(16)
        (folder / "password").write_text(password)
        owner, log = _owner(folder), folder / "log"
        locale = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"]
        data = folder / "data"
        account = ["--username=atomas", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        initdb = _start([f"{programs}/initdb", f"--pgdata={data}", "--encoding=UTF8", "--no-sync", *locale, *account], owner, log)
        if initdb.wait(START_SECONDS) != 0:
            raise RuntimeError(f"initdb failed:\n{log.read_text()}")
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 60,
            "deadlock_timeout": "200ms",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = _start([f"{programs}/postgres", "-D", str(data), *options], owner, log)
        try:
            _wait(process, port, log)
            yield PostgresServer(port, password, process)
        finally:
            # PostgreSQL's fast shutdown: clients are cut off.
            process.send_signal(signal.SIGINT)
            process.wait(START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres_programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = installed[-1] if installed else shutil.which("postgres")
    if found is None:
        raise FileNotFoundError(
            "PostgreSQL is not installed: run `apt-get update && apt-get install -y --no-install-recommends postgresql`."
        )
    return Path(found).parent


def _owner(folder: Path) -> str | None:
    """Who runs the server: PostgreSQL refuses to be root, so the folder is given to nobody."""
    if os.geteuid() != 0:
        return None
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody", "nogroup")
    return "nobody"


def _start(command: list[str], owner: str | None, log: Path) -> "subprocess.Popen[bytes]":
    group, groups = (None, None) if owner is None else ("nogroup", list[str]())
    with log.open("ab") as output:
        # Not through runuser or su: signals must reach the server itself.
        return subprocess.Popen(command, stdout=output, stderr=output, cwd="/", user=owner, group=group, extra_groups=groups)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(START_SECONDS * 20):
        if process.poll() is not None:
            break
        if b"ready to accept connections" in log.read_bytes():
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start on port {port}:\n{log.read_text()}")
