"""A filter as a tree of conditions, independent of how it was written and of who evaluates it.

- A condition compares values of its own kind: numbers with numbers, texts with texts, booleans with booleans. Texts are compared exactly.
- A field with several values meets a condition when any of them does; a missing field, or one of another kind, meets none.
- `Not` is met by whatever does not meet its part, so it includes compounds that lack the field; `a != v` means `Not(a = v)`.
- Only numbers have an order. Numbers closer than NUMBER_TOLERANCE, relative to the condition's value, are equal.
- A question about structures is answered by the structure index first: whoever evaluates a filter meets `Among` in its place.
"""

import uuid
from dataclasses import dataclass
from typing import Literal, TypeAlias

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
FilterValue: TypeAlias = str | float | bool
StructureQuestion: TypeAlias = Literal["substructure", "smarts", "superstructure", "same_skeleton", "similar"]

# Stores may change a number's last bit (2e-16). Far above that, and far below what tells masses or eleven-digit identifiers apart.
NUMBER_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Condition:
    """`field operator value`. Fields: a descriptor, `id`, `elements`, `elements.SYMBOL`, `has`, `metadata.NAME`, or `date.NAME` and `day.NAME`
    for the dates among metadata."""

    field: str
    operator: Operator
    value: FilterValue


@dataclass(frozen=True)
class Structural:
    """A question about the structure, not answered yet."""

    question: StructureQuestion
    # As it was written: a pattern for `substructure` and `smarts`, a molecule for the others.
    structure: str
    # Least Tanimoto similarity; of `similar` alone.
    threshold: float = 0.0


@dataclass(frozen=True)
class Among:
    """One of these points: the answer to a question about structures."""

    ids: frozenset[uuid.UUID]


@dataclass(frozen=True)
class And:
    """All parts are met; true without any."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """At least one part is met; false without any."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part is not met."""

    part: "Filter"


Filter: TypeAlias = Condition | Structural | Among | And | Or | Not
