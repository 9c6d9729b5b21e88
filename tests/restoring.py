"""What tests of backups share: the commands as an operator runs them, and what a service answers, to compare."""

import argparse
import os
import subprocess
import sys
from typing import Any

from atomas import Client
from server.backup_commands import add_backup_commands
from server.settings import Settings
from server.upkeep import add_commands
from tests.running import ROOT

QUERIES = ("an alcohol", "steroid hormone", "beta-lactam antibiotic", "caffeine", "C[C@H](N)C(=O)O")
FILTER = 'substructure("CO") AND rings >= 1'

# How rare the engine takes a word to be depends a little on points that were replaced and are not yet cleared away.
NOISE = 2e-3
Answers = dict[str, list[tuple[str, float]]]


def operator(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m server` with these settings and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATOMAS_")}
    environment |= {
        f"ATOMAS_{name.upper()}": value for name, value in {"chemistry_processes": "1", "encoder_threads": "1", **settings}.items()
    }
    command = [sys.executable, "-m", "server", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def operate(*arguments: str, **settings: Any) -> int:
    """As `operator`, in this process; returns the exit code. Raises AtomasError where the command would print it."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    add_commands(commands)
    add_backup_commands(commands)
    options = parser.parse_args(arguments)
    return int(options.run(Settings(**{"chemistry_processes": 1, "encoder_threads": 1, **settings}), options))


def answers(client: Client, library: str) -> Answers:
    """Names and scores of hits for words, a name, a structure, and a filter on structures."""
    found = {query: client.search(query, library=library, limit=10) for query in QUERIES}
    found[FILTER] = client.search(filter=FILTER, library=library, limit=200)
    return {query: [(hit.compound.resource_name, hit.score) for hit in hits] for query, hits in found.items()}


def assert_alike(present: Answers, former: Answers) -> None:
    """The same hits with the same scores, within NOISE."""
    assert present.keys() == former.keys()
    for query, hits in former.items():
        differing = [pair for pair in zip(present[query], hits, strict=True) if abs(pair[0][1] - pair[1][1]) > NOISE]
        assert not differing, f"{query}: {differing}"
        # At the end of a page either of two equals may be the one that has a place.
        beyond = hits[-1][1] + 2 * NOISE if hits else 0.0
        assert {name for name, score in hits if score > beyond} <= {name for name, _ in present[query]}, query


def stored(client: Client, library: str) -> dict[str, tuple[str, ...]]:
    """Every compound with its names and ids."""
    return {c.inchikey: (c.smiles, c.name, *c.source_ids, *c.synonyms) for c in client.compounds(library)}
