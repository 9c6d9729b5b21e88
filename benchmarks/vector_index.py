"""Upsert rate and search latency of the in-process index against the engine queried raw: `python -m benchmarks.vector_index [--optimise]`."""

import argparse
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import qdrant_edge
from numpy.typing import NDArray

from server.adapters.edge_index import EdgeIndex
from server.domain.filters import And, Condition, Filter
from server.domain.search import Leg
from server.ports import Point

DIMENSION = 256
CLUSTERS = 2_000
DOCUMENT = "x" * 2_000
CHUNK = 500
REPEATS = 40


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    """Points around centres, as embeddings lie; (count, DIMENSION) float32."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSION)).astype(np.float32)
    random = np.random.default_rng(seed)
    return centres[random.integers(0, CLUSTERS, count)] + 0.7 * random.standard_normal((count, DIMENSION)).astype(np.float32)


def points(count: int) -> Iterator[list[Point]]:
    """Chunks of compounds, every second with a text, ten libraries."""
    molecules, texts = vectors(count, 1), vectors(count, 2)
    random = np.random.default_rng(3)
    for start in range(0, count, CHUNK):
        yield [
            Point(
                uuid.UUID(bytes=random.bytes(16)),
                f"library{i % 10}",
                {Leg.MOLECULES: molecules[i], Leg.TEXTS: texts[i]} if i % 2 else {Leg.MOLECULES: molecules[i]},
                {
                    "id": [f"CHEBI:{i}"],
                    "formula": "C6H6",
                    "molecular_weight": float(i % 1000),
                    "clogp": i / 7,
                    "metadata.year": 1900 + i % 100,
                },
                DOCUMENT,
            )
            for i in range(start, min(start + CHUNK, count))
        ]


def milliseconds(calls: Sequence[Callable[[int], object]]) -> list[float]:
    """Median time of each call, given the turn; called in turns, so that noise of the machine meets all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(REPEATS + 1):
        for call, spent in zip(calls, times, strict=True):
            started = time.perf_counter()
            call(turn % REPEATS)
            spent.append(time.perf_counter() - started)
    # The first turn warms up.
    return [float(np.median(spent[1:])) * 1e3 for spent in times]


def filled(folder: Path, count: int) -> None:
    """Fills a new index and prints the rates."""
    index = EdgeIndex.open(folder, "benchmark", DIMENSION, optimise_points=10**9)
    spent, flushing = 0.0, 0.0
    for chunk in points(count):
        started = time.perf_counter()
        index.upsert(chunk)
        written = time.perf_counter()
        index.flush()
        spent += written - started
        flushing += time.perf_counter() - written
    print(f"  upsert {count / spent:,.0f} points/s; with a flush every {CHUNK} points {count / (spent + flushing):,.0f} points/s")
    index.close()


@contextmanager
def raw_engine(folder: Path) -> Iterator["qdrant_edge.EdgeShard"]:
    """The engine alone, on a copy of the closed index's shard."""
    [path] = (folder / "shards").iterdir()
    copy = folder.parent / "raw"
    shutil.copytree(path, copy)
    shard = qdrant_edge.EdgeShard.load(str(copy))
    try:
        yield shard
    finally:
        shard.close()
        shutil.rmtree(copy)


SEARCHES: dict[str, tuple[int, list[str] | None, Filter | None]] = {
    "10 best": (10, None, None),
    "100 best": (100, None, None),
    "10 best of one library of ten": (10, ["library3"], None),
    "10 best, range filter 10 %": (10, None, Condition("molecular_weight", "<", 100)),
    "10 best, range and metadata 1 %": (10, None, And((Condition("molecular_weight", "<", 100), Condition("metadata.year", ">=", 1990)))),
}


