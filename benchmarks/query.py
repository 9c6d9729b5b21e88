"""Text queries through gRPC, with and without fragments, against encoding plus raw engine queries in the same process: the service's own share.

python -m benchmarks.query [--compounds 5000] [--queries 300]
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from atomas import Client
from benchmarks.library import queries, shipped_library
from server.bootstrap import service, trust
from server.domain.search import VECTOR_LEGS, Leg
from server.observability import configure_logs
from server.ports import Ports, Question
from server.rpc.app import App
from server.settings import Settings
from server.usecases.fuse_legs import REALIGNED, heaviest
from server.usecases.search_compounds import SHALLOW_REACH
from server.usecases.words import query_weights

LIMIT_RATIO, LIMIT_ADDED_MILLISECONDS = 1.5, 4
RAW, THROUGH = NAMES = ("encode + raw engine queries", "through gRPC")


def main() -> None:
    """Prints the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=5_000)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    configure_logs("error", "text")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), listen="127.0.0.1:0")
        with (
            service(settings) as ports,
            shipped_library(options.compounds) as library,
            Served(ports, settings) as served,
            Client(served.address) as client,
        ):
            client.import_compounds(library, library="chebi")
            texts = queries(options.queries)
            taken: dict[tuple[str, bool], list[tuple[float, float]]] = {(name, with_): [] for name in NAMES for with_ in (True, False)}
            # Interleaved, so that noise of the machine meets all alike.
            for text in texts:
                for with_ in (True, False):
                    weights = {} if with_ else {"fragments": 0.0}
                    taken[RAW, with_].append(both_clocks(partial(raw_search, text, ports, with_)))
                    taken[THROUGH, with_].append(both_clocks(partial(client.search, text, library="chebi", limit=10, weights=weights)))
    print(f"{len(texts)} text queries over {options.compounds} compounds, limit 10, one caller")
    medians = {key: statistics.median(wall for wall, _ in values) * 1e3 for key, values in taken.items()}
    processor = {key: statistics.median(used for _, used in values) * 1e3 for key, values in taken.items()}
    for with_ in (True, False):
        print("with fragments" if with_ else "without fragments")
        for name in NAMES:
            print(f"  {name:28s} median {medians[name, with_]:7.2f} ms, of processor time {processor[name, with_]:7.2f} ms")
        print(f"  ratio {medians[THROUGH, with_] / medians[RAW, with_]:.2f} (limit {LIMIT_RATIO})")
    pairs = list(zip(taken[THROUGH, True], taken[THROUGH, False], strict=True))
    added, used = (statistics.median(one[clock] - other[clock] for one, other in pairs) * 1e3 for clock in (0, 1))
    print(f"fragments add, query by query: median {added:.2f} ms (limit {LIMIT_ADDED_MILLISECONDS}), of processor time {used:.2f} ms")


def raw_search(text: str, ports: Ports, fragments: bool) -> None:
    """What no text search can do without: a vector, one engine call for all legs at the depth that fusion needs; phrases, and a call for them."""
    if fragments:
        [(vector, phrases)] = ports.encoder.encode_texts_and_phrases([text])
    else:
        vector = ports.encoder.encode_texts([text])[0]
    questions = [*(Question(leg, vector) for leg in VECTOR_LEGS), Question(Leg.LEXICAL, query_weights(text))]
    [first, *_] = ports.index.search_legs(questions, SHALLOW_REACH, ["chebi"])
    if fragments:
        ports.index.align([(heaviest(phrases), [point.id for point in first[:REALIGNED]])])


def both_clocks(call: Callable[[], object]) -> tuple[float, float]:
    """Duration of one call, and processor time of this process meanwhile, which other programs hardly change; seconds."""
    started = time.process_time()
    duration = seconds(call)
    return duration, time.process_time() - started


def seconds(call: Callable[[], object]) -> float:
    """Duration of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class Served:
    """The gRPC server on a thread of this process."""

    def __init__(self, ports: Ports, settings: Settings) -> None:
        self._ports, self._settings = ports, settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        self._app = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    async def _start(self) -> App:
        app = App(self._ports, self._settings, trust(self._settings))
        self.address = f"127.0.0.1:{await app.start()}"
        return app

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._app.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


if __name__ == "__main__":
    main()
