"""One search of a fleet is one trace: server, queue, worker, model, index; and nothing of what was asked is in it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import HTTPConnection

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atomas import AtomasError, Client
from deploy.services import LocalService, Redis
from encoder.batching import TokenBudgetBatcher
from encoder.manifest import ModelFacts
from server.adapters.broker import celery_app
from server.adapters.celery_queue import CeleryQueue
from server.adapters.local_queue import LocalQueue
from server.adapters.observed import observe_batch, observed_encoder, observed_index
from server.adapters.worker_encoder import WorkerEncoder
from server.domain.libraries import Library
from server.observability.context import carried
from server.observability.traces import span, trace_with
from server.ports import Encoder, Ports
from server.usecases.manage_libraries import create_library
from server.usecases.track_operations import give_up, run_job
from tests.contract.brokers import new_app, running_worker
from tests.fakes import FakeEncoder
from tests.fakes_models import fake_ports
from tests.security.served import served
from tests.services import running_service
from workers.app import register

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
SECRET = "zanzibarite"


@pytest.fixture(scope="module")
def redis() -> Iterator[LocalService]:
    with running_service(Redis) as server:
        yield server


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(provider)
    yield exporter
    trace_with(None)


class Batched(FakeEncoder):
    """A model behind the real batcher, as workers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = TokenBudgetBatcher(FakeEncoder(), observe=observe_batch)

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        return np.stack([self.batcher.submit("text", text, 3).result(20) for text in texts])


@contextmanager
def fleet(redis: LocalService) -> Iterator[Ports]:
    """The ports of a server whose encoder and jobs are a worker's, over a real broker."""
    with ExitStack() as stack:
        model = Batched()
        stack.callback(model.batcher.close)
        app, asking = new_app(redis), celery_app(redis.url, 600)
        queue = CeleryQueue(asking, 60)
        worker = replace(fake_ports(model), queue=queue)
        far = WorkerEncoder(asking, ModelFacts("fake", 64, 1_000), "1", 0, 20)
        stack.callback(asking.close)
        stack.callback(far.close)
        stack.callback(app.close)
        encoder: Encoder = observed_encoder(far, "worker")
        # Both sides share the fakes of the stores, as a fleet shares its servers.
        server = replace(worker, encoder=encoder, index=observed_index(worker.index))
        stack.enter_context(running_worker(app, lambda app: register(app, worker, 1)))
        yield server


def tree(spans: Sequence[ReadableSpan]) -> dict[str, str]:
    """Name of each span -> name of its parent; "caller" for the one that began elsewhere."""
    names = {span.context.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent.span_id, "caller") if span.parent else "" for span in spans}


def said(spans: Sequence[ReadableSpan]) -> str:
    """Everything that would be sent."""
    return "".join(str(span.to_json()) for span in spans).lower()


def test_a_search_of_a_fleet_is_one_connected_trace(redis: LocalService, spans: InMemorySpanExporter) -> None:
    with fleet(redis) as ports:
        create_library(Library("lib"), ports)
        with served(ports, auth_required=False) as service, Client(service.address, metadata=lambda: PARENT) as client:
            client.search(text=f"{SECRET} alcohol", library="lib")
    search = [span for span in spans.get_finished_spans() if span.context.trace_id == int(TRACE, 16)]
    parents = tree(search)
    root = "atomas.v1.SearchService/SearchCompounds"
    expected = {
        root: "caller",
        "search.prepare": root,
        "search.structures": root,
        "search.encode": root,
        "search.search": root,
        "search.fuse": root,
        "search.show": root,
        "encoder.encode_texts": "search.encode",
        "encode.items": "encoder.encode_texts",
        "encoder.batch": "encode.items",
        "index.search_legs": "search.search",
        "index.documents": "search.show",
    }
    assert {name: parent for name, parent in parents.items() if name in expected} == expected
    assert SECRET not in said(search)


