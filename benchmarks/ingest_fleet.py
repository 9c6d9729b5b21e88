"""A long import through a whole fleet on this machine: does the rate stay, does memory stay, and what does each stage cost?

Every sample is a line of the output, written when it is taken: whatever ends the run, what was measured until then is kept.
"""

import gzip
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atomas import Client
from atomas.types import ImportProgress, Operation
from benchmarks.processes import children, descendants, usage
from deploy.fleet import WORKERS, Fleet
from deploy.services import LocalService

# Rows that may be under way: enough to keep every worker busy, few enough that storing them does not run far ahead of indexing them.
WINDOW_ROWS = 8_000
TENTHS = 10
FLAT = 0.8
# A process that holds no data may grow so much between the second quarter of the run and its end.
GROWTH, GROWTH_BYTES = 1.25, 64 << 20
LIBRARY = "corpus"
# What is kept grows with what is kept.
STORES = ("index", "postgresql", "structures")

Sample = dict[str, Any]


class TimedFleet(Fleet):
    """A fleet whose import and index workers say what their stages cost."""

    def worker_arguments(self, queue: str) -> list[str]:
        if queue == "encode":
            return super().worker_arguments(queue)
        return ["-m", "benchmarks.timed_worker", "--queues", queue, "--report", str(self.report(queue))]

    def report(self, queue: str) -> Path:
        """Where the worker writes."""
        return self.folder / f"stages-{queue}.json"

    def stages(self, queue: str) -> dict[str, float]:
        """What the worker has written last."""
        path = self.report(queue)
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def processes(self) -> dict[str, list[int]]:
        """Process ids by what they do."""
        known = children()

        def tree(service: LocalService) -> list[int]:
            return [service.process.pid, *descendants(service.process.pid, known)] if service.process else []

        found = {
            "postgresql": tree(self.postgres),
            "broker": tree(self.broker),
            "index": tree(self.index),
            "structures": _tree_of(self.structures.process, known),
            "server": _tree_of(self.server.process, known),
        }
        for queue in WORKERS:
            [worker, *below] = _tree_of(self.workers[queue].process, known)
            found[f"worker-{queue}"] = [worker]
            if queue == "import":
                found["chemistry"] = below
        return found


def _tree_of(process: Any, known: dict[int, list[int]]) -> list[int]:
    return [process.pid, *descendants(process.pid, known)]


class Feed:
    """The rows of a file, let through while not too many are under way and the time is not over."""

    def __init__(self, path: Path, rows: int, seconds: float) -> None:
        """0 rows are all rows, 0 seconds are no limit."""
        self._path, self._rows, self._seconds = path, rows, seconds
        self._sent = 0
        self._finished = 0
        self._changed = threading.Condition()
        self.started = 0.0

    def __iter__(self) -> Iterator[str]:
        self.started = time.monotonic()
        with gzip.open(self._path, "rt", encoding="utf-8") as file:
            for line in itertools.islice(file, 1, self._rows + 1 if self._rows else None):
                if not self._may_go_on():
                    break
                self._sent += 1
                yield line.split("\t", 1)[0].strip()

    def _may_go_on(self) -> bool:
        with self._changed:
            while self._sent - self._finished >= WINDOW_ROWS and not self._over():
                self._changed.wait(1.0)
        return not self._over()

    def _over(self) -> bool:
        return bool(self._seconds) and time.monotonic() - self.started > self._seconds

    def finished(self, rows: int) -> None:
        """So many rows have their verdict and can be searched."""
        with self._changed:
            self._finished = rows
            self._changed.notify_all()


