"""From measured bytes and seconds of one compound to a plan for many: writes the tables of `docs/scaling.md`.

    python -m benchmarks.scaling [--compounds 50000000] [--write | --check]

Measurements come from benchmarks/bytes.json (`python -m benchmarks.bytes --write`); everything else is an assumption, and stands in `Assumptions`.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).with_name("bytes.json")
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
SIZES = (10_000_000, 1_000_000_000, 10_000_000_000)
BEGIN, END = "<!-- {}: written by `python -m benchmarks.scaling --write` -->", "<!-- end of {} -->"
GB, TB = 1e9, 1e12
# What must lie in memory for a search that does not wait for the disk: candidates are found on int8 copies along the graph.
HOT = ("int8", "vector_index", "id_tracker")


@dataclass(frozen=True)
class Assumptions:
    """What is chosen or taken from elsewhere, not measured by benchmarks.bytes."""

    replicas: int = field(default=2, metadata={"says": "copies of every vector, so that one index node may fail"})
    index_disk_headroom: float = field(
        default=1.5, metadata={"says": "index disk for each byte of it: segments are rewritten beside the old ones"}
    )
    database_headroom: float = field(default=1.5, metadata={"says": "database disk for each byte of it: dead rows, its log, work files"})
    index_node_memory_gb: int = field(default=256, metadata={"says": "memory of an index node, GB"})
    index_node_disk_tb: float = field(default=7.68, metadata={"says": "disk of an index node, TB"})
    usable: float = field(default=0.75, metadata={"says": "share of a node's memory or disk that may be filled"})
    graph_milliseconds: float = field(
        default=1.8,
        metadata={"says": "CPU milliseconds to build a point's graph, at 1 M points on this engine; grows slowly with the number"},
    )
    import_days: float = field(default=7.0, metadata={"says": "days in which the first import shall end"})
    gpu_teraflops: float = field(
        default=150.0, metadata={"says": "sustained TFLOP/s of one data-centre GPU on such a model, about a sixth of its bf16 peak"}
    )
    transformer_layers: int = field(default=12, metadata={"says": "layers of an encoder of the published size, for comparison"})
    transformer_width: int = field(default=768, metadata={"says": "its width; the feed-forward part is four times as wide"})
    database_limit_tb: float = field(
        default=4.0, metadata={"says": "TB in one PostgreSQL that can still be vacuumed, copied and restored in a night"}
    )


@dataclass(frozen=True)
class Plan:
    """What a number of bare structures needs."""

    compounds: int
    database_bytes: float
    databases: int
    index_disk_bytes: float
    index_memory_bytes: float
    index_nodes: int
    index_bound_by: str
    keeper_disk_bytes: float
    waiting_jobs_bytes: float
    chemistry_core_hours: float
    encoding_core_hours: float
    graph_core_hours: float
    import_cores: int
    transformer_gpu_hours: float


def per_compound(kind: Mapping[str, Any]) -> dict[str, float]:
    """Bytes of one compound by store."""
    disk = kind["index_on_disk"]
    return {
        "SQLite": sum(kind["sqlite"].values()),
        "PostgreSQL": sum(kind["postgresql"].values()),
        "index, disk": sum(disk.values()),
        "index, hot part": sum(size for name, size in disk.items() if any(word in name for word in HOT)),
    }


def plan(compounds: int, measured: Mapping[str, Any], assumed: Assumptions) -> Plan:
    """The needs of so many bare structures; texts add what the first table says."""
    size = per_compound(measured["structures"])
    cost = measured["processor"]
    database = compounds * size["PostgreSQL"] * assumed.database_headroom
    disk = compounds * size["index, disk"] * assumed.replicas * assumed.index_disk_headroom
    memory = compounds * size["index, hot part"] * assumed.replicas
    by_memory = memory / (assumed.index_node_memory_gb * GB * assumed.usable)
    by_disk = disk / (assumed.index_node_disk_tb * TB * assumed.usable)

    def core_hours(milliseconds: float) -> float:
        return compounds * milliseconds / 3.6e6

    chemistry, encoding = core_hours(cost["chemistry_milliseconds"]), core_hours(cost["encode_molecule_milliseconds"])
    graph = core_hours(assumed.graph_milliseconds) * assumed.replicas
    return Plan(
        compounds=compounds,
        database_bytes=database,
        databases=math.ceil(database / (assumed.database_limit_tb * TB)),
        index_disk_bytes=disk,
        index_memory_bytes=memory,
        index_nodes=max(assumed.replicas, math.ceil(max(by_memory, by_disk))),
        index_bound_by="memory" if by_memory > by_disk else "disk",
        keeper_disk_bytes=compounds * measured["structures"]["structure_keeper_disk"],
        waiting_jobs_bytes=compounds * measured["broker"]["redis_waiting_compound"],
        chemistry_core_hours=chemistry,
        encoding_core_hours=encoding,
        graph_core_hours=graph,
        import_cores=max(1, math.ceil((chemistry + encoding + graph) / (assumed.import_days * 24))),
        transformer_gpu_hours=compounds * transformer_flops(cost["molecule_tokens"], assumed) / (assumed.gpu_teraflops * TB) / 3600,
    )


def transformer_flops(tokens: float, assumed: Assumptions) -> float:
    """One forward pass: two operations for each weight and token (4 d² of attention and 8 d² of feed-forward a layer), and the attention itself."""
    width = assumed.transformer_width
    return assumed.transformer_layers * (2 * 12 * width**2 * tokens + 4 * width * tokens**2)


def bytes_table(measured: Mapping[str, Any]) -> list[str]:
    """Bytes per compound in each store, as measured."""
    bare, described = per_compound(measured["structures"]), per_compound(measured["texts"])
    lines = ["| Store | bare structure | ChEBI compound with its texts |", "|---|---:|---:|"]
    lines += [f"| {name} | {bare[name]:,.0f} B | {described[name]:,.0f} B |" for name in bare]
    waiting = measured["broker"]["redis_waiting_compound"]
    lines.append(f"| structure keeper, disk | {measured['structures']['structure_keeper_disk']:,.0f} B | |")
    resident = measured["index_resident"]
    lines.append(f"| index, resident in a process that searches; every second with a text | {resident:,.0f} B | |")
    return [*lines, f"| broker (Redis), while it waits | {waiting:.1f} B | {waiting:.1f} B |"]


def parts_table(measured: Mapping[str, Any]) -> list[str]:
    """Of what the two largest stores consist."""
    lines = ["| Part | bare structure | with texts |", "|---|---:|---:|"]
    for store in ("postgresql", "index_on_disk"):
        bare, described = measured["structures"][store], measured["texts"][store]
        for part in sorted({*bare, *described}, key=lambda name: (-max(bare.get(name, 0), described.get(name, 0)), name)):
            lines.append(f"| {store.replace('_', ' ')}: `{part}` | {bare.get(part, 0):,.0f} B | {described.get(part, 0):,.0f} B |")
    return lines


ROWS: Sequence[tuple[str, Callable[[Plan], str]]] = (
    ("PostgreSQL, disk", lambda p: amount(p.database_bytes)),
    ("PostgreSQL, instances of a manageable size", lambda p: f"{p.databases:,}"),
    ("index, disk of all replicas", lambda p: amount(p.index_disk_bytes)),
    ("index, memory of all replicas", lambda p: amount(p.index_memory_bytes)),
    ("index nodes", lambda p: f"{p.index_nodes:,} ({p.index_bound_by})"),
    ("structure keeper, disk", lambda p: amount(p.keeper_disk_bytes)),
    ("broker, were the whole import to wait", lambda p: amount(p.waiting_jobs_bytes)),
    ("chemistry, core hours", lambda p: f"{p.chemistry_core_hours:,.0f}"),
    ("encoding with the shipped model, core hours", lambda p: f"{p.encoding_core_hours:,.0f}"),
    ("search graphs, core hours", lambda p: f"{p.graph_core_hours:,.0f}"),
    ("cores that import it in time", lambda p: f"{p.import_cores:,}"),
    ("encoding with a transformer of the published size, GPU hours", lambda p: f"{p.transformer_gpu_hours:,.1f}"),
)


def plan_table(plans: Sequence[Plan]) -> list[str]:
    """A column for each size."""
    lines = ["| | " + " | ".join(count(p.compounds) for p in plans) + " |", "|---|" + "---:|" * len(plans)]
    return lines + [f"| {name} | " + " | ".join(show(p) for p in plans) + " |" for name, show in ROWS]


def assumptions_table(assumed: Assumptions) -> list[str]:
    """Every assumption with its value."""
    lines = ["| Assumption | Value |", "|---|---:|"]
    return lines + [f"| {one.metadata['says']} | {getattr(assumed, one.name):g} |" for one in fields(assumed)]


def amount(size: float) -> str:
    """Bytes for people."""
    for limit, unit in ((1e15, "PB"), (TB, "TB"), (GB, "GB"), (1e6, "MB")):
        if size >= limit:
            return f"{size / limit:,.3g} {unit}" if size < 999 * limit else f"{size / limit:,.0f} {unit}"
    return f"{size:,.0f} B"


def count(compounds: int) -> str:
    """Compounds for people."""
    for limit, word in ((1_000_000_000, "billion"), (1_000_000, "million")):
        if compounds >= limit:
            return f"{compounds / limit:g} {word}"
    return f"{compounds:,}"


def measured_on(measured: Mapping[str, Any]) -> list[str]:
    """Where the measurements come from."""
    run, cost = measured["run"], measured["processor"]
    bare, described = measured["structures"]["compounds"], measured["texts"]["compounds"]
    return [
        f"Measured on {run['date']} at commit {run['commit']}: {bare:,} bare structures of `{run['data']}`, {described:,} ChEBI compounds with their texts;",
        f"vectors of {cost['dimension']} numbers. Of one core: {cost['chemistry_milliseconds']:.2f} ms for the chemistry of a compound,",
        f"{cost['encode_molecule_milliseconds']:.2f} ms for its vector, {cost['encode_text_milliseconds']:.2f} ms for that of a text.",
    ]


def written(document: str, measured: Mapping[str, Any], sizes: Sequence[int] = SIZES) -> str:
    """The document with its tables renewed. Raises ValueError when it has no place for one."""
    assumed = Assumptions()
    tables = {
        "run": measured_on(measured),
        "bytes": bytes_table(measured),
        "parts": parts_table(measured),
        "plan": plan_table([plan(size, measured, assumed) for size in sizes]),
        "assumptions": assumptions_table(assumed),
    }
    for name, lines in tables.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = document.partition(begin)
        _, closed, tail = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"The document has no place for the table {name}: put {begin!r} and {end!r} into it.")
        document = "\n".join([head + begin, *lines, end + tail])
    return document


def main() -> int:
    """Prints, writes or checks; returns 1 when the document is not what it would be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, nargs="+", default=list(SIZES), help="sizes to print a plan for")
    parser.add_argument("--write", action="store_true", help="renew the tables of docs/scaling.md")
    parser.add_argument("--check", action="store_true", help="fail when they are not what they would be")
    options = parser.parse_args()
    measured = json.loads(MEASURED.read_text())
    if options.write or options.check:
        now = DOCUMENT.read_text()
        new = written(now, measured)
        if options.write:
            DOCUMENT.write_text(new)
        elif now != new:
            print("docs/scaling.md is not fresh: run `python -m benchmarks.scaling --write`.", file=sys.stderr)
            return 1
        return 0
    print("\n".join(plan_table([plan(size, measured, Assumptions()) for size in options.compounds])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
