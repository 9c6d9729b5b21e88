"""kill -9 of the embedded server: every acknowledged row is a compound with its vector, once."""

import gzip
import json
import threading
import time
from collections.abc import Iterator

import pytest

from atomas import Client, UnavailableError
from atomas.types import ImportProgress
from tests.running import ROOT, RunningServer

ROWS = 600


class Victim:
    """A server that is killed and comes back on the same address with the same data."""

    def __init__(self, running: RunningServer) -> None:
        self.running = running

    @property
    def address(self) -> str:
        return self.running.address

    def kill_and_start_again(self) -> None:
        self.running.kill()
        self.running = RunningServer(self.running.data_dir, listen=self.running.address)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One for every test of this file: each works in a library of its own, and leaves it running."""
    victim = Victim(RunningServer(tmp_path_factory.mktemp("victim") / "data"))
    yield victim
    victim.running.kill()


@pytest.fixture(scope="module")
def library() -> list[dict[str, object]]:
    """Real compounds, as rows."""
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        return [json.loads(line) for line, _ in zip(source, range(ROWS), strict=False)]


@pytest.fixture(scope="module")
def undisturbed(library: list[dict[str, object]], victim: Victim) -> dict[str, tuple[str, ...]]:
    """What an import that nothing disturbs ends with."""
    with Client(victim.address) as client:
        client.import_compounds(library, library="calm")
        return contents(client, "calm")


def contents(client: Client, library: str) -> dict[str, tuple[str, ...]]:
    """InChIKey -> names and ids; fails unless the index holds exactly the compounds that the database holds, each once."""
    compounds = {c.inchikey: (c.name, *c.source_ids, *c.synonyms) for c in client.compounds(library)}
    found = client.search("a molecule", library=library, target="molecules", limit=len(compounds) + 10, ids_only=True)
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
    victim: Victim,
    monkeypatch: pytest.MonkeyPatch,
    acknowledged: int,
) -> None:
    # Small chunks, so that the kill meets some that are acknowledged, some that are read, some that are indexed.
    monkeypatch.setattr("atomas.importing.CHUNK_ROWS", 50)
    name = f"killed-at-{acknowledged}"
    enough = threading.Event()

    def watch(progress: ImportProgress) -> None:
        if progress.rows_acknowledged >= acknowledged:
            enough.set()

    failures: list[Exception] = []

    def send() -> None:
        try:
            with Client(victim.address) as client:
                client.import_compounds(library, library=name, on_progress=watch)
        except UnavailableError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    assert enough.wait(60)
    victim.kill_and_start_again()
    sender.join(120)
    assert not sender.is_alive()
    assert not failures, "the client did not resume by itself"
    with Client(victim.address) as client:
        wait_until_done(client)
        assert contents(client, name) == undisturbed
