"""Molecular formulas as counts of elements, and in Hill order."""

import re
from collections import Counter
from collections.abc import Mapping

_PART = re.compile(r"([A-Z][a-z]?)(\d*)")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")


def element_counts(formula: str) -> Mapping[str, int]:
    """Atoms of each element; empty for a text that is no formula."""
    counts: Counter[str] = Counter()
    if _FORMULA.fullmatch(formula):
        for symbol, count in _PART.findall(formula):
            counts[symbol] += int(count or 1)
    return counts


def hill_order(formula: str) -> str:
    """The formula with carbon and hydrogen first, then by symbol; a text that is no formula stays as it is."""
    counts = element_counts(formula)
    leading = [symbol for symbol in ("C", "H") if "C" in counts and symbol in counts]
    rest = sorted(symbol for symbol in counts if symbol not in leading)
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in (*leading, *rest)) or formula
