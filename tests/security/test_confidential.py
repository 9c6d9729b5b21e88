"""Structures, texts, names and metadata of queries and imports reach no log, no metric, no trace and no audit record, whatever process says it."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from celery import Celery
from numpy.typing import NDArray

from atomas import Client
from atomas.errors import InternalError
from encoder.molecules import Molecule, MoleculeError, Structure
from server.adapters.local_queue import LocalQueue
from server.observability import configure_logs
from server.ports import Ports
from server.usecases.track_operations import run_job
from tests.confidential import NAME, PLANTED, SMILES, TEXT, assert_silent, leaks
from tests.fakes import FakeChemistry, FakeEncoder
from tests.fakes_models import fake_ports
from tests.running import running_server
from tests.security.otlp_receiver import otlp_receiver
from tests.security.planting import LIBRARY, plant
from tests.security.served import served
from workers import tasks
from workers.app import register


def test_a_leak_would_be_noticed() -> None:
    for word in PLANTED:
        assert leaks(f"a line\nwith {word.upper()} in it") == [f"with {word.lower()} in it"]
    assert not leaks("a line\nwith nothing in it")


def test_the_embedded_service_says_nothing_of_what_it_was_asked(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with (
        otlp_receiver() as traces,
        running_server(tmp_path / "data", log_level="debug", audit_log=str(audit), otlp_endpoint=traces.endpoint) as server,
    ):
        plant(server.address, server.url)
        server.stop()
    log = server.log.read_text()
    assert "SearchCompounds" in log, "the log holds nothing at all"
    assert "SearchCompounds" in audit.read_text(), "the audit log holds nothing at all"
    assert "SearchCompounds" in traces.text(), "no traces came"
    assert_silent("log", log)
    assert_silent("audit log", audit.read_text())
    assert_silent("traces", traces.text())


class _Crashing(FakeEncoder):
    """A fault that nobody foresaw, which repeats what it was given, as faults do."""

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        try:
            raise KeyError(texts[0])
        except KeyError as error:
            raise RuntimeError(f"cannot encode {texts}") from error


class _CrashingChemistry(FakeChemistry):
    def standardise_many(self, structures: Sequence[Structure]) -> list[Molecule | MoleculeError]:
        raise ValueError(f"cannot read {structures}")


@pytest.mark.parametrize("form", ["json", "text"])
def test_crashes_are_logged_without_what_made_them_crash(capfd: pytest.CaptureFixture[str], restored_logs: None, form: str) -> None:
    configure_logs("debug", form)
    done = threading.Event()
    queue = LocalQueue(attempts=1)
    ports = fake_ports(_Crashing(), queue)
    ports = Ports(**{**vars(ports), "chemistry": _CrashingChemistry()})
    queue.start(lambda job: run_job(job, ports), lambda job, reason, message: done.set())
    with served(ports, auth_required=False) as service, Client(service.address) as client:
        client.import_compounds([{"smiles": SMILES, "name": NAME}], library=LIBRARY, wait=False)
        assert done.wait(20)
        with pytest.raises(InternalError, match="request id"):
            client.search(text=TEXT, library=LIBRARY)
    queue.close()
    said = capfd.readouterr()
    assert "RuntimeError" in said.err
    assert "KeyError" in said.err
    assert "job failed" in said.err
    assert_silent("crash", said.err + said.out)


def test_a_job_that_crashes_in_a_worker_is_logged_without_what_it_was_given(
    capfd: pytest.CaptureFixture[str], restored_logs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("debug", "json")

    def crash(job: object, ports: Ports) -> None:
        raise ValueError(f"cannot do {TEXT}")

    class RetriedError(Exception):
        """As Celery raises."""

    class Request(dict[str, Any]):
        retries = 0

    class Task:
        """As Celery calls it."""

        def __init__(self) -> None:
            self.request = Request()

        def retry(self, **options: Any) -> Exception:
            return RetriedError()

    monkeypatch.setattr(tasks, "run_job", crash)
    registered: dict[str, Any] = {}

    class App:
        def task(self, function: Any, name: str, **options: Any) -> None:
            registered[name] = function

    register(cast(Celery, App()), fake_ports(FakeEncoder()), attempts=5)
    with pytest.raises(RetriedError):
        registered["import.read_chunk"](Task(), {"operation": "0" * 32, "chunk": 1}, 0)
    said = capfd.readouterr().err
    records = [json.loads(line) for line in said.splitlines()]
    assert {record["operation"] for record in records} == {f"operations/{'0' * 32}"}
    assert [record["event"] for record in records] == ["job failed", "job refused"]
    assert_silent("worker", said)
