"""The shipped library as structures in the index, for benchmarks of structure search."""

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from benchmarks.library import lines
from deploy.services import INSTALL, Postgres
from encoder.descriptors import fingerprint
from encoder.molecules import MoleculeError, parse_smiles
from encoder.normal_form import canonical
from server.adapters.cartridge_structures import open_cartridge
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.keeper_process import KeeperProcess
from server.adapters.rdkit_structures import RdkitStructures
from server.domain.compounds import point_id
from server.ports import StructureEntry, StructureIndex

LIBRARY = "chebi"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that every benchmark of structures has."""
    parser.add_argument("--compounds", type=int, default=0, help="rows of the library to read, 0 for all")
    parser.add_argument("--cache", type=Path, help="keep the library as it was read here, .jsonl.gz")


def structures(options: argparse.Namespace) -> list[StructureEntry]:
    """Every different structure of the library, in canonical SMILES."""
    cache: Path | None = options.cache
    if cache is None or not cache.exists():
        found = {entry.id: entry for entry in _read(options.compounds)}
        if cache is not None:
            with gzip.open(cache, "wt") as file:
                file.writelines(json.dumps([str(e.id), e.smiles, e.skeleton, e.fingerprint.hex()]) + "\n" for e in found.values())
        return list(found.values())
    with gzip.open(cache, "rt") as file:
        return [StructureEntry(UUID(i), LIBRARY, smiles, skeleton, bytes.fromhex(f)) for i, smiles, skeleton, f in map(json.loads, file)]


@contextmanager
def filled_index(entries: list[StructureEntry], pattern_seconds: float = 60.0) -> Iterator[RdkitStructures]:
    """The structure index with these structures, on a file that is gone afterwards; says what filling it costs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "structures.log"
        index = RdkitStructures(KeeperProcess(path, live_molecules=30_000), pattern_seconds)
        try:
            started = time.perf_counter()
            index.upsert(entries)
            index.declare_complete()
            seconds = time.perf_counter() - started
            print(
                f"filled with {index.count():,} structures: {1e3 * seconds / len(entries):.2f} ms each, {path.stat().st_size / 1e6:.0f} MB on disk"
            )
            yield index
        finally:
            index.close()


@contextmanager
def filled_cartridge(entries: list[StructureEntry], pattern_seconds: float = 60.0) -> Iterator[StructureIndex]:
    """The RDKit cartridge with these structures, in a PostgreSQL of its own that is gone afterwards; says what filling it costs."""
    with TemporaryDirectory(prefix="atomas-cartridge-") as folder, closing(ChemistryPool(2)) as chemistry:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "server")
        server.start()
        try:
            index = open_cartridge(server.url, pattern_seconds, chemistry)
            assert index is not None, f"PostgreSQL has no RDKit cartridge: run `{INSTALL}`."
            with closing(index):
                started = time.perf_counter()
                for start in range(0, len(entries), 1_000):
                    index.upsert(entries[start : start + 1_000])
                index.declare_complete()
                print(
                    f"cartridge filled with {index.count():,} structures: {1e3 * (time.perf_counter() - started) / len(entries):.2f} ms each"
                )
                yield index
        finally:
            server.stop()


def _read(count: int) -> Iterator[StructureEntry]:
    for line in lines(count):
        try:
            smiles, molecule = canonical(parse_smiles(json.loads(line)["smiles"]))
        except MoleculeError:
            continue
        # Who they are does not matter here: InChI would take three times as long as all the rest.
        yield StructureEntry(point_id(LIBRARY, smiles), LIBRARY, smiles, "", fingerprint(molecule))
