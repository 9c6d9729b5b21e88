"""Logs as they were, after a test that configured them as a process does."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logs_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, former = list(root.handlers), root.level, structlog.get_config()
    hooks, warn = (sys.excepthook, threading.excepthook, sys.unraisablehook), warnings.showwarning
    structlog.contextvars.clear_contextvars()
    yield
    structlog.configure(**former)
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    warnings.showwarning = warn
