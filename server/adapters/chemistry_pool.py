"""The chemistry door in worker processes: a molecule that hangs or crashes RDKit costs a worker, never the service."""

import logging
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as TaskTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from math import ceil
from multiprocessing import get_context
from typing import Any, TypeAlias, TypeVar

from pebble import ProcessExpired, ProcessPool

from encoder.drawing import Look, draw
from encoder.molblocks import molblock
from encoder.molecules import DEFAULT_LIMITS, Limits, Molecule, MoleculeError, Reason, Structure, standardise_structure
from server.observability.metrics import CHEMISTRY_SECONDS, CHEMISTRY_STRUCTURES

T = TypeVar("T")
Result: TypeAlias = Molecule | MoleculeError
# What a worker does with one structure: any importable function, it reaches the workers by name.
Work: TypeAlias = Callable[[Structure, Limits], T]

_LOG = logging.getLogger(__name__)
# Small enough that a query waits some 30 ms for a worker, large enough that a task's overhead of half a millisecond disappears.
_ROWS_PER_TASK = 8
_ATTEMPTS = 2


class ChemistryPool:
    """Works on structures in spawned processes, each molecule under a limit of time and the process under one of memory.

    Thread-safe. Bulk work in flight is bounded: `standardise_many` waits for its turn, `standardise_one` goes ahead of what waits.
    """

    def __init__(
        self,
        processes: int,
        limits: Limits = DEFAULT_LIMITS,
        query_seconds: float = 2.0,
        memory_limit_bytes: int = 2 << 30,
        standardise: Work[Molecule] = standardise_structure,
    ) -> None:
        """`standardise` is what the workers run to standardise."""
        self._processes = processes
        self._limits = limits
        self._query_limits = replace(limits, seconds=min(query_seconds, limits.seconds))
        self._memory_limit_bytes = memory_limit_bytes
        self._standardise = standardise
        # One task more than there are workers: no worker idles between two tasks, and a query finds at most one task ahead of it.
        self._bulk_slots = threading.BoundedSemaphore(processes + 1)
        self._lock = threading.Lock()
        self._closed = False
        self._pool = self._start()

    def warm(self) -> None:
        """Start the workers and wait until one answers, so that the first caller does not."""
        self.standardise_many([Structure("smiles", "C")])

    def standardise_many(self, structures: Sequence[Structure]) -> list[Result]:
        """One result per structure, in order: a molecule, or the error that says why there is none."""
        return self.work_on_many(self._standardise, structures)

    def standardise_one(self, structure: Structure) -> Result:
        """For queries: the same with the shorter limit of time."""
        return self.work_on_one(self._standardise, structure)

    def molblocks(self, smiles: Sequence[str]) -> list[str | MoleculeError]:
        """Each standardised molecule as a molblock with 2-D coordinates, in order."""
        return self.work_on_many(molblock, [Structure("smiles", text) for text in smiles])

    def draw(self, structure: Structure, look: Look) -> str | MoleculeError:
        """A drawing as SVG."""
        return self.work_on_one(partial(draw, look), structure)

    def work_on_many(self, work: Work[T], structures: Sequence[Structure]) -> list[T | MoleculeError]:
        """Bulk work, in order.

        Rows that share a task with one that hangs or crashes are run again one by one, so only the guilty row is refused.
        """
        tasks = []
        for start in range(0, len(structures), _ROWS_PER_TASK):
            rows = structures[start : start + _ROWS_PER_TASK]
            self._bulk_slots.acquire()
            try:
                future = self._submit(work, rows, self._limits)
            except BaseException:
                self._bulk_slots.release()
                raise
            future.add_done_callback(lambda _: self._bulk_slots.release())
            tasks.append((rows, future))
        return _counted(work, [result for rows, future in tasks for result in self._collect(work, rows, future)])

    def work_on_one(self, work: Work[T], structure: Structure, seconds: float | None = None) -> T | MoleculeError:
        """Work that a query waits for: ahead of bulk work, with the shorter limit of time or one of its own."""
        limits = self._query_limits if seconds is None else replace(self._query_limits, seconds=seconds)
        return _counted(work, [self._alone(work, structure, limits)])[0]

    def close(self) -> None:
        """End the workers; what is in flight is abandoned. Further calls raise RuntimeError."""
        with self._lock:
            self._closed = True
        self._pool.stop()
        self._pool.join()

    def _collect(self, work: Work[T], rows: Sequence[Structure], future: Any) -> list[T | MoleculeError]:
        try:
            results: list[T | MoleculeError] = future.result()
            return results
        except (TaskTimeout, ProcessExpired, BrokenProcessPool):
            return [self._alone(work, row, self._limits) for row in rows]

    def _alone(self, work: Work[T], structure: Structure, limits: Limits) -> T | MoleculeError:
        """Run one structure in a task of its own, again when its worker died: somebody else may have ended it."""
        error = MoleculeError(Reason.CRASHED, "The chemistry worker died before it could read the structure.")
        for _ in range(_ATTEMPTS):
            try:
                result: T | MoleculeError = self._submit(work, [structure], limits).result()[0]
                return result
            except TaskTimeout:
                return MoleculeError(Reason.TIMEOUT, f"The structure took longer than {limits.seconds:g} seconds.")
            except ProcessExpired as death:
                error = MoleculeError(Reason.CRASHED, f"The structure crashes the chemistry toolkit ({_cause(death.exitcode)}).")
            except BrokenProcessPool:
                continue
        return error

    def _submit(self, work: Work[T], rows: Sequence[Structure], limits: Limits) -> Any:
        with self._lock:
            if self._closed:
                raise RuntimeError("The chemistry pool is closed.")
            # Pebble gives up for good when an idle worker is killed from outside, as a system short of memory does.
            if not self._pool.active:
                _LOG.warning("The chemistry workers were killed from outside; starting new ones.")
                self._pool.stop()
                self._pool = self._start()
            started = time.perf_counter()
            future = self._pool.schedule(_work_on_rows, args=(work, rows, limits), timeout=limits.seconds)
            seconds = CHEMISTRY_SECONDS.labels(_name(work))
            future.add_done_callback(lambda _: seconds.observe(time.perf_counter() - started))
            return future

    def _start(self) -> Any:
        return ProcessPool(
            max_workers=self._processes,
            # A fork would copy the parent's locks and threads, and the memory of its model.
            context=get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(self._memory_limit_bytes,),
        )


