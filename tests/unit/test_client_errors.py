"""What callers see when calls fail: typed exceptions with reasons, retries, deadlines; never gRPC's own errors."""

import json
import os
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atomas
from atomas import AsyncClient, Client
from atomas.channel import channel_options, overload_delay_seconds, resolve_address, service_config
from atomas.errors import from_rpc_error
from tests.unit.scripted_service import Handlers, RefusedError, RunningService, ScriptedService

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: atomas.InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: atomas.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: atomas.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: atomas.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: atomas.FailedPreconditionError,
    grpc.StatusCode.ABORTED: atomas.AbortedError,
    grpc.StatusCode.UNAUTHENTICATED: atomas.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: atomas.PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: atomas.OverloadedError,
    grpc.StatusCode.UNAVAILABLE: atomas.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: atomas.DeadlineExceededError,
    grpc.StatusCode.CANCELLED: atomas.CancelledError,
    grpc.StatusCode.UNIMPLEMENTED: atomas.UnsupportedError,
    grpc.StatusCode.INTERNAL: atomas.InternalError,
    grpc.StatusCode.UNKNOWN: atomas.InternalError,
    grpc.StatusCode.DATA_LOSS: atomas.InternalError,
}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningService]:
    with RunningService() as started:
        yield started


@pytest.fixture
def service(running: RunningService) -> ScriptedService:
    running.service.__init__()  # type: ignore[misc]  # a new server for each test would take much longer
    return running.service


@pytest.fixture
def client(running: RunningService) -> Iterator[Client]:
    with Client(running.address, timeout_seconds=10) as made:
        yield made


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_status_becomes_its_exception_with_reason_details_and_request_id(
    client: Client, service: ScriptedService, code: grpc.StatusCode
) -> None:
    # CreateLibrary is not idempotent, so nothing repeats it.
    service.fail("CreateLibrary", RefusedError(code, "No.", reason="SOME_REASON", library="lib"))
    with pytest.raises(CODES[code]) as caught:
        client.create_library("lib")
    error = caught.value
    assert type(error) is CODES[code]
    assert (error.reason, error.message, str(error), error.details) == ("SOME_REASON", "No.", "No.", {"library": "lib"})
    assert error.request_id == "request-1"
    assert len(service.requests) == 1


async def test_the_asyncio_client_raises_the_same_exceptions(running: RunningService, service: ScriptedService) -> None:
    service.fail("CreateLibrary", RefusedError(grpc.StatusCode.ALREADY_EXISTS, "Taken.", reason="LIBRARY_EXISTS", library="lib"))
    async with AsyncClient(running.address) as client:
        with pytest.raises(atomas.AlreadyExistsError) as caught:
            await client.create_library("lib")
    assert (caught.value.reason, caught.value.details, caught.value.request_id) == ("LIBRARY_EXISTS", {"library": "lib"}, "request-1")


def test_details_of_another_domain_are_not_taken_for_ours(client: Client, service: ScriptedService) -> None:
    refusal = RefusedError(grpc.StatusCode.NOT_FOUND, "No.", reason="X")
    refusal.status = refusal.status.replace(b"atomas", b"others")
    service.fail("CreateLibrary", refusal)
    with pytest.raises(atomas.NotFoundError) as caught:
        client.create_library("lib")
    assert caught.value.reason == "NOT_FOUND"


@given(raw=st.binary(max_size=60))
def test_broken_details_never_break_the_translation(raw: bytes) -> None:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", raw))
    error = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailing, details="No."), "here:1")
    assert type(error) is atomas.NotFoundError
    assert error.message == "No."


def test_a_bare_transport_error_is_internal_and_names_the_address() -> None:
    error = from_rpc_error(grpc.RpcError(), "here:1")
    assert type(error) is atomas.InternalError
    assert "here:1" in error.message


def test_idempotent_calls_ride_out_short_outages(client: Client, service: ScriptedService) -> None:
    service.fail("ListLibraries", *[RefusedError(grpc.StatusCode.UNAVAILABLE, "Away.", reason="INDEX_UNAVAILABLE")] * 2)
    assert list(client.libraries()) == []
    assert len(service.seen("ListLibraries")) == 3


def test_an_outage_that_lasts_is_told_with_its_reason(client: Client, service: ScriptedService) -> None:
    service.fail("ListLibraries", *[RefusedError(grpc.StatusCode.UNAVAILABLE, "The index is away.", reason="INDEX_UNAVAILABLE")] * 9)
    with pytest.raises(atomas.UnavailableError, match="The index is away") as caught:
        list(client.libraries())
    assert caught.value.reason == "INDEX_UNAVAILABLE"
    assert len(service.seen("ListLibraries")) == 4


def test_calls_that_may_not_run_twice_are_not_repeated(client: Client, service: ScriptedService) -> None:
    service.fail("CreateLibrary", RefusedError(grpc.StatusCode.UNAVAILABLE, "Away.", reason="DATABASE_UNAVAILABLE"))
    with pytest.raises(atomas.UnavailableError):
        client.create_library("lib")
    assert len(service.requests) == 1


