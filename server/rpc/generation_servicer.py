"""GenerationService: new molecules from words and words for molecules, as operations that can be watched."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from google.longrunning import operations_pb2

from atomas.v1 import generation_service_pb2 as pb
from atomas.v1.generation_service_pb2_grpc import GenerationServiceServicer
from server.domain.access import EVERY_LIBRARY, Level, denied
from server.domain.errors import AtomasError, Reason
from server.domain.generation import Candidate, Finding, Generation, GenerationRequest, Task, is_generation
from server.ports import Ports
from server.rpc import names
from server.rpc.calls import Calls
from server.rpc.generation_messages import candidate_message, description_message, generation_message, metadata_message
from server.settings import Settings
from server.usecases.authorise import may, visible_libraries
from server.usecases.describe_structure import start_description
from server.usecases.generate_molecules import start_molecules
from server.usecases.run_generation import cancel_generation, get_generation, running_generations, watch_generation

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["GenerationService"].full_name
WATCH_SECONDS = 0.2


class GenerationServicer(GenerationServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls, settings: Settings) -> None:
        self._ports = ports
        self._calls = calls
        self._settings = settings

    async def GenerateMolecules(self, request: pb.GenerateMoleculesRequest, context: Any) -> operations_pb2.Operation:
        asked = GenerationRequest(
            Task.MOLECULES,
            request.text,
            await self._libraries(request.parent),
            request.count,
            request.seed,
            self._ports.models.serving(),
            self._settings.generation_seconds,
            request.filter,
            request.max_attempts,
            request.keep_order,
            request.ignore_library,
        )
        started = await self._calls.run(start_molecules, asked, self._ports, self._settings.max_text_characters)
        return generation_message(started, [])

    async def DescribeStructure(self, request: pb.DescribeStructureRequest, context: Any) -> operations_pb2.Operation:
        molecule = request.WhichOneof("molecule")
        if molecule is None:
            raise AtomasError(Reason.EMPTY, "Nothing is to be described: give a structure or a stored compound.")
        asked = GenerationRequest(
            Task.DESCRIPTIONS,
            request.structure,
            await self._libraries(request.parent),
            request.count,
            request.seed,
            self._ports.models.serving(),
            self._settings.generation_seconds,
            ignore_library=request.ignore_library,
        )
        compound = names.compound_ids(request.compound) if molecule == "compound" else None
        return generation_message(await self._calls.run(start_description, asked, compound, self._ports), [])

    async def WatchGeneration(self, request: pb.WatchGenerationRequest, context: Any) -> AsyncIterator[pb.WatchGenerationResponse]:
        operation = names.operation_id(request.operation)
        if not is_generation(operation):
            if not may(Level.READ, EVERY_LIBRARY):
                raise denied()
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"{request.operation[:200]!r} is not a generation.", operation=operation[:200])
        seen = 0
        while True:
            with absence_hidden():
                generation, findings = await self._calls.run(watch_generation, operation, seen, self._ports)
            require_visible(generation)
            for finding in findings:
                yield _found(generation, finding)
            seen += len(findings)
            if generation.state.final:
                # Without a finding: what the end was.
                yield pb.WatchGenerationResponse(metadata=metadata_message(generation))
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def _libraries(self, parent: str) -> tuple[str, ...] | None:
        """Those that are named, or all that the caller may read; None for all there are."""
        named = names.library_id_or_any(parent or f"libraries/{names.ANY}")
        if named is not None:
            return (named,)
        visible = await self._calls.run(visible_libraries, self._ports)
        return None if visible is None else tuple(library.id for library in visible)


class GenerationOperations:
    """What `google.longrunning.Operations` asks of generations."""

    def __init__(self, ports: Ports, calls: Calls) -> None:
        self._ports = ports
        self._calls = calls

    async def running(self, limit: int) -> list[operations_pb2.Operation]:
        """Those that the caller may see, newest first."""
        found = await self._calls.run(running_generations, limit, self._ports)
        return [generation_message(each, []) for each in found if _visible(each)]

    async def get(self, operation: str) -> operations_pb2.Operation:
        """Raises OPERATION_NOT_FOUND, PERMISSION_DENIED."""
        with absence_hidden():
            generation, findings = await self._calls.run(get_generation, operation, self._ports)
        require_visible(generation)
        return generation_message(generation, findings)

    async def cancel(self, operation: str) -> None:
        """Whoever may see a generation may stop it: nothing that is stored changes."""
        with absence_hidden():
            generation, _ = await self._calls.run(watch_generation, operation, 0, self._ports)
        require_visible(generation)
        await self._calls.run(cancel_generation, operation, self._ports)


@contextmanager
def absence_hidden() -> Iterator[None]:
    """Whoever may not see every generation is told the same of one that is not there as of one that it may not see."""
    try:
        yield
    except AtomasError as error:
        if error.reason is Reason.OPERATION_NOT_FOUND and not may(Level.READ, EVERY_LIBRARY):
            raise denied() from None
        raise


def require_visible(generation: Generation) -> None:
    """Raises PERMISSION_DENIED unless the caller may read every library that the generation was shown."""
    if not _visible(generation):
        raise denied()


def _visible(generation: Generation) -> bool:
    libraries = generation.request.libraries
    return may(Level.READ, EVERY_LIBRARY) if libraries is None else all(may(Level.READ, library) for library in libraries)


def _found(generation: Generation, finding: Finding) -> pb.WatchGenerationResponse:
    metadata = metadata_message(generation)
    if isinstance(finding, Candidate):
        return pb.WatchGenerationResponse(candidate=candidate_message(finding), metadata=metadata)
    return pb.WatchGenerationResponse(description=description_message(finding), metadata=metadata)
