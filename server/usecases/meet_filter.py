"""Whether a compound that was read from SQL meets a filter: the same rules by which the index judges its copy."""

import math
from collections.abc import Mapping
from uuid import UUID

from server.domain.compounds import JsonValue
from server.domain.filters import NUMBER_TOLERANCE, Among, And, Condition, Filter, FilterValue, Not, Or, Structural


def meets(filter: Filter, id: UUID, fields: Mapping[str, JsonValue]) -> bool:
    """Judges a compound's point id and filterable fields (`index_compounds.fields_of`) by the rules of `server.domain.filters`."""
    match filter:
        case And(parts):
            return all(meets(part, id, fields) for part in parts)
        case Or(parts):
            return any(meets(part, id, fields) for part in parts)
        case Among(ids):
            return id in ids
        case Structural():
            raise TypeError("the structure index answers this question first")
        case Not(part):
            return not meets(part, id, fields)
        case Condition(field, operator, wanted):
            found = fields.get(field)
            values = found if isinstance(found, list) else [found]
            if operator == "!=":
                return not any(_holds(value, "=", wanted) for value in values)
            return any(_holds(value, operator, wanted) for value in values)


def _holds(value: JsonValue, operator: str, wanted: FilterValue) -> bool:
    """Whether one value compares so; values of different kinds never do."""
    if isinstance(wanted, bool | str):
        return type(value) is type(wanted) and value == wanted
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if abs(value - wanted) <= abs(wanted) * NUMBER_TOLERANCE:
        return operator in ("=", "<=", ">=")
    return operator in (("<", "<=") if value < wanted else (">", ">="))
