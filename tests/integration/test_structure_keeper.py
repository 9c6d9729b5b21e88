"""The structure keeper when things go wrong: patterns that never end, children that die, files that are torn, damaged or another's."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from encoder.molecules import standardise
from server.adapters import structure_store
from server.adapters.keeper_process import KeeperProcess
from server.adapters.rdkit_structures import RdkitStructures
from server.adapters.structure_store import StructureStore
from server.domain.compounds import point_id
from server.domain.errors import AtomasError, Reason
from server.ports import StructureEntry

SMILES = ["CCO", "CCN", "c1ccccc1", "c1ccccc1O", "CC(=O)O", "C1CC1", "N#N"]


def entries(smiles: list[str], library: str = "lib") -> list[StructureEntry]:
    molecules = [standardise(text) for text in smiles]
    return [StructureEntry(point_id(library, m.inchikey), library, m.smiles, m.skeleton, m.fingerprint) for m in molecules]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "structures" / "structures.log"


@pytest.fixture
def index(path: Path) -> Iterator[RdkitStructures]:
    opened = RdkitStructures(KeeperProcess(path, live_molecules=3), pattern_seconds=1.0)
    opened.upsert(entries(SMILES))
    opened.declare_complete()
    yield opened
    opened.close()


def child_of(index: RdkitStructures) -> int:
    return int(index._keeper._child._process.pid)  # type: ignore[attr-defined] # the process that the test kills


def kill_child_of(index: RdkitStructures) -> None:
    # It may just have been replaced.
    with suppress(ProcessLookupError):
        os.kill(child_of(index), signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def written_more_than(done: list[str], count: int) -> bool:
    return len(done) > count


def hexagons(width: int) -> str:
    """A sheet of fused six-rings: a large library compound on which patterns of many ways take for ever."""
    from rdkit import Chem

    sheet = Chem.RWMol()
    rows = [[sheet.AddAtom(Chem.Atom(6)) for _ in range(width)] for _ in range(width)]
    for y, row in enumerate(rows):
        for x in range(width):
            if x + 1 < width:
                sheet.AddBond(row[x], row[x + 1], Chem.BondType.SINGLE)
            if y + 1 < width and (x + y) % 2 == 0:
                sheet.AddBond(row[x], rows[y + 1][x], Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(sheet))


def test_a_pattern_that_never_ends_is_stopped_and_nobody_else_is_hurt(index: RdkitStructures) -> None:
    sheet = hexagons(14)
    molecule = standardise("c1ccccc1")
    id = point_id("heavy", molecule.inchikey)
    index.upsert([StructureEntry(id, "heavy", sheet, "X" * 14, molecule.fingerprint)])
    # A walk over most of the sheet's atoms that would have to end where there is none.
    endless = "smarts:" + "C" + "~C" * 120 + "~[Pt,C;D9]"
    former = child_of(index)
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(index.containing, endless, ["heavy"])
        time.sleep(0.2)
        others = [index.nearest(molecule.fingerprint, 3, ["lib"]) for _ in range(20)]
        with pytest.raises(AtomasError) as caught:
            stuck.result(60)
    assert caught.value.reason is Reason.TIMEOUT
    assert all(found == others[0] for found in others)
    assert child_of(index) != former
    assert len(index.containing("C", ["lib"])) == 6
    assert index.count("heavy") == 1


def test_a_killed_keeper_is_replaced_and_has_lost_nothing(index: RdkitStructures) -> None:
    generation = index.generation
    for _ in range(3):
        kill_child_of(index)
        assert len(index.containing("c1ccccc1")) == 2
    assert index.generation == generation
    assert index.complete


def test_writes_that_were_answered_survive_a_kill_while_others_are_under_way(index: RdkitStructures, path: Path) -> None:
    done: list[str] = []
    stopping = threading.Event()

    def write() -> None:
        for number in range(1, 10_000):
            smiles = "C" * (number % 40 + 1) + "N" * (number // 40 + 1)
            # As a job that is tried again.
            while not stopping.is_set():
                with suppress(AtomasError):
                    index.upsert(entries([smiles]))
                    done.append(smiles)
                    break
            if stopping.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(3):
                before = len(done)
                wait_for(partial(written_more_than, done, before + 4))
                kill_child_of(index)
            wait_for(partial(written_more_than, done, len(done) + 4))
        finally:
            stopping.set()
        writing.result(60)
    index.close()
    again = RdkitStructures(KeeperProcess(path, 10), 1.0)
    assert {entry.id for entry in entries([*SMILES, *done])} == set(again.ids())
    again.close()


def test_many_callers_at_once_get_their_own_answers(index: RdkitStructures) -> None:
    asked = [("c1ccccc1", 2), ("N", 2), ("[#8]", 3), ("C1CC1", 1), ("[Pt]", 0)] * 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: len(index.containing(pair[0])), asked))
    assert found == [count for _, count in asked]


def open_store(path: Path) -> StructureStore:
    return StructureStore(path, 10)


def test_a_torn_last_record_is_cut_off(index: RdkitStructures, path: Path) -> None:
    generation, ids = index.generation, index.ids()
    index.close()
    whole = path.read_bytes()
    for torn in (whole[-30:], whole[-200:-1], b"\x00", b"\xff" * 11):
        path.write_bytes(whole + torn)
        store = open_store(path)
        assert (store.generation, store.count(None), store.complete) == (generation, len(ids), True)
        store.close()
        assert path.read_bytes() == whole


def test_a_damaged_file_is_begun_anew_under_another_name(index: RdkitStructures, path: Path) -> None:
    generation = index.generation
    index.close()
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    for content in (bytes(damaged), b"nonsense\n", b""):
        path.write_bytes(content)
        store = open_store(path)
        assert store.generation != generation
        assert (store.count(None), store.complete) == (0, False)
        store.close()


def test_a_file_of_another_toolkit_is_begun_anew(index: RdkitStructures, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = index.generation
    index.close()
    monkeypatch.setattr(structure_store, "MADE_BY", "rdkit 1999.01")
    store = open_store(path)
    assert store.generation != generation
    assert store.count(None) == 0
    store.close()


def test_the_file_is_written_anew_when_most_of_it_is_out_of_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_store, "_GARBAGE_ROWS", 10)
    index = open_store(path)
    from server.adapters.keeper_messages import rows_of

    one = entries(["CCO", "CCN"])
    ids = rows_of(b"".join(entry.id.bytes for entry in one), 16)
    skeletons = rows_of(b"".join(entry.skeleton.encode() for entry in one), 14)
    morgan = rows_of(b"".join(entry.fingerprint for entry in one), 256)
    index.declare_complete()
    sizes = []
    for _ in range(20):
        index.remove(ids)
        index.add("lib", ids, skeletons, morgan, [entry.smiles for entry in one])
        sizes.append(path.stat().st_size)
    generation = index.generation
    index.close()
    assert max(sizes) < 12 * sizes[0]
    again = open_store(path)
    assert (again.generation, again.count("lib"), again.complete) == (generation, 2, True)
    again.close()
