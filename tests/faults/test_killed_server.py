"""kill -9 of the embedded server: every acknowledged row is a compound with its vector, once."""

import gzip
import json
import pathlib
import threading
import time

import pytest

from atomas import Client, UnavailableError
from atomas.types import ImportProgress
from tests.running import ROOT, RunningServer, running_server

ROWS = 600


@pytest.fixture(scope="module")
def library() -> list[dict[str, object]]:
    """Real compounds, as rows."""
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        return [json.loads(line) for line, _ in zip(source, range(ROWS), strict=False)]


@pytest.fixture(scope="module")
def undisturbed(library: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """What an import that nothing disturbs ends with."""
    with running_server(tmp_path_factory.mktemp("calm") / "data") as server, Client(server.address) as client:
        client.import_compounds(library, library="lib")
        return contents(client)


def contents(client: Client) -> dict[str, tuple[str, ...]]:
    """InChIKey -> names and ids; fails when a compound is not found first by its own structure's vector."""
    compounds = {c.inchikey: (c.name, *c.source_ids, *c.synonyms) for c in client.compounds("lib")}
    found = client.search("a molecule", library="lib", target="molecules", limit=len(compounds) + 10, ids_only=True)
    keys = [hit.compound.resource_name.rpartition("/")[2] for hit in found]
    assert sorted(keys) == sorted(compounds), "index and database differ"
    return compounds


def wait_until_done(client: Client) -> None:
    """Returns when no operation works any more."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if all(operation.done for operation in client.operations()):
            return
        time.sleep(0.2)
    raise AssertionError("the import did not finish")


@pytest.mark.parametrize("acknowledged", [100, 600])
def test_an_import_whose_server_is_killed_ends_with_the_same_compounds(
    library: list[dict[str, object]],
    undisturbed: dict[str, tuple[str, ...]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    acknowledged: int,
) -> None:
    # Small chunks, so that the kill meets some that are acknowledged, some that are read, some that are indexed.
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", 50)
    folder = tmp_path / "data"
    server = RunningServer(folder)
    port = server.address.rpartition(":")[2]
    enough = threading.Event()

    def watch(progress: ImportProgress) -> None:
        if progress.rows_acknowledged >= acknowledged:
            enough.set()

    failures: list[Exception] = []

    def send() -> None:
        try:
            with Client(server.address) as client:
                client.import_compounds(library, library="lib", on_progress=watch)
        except UnavailableError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    assert enough.wait(60)
    server.kill()
    with running_server(folder, listen=f"127.0.0.1:{port}") as restarted, Client(restarted.address) as client:
        sender.join(120)
        assert not sender.is_alive()
        assert not failures, "the client did not resume by itself"
        wait_until_done(client)
        assert contents(client) == undisturbed
