"""Imports over HTTP: the body is a file in any format that the client's readers know, and becomes an ordinary import stream."""

import asyncio
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from google.longrunning import operations_proto_pb2
from grpc import StatusCode
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from atomas.errors import ReaderError
from atomas.importing import batches
from atomas.readers import Format, Source
from atomas.v1.library_service_pb2 import ImportCompoundsRequest, ImportRow
from server.domain.errors import AtomasError, Reason
from server.rest.bodies import pieces
from server.rest.calls import Caller, HttpContext
from server.rest.refusals import refused_by_gateway
from server.rest.transcode import as_json

IMPORT_COMPOUNDS = "/atomas.v1.LibraryService/ImportCompounds"
GET_OPERATION = "/google.longrunning.Operations/GetOperation"
# What a content type says where neither name nor parameter does.
FORMATS: Mapping[str, Format] = {
    "application/x-ndjson": Format.JSONL,
    "application/jsonl": Format.JSONL,
    "application/jsonlines": Format.JSONL,
    "chemical/x-mdl-sdfile": Format.SDF,
    "chemical/x-mdl-molfile": Format.SDF,
    "chemical/x-daylight-smiles": Format.SMILES,
    "text/csv": Format.CSV,
    "text/tab-separated-values": Format.TSV,
    "application/vnd.apache.parquet": Format.PARQUET,
}
PARAMETERS = ("source", "format", "requestId", "allowMissing")
_WRITE_BYTES = 1024 * 1024


async def import_response(request: Request, parent: str, caller: Caller, limit: int) -> Response:
    """Returns the operation once every row of the body is durable; the service goes on to process them.

    The same `requestId` goes on with the same import. Raises UNREADABLE for a body that cannot be read; rows before the fault stay.
    """
    options = _options(request)
    with tempfile.TemporaryDirectory(prefix="atomas-upload-") as folder:
        path = Path(folder) / _file_name(options.get("source", ""))
        await _receive(request, path, limit)
        name = await _import(request, path, parent, options, caller)
    operation = await caller.unary(GET_OPERATION, operations_proto_pb2.GetOperationRequest(name=name), HttpContext(request))
    return JSONResponse(as_json(operation))


def _options(request: Request) -> dict[str, str]:
    given = {
        {"request_id": "requestId", "allow_missing": "allowMissing"}.get(name, name): text for name, text in request.query_params.items()
    }
    if unknown := sorted(set(given) - set(PARAMETERS)):
        raise _invalid(f"No query parameter is called {unknown[0][:100]!r}; known ones: {', '.join(PARAMETERS)}.")
    if given.get("format", "auto") not in set(Format):
        raise _invalid(f"{given['format'][:50]!r} is no file format: choose one of {', '.join(Format)}.")
    if given.get("allowMissing", "false").lower() not in ("true", "false"):
        raise _invalid("allowMissing is true or false.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        message = "Send the file itself as the body, as `curl --data-binary @FILE` does, not a form."
        raise refused_by_gateway(415, StatusCode.INVALID_ARGUMENT, "WRONG_CONTENT_TYPE", message)
    if "format" not in given and "." not in given.get("source", "") and kind in FORMATS:
        given["format"] = FORMATS[kind].value
    return given


def _file_name(source: str) -> str:
    """A harmless name with the same endings: readers tell formats by them."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", source.rpartition("/")[2])[-100:].lstrip(".") or "upload"


async def _receive(request: Request, path: Path, limit: int) -> None:
    too_large = f"The file is larger than {limit:,} bytes. Import it by `atomas import`, or in parts."
    buffer = bytearray()
    with path.open("wb") as file:
        async for piece in pieces(request, limit, too_large):
            buffer += piece
            if len(buffer) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(buffer))
                buffer.clear()
        file.write(buffer)


async def _import(request: Request, path: Path, parent: str, options: Mapping[str, str], caller: Caller) -> str:
    """Sends the file's rows as an import; returns the operation's name."""
    rows = _Rows(path, options.get("format", "auto"))
    try:
        await rows.read()
        if rows.failure is not None:
            raise rows.failure
        start = ImportCompoundsRequest.Start(
            parent=parent,
            request_id=options.get("requestId") or str(uuid.uuid4()),
            source=options.get("source", ""),
            allow_missing=options.get("allowMissing", "false").lower() == "true",
        )
        operation = ""
        async for answer in caller.stream(IMPORT_COMPOUNDS, rows.requests(start), HttpContext(request, seconds=None)):
            operation = answer.operation
    finally:
        rows.close()
    if rows.failure is not None:
        raise AtomasError(
            Reason.UNREADABLE,
            f"{rows.failure.message} The {rows.sent:,} rows before that are imported, see {operation}.",
            operation=operation,
        )
    return operation


class _Rows:
    """The file's rows as an import's requests; a fault of the file ends them, and is told afterwards."""

    def __init__(self, path: Path, format: str) -> None:
        self.failure: AtomasError | None = None
        self.sent = 0
        self._path, self._format = path, format
        self._source: Source | None = None
        self._batches: Iterator[list[ImportRow]] = iter(())
        self._next: list[ImportRow] | None = None

    async def read(self) -> None:
        """Reads the next batch, away from the event loop."""
        await asyncio.to_thread(self._read)

    def _read(self) -> None:
        try:
            if self._source is None:
                self._source = Source(self._path, self._format)
                self._batches = batches(self._source)
            self._next = next(self._batches, None)
        except ReaderError as error:
            self._next = None
            self.failure = AtomasError(Reason.UNREADABLE, error.message)

    async def requests(self, start: ImportCompoundsRequest.Start) -> AsyncIterator[ImportCompoundsRequest]:
        """Start, rows, finish."""
        yield ImportCompoundsRequest(start=start)
        while self._next is not None:
            offset, self.sent = self.sent, self.sent + len(self._next)
            yield ImportCompoundsRequest(rows=ImportCompoundsRequest.Rows(offset=offset, rows=self._next))
            await self.read()
        yield ImportCompoundsRequest(finish=ImportCompoundsRequest.Finish(row_count=self.sent))

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


def _invalid(message: str) -> AtomasError:
    return AtomasError(Reason.INVALID_ARGUMENT, message)
