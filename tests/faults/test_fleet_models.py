"""A fleet changes its model, loses a worker in the middle of a deletion or a generation, has its index compared with its database, and is copied."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from atomas import AlreadyExistsError, Client, GeneratedMolecules, NotFoundError, OperationState, UnavailableError
from deploy.fleet import Fleet
from encoder.manifest import ModelFacts
from server.adapters.qdrant_admin import QdrantAdmin
from server.adapters.qdrant_index import QdrantIndex
from server.domain.errors import AtomasError
from tests.faults.fleets import (
    PATIENCE_SECONDS,
    Disturbed,
    contents,
    kill_while,
    real_compounds,
    running_fleet,
    trickling,
    wait_for,
    wait_until_done,
)
from tests.restoring import FILTER, answers, assert_alike, operate, operator, stored
from tests.running import ROOT, running_server
from tests.second_model import QUERIES, Load, second_checkpoint

ROWS = 120


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One fleet for every test of this file."""
    with running_fleet("redis", job_resend_seconds="2") as fleet:
        yield fleet


def points(fleet: Fleet) -> QdrantIndex:
    """The serving model's index, as a worker sees it."""
    facts = ModelFacts.read()
    return QdrantIndex(fleet.environment()["ATOMAS_QDRANT_URL"], facts.version, facts.dimension)


def upkeep(fleet: Fleet, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "server", *arguments]
    return subprocess.run(command, cwd=ROOT, env=fleet.environment(), capture_output=True, text=True, timeout=240, check=False)


def test_a_library_is_deleted_though_the_worker_dies_in_the_middle(fleet: Fleet) -> None:
    with Client(fleet.address) as client:
        client.import_compounds(real_compounds(ROWS), library="doomed")
        client.delete_library("doomed", force=True)
        with pytest.raises(NotFoundError):
            client.get_library("doomed")
        client.import_compounds(real_compounds(ROWS), library="doomed-too")

        def delete() -> None:
            with Client(fleet.address) as other:
                other.delete_library("doomed-too", force=True)

        # After the table is held: a small library is gone before.
        deletion = threading.Timer(1.0, delete)
        deletion.start()
        kill_while(fleet, "index", "compounds", "DELETE FROM compounds%")
        deletion.join()

        def gone() -> bool:
            try:
                client.create_library("doomed-too")
            except AlreadyExistsError:
                return False
            return True

        wait_for(gone, "the library was never removed")
        with closing(points(fleet)) as index:
            assert index.count("doomed") == index.count("doomed-too") == 0


def test_verify_compares_a_running_fleet_and_jobs_mend_it(fleet: Fleet) -> None:
    with Client(fleet.address) as client:
        client.import_compounds(real_compounds(ROWS), library="kept")
        before = contents(client, "kept")
        assert upkeep(fleet, "verify").returncode == 0
        with closing(points(fleet)) as index:
            lost = list(index.ids("kept"))[:7]
            index.delete(lost)
            found = upkeep(fleet, "verify")
            assert (found.returncode, "missing: 7" in found.stdout) == (1, True), found.stdout + found.stderr
            mended = upkeep(fleet, "verify", "--repair")
            assert mended.returncode == 0, mended.stdout + mended.stderr
            wait_for(lambda: len(index.documents(lost)) == 7, "the points did not come back")
        assert contents(client, "kept") == before
        assert upkeep(fleet, "verify").returncode == 0


