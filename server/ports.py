"""What the use cases need from the world; `bootstrap.py` alone decides who provides it."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder.molecules import Molecule, MoleculeError
from server.domain.compounds import Compound, JsonValue
from server.domain.filters import Filter
from server.domain.libraries import Library
from server.domain.models import ModelVersion
from server.domain.operations import Chunk, ImportRow, Operation, Rejection, State
from server.domain.search import Leg
from server.jobs import Job

Vector: TypeAlias = NDArray[np.float32]


class Encoder(Protocol):
    """Texts and molecules to unit vectors of one space. Thread-safe; concurrent calls share forward passes."""

    @property
    def model(self) -> ModelVersion: ...

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) float32. Raises TEXT_TOO_LONG, EMPTY_QUERY, OVERLOADED, DEADLINE_EXCEEDED."""
        ...

    def encode_molecules(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) float32 for SMILES that passed the chemistry door. Raises TOO_LARGE, OVERLOADED, DEADLINE_EXCEEDED."""
        ...

    def text_tokens(self, text: str) -> int:
        """Length of a text as the model counts it, to compare with `model.max_tokens`."""
        ...


class Chemistry(Protocol):
    """The chemistry door behind a guard: a molecule that hangs or crashes RDKit is a rejection, never an outage."""

    def standardise_many(self, rows: Sequence[tuple[str, str]]) -> list[Molecule | MoleculeError]:
        """One result per (kind, text), in order; kinds are `smiles`, `inchi`, `molblock` and `auto`."""
        ...

    def standardise_one(self, text: str, kind: str = "auto") -> Molecule | MoleculeError:
        """For queries: as above, ahead of bulk work."""
        ...


@dataclass(frozen=True)
class Point:
    """A compound in the vector index; a missing vector means that the compound has no text."""

    id: uuid.UUID
    library: str
    vectors: Mapping[Leg, Vector]
    # Filterable fields: `id` (list of source ids), descriptors, `metadata.NAME`; scalars or lists of scalars.
    fields: Mapping[str, JsonValue]
    # Everything a hit shows, as the text it will be read back from.
    document: str


@dataclass(frozen=True)
class ScoredPoint:
    """A point near a query vector: cosine similarity, higher is nearer."""

    id: uuid.UUID
    score: float
    document: str


class VectorIndex(Protocol):
    """Nearest neighbours among the compounds of one model version. Thread-safe."""

    @property
    def model_version(self) -> str: ...

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert or replace whole points. Refuses (ValueError) wrong dimensions and values that are not finite before anything is written."""
        ...

    def delete(self, ids: Sequence[uuid.UUID]) -> None: ...

    def delete_library(self, library: str) -> None: ...

    def search(
        self, leg: Leg, vectors: Sequence[Vector], limit: int, libraries: Sequence[str] | None = None, filter: Filter | None = None
    ) -> list[list[ScoredPoint]]:
        """The `limit` points with the highest cosine for each query vector, best first, ties by id. `libraries=None` searches all."""
        ...

    def fetch_vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Mapping[Leg, Vector]]:
        """Stored vectors of the points that exist."""
        ...

    def count(self, library: str | None = None) -> int: ...

    def ids(self, library: str | None = None) -> Iterator[uuid.UUID]:
        """Every point's id."""
        ...

    def flush(self) -> None:
        """Returns when all that was written survives a power cut."""
        ...

    def close(self) -> None: ...


class Libraries(Protocol):
    """Libraries in SQL. A library being deleted is invisible to everything but `purgeable`."""

    def add(self, library: Library) -> Library:
        """Raises LIBRARY_EXISTS."""
        ...

    def get(self, library_id: str) -> Library:
        """Raises LIBRARY_NOT_FOUND."""
        ...

    def page(self, after: str, limit: int) -> list[Library]:
        """Libraries with an id greater than `after`, by id."""
        ...

    def update(self, library: Library) -> Library:
        """Display name and description."""
        ...

    def add_fields(self, library_id: str, fields: Mapping[str, frozenset[str]]) -> None:
        """Remember metadata fields and the kinds of their values."""
        ...

    def mark_deleted(self, library_id: str) -> None:
        """Hide the library and end its imports as cancelled. Raises LIBRARY_NOT_FOUND."""
        ...

    def purgeable(self) -> list[str]:
        """Ids of libraries that wait to be purged."""
        ...

    def purge(self, library_id: str) -> None:
        """Remove every row of a library marked deleted; once done its id may be used again."""
        ...