def test_an_overloaded_service_is_asked_again_when_it_says_when(client: Client, service: ScriptedService) -> None:
    service.fail("CreateLibrary", *[RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Full.", reason="OVERLOADED", retry_seconds=0.01)] * 3)
    assert client.create_library("lib").id == "lib"
    assert len(service.requests) == 4


async def test_the_asyncio_client_asks_an_overloaded_service_again(running: RunningService, service: ScriptedService) -> None:
    service.fail("SearchCompounds", RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Full.", reason="OVERLOADED", retry_seconds=0.01))
    async with AsyncClient(running.address) as client:
        assert len(await client.search("acid", limit=2)) == 2


def test_a_service_that_stays_overloaded_is_told_with_its_delay(client: Client, service: ScriptedService) -> None:
    service.fail("CreateLibrary", *[RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Full.", reason="OVERLOADED", retry_seconds=0.01)] * 9)
    with pytest.raises(atomas.OverloadedError) as caught:
        client.create_library("lib")
    assert caught.value.retry_after_seconds == pytest.approx(0.01)
    assert len(service.requests) == 5


def test_a_limit_without_a_delay_is_told_at_once(client: Client, service: ScriptedService) -> None:
    service.fail("CreateLibrary", RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "The disk is full.", reason="DISK_FULL"))
    with pytest.raises(atomas.OverloadedError, match="disk"):
        client.create_library("lib")
    assert len(service.requests) == 1


def test_nobody_waits_for_a_delay_beyond_the_deadline() -> None:
    error = atomas.OverloadedError("Full.")
    error.retry_after_seconds = 5.0
    assert overload_delay_seconds(error, 1, remaining_seconds=4.0) is None
    delay_seconds = overload_delay_seconds(error, 1, remaining_seconds=60.0)
    assert delay_seconds is not None
    assert 5.0 <= delay_seconds <= 7.5


def test_a_deadline_that_passes_is_a_typed_error(running: RunningService, service: ScriptedService) -> None:
    service.gate.clear()
    with Client(running.address, timeout_seconds=0.05) as client, pytest.raises(atomas.DeadlineExceededError, match="in time"):
        client.model()
    service.gate.set()


def test_nobody_listening_says_where_and_what_to_start() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(atomas.UnavailableError, match=r"127\.0\.0\.1:1.*python -m server") as caught:
        client.health()
    assert caught.value.reason == "UNAVAILABLE"


def test_an_answer_over_the_message_limit_says_so(client: Client, service: ScriptedService) -> None:
    refusal = RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (70000000 vs. 67108864)", raw=b"")
    service.fail("CreateLibrary", refusal)
    with pytest.raises(atomas.InvalidArgumentError, match="too large") as caught:
        client.create_library("lib")
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_a_service_without_the_call_is_told_apart(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handlers, "service", lambda self, details: None)
    with Client(running.address) as client, pytest.raises(atomas.UnsupportedError):
        client.model()


@pytest.mark.parametrize(
    ("given_address", "resolved"),
    [
        ("example.org:1234", "example.org:1234"),
        ("example.org", "example.org:50051"),
        (" 10.0.0.1:80 ", "10.0.0.1:80"),
        ("[::1]:7", "[::1]:7"),
        ("[::1]", "[::1]:50051"),
        (":9000", "localhost:9000"),
        ("unix:/run/atomas.sock", "unix:/run/atomas.sock"),
        ("dns:///atomas.internal:443", "dns:///atomas.internal:443"),
    ],
)
def test_addresses_are_completed(given_address: str, resolved: str) -> None:
    assert resolve_address(given_address) == resolved


@pytest.mark.parametrize(
    "address", ["http://localhost:50051", "localhost:0", "localhost:99999", "local host", "a:b", "host:1:2", "host/path"]
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(atomas.InvalidArgumentError, match=r"host:port.*127\.0\.0\.1:50051"):
        Client(address)


def test_the_environment_names_the_default_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATOMAS_ADDRESS", raising=False)
    assert resolve_address(None) == "127.0.0.1:50051"
    monkeypatch.setitem(os.environ, "ATOMAS_ADDRESS", "search.example.org:7000")
    assert resolve_address(None) == "search.example.org:7000"
    assert resolve_address("other:1") == "other:1"


def test_a_proxy_variable_does_not_swallow_calls_to_this_machine(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Client(running.address) as client:
        assert client.health() is atomas.Health.SERVING
    assert ("grpc.enable_http_proxy", 0) not in channel_options("search.example.org:443")


def test_only_calls_that_exist_are_named_for_repetition() -> None:
    from google.longrunning import operations_proto_pb2

    from atomas.v1 import embedding_service_pb2, library_service_pb2, model_service_pb2, search_service_pb2

    files = (embedding_service_pb2, library_service_pb2, model_service_pb2, search_service_pb2, operations_proto_pb2)
    known = {
        (service.full_name, method.name)
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    named = {(name["service"], name["method"]) for name in json.loads(service_config())["methodConfig"][0]["name"]}
    assert named <= known
    unsafe = {"CreateLibrary", "DeleteLibrary", "DeleteCompound", "ImportCompounds"}
    assert not {method for _, method in named} & unsafe
