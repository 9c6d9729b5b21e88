"""What it costs a query that the model lives in another process: encoding through a broker and a worker against encoding here.

python -m benchmarks.encode_hop [--queries 300] [--callers 1] [--brokers redis,rabbitmq]
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.library import queries
from benchmarks.query import seconds
from deploy.fleet import BROKERS, Program
from deploy.services import IndexServer, LocalService, Postgres
from encoder.batching import TokenBudgetBatcher
from encoder.inference import Encoder
from encoder.manifest import ModelFacts
from encoder.molecules import STANDARD_VERSION
from server.adapters.broker import celery_app
from server.adapters.local_encoder import LocalEncoder
from server.adapters.sql.migrate import migrate
from server.adapters.worker_encoder import WorkerEncoder
from server.observability import configure_logs

LIMIT_MILLISECONDS = 8.0
WARM_UP = 20


def main() -> None:
    """Prints the medians and what the hop adds, for each broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--callers", type=int, default=1, help="queries at the same time")
    parser.add_argument("--brokers", default=",".join(BROKERS))
    options = parser.parse_args()
    configure_logs("error", "text")
    texts = queries(options.queries + WARM_UP)
    model = Encoder.load()
    here = LocalEncoder(model, TokenBudgetBatcher(model, wait_seconds=0.002), STANDARD_VERSION)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shared = [Postgres(Path(folder) / "postgres"), IndexServer(Path(folder) / "index")]
        try:
            for service in shared:
                service.start()
            migrate(shared[0].url)
            for name in options.brokers.split(","):
                measure(name, Path(folder), shared, here, texts, options.callers)
        finally:
            for service in shared:
                service.kill()
    here.close()


def measure(name: str, folder: Path, shared: Sequence[LocalService], here: LocalEncoder, texts: Sequence[str], callers: int) -> None:
    """One broker, one worker, the same texts on both ways, in turn, so that noise of the machine meets both alike."""
    broker = BROKERS[name](folder / name)
    urls = {"ATOMAS_BROKER_URL": broker.url, "ATOMAS_DATABASE_URL": shared[0].url, "ATOMAS_QDRANT_URL": shared[1].url}
    worker = Program(f"{name}-worker", ["-m", "workers", "--queues", "encode"], r"worker takes (.+),", folder, {**os.environ, **urls})
    there = WorkerEncoder(celery_app(broker.url, 600), ModelFacts.read(), STANDARD_VERSION, cache_entries=0, silence_seconds=30)
    try:
        broker.start()
        worker.start()
        worker.wait()
        local: list[float] = []
        remote: list[float] = []
        with ThreadPoolExecutor(callers) as pool:
            for start in range(0, len(texts), callers):
                group = texts[start : start + callers]
                local += pool.map(lambda text: seconds(partial(here.encode_texts, [text])), group)
                remote += pool.map(lambda text: seconds(partial(there.encode_texts, [text], 30.0)), group)
    finally:
        there.close()
        worker.kill()
        broker.kill()
    local, remote = local[WARM_UP:], remote[WARM_UP:]
    added = (statistics.median(remote) - statistics.median(local)) * 1e3
    late = statistics.quantiles(remote, n=20)[-1] * 1e3
    print(f"{broker.name}: {len(remote)} texts, {callers} at a time")
    print(f"  encode here            median {statistics.median(local) * 1e3:7.2f} ms")
    print(f"  encode in a worker     median {statistics.median(remote) * 1e3:7.2f} ms, 95 % within {late:.2f} ms")
    print(f"  the hop adds           median {added:7.2f} ms (limit {LIMIT_MILLISECONDS:g})", flush=True)


if __name__ == "__main__":
    main()
