"""Compounds read and saved per second through the SQL adapter, against the bare SQLite driver on the same rows in the same run.

    python -m benchmarks.database [--url URL] [--compounds 0] [--chunk 500]

Without a URL a temporary SQLite file is used; with one of a PostgreSQL database (its tables must be empty) only the adapter is timed.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.library import lines
from server.adapters.sql.codec import compound_columns
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.compounds import Compound, SourceRecord, Structure
from server.domain.libraries import Library
from server.domain.operations import ImportRow, Operation, State

TARGET_PER_SECOND = 5_000
LIBRARY = "benchmark"
DESCRIPTORS: dict[str, float | int | str] = {
    "molecular_weight": 180.159,
    "exact_mass": 180.042259,
    "clogp": 1.3101,
    "tpsa": 63.6,
    "hbd": 1,
    "hba": 3,
    "rotatable_bonds": 2,
    "rings": 1,
    "aromatic_rings": 1,
    "heavy_atoms": 13,
    "charge": 0,
    "stereo_centres": 0,
    "fraction_csp3": 0.1111,
    "formula": "C9H8O4",
}


def shipped_compounds(count: int) -> list[Compound]:
    """Real structures, names and texts; descriptors and fingerprints of the right size, which the database does not look into."""
    noise = random.Random(0)
    found: dict[str, Compound] = {}
    for position, line in enumerate(lines(count), 1):
        said = json.loads(line)
        structure = Structure(said["smiles"], said["inchikey"], said["smiles"], said["inchikey"], DESCRIPTORS, noise.randbytes(256))
        descriptions = (said["definition"],) if said["definition"] else ()
        metadata = {"roles": said["roles"], "parents": said["parents"]}
        order = ("2026-01-01T00:00:00+00:00", position)
        record = SourceRecord(said["id"], said["name"], tuple(said["synonyms"]), descriptions, metadata, order)
        found.setdefault(said["inchikey"], Compound(LIBRARY, structure, (record,)))
    return list(found.values())


def timed(name: str, compounds: Sequence[Compound], chunk: int, work: Callable[[Sequence[Compound]], None]) -> float:
    """Prints and returns compounds per second of wall time."""
    started, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(compounds), chunk):
        work(compounds[start : start + chunk])
    rate = len(compounds) / (time.perf_counter() - started)
    print(f"{name:<34}{rate:10,.0f} /s   {len(compounds) / (time.process_time() - cpu):10,.0f} per second of this process's CPU")
    return rate


def adapter(url: str, compounds: Sequence[Compound], chunk: int) -> float:
    """Times what an import does; returns the rate of saving new compounds."""
    migrate(url)
    database = SqlDatabase(url)
    with database.transaction() as transaction:
        transaction.libraries.add(Library(LIBRARY))
        transaction.operations.open(Operation("benchmark", LIBRARY, "benchmark", "", State.RECEIVING))

    def accept(some: Sequence[Compound]) -> None:
        with database.transaction() as transaction:
            received = transaction.operations.lock("benchmark").counts.received
            rows = [ImportRow(received + i, "smiles", one.structure.smiles, one.records[0]) for i, one in enumerate(some, 1)]
            transaction.operations.accept("benchmark", rows)

    def save(some: Sequence[Compound]) -> None:
        with database.transaction() as transaction:
            known = transaction.compounds.get_many(LIBRARY, [one.inchikey for one in some], for_update=True)
            changes = [known[one.inchikey].merged_with(replace(one.records[0], source_id="other")) if known else one for one in some]
            transaction.compounds.save(changes)

    def read(some: Sequence[Compound]) -> None:
        with database.reading() as transaction:
            transaction.compounds.get_many(LIBRARY, [one.inchikey for one in some])

    def mark(some: Sequence[Compound]) -> None:
        with database.transaction() as transaction:
            transaction.compounds.mark_indexed(LIBRARY, {one.inchikey: 1 for one in some}, "model")

    timed("accept rows", compounds, chunk, accept)
    saved = timed("look up and save new compounds", compounds, chunk, save)
    timed("read", compounds, chunk, read)
    timed("mark as indexed", compounds, chunk, mark)
    timed("look up, merge and save again", compounds, chunk, save)
    database.close()
    return saved


def bare_driver(file: Path, compounds: Sequence[Compound], chunk: int) -> float:
    """The same rows and indexes through `sqlite3` alone, as durable as the adapter's."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    names = list(compound_columns(compounds[0]))
    connection.execute(f"CREATE TABLE compounds (key INTEGER PRIMARY KEY, {', '.join(names)}, UNIQUE (inchikey))")
    connection.execute("CREATE INDEX parents ON compounds (parent_inchikey)")

    def save(some: Sequence[Compound]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        rows = [tuple(compound_columns(one).values()) for one in some]
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO compounds ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO NOTHING", rows)
        connection.execute("COMMIT")

    rate = timed("bare driver, save only", compounds, chunk, save)
    connection.close()
    return rate


def main() -> None:
    """Prints rates, and on SQLite the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="")
    parser.add_argument("--compounds", type=int, default=0)
    parser.add_argument("--chunk", type=int, default=500)
    options = parser.parse_args()
    compounds = shipped_compounds(options.compounds)
    if options.url:
        adapter(options.url, compounds, options.chunk)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter.sqlite3"
        saved = adapter(f"sqlite:///{file}", compounds, options.chunk)
        bare = bare_driver(Path(folder) / "bare.sqlite3", compounds, options.chunk)
        print(f"{file.stat().st_size / len(compounds):,.0f} bytes per compound, index entries and accepted rows included")
    print(f"{saved:,.0f} compounds saved per second (target {TARGET_PER_SECOND:,}), {saved / bare:.2f} of the bare driver's rate")


if __name__ == "__main__":
    main()
