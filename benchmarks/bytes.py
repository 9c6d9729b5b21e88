"""Bytes of a compound in every store, and the processor time it takes, measured on real compounds; `docs/scaling.md` plans with them.

    python -m benchmarks.bytes [--data smiles_corpus.tsv.gz] [--compounds 2000] [--write]

Two kinds of compounds: bare structures (the file of --data, else the shipped library without its texts), and the shipped library with its names,
definitions and roles. Sizes are those of allocated blocks, less those of the same store when empty. `--write` renews benchmarks/bytes.json.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis

from atomas import Client
from benchmarks import vector_index
from benchmarks.library import lines
from benchmarks.query import Served
from deploy.services import ROOT, Postgres, Redis
from encoder.inference import Encoder
from encoder.molecules import DEFAULT_LIMITS, Structure, standardise_structure
from server.adapters.broker import celery_app
from server.adapters.edge_index import EdgeIndex
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.bootstrap import service
from server.domain.libraries import Library
from server.domain.search import Leg
from server.jobs import EmbedCompounds, to_payload
from server.observability import configure_logs
from server.settings import Settings

RESULT = Path(__file__).with_name("bytes.json")
LIBRARY = "measured"
# What the client puts into one chunk, hence into one job.
ROWS_PER_CHUNK = 500
JOBS = 2_000
PAGE = 500
# Smaller sizes are pages that any number of compounds would share.
LEAST_BYTES = 16
# Memory is told from the difference of two indexes: what one process needs anyway is in both.
RESIDENT_POINTS = (5_000, 15_000)
SEARCHES = 100
KEEPER_SECONDS = 6.0

Row = dict[str, Any] | str


def rows_of(source: Path | None, count: int) -> list[str]:
    """Bare structures: the first column of a file of tab-separated values with a header, evenly from all of it."""
    if source is None:
        return [json.loads(line)["smiles"] for line in lines(count)]
    with gzip.open(source, "rt", encoding="utf-8") as file:
        smiles = [line.split("\t", 1)[0].strip() for line in file][1:]
    step = max(1, len(smiles) // count)
    return smiles[::step][:count]


def measured_stores(rows: Sequence[Row], folder: Path, postgres: Postgres, database: str) -> dict[str, Any]:
    """Imports the rows as users do, and weighs what they leave."""
    settings = Settings(data_dir=folder, listen="127.0.0.1:0", index_optimise_points=10**9, encoder_threads=1, chemistry_processes=1)
    with service(settings) as ports, Served(ports, settings) as served, Client(served.address) as client:
        version, dimension = ports.index.model_version, ports.encoder.model.dimension
        counts = client.import_compounds(rows, library=LIBRARY).counts
        compounds = counts.created
        keeper = keeper_bytes(folder, compounds)
        in_postgres = postgres_bytes(ports.database, compounds, postgres, database, version)
    index = folder / "index" / version
    optimised(index, version, dimension, compounds)
    with tempfile.TemporaryDirectory() as empty:
        EdgeIndex.open(Path(empty) / "index", version, dimension).close()
        before = index_parts(Path(empty) / "index")
    parts = {name: round((size - before[name]) / compounds, 1) for name, size in sorted(index_parts(index).items())}
    return {
        "compounds": compounds,
        "rejected": counts.rejected,
        "sqlite": sqlite_bytes(folder / "atomas.sqlite3", compounds),
        "postgresql": in_postgres,
        "structure_keeper_disk": keeper,
        "index_on_disk": {name: size for name, size in parts.items() if size},
    }


def keeper_bytes(folder: Path, compounds: int) -> float:
    """The structure keeper's log."""
    log = folder / "structures" / "structures.log"
    former = -1
    # It is filled behind the import.
    while (size := log.stat().st_size) != former:
        former = size
        time.sleep(KEEPER_SECONDS)
    return round(size / compounds, 1)


def sqlite_bytes(path: Path, compounds: int) -> dict[str, float]:
    """By table, with its indexes."""
    empty = path.with_name("empty.sqlite3")
    migrate(f"sqlite:///{empty}")
    return by_table(sqlite_tables(path), sqlite_tables(empty), compounds)


def sqlite_tables(path: Path) -> dict[str, int]:
    """Bytes of the pages of each table and its indexes."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return dict(
            connection.execute("SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema m ON m.name = d.name GROUP BY m.tbl_name")
        )


def postgres_bytes(source: Any, compounds: int, postgres: Postgres, database: str, version: str) -> dict[str, float]:
    """The same compounds saved in PostgreSQL through the same repositories; by table, with indexes and oversized values."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"'.encode())
    url = postgres.database_url(database)
    migrate(url)
    empty = postgres_tables(url)
    target = SqlDatabase(url)
    try:
        with target.transaction() as transaction:
            transaction.libraries.add(Library(LIBRARY, display_name=LIBRARY))
        after = ""
        while True:
            with source.reading() as transaction:
                page = transaction.compounds.page(LIBRARY, after, PAGE)
            if not page:
                break
            after = page[-1].inchikey
            with target.transaction() as transaction:
                transaction.compounds.save(page)
                transaction.compounds.mark_indexed(LIBRARY, {compound.inchikey: 1 for compound in page}, version)
    finally:
        target.close()
    return by_table(postgres_tables(url), empty, compounds)


