"""Generations as long-running work: one worker holds each, shows signs of life, stops within a second of a cancellation, and is replaced."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime

from server.domain.errors import AtomasError, Reason
from server.domain.generation import (
    Finding,
    Generation,
    GenerationCounts,
    GenerationRequest,
    GenerationState,
    KnownCompound,
    Shortfall,
    Task,
)
from server.jobs import Generate
from server.observability.metrics import GENERATION_ATTEMPTS, GENERATIONS
from server.ports import Ports
from server.repeating import repeated
from server.retries import RETRIES
from server.usecases.describe_structure import find_descriptions
from server.usecases.generate_molecules import find_molecules

# How often a worker asks whether its work is still wanted, and shows that it lives.
LOOK_SECONDS, BEAT_SECONDS = 0.3, 1.5
# A worker that has been silent for so long is dead: another one takes its place.
SILENT_SECONDS = 6.0
# A week: the answer may be fetched for so long.
KEPT_SECONDS = 7 * 86_400.0
SWEEP_BATCH = 100


class GenerationLostError(Exception):
    """The generation was cancelled, or another worker has it."""


class HeldGeneration:
    """A generation in the hands of one worker."""

    def __init__(self, generation: Generation, worker: str, ports: Ports) -> None:
        self.id, self.request, self.worker, self._ports = generation.id, generation.request, worker, ports
        self.neighbours = generation.neighbours
        self._counted: Counter[str] = Counter()
        self.lost = threading.Event()
        begun = generation.start_time or datetime.now(UTC)
        self._deadline = time.monotonic() + self.request.seconds - (datetime.now(UTC) - begun).total_seconds()

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() >= self._deadline

    def stopped(self) -> bool:
        """Whether to write no further token."""
        return self.lost.is_set() or self.late

    def former_findings(self) -> list[Finding]:
        """What a worker before this one had found."""
        with self._ports.database.reading() as transaction:
            return transaction.generations.findings(self.id)

    def show(self, neighbours: Sequence[KnownCompound]) -> None:
        """Notes what the decoder is shown, for the answer and for a worker after this one."""
        with self._ports.database.transaction() as transaction:
            transaction.generations.note_neighbours(self.id, self.worker, neighbours)

    def keep(self, after: int, findings: Sequence[Finding], attempted: int, kept: int, dropped: Counter[str]) -> None:
        """Stores findings and progress. Raises GenerationLostError."""
        counts = GenerationCounts(attempted, kept, dict(sorted(dropped.items())))
        if self.lost.is_set():
            raise GenerationLostError
        with self._ports.database.transaction() as transaction:
            if not transaction.generations.add_findings(self.id, self.worker, after, findings, counts):
                raise GenerationLostError
        verdicts = Counter({"KEPT": kept, **dropped})
        for verdict, attempts in (verdicts - self._counted).items():
            GENERATION_ATTEMPTS.labels(verdict).inc(attempts)
        self._counted = verdicts


def run_generation(generation_id: str, ports: Ports) -> None:
    """Works on a generation to its end, unless somebody else does. Raises what another attempt may mend."""
    worker = uuid.uuid4().hex
    with ports.database.transaction() as transaction:
        if not transaction.generations.claim(generation_id, worker, SILENT_SECONDS):
            return
        generation = transaction.generations.get(generation_id)
    held = HeldGeneration(generation, worker, ports)
    try:
        with _signs_of_life(held, ports):
            shortfall = _find(held, ports.with_model(generation.request.model))
    except GenerationLostError:
        return
    except AtomasError as error:
        if error.reason in RETRIES and not held.late:
            _release(held, ports)
            raise
        fail_generation(generation_id, error.reason, error.message, ports)
        GENERATIONS.labels(held.request.task, GenerationState.FAILED).inc()
        return
    except Exception:
        _release(held, ports)
        raise
    with ports.database.transaction() as transaction:
        transaction.generations.succeed(generation_id, worker, shortfall)
    GENERATIONS.labels(held.request.task, GenerationState.SUCCEEDED).inc()


def _find(held: HeldGeneration, ports: Ports) -> str:
    find: Callable[[HeldGeneration, Ports], int] = find_molecules if held.request.task is Task.MOLECULES else find_descriptions
    kept = find(held, ports)
    if held.lost.is_set():
        raise GenerationLostError
    if kept >= held.request.count:
        return ""
    if held.late and not kept:
        raise AtomasError(Reason.DEADLINE_EXCEEDED, f"Nothing was found in {held.request.seconds:g} seconds. Ask for less, or try again.")
    return Shortfall.DEADLINE if held.late else Shortfall.BUDGET


def _release(held: HeldGeneration, ports: Ports) -> None:
    # Where the database is away too, the silence tells.
    with suppress(AtomasError), ports.database.transaction() as transaction:
        transaction.generations.release(held.id, held.worker)


def _signs_of_life(held: HeldGeneration, ports: Ports) -> AbstractContextManager[None]:
    beaten = time.monotonic()

    def look() -> None:
        nonlocal beaten
        if held.lost.is_set():
            return
        with suppress(AtomasError):
            if time.monotonic() >= beaten + BEAT_SECONDS:
                beaten = time.monotonic()
                with ports.database.transaction() as transaction:
                    wanted = transaction.generations.beat(held.id, held.worker)
            else:
                with ports.database.reading() as transaction:
                    wanted = not transaction.generations.get(held.id).state.final
            if not wanted:
                held.lost.set()

    return repeated(look, LOOK_SECONDS, "generation-watch")


def fail_generation(generation_id: str, reason: Reason, message: str, ports: Ports) -> None:
    """Ends a generation that cannot succeed."""
    with ports.database.transaction() as transaction:
        transaction.generations.fail(generation_id, reason.value, message)


def get_generation(generation_id: str, ports: Ports) -> tuple[Generation, list[Finding]]:
    """With what was found, in the order of the answer. Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        generation = transaction.generations.get(generation_id)
        return generation, in_order(generation.request, transaction.generations.findings(generation_id))


def watch_generation(generation_id: str, after: int, ports: Ports) -> tuple[Generation, list[Finding]]:
    """With what was found after the first `after` findings, as it was found. Raises OPERATION_NOT_FOUND."""
    with ports.database.reading() as transaction:
        return transaction.generations.get(generation_id), transaction.generations.findings(generation_id, after)


def in_order(request: GenerationRequest, findings: Sequence[Finding]) -> list[Finding]:
    """Best first: molecules by their alignment with the text, or by log-probability; descriptions as the decoder ranks them."""
    if request.task is Task.DESCRIPTIONS:
        return list(findings)
    return sorted(findings, key=lambda found: -(found.log_probability if request.keep_order else found.alignment))


def running_generations(limit: int, ports: Ports) -> list[Generation]:
    """Those that are not done, newest first."""
    with ports.database.reading() as transaction:
        return transaction.generations.running(limit)


def cancel_generation(generation_id: str, ports: Ports) -> None:
    """Ends it; its worker notices before the next token. What was found stays. Raises OPERATION_NOT_FOUND."""
    with ports.database.transaction() as transaction:
        transaction.generations.get(generation_id)
        transaction.generations.cancel(generation_id)


def resend_generations(ports: Ports) -> int:
    """For the sweep: sends generations again that nobody works on, forgets old ones; returns how many were sent."""
    with ports.database.transaction() as transaction:
        transaction.generations.forget(KEPT_SECONDS)
        waiting = transaction.generations.waiting(SILENT_SECONDS, SWEEP_BATCH)
    for generation_id in waiting:
        ports.queue.send_again(Generate(generation_id))
    return len(waiting)
