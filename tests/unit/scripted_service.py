"""A small real gRPC server with an in-memory service that can be told to refuse, break streams and lose acknowledgements."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.longrunning import operations_proto_pb2 as longrunning
from google.protobuf import any_pb2, duration_pb2, empty_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from atomas.v1 import embedding_service_pb2, library_pb2, library_service_pb2, model_service_pb2, search_service_pb2

PAGE = 3


class RefusedError(Exception):
    """What a handler raises to end the call with a status and details."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str = "",
        *,
        reason: str = "",
        retry_seconds: float | None = None,
        raw: bytes | None = None,
        **details: str,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        status = status_pb2.Status(code=code.value[0], message=message)
        if reason:
            status.details.append(_packed(error_details_pb2.ErrorInfo(reason=reason, domain="atomas", metadata=details)))
        if retry_seconds is not None:
            delay = duration_pb2.Duration(seconds=int(retry_seconds), nanos=int(retry_seconds % 1 * 1e9))
            status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        self.status = status.SerializeToString() if raw is None else raw


@dataclass
class ImportScript:
    """How the import stream misbehaves: each number is the count of acknowledgements after which one stream breaks."""

    break_after: deque[int] = field(default_factory=deque)
    # Whether rows that came before the break are lost, or stored with only their acknowledgement lost.
    lose_rows: bool = False
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    # The stream ends politely instead.
    end_politely: bool = False
    refuse_row: Callable[[library_service_pb2.ImportRow], str] = lambda row: (
        "" if row.WhichOneof("structure") != "unreadable" else "UNREADABLE"
    )


