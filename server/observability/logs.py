"""Log records of the service, of its libraries and of its crashes: one form, one record a line, nothing confidential."""

import logging
import sys
import threading
import warnings
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from server.observability.traces import trace_id
from server.observability.withheld import exception_text, record_text

log = structlog.get_logger(__name__)


def configure_logs(level: str, form: str, exception_messages: bool = False) -> None:
    """Sends log records to stderr, as text for people or as JSON lines; libraries' warnings and errors among them.

    Messages of exceptions, which may repeat what callers sent, are left out unless they are asked for.
    """
    lowest = logging.getLevelNamesMapping()[level.upper()]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Exceptions(exception_messages),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Library)]:
        root.removeHandler(handler)
    root.addHandler(_Library())
    # What libraries say below that is about their own workings, and full of what they were given.
    root.setLevel(max(lowest, logging.WARNING))


def report_crashes() -> None:
    """Exceptions that nobody catches, and Python's warnings, are records too, without their messages, instead of lines on stderr with them."""

    def died(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, None)
        else:
            log.critical("the process dies of an exception", exc_info=error)

    def thread_died(args: Any) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            log.error("a thread died of an exception", thread=args.thread.name if args.thread else "", exc_info=args.exc_value)

    def ignored(args: Any) -> None:
        log.error("an exception had nowhere to go", exc_info=args.exc_value)

    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        log.warning("Python warns", category=category.__name__, place=f"{filename}:{lineno}")

    sys.excepthook, threading.excepthook, sys.unraisablehook = died, thread_died, ignored
    warnings.showwarning = warned


class _Library(logging.Handler):
    """Hands records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log.log(record.levelno, record_text(record), logger=record.name, exc_info=error)


class _Exceptions:
    """Puts what may be told of `exc_info` under `exception`."""

    def __init__(self, messages: bool) -> None:
        self._messages = messages

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        given = event.pop("exc_info", None)
        error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
        if error is not None:
            event["exception"] = exception_text(error, self._messages)
        return event


def _add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if found := trace_id():
        event["trace_id"] = found
    return event