def postgres_tables(url: str) -> dict[str, int]:
    """Bytes of each table with its indexes and what is kept apart because it is long, after a vacuum."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM")
        sizes = connection.execute("SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables").fetchall()
    return {str(name): int(size) for name, size in sizes}


def by_table(sizes: dict[str, int], empty: dict[str, int], compounds: int) -> dict[str, float]:
    """What each table has grown for a compound; those of which a library has one row are left out by their size."""
    found = {name: round((size - empty.get(name, 0)) / compounds, 1) for name, size in sorted(sizes.items())}
    return {name: size for name, size in found.items() if size >= LEAST_BYTES}


def index_parts(index: Path) -> Counter[str]:
    """Allocated bytes of a closed index by what they are; its log, of a fixed size, apart."""
    parts: Counter[str] = Counter()
    for path in index.rglob("*"):
        if not path.is_file() or "segments" not in path.parts:
            continue
        inside = path.parts[path.parts.index("segments") + 2 :]
        part = inside[0].partition(".")[0]
        parts[f"{part} int8" if "quantized" in path.name else part] += path.stat().st_blocks * 512
    return parts


def optimised(index: Path, version: str, dimension: int, points: int) -> None:
    """Builds the graphs of a closed index and leaves it closed."""
    opened = EdgeIndex.open(index, version, dimension, optimise_points=points)
    running = opened.running_optimisation()
    assert running is not None, "an index of that size optimises itself"
    running.join()
    opened.close()


def resident_bytes(folder: Path) -> float:
    """Memory that a point more takes in a process that searches; every second point has a text."""
    sizes = []
    for count in RESIDENT_POINTS:
        index = folder / f"resident-{count}"
        vector_index.filled(index, count)
        optimised(index, "benchmark", vector_index.DIMENSION, count)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sizes.append(int(pool.apply(_searched, (index,))))
    return round((sizes[1] - sizes[0]) / (RESIDENT_POINTS[1] - RESIDENT_POINTS[0]), 1)


def _searched(index: Path) -> int:
    opened = EdgeIndex.open(index, "benchmark", vector_index.DIMENSION, optimise_points=10**9)
    for vector in vector_index.vectors(SEARCHES, 5):
        for leg in (Leg.MOLECULES, Leg.TEXTS):
            found = opened.search(leg, [vector], 10)
            opened.documents([hit.id for hit in found[0]])
    try:
        return sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")) * 1024
    finally:
        opened.close()


def broker_bytes(folder: Path) -> dict[str, float]:
    """What waiting jobs weigh in Redis."""
    broker = Redis(folder / "redis")
    broker.start()
    try:
        with redis.Redis.from_url(broker.url) as connection:
            app = celery_app(broker.url, 600)
            before = 0
            for number in range(JOBS + 1):
                job = EmbedCompounds("0" * 32, number)
                app.send_task(job.name, args=[to_payload(job), 0], queue=job.queue)
                # The first one also makes the queue.
                before = before or int(connection.info("memory")["used_memory"])
            after = int(connection.info("memory")["used_memory"])
    finally:
        broker.kill()
    each = (after - before) / JOBS
    return {"redis_job": round(each, 1), "redis_waiting_compound": round(each / ROWS_PER_CHUNK, 2)}


def processor_seconds(smiles: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """CPU time, not time on the clock: other programs on the machine hardly change it."""
    started = time.process_time()
    molecules = [standardise_structure(Structure("smiles", text), DEFAULT_LIMITS) for text in smiles]
    chemistry = time.process_time() - started
    model = Encoder.load(threads=1)
    written = [molecule.smiles for molecule in molecules]
    # With its fragments, as an import encodes it.
    encode = model.molecules_and_fragments if model.has_hierarchy else model.encode_molecules
    encode(written[:50])
    started = time.process_time()
    encode(written)
    molecule_seconds = time.process_time() - started
    started = time.process_time()
    model.encode_texts(texts)
    text_seconds = time.process_time() - started
    return {
        "chemistry_milliseconds": round(chemistry / len(smiles) * 1e3, 3),
        "encode_molecule_milliseconds": round(molecule_seconds / len(smiles) * 1e3, 3),
        "encode_text_milliseconds": round(text_seconds / len(texts) * 1e3, 3),
        "molecule_tokens": round(sum(map(model.molecule_tokens, written)) / len(written), 1),
        "text_tokens": round(sum(map(model.text_tokens, texts)) / len(texts), 1),
        "dimension": model.dimension,
    }


def texts_of(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The definitions, or the names of what has none."""
    for row in rows:
        yield row["definition"] or row["name"] or "a molecule"


def valid(smiles: Sequence[str], count: int) -> list[str]:
    """The first that the chemistry door takes at once, for timing."""
    return [text for text in smiles if 3 < len(text) < 200 and "*" not in text][:count]


def main() -> None:
    """Prints the measurements as JSON, and keeps them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="tab-separated file of structures, gzipped")
    parser.add_argument("--compounds", type=int, default=2_000, help="of each kind")
    parser.add_argument("--write", action="store_true", help=f"keep them in {RESULT.relative_to(ROOT)}")
    options = parser.parse_args()
    configure_logs("error", "text")
    bare = rows_of(options.data, options.compounds)
    described = [json.loads(line) for line in lines(options.compounds)]
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        folder.chmod(0o755)
        postgres = Postgres(folder / "postgres")
        postgres.start()
        try:
            measured = {
                "processor": processor_seconds(valid(bare, 500), list(texts_of(described[:500]))),
                "broker": broker_bytes(folder),
                "index_resident": resident_bytes(folder),
                "structures": measured_stores(bare, folder / "structures", postgres, "structures"),
                "texts": measured_stores(described, folder / "texts", postgres, "texts"),
            }
        finally:
            postgres.kill()
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    measured["run"] = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": run.stdout.strip(),
        "data": options.data.name if options.data else "the shipped library",
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }
    text = json.dumps(measured, indent=2) + "\n"
    print(text, end="")
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