def test_a_generation_ends_as_if_its_worker_had_not_died(fleet: Fleet) -> None:
    worker, found = fleet.add_worker("generate"), threading.Event()

    def generated() -> GeneratedMolecules:
        # Most attempts fail: the work is long enough to be disturbed.
        condition = "molecular_weight < 140"
        with Client(fleet.address) as client:
            return client.generate(
                "a phenol with a methoxy group", library="kept", count=8, filter=condition, seed=11, on_found=lambda _: found.set()
            )

    with ThreadPoolExecutor(1) as pool:
        disturbed = pool.submit(generated)
        assert found.wait(PATIENCE_SECONDS)
        worker.kill()
        assert not disturbed.done()
        worker.start()
        worker.wait()
        answer = disturbed.result(PATIENCE_SECONDS)
    assert answer.candidates
    calm = generated()
    assert [each.smiles for each in answer.candidates] == [each.smiles for each in calm.candidates]
    assert (answer.counts, answer.shortfall_reason) == (calm.counts, calm.shortfall_reason)


def test_a_fleet_is_copied_under_load_and_restored(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The copy shall meet chunks in every state.
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", 20)
    copy = tmp_path / "copy"
    settings = {name.removeprefix("ATOMAS_").lower(): value for name, value in fleet.environment().items() if name.startswith("ATOMAS_")}
    with Client(fleet.address) as client:
        client.import_compounds(real_compounds(ROWS), library="settled")
        imported = Disturbed(fleet.address, trickling(real_compounds(3 * ROWS), copy.exists), "moving")
        imported.wait_for(60)
        made = operator("backup", str(copy), **settings)
        assert made.returncode == 0, made.stderr
        imported.finish()
        wait_until_done(client)
        before = {library: (stored(client, library), answers(client, library)) for library in ("settled", "moving")}
    with psycopg.connect(fleet.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    empty = {**settings, "database_url": fleet.postgres.database_url("restored")}
    assert operate("restore", str(copy), **empty) == 0
    with pytest.raises(AtomasError, match="is not empty"):
        operate("restore", str(copy), **empty)
    # Whoever serves what was restored fills its indexes: here one process that has them in its own folder.
    with running_server(tmp_path / "data", database_url=empty["database_url"]) as server, Client(server.address) as client:
        # What was acknowledged and not yet read is read now.
        wait_for(lambda: len(stored(client, "moving")) >= 40, "acknowledged rows are missing")
        part = stored(client, "moving")
        assert len(part) < len(before["moving"][0])
        assert part.keys() <= before["moving"][0].keys()
        client.import_compounds(real_compounds(3 * ROWS), library="moving")
        held = sum(library.compound_count for library in client.libraries())
        wait_for(lambda: client.model().compound_count == held and found_all(client), "the indexes were not filled")
        for library, (compounds, said) in before.items():
            assert stored(client, library) == compounds
            assert_alike(answers(client, library), said)


def found_all(client: Client) -> bool:
    try:
        client.search(filter=FILTER, library="settled")
    except UnavailableError:
        return False
    return True


def test_a_fleet_changes_its_model_under_load(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("checkpoint") / "second"
    version = second_checkpoint(folder)
    load = Load(fleet.address, "chebi")
    with Client(fleet.address) as client:
        client.import_compounds(real_compounds(ROWS), library="chebi")
        first = client.model().version

        def answers() -> dict[str, tuple[str, ...]]:
            return {
                query: tuple(hit.compound.resource_name for hit in client.search(text=query, library="chebi", limit=5)) for query in QUERIES
            }

        before = answers()
        with load.running(threads=2):
            assert client.wait(client.reindex(folder), timeout_seconds=240).state is OperationState.SUCCEEDED
            assert {model.compound_count for model in client.models()} == {sum(library.compound_count for library in client.libraries())}
            client.activate_model(version)
            load.wait_for(version)
        after = answers()
        assert client.model().version == version
        # Workers encode with the model of the index that is searched, whichever they started with.
        assert after != before
        assert load.failures == []
        for (model, query), seen in load.answers.items():
            assert set(seen) == {before[query] if model == first else after[query]}, (model, query)
        client.delete_model(first)
        indexes = QdrantAdmin(fleet.environment()["ATOMAS_QDRANT_URL"])
        wait_for(lambda: indexes.versions() == [version], "the former index was not removed")
        assert answers() == after
