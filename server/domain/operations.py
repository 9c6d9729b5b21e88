"""Long-running operations: an import's rows, verdicts, progress."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from server.domain.compounds import SourceRecord

StructureKind: TypeAlias = Literal["smiles", "inchi", "molblock", "unreadable"]


class State(StrEnum):
    """Where an operation stands; the last three are final."""

    RECEIVING = "RECEIVING"
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class ChunkState(StrEnum):
    """How far one chunk of rows has come."""

    # Durable, not yet read.
    ACCEPTED = "ACCEPTED"
    # Every row has its verdict; its new compounds wait for their vectors.
    READ = "READ"
    # Its compounds can be found.
    INDEXED = "INDEXED"


@dataclass(frozen=True)
class Backlog:
    """Work that waits; its age is 0 where there is none, or where nobody noted when it came."""

    count: int = 0
    oldest_seconds: float = 0.0


@dataclass(frozen=True)
class ImportRow:
    """One row of a source as the client read it; for kind `unreadable` the structure holds the reader's complaint."""

    position: int
    kind: StructureKind
    structure: str
    record: SourceRecord = field(default_factory=SourceRecord)


@dataclass(frozen=True)
class Rejection:
    """A row that did not become a compound, and why."""

    position: int
    reason: str
    message: str
    row: ImportRow


@dataclass(frozen=True)
class Counts:
    """Verdicts of an import so far; at the end received = created + updated + duplicate + rejected."""

    received: int = 0
    created: int = 0
    updated: int = 0
    duplicate: int = 0
    rejected: int = 0
    indexed: int = 0
    shortened_texts: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Chunk:
    """Rows that were accepted together; `number` counts from 0 within the operation."""

    operation: str
    number: int
    state: ChunkState
    rows: Sequence[ImportRow]
    # Compounds that this chunk created or updated: what is left to index.
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class Operation:
    """A long-running operation: what clients poll and what the sweep re-sends from."""

    id: str
    library: str
    # The caller's own name for the work; the same id means the same operation.
    request_id: str
    source: str
    state: State
    counts: Counts = field(default_factory=Counts)
    # Reason and message when the operation failed.
    error: tuple[str, str] | None = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def resource_name(self) -> str:
        return f"operations/{self.id}"
