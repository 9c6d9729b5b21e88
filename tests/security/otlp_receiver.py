"""A collector of traces on loopback: whatever processes send it over OTLP/gRPC is kept."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer, add_TraceServiceServicer_to_server
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Received(TraceServiceServicer):  # type: ignore[misc, unused-ignore]  # generated code is untyped
    """Spans with the service that sent each."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[ExportTraceServiceRequest] = []

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        self.requests.append(request)
        return ExportTraceServiceResponse()

    def spans(self) -> Sequence[tuple[str, Span]]:
        return [
            (next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name"), span)
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def text(self) -> str:
        """Everything that was sent."""
        return "\n".join(str(request) for request in self.requests)


@contextmanager
def otlp_receiver() -> Iterator[Received]:
    """Receives while the block runs."""
    received, server = Received(), grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None)
