"""Dates in metadata: which texts are dates, and which instants a date means."""

import re
from datetime import UTC, datetime, timedelta

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?")


def seconds_of(text: str) -> tuple[float, float] | None:
    """First second of what an ISO 8601 date or time means, and the first one after it, as Unix time; None for any other text.

    A date means its whole day, a time its instant. Without an offset both are UTC.
    """
    whole_day = _DATE.fullmatch(text) is not None
    if not whole_day and _INSTANT.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        start = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return start, start + timedelta(days=1).total_seconds() if whole_day else start


def day_of(seconds: float) -> int:
    """The day in UTC of a Unix time, counted from 1970-01-01."""
    return int(seconds // 86_400)
