"""The port of generations in SQL, with what they found."""

from collections.abc import Sequence
from typing import Protocol

from server.domain.generation import Finding, Generation, GenerationCounts, KnownCompound
from server.domain.operations import Backlog


class Generations(Protocol):
    """Generations, who works on them, and what they found. One worker at a time holds a generation."""

    def add(self, generation: Generation) -> None:
        """Insert, QUEUED; stamps the creation time."""
        ...

    def get(self, generation_id: str) -> Generation:
        """Raises OPERATION_NOT_FOUND."""
        ...

    def claim(self, generation_id: str, worker: str, silent_seconds: float) -> bool:
        """Make the worker the one who works on it: where nobody does, or somebody who has been silent for so long. Stamps the first start."""
        ...

    def beat(self, generation_id: str, worker: str) -> bool:
        """A sign of life; False when it is no longer this worker's, because it was cancelled or somebody else took it."""
        ...

    def release(self, generation_id: str, worker: str) -> None:
        """Let the next worker have it at once."""
        ...

    def add_findings(self, generation_id: str, worker: str, after: int, findings: Sequence[Finding], counts: GenerationCounts) -> bool:
        """Store what was found after the first `after` findings, and progress; False, and nothing is stored, when it is no longer this worker's."""
        ...

    def note_neighbours(self, generation_id: str, worker: str, neighbours: Sequence[KnownCompound]) -> None:
        """What the decoder is shown."""
        ...

    def succeed(self, generation_id: str, worker: str, shortfall: str) -> None:
        """Does nothing when it is no longer this worker's."""
        ...

    def fail(self, generation_id: str, reason: str, message: str) -> None:
        """Does nothing to one that is final."""
        ...

    def cancel(self, generation_id: str) -> None:
        """Does nothing to one that is final."""
        ...

    def findings(self, generation_id: str, after: int = 0) -> list[Finding]:
        """In the order in which they were found, without the first `after`."""
        ...

    def running(self, limit: int) -> list[Generation]:
        """Those that are not final, newest first."""
        ...

    def waiting(self, silent_seconds: float, limit: int) -> list[str]:
        """Ids of those that nobody works on, or somebody who has been silent for so long; oldest first."""
        ...

    def backlog(self) -> Backlog:
        """Those that nobody has begun."""
        ...

    def forget(self, older_than_seconds: float) -> None:
        """Remove those that ended so long ago, with what they found."""
        ...
