"""Substructure search over the whole shipped library: is every answer exactly RDKit's, and how long does one take?

python -m benchmarks.substructure [--patterns 200] [--cache FILE] [--cartridge]

Patterns: functional groups, rare elements and SMARTS primitives written by hand; the rest are fragments of random compounds, small and large,
half of them as SMILES and half as SMARTS. Brute force asks every molecule, unscreened. With --cartridge PostgreSQL's is asked the same, pattern by
pattern in turn with the keeper.
"""

import argparse
import os
import random
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem

from benchmarks.structure_library import LIBRARY, add_options, filled_cartridge, filled_index, structures
from encoder.patterns import match_parameters, read_pattern
from server.ports import StructureEntry, StructureIndex

AIM_MILLISECONDS = 200
MOLECULES_AT_ONCE = 2_000
# fmt: off
WRITTEN = [
    "c1ccccc1", "C(=O)O", "smarts:C(=O)[OH]", "C(=O)N", "N", "c1ccncc1", "c1ccc2ccccc2c1", "C1CCC2C(C1)CCC3C2CCC4C3CCC4",
    "O=c1ccc2ccccc2o1", "c1cc[nH]c1", "[Pt]", "[Se]", "[As]", "[B]", "[Si]", "[Fe]", "[Co]", "[Hg]", "[Xe]", "[U]", "[Na+]", "[Cl-]",
    "[I]", "[Br]", "F", "[13C]", "[2H]", "[N+](=O)[O-]", "S(=O)(=O)N", "P(=O)(O)O", "C#N", "C#C", "N=N", "N=[N+]=[N-]", "OO", "SS",
    "C=C=C", "[#7;R]", "[r3]", "[r7]", "[R3]", "[D4]", "[X4;!#6]", "[!#6;!#1]", "[$([NX3][CX3]=O)]", "[$([OX2H][CX3]=[OX1])]",
    "[CH2][CH2][CH2]", "[c;H1][c;H1]", "[#6]~[#16]", "[N;H2]", "[O-]", "[n+]", "*~*~*~*~*~*~*~*~*~*~*~*~*~*~*", "CCCCCCCCCCCCCCCC",
    "[CX4H3]", "[OX1]=[#6][OX2][#6]", "[#6]1~[#6]~[#6]~[#6]~[#6]~[#6]~[#6]~1", "C1CCCCCCCCCCCCC1", "c1ccc(-c2ccccc2)cc1", "C[N+](C)(C)C",
    "[Mg]", "[Zn]", "[Cu]", "[Al]", "[Li]", "[Te]", "[Sn]", "[Au]",
]
# fmt: on


def main() -> None:
    """Prints how many answers are exact, and milliseconds per pattern."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--patterns", type=int, default=200)
    parser.add_argument("--cartridge", action="store_true", help="ask the RDKit cartridge too")
    options = parser.parse_args()
    entries = structures(options)
    patterns = [*WRITTEN, *fragments(entries, max(0, options.patterns - len(WRITTEN)))][: options.patterns]
    with ExitStack() as stack:
        indexes: dict[str, StructureIndex] = {"keeper": stack.enter_context(filled_index(entries))}
        if options.cartridge:
            indexes["cartridge"] = stack.enter_context(filled_cartridge(entries))
        asked = {name: Asked([], []) for name in indexes}
        cpu = []
        for pattern in patterns:
            worked = children_cpu_seconds()
            for name, index in indexes.items():
                started = time.perf_counter()
                asked[name].answers.append(set(index.containing(pattern, [LIBRARY])))
                asked[name].seconds.append(time.perf_counter() - started)
            cpu.append(children_cpu_seconds() - worked)
    sizes = np.array([len(answer) for answer in asked["keeper"].answers])
    print(f"{len(patterns)} patterns over {len(entries):,} compounds; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"hits: median {np.median(sizes):,.0f}, none {np.sum(sizes == 0)}, 1 to 10 {np.sum((sizes > 0) & (sizes <= 10))}, most {sizes.max():,}"
    )
    right = brute_force(entries, patterns)
    if not options.cartridge:
        show("processor time", cpu)
    for name, said in asked.items():
        show(f"{name}, wall", said.seconds)
        wrong = [pattern for pattern, found, expected in zip(patterns, said.answers, right, strict=True) if found != expected]
        print(f"{name}: exactly as brute force: {len(patterns) - len(wrong)} of {len(patterns)}")
        for pattern in wrong:
            print("  differs:", pattern)


@dataclass
class Asked:
    """What one index said to the patterns, and how long it took."""

    answers: list[set[uuid.UUID]]
    seconds: list[float]


def show(kind: str, measured: Sequence[float]) -> None:
    """One line of milliseconds."""
    middle, high, most = 1e3 * np.quantile(measured, (0.5, 0.9, 1.0))
    print(f"milliseconds, {kind}: median {middle:.1f}, 90 % {high:.1f}, most {most:.1f} (aim: median {AIM_MILLISECONDS})")


def children_cpu_seconds() -> float:
    """Processor time of this process's children so far: what a wall clock shows when nobody else works on the machine."""
    ticks = 0
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        ticks += sum(int(field) for field in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def fragments(entries: Sequence[StructureEntry], count: int) -> list[str]:
    """Connected pieces of random compounds, 3 to 20 atoms, with a fixed seed."""
    chooser = random.Random(0)
    found: list[str] = []
    while len(found) < count:
        molecule = Chem.MolFromSmiles(chooser.choice(entries).smiles)
        wanted, atoms = chooser.randint(3, 20), [chooser.randrange(molecule.GetNumAtoms())]
        while len(atoms) < wanted:
            border = {n.GetIdx() for atom in atoms for n in molecule.GetAtomWithIdx(atom).GetNeighbors()} - set(atoms)
            if not border:
                break
            atoms.append(chooser.choice(sorted(border)))
        write = Chem.MolFragmentToSmiles if len(found) % 2 else Chem.MolFragmentToSmarts
        found.append(("" if len(found) % 2 else "smarts:") + write(molecule, atoms))
    return found


def brute_force(entries: Sequence[StructureEntry], patterns: Sequence[str]) -> list[set[uuid.UUID]]:
    """Ids of the molecules that match, each molecule asked for each pattern."""
    queries, params = [read_pattern(pattern).query for pattern in patterns], match_parameters(1)
    right: list[set[uuid.UUID]] = [set() for _ in patterns]
    for start in range(0, len(entries), MOLECULES_AT_ONCE):
        batch = [(entry.id, Chem.MolFromSmiles(entry.smiles)) for entry in entries[start : start + MOLECULES_AT_ONCE]]
        for query, ids in zip(queries, right, strict=True):
            ids.update(id for id, molecule in batch if molecule.HasSubstructMatch(query, params))
    return right


if __name__ == "__main__":
    main()
