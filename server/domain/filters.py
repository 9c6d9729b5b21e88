"""A filter as a tree of conditions, independent of how it was written and of who evaluates it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
FilterValue: TypeAlias = str | float | bool
Filter: TypeAlias = "Condition | And | Or | Not"


@dataclass(frozen=True)
class Condition:
    """`field operator value`. Fields: a descriptor, `id`, or `metadata.NAME`. A missing field meets no condition."""

    field: str
    operator: Operator
    value: FilterValue


@dataclass(frozen=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    part: Filter
