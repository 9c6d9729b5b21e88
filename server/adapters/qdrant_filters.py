"""Filters as the Qdrant engine reads them, in process and over the wire alike."""

import math
import uuid
from collections.abc import Collection, Sequence

from qdrant_client import models

from server.adapters.qdrant_points import LIBRARY, TERMS, number_path, term
from server.domain.errors import AtomasError, Reason
from server.domain.filters import NUMBER_TOLERANCE, Among, And, Condition, Filter, Not, Or, Structural

# Protocol buffers refuse messages nested beyond 100; one level of a filter takes two.
MAX_DEPTH = 40


def engine_filter(
    filter: Filter | None, libraries: Sequence[str] | None = None, only: Collection[uuid.UUID] | None = None
) -> models.Filter | None:
    """The filter within the libraries and among the points `only`; None when everything matches. Raises INVALID_FILTER."""
    parts: list[models.Condition] = []
    if only is not None:
        parts.append(_among(only))
    if libraries is not None:
        parts.append(in_libraries(libraries))
    if filter is not None:
        parts.append(_translated(filter, MAX_DEPTH))
    return models.Filter(must=parts) if parts else None


def _among(ids: Collection[uuid.UUID]) -> models.HasIdCondition:
    # Of our own making, and many: pydantic would look at each of them.
    return models.HasIdCondition.model_construct(has_id=[str(id) for id in ids])


def in_libraries(libraries: Sequence[str]) -> models.FieldCondition:
    """Points of any of the libraries."""
    # One value is compared twice as fast as a set of one.
    match = models.MatchValue(value=libraries[0]) if len(libraries) == 1 else models.MatchAny(any=list(libraries))
    return models.FieldCondition(key=LIBRARY, match=match)


def _translated(filter: Filter, depth: int) -> models.Condition:
    if depth == 0:
        raise AtomasError(Reason.INVALID_FILTER, f"The filter is nested more than {MAX_DEPTH} levels deep. Write it flatter.")
    match filter:
        case Not(part):
            return models.Filter(must_not=[_translated(part, depth - 1)])
        case And(parts):
            return models.Filter(must=[_translated(part, depth - 1) for part in parts])
        case Or(()):
            # An empty `should` lets everything through.
            return models.Filter(must_not=[models.Filter()])
        case Or(parts):
            return models.Filter(should=[_translated(part, depth - 1) for part in parts])
        case Condition(field, "!=", value):
            return models.Filter(must_not=[_condition(Condition(field, "=", value))])
        case Condition():
            return _condition(filter)
        case Among(ids):
            return _among(ids)
        case Structural():
            raise TypeError("the structure index answers this question first")


def _condition(condition: Condition) -> models.FieldCondition:
    value = condition.value
    if isinstance(value, str | bool):
        if condition.operator != "=":
            raise AtomasError(
                Reason.INVALID_FILTER, f"{condition.field} {condition.operator} {value!r}: only numbers have an order; use = or !=."
            )
        return models.FieldCondition(key=TERMS, match=models.MatchValue(value=term(condition.field, value)))
    return models.FieldCondition(key=number_path(condition.field), range=_range(condition))


def _range(condition: Condition) -> models.Range:
    value = float(condition.value)
    if not math.isfinite(value):
        raise AtomasError(Reason.INVALID_FILTER, f"{condition.field} {condition.operator} {value}: compare with a finite number.")
    slack = abs(value) * NUMBER_TOLERANCE
    match condition.operator:
        case "<":
            return models.Range(lt=value - slack)
        case "<=":
            return models.Range(lte=value + slack)
        case ">":
            return models.Range(gt=value + slack)
        case ">=":
            return models.Range(gte=value - slack)
        case _:
            return models.Range(gte=value - slack, lte=value + slack)
