"""Words that must be nowhere in what the service says of itself: planted ones, and the compounds of the shipped sample that tests import."""

import gzip
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# An isotope that no other test uses, words that are in no other text, and an InChIKey whose hash anybody can compute.
SMILES, TEXT, NAME, METADATA = "[14CH3]C([2H])CCCCCl", "zanzibarite", "quagmirine", "hushvalue"
BROKEN, SMARTS = "C1CC(quagmirine", "[14#6]~[#17]"
PLANTED = ("14CH3", "14#6", TEXT, NAME, METADATA)
SAMPLE = Path(__file__).parents[1] / "data" / "chebi_sample.jsonl.gz"
# Most tests import the first few hundred rows.
_ROWS, _SHORTEST = 400, 12


@cache
def forbidden() -> frozenset[str]:
    """All of them, in small letters."""
    found = {word.lower() for word in PLANTED}
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        for line, _ in zip(lines, range(_ROWS), strict=False):
            row = json.loads(line)
            said = (row["name"], row["smiles"], row["inchikey"], row["definition"], *row["synonyms"])
            found.update(each.lower() for each in said if each and len(each) >= _SHORTEST)
    return frozenset(found)


def leaks(text: str) -> list[str]:
    """The lines that hold something they must not."""
    lower = text.lower()
    words = [word for word in forbidden() if word in lower]
    return [line for line in lower.splitlines() if any(word in line for word in words)] if words else []


def assert_silent(where: str, text: str) -> None:
    """For whatever `where` said."""
    found = leaks(text)
    assert not found, f"{where} tells what is confidential: {found[0][:500]}"


def assert_confidential(logs: Iterable[Path]) -> None:
    """For logs of processes, by whoever started them."""
    for log in logs:
        if log.exists():
            assert_silent(log.name, log.read_text(errors="replace"))
