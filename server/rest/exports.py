"""Exports over HTTP: a library, or what of it meets a filter, as a file in any format that the client writes."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import IO, Any, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from atomas.codec import decode_compound
from atomas.readers import Format
from atomas.v1 import library_pb2
from atomas.v1.library_service_pb2 import ExportCompoundsRequest, ExportCompoundsResponse
from atomas.writers import WRITTEN, CompoundWriter, compound_writer
from server.domain.errors import AtomasError, Reason
from server.rest.calls import Caller, HttpContext

EXPORT_COMPOUNDS = "/atomas.v1.LibraryService/ExportCompounds"
PARAMETERS = ("format", "filter")
# Content type and file ending.
KINDS = {
    Format.JSONL: ("application/x-ndjson", "jsonl"),
    Format.CSV: ("text/csv; charset=utf-8", "csv"),
    Format.SMILES: ("chemical/x-daylight-smiles", "smi"),
    Format.SDF: ("chemical/x-mdl-sdfile", "sdf"),
    Format.PARQUET: ("application/vnd.apache.parquet", "parquet"),
}


async def export_response(request: Request, parent: str, caller: Caller) -> Response:
    """The file as it is written; a fault on the way cuts it off, which HTTP tells from a complete one."""
    given = dict(request.query_params.items())
    if unknown := sorted(set(given) - set(PARAMETERS)):
        raise _invalid(f"No query parameter is called {unknown[0][:100]!r}; known ones: {', '.join(PARAMETERS)}.")
    if given.get("format", "jsonl") not in KINDS:
        raise _invalid(f"Compounds are not written as {given['format'][:50]!r}: choose one of {', '.join(WRITTEN)}.")
    format = Format(given.get("format", "jsonl"))
    question = ExportCompoundsRequest(parent=parent, filter=given.get("filter", ""))
    if format is Format.SDF:
        question.read_mask.paths.extend(field.name for field in library_pb2.Compound.DESCRIPTOR.fields)
    answers = caller.stream(EXPORT_COMPOUNDS, question, HttpContext(request, seconds=None))
    # What is refused is refused before the first byte.
    first = await anext(answers)
    kind, ending = KINDS[format]
    name = f"{parent.rpartition('/')[2]}.{ending}"
    return StreamingResponse(
        _file(first, answers, format), media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


class _Pipe(io.RawIOBase):
    """A file that is only ever written on, and handed out as it grows."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def _file(first: ExportCompoundsResponse, rest: AsyncIterator[ExportCompoundsResponse], format: Format) -> AsyncIterator[bytes]:
    pipe = _Pipe()
    writer = compound_writer(cast(IO[bytes], pipe), format)
    await asyncio.to_thread(_write, writer, first)
    yield pipe.taken()
    async for answer in rest:
        await asyncio.to_thread(_write, writer, answer)
        yield pipe.taken()
    writer.finish()
    yield pipe.taken()


def _write(writer: CompoundWriter, answer: ExportCompoundsResponse) -> None:
    for compound in answer.compounds:
        writer.write(decode_compound(compound))


def _invalid(message: str) -> AtomasError:
    return AtomasError(Reason.INVALID_ARGUMENT, message)
