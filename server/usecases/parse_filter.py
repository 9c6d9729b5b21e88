"""Reads filters written in the style of AIP-160 into a tree of conditions."""

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from server.domain.compounds import NUMERIC_DESCRIPTORS, TEXT_DESCRIPTORS
from server.domain.dates import day_of, seconds_of
from server.domain.errors import AtomasError, Reason
from server.domain.filters import And, Condition, Filter, FilterValue, Not, Operator, Or, Structural, StructureQuestion
from server.domain.formulas import hill_order
from server.usecases.filter_fields import PRESENCES

MAX_CHARACTERS = 10_000
MAX_CONDITIONS = 200
# Each of them may look at every structure.
MAX_STRUCTURES = 10
PLAIN_FIELDS = ("id", *NUMERIC_DESCRIPTORS, *TEXT_DESCRIPTORS)
FUNCTIONS = ("substructure", "smarts", "superstructure", "same_skeleton", "similar", "has")

# As in AIP-160, OR binds tighter than AND there; people expect the opposite, so mixing them needs parentheses here.
_GRAMMAR = r"""
    start: disjunction | conjunction | term
    disjunction: term ("OR" term)+
    conjunction: term ("AND" term)+
    ?term: ("NOT" | "-") term -> negation
         | "(" start ")" -> group
         | condition
         | function
    condition: FIELD OPERATOR value
    function: FUNCTION "(" argument ("," argument)* ")"
    ?argument: NUMBER -> number | STRING -> string | FIELD -> field
    ?value: NUMBER -> number | STRING -> string | BOOLEAN -> boolean | WORD -> word
    FUNCTION.3: /[A-Za-z_]+(?=\s*\()(?<!AND)(?<!OR)(?<!NOT)/
    FIELD: /[A-Za-z_][A-Za-z0-9_]*(\.([A-Za-z0-9_-]+|"([^"\\]|\\.)*"))?/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">"
    NUMBER.2: /[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![A-Za-z0-9:_-])/
    BOOLEAN.2: /(true|false)(?![A-Za-z0-9:_-])/
    STRING: /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/
    WORD: /[A-Za-z0-9][A-Za-z0-9:_.+-]*/
    %ignore /\s+/
"""


