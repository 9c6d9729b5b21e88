"""RabbitMQ knows at once that a worker is gone, and gives its jobs to another one."""

import pytest

from atomas import Client
from tests.faults.fleets import Disturbed, contents, kill_while, real_compounds, running_fleet, wait_until_done

ROWS = 120


def test_jobs_of_a_killed_worker_are_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", 20)
    rows = real_compounds(ROWS)
    # So long that no sweep can be what sends the job again.
    with running_fleet("rabbitmq", job_resend_seconds="3600") as fleet, Client(fleet.address) as client:
        client.import_compounds(rows, library="calm")
        sending = Disturbed(fleet.address, rows, "disturbed")
        sending.wait_for(ROWS // 3)
        kill_while(fleet, "index", "index_entries", "INSERT INTO index_entries%")
        sending.finish()
        wait_until_done(client)
        assert contents(client, "disturbed") == contents(client, "calm")
