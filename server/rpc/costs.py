"""What a request costs its caller: tokens that the model reads or writes, rows, and one for the call itself, all as units of one bucket."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

# Longer texts are refused by the model anyway; nobody counts their words before.
COUNTED_CHARACTERS = 20_000
_CHARACTERS_PER_TOKEN = 4
# What a candidate of a generation is counted as: about as long as molecules and descriptions are.
CANDIDATE_TOKENS = 64
DEFAULT_CANDIDATES = 20


@dataclass(frozen=True)
class Tokens:
    """How the serving model counts."""

    of_text: Callable[[str], int]
    of_molecule: Callable[[str], int]

    def text(self, text: str) -> int:
        """0 for nothing; an estimate of what lies beyond COUNTED_CHARACTERS."""
        return _counted(text, self.of_text)

    def molecule(self, structure: str) -> int:
        """As `text`, in whatever notation."""
        return _counted(structure, self.of_molecule)


def _counted(text: str, count: Callable[[str], int]) -> int:
    if not text:
        return 0
    return count(text[:COUNTED_CHARACTERS]) + max(0, len(text) - COUNTED_CHARACTERS) // _CHARACTERS_PER_TOKEN


Cost = Callable[[Any, Tokens], int]


def call(request: Any, tokens: Tokens) -> int:
    """A call that asks the model for nothing."""
    return 1


def search(request: Any, tokens: Tokens) -> int:
    """Whatever is asked: words, a structure, or one box of either."""
    return 1 + tokens.text(request.text) + tokens.molecule(request.structure) + tokens.text(getattr(request, "query", ""))


def searches(request: Any, tokens: Tokens) -> int:
    """Each as if it came alone."""
    return 1 + sum(search(each, tokens) for each in request.requests)


def texts(request: Any, tokens: Tokens) -> int:
    """Texts to encode."""
    return 1 + _each(request.texts, tokens.text)


def structures(request: Any, tokens: Tokens) -> int:
    """Structures to encode."""
    return 1 + _each(request.structures, tokens.molecule)


def _each(items: Iterable[str], count: Callable[[str], int]) -> int:
    return sum(1 + count(item) for item in items)


def rows(request: Any, tokens: Tokens) -> int:
    """Rows of an import with what the model will read of each."""
    return 1 + sum(_row(row, tokens) for row in request.rows.rows)


def _row(row: Any, tokens: Tokens) -> int:
    said = [row.display_name, *row.synonyms, *row.descriptions]
    # A molblock has a token an atom or bond, roughly one a line of its own; a SMILES of it would have about as many.
    return 1 + tokens.molecule(row.smiles or row.inchi) + int(row.molblock.count("\n")) + sum(map(tokens.text, said))


def generation(request: Any, tokens: Tokens) -> int:
    """What is read, and what may be written."""
    asked = tokens.text(getattr(request, "text", "")) + tokens.molecule(getattr(request, "structure", ""))
    return 1 + asked + CANDIDATE_TOKENS * max(1, request.count or DEFAULT_CANDIDATES)
