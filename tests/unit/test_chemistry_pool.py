"""The guarded pool: hanging, crashing and greedy molecules cost their own row and nothing else."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoder.molecules import Limits, Molecule, MoleculeError, Reason, Structure, standardise
from server.adapters.chemistry_pool import ChemistryPool
from tests.strategies import library_smiles
from tests.unit.misbehaving import misbehave
from tests.unit.test_molecules import nasty_molecules

ROOT = Path(__file__).parents[2]
LIMITS = Limits(seconds=1.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[ChemistryPool]:
    pool = ChemistryPool(2, LIMITS, query_seconds=0.5, standardise=misbehave)
    pool.warm()
    yield pool
    pool.close()


def smiles(*texts: str) -> list[Structure]:
    return [Structure("smiles", text) for text in texts]


def verdicts(results: list[Molecule | MoleculeError]) -> list[str]:
    return [result.reason if isinstance(result, MoleculeError) else result.smiles for result in results]


def test_results_come_in_order_and_equal_those_of_the_door(pool: ChemistryPool) -> None:
    texts = library_smiles()[:100]
    assert pool.standardise_many(smiles(*texts)) == [standardise(text) for text in texts]
    assert pool.standardise_many([]) == []


def test_refused_rows_stand_among_the_others(pool: ChemistryPool) -> None:
    results = pool.standardise_many([*smiles("CCO", "C1CC", ""), Structure("inchi", "InChI=1S/CH4/h1H4"), Structure("auto", "x" * 20_000)])
    assert verdicts(results) == ["CCO", Reason.INVALID_SMILES, Reason.EMPTY, "C", Reason.TOO_LARGE]


@pytest.mark.parametrize(
    ("guilty", "reason"),
    [("hang", "TIMEOUT"), ("segfault", "CRASHED"), ("abort", "CRASHED"), ("exit", "CRASHED"), ("gorge", "CRASHED")],
)
def test_only_the_guilty_row_is_refused(pool: ChemistryPool, guilty: str, reason: str) -> None:
    before, after = ["C" * n for n in range(1, 12)], ["N", "O", "S"]
    assert verdicts(pool.standardise_many(smiles(*before, guilty, *after))) == [*before, reason, *after]


def test_a_real_molecule_that_hangs_inchi_times_out(pool: ChemistryPool) -> None:
    hanging = [Structure("smiles", json.loads(row["text"])) for row in nasty_molecules() if row["verdict"] == Reason.TIMEOUT]
    assert verdicts(pool.standardise_many([*hanging, *smiles("C")])) == [*[Reason.TIMEOUT] * len(hanging), "C"]
    assert hanging


def test_a_refusal_by_the_guard_reads_like_a_sentence(pool: ChemistryPool) -> None:
    assert str(pool.standardise_one(Structure("smiles", "hang"))) == "The structure took longer than 0.5 seconds."
    assert str(pool.standardise_one(Structure("smiles", "segfault"))) == "The structure crashes the chemistry toolkit (SIGSEGV)."
    assert str(pool.standardise_one(Structure("smiles", "exit"))) == "The structure crashes the chemistry toolkit (exit code 3)."


def test_several_threads_share_the_workers(pool: ChemistryPool) -> None:
    results: dict[int, list[str]] = {}

    def work(number: int) -> None:
        guilty = "segfault" if number == 2 else "CC"
        results[number] = verdicts(pool.standardise_many(smiles(*["C" * (number + 1)] * 20, guilty)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: ["C" * (n + 1)] * 20 + ["CRASHED" if n == 2 else "CC"] for n in range(5)}


def test_a_query_goes_ahead_of_waiting_bulk_work(pool: ChemistryPool) -> None:
    bulk = threading.Thread(target=pool.standardise_many, args=(smiles(*["slowly C"] * 400),))
    bulk.start()
    time.sleep(0.1)
    assert verdicts([pool.standardise_one(Structure("auto", "CCO"))]) == ["CCO"]
    assert bulk.is_alive()
    bulk.join()


def test_an_idle_worker_killed_from_outside_is_replaced(pool: ChemistryPool) -> None:
    for _ in range(3):
        victim = pool.standardise_one(Structure("smiles", "pid"))
        assert isinstance(victim, MoleculeError)
        os.kill(int(victim.message), signal.SIGKILL)
        assert verdicts(pool.standardise_many(smiles(*["C"] * 40))) == ["C"] * 40


def test_workers_never_load_torch(pool: ChemistryPool) -> None:
    modules = pool.standardise_one(Structure("smiles", "modules"))
    assert isinstance(modules, MoleculeError)
    assert "rdkit" in modules.message.split()
    assert "torch" not in modules.message.split()


def test_a_worker_has_no_more_memory_than_it_is_given() -> None:
    pool = ChemistryPool(1, LIMITS, memory_limit_bytes=1 << 30, standardise=misbehave)
    try:
        refusal, fine = pool.standardise_many(smiles("gorge", "C"))
    finally:
        pool.close()
    assert str(refusal) == "The structure needs more memory than the chemistry toolkit may use."
    assert verdicts([fine]) == ["C"]


def test_a_closed_pool_leaves_no_process_and_refuses_work() -> None:
    pool = ChemistryPool(1, LIMITS)
    pool.warm()
    started = {child.pid for child in multiprocessing.active_children()}
    pool.close()
    assert {child.pid for child in multiprocessing.active_children()} < started
    with pytest.raises(RuntimeError, match="closed"):
        pool.standardise_one(Structure("smiles", "C"))
    pool.close()


def test_a_hanging_worker_does_not_outlive_a_killed_parent() -> None:
    code = (
        "from server.adapters.chemistry_pool import ChemistryPool; from encoder.molecules import *\n"
        "import threading; from tests.unit.misbehaving import misbehave\n"
        "pool = ChemistryPool(1, Limits(seconds=1.0), standardise=misbehave)\n"
        "print(pool.standardise_one(Structure('smiles', 'pid')), flush=True)\n"
        "pool.standardise_many([Structure('smiles', 'hang')])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_molblocks_come_in_order_beside_what_cannot_be_drawn(pool: ChemistryPool) -> None:
    ethanol, broken, methane = pool.molblocks(["CCO", "C1CC", "C"])
    assert isinstance(ethanol, str)
    assert standardise(ethanol).smiles == "CCO"
    assert isinstance(broken, MoleculeError)
    assert isinstance(methane, str)
    assert standardise(methane).smiles == "C"
