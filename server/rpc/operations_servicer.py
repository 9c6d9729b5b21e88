"""google.longrunning.Operations over the service's own operations."""

import asyncio
from typing import Any

from google.longrunning import operations_pb2 as pb
from google.longrunning.operations_pb2_grpc import OperationsServicer as OperationsBase
from google.protobuf.empty_pb2 import Empty

from server.domain.access import Level
from server.domain.errors import AtomasError, Reason
from server.domain.generation import is_generation
from server.ports import Ports
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.generation_servicer import GenerationOperations
from server.rpc.model_messages import fill_message
from server.rpc.paging import page_size
from server.usecases import reindex_compounds, track_operations
from server.usecases.authorise import may, require_operation, visible_operations

# Who waits is told soon of what ends soon; who waits long does not keep the database busy.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.1, 1.0
MAX_WAIT_SECONDS = 60.0


class OperationsServicer(OperationsBase):  # type: ignore[misc, unused-ignore]  # generated without types
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls) -> None:
        self._ports = ports
        self._calls = calls
        self._generations = GenerationOperations(ports, calls)

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Any) -> pb.ListOperationsResponse:
        """Newest first. Filters are not offered."""
        if request.filter:
            raise AtomasError(Reason.INVALID_FILTER, "Operations cannot be filtered: leave `filter` empty.")
        scope = page_tokens.scope_of(request)
        size = page_size(request.page_size, 50)
        before = page_tokens.decode(request.page_token, scope)
        # Fills under way come first; what became of former ones is told by the models.
        fills = (
            [] if before or not may(Level.READ) else (await self._calls.run(reindex_compounds.running_reindexes, self._ports))[: size - 1]
        )
        size -= len(fills)
        # Generations that are done are told of by their names alone, and forgotten after a week.
        generations = [] if before else (await self._generations.running(size - 1))[: size - 1]
        size -= len(generations)
        found = await self._calls.run(visible_operations, before, size + 1, self._ports)
        return pb.ListOperationsResponse(
            operations=[*map(fill_message, fills), *generations, *map(convert.operation_message, found[:size])],
            next_page_token=page_tokens.encode(found[size - 1].id, scope) if len(found) > size else "",
        )

    async def GetOperation(self, request: pb.GetOperationRequest, context: Any) -> pb.Operation:
        return await self._get(request.name)

    async def _get(self, name: str) -> pb.Operation:
        operation = names.operation_id(name)
        if is_generation(operation):
            return await self._generations.get(operation)
        await self._calls.run(require_operation, operation, Level.READ, self._ports)
        if reindex_compounds.is_reindex(operation):
            return fill_message(await self._calls.run(reindex_compounds.get_reindex, operation, self._ports))
        return convert.operation_message(await self._calls.run(track_operations.get_operation, operation, self._ports))

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Any) -> pb.Operation:
        """Returns when the operation is done or the time is up, whichever comes first."""
        asked = max(0, request.timeout.seconds) + request.timeout.nanos / 1e9 if request.HasField("timeout") else MAX_WAIT_SECONDS
        loop = asyncio.get_running_loop()
        end = loop.time() + min(asked, MAX_WAIT_SECONDS, (context.time_remaining() or MAX_WAIT_SECONDS) - FIRST_POLL_SECONDS)
        pause = FIRST_POLL_SECONDS
        while True:
            operation = await self._get(request.name)
            if operation.done or loop.time() >= end:
                return operation
            await asyncio.sleep(max(0.0, min(pause, end - loop.time())))
            pause = min(LAST_POLL_SECONDS, pause * 1.3)

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Any) -> Empty:
        operation = names.operation_id(request.name)
        if is_generation(operation):
            await self._generations.cancel(operation)
            return Empty()
        is_reindex = reindex_compounds.is_reindex(operation)
        await self._calls.run(require_operation, operation, Level.ADMIN if is_reindex else Level.WRITE, self._ports)
        if is_reindex:
            await self._calls.run(reindex_compounds.cancel_reindex, operation, self._ports)
        else:
            await self._calls.run(track_operations.cancel_operation, operation, self._ports)
        return Empty()

    async def DeleteOperation(self, request: pb.DeleteOperationRequest, context: Any) -> Empty:
        raise AtomasError(Reason.INVALID_ARGUMENT, "Operations are kept as the record of what was imported; cancel one to stop it.")
