"""What logs may tell of exceptions and of libraries' records: never the values in them, which may be structures and texts."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import suppress

# Frames of one traceback, the innermost last.
_FRAMES = 40
_LONGEST = 200
_ELLIPSIS = "…"


def exception_text(error: BaseException, messages: bool = False) -> str:
    """Traceback, type and reason of an exception and of its causes; their messages only when asked for."""
    return "\n".join(line.rstrip("\n") for line in _lines(error, messages, set()))


def exception_name(error: BaseException) -> str:
    """The exception's type, with the reason where it has one."""
    name = type(error).__qualname__
    reason = getattr(error, "reason", None)
    return f"{name}({reason})" if reason is not None and type(error).__module__.startswith(("server.", "encoder.", "atomas.")) else name


def record_text(record: logging.LogRecord) -> str:
    """The message of a library's record as its source writes it; of what it is filled with, numbers and types of exceptions alone."""
    template = str(record.msg)
    if record.name == "py.warnings":
        # Place and category of a warning; what follows is its message.
        return ": ".join(template.split(": ", 2)[:2])[:_LONGEST]
    if record.args:
        with suppress(TypeError, ValueError, KeyError):
            template = template % _harmless(record.args)
    # Where a library has filled in its message itself, the first line is a heading of its own, as asyncio's is.
    return template.strip().partition("\n")[0][:_LONGEST]


def _harmless(args: object) -> object:
    if isinstance(args, dict):
        return {name: _shown(value) for name, value in args.items()}
    return tuple(_shown(value) for value in args) if isinstance(args, tuple) else _shown(args)


def _shown(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    return exception_name(value) if isinstance(value, BaseException) else _ELLIPSIS


def _lines(error: BaseException, messages: bool, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _lines(cause, messages, seen)
        yield "after which:"
    if error.__traceback__ is not None:
        yield from traceback.extract_tb(error.__traceback__, limit=-_FRAMES).format()
    yield f"{exception_name(error)}: {error}" if messages else exception_name(error)
    for each in getattr(error, "exceptions", ()):
        if id(each) not in seen:
            yield from _lines(each, messages, seen)
