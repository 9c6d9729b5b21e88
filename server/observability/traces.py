"""Traces by OpenTelemetry: spans of calls, stages and jobs, connected through message headers. Costs nothing until it is started.

Attributes are numbers and names of our own; exceptions are told by their type.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any

from server.observability.withheld import exception_name

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Attribute = str | int | float | bool

# A collector that is away holds up nobody, and a stop not for long.
_EXPORT_SECONDS = 3.0

_tracer: "Tracer | None" = None


def start_tracing(endpoint: str, ratio: float, service: str) -> Callable[[], None]:
    """Sends a share of all traces to an OTLP/gRPC endpoint, such as http://127.0.0.1:4317; returns what sends the rest and stops."""
    # Whoever traces nothing must not pay for the libraries.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(resource=Resource.create({"service.name": service}), sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"), timeout=_EXPORT_SECONDS))
    )
    trace_with(provider)

    def stop() -> None:
        trace_with(None)
        provider.shutdown()

    return stop


def trace_with(provider: "TracerProvider | None") -> None:
    """From now on spans go to this provider; None stops tracing."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("atomas")


def tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


def trace_id() -> str:
    """Of the present span, as 32 hexadecimal digits; empty outside of any."""
    if _tracer is None:
        return ""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


@contextmanager
def span(name: str, carrier: Mapping[str, str] | None = None, **attributes: Attribute) -> Iterator[None]:
    """A span for the block, below the present one, or below that of the process or thread that `carrier` comes from."""
    if _tracer is None:
        yield
        return
    parent = None if carrier is None else _extracted(carrier)
    with _tracer.start_as_current_span(
        name, context=parent, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield
        except BaseException as error:
            _fail(opened, exception_name(error))
            raise


def inject(carrier: MutableMapping[str, str]) -> None:
    """Adds W3C `traceparent` and `tracestate` of the present span."""
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)


def mark_failed(what: str) -> None:
    """The present span did not do what it should."""
    if _tracer is not None:
        from opentelemetry import trace

        _fail(trace.get_current_span(), what)


def past_span(name: str, contexts: list[Context], seconds: float, **attributes: Attribute) -> None:
    """A span that has just ended and served several callers: below the first one's span, linked to the others'."""
    if _tracer is None or not contexts:
        return
    import time

    from opentelemetry import trace

    spans = [context.run(trace.get_current_span) for context in contexts]
    end = time.time_ns()
    opened = _tracer.start_span(
        name,
        context=trace.set_span_in_context(spans[0]),
        links=[trace.Link(each.get_span_context()) for each in spans[1:]],
        start_time=end - int(seconds * 1e9),
        attributes=attributes,
    )
    opened.end(end)


class CallSpan:
    """The span of one call of the edge. Begin and end may lie in different tasks, as those of streamed answers do."""

    def __init__(self, service: str, method: str, carrier: Mapping[str, str]) -> None:
        self._span: Span | None = None
        if _tracer is None:
            return
        from opentelemetry import context, trace

        self._former: Any = context.get_current()
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        self._span = _tracer.start_span(
            f"{service}/{method}", context=_extracted(carrier), kind=trace.SpanKind.SERVER, attributes=attributes
        )
        context.attach(trace.set_span_in_context(self._span))

    def end(self, code: int, name: str) -> None:
        """With a gRPC status code and its name."""
        if self._span is None:
            return
        from opentelemetry import context

        self._span.set_attribute("rpc.grpc.status_code", code)
        if code:
            _fail(self._span, name)
        self._span.end()
        # Not detached, which would only work in the task of the beginning.
        context.attach(self._former)


def _extracted(carrier: Mapping[str, str]) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _fail(opened: "Span", what: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    opened.set_attribute("error.type", what)
    opened.set_status(Status(StatusCode.ERROR))