class ScriptedService:
    """Answers the whole API from memory; `fail` queues refusals for a method, `requests` keeps what came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.failures: dict[str, deque[RefusedError]] = {}
        self.libraries: dict[str, library_pb2.Library] = {}
        self.compounds: dict[str, library_pb2.Compound] = {}
        self.rows: dict[str, list[library_service_pb2.ImportRow]] = {}
        self.streams = 0
        self.polls = 0
        self.import_script = ImportScript()
        # Polls that find an operation still running, before the one that finds it done.
        self.polls_until_done = 1
        self.operation_error: status_pb2.Status | None = None
        self.cancelled: set[str] = set()
        self.hit_count = 7
        # GetModel waits for it.
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def fail(self, method: str, *errors: RefusedError) -> None:
        self.failures.setdefault(method, deque()).extend(errors)

    def seen(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]

    # Libraries and compounds

    def create_library(self, request: library_service_pb2.CreateLibraryRequest) -> library_pb2.Library:
        name = f"libraries/{request.library_id}"
        if name in self.libraries:
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists.", reason="LIBRARY_EXISTS", library=request.library_id)
        library = library_pb2.Library(
            name=name, display_name=request.library.display_name or request.library_id, description=request.library.description
        )
        library.create_time.FromSeconds(1_700_000_000)
        self.libraries[name] = library
        return library

    def get_library(self, request: library_service_pb2.GetLibraryRequest) -> library_pb2.Library:
        if request.name not in self.libraries:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"There is no {request.name}.", reason="LIBRARY_NOT_FOUND", library=request.name)
        return self.libraries[request.name]

    def list_libraries(self, request: library_service_pb2.ListLibrariesRequest) -> library_service_pb2.ListLibrariesResponse:
        items, token = _page(sorted(self.libraries.values(), key=lambda each: each.name), request.page_token)
        return library_service_pb2.ListLibrariesResponse(libraries=items, next_page_token=token)

    def update_library(self, request: library_service_pb2.UpdateLibraryRequest) -> library_pb2.Library:
        library = self.get_library(library_service_pb2.GetLibraryRequest(name=request.library.name))
        request.update_mask.MergeMessage(request.library, library, replace_repeated_field=True)
        return library

    def delete_library(self, request: library_service_pb2.DeleteLibraryRequest) -> empty_pb2.Empty:
        library = self.get_library(library_service_pb2.GetLibraryRequest(name=request.name))
        if library.compound_count and not request.force:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"{request.name} is not empty.", reason="LIBRARY_NOT_EMPTY")
        del self.libraries[request.name]
        return empty_pb2.Empty()

    def get_compound(self, request: library_service_pb2.GetCompoundRequest) -> library_pb2.Compound:
        if request.name not in self.compounds:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"There is no {request.name}.", reason="COMPOUND_NOT_FOUND")
        return self.compounds[request.name]

    def list_compounds(self, request: library_service_pb2.ListCompoundsRequest) -> library_service_pb2.ListCompoundsResponse:
        items, token = _page([c for c in self.compounds.values() if c.name.startswith(request.parent + "/")], request.page_token)
        return library_service_pb2.ListCompoundsResponse(compounds=items, next_page_token=token)

    def delete_compound(self, request: library_service_pb2.DeleteCompoundRequest) -> empty_pb2.Empty:
        del self.compounds[self.get_compound(library_service_pb2.GetCompoundRequest(name=request.name)).name]
        return empty_pb2.Empty()

    # Search, vectors, models

    def search(self, request: search_service_pb2.SearchCompoundsRequest) -> search_service_pb2.SearchCompoundsResponse:
        first = int(request.page_token or 0)
        ranks = range(first + 1, min(first + min(request.page_size, PAGE), self.hit_count) + 1)
        hits = [
            search_service_pb2.SearchHit(
                rank=rank,
                score=1 / rank,
                compound=compound(f"KEY{rank}", f"compound {rank}"),
                legs=[search_service_pb2.LegScore(leg="molecules", score=0.5, rank=rank, weight=2.0)],
                matched_words=["acid"],
            )
            for rank in ranks
        ]
        last = ranks[-1] if ranks else first
        misspelled = request.query == "acd"
        kinds = search_service_pb2.Interpretation
        return search_service_pb2.SearchCompoundsResponse(
            hits=hits,
            next_page_token=str(last) if last < self.hit_count else "",
            model="models/m1",
            interpretation=kinds(kind=kinds.NAME, corrected_name="acid") if misspelled else kinds(kind=kinds.TEXT),
            no_good_match=misspelled,
        )

    def batch_search(self, request: search_service_pb2.BatchSearchCompoundsRequest) -> search_service_pb2.BatchSearchCompoundsResponse:
        refused = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="The text is empty.")
        refused.details.append(_packed(error_details_pb2.ErrorInfo(reason="EMPTY_QUERY", domain="atomas")))
        result = search_service_pb2.BatchSearchCompoundsResponse.Result
        return search_service_pb2.BatchSearchCompoundsResponse(
            results=[
                result(response=self.search(each)) if each.query or each.structure else result(error=refused) for each in request.requests
            ]
        )

    def embed(self, request: embedding_service_pb2.EmbedTextsRequest) -> embedding_service_pb2.EmbedTextsResponse:
        refused = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="The text is empty.")
        refused.details.append(_packed(error_details_pb2.ErrorInfo(reason="EMPTY_QUERY", domain="atomas")))
        return embedding_service_pb2.EmbedTextsResponse(
            embeddings=[
                embedding_service_pb2.Embedding(vector=[float(len(text)), 0.0]) if text else embedding_service_pb2.Embedding(error=refused)
                for text in request.texts
            ],
            model="models/m1",
        )

    def embed_structures(self, request: embedding_service_pb2.EmbedStructuresRequest) -> embedding_service_pb2.EmbedStructuresResponse:
        vectors = [embedding_service_pb2.Embedding(vector=[0.0, float(len(s))]) for s in request.structures]
        return embedding_service_pb2.EmbedStructuresResponse(embeddings=vectors, model="models/m1")

    def get_model(self, request: model_service_pb2.GetModelRequest) -> model_service_pb2.Model:
        self.gate.wait(10)
        return model_service_pb2.Model(
            name="models/m1", state=model_service_pb2.Model.SERVING, dimension=2, molecule_standard="s1", max_tokens=512
        )

    def list_models(self, request: model_service_pb2.ListModelsRequest) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(models=[self.get_model(model_service_pb2.GetModelRequest())])

    # Imports and operations

    def import_compounds(
        self, requests: Iterator[library_service_pb2.ImportCompoundsRequest]
    ) -> Iterator[library_service_pb2.ImportCompoundsResponse]:
        with self._lock:
            self.streams += 1
            break_after = self.import_script.break_after.popleft() if self.import_script.break_after else None
        held: list[library_service_pb2.ImportRow] = []
        operation, complete = "", False
        for answers, request in enumerate(requests):
            step = request.WhichOneof("step")
            self.requests.append((f"import.{step}", request))
            with self._lock:
                if step == "start":
                    held = self.rows.setdefault(request.start.request_id, [])
                    operation = f"operations/{request.start.request_id}"
                    library = request.start.parent
                    if library not in self.libraries:
                        if not request.start.allow_missing:
                            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"There is no {library}.", reason="LIBRARY_NOT_FOUND")
                        self.libraries[library] = library_pb2.Library(name=library)
                elif answers == break_after and self.import_script.lose_rows:
                    pass
                elif step == "rows":
                    if request.rows.offset > len(held):
                        raise RefusedError(grpc.StatusCode.OUT_OF_RANGE, "Rows are missing.", reason="IMPORT_GAP")
                    held.extend(request.rows.rows[len(held) - request.rows.offset :])
                elif request.finish.row_count != len(held):
                    raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "Rows are missing.", reason="IMPORT_INCOMPLETE")
                else:
                    complete = True
            if answers == break_after:
                if self.import_script.end_politely:
                    return
                raise RefusedError(self.import_script.code, "The connection broke.")
            yield library_service_pb2.ImportCompoundsResponse(operation=operation, acknowledged_rows=len(held), complete=complete)

    def rejections(self, request: library_service_pb2.ListRejectionsRequest) -> library_service_pb2.ListRejectionsResponse:
        rejected = [
            library_service_pb2.Rejection(position=row.position, reason=reason, message=row.unreadable or "No.", row=row)
            for row in self._rows_of(request.operation)
            if (reason := self.import_script.refuse_row(row))
        ]
        items, token = _page(rejected, request.page_token)
        return library_service_pb2.ListRejectionsResponse(rejections=items, next_page_token=token)

    def get_operation(self, request: longrunning.GetOperationRequest) -> longrunning.Operation:
        rows = self._rows_of(request.name)
        self.polls += 1
        done = self.polls > self.polls_until_done or request.name in self.cancelled
        reasons = Counter(reason for row in rows if (reason := self.import_script.refuse_row(row)))
        kept = len(rows) - reasons.total()
        counts = library_service_pb2.ImportCounts(
            received=len(rows),
            created=kept if done else kept // 2,
            rejected=reasons.total(),
            rejected_by_reason=reasons,
            indexed=kept if done else 0,
        )
        error = self.operation_error
        if request.name in self.cancelled:
            error = status_pb2.Status(code=grpc.StatusCode.CANCELLED.value[0], message="It was cancelled.")
        states = library_service_pb2.ImportMetadata.State
        state = states.PROCESSING
        if done:
            state = states.SUCCEEDED if error is None else states.CANCELLED if error.code == 1 else states.FAILED
        operation = longrunning.Operation(name=request.name, done=done)
        metadata = library_service_pb2.ImportMetadata(state=state, library="libraries/lib", source="rows.smi", counts=counts)
        metadata.create_time.FromSeconds(1_700_000_000)
        operation.metadata.Pack(metadata)
        if done and error is not None:
            operation.error.CopyFrom(error)
        elif done:
            operation.response.Pack(library_service_pb2.ImportResult(counts=counts))
        return operation

    def list_operations(self, request: longrunning.ListOperationsRequest) -> longrunning.ListOperationsResponse:
        found = [self.get_operation(longrunning.GetOperationRequest(name=f"operations/{name}")) for name in self.rows]
        items, token = _page(found, request.page_token)
        return longrunning.ListOperationsResponse(operations=items, next_page_token=token)

    def cancel_operation(self, request: longrunning.CancelOperationRequest) -> empty_pb2.Empty:
        self._rows_of(request.name)
        self.cancelled.add(request.name)
        return empty_pb2.Empty()

    def check_health(self, request: wrappers_pb2.StringValue) -> wrappers_pb2.Int32Value:
        return wrappers_pb2.Int32Value(value=2 if request.value == "atomas.v1.SearchService" else 1)

    def _rows_of(self, operation: str) -> list[library_service_pb2.ImportRow]:
        if (name := operation.removeprefix("operations/")) not in self.rows:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"There is no {operation}.", reason="OPERATION_NOT_FOUND")
        return self.rows[name]


class Handlers(grpc.GenericRpcHandler):
    """Routes every method of the API to a ScriptedService, refusals first."""

    def __init__(self, service: ScriptedService) -> None:
        self._service = service
        pb, emb, mod, sea = library_service_pb2, embedding_service_pb2, model_service_pb2, search_service_pb2
        self._unary: dict[str, tuple[Callable[[Any], Message], type[Message]]] = {
            "CreateLibrary": (service.create_library, pb.CreateLibraryRequest),
            "GetLibrary": (service.get_library, pb.GetLibraryRequest),
            "ListLibraries": (service.list_libraries, pb.ListLibrariesRequest),
            "UpdateLibrary": (service.update_library, pb.UpdateLibraryRequest),
            "DeleteLibrary": (service.delete_library, pb.DeleteLibraryRequest),
            "GetCompound": (service.get_compound, pb.GetCompoundRequest),
            "ListCompounds": (service.list_compounds, pb.ListCompoundsRequest),
            "DeleteCompound": (service.delete_compound, pb.DeleteCompoundRequest),
            "ListRejections": (service.rejections, pb.ListRejectionsRequest),
            "SearchCompounds": (service.search, sea.SearchCompoundsRequest),
            "BatchSearchCompounds": (service.batch_search, sea.BatchSearchCompoundsRequest),
            "EmbedTexts": (service.embed, emb.EmbedTextsRequest),
            "EmbedStructures": (service.embed_structures, emb.EmbedStructuresRequest),
            "GetModel": (service.get_model, mod.GetModelRequest),
            "ListModels": (service.list_models, mod.ListModelsRequest),
            "GetOperation": (service.get_operation, longrunning.GetOperationRequest),
            "ListOperations": (service.list_operations, longrunning.ListOperationsRequest),
            "CancelOperation": (service.cancel_operation, longrunning.CancelOperationRequest),
            "Check": (service.check_health, wrappers_pb2.StringValue),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        method = handler_call_details.method.rpartition("/")[2]
        if method == "ImportCompounds":
            return grpc.stream_stream_rpc_method_handler(
                self._import,
                request_deserializer=library_service_pb2.ImportCompoundsRequest.FromString,
                response_serializer=library_service_pb2.ImportCompoundsResponse.SerializeToString,
            )
        if method not in self._unary:
            return None
        answer, request_type = self._unary[method]

        def call(request: Message, context: grpc.ServicerContext) -> Message:
            self._service.requests.append((method, request))
            with refusals_sent(context):
                if queue := self._service.failures.get(method):
                    raise queue.popleft()
                return answer(request)

        return grpc.unary_unary_rpc_method_handler(call, request_type.FromString, lambda message: message.SerializeToString())

    def _import(
        self, requests: Iterator[library_service_pb2.ImportCompoundsRequest], context: grpc.ServicerContext
    ) -> Iterator[library_service_pb2.ImportCompoundsResponse]:
        with refusals_sent(context):
            if queue := self._service.failures.get("ImportCompounds"):
                raise queue.popleft()
            yield from self._service.import_compounds(requests)


class refusals_sent:  # noqa: N801  # reads as a function where it is used
    """Turns a RefusedError into the call's status."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedError):
            self._context.set_trailing_metadata((("grpc-status-details-bin", error.status), ("x-request-id", "request-1")))
            self._context.abort(error.code, error.message)


class RunningService:
    """A ScriptedService on a free loopback port, until the `with` block ends."""

    def __init__(self, port: int = 0) -> None:
        self.service = ScriptedService()
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((Handlers(self.service),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"

    def __enter__(self) -> "RunningService":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()


def compound(inchikey: str, name: str, library: str = "lib") -> library_pb2.Compound:
    message = library_pb2.Compound(
        name=f"libraries/{library}/compounds/{inchikey}", display_name=name, smiles="CCO", inchikey=inchikey, synonyms=["a", "b"]
    )
    message.descriptors.molecular_weight = 46.07
    message.descriptors.formula = "C2H6O"
    message.metadata.update({"source": "ChEBI", "stars": 3, "tags": ["x", None], "nested": {"yes": True}})
    return message


def _page(items: list[Any], token: str) -> tuple[list[Any], str]:
    start = int(token or 0)
    end = start + PAGE
    return items[start:end], str(end) if end < len(items) else ""


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
