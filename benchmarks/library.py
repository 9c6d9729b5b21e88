"""The shipped library as benchmark input."""

import gzip
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"


def lines(count: int) -> list[str]:
    """The first `count` rows of the shipped ChEBI library, all of them for 0."""
    with gzip.open(DATA / "chebi.jsonl.gz", "rt", encoding="utf-8") as source:
        return [line for i, line in enumerate(source) if not count or i < count]


@contextmanager
def shipped_library(count: int) -> Iterator[Path]:
    """A JSON Lines file with the first `count` compounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.jsonl"
        path.write_text("".join(lines(count)), encoding="utf-8")
        yield path


def queries(count: int) -> list[str]:
    """Texts as people ask: definitions, classes and roles of real compounds."""
    found = []
    for line in lines(0):
        compound = json.loads(line)
        if compound["definition"]:
            found.append(compound["definition"][:300])
        elif compound["roles"] and compound["parents"]:
            found.append(f"{compound['parents'][0]} with the role of {compound['roles'][0]}")
    step = max(1, len(found) // count)
    return found[::step][:count]
