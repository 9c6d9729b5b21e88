"""Logs and metrics. Structures, query texts and names never reach either."""

import logging
import sys

import structlog
from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("atomas_rpc_calls", "Finished calls", ["method", "code"])
CALL_SECONDS = Histogram(
    "atomas_rpc_seconds", "Duration of calls", ["method"], buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
)
JOBS_WAITING = Gauge("atomas_jobs_waiting", "Background jobs that wait", ["queue"])


def configure_logs(level: str, form: str) -> None:
    """Sends structured log records to stderr, as text for people or as JSON lines."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
