"""Chooses the demo's 5,000 compounds of the ChEBI library: all that have a definition, then others spread evenly."""

import gzip
import json
import pathlib
import zlib

FOLDER = pathlib.Path(__file__).resolve().parent
COUNT = 5_000


def main() -> None:
    """Writes chebi_sample.jsonl.gz; the same input gives the same bytes."""
    with gzip.open(FOLDER / "chebi.jsonl.gz", "rt", encoding="utf-8") as source:
        lines = source.readlines()
    compounds = [json.loads(line) for line in lines]
    spread = [zlib.crc32(compound["inchikey"].encode()) for compound in compounds]
    order = sorted(range(len(lines)), key=lambda i: (not compounds[i]["definition"], spread[i]))
    chosen = sorted(order[:COUNT])
    text = "".join(lines[i] for i in chosen).encode()
    (FOLDER / "chebi_sample.jsonl.gz").write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
