"""LibraryService: libraries, compounds, and the acknowledged import stream."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from atomas.v1 import library_pb2
from atomas.v1 import library_service_pb2 as pb
from atomas.v1.library_service_pb2_grpc import LibraryServiceServicer
from server.domain.access import Level
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.operations import State
from server.ports import Ports
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.paging import page_size
from server.settings import Settings
from server.usecases import export_compounds, import_compounds, manage_libraries, track_operations
from server.usecases.authorise import may, require_operation, visible_libraries
from server.usecases.library_quota import require_room

# What a deletion waits for the library's name to be free again: enough for some ten thousand compounds.
PURGE_PATIENCE_SECONDS = 3.0
_LIBRARY_FIELDS = ("display_name", "description")
# An export's messages stay about this small, so that neither side holds much of a library.
_EXPORT_BYTES = 1024 * 1024


class LibraryServicer(LibraryServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls, settings: Settings) -> None:
        self._library_max_compounds = settings.library_max_compounds
        self._ports = ports
        self._calls = calls

    async def CreateLibrary(self, request: pb.CreateLibraryRequest, context: Any) -> library_pb2.Library:
        library = Library(request.library_id, request.library.display_name, request.library.description)
        return convert.library_message(await self._calls.run(manage_libraries.create_library, library, self._ports))

    async def GetLibrary(self, request: pb.GetLibraryRequest, context: Any) -> library_pb2.Library:
        library = await self._calls.run(manage_libraries.get_library, names.library_id(request.name), self._ports)
        return convert.library_message(library)

    async def ListLibraries(self, request: pb.ListLibrariesRequest, context: Any) -> pb.ListLibrariesResponse:
        scope = page_tokens.scope_of(request)
        size = page_size(request.page_size, 100)
        after = page_tokens.decode(request.page_token, scope)
        found = await self._calls.run(visible_libraries, self._ports)
        if found is None:
            found = await self._calls.run(manage_libraries.list_libraries, after, size + 1, self._ports)
        else:
            found = [library for library in found if library.id > after][: size + 1]
        token = page_tokens.encode(found[size - 1].id, scope) if len(found) > size else ""
        return pb.ListLibrariesResponse(libraries=[convert.library_message(each) for each in found[:size]], next_page_token=token)

    async def UpdateLibrary(self, request: pb.UpdateLibraryRequest, context: Any) -> library_pb2.Library:
        paths = set(request.update_mask.paths) or set(_LIBRARY_FIELDS)
        if unknown := paths - set(_LIBRARY_FIELDS):
            raise AtomasError(
                Reason.INVALID_ARGUMENT, f"{', '.join(sorted(unknown))} cannot be changed; only {' and '.join(_LIBRARY_FIELDS)} can."
            )
        library = await self._calls.run(
            manage_libraries.update_library,
            names.library_id(request.library.name),
            request.library.display_name if "display_name" in paths else None,
            request.library.description if "description" in paths else None,
            self._ports,
        )
        return convert.library_message(library)

    async def DeleteLibrary(self, request: pb.DeleteLibraryRequest, context: Any) -> Empty:
        library = names.library_id(request.name)
        await self._calls.run(manage_libraries.delete_library, library, request.force, self._ports, patience_seconds=PURGE_PATIENCE_SECONDS)
        return Empty()

    async def GetCompound(self, request: pb.GetCompoundRequest, context: Any) -> library_pb2.Compound:
        compound = await self._calls.run(manage_libraries.get_compound, *names.compound_ids(request.name), self._ports)
        return convert.compound_message(compound)

    async def ListCompounds(self, request: pb.ListCompoundsRequest, context: Any) -> pb.ListCompoundsResponse:
        scope = page_tokens.scope_of(request)
        size = page_size(request.page_size, 100)
        after = page_tokens.decode(request.page_token, scope)
        found = await self._calls.run(manage_libraries.list_compounds, names.library_id(request.parent), after, size + 1, self._ports)
        token = page_tokens.encode(found[size - 1].inchikey, scope) if len(found) > size else ""
        return pb.ListCompoundsResponse(compounds=[convert.compound_message(each) for each in found[:size]], next_page_token=token)

    async def DeleteCompound(self, request: pb.DeleteCompoundRequest, context: Any) -> Empty:
        await self._calls.run(manage_libraries.delete_compound, *names.compound_ids(request.name), self._ports)
        return Empty()

    async def ImportCompounds(
        self, request_iterator: AsyncIterator[pb.ImportCompoundsRequest], context: Any
    ) -> AsyncIterator[pb.ImportCompoundsResponse]:
        """One acknowledgement per request, in order, each sent after its commit."""
        operation = None
        async for request in request_iterator:
            step = request.WhichOneof("step")
            if step == "start" and operation is None:
                start = request.start
                library = names.library_id(start.parent)
                operation = await self._calls.run(
                    import_compounds.start_import,
                    library,
                    start.request_id,
                    start.source,
                    # To make a library takes more than to write into it.
                    start.allow_missing and may(Level.ADMIN, library),
                    self._ports,
                )
                received, complete = operation.counts.received, operation.state is not State.RECEIVING
            elif step == "rows" and operation is not None:
                rows = [convert.row_value(row) for row in request.rows.rows]
                await self._calls.run(require_room, operation.library, self._library_max_compounds, self._ports)
                received = await self._calls.run(import_compounds.accept_rows, operation.id, request.rows.offset, rows, self._ports)
                complete = False
            elif step == "finish" and operation is not None:
                finished = await self._calls.run(import_compounds.finish_import, operation.id, request.finish.row_count, self._ports)
                received, complete = finished.counts.received, True
            else:
                raise AtomasError(Reason.IMPORT_PROTOCOL, "An import stream is one `start`, then `rows`, then `finish`.")
            yield pb.ImportCompoundsResponse(operation=operation.resource_name, acknowledged_rows=received, complete=complete)

    async def ExportCompounds(self, request: pb.ExportCompoundsRequest, context: Any) -> AsyncIterator[pb.ExportCompoundsResponse]:
        """Every message can be the last: its token goes on after it."""
        convert.check_mask(request.read_mask)
        scope = page_tokens.scope_of(request)
        after, examined = _export_place(page_tokens.decode(request.resume_token, scope))
        export = await self._calls.run(
            export_compounds.start_export,
            names.library_id(request.parent),
            request.filter,
            "molblock" in request.read_mask.paths,
            self._ports,
        )
        while True:
            step = await self._calls.run(export_compounds.export_step, export, after, self._ports)
            message = pb.ExportCompoundsResponse(compound_count=export.compound_count, examined_count=examined)
            size = 0
            for compound in step.compounds:
                whole = convert.compound_message(compound)
                whole.molblock = step.molblocks.get(compound.inchikey, "")
                message.compounds.append(convert.masked(whole, request.read_mask))
                size += message.compounds[-1].ByteSize()
                if size > _EXPORT_BYTES:
                    message.resume_token = page_tokens.encode(f"{compound.inchikey} {examined}", scope)
                    yield message
                    message = pb.ExportCompoundsResponse(compound_count=export.compound_count, examined_count=examined)
                    size = 0
            after, examined = step.after, examined + step.examined
            message.examined_count = examined
            # Once nothing is left, a token would only lead past the end.
            message.resume_token = page_tokens.encode(f"{after} {examined}", scope) if after else ""
            yield message
            if not after:
                return

    async def ListRejections(self, request: pb.ListRejectionsRequest, context: Any) -> pb.ListRejectionsResponse:
        scope = page_tokens.scope_of(request)
        size = page_size(request.page_size, 1000)
        [after] = page_tokens.numbers(page_tokens.decode(request.page_token, scope) or "0", 1)
        operation = names.operation_id(request.operation)
        await self._calls.run(require_operation, operation, Level.READ, self._ports)
        found = await self._calls.run(track_operations.list_rejections, operation, after, size + 1, self._ports)
        token = page_tokens.encode(str(found[size - 1].position), scope) if len(found) > size else ""
        return pb.ListRejectionsResponse(rejections=[convert.rejection_message(each) for each in found[:size]], next_page_token=token)


def _export_place(cursor: str) -> tuple[str, int]:
    """InChIKey to go on after, and compounds looked at before."""
    after, _, examined = cursor.partition(" ")
    return after, page_tokens.numbers(examined or "0", 1)[0]
