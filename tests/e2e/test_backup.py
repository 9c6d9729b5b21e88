"""An embedded service is copied while it is written to, restored into an empty one, and answers as before."""

import pathlib

import pytest

from atomas import Client
from server.adapters.backup_folder import Backup
from server.domain.errors import AtomasError
from tests.faults.fleets import Disturbed, real_compounds, trickling, wait_for, wait_until_done
from tests.restoring import answers, assert_alike, operate, operator, stored
from tests.running import RunningServer, running_server

SETTLED, MOVING = 60, 260


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup shall meet chunks in every state."""
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", 20)


def serving(target: pathlib.Path, copy: pathlib.Path) -> RunningServer:
    """A service in an empty folder, from a copy."""
    assert operate("restore", str(copy), data_dir=target) == 0
    return RunningServer(target)


def test_a_copy_made_under_writes_restores_what_was_acknowledged_and_answers_alike(tmp_path: pathlib.Path) -> None:
    rows = real_compounds(SETTLED + MOVING)
    settled, moving = rows[:SETTLED], rows[SETTLED:]
    copy, target = tmp_path / "copy", tmp_path / "restored"
    with running_server(tmp_path / "data") as server, Client(server.address) as client:
        client.import_compounds(settled, library="settled")
        imported = Disturbed(server.address, trickling(moving, copy.exists), "moving")
        imported.wait_for(100)
        run = operator("backup", str(copy), data_dir=str(server.data_dir))
        assert run.returncode == 0, run.stderr
        imported.finish()
        wait_until_done(client)
        before = {library: (stored(client, library), answers(client, library)) for library in ("settled", "moving")}
    service = serving(target, copy)
    try:
        with Client(service.address) as client:
            assert stored(client, "settled") == before["settled"][0]
            # 100 rows were acknowledged before the copy began; some are the same compound, and those not yet read are read now.
            wait_for(lambda: len(stored(client, "moving")) >= 80, "acknowledged rows are missing")
            part = stored(client, "moving")
            assert len(part) < len(before["moving"][0])
            assert part.keys() <= before["moving"][0].keys()
            # What was cut off is imported again, and does no harm to what is here.
            client.import_compounds(moving, library="moving")
            after = {library: (stored(client, library), answers(client, library)) for library in before}
            for library, (compounds, said) in before.items():
                assert after[library][0] == compounds
                assert_alike(after[library][1], said)
        service.stop()
    finally:
        service.kill()
    assert operate("verify", data_dir=target) == 0
    with pytest.raises(AtomasError, match="is not empty"):
        operate("restore", str(copy), data_dir=target)


def test_a_stopped_service_is_copied_with_its_indexes(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    with running_server(tmp_path / "data") as server, Client(server.address) as client:
        client.import_compounds(real_compounds(SETTLED), library="settled")
        before = stored(client, "settled"), answers(client, "settled")
    assert operate("backup", str(copy), data_dir=server.data_dir) == 0
    assert Backup(copy).contents.indexes == ("index", "structures")
    service = serving(tmp_path / "restored", copy)
    try:
        with Client(service.address) as client:
            assert stored(client, "settled") == before[0]
            assert_alike(answers(client, "settled"), before[1])
            assert client.model().compound_count == len(before[0])
    finally:
        service.kill()
