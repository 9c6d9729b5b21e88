"""A running service changes its model: filled beside the serving one, compared, activated, rolled back, removed, without one failed query."""

import json
import os
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from atomas import Client, NotFoundError, OperationState
from tests.running import ROOT, RunningServer, atomas, running_server
from tests.second_model import QUERIES, Load, second_checkpoint


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """Folder and version of another model."""
    folder = tmp_path_factory.mktemp("checkpoint") / "second"
    return folder, second_checkpoint(folder)


@pytest.fixture
def filled(tmp_path: pathlib.Path, sample: pathlib.Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data") as server:
        with Client(server.address) as client:
            client.import_compounds(sample, library="chebi")
        yield server


def upkeep(server: RunningServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m server` on the data of a server."""
    settings = {**os.environ, "ATOMAS_DATA_DIR": str(server.data_dir), "ATOMAS_CHEMISTRY_PROCESSES": "1", "ATOMAS_ENCODER_THREADS": "1"}
    command = [sys.executable, "-m", "server", *arguments]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240, check=False)


def answers(client: Client) -> dict[str, tuple[str, ...]]:
    return {query: tuple(hit.compound.resource_name for hit in client.search(text=query, library="chebi", limit=5)) for query in QUERIES}


def test_a_model_is_changed_and_changed_back_under_load(filled: RunningServer, second: tuple[pathlib.Path, str]) -> None:
    folder, version = second
    with Client(filled.address) as client, Load(filled.address, "chebi").running(threads=2) as load:
        (first,) = client.models()
        load.wait_for(first.version)
        fill = client.reindex(folder)
        # Imports go on meanwhile, into both indexes.
        client.import_compounds([{"smiles": "C" * length, "id": f"X:{length}"} for length in range(30, 60)], library="other")
        done = client.wait(fill, timeout_seconds=120)
        assert done.state is OperationState.SUCCEEDED
        states = {model.version: (model.state, model.compound_count) for model in client.models()}
        total = sum(library.compound_count for library in client.libraries())
        assert states == {first.version: ("SERVING", total), version: ("READY", total)}
        assert load.models() == {first.version}
        # From here on nothing is imported: each model has one answer to a query.
        load.forget()
        before = answers(client)
        compared = client.compare_models(version, QUERIES, limit=5)
        assert {each.text: tuple(each.former) for each in compared.comparisons} == before
        client.activate_model(version)
        load.wait_for(version)
        after = answers(client)
        assert client.model().version == version
        assert after != before
        assert {each.text: tuple(each.present) for each in compared.comparisons} == after
        client.activate_model(first.version)
        assert answers(client) == before
        client.activate_model(version)
        client.delete_model(first.version)
        with pytest.raises(NotFoundError):
            client.model(first.version)
        assert answers(client) == after
        count = load.count
    assert load.failures == []
    assert count > 50
    # Whatever a model answered to a query is what that model alone answers: never a vector of one in the index of the other.
    for (model, query), seen in load.answers.items():
        assert set(seen) == {before[query] if model == first.version else after[query]}, (model, query)


def test_the_choice_survives_a_restart_and_a_lost_checkpoint_gives_way(
    tmp_path: pathlib.Path, sample: pathlib.Path, second: tuple[pathlib.Path, str]
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    for file in second[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with running_server(tmp_path / "data") as server, Client(server.address) as client:
        client.import_compounds(sample, library="chebi")
        first = client.model().version
        client.wait(client.reindex(folder), timeout_seconds=120)
        client.activate_model(second[1])
    with running_server(tmp_path / "data") as server, Client(server.address) as client:
        assert client.model().version == second[1]
        assert len(client.search(text="steroid", library="chebi", limit=5)) == 5
    for file in folder.iterdir():
        file.unlink()
    with running_server(tmp_path / "data") as server, Client(server.address) as client:
        assert client.model().version == first
        assert len(client.search(text="steroid", library="chebi", limit=5)) == 5


def test_the_command_line_changes_models(filled: RunningServer, second: tuple[pathlib.Path, str]) -> None:
    folder, version = second
    run = atomas(filled.address, "reindex", "--model", str(folder))
    assert run.returncode == 0, run.stderr
    assert f"models/{version} is ready" in run.stdout
    listed = json.loads(atomas(filled.address, "models", "--json").stdout)["models"]
    assert [model["state"] for model in listed] == ["SERVING", "READY"]
    assert "in both" in atomas(filled.address, "models", "compare", version, "steroid").stdout
    assert atomas(filled.address, "models", "delete", listed[0]["id"]).returncode == 1
    assert atomas(filled.address, "models", "activate", version).returncode == 0
    assert atomas(filled.address, "models", "delete", listed[0]["id"]).returncode == 0
    assert [model["id"] for model in json.loads(atomas(filled.address, "models", "--json").stdout)["models"]] == [version]
    refused = atomas(filled.address, "reindex", "--model", "/nowhere")
    assert (refused.returncode, "checkpoint" in refused.stderr) == (1, True)


def test_verify_finds_and_mends_what_differs(tmp_path: pathlib.Path, sample: pathlib.Path) -> None:
    with running_server(tmp_path / "data") as server:
        with Client(server.address) as client:
            client.import_compounds(sample, library="chebi")
        busy = upkeep(server, "verify")
        assert (busy.returncode, "DATA_DIR_IN_USE" in busy.stderr) == (1, True)
    assert upkeep(server, "verify").returncode == 0
    with sqlite3.connect(tmp_path / "data" / "atomas.sqlite3") as database:
        # As if the last hour of the database had been lost: its index knows more than it does, and less.
        gone = database.execute("SELECT key FROM compounds ORDER BY key LIMIT 3").fetchall()
        database.executemany("DELETE FROM index_entries WHERE compound_key = ?", gone)
        database.executemany("DELETE FROM compounds WHERE key = ?", gone)
        database.execute("UPDATE compounds SET revision = revision + 5 WHERE key IN (SELECT key FROM compounds ORDER BY key LIMIT 2)")
        database.execute("UPDATE index_entries SET revision = (SELECT revision FROM compounds WHERE key = compound_key)")
    found = upkeep(server, "verify")
    assert found.returncode == 1
    assert "stale: 2" in found.stdout
    assert "orphaned: 3" in found.stdout
    mended = upkeep(server, "verify", "--repair")
    assert (mended.returncode, "mended" in mended.stdout) == (0, True), mended.stderr
    assert upkeep(server, "verify").returncode == 0