class Sampler:
    """Looks at the import and at every process now and then, on a thread of its own."""

    def __init__(self, fleet: TimedFleet, feed: Feed, output: Path, every_seconds: float) -> None:
        self._fleet, self._feed, self._output, self._every = fleet, feed, output, every_seconds
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.operation = ""

    def watch(self, progress: ImportProgress) -> None:
        """The client's progress: names the operation."""
        # The first answer of the service brings the name.
        if progress.operation and not self.operation:
            self.operation = progress.operation
            self._thread.start()

    def stop(self) -> None:
        """Takes the last sample. Raises what went wrong on the thread."""
        self._stopped.set()
        if self.operation:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with Client(self._fleet.address) as client, self._output.open("w") as output:
                due = time.monotonic()
                stopping = False
                while not stopping:
                    stopping = self._stopped.wait(0.5)
                    operation = client.operation(self.operation)
                    self._feed.finished(finished_rows(operation))
                    if stopping or time.monotonic() >= due:
                        due += self._every
                        output.write(json.dumps(self._sample(operation)) + "\n")
                        output.flush()
        except BaseException as failure:
            self._failure = failure
            # Nobody tells the feed any more how far the import is: it must not wait for that.
            self._feed.finished(1 << 62)

    def _sample(self, operation: Operation) -> Sample:
        return {
            "seconds": round(time.monotonic() - self._feed.started, 2),
            "received": operation.counts.received,
            "finished": finished_rows(operation),
            "rejected": operation.counts.rejected,
            "stages": {queue: self._fleet.stages(queue) for queue in ("import", "index")},
            "processes": {name: asdict(usage(pids)) for name, pids in self._fleet.processes().items()},
        }


def finished_rows(operation: Operation) -> int:
    """Rows that are indexed or rejected."""
    return operation.counts.indexed + operation.counts.rejected


def import_through_fleet(data: Path, rows: int, minutes: float, output: Path, every_seconds: float) -> None:
    """Runs the import, writes samples to `output`, prints what they say."""
    output.parent.mkdir(parents=True, exist_ok=True)
    feed = Feed(data, rows, minutes * 60)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        # One thread for the model: torch's own threads could not be charged to a stage.
        fleet = TimedFleet(Path(folder) / "fleet", "redis", encoder_threads="1", log_level="warning")
        fleet.start()
        sampler = Sampler(fleet, feed, output, every_seconds)
        try:
            with Client(fleet.address) as client:
                print(f"importing {data.name} through a fleet; samples in {output}", flush=True)
                sent = client.import_compounds(iter(feed), library=LIBRARY, wait=False, on_progress=sampler.watch)
                client.wait(sent.operation)
            sampler.stop()
        finally:
            fleet.kill()
    summarise(output)


def summarise(output: Path) -> None:
    """Prints rate over time, stages and memory of the samples in a file."""
    samples: list[Sample] = [json.loads(line) for line in output.read_text().splitlines()]
    if len({sample["finished"] for sample in samples}) < 3:
        raise SystemExit(f"{output} holds {len(samples)} samples of too little work. Import more rows, or sample more often.")
    last = samples[-1]
    print(
        f"{last['finished']:,} rows in {last['seconds']:,.0f} s, {last['rejected']:,} rejected: {last['finished'] / last['seconds']:.0f} rows/s"
    )
    print_rates(samples)
    print_stages(samples[0], last)
    print_memory(samples)


def print_rates(samples: list[Sample]) -> None:
    """Rows a second in each tenth of the time from the first finished rows, when every stage has work, to the last."""
    begin = next(sample["seconds"] for sample in samples if sample["finished"])
    end = next(sample["seconds"] for sample in samples if sample["finished"] == samples[-1]["finished"])
    times = [begin + (end - begin) * i / TENTHS for i in range(TENTHS + 1)]
    rows = _differences([value_at(time, samples, rows_of) for time in times])
    rates = [count / ((end - begin) / TENTHS) for count in rows]
    print("rows/s by tenth of the time  " + " ".join(f"{rate:.0f}" for rate in rates))
    share = rates[-1] / rates[0] if rates[0] else float("nan")
    print(f"last tenth / first {share:.2f} (aim {FLAT:g}); median {statistics.median(rates):.0f} rows/s")
    print_costs(samples, times, rows)


