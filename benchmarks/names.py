"""How often a name finds its compound first in the shipped library: as written, in another spelling, with one letter mistyped.

python -m benchmarks.names [--data-dir FOLDER] [--compounds 0] [--names 1000] [--seed 0]
"""

import argparse
import json
import random
import statistics
import string
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from benchmarks.filled import LIBRARY, add_options, filled_service
from benchmarks.library import lines
from server.domain.errors import AtomasError
from server.domain.search import Query
from server.ports import Ports
from server.usecases.search_compounds import search_many

LIMITS = {"as written": 0.98, "spelled otherwise": 0.98, "one typo": 0.80}
BATCH = 100


def main() -> None:
    """Prints shares of first places; exits with 1 when one is below its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--names", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    unique = unique_synonyms(options.compounds)
    sample = chooser.sample(unique, min(options.names, len(unique)))
    ways: dict[str, Callable[[str], str]] = {
        "as written": str,
        "spelled otherwise": lambda name: respelled(name, chooser),
        "one typo": lambda name: mistyped(name, chooser),
    }
    failed = False
    with filled_service(options) as (ports, _):
        print(f"{len(sample)} synonyms of the {len(unique)} that one compound alone has, seed {options.seed}")
        for way, change in ways.items():
            share, milliseconds, lost = first_places([(change(name), source_id) for name, source_id in sample], ports)
            failed |= share < LIMITS[way]
            print(f"{way:18s} first {share:7.2%} (limit {LIMITS[way]:.0%}), {milliseconds:.1f} ms each; lost: {'; '.join(lost[:5])}")
    sys.exit(failed)


def unique_synonyms(count: int) -> list[tuple[str, str]]:
    """Synonyms, whatever their case, that belong to one structure alone, with an id of it; names under which compounds are shown excluded."""
    owners: dict[str, set[str]] = defaultdict(set)
    spelled: dict[str, tuple[str, str]] = {}
    titles = set()
    for line in lines(count):
        row = json.loads(line)
        titles.add(row["name"].lower())
        for name in (row["name"], *row["synonyms"]):
            owners[name.lower()].add(row["inchikey"])
        for name in row["synonyms"]:
            spelled[name.lower()] = (name, row["id"])
    return [spelled[name] for name in sorted(spelled) if len(owners[name]) == 1 and name not in titles]


def respelled(name: str, chooser: random.Random) -> str:
    """The name in another case, with spaces for hyphens or the other way round."""
    changed = chooser.choice([str.upper, str.lower, str.title])(name)
    return changed.replace("-", " ") if chooser.random() < 0.5 else changed.replace(" ", "-")


def mistyped(name: str, chooser: random.Random) -> str:
    """The name with one letter inserted, dropped, replaced, or swapped with its neighbour."""
    places = [i for i, letter in enumerate(name) if letter.isalpha()]
    if not places:
        return name
    while True:
        at, letter = chooser.choice(places), chooser.choice(string.ascii_lowercase)
        typed = chooser.choice(
            [
                name[:at] + letter + name[at:],
                name[:at] + name[at + 1 :],
                name[:at] + letter + name[at + 1 :],
                name[:at] + name[at : at + 2][::-1] + name[at + 2 :],
            ]
        )
        if typed != name:
            return typed


def first_places(queries: Sequence[tuple[str, str]], ports: Ports) -> tuple[float, float, list[str]]:
    """Share of queries whose compound comes first, median milliseconds of one in a batch, and those that are lost."""
    lost = []
    times = []
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        started = time.perf_counter()
        pages = search_many([(Query(LIBRARY, anything=text, limit=1), "") for text, _ in batch], ports, max_text_characters=20_000)
        times.append((time.perf_counter() - started) / len(batch))
        for (text, source_id), page in zip(batch, pages, strict=True):
            if isinstance(page, AtomasError) or not page.hits or source_id not in page.hits[0].compound.source_ids:
                lost.append(text)
    return 1 - len(lost) / len(queries), statistics.median(times) * 1e3, lost


if __name__ == "__main__":
    main()
