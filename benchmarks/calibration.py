"""How often `no_good_match` is said of meaningful queries, and how often it is not said of meaningless ones, on the shipped library.

python -m benchmarks.calibration [--data-dir FOLDER] [--compounds 0] [--queries 400] [--seed 7]
"""

import argparse
import csv
import json
import random
from collections.abc import Sequence

from benchmarks.filled import LIBRARY, add_options, filled_service
from benchmarks.library import DATA, lines
from server.domain.errors import AtomasError
from server.domain.search import Query
from server.ports import Ports
from server.usecases.judge_match import MatchJudge, word_salads
from server.usecases.search_compounds import search_many

OUT_OF_DOMAIN = (
    "The committee will meet next Tuesday to discuss the budget.",
    "How do I reset my password?",
    "The striker scored twice in the second half of the final.",
    "Best pizza restaurants near the train station",
    "She walked along the beach and watched the sunset.",
    "The central bank raised interest rates by a quarter point.",
    "My cat refuses to eat in the morning.",
    "Book a flight from Berlin to Lisbon in June",
    "The orchestra played a symphony by Mahler.",
    "Please forward the invoice to the accounting department.",
    "asdf qwer zxcv",
    "lorem ipsum dolor sit amet consectetur",
    "what is the meaning of life",
    "the quick brown fox jumps over the lazy dog",
    "he fixed the brakes of an old bicycle",
    "Der Hund schläft unter dem Tisch",
    "La voiture rouge est garée devant la mairie",
    "今日は天気がいいですね",
    "Где находится ближайшая библиотека?",
    "💊💊💊",
)


def main() -> None:
    """Prints both rates by kind of query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--queries", type=int, default=400, help="of each kind")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with filled_service(options) as (ports, _):
        judge = MatchJudge(ports)
        judge.refresh()
        kinds: dict[str, tuple[bool, Sequence[str]]] = {
            "validation descriptions": (True, descriptions(options.queries)),
            "short chemist's queries": (True, short_queries(options.queries, options.seed, options.compounds)),
            "word salad": (False, word_salads(options.seed, options.queries)),
            "out of domain": (False, OUT_OF_DOMAIN),
        }
        for name, (meaningful, texts) in kinds.items():
            said = bad_matches(texts, ports, judge)
            wrong = said if meaningful else [text for text in texts if text not in set(said)]
            print(
                f"{name:24s} {'false alarms' if meaningful else 'misses':12s} {len(wrong) / len(texts):7.2%} of {len(texts)}; {wrong[:4]}"
            )


def descriptions(count: int) -> list[str]:
    """The first descriptions of the validation split."""
    with (DATA / "chebi20" / "validation.tsv").open(encoding="utf-8") as file:
        return [row["description"] for row in csv.DictReader(file, delimiter="\t")][:count]


def short_queries(count: int, seed: int, compounds: int) -> list[str]:
    """Classes and roles of compounds, alone and together, as people type them."""
    chooser = random.Random(seed)
    found = []
    for line in lines(compounds):
        row = json.loads(line)
        if row["roles"] and row["parents"]:
            role, parent = chooser.choice(row["roles"]), chooser.choice(row["parents"])
            found.append(chooser.choice([parent, role, f"{parent} with the role of {role}", f"{role} {parent}"]))
    return chooser.sample(found, min(count, len(found)))


def bad_matches(texts: Sequence[str], ports: Ports, judge: MatchJudge) -> list[str]:
    """The texts of which it is said."""
    pages = search_many([(Query(LIBRARY, text=text, limit=1), "") for text in texts], ports, max_text_characters=20_000, judge=judge)
    return [text for text, page in zip(texts, pages, strict=True) if isinstance(page, AtomasError) or page.no_good_match]


if __name__ == "__main__":
    main()
