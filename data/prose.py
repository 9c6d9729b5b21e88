"""Chooses the descriptions that ship with the project: prose about molecules from sources whose licence lets anyone pass them on.

python data/prose.py PAIRS_FOLDER
"""

import gzip
import json
import pathlib
import sys

from encoder.prose import Manner, manner_of
from encoder.training.dataset import open_text
from encoder.training.wording import chebi_wording

FOLDER = pathlib.Path(__file__).resolve().parent
SOURCES = ("ChEBI-20 train (few-shot log, ChemLLMBench)", "GIT-Mol igcdata_toy")


def main() -> None:
    """Writes prose.jsonl.gz from description.jsonl.gz and names.jsonl.gz; the same input gives the same bytes."""
    pairs = pathlib.Path(sys.argv[1])
    with open_text(pairs / "names.jsonl.gz") as lines:
        names = {row["inchikey"]: row["text"].split("; ") for row in map(json.loads, lines)}
    with open_text(FOLDER / "chebi.jsonl.gz") as lines:
        benchmark = {row["inchikey"] for row in map(json.loads, lines) if row["evaluation_molecule"]}
    chosen: dict[str, str] = {}
    with open_text(pairs / "description.jsonl.gz") as lines:
        for line in lines:
            row = json.loads(line)
            if row["source"] not in SOURCES or row["noncommercial"] or row["inchikey"] in benchmark:
                continue
            if manner_of(chebi_wording(row["text"], names.get(row["inchikey"], ()))) == Manner.PROSE:
                chosen.setdefault(row["inchikey"], line)
    (FOLDER / "prose.jsonl.gz").write_bytes(gzip.compress("".join(chosen.values()).encode(), mtime=0))


if __name__ == "__main__":
    main()