def print_costs(samples: list[Sample], times: list[float], rows: list[float]) -> None:
    """Processor time of a row in each tenth: others may take a part of the machine's time that changes, of these seconds nobody can."""

    def costs(value: Callable[[Sample], float]) -> list[float]:
        spent = _differences([value_at(time, samples, value) for time in times])
        return [1e3 * seconds / count if count else float("nan") for seconds, count in zip(spent, rows, strict=True)]

    print("CPU ms a row, same tenths")
    for stage in stage_seconds(samples[0]):
        print(f"  {stage:12} " + " ".join(f"{cost:5.2f}" for cost in costs(lambda sample, stage=stage: stage_seconds(sample)[stage])))  # type: ignore[misc] # called at once
    whole, chemistry = costs(processor_seconds), costs(lambda sample: stage_seconds(sample)["chemistry"])
    print("  all          " + " ".join(f"{cost:5.2f}" for cost in whole))
    # A busy neighbour also slows the processors' seconds; chemistry, which knows nothing of what is stored, tells by how much.
    steady = (whole[0] / chemistry[0]) / (whole[-1] / chemistry[-1]) if chemistry[0] and chemistry[-1] else float("nan")
    print(f"rows per CPU second, last tenth / first {whole[0] / whole[-1]:.2f}; with chemistry as the clock {steady:.2f} (aim {FLAT:g})")


def _differences(values: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(values)]


def rows_of(sample: Sample) -> float:
    """Rows finished by then."""
    return float(sample["finished"])


def processor_seconds(sample: Sample) -> float:
    """Of every process of the fleet since its start."""
    return float(sum(values["cpu_seconds"] for values in sample["processes"].values()))


def value_at(seconds: float, samples: list[Sample], value: Callable[[Sample], float]) -> float:
    """What a sample taken then would say, between samples on a straight line."""
    for earlier, later in itertools.pairwise(samples):
        if seconds <= later["seconds"]:
            share: float = (seconds - earlier["seconds"]) / (later["seconds"] - earlier["seconds"])
            return value(earlier) + share * (value(later) - value(earlier))
    return value(samples[-1])


def stage_seconds(sample: Sample) -> dict[str, float]:
    """Processor seconds of each stage; `other` is everything that no stage can be charged with: Celery, gRPC, JSON."""
    cpu = {name: values["cpu_seconds"] for name, values in sample["processes"].items()}
    stages = [sample["stages"][queue] for queue in ("import", "index")]

    def charged(name: str) -> float:
        return float(sum(stage.get(name, 0.0) for stage in stages))

    inside = charged("sql") + charged("index") + charged("encoding") + charged("structures")
    return {
        "chemistry": cpu["chemistry"],
        "encoding": charged("encoding"),
        "index": cpu["index"] + charged("index"),
        "structures": cpu["structures"] + charged("structures"),
        "SQL": cpu["postgresql"] + charged("sql"),
        "gRPC server": cpu["server"],
        "broker": cpu["broker"],
        "other": cpu["worker-import"] + cpu["worker-index"] - inside,
    }


def print_stages(first: Sample, last: Sample) -> None:
    """What the rows between two samples cost; the start of the processes, before the first, is left out."""
    before, after = stage_seconds(first), stage_seconds(last)
    seconds = {name: after[name] - before[name] for name in after}
    rows, whole = last["finished"] - first["finished"], sum(seconds.values())
    print(f"{'stage':12} {'CPU s':>8} {'share':>6} {'rows per CPU s':>15}")
    for name, cost in seconds.items():
        print(f"{name:12} {cost:8.1f} {cost / whole:6.1%} {rows / cost if cost else float('inf'):15,.0f}")


def print_memory(samples: list[Sample]) -> None:
    """Memory of their own, of each process or group: its highest, and whether it goes on growing."""
    quarter = max(1, len(samples) // 4)
    print(f"{'process':14} {'highest':>9} {'then':>9} {'end':>9}   memory without mapped files, MB; then: in the second quarter")
    for name in samples[-1]["processes"]:
        sizes = [sample["processes"][name]["anonymous_bytes"] for sample in samples]
        then, end = max(sizes[quarter : 2 * quarter] or sizes), max(sizes[-quarter:])
        verdict = "holds data" if name in STORES else "bounded" if end <= then * GROWTH + GROWTH_BYTES else "GROWS"
        print(f"{name:14} {max(sizes) / 1e6:9.0f} {then / 1e6:9.0f} {end / 1e6:9.0f}   {verdict}")