class _Field(str):
    """An argument that names a field."""


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

    def field(self, parts: list[str]) -> str:
        return _Field(_field_name(parts[0]))

    def condition(self, parts: list[object]) -> Filter:
        return Condition(_field_name(str(parts[0])), cast(Operator, str(parts[1])), cast(FilterValue, parts[2]))

    def function(self, parts: list[object]) -> Filter:
        return _called(str(parts[0]), parts[1:])


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def parse_filter(text: str, metadata_fields: Mapping[str, Collection[str]]) -> Filter | None:
    """The filter's tree, None when it is blank. `metadata_fields` names the fields and the kinds of their values, as libraries know them.

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
    except VisitError as error:
        if isinstance(error.orig_exc, AtomasError):
            raise error.orig_exc from None
        raise _unreadable() from None
    except RecursionError:
        raise _unreadable() from None
    leaves = list(_leaves(tree))
    if len(leaves) > MAX_CONDITIONS:
        raise AtomasError(Reason.INVALID_FILTER, f"The filter has {len(leaves)} conditions; at most {MAX_CONDITIONS} are read.")
    if sum(isinstance(leaf, Structural) for leaf in leaves) > MAX_STRUCTURES:
        raise AtomasError(Reason.INVALID_FILTER, f"The filter asks more than {MAX_STRUCTURES} questions about structures; ask fewer.")
    return _typed(tree, metadata_fields)


def _unquoted(text: str) -> str:
    body = text[1:-1]
    return body.replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")


def _field_name(text: str) -> str:
    prefix, dot, name = text.partition(".")
    return f"{prefix}.{_unquoted(name) if name.startswith(chr(34)) else name}" if dot else prefix


def _unreadable() -> AtomasError:
    return AtomasError(Reason.INVALID_FILTER, "The filter is nested too deeply or holds a number that cannot be read.")


def _syntax_error(text: str, error: UnexpectedInput) -> AtomasError:
    where = getattr(error, "pos_in_stream", None)
    at = (
        "at its end" if where is None or where < 0 or where >= len(text) else f"at character {where + 1}, near {text[where : where + 12]!r}"
    )
    return AtomasError(
        Reason.INVALID_FILTER,
        f'The filter cannot be read {at}. Write conditions such as `molecular_weight < 500 AND (charge = 0 OR metadata.source = "x")` or '
        '`substructure("c1ccncc1")`, structures in quotes; put parentheses where AND and OR meet.',
    )


def _called(name: str, arguments: list[object]) -> Filter:
    """What a function means. Raises INVALID_FILTER for arguments that make no sense, UNKNOWN_FIELD for a function that does not exist."""
    if name not in FUNCTIONS:
        raise AtomasError(
            Reason.UNKNOWN_FIELD, f"No function is called {name[:100]!r}. Known functions: {', '.join(FUNCTIONS)}.", field=name[:100]
        )
    if name == "has":
        if len(arguments) != 1 or not isinstance(arguments[0], _Field):
            raise AtomasError(Reason.INVALID_FILTER, "has(...) takes one field, such as has(texts) or has(metadata.source).")
        return Condition("has", "=", str(arguments[0]))
    structure, *rest = arguments
    if isinstance(structure, _Field) or not isinstance(structure, str):
        raise AtomasError(Reason.INVALID_FILTER, f'{name}(...) takes a structure in quotes, such as {name}("c1ccncc1").')
    if name == "similar":
        threshold = rest[0] if len(rest) == 1 else None
        if not isinstance(threshold, float) or not 0 < threshold <= 1:
            raise AtomasError(
                Reason.INVALID_FILTER, 'similar(...) takes a structure and a least similarity above 0 up to 1: similar("CCO", 0.6).'
            )
        return Structural("similar", structure, threshold)
    if rest:
        raise AtomasError(Reason.INVALID_FILTER, f'{name}(...) takes one structure, such as {name}("c1ccncc1").')
    return Structural(cast(StructureQuestion, name), structure)


def _leaves(tree: Filter) -> Iterator[Filter]:
    match tree:
        case Not(part):
            yield from _leaves(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _leaves(part)
        case leaf:
            yield leaf


def _typed(tree: Filter, metadata_fields: Mapping[str, Collection[str]]) -> Filter:
    """The tree with every condition checked, in the form in which compounds are asked."""
    match tree:
        case Not(part):
            return Not(_typed(part, metadata_fields))
        case And(parts):
            return And(tuple(_typed(part, metadata_fields) for part in parts))
        case Or(parts):
            return Or(tuple(_typed(part, metadata_fields) for part in parts))
        case Condition("has", _, value):
            return _presence(str(value), metadata_fields)
        case Condition():
            return _condition(tree, metadata_fields)
        case leaf:
            return leaf


def _presence(name: str, metadata_fields: Collection[str]) -> Filter:
    if name not in PRESENCES and name.removeprefix("metadata.") not in metadata_fields:
        raise _unknown(name, metadata_fields, [*PRESENCES, *_listed(metadata_fields)])
    return Condition("has", "=", name)


def _condition(condition: Condition, metadata_fields: Mapping[str, Collection[str]]) -> Filter:
    field, value = condition.field, condition.value
    if field in NUMERIC_DESCRIPTORS:
        return Condition(field, condition.operator, _number(field, value))
    if field.startswith("elements."):
        return _element(_symbol(field), condition.operator, _number(field, value))
    if field in ("id", "formula"):
        _equality(condition)
        return Condition(field, condition.operator, hill_order(str(value))) if field == "formula" else condition
    name = field.removeprefix("metadata.")
    if name == field or name not in metadata_fields:
        raise _unknown(field, metadata_fields, [*PLAIN_FIELDS, "elements.SYMBOL", *_listed(metadata_fields)])
    return _metadata(name, condition, frozenset(metadata_fields[name]))


def _number(field: str, value: FilterValue) -> float:
    if isinstance(value, bool) or not isinstance(value, float):
        raise AtomasError(Reason.INVALID_FILTER, f"{field} is a number; compare it with one, not with {value!r}.")
    return value


def _equality(condition: Condition) -> None:
    if condition.operator not in ("=", "!="):
        raise AtomasError(
            Reason.INVALID_FILTER, f"{condition.field} {condition.operator} {condition.value!r}: only numbers have an order; use = or !=."
        )


def _symbol(field: str) -> str:
    symbol = field.removeprefix("elements.")
    if not re.fullmatch("[A-Z][a-z]?", symbol):
        raise AtomasError(
            Reason.UNKNOWN_FIELD, f"{field[:100]!r} names no element. Write its symbol, as in elements.Cl >= 2.", field=field[:100]
        )
    return symbol


def _element(symbol: str, operator: Operator, count: float) -> Filter:
    """Compounds without the element have none of it: they have no count to compare."""
    if operator == "!=":
        return Not(_element(symbol, "=", count))
    counted = Condition(f"elements.{symbol}", operator, count)
    if {"=": count == 0, "<": count > 0, "<=": count >= 0, ">": count < 0, ">=": count <= 0}[operator]:
        return Or((Not(Condition("elements", "=", symbol)), counted))
    # The symbols have an index, the counts of rare elements have none.
    return And((Condition("elements", "=", symbol), counted))


def _metadata(name: str, condition: Condition, kinds: frozenset[str]) -> Filter:
    """By the kinds of the field's values; a field of which no kind is known is compared as the value is written."""
    field, operator, value = condition.field, condition.operator, condition.value
    if isinstance(value, bool):
        _require(field, value, kinds, "boolean", "booleans", "")
        _equality(condition)
        return condition
    if isinstance(value, float):
        hint = f' Write texts in quotes: {field} = "{value:g}".' if "text" in kinds else ""
        _require(field, value, kinds, "number", "numbers", hint)
        return condition
    span = seconds_of(value) if "date" in kinds else None
    if span is not None:
        return _dated(name, operator, *span)
    if operator not in ("=", "!=") and "date" in kinds:
        raise AtomasError(
            Reason.INVALID_FILTER, f"{field} holds dates: compare it with one, such as {field} {operator} 2001-05-03, not with {value!r}."
        )
    _require(field, value, kinds, "text", "texts", "")
    _equality(condition)
    return condition