def _prepare_worker(memory_limit_bytes: int) -> None:
    # Pebble's own handler waits for RDKit to return, and every other worker waits with it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    # A crash is an expected answer here; gigabytes of core files are not.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work_on_rows(work: Work[T], rows: Sequence[Structure], limits: Limits) -> list[T | MoleculeError]:
    """The work of one task, in a worker."""
    # The parent ends a worker that hangs. Should the parent itself be gone, the kernel does: an orphan must not hang for ever.
    signal.alarm(ceil(limits.seconds) + 2)
    try:
        return [_work_on_row(work, row, limits) for row in rows]
    finally:
        signal.alarm(0)


def _work_on_row(work: Work[T], row: Structure, limits: Limits) -> T | MoleculeError:
    try:
        return work(row, limits)
    except MoleculeError as error:
        return error
    except MemoryError:
        return MoleculeError(Reason.CRASHED, "The structure needs more memory than the chemistry toolkit may use.")


def _name(work: Work[T]) -> str:
    return str(getattr(work.func if isinstance(work, partial) else work, "__name__", "work"))


def _counted(work: Work[T], results: list[T | MoleculeError]) -> list[T | MoleculeError]:
    """The same, once they are in the metrics: the worker processes have none of their own."""
    name = _name(work)
    for verdict, count in Counter(result.reason.value if isinstance(result, MoleculeError) else "OK" for result in results).items():
        CHEMISTRY_STRUCTURES.labels(name, verdict).inc(count)
    return results


def _cause(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
