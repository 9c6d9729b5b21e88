"""A chunk whose reader dies every time: real processes die of it, then its rows are rejected and the import ends."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.operations import State
from server.usecases import watch_jobs
from server.usecases.track_operations import get_operation, list_rejections
from tests.builders import import_rows, row
from tests.fakes import FakeEncoder
from tests.fakes_models import fake_ports
from tests.running import ROOT

SILENT_SECONDS = 1.0
# A worker that takes one job and dies in the middle of it as the kernel would have it.
WORKER = """
import os, signal, sys
from dataclasses import replace
from server.adapters.sql.transaction import SqlDatabase
from server.jobs import ReadChunk
from server.usecases import watch_jobs
from server.usecases.track_operations import run_job
from tests.fakes import FakeEncoder
from tests.fakes_models import fake_ports

class Deadly:
    def standardise_many(self, structures):
        os.kill(os.getpid(), signal.SIGKILL)

watch_jobs.SILENT_SECONDS = float(sys.argv[3])
ports = replace(fake_ports(FakeEncoder()), database=SqlDatabase(sys.argv[1]), chemistry=Deadly())
run_job(ReadChunk(sys.argv[2], 0), ports)
"""


def test_a_chunk_that_kills_every_worker_is_rejected_after_the_third(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'atomas.sqlite3'}"
    migrate(url)
    database = SqlDatabase(url)
    ports = replace(fake_ports(FakeEncoder()), database=database)
    operation = import_rows(ports, [row(1, "CCO"), row(2, "CCN")])

    def worker() -> int:
        command = [sys.executable, "-c", WORKER, url, operation.id, str(SILENT_SECONDS)]
        code = subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode
        time.sleep(SILENT_SECONDS)
        return code

    assert [worker() for _ in range(watch_jobs.MOST_DEATHS)] == [-9] * watch_jobs.MOST_DEATHS
    assert get_operation(operation.id, ports).counts.rejected == 0
    assert worker() == 0
    rejected = list_rejections(operation.id, 0, 10, ports)
    assert [(each.position, each.reason) for each in rejected] == [(1, "CRASHED"), (2, "CRASHED")]
    assert get_operation(operation.id, ports).state is State.PROCESSING
    database.close()
