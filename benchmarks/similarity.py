"""Exact Tanimoto search through the structure index, beside FPSim2 used directly on the same fingerprints in the same run.

python -m benchmarks.similarity [--queries 50] [--cache FILE]

The index answers with UUIDs in a fixed order from another process; FPSim2 answers with row numbers in this one. Processor time counts both
processes, and tells the same when others use the machine.
"""

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from FPSim2 import FPSim2Engine
from FPSim2.io import create_db_file
from numpy.typing import NDArray
from rdkit import DataStructs, rdBase

from benchmarks.structure_library import LIBRARY, add_options, filled_index, structures
from encoder.descriptors import FINGERPRINT_BITS, FINGERPRINT_RADIUS
from server.ports import StructureEntry

AIM_RATIO = 1.5
COUNTS, THRESHOLDS = (10, 100, 1_000), (0.7, 0.5, 0.3)
REPEATS = 3
Scores = NDArray[np.float32]


def main() -> None:
    """Prints milliseconds of both, their ratio, and whether the answers agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--queries", type=int, default=50)
    options = parser.parse_args()
    entries = structures(options)
    asked = random.Random(0).sample(entries, options.queries)
    with filled_index(entries) as index, TemporaryDirectory() as folder:
        engine = direct_engine(entries, Path(folder))
        vectors = {entry.id: DataStructs.CreateFromBinaryText(entry.fingerprint) for entry in asked}
        print(f"{len(asked)} queries over {len(entries):,} compounds; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")

        def nearest(count: int, entry: StructureEntry) -> Scores:
            return np.array([point.score for point in index.nearest(entry.fingerprint, count, [LIBRARY])])

        def similar(threshold: float, entry: StructureEntry) -> Scores:
            return np.array([point.score for point in index.similar(entry.fingerprint, threshold, [LIBRARY])])

        def direct_nearest(count: int, entry: StructureEntry) -> Scores:
            return np.asarray(engine.top_k(vectors[entry.id], count, 0.0)["coeff"])

        def direct_similar(threshold: float, entry: StructureEntry) -> Scores:
            return np.asarray(engine.similarity(vectors[entry.id], threshold)["coeff"])

        for count in COUNTS:
            compare(f"the {count:,} most similar", asked, partial(nearest, count), partial(direct_nearest, count))
        for threshold in THRESHOLDS:
            compare(f"similarity of {threshold} or more", asked, partial(similar, threshold), partial(direct_similar, threshold))


def direct_engine(entries: Sequence[StructureEntry], folder: Path) -> FPSim2Engine:
    """FPSim2 as its documents say: a file made by it, read into memory."""
    path = str(folder / "fingerprints.h5")
    rows = ((entry.smiles, number) for number, entry in enumerate(entries))
    with rdBase.BlockLogs():
        create_db_file(list(rows), path, "smiles", "Morgan", {"radius": FINGERPRINT_RADIUS, "fpSize": FINGERPRINT_BITS})
    return FPSim2Engine(path)


def compare(
    name: str, asked: Sequence[StructureEntry], ours: Callable[[StructureEntry], Scores], direct: Callable[[StructureEntry], Scores]
) -> None:
    """One line: both take turns query by query, so that whatever else the machine does hits both alike; the best of some repeats counts."""
    seconds: dict[str, list[float]] = {"ours": [], "direct": []}
    worked = {"ours": 0.0, "direct": 0.0}
    children = [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
    agree = 0
    for entry in asked:
        best: dict[str, float] = {}
        answers: dict[str, Scores] = {}
        for _ in range(REPEATS):
            for who, ask in (("ours", ours), ("direct", direct)):
                started, busy = time.perf_counter(), processor_seconds(children)
                answers[who] = ask(entry)
                best[who] = min(best.get(who, np.inf), time.perf_counter() - started)
                worked[who] += processor_seconds(children) - busy
        for who, best_seconds in best.items():
            seconds[who].append(best_seconds)
        agree += bool(np.allclose(answers["ours"], answers["direct"], atol=1e-6))
    mine, theirs = (1e3 * float(np.median(seconds[who])) for who in ("ours", "direct"))
    ratio = mine / theirs
    busy = worked["ours"] / worked["direct"]
    print(
        f"{name}: {mine:.2f} ms, FPSim2 {theirs:.2f} ms, ratio {ratio:.2f} (at most {AIM_RATIO}), of processor time {busy:.2f}; "
        f"{agree} of {len(asked)} answers agree"
    )


def processor_seconds(children: Sequence[int]) -> float:
    """Processor time of this process and its children so far."""
    # How Linux numbers the clock that a process's own time is read from.
    return time.process_time() + sum(time.clock_gettime(~pid << 3 | 2) for pid in children)


if __name__ == "__main__":
    main()
