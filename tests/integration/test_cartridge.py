"""The RDKit cartridge where it differs from the toolkit here, where it may not be used, and where a pattern never ends."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from encoder.molecules import standardise
from server.adapters import cartridge_schema
from server.adapters.cartridge_structures import CartridgeStructures, open_cartridge
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.sql.migrate import migrate
from server.bootstrap import service
from server.domain.compounds import point_id
from server.domain.errors import AtomasError, Reason
from server.domain.search import Query
from server.ports import StructureEntry
from server.settings import Settings
from server.usecases.search_compounds import search_compounds
from tests.builders import import_rows, row
from tests.contract.databases import postgres_server
from tests.integration.test_structure_keeper import hexagons
from tests.services import PostgresServer

__all__ = ["postgres_server"]

PATTERN_SECONDS = 30.0
# The cartridge's RDKit refuses the first, gives the second a radical, and finds the third by a fingerprint that no aryne has.
READ_OTHERWISE = ["O=[Cl+]=O", "O=[Mn](=O)(=O)[O-]", "COc1cc#ccc1C"]


@pytest.fixture(scope="module")
def chemistry() -> Iterator[ChemistryPool]:
    with closing(ChemistryPool(1)) as pool:
        pool.warm()
        yield pool


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> str:
    execute(postgres_server.url(), "CREATE DATABASE structures")
    return postgres_server.url("structures")


@pytest.fixture
def index(url: str, chemistry: ChemistryPool) -> Iterator[CartridgeStructures]:
    opened = open_cartridge(url, PATTERN_SECONDS, chemistry)
    assert opened is not None
    with closing(opened):
        opened.renew()
        opened.declare_complete()
        yield opened


def execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def wait_until_back(url: str, killed: list[int], seconds: float = 120) -> None:
    """Until the database has noticed the loss of its backends, and recovered."""
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in killed) or not _answers(url):
        assert time.monotonic() < deadline, "PostgreSQL did not come back."
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def entry(smiles: str) -> StructureEntry:
    molecule = standardise(smiles)
    return StructureEntry(point_id("lib", molecule.inchikey), "lib", molecule.smiles, molecule.skeleton, molecule.fingerprint)


def test_structures_that_the_cartridge_reads_otherwise_are_found(index: CartridgeStructures) -> None:
    odd = [entry(smiles) for smiles in READ_OTHERWISE]
    index.upsert([*odd, entry("CCO")])
    with index._session() as connection:
        unread = connection.exec_driver_sql("SELECT id FROM atomas_structures.molecules WHERE mol IS NULL").scalars().all()
    assert set(unread) == {one.id for one in odd}
    assert index.containing("smarts:[Cl+]") == [odd[0].id]
    assert set(index.containing("O")) == {one.id for one in odd} | {entry("CCO").id}
    assert set(index.contained_in("C" + odd[2].smiles)) == {odd[2].id, entry("CCO").id}
    # Read otherwise as patterns too.
    assert index.containing(odd[1].smiles) == [odd[1].id]
    assert index.contained_in(odd[1].smiles) == [odd[1].id]


def test_a_pattern_that_only_this_toolkit_reads_is_matched_here(index: CartridgeStructures, monkeypatch: pytest.MonkeyPatch) -> None:
    index.upsert([entry("CCO"), entry("CCN")])
    monkeypatch.setattr("server.adapters.cartridge_structures._reads_alike", lambda read, connection: "")
    assert index.containing("smarts:[OX2H]") == [entry("CCO").id]
    assert index.containing("smarts:[Pt]") == []


def test_a_pattern_that_never_ends_is_given_up_and_the_others_go_on(url: str, chemistry: ChemistryPool) -> None:
    index = open_cartridge(url, 1.0, chemistry)
    assert index is not None
    with closing(index):
        index.renew()
        index.declare_complete()
        benzene = standardise("c1ccccc1")
        index.upsert([StructureEntry(uuid.uuid4(), "heavy", hexagons(14), "X" * 14, benzene.fingerprint), entry("c1ccccc1")])
        endless = "smarts:" + "C" + "~C" * 120 + "~[Pt,C;D9]"
        with ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(index.containing, endless, ["heavy"])
            time.sleep(0.3)
            assert index.nearest(benzene.fingerprint, 1, ["lib"])[0].score == 1.0
            with pytest.raises(AtomasError) as caught:
                stuck.result(60)
        assert caught.value.reason is Reason.TIMEOUT
        assert len(index.containing("c1ccccc1", ["lib"])) == 1
        # What nobody but an administrator can do: the cartridge does not look up from one molecule.
        with psycopg.connect(url) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = 'structures' AND state = 'active' AND pid <> pg_backend_pid()"
            pids = [int(row[0]) for row in connection.execute(query)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until_back(url, pids)


def test_what_another_release_filled_is_begun_anew(
    index: CartridgeStructures, url: str, chemistry: ChemistryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.upsert([entry("CCO")])
    generation = index.generation
    same = open_cartridge(url, PATTERN_SECONDS, chemistry)
    assert same is not None
    with closing(same):
        assert (same.generation, same.count(), same.complete) == (generation, 1, True)
    monkeypatch.setattr(cartridge_schema, "STANDARD_VERSION", "another")
    other = open_cartridge(url, PATTERN_SECONDS, chemistry)
    assert other is not None
    with closing(other):
        assert other.generation != generation
        assert (other.count(), other.complete) == (0, False)


def test_a_cartridge_that_may_not_be_installed_counts_as_absent(postgres_server: PostgresServer, chemistry: ChemistryPool) -> None:
    execute(postgres_server.url(), "CREATE DATABASE bare")
    execute(postgres_server.url("bare"), "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = f"postgresql://guest:guest@127.0.0.1:{postgres_server.port}/bare"
    assert open_cartridge(guest, PATTERN_SECONDS, chemistry) is None
    assert open_cartridge("sqlite:////tmp/no.sqlite3", PATTERN_SECONDS, chemistry) is None


def test_a_service_on_postgresql_keeps_its_structures_there(postgres_server: PostgresServer, tmp_path: Path) -> None:
    execute(postgres_server.url(), "CREATE DATABASE whole")
    migrate(postgres_server.url("whole"))
    settings = Settings(data_dir=tmp_path, database_url=postgres_server.url("whole"), chemistry_processes=1)
    with service(settings) as ports:
        assert isinstance(ports.structures, CartridgeStructures)
        import_rows(ports, [row(1, "CCO", "A:1", "ethanol"), row(2, "CCN", "A:2", "ethylamine")])
        deadline = time.monotonic() + 120
        while not (ports.structures.complete and ports.structures.count() == 2 == ports.index.count()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = search_compounds(Query("lib"), 'substructure("[#7]")', ports, max_text_characters=99)
        assert [hit.compound.display_name for hit in found.hits] == ["ethylamine"]
        assert found.hits[0].matched_atoms