def test_an_import_and_its_jobs_are_one_trace_with_the_requests_id(redis: LocalService, spans: InMemorySpanExporter) -> None:
    with (
        structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as records,
        fleet(redis) as ports,
        served(ports, auth_required=False) as service,
    ):
        with Client(service.address, metadata=lambda: {**PARENT, "x-request-id": "import-1"}) as client:
            client.import_compounds([{"smiles": "CCO", "name": SECRET}], library="lib", wait=True)
        wanted = {"job import.read_chunk", "job index.embed"}
        deadline = time.monotonic() + 20
        while not wanted <= {span.name for span in spans.get_finished_spans()} and time.monotonic() < deadline:
            time.sleep(0.05)
    found = spans.get_finished_spans()
    parents = tree(found)
    assert parents["job import.read_chunk"] == "atomas.v1.LibraryService/ImportCompounds"
    assert parents["job index.embed"] == "job import.read_chunk"
    jobs = [span for span in found if span.name in wanted]
    assert {f"{span.context.trace_id:032x}" for span in jobs} == {TRACE}
    assert all(str((span.attributes or {})["operation"]).startswith("operations/") for span in jobs)
    assert SECRET not in said(found)
    done = {record["job"]: record for record in records if record["event"] == "job done"}
    assert {"import.read_chunk", "index.embed"} <= set(done)
    assert {record["request_id"] for record in done.values()} == {"import-1"}
    assert all(record["operation"].startswith("operations/") for record in done.values())


def test_jobs_of_the_embedded_service_belong_to_the_call_too(spans: InMemorySpanExporter) -> None:
    queue = LocalQueue(attempts=1)
    ports = fake_ports(FakeEncoder(), queue)
    queue.start(lambda job: run_job(job, ports), lambda job, reason, message: give_up(job, reason, message, ports))
    with served(ports, auth_required=False) as service, Client(service.address, metadata=lambda: PARENT) as client:
        client.import_compounds(["CCO"], library="lib")
    queue.close()
    parents = tree(spans.get_finished_spans())
    assert parents["job index.embed"] == "job import.read_chunk"
    assert parents["job import.read_chunk"] == "atomas.v1.LibraryService/ImportCompounds"


def test_a_refusal_is_told_by_its_reason_alone(spans: InMemorySpanExporter) -> None:
    with (
        served(fake_ports(FakeEncoder()), auth_required=False) as service,
        Client(service.address) as client,
        pytest.raises(AtomasError, match=SECRET),
    ):
        client.get_library(SECRET)
    [call] = spans.get_finished_spans()
    assert (call.attributes or {})["error.type"] == "LIBRARY_NOT_FOUND"
    assert (call.attributes or {})["rpc.grpc.status_code"] == 5
    assert not call.status.is_ok
    assert not call.events
    assert SECRET not in said([call])


def test_http_takes_part_in_a_trace_as_grpc_does(spans: InMemorySpanExporter) -> None:
    with served(fake_ports(FakeEncoder()), auth_required=False) as service:
        connection = HTTPConnection("127.0.0.1", service.http_port, timeout=30)
        for _ in range(2):
            connection.request("GET", "/v1/libraries", headers=PARENT)
            assert connection.getresponse().read()
        connection.close()
    calls = spans.get_finished_spans()
    assert [(span.name, f"{span.context.trace_id:032x}") for span in calls] == [("atomas.v1.LibraryService/ListLibraries", TRACE)] * 2
    # Both belong to their callers, not to each other.
    assert {span.parent.span_id for span in calls if span.parent} == {int("b7ad6b7169203331", 16)}


def test_callers_that_share_a_forward_pass_are_linked_to_it(spans: InMemorySpanExporter) -> None:
    begin = threading.Event()

    class Slow(FakeEncoder):
        def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
            begin.wait(20)
            return super().encode_texts(texts)

    batcher = TokenBudgetBatcher(Slow(), observe=observe_batch)
    futures = []
    # The first occupies the model; the others gather.
    for n in range(4):
        with span(f"caller {n}"):
            futures.append(batcher.submit("text", f"text {n}", 1))
        time.sleep(0.05 if n == 0 else 0)
    begin.set()
    for future in futures:
        future.result(20)
    batcher.close()
    found = {one.context.span_id: one.name for one in spans.get_finished_spans()}
    shared = [one for one in spans.get_finished_spans() if one.name == "encoder.batch"][-1]
    assert shared.parent is not None
    together = {found[shared.parent.span_id], *(found[link.context.span_id] for link in shared.links)}
    assert together == {"caller 1", "caller 2", "caller 3"}
    assert (shared.attributes or {})["items"] == 3


def test_without_tracing_nothing_is_carried() -> None:
    assert carried() == {}
