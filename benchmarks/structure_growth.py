"""What a structure costs its keeper while the keeper fills: processor time of a row in every tenth, which should stay as it is.

python -m benchmarks.structure_growth [--structures 48000]

Structures of the shipped library, over and over under other ids: what is stored grows, what is computed stays.
"""

import argparse
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from benchmarks.chemistry import sample
from encoder.molecules import Structure, standardise_structure
from server.adapters.structure_store import StructureStore
from server.adapters.structure_table import ID_BYTES, SKELETON_LETTERS

CHUNK = 500
TENTHS = 10


def main() -> None:
    """Prints milliseconds of processor time a row, by tenth, and the last as a multiple of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=48_000)
    options = parser.parse_args()
    molecules = [standardise_structure(Structure("smiles", text)) for text in sample(CHUNK)]
    smiles = [molecule.smiles for molecule in molecules]
    fingerprints = np.frombuffer(b"".join(molecule.fingerprint for molecule in molecules), np.uint8).reshape(len(molecules), -1)
    skeletons = np.frombuffer("".join(molecule.skeleton for molecule in molecules).encode(), np.uint8).reshape(-1, SKELETON_LETTERS)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        store = StructureStore(Path(folder) / "structures.log", live_molecules=1_000)
        chunks = max(1, options.structures // len(smiles) // TENTHS)
        for _ in range(TENTHS):
            started = time.process_time()
            for _ in range(chunks):
                ids = np.frombuffer(b"".join(uuid.uuid4().bytes for _ in smiles), np.uint8).reshape(-1, ID_BYTES)
                store.add("growth", ids, skeletons, fingerprints, smiles)
            costs.append((time.process_time() - started) / (chunks * len(smiles)) * 1e3)
        count = store.count(None)
        store.close()
    print(f"{count:,} structures; CPU ms a row by tenth  " + " ".join(f"{cost:.3f}" for cost in costs))
    print(f"last tenth / first {costs[-1] / costs[0]:.2f}")


if __name__ == "__main__":
    main()
