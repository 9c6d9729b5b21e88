"""Whether a phrase points at the atoms it names: groups with a SMARTS as the truth, over ChEBI-20 validation molecules.

    python -m benchmarks.explanation [--molecules 60] [--model FOLDER]

Per group: mean weight of its atoms over mean weight of all others (1 is chance), and how often the heaviest atom belongs to it, against the
share of the atoms that do (chance). Molecules hold the group and at least as many other atoms. With a hierarchy, the alignment of each of its
levels is judged beside the attribution that explanations use.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from encoder.explanation import AlignedLevel
from encoder.inference import Encoder
from encoder.training.dataset import read_descriptions

VALIDATION = Path(__file__).parents[1] / "data" / "chebi20" / "validation.tsv"
ATTRIBUTION = "attribution"
GROUPS = {
    "carboxylic acid": "C(=O)[OX2H]",
    "sulfonamide": "S(=O)(=O)N",
    "fluorine": "F",
    "chlorine": "Cl",
    "bromine": "Br",
    "steroid": "C1CCC2C(C1)CCC1C2CCC2CCCC12",
    "phosphate": "P(=O)(O)(O)O",
    "nitro group": "[N+](=O)[O-]",
    "primary amine": "[NX3;H2][CX4]",
    "quaternary ammonium": "[NX4+]([#6])([#6])([#6])[#6]",
    "thiol": "[SX2H]",
    "indole": "c1ccc2[nH]ccc2c1",
    "pyridine": "n1ccccc1",
    "furan": "o1cccc1",
    "glucoside": "OC1OC(CO)C(O)C(O)C1O",
    "amide": "C(=O)[NX3]",
    "ester": "C(=O)O[#6]",
    "ketone": "[#6]C(=O)[#6]",
    "aldehyde": "[CX3H1]=O",
    "phenol": "c[OX2H]",
    "epoxide": "C1OC1",
    "alkyne": "C#C",
    "nitrile": "C#N",
    "boronic acid": "B(O)O",
}

Weights = NDArray[np.float64]


def main() -> None:
    """Prints one line per group and their summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=60, help="molecules of a group at most")
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped weights)")
    options = parser.parse_args()
    rdBase.DisableLog("rdApp.*")
    encoder = Encoder.load(options.model, threads=1)
    molecules = [Chem.MolToSmiles(Chem.MolFromSmiles(row.smiles)) for row in read_descriptions(VALIDATION)]
    groups = {name: list(with_group(molecules, smarts, options.molecules)) for name, smarts in GROUPS.items()}
    summary: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for name, found in groups.items():
        inside = defaultdict[str, list[tuple[float, float, bool]]](list)
        for smiles, group in found:
            for way, weights in weights_of(encoder, name, smiles).items():
                inside[way].append((weights[group].mean(), weights[~group].mean(), bool(group[weights.argmax()] and weights.any())))
        chance = float(np.mean([group.mean() for _, group in found])) if found else 0.0
        for way, rows in inside.items():
            own, others, top = np.mean(rows, axis=0).tolist()
            summary[way].append((own / max(others, 1e-9), top, chance))
            print(
                f"{name:20s} {way:22s} {len(rows):4d} molecules  ratio {own / max(others, 1e-9):6.1f}  top atom {top:4.0%} (chance {chance:3.0%})"
            )
    for way, scores in summary.items():
        ratios, tops, chances = zip(*scores, strict=True)
        print(
            f"{way}: {len(scores)} groups, median ratio {median(ratios):.1f}, least {min(ratios):.1f}; "
            f"top atom in the group {np.mean(tops):.0%}, chance {np.mean(chances):.0%}"
        )


def with_group(molecules: list[str], smarts: str, limit: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Molecules that hold a group and at least as many other atoms, with the atoms of all its occurrences."""
    pattern = Chem.MolFromSmarts(smarts)
    found = 0
    for smiles in molecules:
        molecule = Chem.MolFromSmiles(smiles)
        group = np.zeros(molecule.GetNumAtoms(), dtype=bool)
        group[[atom for match in molecule.GetSubstructMatches(pattern) for atom in match]] = True
        if found < limit and 0 < group.sum() <= len(group) / 2:
            found += 1
            yield smiles, group


def weights_of(encoder: Encoder, phrase: str, smiles: str) -> dict[str, Weights]:
    """Weight of each atom for a phrase: by attribution, and by the alignment of each level."""
    explanation = encoder.explain(phrase, smiles)
    weights = {ATTRIBUTION: explanation.atom_weights}
    return weights | {f"alignment, {level.name}": aligned(level, len(explanation.atom_weights)) for level in explanation.levels}


def aligned(level: AlignedLevel, atoms: int) -> Weights:
    """Each atom's cosine to the words by their fusion weights, through the cluster it is in; below zero counts as nothing."""
    words = np.array([cluster.weight for cluster in level.text_clusters])
    weights = np.zeros(atoms)
    for cluster, cosine in zip(level.molecule_clusters, words @ level.similarities, strict=True):
        weights[list(cluster.atoms)] = max(cosine, 0.0)
    return weights


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
