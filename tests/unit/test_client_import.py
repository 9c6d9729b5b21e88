"""The import stream: nothing lost, nothing twice, whatever breaks; progress, waiting, faults in the source."""

import asyncio
import gzip
import itertools
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atomas
from atomas import AsyncClient, Client, ImportProgress, OperationState, Row, importing, waiting
from tests.unit.scripted_service import RefusedError, RunningService, ScriptedService

ImportFunction = Callable[..., atomas.ImportReport]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningService]:
    with RunningService() as started:
        yield started


@pytest.fixture
def service(running: RunningService) -> ScriptedService:
    running.service.__init__()  # type: ignore[misc]  # a new server for each test would take much longer
    return running.service


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three rows and short delays, so that a few rows already make a long import."""
    monkeypatch.setattr(importing, "CHUNK_ROWS", 3)
    monkeypatch.setattr(importing, "_FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(importing, "_MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(waiting, "_MAX_DELAY_SECONDS", 0.01)


@pytest.fixture(params=["blocking", "asyncio"])
def import_compounds(request: pytest.FixtureRequest, running: RunningService) -> ImportFunction:
    """`import_compounds` of either client."""

    def blocking(*arguments: Any, **options: Any) -> atomas.ImportReport:
        with Client(running.address, timeout_seconds=10) as client:
            return client.import_compounds(*arguments, **options)

    def with_asyncio(*arguments: Any, **options: Any) -> atomas.ImportReport:
        async def run() -> atomas.ImportReport:
            async with AsyncClient(running.address, timeout_seconds=10) as client:
                return await client.import_compounds(*arguments, **options)

        return asyncio.run(run())

    return blocking if request.param == "blocking" else with_asyncio


def smiles(count: int) -> list[str]:
    return ["C" * (number + 1) for number in range(count)]


def arrived(service: ScriptedService) -> list[str]:
    """SMILES of the one import that came."""
    (rows,) = service.rows.values()
    return [row.smiles for row in rows]


def test_rows_arrive_in_order_and_are_counted(import_compounds: ImportFunction, service: ScriptedService) -> None:
    report = import_compounds(smiles(10), "lib", source="ten rows")
    assert arrived(service) == smiles(10)
    assert (report.rows, report.state, report.library) == (10, OperationState.SUCCEEDED, "lib")
    assert (report.counts.received, report.counts.created, report.counts.indexed) == (10, 10, 10)
    start = service.seen("import.start")[0].start
    assert (start.parent, start.source, start.allow_missing) == ("libraries/lib", "ten rows", True)
    uuid.UUID(start.request_id)
    assert [request.rows.offset for request in service.seen("import.rows")] == [0, 3, 6, 9]
    assert [row.position for row in next(iter(service.rows.values()))] == list(range(1, 11))


def test_rows_mappings_and_strings_may_be_mixed(import_compounds: ImportFunction, service: ScriptedService) -> None:
    rows = [
        Row(molblock="molblock", id="A", name="a", synonyms=("b",), descriptions=("c",), metadata={"stars": 3}, position=77),
        {"SMILES": "CCO", "id": "CHEBI:1", "definition": "An alcohol.", "mass": 46.0, "nothing": None},
        {"inchi": "InChI=1S/CH4/h1H4"},
        "CCN",
    ]
    import_compounds(rows, "lib")
    first, second, third, fourth = next(iter(service.rows.values()))
    assert (first.molblock, first.source_id, first.display_name, list(first.synonyms)) == ("molblock", "A", "a", ["b"])
    assert (list(first.descriptions), first.metadata["stars"], first.position) == (["c"], 3, 77)
    assert (second.smiles, second.source_id, list(second.descriptions)) == ("CCO", "CHEBI:1", ["An alcohol."])
    assert dict(second.metadata) == {"mass": 46.0}
    assert third.inchi == "InChI=1S/CH4/h1H4"
    assert (fourth.smiles, fourth.position) == ("CCN", 4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 30),
    breaks=st.lists(st.integers(0, 8), max_size=5),
    lose_rows=st.booleans(),
    code=st.sampled_from([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED]),
    politely=st.booleans(),
)
def test_every_row_arrives_once_whatever_breaks(
    import_compounds: ImportFunction,
    service: ScriptedService,
    count: int,
    breaks: list[int],
    lose_rows: bool,
    code: grpc.StatusCode,
    politely: bool,
) -> None:
    service.__init__()  # type: ignore[misc]  # as new for each example
    service.import_script.break_after = deque(breaks)
    service.import_script.lose_rows = lose_rows
    service.import_script.code = code
    service.import_script.end_politely = politely
    report = import_compounds(smiles(count), "lib")
    assert arrived(service) == smiles(count)
    assert report.rows == report.counts.received == count


def test_a_broken_stream_resumes_from_what_the_service_holds(import_compounds: ImportFunction, service: ScriptedService) -> None:
    # Start and two chunks are acknowledged; the third is stored, its acknowledgement lost.
    service.import_script.break_after = deque([3])
    import_compounds(smiles(30), "lib")
    second_start = service.seen("import.start")[1]
    after = service.requests[[request for _, request in service.requests].index(second_start, 1) :]
    assert next(request for name, request in after if name == "import.rows").rows.offset == 9
    assert len({request.start.request_id for request in service.seen("import.start")}) == 1


def test_rows_whose_fate_is_unknown_are_sent_again(import_compounds: ImportFunction, service: ScriptedService) -> None:
    service.import_script.break_after = deque([2, 0])
    service.import_script.lose_rows = True
    import_compounds(smiles(9), "lib")
    assert arrived(service) == smiles(9)
    offsets = [request.rows.offset for request in service.seen("import.rows")]
    assert offsets.count(3) == 2


def test_unacknowledged_rows_are_bounded(service: ScriptedService, running: RunningService) -> None:
    taken: list[int] = []
    release = threading.Event()

    def rows() -> Iterator[str]:
        for number in range(300):
            taken.append(number)
            if number == 60:
                # Long after the window is full: nothing would have been read this far without acknowledgements.
                release.set()
            yield "C"

    original = service.import_compounds

    def slow(requests: Iterable[Any]) -> Iterator[Any]:
        for answer in original(iter(requests)):
            if not release.is_set() and answer.acknowledged_rows == 0:
                blocked_at.append(len(taken))
                assert not release.wait(0.3)
                blocked_at.append(len(taken))
            yield answer

    blocked_at: list[int] = []
    service.import_compounds = slow  # type: ignore[method-assign]  # this once slow to acknowledge
    with Client(running.address) as client:
        client.import_compounds(rows(), "lib")
    # Eight chunks of three rows, and the row that made the last one full.
    assert blocked_at[1] <= importing.WINDOW_CHUNKS * 3 + 1
    assert len(arrived(service)) == 300


def test_a_refusal_is_told_and_not_retried(import_compounds: ImportFunction, service: ScriptedService) -> None:
    with pytest.raises(atomas.NotFoundError) as caught:
        import_compounds(smiles(5), "lib", create_library=False)
    assert caught.value.reason == "LIBRARY_NOT_FOUND"
    assert service.streams == 1


def test_an_overloaded_service_is_given_its_time(import_compounds: ImportFunction, service: ScriptedService) -> None:
    service.fail("ImportCompounds", RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Full.", reason="OVERLOADED", retry_seconds=0.01))
    assert import_compounds(smiles(5), "lib").rows == 5


def test_a_full_disk_ends_the_import_with_what_is_wrong(import_compounds: ImportFunction, service: ScriptedService) -> None:
    full = RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "The disk is full.", reason="DISK_FULL")
    # It stays full: a client that was still writing may learn only that the stream has ended, and asks again.
    service.fail("ImportCompounds", *[full] * 20)
    with pytest.raises(atomas.OverloadedError, match="disk is full"):
        import_compounds(smiles(5), "lib")


def test_a_service_that_is_not_there_is_told_after_a_short_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "FIRST_PATIENCE_SECONDS", 0.05)
    with Client("127.0.0.1:1") as client, pytest.raises(atomas.UnavailableError, match="python -m server"):
        client.import_compounds(smiles(5), "lib")


def test_a_service_that_never_comes_back_is_given_up(
    service: ScriptedService, running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PATIENCE_SECONDS", 0.05)
    service.import_script.break_after = deque([2] + [0] * 10_000)
    with Client(running.address) as client, pytest.raises(atomas.UnavailableError):
        client.import_compounds(smiles(30), "lib")
    assert service.streams > 2


def test_a_service_restarted_in_mid_stream_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningService() as first:
        port = int(first.address.rpartition(":")[2])
        second = RunningService.__new__(RunningService)

        def rows() -> Iterator[str]:
            for number, text in enumerate(smiles(30)):
                if number == 20:
                    first.__exit__()
                    second.__init__(port)  # type: ignore[misc]  # the port is free only now
                    # What was durable survives the restart.
                    second.service.rows = first.service.rows
                    second.__enter__()
                yield text

        with Client(first.address) as client:
            report = client.import_compounds(rows(), "lib")
        assert report.rows == 30
        assert arrived(second.service) == smiles(30)
        second.__exit__()


def test_a_stalled_stream_is_opened_anew(
    import_compounds: ImportFunction, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "STALL_SECONDS", 0.1)
    original, stalled = service.import_compounds, threading.Event()

    def stalling(requests: Iterable[Any]) -> Iterator[Any]:
        for answer in original(iter(requests)):
            yield answer
            if not stalled.is_set():
                stalled.set()
                threading.Event().wait(0.4)

    service.import_compounds = stalling  # type: ignore[method-assign]  # silent after its first answer
    assert import_compounds(smiles(9), "lib").rows == 9
    assert arrived(service) == smiles(9)
    assert service.streams == 2


def test_the_same_request_id_goes_on_with_the_same_import(import_compounds: ImportFunction, service: ScriptedService) -> None:
    request_id = str(uuid.uuid4())
    import_compounds(smiles(10), "lib", request_id=request_id)
    again = import_compounds(smiles(10), "lib", request_id=request_id)
    assert again.rows == 10
    assert arrived(service) == smiles(10)


def test_without_waiting_the_report_says_what_is_known(import_compounds: ImportFunction, service: ScriptedService) -> None:
    service.polls_until_done = 10
    report = import_compounds(smiles(6), "lib", wait=False)
    assert report.state is OperationState.PROCESSING
    assert report.rows == 6
    assert service.polls == 1


def test_progress_grows_to_the_end_and_then_tells_verdicts(
    import_compounds: ImportFunction, service: ScriptedService, tmp_path: Path
) -> None:
    path = tmp_path / "rows.smi"
    path.write_text("\n".join(smiles(50)))
    told: list[ImportProgress] = []
    service.polls_until_done = 3
    import_compounds(path, "lib", on_progress=told.append)
    for before, after in itertools.pairwise(told):
        assert after.rows_sent >= before.rows_sent
        assert after.rows_acknowledged >= before.rows_acknowledged
        assert (after.bytes_read or 0) >= (before.bytes_read or 0)
    last = told[-1]
    assert last.rows_sent == last.rows_acknowledged == 50
    assert last.bytes_read == last.total_bytes == path.stat().st_size
    assert [p.counts.created for p in told if p.counts] == [25, 25, 25, 50]
    assert all(p.operation.startswith("operations/") for p in told if p.rows_acknowledged)


def test_a_failed_operation_raises_with_its_reason(import_compounds: ImportFunction, service: ScriptedService) -> None:
    service.operation_error = status_pb2.Status(code=13, message="The encoder broke.")
    with pytest.raises(atomas.OperationFailedError, match="The encoder broke") as caught:
        import_compounds(smiles(3), "lib")
    assert caught.value.operation.state is OperationState.FAILED
    assert caught.value.reason == "INTERNAL"


def test_a_cancelled_import_is_reported_as_such(import_compounds: ImportFunction, service: ScriptedService) -> None:
    request_id = str(uuid.uuid4())
    service.cancelled.add(f"operations/{request_id}")
    assert import_compounds(smiles(3), "lib", request_id=request_id).state is OperationState.CANCELLED


def test_waiting_rides_out_a_restart_of_the_service(import_compounds: ImportFunction, service: ScriptedService) -> None:
    service.fail("GetOperation", *[RefusedError(grpc.StatusCode.UNAVAILABLE, "Away.")] * 5)
    assert import_compounds(smiles(3), "lib").state is OperationState.SUCCEEDED


def test_waiting_has_a_deadline_when_asked(service: ScriptedService, running: RunningService) -> None:
    service.rows["op"] = []
    service.polls_until_done = 10**9
    with Client(running.address) as client, pytest.raises(atomas.DeadlineExceededError, match="not done yet"):
        client.wait("op", timeout_seconds=0.05)


def test_rejections_are_listed_with_their_rows(service: ScriptedService, running: RunningService) -> None:
    rows = [Row(smiles="C"), *[Row(unreadable=f"broken {n}", position=n, metadata={"source_text": "x"}) for n in range(2, 7)]]
    with Client(running.address) as client:
        report = client.import_compounds(rows, "lib")
        rejections = list(client.rejections(report.operation))
        assert client.operation(report.operation).counts.rejected_by_reason == {"UNREADABLE": 5}
        assert [o.resource_name for o in client.operations()] == [report.operation]
    assert [(r.position, r.reason, r.message) for r in rejections] == [(n, "UNREADABLE", f"broken {n}") for n in range(2, 7)]
    assert rejections[0].row == rows[1]


def test_an_operation_is_cancelled(service: ScriptedService, running: RunningService) -> None:
    service.rows["op"] = []
    service.polls_until_done = 10**9
    with Client(running.address) as client:
        assert client.operation("op").state is OperationState.PROCESSING
        client.cancel("operations/op")
        assert client.wait("op").state is OperationState.CANCELLED


def test_rows_before_a_fault_in_the_source_are_imported_and_counted(
    import_compounds: ImportFunction, service: ScriptedService, tmp_path: Path
) -> None:
    path = tmp_path / "cut.smi.gz"
    # Random-looking names, so that the packed file is longer than one read.
    packed = gzip.compress("\n".join(f"C {uuid.uuid4()}" for _ in range(2_000)).encode())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(atomas.ReaderError, match="damaged or cut off") as caught:
        import_compounds(path, "lib")
    error = caught.value
    assert 0 < error.rows_imported < 2_000
    assert f"{error.rows_imported:,} rows before" in error.message
    assert len(arrived(service)) == error.rows_imported
    assert error.operation in [f"operations/{name}" for name in service.rows]
    assert service.seen("import.finish")[0].finish.row_count == error.rows_imported


def test_a_file_that_cannot_be_opened_sends_nothing(import_compounds: ImportFunction, service: ScriptedService, tmp_path: Path) -> None:
    with pytest.raises(atomas.ReaderError, match="There is no file") as caught:
        import_compounds(tmp_path / "missing.smi", "lib")
    assert caught.value.rows_imported == 0
    assert service.requests == []


def test_an_exception_of_the_callers_own_iterator_comes_back_to_the_caller(
    import_compounds: ImportFunction, service: ScriptedService
) -> None:
    def rows() -> Iterator[str]:
        yield from smiles(5)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        import_compounds(rows(), "lib")
    assert arrived(service) == smiles(5)
    assert len(service.seen("import.finish")) == 1


def test_rows_are_read_by_the_thread_that_imports(service: ScriptedService, running: RunningService) -> None:
    # Database cursors, for one, refuse any other thread.
    threads = set()

    def rows() -> Iterator[str]:
        for text in smiles(20):
            threads.add(threading.get_ident())
            yield text

    with Client(running.address) as client:
        client.import_compounds(rows(), "lib")
    assert threads == {threading.get_ident()}


async def test_rows_may_come_asynchronously(service: ScriptedService, running: RunningService) -> None:
    async def rows() -> AsyncIterator[str]:
        for text in smiles(10):
            await asyncio.sleep(0)
            yield text

    async with AsyncClient(running.address) as client:
        report = await client.import_compounds(rows(), "lib")
    assert report.rows == 10
    assert arrived(service) == smiles(10)


async def test_asyncio_imports_and_searches_share_the_loop(service: ScriptedService, running: RunningService) -> None:
    async with AsyncClient(running.address) as client:
        imports = asyncio.gather(*(client.import_compounds(smiles(20), f"lib{n}") for n in range(4)))
        found = await client.search("acid", limit=7)
        reports = await imports
    assert len(found) == 7
    assert [report.rows for report in reports] == [20] * 4


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (Row(smiles="C", name="\ud800"), "Unicode"),
        (Row(smiles="C", metadata={"x": object()}), "holds a object"),  # type: ignore[dict-item]  # what a careless caller may do
        ({"smiles": "C", "x": b"\xff"}, "UTF-8"),
        (Row(smiles="C" * 150), "the limit is"),
    ],
)
def test_a_row_that_cannot_be_sent_is_rejected_alone(
    service: ScriptedService, running: RunningService, monkeypatch: pytest.MonkeyPatch, row: Any, complaint: str
) -> None:
    monkeypatch.setattr(importing, "MAX_ROW_BYTES", 150)
    with Client(running.address) as client:
        client.import_compounds(["CC", row, "CCC"], "lib")
    first, second, third = next(iter(service.rows.values()))
    assert (first.smiles, third.smiles) == ("CC", "CCC")
    assert complaint in second.unreadable
    assert second.position == 2


def test_deep_metadata_is_rejected_and_its_chunk_survives(service: ScriptedService, running: RunningService) -> None:
    deep: Any = "bottom"
    for _ in range(200):
        deep = [deep]
    with Client(running.address) as client:
        client.import_compounds([Row(smiles="C"), Row(smiles="CC", metadata={"deep": deep})], "lib")
    first, second = next(iter(service.rows.values()))
    assert first.smiles == "C"
    assert "levels deep" in second.unreadable


def test_chunks_stay_below_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "CHUNK_ROWS", 500)
    monkeypatch.setattr(importing, "CHUNK_BYTES", 1_000)
    sizes = [len(batch) for batch in importing.batches("C" * 300 for _ in range(10))]
    assert sum(sizes) == 10
    assert set(sizes) == {3, 1}


@pytest.mark.parametrize("make", [lambda: Row(), lambda: Row(smiles="C", inchi="InChI=1S/CH4/h1H4")])
def test_a_row_has_exactly_one_structure(make: Callable[[], Row]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        make()
