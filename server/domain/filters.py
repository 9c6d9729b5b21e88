"""A filter as a tree of conditions, independent of how it was written and of who evaluates it.

- A condition compares values of its own kind: numbers with numbers, texts with texts, booleans with booleans. Texts are compared exactly.
- A field with several values meets a condition when any of them does; a missing field, or one of another kind, meets none.
- `Not` is met by whatever does not meet its part, so it includes compounds that lack the field; `a != v` means `Not(a = v)`.
- Only numbers have an order. Numbers closer than NUMBER_TOLERANCE, relative to the condition's value, are equal.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
FilterValue: TypeAlias = str | float | bool

# Stores may change a number's last bit (2e-16). Far above that, and far below what tells masses or eleven-digit identifiers apart.
NUMBER_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Condition:
    """`field operator value`. Fields: a descriptor, `id`, or `metadata.NAME`."""

    field: str
    operator: Operator
    value: FilterValue


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


Filter: TypeAlias = Condition | And | Or | Not