def _require(field: str, value: FilterValue, kinds: frozenset[str], kind: str, named: str, hint: str) -> None:
    if kinds and kind not in kinds:
        held = " and ".join(sorted(f"{known}s" for known in kinds))
        raise AtomasError(Reason.INVALID_FILTER, f"{field} holds {held}, no {named} such as {value!r}.{hint}")


def _dated(name: str, operator: Operator, start: float, end: float) -> Filter:
    """A date is a span: `<=` reaches its end, `>` begins after it."""
    day, field = end > start, f"date.{name}"
    match operator:
        case "=":
            # Not as two bounds: of several dates one could keep the one and another the other.
            return Condition(f"day.{name}", "=", day_of(start)) if day else Condition(field, "=", start)
        case "!=":
            return Not(_dated(name, "=", start, end))
        case "<=":
            return Condition(field, "<", end) if day else Condition(field, "<=", start)
        case ">":
            return Condition(field, ">=", end) if day else Condition(field, ">", start)
        case _:
            return Condition(field, operator, start)


def _listed(metadata_fields: Collection[str]) -> list[str]:
    return [f"metadata.{name}" for name in sorted(metadata_fields)[:50]]


def _unknown(field: str, metadata_fields: Collection[str], known: list[str]) -> AtomasError:
    return AtomasError(Reason.UNKNOWN_FIELD, f"No field is called {field[:100]!r}. Known fields: {', '.join(known)}.", field=field[:100])
