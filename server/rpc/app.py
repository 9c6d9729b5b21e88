"""The gRPC server: services, health, reflection, limits."""

from collections.abc import Sequence
from typing import Any

import structlog
from google.longrunning.operations_pb2_grpc import add_OperationsServicer_to_server
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from atomas.v1 import (
    access_service_pb2,
    embedding_service_pb2,
    library_service_pb2,
    model_service_pb2,
    search_service_pb2,
    structure_service_pb2,
)
from atomas.v1.access_service_pb2_grpc import add_AccessServiceServicer_to_server
from atomas.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from atomas.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from atomas.v1.library_service_pb2_grpc import add_LibraryServiceServicer_to_server
from atomas.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from atomas.v1.search_service_pb2_grpc import add_SearchServiceServicer_to_server
from atomas.v1.structure_service_pb2_grpc import add_StructureServiceServicer_to_server
from server.domain.errors import AtomasError, Reason
from server.ports import Ports, Trust
from server.rpc.access_servicer import AccessServicer
from server.rpc.auditing import open_auditor
from server.rpc.authentication import Gate
from server.rpc.calls import Calls
from server.rpc.certificates import Certificates
from server.rpc.costs import Tokens
from server.rpc.exposure import require_protection
from server.rpc.generation_servicer import SERVICE_NAME as GENERATION_SERVICE
from server.rpc.generation_servicer import GenerationServicer
from server.rpc.interceptors import CallInterceptor
from server.rpc.library_servicer import LibraryServicer
from server.rpc.limits import CallLimits
from server.rpc.methods import MethodTable
from server.rpc.model_servicer import EmbeddingServicer, ModelServicer
from server.rpc.operations_servicer import OperationsServicer
from server.rpc.search_servicer import SearchServicer
from server.rpc.structure_servicer import StructureServicer
from server.rpc.watching import Watch
from server.settings import Settings

log = structlog.get_logger(__name__)
MAX_PENDING_CALLS = 10_000
SERVICES: Sequence[str] = (
    library_service_pb2.DESCRIPTOR.services_by_name["LibraryService"].full_name,
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name,
    embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    structure_service_pb2.DESCRIPTOR.services_by_name["StructureService"].full_name,
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
    GENERATION_SERVICE,
    "google.longrunning.Operations",
)


class App:
    """The service on a port: `start` to serve, `stop` to drain."""

    def __init__(self, ports: Ports, settings: Settings, trust: Trust) -> None:
        self._settings = settings
        limits = CallLimits(settings.max_calls, settings.caller_calls, settings.caller_units_per_second, settings.caller_units_reserve)
        self.gate = Gate(ports.database, trust, limits, Tokens(ports.encoder.text_tokens, ports.encoder.molecule_tokens))
        self._auditor = open_auditor(settings)
        watch = Watch(self._auditor)
        self._calls = Calls(settings.request_threads, settings.request_queue)
        self._health = health.aio.HealthServicer()
        self._server = aio.server(
            interceptors=[CallInterceptor(ports.models, watch)],
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                # Two servers must never share a port: half of the calls would reach the wrong one.
                ("grpc.so_reuseport", 0),
                # Clients ping every minute during quiet calls; by default that counts as abuse.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
                # gRPC itself cancels new calls by chance from 1,000 that wait to be taken on: under a flood they shall be refused with a reason.
                ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING_CALLS),
            ],
        )
        # Every service is added to gRPC through the table, from which the HTTP gateway calls.
        self.methods = MethodTable(self._server, ports.models, self.gate.guarded, watch)
        services: Any = self.methods
        add_LibraryServiceServicer_to_server(LibraryServicer(ports, self._calls, settings), services)
        add_SearchServiceServicer_to_server(SearchServicer(ports, self._calls, settings), services)
        add_StructureServiceServicer_to_server(StructureServicer(ports, self._calls), services)
        add_EmbeddingServiceServicer_to_server(EmbeddingServicer(ports, self._calls, settings), services)
        add_ModelServiceServicer_to_server(ModelServicer(ports, self._calls), services)
        add_AccessServiceServicer_to_server(AccessServicer(ports.database, trust.hashes, self._calls), services)
        add_GenerationServiceServicer_to_server(GenerationServicer(ports, self._calls, settings), services)
        add_OperationsServicer_to_server(OperationsServicer(ports, self._calls), services)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self) -> int:
        """Binds, serves, reports SERVING; returns the port. Raises INVALID_ARGUMENT when the address cannot be taken or is not protected."""
        require_protection(self._settings)
        certificates = Certificates.of(self._settings)
        try:
            port = (
                self._server.add_secure_port(self._settings.listen, certificates.grpc_credentials())
                if certificates
                else self._server.add_insecure_port(self._settings.listen)
            )
        except RuntimeError:
            port = 0
        if not port:
            raise AtomasError(
                Reason.INVALID_ARGUMENT,
                f"Cannot listen on {self._settings.listen}: another program has the port, or the address is not of this machine. "
                "Set ATOMAS_LISTEN to a free one, such as 127.0.0.1:50052.",
            )
        await self._server.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self) -> None:
        """Reports NOT_SERVING, refuses new calls, lets running ones end within the grace period."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.shutdown_seconds)
        self._calls.close()
        self.gate.close()
        if self._auditor is not None:
            self._auditor.close()

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self._server.wait_for_termination()
