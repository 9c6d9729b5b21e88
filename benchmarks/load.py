"""64 clients that search and import at once for five minutes, against the engine queried raw by as many threads in the same run: errors, latencies, memory.

python -m benchmarks.load [--compounds 5000] [--clients 64] [--seconds 300] [--raw-seconds 30]

All on loopback. The service is `python -m server` in a process of its own with its defaults. Exits with 1 when a call failed other than by
RESOURCE_EXHAUSTED, or when memory was not flat.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from atomas import Client
from benchmarks.library import lines, queries, shipped_library
from benchmarks.load_traffic import LIBRARY, SHARES, Tally, Traffic
from benchmarks.processes import children, descendants, usage
from benchmarks.query import raw_search
from server.bootstrap import service
from server.observability import configure_logs
from server.repeating import repeated
from server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
# Rows that are imported again and again; not more, so that what is stored does not grow.
IMPORTED = 1_000
SAMPLE_SECONDS = 1.0
# Memory at the end, as the median of the last fifth of the samples, against the second fifth of the run: caches are full by then.
GROWTH, GROWTH_BYTES = 1.10, 64 << 20


def main() -> None:
    """Prints a table; the exit code is the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--raw-seconds", type=float, default=30.0, help="half of it before the load, half after")
    options = parser.parse_args()
    configure_logs("error", "text")
    texts = queries(2_000)
    traffic = Traffic.of(lines(0)[-IMPORTED:], texts)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        raw = raw_seconds(data, texts, options.clients, options.raw_seconds / 2, options.compounds)
        with started(data) as (address, process):
            memory = Memory(process.pid)
            cpu = usage([process.pid, *descendants(process.pid, children())]).cpu_seconds
            with memory.watched():
                tally = asyncio.run(traffic.run(address, options.clients, options.seconds))
            cpu = usage([process.pid, *descendants(process.pid, children())]).cpu_seconds - cpu
        raw += raw_seconds(data, texts, options.clients, options.raw_seconds / 2, options.compounds)
    report(options, tally, raw, cpu)
    flat = memory.report()
    sys.exit(bool(tally.failed) or not flat)


def raw_seconds(data: Path, texts: Sequence[str], threads: int, seconds: float, compounds: int) -> list[float]:
    """Seconds of each text query without the service: encoding and one call of the engine, from so many threads; fills an empty folder first."""
    from benchmarks.query import Served

    settings = Settings(data_dir=data, listen="127.0.0.1:0")
    found: list[float] = []
    with service(settings) as ports:
        if not ports.index.count(LIBRARY):
            with Served(ports, settings) as served, shipped_library(compounds) as library, Client(served.address) as client:
                client.import_compounds(library, library=LIBRARY)
        end = time.monotonic() + seconds

        def ask(number: int) -> None:
            turn = number
            while time.monotonic() < end:
                begun = time.perf_counter()
                raw_search(texts[turn % len(texts)], ports, fragments=True)
                found.append(time.perf_counter() - begun)
                turn += threads

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(ask, range(threads)))
    return found


@contextmanager
def started(data: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The service with its defaults on a free port, and its log beside its folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATOMAS_")}
    environment |= {"ATOMAS_DATA_DIR": str(data), "ATOMAS_LISTEN": "127.0.0.1:0", "ATOMAS_HTTP_LISTEN": "", "ATOMAS_LOG_LEVEL": "warning"}
    with (data.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if "serves on" not in said:
            raise SystemExit((data.parent / "log").read_text())
        yield said.split("serves on ")[1].split(",")[0].split()[0], process
        process.terminate()
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Memory:
    """Of a process and all below it, while a block runs: what is theirs alone, mapped files left out."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[int] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks every SAMPLE_SECONDS; forgets what it saw before."""
        self._samples.clear()
        with repeated(lambda: self._samples.append(self.now()), SAMPLE_SECONDS, "memory"):
            yield

    def now(self) -> int:
        """Bytes at this moment."""
        return usage([self._pid, *descendants(self._pid, children())]).anonymous_bytes

    @property
    def highest(self) -> int:
        """Of what was seen while it was watched."""
        return max(self._samples, default=0)

    def growth(self) -> float:
        """Bytes from the second fifth of the samples to the last."""
        fifth = len(self._samples) // 5
        return statistics.median(self._samples[-fifth:]) - statistics.median(self._samples[fifth : 2 * fifth]) if fifth else 0.0

    def report(self) -> bool:
        """Prints how memory went; whether it was flat. A run too short to tell counts as flat."""
        fifth = len(self._samples) // 5
        if not fifth:
            return True
        middles = [statistics.median(self._samples[place * fifth : (place + 1) * fifth]) for place in range(5)]
        print("memory by fifths of the run, MiB: " + ", ".join(f"{middle / 2**20:.0f}" for middle in middles))
        print(
            f"highest {max(self._samples) / 2**20:.0f} MiB; end to second fifth {middles[4] / middles[1]:.2f} (limit {GROWTH} or {GROWTH_BYTES >> 20} MiB more)"
        )
        return middles[4] <= max(middles[1] * GROWTH, middles[1] + GROWTH_BYTES)


def report(options: argparse.Namespace, tally: Tally, raw: Sequence[float], cpu_seconds: float) -> None:
    """Prints latencies and throughput."""
    print(
        f"{options.clients} clients for {options.seconds:g} s over {options.compounds:,} compounds, closed loop, on {os.cpu_count()} cores"
    )
    print(f"raw encode + engine, {options.clients} threads   {line(raw, options.raw_seconds)}")
    for kind in SHARES:
        print(f"{kind:<34} {line(tally.seconds[kind], options.seconds)}")
    print(f"{'all searches':<34} {line(tally.searches, options.seconds)}")
    done = sum(map(len, tally.seconds.values()))
    print(f"refused as RESOURCE_EXHAUSTED {tally.refused.total():,}, failed {tally.failed.total():,}, succeeded {done:,}")
    for said, count in tally.failed.most_common(10):
        print(f"  {count} x {said}")
    text, bare = tally.seconds["text"], list(raw)
    if text and bare:
        print(f"median text search {statistics.median(text) / statistics.median(bare):.1f} times raw, beside imports and other searches")
    print(f"the service used {cpu_seconds / options.seconds:.2f} cores")


def line(seconds: Sequence[float], during: float) -> str:
    """Rate and percentiles."""
    if len(seconds) < 2:
        return f"{len(seconds)} calls"
    points = statistics.quantiles(seconds, n=100)
    return f"{len(seconds) / during:7.1f}/s  p50 {points[49] * 1e3:7.0f} ms  p95 {points[94] * 1e3:7.0f} ms  p99 {points[98] * 1e3:7.0f} ms"


if __name__ == "__main__":
    main()
