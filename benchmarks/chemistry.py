"""What the chemistry door costs per molecule, stage by stage, and what the guarded pool adds.

python -m benchmarks.chemistry [--molecules 2000] [--processes 2]
"""

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from encoder.descriptors import describe, fingerprint
from encoder.inchi import inchikey
from encoder.molecules import MoleculeError, Structure, parse_smiles, standardise_structure
from encoder.normal_form import canonical, normal_form, parent_form
from server.adapters.chemistry_pool import ChemistryPool

LIBRARY = Path(__file__).parents[1] / "data" / "chebi.jsonl.gz"
LIMIT_MILLISECONDS = 3.0
Input = TypeVar("Input")
Output = TypeVar("Output")


def main() -> None:
    """Prints milliseconds per molecule: each stage, the whole door in this process, and through the pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    texts = sample(options.molecules)
    molecules = timed("parse", parse_smiles, texts)
    canonicals = timed("canonical SMILES, read again", canonical, molecules)
    timed("InChIKey", lambda pair: inchikey(pair[1], pair[0]), canonicals)
    forms = timed("normal form (the two above, repairs)", normal_form, molecules)
    timed("parent", parent_form, forms)
    timed("descriptors", lambda form: describe(form.molecule), forms)
    timed("fingerprint", lambda form: fingerprint(form.molecule), forms)
    structures = [Structure("smiles", text) for text in texts]
    timed("the whole door", standardise_structure, structures)
    pool = ChemistryPool(options.processes)
    pool.warm()
    start = time.perf_counter()
    pool.standardise_many(structures)
    report(f"through the pool, {options.processes} processes, wall", time.perf_counter() - start, len(structures))
    start = time.perf_counter()
    for structure in structures[:200]:
        pool.standardise_one(structure)
    report("one query through the idle pool, wall", time.perf_counter() - start, len(structures[:200]))
    pool.close()
    print(f"aim for the whole door: {LIMIT_MILLISECONDS} ms")


def sample(count: int) -> list[str]:
    """Readable structures of the shipped library as their source spells them, at random with a fixed seed."""
    with gzip.open(LIBRARY, "rt") as lines:
        texts = [json.loads(line)["smiles"] for line in lines]
    random.Random(0).shuffle(texts)
    return [text for text in texts[:count] if readable(text)]


def readable(text: str) -> bool:
    """Whether RDKit reads it at all: a handful of the library's structures it does not."""
    try:
        parse_smiles(text)
    except MoleculeError:
        return False
    return True


def timed(stage: str, work: Callable[[Input], Output], inputs: Iterable[Input]) -> list[Output]:
    """Run one stage over all molecules and print its mean in processor time, which other work on the machine disturbs least."""
    start = time.process_time()
    results = [work(item) for item in inputs]
    report(stage, time.process_time() - start, len(results))
    return results


def report(stage: str, seconds: float, count: int) -> None:
    """One line of the table."""
    print(f"{stage:38s} {seconds / count * 1e3:7.3f} ms")


if __name__ == "__main__":
    main()
