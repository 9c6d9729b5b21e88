"""Log records: one JSON line each, whoever makes them; values of exceptions and of libraries stay out."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from server.adapters.local_queue import LocalQueue
from server.domain.errors import AtomasError, Reason
from server.jobs import Generate, Job, ReadChunk
from server.observability.logs import configure_logs, report_crashes
from server.observability.withheld import exception_text, record_text
from tests.log_state import logs_restored

SECRET = "[14CH3]C([2H])CCCl"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configures logs as a process does; what has been written since, as records."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)

    def records() -> list[dict[str, Any]]:
        lines = stderr.getvalue().splitlines()
        assert SECRET not in "".join(lines)
        return [json.loads(line) for line in lines]

    with logs_restored():
        configure_logs("debug", "json")
        yield records


def test_an_exception_is_told_by_its_type_reason_and_place(written: Any) -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise AtomasError(Reason.INVALID_SMILES, f"{SECRET} is no SMILES") from error
    except AtomasError:
        structlog.get_logger().exception("failed")
    [record] = written()
    assert record["event"] == "failed"
    assert record["level"] == "error"
    for word in ("ValueError", "AtomasError(INVALID_SMILES)", "test_logs.py", "after which"):
        assert word in record["exception"]


def test_messages_of_exceptions_are_there_for_those_who_ask(capsys: pytest.CaptureFixture[str], written: Any) -> None:
    configure_logs("info", "json", exception_messages=True)
    structlog.get_logger().error("failed", exc_info=ValueError("the cause"))
    assert "ValueError: the cause" in json.loads(capsys.readouterr().err)["exception"]


def test_groups_notes_and_endless_chains_of_exceptions_hide_their_messages_too() -> None:
    inner, outer = ValueError(SECRET), KeyError(SECRET)
    inner.__cause__, outer.__cause__ = outer, inner
    inner.add_note(SECRET)
    text = exception_text(ExceptionGroup(SECRET, [inner, ExceptionGroup(SECRET, [outer])]))
    assert SECRET not in text
    assert "ValueError" in text
    assert "KeyError" in text


def test_a_librarys_record_is_one_of_ours_without_what_it_is_filled_with(written: Any) -> None:
    library = logging.getLogger("celery.worker.consumer.consumer")
    library.warning("Received unknown message %r from %s after %d seconds", {"args": [SECRET]}, SECRET, 3)
    library.error("Cannot connect: %s", ConnectionError(SECRET), exc_info=ConnectionError(SECRET))
    library.info("taking %s", SECRET)
    unknown, failure = written()
    assert unknown["event"] == "Received unknown message '…' from … after 3 seconds"
    assert unknown["logger"] == "celery.worker.consumer.consumer"
    assert failure["event"] == "Cannot connect: ConnectionError"
    assert failure["exception"] == "ConnectionError"


@pytest.mark.parametrize(
    ("template", "args"),
    [("%d of %s", ("text", SECRET)), ("%(a)s and %(b)d", ({"a": SECRET, "b": 2},)), ("100 % sure", (SECRET,)), ("%s", (SECRET, SECRET))],
)
def test_records_that_cannot_be_filled_show_their_template(template: str, args: tuple[object, ...]) -> None:
    text = record_text(logging.LogRecord("x", logging.ERROR, "x.py", 1, template, args, None))
    assert SECRET not in text
    assert text


def test_a_heading_is_kept_of_what_a_library_filled_in_itself() -> None:
    said = f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{SECRET}')>"
    assert record_text(logging.LogRecord("asyncio", logging.ERROR, "x.py", 1, said, (), None)) == "Task exception was never retrieved"


def test_warnings_are_told_by_place_and_category(written: Any) -> None:
    report_crashes()
    warnings.showwarning(SECRET, UserWarning, "place.py", 3)
    said = f"place.py:3: UserWarning: {SECRET}\n"
    logging.getLogger("py.warnings").warning(said)
    ours, captured = written()
    assert (ours["category"], ours["place"]) == ("UserWarning", "place.py:3")
    assert captured["event"] == "place.py:3: UserWarning"


def test_a_crash_of_a_thread_is_a_record(written: Any) -> None:
    report_crashes()

    def crash() -> None:
        raise ValueError(SECRET)

    thread = threading.Thread(target=crash, name="careless")
    thread.start()
    thread.join()
    [record] = written()
    assert (record["thread"], record["level"]) == ("careless", "error")
    assert "ValueError" in record["exception"]


def test_records_of_a_job_name_it_its_operation_and_the_request_that_caused_it(written: Any) -> None:
    queue, done = LocalQueue(attempts=1, retry_seconds=0.01), threading.Event()

    def run(job: Job) -> None:
        structlog.get_logger().info("working")
        if isinstance(job, ReadChunk):
            with structlog.contextvars.bound_contextvars(request_id="another"):
                queue.send(Generate("generation-1"))
        else:
            done.set()

    queue.start(run, lambda job, reason, message: None)
    with structlog.contextvars.bound_contextvars(request_id="request-1"):
        queue.send(ReadChunk("0123", 1))
    assert done.wait(10)
    queue.close()
    working = [record for record in written() if record["event"] == "working"]
    assert [(each["request_id"], each["job"], each["operation"]) for each in working] == [
        ("request-1", "import.read_chunk", "operations/0123"),
        ("another", "generate.run", "operations/generation-1"),
    ]


def test_a_refused_job_is_a_warning_with_its_reason(written: Any) -> None:
    queue, told = LocalQueue(attempts=1), threading.Event()

    def run(job: Job) -> None:
        raise AtomasError(Reason.TOO_LARGE, SECRET)

    queue.start(run, lambda job, reason, message: told.set())
    queue.send(ReadChunk("0123", 1))
    assert told.wait(10)
    queue.close()
    [refused] = [record for record in written() if record["event"] == "job refused"]
    assert (refused["reason"], refused["level"]) == ("TOO_LARGE", "warning")
