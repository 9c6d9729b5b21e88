"""A worker of the fleet that also says what its stages cost: `python -m benchmarks.timed_worker --queues index --report FILE`.

Stages are told apart by the port that does them; each is charged the processor time of the threads that were in it.
"""

import argparse
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from server.adapters.qdrant_index import QdrantIndex
from server.adapters.rdkit_structures import RdkitStructures
from server.adapters.sql.transaction import SqlDatabase
from server.observability import configure_logs
from server.settings import Settings
from workers.process import run_worker

WRITE_SECONDS = 1.0

_lock = threading.Lock()
_seconds: defaultdict[str, float] = defaultdict(float)


@contextmanager
def charged(stage: str) -> Iterator[None]:
    """Charges the stage with what this thread computes in the block."""
    started = time.thread_time()
    try:
        yield
    finally:
        with _lock:
            _seconds[stage] += time.thread_time() - started


def charge_calls(kind: type, names: tuple[str, ...], stage: str) -> None:
    """Charges every call of these methods."""
    for name in names:
        setattr(kind, name, _charging(getattr(kind, name), stage))


def _charging(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with charged(stage):
            return method(*args, **kwargs)

    return call


def charge_blocks(kind: type, names: tuple[str, ...], stage: str) -> None:
    """Charges what happens inside the context managers that these methods return."""
    for name in names:
        setattr(kind, name, _charging_block(getattr(kind, name), stage))


def _charging_block(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
    @contextmanager
    def block(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with charged(stage), method(*args, **kwargs) as value:
            yield value

    return block


def report(path: Path) -> None:
    """Writes the seconds so far, whole or not at all, until the process ends."""
    while True:
        time.sleep(WRITE_SECONDS)
        with _lock:
            text = json.dumps(_seconds)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)


def main() -> int:
    """Returns the worker's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    queues = tuple(options.queues.split(","))
    if "import" not in queues:
        # The import worker has no model, and shall not load torch for this.
        from encoder.inference import Encoder

        charge_calls(Encoder, ("encode_molecules", "encode_texts", "molecules_and_fragments", "texts_and_phrases"), "encoding")
    charge_calls(QdrantIndex, ("upsert", "delete"), "index")
    charge_calls(RdkitStructures, ("upsert", "delete"), "structures")
    charge_blocks(SqlDatabase, ("transaction", "reading"), "sql")
    threading.Thread(target=report, args=(options.report,), daemon=True).start()
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    return run_worker(settings, queues)


if __name__ == "__main__":
    sys.exit(main())
