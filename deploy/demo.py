"""The demo: starts the embedded service, imports the shipped ChEBI library, searches it by words and by a structure."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.services import ROOT, free_port

LIBRARIES = {"sample": ROOT / "data/chebi_sample.jsonl.gz", "full": ROOT / "data/chebi.jsonl.gz"}
QUERIES = (
    ["steroid ester with an 11-oxo group"],
    ["a beta-lactam antibiotic"],
    ["flavonoid glycoside found in plants", "--filter", "molecular_weight < 600 AND rings >= 3"],
    ["--smiles", "CN1C=NC2=C1C(=O)N(C)C(=O)N2C"],
)
START_SECONDS = 120


def main() -> None:
    """Runs the demo; exits with 1 and the failing command's own words when something does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, default="sample", help="sample: 5,000 compounds; full: all 34,666")
    parser.add_argument("--data-dir", default=os.environ.get("ATOMAS_DATA_DIR", str(ROOT / "var" / "demo")))
    options = parser.parse_args()
    started = time.monotonic()
    with server(options.data_dir) as address:
        atomas("import", str(LIBRARIES[options.library].relative_to(ROOT)), "--library", "chebi", address=address)
        for query in QUERIES:
            atomas("search", *query, "--library", "chebi", "--limit", "5", address=address)
        print(f"\nFrom start to last answer in {time.monotonic() - started:.0f} s. `make serve` serves this library until you stop it.")


@contextmanager
def server(data_dir: str) -> Iterator[str]:
    """A running embedded service; gives its address."""
    port = free_port(50051)
    address = f"127.0.0.1:{port}"
    environment = {
        **os.environ,
        "ATOMAS_LISTEN": address,
        "ATOMAS_HTTP_LISTEN": "",
        "ATOMAS_DATA_DIR": data_dir,
        "ATOMAS_LOG_LEVEL": os.environ.get("ATOMAS_LOG_LEVEL", "warning"),
    }
    print(f"$ ATOMAS_LISTEN={address} ATOMAS_DATA_DIR={os.path.relpath(data_dir, ROOT)} python -m server", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "server"], cwd=ROOT, env=environment)
    try:
        wait_for(process, port)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Returns once the port answers; ends the demo when the server has ended."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(1)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"The server did not answer within {START_SECONDS} s.")


def atomas(*arguments: str, address: str) -> None:
    """Shows a command as a user would type it, runs it, stops the demo when it fails."""
    shown = " ".join(f'"{a}"' if " " in a or "(" in a else a for a in arguments)
    print(f"\n$ atomas {shown}", flush=True)
    command = Path(sys.executable).with_name("atomas")
    if subprocess.run([command, *arguments], cwd=ROOT, env={**os.environ, "ATOMAS_ADDRESS": address}, check=False).returncode:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