def raw_request(name: str, query: list[float]) -> "qdrant_edge.QueryRequest":
    """The same search written for the engine by hand."""
    limit, libraries, _ = SEARCHES[name]
    must: list[object] = []
    if libraries:
        must.append(qdrant_edge.FieldCondition("library", match=qdrant_edge.MatchAny(libraries)))
    if "range" in name:
        must.append(qdrant_edge.FieldCondition("numbers.molecular_weight", range=qdrant_edge.RangeFloat(lt=100)))
    if "metadata" in name:
        must.append(qdrant_edge.FieldCondition("numbers.metadata-2e-year", range=qdrant_edge.RangeFloat(gte=1990)))
    return qdrant_edge.QueryRequest(
        limit=limit,
        query=qdrant_edge.Query.Nearest(query, "molecules"),
        filter=qdrant_edge.Filter(must=must) if must else None,
        with_payload=["document"],
        params=qdrant_edge.SearchParams(hnsw_ef=128, quantization=qdrant_edge.QuantizationSearchParams(rescore=True, oversampling=2.0)),
    )


def compare(folder: Path) -> None:
    """Prints the table of latencies."""
    queries = vectors(REPEATS, 4)
    with raw_engine(folder) as shard, closing(EdgeIndex.open(folder, "benchmark", DIMENSION, optimise_points=10**9)) as index:

        def raw(name: str, turn: int) -> object:
            return [hit.payload["document"] for hit in shard.query(raw_request(name, queries[turn].tolist()))]

        def port(name: str, turn: int) -> object:
            limit, libraries, condition = SEARCHES[name]
            [hits] = index.search(Leg.MOLECULES, [queries[turn]], limit, libraries, condition)
            return index.documents([hit.id for hit in hits])

        print(f"  {'search, with documents':36} {'raw ms':>8} {'port ms':>8} {'ratio':>6}")
        for name in SEARCHES:
            alone, through = milliseconds([partial(raw, name), partial(port, name)])
            print(f"  {name:36} {alone:8.2f} {through:8.2f} {through / alone:6.2f}")
        [candidates, batch] = milliseconds(
            [lambda turn: index.search(Leg.MOLECULES, [queries[turn]], 200), lambda turn: index.search(Leg.MOLECULES, list(queries), 10)]
        )
        print(f"  {'200 best, ids and scores alone':36} {'':8} {candidates:8.2f}")
        print(f"  {f'10 best, in a batch of {REPEATS}, each':36} {'':8} {batch / REPEATS:8.2f}")
        recall(index, queries)


def recall(index: EdgeIndex, queries: NDArray[np.float32]) -> None:
    """Prints how many of the exact ten best are found."""
    ids = list(index.ids())
    stored = np.stack([index.fetch_vectors([id])[id][Leg.MOLECULES] for id in ids])
    exact = np.argsort(-(stored @ queries.T), axis=0)[:10].T
    found = index.search(Leg.MOLECULES, list(queries), 10)
    shares = [len({ids[i] for i in best} & {hit.id for hit in hits}) / 10 for best, hits in zip(exact, found, strict=True)]
    print(f"  recall of the 10 best: {np.mean(shares):.3f}")


def optimised(folder: Path, count: int) -> None:
    """Optimises while searching, and prints what searches felt."""
    started = time.perf_counter()
    index = EdgeIndex.open(folder, "benchmark", DIMENSION, optimise_points=count)
    running = index.running_optimisation()
    queries = vectors(REPEATS, 4)
    times: list[float] = []
    while running is not None and running.is_alive():
        asked = time.perf_counter()
        index.search(Leg.MOLECULES, [queries[len(times) % REPEATS]], 10)
        times.append(time.perf_counter() - asked)
        time.sleep(0.05)
    index.close()
    print(
        f"  optimised in {time.perf_counter() - started:.0f} s; {len(times)} searches meanwhile: median {np.median(times) * 1e3:.1f} ms, "
        f"99 % {np.quantile(times, 0.99) * 1e3:.1f} ms, worst {max(times) * 1e3:.0f} ms"
    )


def main() -> None:
    """Runs everything on temporary folders."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--points", type=int, nargs="+", default=[35_000, 100_000])
    arguments.add_argument("--optimise", action="store_true", help="also build the search graphs and measure again (minutes)")
    options = arguments.parse_args()
    for count in options.points:
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path) / "index"
            print(f"{count:,} points of {DIMENSION} dimensions, exact search")
            filled(folder, count)
            compare(folder)
            if options.optimise:
                print(f"{count:,} points, search graphs")
                optimised(folder, count)
                compare(folder)


if __name__ == "__main__":
    main()
