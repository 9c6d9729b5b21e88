"""How little a molecule's spelling matters: vectors of random spellings, after the chemistry door and straight into the encoder.

    python -m benchmarks.invariance [--molecules 1000] [--spellings 10] [--model FOLDER]

Exits with 1 when a limit is missed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import rdBase

from encoder.inference import Encoder
from encoder.molecules import standardise
from encoder.training.dataset import read_descriptions
from encoder.training.evaluate import random_spelling

VALIDATION = Path(__file__).parents[1] / "data" / "chebi20" / "validation.tsv"
LEAST_AFTER_DOOR = 0.99999
LEAST_MEDIAN_BEFORE = 0.95


@dataclass(frozen=True, slots=True)
class Invariance:
    """Cosines (N,) of spellings' vectors with the vector of the molecule they spell."""

    after_door: NDArray[np.float32]
    before_door: NDArray[np.float32]
    changed: int
    """Spellings left out because RDKit wrote another molecule: their InChIKey differs, mostly in a stereo label."""


def main() -> int:
    """Prints both figures and their limits; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=1_000)
    parser.add_argument("--spellings", type=int, default=10)
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped weights)")
    options = parser.parse_args()
    rdBase.DisableLog("rdApp.*")
    result = measure(Encoder.load(options.model, threads=1), validation_molecules(options.molecules), options.spellings)
    after, before = float(result.after_door.min()), float(np.median(result.before_door))
    print(f"{len(result.after_door)} spellings of {options.molecules} molecules; {result.changed} more spell another molecule")
    print(f"after the chemistry door   least cosine   {after:.7f} (limit {LEAST_AFTER_DOOR})")
    print(f"before it                  median cosine  {before:.7f} (limit {LEAST_MEDIAN_BEFORE}), least {result.before_door.min():.7f}")
    return 0 if after > LEAST_AFTER_DOOR and before > LEAST_MEDIAN_BEFORE else 1


def validation_molecules(count: int) -> list[str]:
    """Spread evenly over the validation set."""
    smiles = [row.smiles for row in read_descriptions(VALIDATION)]
    return [smiles[index] for index in np.linspace(0, len(smiles) - 1, min(count, len(smiles))).astype(int)]


def measure(encoder: Encoder, molecules: Sequence[str], spellings: int, seed: int = 0) -> Invariance:
    """Spell every molecule at random, `spellings` times, and compare the vectors with that of its canonical form."""
    generator = np.random.default_rng(seed)
    own: list[int] = []
    raw: list[str] = []
    after: list[str] = []
    forms = [standardise(smiles) for smiles in molecules]
    changed = 0
    for row, form in enumerate(forms):
        for _ in range(spellings):
            spelling = random_spelling(form.smiles, generator)
            again = standardise(spelling)
            if again.inchikey != form.inchikey:
                changed += 1
                continue
            own.append(row)
            raw.append(spelling)
            after.append(again.smiles)
    # A spelling that is no other molecule comes out of the door as one string; each string needs encoding once.
    distinct, places = np.unique(after, return_inverse=True)
    canonical = encoder.encode_molecules([form.smiles for form in forms])[own]
    return Invariance(
        (canonical * encoder.encode_molecules(distinct.tolist())[places]).sum(1),
        (canonical * encoder.encode_molecules(raw)).sum(1),
        changed,
    )


if __name__ == "__main__":
    sys.exit(main())
