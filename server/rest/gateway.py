"""The HTTP/JSON gateway: every annotated method of the contract, imports and exports as files, progress as events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

import structlog
from google.longrunning import operations_proto_pb2
from grpc import StatusCode
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from atomas.v1.library_service_pb2 import ImportCompoundsRequest
from atomas.v1.structure_service_pb2 import DrawStructureResponse
from server.domain.errors import AtomasError
from server.rest.bindings import Binding, Template, bindings, parse_template
from server.rest.bodies import pieces
from server.rest.calls import Caller, HttpContext, not_offered
from server.rest.exports import EXPORT_COMPOUNDS, export_response
from server.rest.imports import IMPORT_COMPOUNDS, import_response
from server.rest.openapi import openapi_document
from server.rest.refusals import RefusedError, refused_by_gateway, refused_by_service
from server.rest.transcode import as_json, request_message
from server.rpc.errors import code_of, status_of
from server.settings import Settings

log = structlog.get_logger(__name__)
Endpoint: TypeAlias = Callable[[Request, Mapping[str, str]], Awaitable[Response]]

WATCH_SECONDS = 0.25
# Drawings of a structure never change while the service runs.
DRAWING_CACHE = "private, max-age=3600"
GET_OPERATION = "/google.longrunning.Operations/GetOperation"


class Gateway:
    """Answers everything below /v1, and /openapi.json."""

    def __init__(self, caller: Caller, settings: Settings) -> None:
        self._caller = caller
        self._settings = settings
        # Each with the method that it comes down to, whose callers have to be known; anybody may read the document.
        self._routes: list[tuple[str, Template, Endpoint, str]] = [
            (binding.verb, binding.template, self._method(binding), binding.handler_path) for binding in bindings()
        ]
        self._routes += [
            ("POST", parse_template("/v1/{parent=libraries/*}/compounds:import"), self._import, IMPORT_COMPOUNDS),
            ("GET", parse_template("/v1/{parent=libraries/*}/compounds:export"), self._export, EXPORT_COMPOUNDS),
            ("GET", parse_template("/v1/{name=operations/*}:watch"), self._watch, GET_OPERATION),
            ("GET", parse_template("/openapi.json"), self._openapi, ""),
        ]
        self._document = json.dumps(openapi_document(caller.offers), ensure_ascii=False).encode()

    async def answer(self, request: Request) -> Response:
        """The response, also for what is refused."""
        try:
            return await self._endpoint(request)
        except RefusedError as refusal:
            return refusal.response()
        except AtomasError as error:
            return refused_by_service(code_of(error.reason), status_of(error), "").response()

    async def _endpoint(self, request: Request) -> Response:
        raw_path = request.scope.get("raw_path", request.url.path.encode()).partition(b"?")[0].decode("latin-1")
        fitting = [
            (verb, values, call, path) for verb, template, call, path in self._routes if (values := template.match(raw_path)) is not None
        ]
        if not fitting:
            message = f"There is nothing at {request.url.path[:200]}; /openapi.json lists what there is."
            raise refused_by_gateway(404, StatusCode.NOT_FOUND, "NO_SUCH_PATH", message)
        wanted = "GET" if request.method == "HEAD" else request.method
        for verb, values, call, path in fitting:
            if verb == wanted:
                if path:
                    await self._caller.admit(request, path)
                return await call(request, values)
        allowed = ", ".join(sorted({verb for verb, *_ in fitting}))
        message = f"{request.method} makes no sense here; {allowed} does."
        raise refused_by_gateway(405, StatusCode.UNIMPLEMENTED, "METHOD_NOT_ALLOWED", message, {"Allow": allowed})

    def _method(self, binding: Binding) -> Endpoint:
        async def endpoint(request: Request, values: Mapping[str, str]) -> Response:
            if not self._caller.offers(binding.handler_path):
                raise not_offered(binding.handler_path)
            body = await self._body(request) if binding.body else b""
            message = request_message(binding, values, request.query_params.multi_items(), body)
            context = HttpContext(request)
            answer = await self._caller.unary(binding.handler_path, message, context)
            if isinstance(answer, DrawStructureResponse) and "image/svg+xml" in request.headers.get("accept", ""):
                return Response(answer.svg, media_type="image/svg+xml", headers={"Cache-Control": DRAWING_CACHE, "Vary": "Accept"})
            return JSONResponse(as_json(answer, message), headers=context.headers())

        return endpoint

    async def _body(self, request: Request) -> bytes:
        """A JSON body within the limit."""
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        limit = self._settings.http_body_bytes
        too_large = f"The body is larger than {limit:,} bytes. Send less, or files by compounds:import."
        body = b"".join([piece async for piece in pieces(request, limit, too_large)])
        if body and kind != "application/json":
            message = f"The body is {kind[:100]}; send application/json."
            raise refused_by_gateway(415, StatusCode.INVALID_ARGUMENT, "WRONG_CONTENT_TYPE", message)
        return body

    async def _import(self, request: Request, values: Mapping[str, str]) -> Response:
        start = ImportCompoundsRequest.Start(parent=values["parent"])
        await self._caller.admit(request, IMPORT_COMPOUNDS, ImportCompoundsRequest(start=start))
        return await import_response(request, values["parent"], self._caller, self._settings.http_upload_bytes)

    async def _export(self, request: Request, values: Mapping[str, str]) -> Response:
        return await export_response(request, values["parent"], self._caller)

    async def _watch(self, request: Request, values: Mapping[str, str]) -> Response:
        """The operation as server-sent events: now, whenever it changes, and a last time when it is done."""
        question = operations_proto_pb2.GetOperationRequest(name=values["name"])
        operation = await self._caller.unary(GET_OPERATION, question, HttpContext(request))

        async def events() -> AsyncIterator[str]:
            now, last = operation, None
            while True:
                if now != last:
                    yield f"data: {json.dumps(as_json(now), ensure_ascii=False)}\n\n"
                if now.done or await request.is_disconnected():
                    return
                await asyncio.sleep(WATCH_SECONDS)
                last = now
                try:
                    now = await self._caller.unwatched(GET_OPERATION, question, HttpContext(request))
                except RefusedError:
                    # The reader asks again, as event sources do.
                    return

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _openapi(self, request: Request, values: Mapping[str, str]) -> Response:
        return Response(self._document, media_type="application/json")
