"""Reads filters written in the style of AIP-160 into a tree of conditions."""

import functools
from collections.abc import Collection, Iterator
from typing import cast

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from server.domain.compounds import NUMERIC_DESCRIPTORS, TEXT_DESCRIPTORS
from server.domain.errors import AtomasError, Reason
from server.domain.filters import And, Condition, Filter, FilterValue, Not, Operator, Or

MAX_CHARACTERS = 10_000
MAX_CONDITIONS = 200
PLAIN_FIELDS = ("id", *NUMERIC_DESCRIPTORS, *TEXT_DESCRIPTORS)

# As in AIP-160, OR binds tighter than AND there; people expect the opposite, so mixing them needs parentheses here.
_GRAMMAR = r"""
    start: disjunction | conjunction | term
    disjunction: term ("OR" term)+
    conjunction: term ("AND" term)+
    ?term: ("NOT" | "-") term -> negation
         | "(" start ")" -> group
         | condition
    condition: FIELD OPERATOR value
    ?value: NUMBER -> number | STRING -> string | BOOLEAN -> boolean | WORD -> word
    FIELD: /[A-Za-z_][A-Za-z0-9_]*(\.([A-Za-z0-9_-]+|"([^"\\]|\\.)*"))?/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">"
    NUMBER.2: /[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![A-Za-z0-9:_-])/
    BOOLEAN.2: /(true|false)(?![A-Za-z0-9:_-])/
    STRING: /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/
    WORD: /[A-Za-z0-9][A-Za-z0-9:_.+-]*/
    %ignore /\s+/
"""


class _Tree(Transformer[Token, Filter]):
    """Builds the domain's tree from lark's."""

    def start(self, parts: list[Filter]) -> Filter:
        return parts[0]

    group = start

    def disjunction(self, parts: list[Filter]) -> Filter:
        return Or(tuple(parts))

    def conjunction(self, parts: list[Filter]) -> Filter:
        return And(tuple(parts))

    def negation(self, parts: list[Filter]) -> Filter:
        return Not(parts[0])

    def number(self, parts: list[str]) -> float:
        return float(parts[0])

    def string(self, parts: list[str]) -> str:
        return _unquoted(parts[0])

    def boolean(self, parts: list[str]) -> bool:
        return parts[0] == "true"

    def word(self, parts: list[str]) -> str:
        return str(parts[0])

    def condition(self, parts: list[object]) -> Filter:
        prefix, dot, name = str(parts[0]).partition(".")
        field = f"{prefix}.{_unquoted(name) if name.startswith(chr(34)) else name}" if dot else prefix
        return Condition(field, cast(Operator, str(parts[1])), cast(FilterValue, parts[2]))


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def parse_filter(text: str, metadata_fields: Collection[str]) -> Filter | None:
    """The filter's tree, None when it is blank.

    Raises INVALID_FILTER for bad syntax or a value of the wrong kind, UNKNOWN_FIELD for a field that no compound has.
    """
    if not text.strip():
        return None
    if len(text) > MAX_CHARACTERS:
        raise AtomasError(Reason.INVALID_FILTER, f"The filter has {len(text)} characters; at most {MAX_CHARACTERS} are read.")
    try:
        tree = _Tree().transform(_parser().parse(text))
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from None
    except (VisitError, RecursionError):
        raise AtomasError(Reason.INVALID_FILTER, "The filter is nested too deeply or holds a number that cannot be read.") from None
    conditions = list(_conditions(tree))
    if len(conditions) > MAX_CONDITIONS:
        raise AtomasError(Reason.INVALID_FILTER, f"The filter has {len(conditions)} conditions; at most {MAX_CONDITIONS} are read.")
    for condition in conditions:
        _check(condition, metadata_fields)
    return tree


def _unquoted(text: str) -> str:
    body = text[1:-1]
    return body.replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")


def _syntax_error(text: str, error: UnexpectedInput) -> AtomasError:
    where = getattr(error, "pos_in_stream", None)
    at = (
        "at its end" if where is None or where < 0 or where >= len(text) else f"at character {where + 1}, near {text[where : where + 12]!r}"
    )
    return AtomasError(
        Reason.INVALID_FILTER,
        f'The filter cannot be read {at}. Write conditions such as `molecular_weight < 500 AND (charge = 0 OR metadata.source = "x")`; '
        "put parentheses where AND and OR meet.",
    )


def _conditions(tree: Filter) -> Iterator[Condition]:
    match tree:
        case Condition():
            yield tree
        case Not(part):
            yield from _conditions(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _conditions(part)


def _check(condition: Condition, metadata_fields: Collection[str]) -> None:
    field, value = condition.field, condition.value
    if field in NUMERIC_DESCRIPTORS:
        if isinstance(value, bool) or not isinstance(value, float):
            raise AtomasError(Reason.INVALID_FILTER, f"{field} is a number; compare it with one, not with {value!r}.")
        return
    if field in ("id", *TEXT_DESCRIPTORS) or (field.startswith("metadata.") and field.removeprefix("metadata.") in metadata_fields):
        if condition.operator not in ("=", "!=") and not (
            field.startswith("metadata.") and isinstance(value, float) and not isinstance(value, bool)
        ):
            raise AtomasError(Reason.INVALID_FILTER, f"{field} {condition.operator} {value!r}: only numbers have an order; use = or !=.")
        return
    known = ", ".join([*PLAIN_FIELDS, *(f"metadata.{name}" for name in sorted(metadata_fields)[:50])])
    raise AtomasError(Reason.UNKNOWN_FIELD, f"No field is called {field[:100]!r}. Known fields: {known}.", field=field[:100])
