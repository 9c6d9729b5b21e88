"""Writes the golden molecules anew: `python -m tests.golden.molecules`, after raising STANDARD_VERSION."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encoder.molecules import STANDARD_VERSION, Molecule, standardise
from tests.strategies import HARD_SMILES, library_smiles

GOLDEN = Path(__file__).parent / "molecules.json"


def golden(given: str, molecule: Molecule) -> dict[str, Any]:
    """Everything a molecule is, as JSON holds it."""
    fields = asdict(molecule)
    fields["fingerprint"] = molecule.fingerprint.hex()
    fields["descriptors"]["elements"] = list(molecule.descriptors.elements)
    return {"given": given, **fields}


def main() -> None:
    """Standardise some two hundred molecules of the shipped library and keep the results."""
    given = [*library_smiles()[:340:2], *HARD_SMILES]
    rows = ",\n".join(json.dumps(golden(smiles, standardise(smiles))) for smiles in dict.fromkeys(given))
    GOLDEN.write_text(f'{{"standard_version": "{STANDARD_VERSION}", "molecules": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
