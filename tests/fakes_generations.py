"""Declared fakes of generation: its table in memory, and a decoder that writes what it was told to."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from server.domain.errors import AtomasError, Reason
from server.domain.generation import Finding, Generation, GenerationCounts, GenerationState, KnownCompound
from server.domain.operations import Backlog
from server.ports import Shown, Written


@dataclass(frozen=True)
class StoredGeneration:
    """A row with those of its findings."""

    generation: Generation
    worker: str = ""
    beat: datetime | None = None
    findings: tuple[Finding, ...] = ()


class FakeGenerations:
    """The `Generations` port over a dictionary."""

    def __init__(self, rows: dict[str, StoredGeneration], require_writing: Callable[[], None]) -> None:
        self._rows = rows
        self._require_writing = require_writing

    def add(self, generation: Generation) -> None:
        self._require_writing()
        made = replace(generation, state=GenerationState.QUEUED, create_time=datetime.now(UTC))
        self._rows[generation.id] = StoredGeneration(made)

    def get(self, generation_id: str) -> Generation:
        if generation_id not in self._rows:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"There is no operation {generation_id!r}.")
        return self._rows[generation_id].generation

    def claim(self, generation_id: str, worker: str, silent_seconds: float) -> bool:
        self._require_writing()
        row = self._rows.get(generation_id)
        if row is None or row.generation.state.final:
            return False
        if row.worker not in ("", worker) and not _silent(row, silent_seconds):
            return False
        started = row.generation.start_time or datetime.now(UTC)
        running = replace(row.generation, state=GenerationState.RUNNING, start_time=started)
        self._rows[generation_id] = replace(row, generation=running, worker=worker, beat=datetime.now(UTC))
        return True

    def beat(self, generation_id: str, worker: str) -> bool:
        self._require_writing()
        if not self._held(generation_id, worker):
            return False
        self._rows[generation_id] = replace(self._rows[generation_id], beat=datetime.now(UTC))
        return True

    def release(self, generation_id: str, worker: str) -> None:
        self._require_writing()
        if self._held(generation_id, worker):
            row = self._rows[generation_id]
            self._rows[generation_id] = replace(row, generation=replace(row.generation, state=GenerationState.QUEUED), worker="", beat=None)

    def add_findings(self, generation_id: str, worker: str, after: int, findings: Sequence[Finding], counts: GenerationCounts) -> bool:
        self._require_writing()
        if not self._held(generation_id, worker):
            return False
        row = self._rows[generation_id]
        kept = (*row.findings[:after], *findings)
        self._rows[generation_id] = replace(row, generation=replace(row.generation, counts=counts), findings=kept)
        return True

    def note_neighbours(self, generation_id: str, worker: str, neighbours: Sequence[KnownCompound]) -> None:
        self._require_writing()
        if self._held(generation_id, worker):
            row = self._rows[generation_id]
            self._rows[generation_id] = replace(row, generation=replace(row.generation, neighbours=tuple(neighbours)))

    def succeed(self, generation_id: str, worker: str, shortfall: str) -> None:
        self._require_writing()
        if self._held(generation_id, worker):
            self._end(generation_id, state=GenerationState.SUCCEEDED, shortfall=shortfall)

    def fail(self, generation_id: str, reason: str, message: str) -> None:
        self._require_writing()
        self._end(generation_id, state=GenerationState.FAILED, error=(reason, message))

    def cancel(self, generation_id: str) -> None:
        self._require_writing()
        self._end(generation_id, state=GenerationState.CANCELLED)

    def findings(self, generation_id: str, after: int = 0) -> list[Finding]:
        row = self._rows.get(generation_id)
        return list(row.findings[after:]) if row else []

    def running(self, limit: int) -> list[Generation]:
        found = [row.generation for row in self._rows.values() if not row.generation.state.final]
        return found[::-1][:limit]

    def waiting(self, silent_seconds: float, limit: int) -> list[str]:
        rows = [row for row in self._rows.values() if not row.generation.state.final]
        free = [row for row in rows if row.generation.state is GenerationState.QUEUED or _silent(row, silent_seconds)]
        return [row.generation.id for row in free][:limit]

    def backlog(self) -> Backlog:
        queued = [row.generation for row in self._rows.values() if row.generation.state is GenerationState.QUEUED]
        ages = [(datetime.now(UTC) - each.create_time).total_seconds() for each in queued if each.create_time]
        return Backlog(len(queued), max(ages, default=0.0))

    def forget(self, older_than_seconds: float) -> None:
        self._require_writing()
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        for key, row in list(self._rows.items()):
            if row.generation.end_time is not None and row.generation.end_time <= before:
                del self._rows[key]

    def _held(self, generation_id: str, worker: str) -> bool:
        row = self._rows.get(generation_id)
        return row is not None and row.worker == worker and row.generation.state is GenerationState.RUNNING

    def _end(self, generation_id: str, state: GenerationState, shortfall: str = "", error: tuple[str, str] | None = None) -> None:
        row = self._rows.get(generation_id)
        if row is not None and not row.generation.state.final:
            ended = replace(row.generation, state=state, shortfall=shortfall, error=error, end_time=datetime.now(UTC))
            self._rows[generation_id] = replace(row, generation=ended, worker="", beat=None)


def _silent(row: StoredGeneration, seconds: float) -> bool:
    return row.beat is not None and row.beat <= datetime.now(UTC) - timedelta(seconds=seconds)


class FakeGenerator:
    """Writes the given SMILES from the place that the seed names, round and round, and the given texts."""

    def __init__(self, smiles: Sequence[str] = ("CCO",), texts: Sequence[str] = ("The molecule is a thing.",), at_once: int = 4) -> None:
        self.smiles, self.texts, self.at_once = list(smiles), list(texts), at_once
        # What the last question showed.
        self.shown: Sequence[Shown] = ()
        # Set to make the decoder wait before each further round until it is stopped.
        self.slow = False
        # Told of every round, before it is written.
        self.on_round: Callable[[], None] = lambda: None

    def propose(
        self, model: str, text: str, count: int, seed: int, shown: Sequence[Shown], stopped: Callable[[], bool]
    ) -> Iterator[Sequence[Written]]:
        self.shown = shown
        place = seed
        for start in range(0, count, self.at_once):
            self.on_round()
            while self.slow and start and not stopped():
                threading.Event().wait(0.01)
            if stopped():
                return
            numbers = range(place + start, place + min(start + self.at_once, count))
            yield [Written(self.smiles[number % len(self.smiles)], -1.0 - number % len(self.smiles)) for number in numbers]

    def describe(self, model: str, smiles: str, count: int, shown: Sequence[Shown], stopped: Callable[[], bool]) -> Sequence[Written]:
        self.shown = shown
        self.on_round()
        return [] if stopped() else [Written(text, -float(rank)) for rank, text in enumerate(self.texts[:count], 1)]
