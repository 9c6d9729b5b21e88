"""Generation: what was asked of the decoder, what it found, what was dropped and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

ID_PREFIX = "generation-"


class Task(StrEnum):
    """What the decoder writes."""

    MOLECULES = "MOLECULES"
    DESCRIPTIONS = "DESCRIPTIONS"


class GenerationState(StrEnum):
    """Where a generation stands; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self not in (GenerationState.QUEUED, GenerationState.RUNNING)


class Drop(StrEnum):
    """Reasons for dropping an attempt, beside those of the chemistry door."""

    DUPLICATE = "DUPLICATE"
    FILTERED = "FILTERED"
    CONTRADICTED = "CONTRADICTED"


class Shortfall(StrEnum):
    """Why fewer came than were wanted."""

    BUDGET = "BUDGET"
    DEADLINE = "DEADLINE"


@dataclass(frozen=True)
class GenerationRequest:
    """What was asked, with every default settled: the same request gives the same answer wherever it is worked on."""

    task: Task
    # Words for MOLECULES, canonical SMILES for DESCRIPTIONS.
    source: str
    # Ids, None for all libraries.
    libraries: tuple[str, ...] | None
    count: int
    seed: int
    # Version of the model.
    model: str
    # Time that the work may take from its start.
    seconds: float
    filter: str = ""
    max_attempts: int = 0
    keep_order: bool = False
    ignore_library: bool = False


@dataclass(frozen=True)
class KnownCompound:
    """A compound of a library beside something that was generated."""

    library: str
    inchikey: str
    display_name: str
    smiles: str
    # Tanimoto similarity of Morgan fingerprints.
    tanimoto: float


@dataclass(frozen=True)
class Candidate:
    """A molecule that the decoder proposed, after the chemistry door."""

    smiles: str
    inchikey: str
    # Natural logarithm of the decoder's probability of the SMILES as it wrote it.
    log_probability: float
    # Cosine of the molecule's vector and the text's.
    alignment: float
    known: bool
    nearest: tuple[KnownCompound, ...]
    descriptors: Mapping[str, float | int | str]


@dataclass(frozen=True)
class Description:
    """What the decoder wrote of a molecule, without the sentences that the structure contradicts."""

    text: str
    # Natural logarithm of the decoder's probability of the whole text as it wrote it.
    log_probability: float
    # Cosine of the text's vector and the molecule's.
    alignment: float
    dropped_sentences: tuple[str, ...] = ()


Finding: TypeAlias = Candidate | Description


@dataclass(frozen=True)
class GenerationCounts:
    """attempted = kept + the sum of what was dropped; sentences of a description that was kept are not attempts."""

    attempted: int = 0
    kept: int = 0
    dropped_by_reason: Mapping[str, int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Generation:
    """A long-running operation that generates; its findings are stored beside it, in the order in which they were found."""

    id: str
    request: GenerationRequest
    state: GenerationState = GenerationState.QUEUED
    counts: GenerationCounts = field(default_factory=GenerationCounts)
    # Why fewer came than were wanted; empty when all came.
    shortfall: str = ""
    # Compounds that the decoder was shown.
    neighbours: tuple[KnownCompound, ...] = ()
    # Reason and message when it failed.
    error: tuple[str, str] | None = None
    create_time: datetime | None = None
    # When the work was first begun: the time it may take counts from here, whoever goes on with it.
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def resource_name(self) -> str:
        return f"operations/{self.id}"


def is_generation(operation_id: str) -> bool:
    """Whether the id is of a generation, not of an import or a reindex."""
    return operation_id.startswith(ID_PREFIX)