class Compounds(Protocol):
    """Compounds in SQL, and which revision of each the index of a model version holds."""

    def get(self, library: str, inchikey: str) -> Compound:
        """Raises COMPOUND_NOT_FOUND."""
        ...

    def get_many(self, library: str, inchikeys: Sequence[str], for_update: bool = False) -> dict[str, Compound]: ...

    def page(self, library: str, after: str, limit: int) -> list[Compound]:
        """Compounds with an InChIKey greater than `after`, by InChIKey."""
        ...

    def save(self, compounds: Sequence[Compound]) -> None:
        """Insert or replace by (library, InChIKey)."""
        ...

    def mark_deleted(self, library: str, inchikey: str) -> None:
        """Hide the compound until its vector is gone. Raises COMPOUND_NOT_FOUND."""
        ...

    def remove_deleted(self, library: str, inchikeys: Sequence[str]) -> None:
        """Remove those of the rows that are marked deleted."""
        ...

    def deleted(self, limit: int) -> list[tuple[str, str]]:
        """(library, InChIKey) of compounds that wait for the removal of their vector."""
        ...

    def mark_indexed(self, library: str, revisions: Mapping[str, int], model_version: str) -> None:
        """The index of this model version now holds these revisions, by InChIKey."""
        ...

    def unindexed(self, model_version: str, limit: int) -> list[tuple[str, str]]:
        """(library, InChIKey) of visible compounds whose present revision this model version's index lacks."""
        ...


class Operations(Protocol):
    """Operations, their accepted chunks, their rejections."""

    def open(self, operation: Operation) -> Operation:
        """Insert, or return the stored operation that has the same library and request id."""
        ...

    def get(self, operation_id: str) -> Operation:
        """With counts summed over its chunks. Raises OPERATION_NOT_FOUND."""
        ...

    def page(self, before: datetime | None, limit: int) -> list[Operation]:
        """Newest first, created before the given time."""
        ...

    def accept(self, operation_id: str, rows: Sequence[ImportRow]) -> int:
        """Store rows as the next chunk; returns its number. The caller has checked the offset under `lock`."""
        ...

    def lock(self, operation_id: str) -> Operation:
        """As `get`, and nobody else changes the operation until the transaction ends."""
        ...

    def chunk(self, operation_id: str, number: int, for_update: bool = False) -> Chunk: ...

    def mark_read(
        self,
        operation_id: str,
        number: int,
        *,
        created: int,
        updated: int,
        duplicate: int,
        rejections: Sequence[Rejection],
        changed: Sequence[str],
    ) -> None:
        """Verdicts of a chunk, with the InChIKeys of the compounds it changed."""
        ...

    def mark_indexed(self, operation_id: str, number: int, shortened_texts: int) -> None:
        """Every changed compound of the chunk can be found; the raw rows are no longer needed and are dropped."""
        ...

    def set_state(self, operation_id: str, state: State, error: tuple[str, str] | None = None) -> None:
        """Also stamps the end time of final states."""
        ...

    def unfinished_chunks(self, limit: int) -> list[tuple[str, int, Literal["ACCEPTED", "READ"]]]:
        """(operation, chunk, state) of chunks that still have work waiting, of operations that are not final, oldest first."""
        ...

    def all_indexed(self, operation_id: str) -> bool: ...

    def completable(self) -> list[str]:
        """Ids of operations in PROCESSING whose chunks are all indexed."""
        ...

    def rejections(self, operation_id: str, after: int, limit: int) -> list[Rejection]:
        """By position, greater than `after`."""
        ...


class Transaction(Protocol):
    """One unit of work: commits when its `with` block ends, rolls back when it raises."""

    @property
    def libraries(self) -> Libraries: ...
    @property
    def compounds(self) -> Compounds: ...
    @property
    def operations(self) -> Operations: ...


class Database(Protocol):
    """Metadata and truth. Thread-safe; transient conflicts and outages surface as DATABASE_UNAVAILABLE."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Read and write."""
        ...

    def reading(self) -> AbstractContextManager[Transaction]:
        """One consistent snapshot; writes are a programming error."""
        ...

    def check(self) -> None:
        """Raises SCHEMA_MISMATCH or DATABASE_UNAVAILABLE."""
        ...

    def close(self) -> None: ...


class JobQueue(Protocol):
    """At-least-once delivery of jobs; a lost one is re-sent by the sweep."""

    def send(self, job: Job) -> None: ...


class Storage(Protocol):
    """Room for what is about to be written."""

    def require_free_space(self) -> None:
        """Raises DISK_FULL while something can still be refused cleanly."""
        ...


@dataclass(frozen=True)
class Ports:
    """Everything a use case may touch."""

    database: Database
    index: VectorIndex
    encoder: Encoder
    chemistry: Chemistry
    queue: JobQueue
    storage: Storage
