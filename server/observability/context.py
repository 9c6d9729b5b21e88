"""For whom work is done: the request's id and the trace, carried along with jobs and questions to other threads and processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from server.observability.traces import Attribute, inject, span

# In the headers of messages.
REQUEST_ID = "atomas_request_id"
CARRIED = (REQUEST_ID, "traceparent", "tracestate")


def carried() -> dict[str, str]:
    """What goes along with work that is sent on from here; empty outside of calls."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    headers = {REQUEST_ID: str(request_id)} if request_id else {}
    inject(headers)
    return headers


@contextmanager
def working_for(carrier: Mapping[str, str], name: str, **facts: Attribute) -> Iterator[None]:
    """The block does work that was sent with `carrier`: its log records bear the request's id and the facts, its span belongs to the trace."""
    known = {"request_id": carrier[REQUEST_ID]} if carrier.get(REQUEST_ID) else {}
    with structlog.contextvars.bound_contextvars(**known, **facts), span(name, carrier, **facts):
        yield
