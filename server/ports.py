"""What the use cases need from the world; `bootstrap.py` alone decides who provides it."""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder import molecules
from encoder.drawing import Look
from encoder.molecules import Molecule, MoleculeError
from server.domain.access import ApiKey, Caller
from server.domain.compounds import Compound, JsonValue
from server.domain.explanations import Explanation
from server.domain.filters import Filter
from server.domain.generation import Finding, Generation, GenerationCounts, KnownCompound
from server.domain.libraries import Library
from server.domain.models import IndexEntry, ModelVersion, StoredModel
from server.domain.operations import Backlog, Chunk, ImportRow, Operation, Rejection, State
from server.domain.search import Leg, NamedCompound
from server.jobs import Job

Vector: TypeAlias = NDArray[np.float32]
# Words as numbers of 32 bits with their weights: what the lexical leg compares.
Words: TypeAlias = Mapping[int, float]


@dataclass(frozen=True)
class Parts:
    """Fragments of a molecule, or phrases of a text: what the model's hierarchy compares."""

    # (K, fragment dimension), of length 1.
    vectors: NDArray[np.float32]
    # (K,): how much each says; they sum to one.
    weights: NDArray[np.float32]

    @classmethod
    def none(cls) -> "Parts":
        """Of an item whose model has no hierarchy."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    def __bool__(self) -> bool:
        return len(self.weights) > 0


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

    def encode_texts_and_phrases(self, texts: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """The vector of each text, as `encode_texts` gives it, and its phrases: none where `model.fragment_dimension` is 0. Raises as it does."""
        ...

    def encode_molecules_and_fragments(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """As `encode_texts_and_phrases`, of molecules as `encode_molecules` takes them."""
        ...

    def explain(self, text: str, smiles: str, timeout_seconds: float | None = None) -> Explanation:
        """Which words of the text point at which atoms of the canonical SMILES. Raises as the other two."""
        ...

    def text_tokens(self, text: str) -> int:
        """Length of a text as the model counts it, to compare with `model.max_tokens`."""
        ...

    def molecule_tokens(self, smiles: str) -> int:
        """As `text_tokens`, of a molecule."""
        ...


class Chemistry(Protocol):
    """The chemistry door behind a guard: a molecule that hangs or crashes RDKit is a rejection, never an outage."""

    def standardise_many(self, structures: Sequence[molecules.Structure]) -> list[Molecule | MoleculeError]:
        """One result per structure, in order."""
        ...

    def standardise_one(self, structure: molecules.Structure) -> Molecule | MoleculeError:
        """For queries: as above, ahead of bulk work."""
        ...

    def draw(self, structure: molecules.Structure, look: Look) -> str | MoleculeError:
        """The standardised structure as an SVG element; the error may be that of the substructure to mark."""
        ...

    def molblocks(self, smiles: Sequence[str]) -> list[str | MoleculeError]:
        """Standardised molecules as molblocks with 2-D coordinates, in order: bulk work."""
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
    # What the lexical leg finds the compound by; weights are positive. Empty when nothing is said of it.
    words: Words = field(default_factory=dict)
    # Vectors of its fragments, (K, fragment dimension), of any length; their weights play no part in a search. None without a hierarchy.
    fragments: NDArray[np.float32] | None = None


class ScoredPoint(NamedTuple):
    """A point that answers a question: cosine similarity, or BM25 of words; higher is better."""

    id: uuid.UUID
    score: float


@dataclass(frozen=True)
class Question:
    """What one leg is asked: a vector in the legs of vectors, words in the lexical one."""

    leg: Leg
    asked: Vector | Words


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

    def search_legs(
        self,
        questions: Sequence[Question],
        limit: int,
        libraries: Sequence[str] | None = None,
        filter: Filter | None = None,
        only: Collection[uuid.UUID] | None = None,
    ) -> list[list[ScoredPoint]]:
        """As `search`, for questions to several legs at once, among the points `only` where they are given.

        The lexical leg scores the sum over the words asked of (asked weight * stored weight * inverse document frequency) and finds no
        point that has none of them. Refuses (ValueError) weights that are not finite, before anything is asked.
        """
        ...

    def align(self, asked: Sequence[tuple[Parts, Collection[uuid.UUID]]]) -> list[dict[uuid.UUID, float]]:
        """For phrases of a text and some points: how well each point's fragments meet them, of the points that have fragments.

        The sum over the phrases of (weight * greatest cosine with any fragment); the vectors are compressed, so it is exact to some thousandths.
        """
        ...

    def select(
        self, libraries: Sequence[str] | None = None, filter: Filter | None = None, only: Collection[uuid.UUID] | None = None
    ) -> Iterator[uuid.UUID]:
        """Ids of the points that meet the filter, in their order, among the points `only` where they are given."""
        ...

    def documents(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        """What the hits show, of the points that exist: asked for a page, not for all the candidates that fusion needs."""
        ...

    def fetch_vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Mapping[Leg, Vector]]:
        """Stored vectors of the points that exist, scaled to length 1."""
        ...

    def count(self, library: str | None = None) -> int: ...

    def ids(self, library: str | None = None) -> Iterator[uuid.UUID]:
        """Every point's id."""
        ...

    def flush(self) -> None:
        """Returns when all that was written survives a power cut."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class StructureEntry:
    """A compound in the structure index."""

    id: uuid.UUID
    library: str
    # Canonical SMILES as the chemistry door leaves it; the structure index finds atoms in its order.
    smiles: str
    # First block of the parent's InChIKey.
    skeleton: str
    # Morgan fingerprint, radius 2, 2,048 bits, as 256 bytes.
    fingerprint: bytes


class StructureIndex(Protocol):
    """Exact questions about structures: substructure, superstructure, skeleton, Tanimoto similarity. Thread-safe.

    Answers are complete: whatever `upsert` has returned for is found. `libraries=None` searches all. Patterns are SMARTS, or molecules in
    any notation (`encoder.patterns`). Questions raise INVALID_SMARTS and the chemistry door's reasons for a pattern that cannot be read,
    TIMEOUT for one that takes too long, OVERLOADED, INDEX_UNAVAILABLE, also while the index is not complete.
    """

    @property
    def generation(self) -> str:
        """Names what the index holds: when its content is lost it begins again under another name. SQL notes under it what is here."""
        ...

    @property
    def complete(self) -> bool:
        """Whether everything is here that was in SQL when the present generation began."""
        ...

    def declare_complete(self) -> None:
        """Durable when it returns; lasts as long as the generation."""
        ...

    def upsert(self, entries: Sequence[StructureEntry]) -> str:
        """Insert or replace; durable when it returns. Returns the generation they belong to."""
        ...

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Durable when it returns."""
        ...

    def delete_library(self, library: str) -> None:
        """Durable when it returns."""
        ...

    def renew(self) -> None:
        """Forget everything, under a new generation: the sweep fills the index again from SQL."""
        ...

    def check_pattern(self, pattern: str) -> None:
        """Raise what a search for the pattern would."""
        ...

    def containing(self, pattern: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        """Compounds that hold the pattern, in no order. Stereochemistry does not narrow a match."""
        ...

    def contained_in(self, smiles: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        """Compounds that are substructures of a molecule given as canonical SMILES, in no order."""
        ...

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        """Compounds whose parent has this first block of an InChIKey, in no order."""
        ...

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None = None) -> Sequence[ScoredPoint]:
        """Compounds with at least this Tanimoto similarity, most similar first, ties by id."""
        ...

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None = None) -> Sequence[ScoredPoint]:
        """The `count` most similar compounds, in the order of `similar`."""
        ...

    def tanimoto(self, fingerprint: bytes, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, float]:
        """Similarity of each of the compounds that exist."""
        ...

    def matched_atoms(self, pattern: str, smiles: Sequence[str]) -> Sequence[tuple[int, ...]]:
        """For each canonical SMILES the atoms, from 0, that any match of the pattern covers; none when it does not match."""
        ...

    def count(self, library: str | None = None) -> int: ...

    def ids(self, library: str | None = None) -> Sequence[uuid.UUID]:
        """Every compound's id, in order."""
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

    def purge(self, library_id: str, limit: int) -> bool:
        """Remove up to `limit` rows of a library marked deleted; True once nothing is left and its id may be used again.

        In steps, so that no transaction grows with the library; a library that is not marked deleted is left alone.
        """
        ...


class Compounds(Protocol):
    """Compounds in SQL, and which revision of each the index of a model version holds.

    Whatever concerns a library that is missing or being deleted finds nothing; `save` and `mark_deleted` raise LIBRARY_NOT_FOUND.
    """

    def get(self, library: str, inchikey: str) -> Compound:
        """Raises COMPOUND_NOT_FOUND."""
        ...

    def get_many(self, library: str, inchikeys: Sequence[str], for_update: bool = False) -> dict[str, Compound]:
        """Those that exist. `for_update` locks them until the transaction ends and allows `save` to replace them."""
        ...

    def revisions(self, library: str, inchikeys: Sequence[str]) -> dict[str, int]:
        """The present revisions of those that exist, by InChIKey."""
        ...

    def page(self, library: str, after: str, limit: int) -> list[Compound]:
        """Compounds with an InChIKey greater than `after`, by InChIKey."""
        ...

    def save(self, compounds: Sequence[Compound]) -> None:
        """Insert, or replace what this transaction read `for_update` or saved itself; stamps the update time.

        Raises DATABASE_UNAVAILABLE when another transaction wrote one of them meanwhile: nothing is lost, run the work again.
        A compound that was marked deleted comes back with a revision that no index holds.
        """
        ...

    def mark_deleted(self, library: str, inchikey: str) -> None:
        """Hide the compound until its vector is gone. Raises COMPOUND_NOT_FOUND."""
        ...

    def remove_deleted(self, library: str, inchikeys: Sequence[str]) -> None:
        """Remove those of the rows that are marked deleted; those that came back meanwhile count as not indexed,
        because the caller has just removed their vectors."""
        ...

    def deleted(self, limit: int) -> list[tuple[str, str]]:
        """(library, InChIKey) of compounds that wait for the removal of their vector."""
        ...

    def mark_indexed(self, library: str, revisions: Mapping[str, int], model_version: str) -> None:
        """The index of this model version now holds these revisions, by InChIKey."""
        ...

    def mark_refused(self, library: str, inchikey: str, revision: int, model_version: str, error: str) -> None:
        """This revision cannot be encoded: it counts as indexed, so that nobody tries again until the compound changes."""
        ...

    def forget_indexed(self, library: str, inchikeys: Sequence[str], model_version: str) -> None:
        """The index of this model version is to be written anew for these compounds."""
        ...

    def entries(self, library: str, model_version: str, after: str, limit: int, inchikeys: Sequence[str] | None = None) -> list[IndexEntry]:
        """What the index of a model version should hold: visible compounds with an InChIKey greater than `after`, by InChIKey; only
        those named in `inchikeys` when given."""
        ...

    def unindexed(self, model_version: str, limit: int, after: tuple[str, str] | None = None) -> list[tuple[str, str]]:
        """(library, InChIKey) of visible compounds whose present revision this model version's index lacks, oldest first.

        `after`, an item of a former answer, goes on from there instead of passing over everything that is indexed again.
        """
        ...


class Names(Protocol):
    """Compounds by what people call them, in some of the libraries or, for None, in all.

    Finds what `Compounds.save` wrote, from then on until the compound or its library is marked deleted. A compound comes once for each of
    its names that match; of more than `limit` matches some are left out.
    """

    def spelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Names and source ids that the text spells, whatever the case, spaces, signs and Greek letters (`server.domain.names`)."""
        ...

    def misspelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Names that one typo makes the text of: a letter more, less, another, or two neighbours swapped. Not the text itself."""
        ...

    def with_inchikey(self, beginning: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Compounds whose InChIKey begins so, by InChIKey; a whole key finds its compound, a first block its stereoisomers too."""
        ...


class Operations(Protocol):
    """Operations, their accepted chunks, their rejections.

    Locks are taken in one order, operation, compounds, library, or transactions of a server database may block each other.
    """

    def open(self, operation: Operation) -> Operation:
        """Insert, or return the stored operation that has the same library and request id. Raises LIBRARY_NOT_FOUND."""
        ...

    def get(self, operation_id: str) -> Operation:
        """With the counts of all its chunks. Raises OPERATION_NOT_FOUND."""
        ...

    def page(self, before: str, limit: int) -> list[Operation]:
        """Newest first; those opened before the operation with the id `before`, all when it is empty. Raises OPERATION_NOT_FOUND."""
        ...

    def accept(self, operation_id: str, rows: Sequence[ImportRow]) -> int:
        """Store rows as the next chunk; returns its number. The caller has checked the offset under `lock`.

        Raises IMPORT_PROTOCOL unless positions grow from 1 on through the whole import: rejections are listed by them.
        """
        ...

    def lock(self, operation_id: str) -> Operation:
        """As `get`, and nobody else changes the operation until the transaction ends."""
        ...

    def chunk(self, operation_id: str, number: int, for_update: bool = False) -> Chunk:
        """Raises OPERATION_NOT_FOUND."""
        ...

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
        """Verdicts of a chunk, with the InChIKeys of the compounds it changed. A chunk that has its verdicts is left as it is."""
        ...

    def mark_indexed(self, operation_id: str, number: int, shortened_texts: int) -> None:
        """Every changed compound of the chunk can be found; the raw rows are no longer needed and are dropped.

        Does nothing to a chunk that is indexed already or has no verdicts yet.
        """
        ...

    def set_state(self, operation_id: str, state: State, error: tuple[str, str] | None = None) -> None:
        """A final state also stamps the end time and drops the raw rows of chunks that will never be finished."""
        ...

    def unfinished_chunks(self, limit: int) -> list[tuple[str, int, Literal["ACCEPTED", "READ"]]]:
        """(operation, chunk, state) of chunks that still have work waiting, of operations that are not final, oldest first."""
        ...

    def backlog(self) -> tuple[Backlog, Backlog]:
        """Chunks without verdicts and chunks that wait for the index, of operations that are not final."""
        ...

    def all_indexed(self, operation_id: str) -> bool: ...

    def completable(self) -> list[str]:
        """Ids of operations in PROCESSING whose chunks are all indexed."""
        ...

    def idle(self, seconds: float) -> list[str]:
        """Ids of operations in RECEIVING of which nothing was heard for so long and whose accepted rows are all indexed."""
        ...

    def rejections(self, operation_id: str, after: int, limit: int) -> list[Rejection]:
        """By position, greater than `after`."""
        ...


class ModelVersions(Protocol):
    """Model versions in SQL. At most one of them is SERVING: a transaction that breaks this raises DATABASE_UNAVAILABLE."""

    def all(self) -> list[StoredModel]:
        """Every model that was registered, in the order of their registration."""
        ...

    def get(self, version: str) -> StoredModel:
        """Raises MODEL_NOT_FOUND."""
        ...

    def lock(self) -> list[StoredModel]:
        """As `all`, and nobody else changes a model until the transaction ends."""
        ...

    def put(self, model: StoredModel) -> None:
        """Insert or replace; stamps the update time, and the creation time of a model without one."""
        ...

    def add_filled(self, version: str, fill: int, count: int) -> bool:
        """Note progress; False, and nothing is noted, when this fill is over."""
        ...

    def forget_entries(self, version: str, after: int, limit: int) -> int | None:
        """Forget what the index of a model holds, in steps: returns where the next step begins, None after the last."""
        ...


class JobStarts(Protocol):
    """Jobs that were begun. Whoever does a job shows signs of life until its end: one that falls silent has died of it, or with it."""

    def begin(self, job: str, start: str, silent_seconds: float) -> int:
        """Note a start; returns how many former starts of the job have been silent for so long."""
        ...

    def beat(self, job: str, start: str) -> None:
        """A sign of life."""
        ...

    def end(self, job: str, start: str | None = None) -> None:
        """Forget one start, or all when the job is done."""
        ...

    def forget(self, older_than_seconds: float) -> None:
        """Forget starts that nobody will ask for again."""
        ...


class ApiKeys(Protocol):
    """API keys in SQL; they are never removed, so that lists tell who once could do what."""

    def add(self, key: ApiKey) -> ApiKey:
        """Stamps the creation time. Raises DATABASE_UNAVAILABLE when the prefix is taken."""
        ...

    def get(self, prefix: str) -> ApiKey:
        """Raises API_KEY_NOT_FOUND."""
        ...

    def page(self, after: str, limit: int) -> list[ApiKey]:
        """Keys with a prefix greater than `after`, by prefix."""
        ...

    def revoke(self, prefix: str) -> ApiKey:
        """Stamps the time of the first revocation. Raises API_KEY_NOT_FOUND."""
        ...


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


class Transaction(Protocol):
    """One unit of work: commits when its `with` block ends, rolls back when it raises."""

    @property
    def libraries(self) -> Libraries: ...
    @property
    def compounds(self) -> Compounds: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def names(self) -> Names: ...
    @property
    def models(self) -> ModelVersions: ...
    @property
    def job_starts(self) -> JobStarts: ...
    @property
    def generations(self) -> Generations: ...
    @property
    def api_keys(self) -> ApiKeys: ...


class Database(Protocol):
    """Metadata and truth. Thread-safe; transient conflicts and outages surface as DATABASE_UNAVAILABLE, a full disk as DISK_FULL."""

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
    """At-least-once delivery of jobs. A job that cannot be sent is no error: the sweep finds its work in the database."""

    def send(self, job: Job) -> None:
        """Sends a job, unless the same one has just been sent from here."""
        ...

    def send_again(self, job: Job) -> None:
        """For the sweep: sends a job that somebody has sent before, unless it may still be on its way."""
        ...

    def depth(self) -> Mapping[str, int]:
        """What waits, by queue; nothing where that cannot be found out."""
        ...


class Models(Protocol):
    """The models of this process: which one answers, and encoders and indexes of every live one. Thread-safe."""

    def serving(self) -> str:
        """The version that the present call works with."""
        ...

    def pinned(self) -> AbstractContextManager[None]:
        """Calls in the block work with one model, whatever is activated meanwhile."""
        ...

    def encoder(self, version: str) -> Encoder:
        """Raises MODEL_NOT_FOUND, ENCODER_UNAVAILABLE where its checkpoint cannot be read."""
        ...

    def index(self, version: str) -> VectorIndex:
        """Raises MODEL_NOT_FOUND, INDEX_UNAVAILABLE."""
        ...

    def read_checkpoint(self, path: Path) -> ModelVersion:
        """What a folder holds. Raises INVALID_ARGUMENT where it is no checkpoint."""
        ...

    def stored_indexes(self) -> list[str]:
        """Versions of every index that takes up room, whether the database knows it or not."""
        ...

    def discard_index(self, version: str) -> None:
        """Removes an index that nobody uses any more; one that is not there is no error."""
        ...

    def refresh(self) -> None:
        """Follows the database at once instead of soon."""
        ...


class Storage(Protocol):
    """Room for what is about to be written."""

    def require_free_space(self) -> None:
        """Raises DISK_FULL while something can still be refused cleanly."""
        ...


@dataclass(frozen=True)
class Shown:
    """A compound that the decoder is shown: its name or its text may be missing."""

    smiles: str
    name: str = ""
    text: str = ""


@dataclass(frozen=True)
class Written:
    """A SMILES or a text as the decoder wrote it, looked at by nobody, with the natural logarithm of its probability."""

    content: str
    log_probability: float


class Generator(Protocol):
    """The decoder of a model. Thread-safe; work of several callers takes turns.

    Raises MODEL_NOT_READY where the model has no decoder, ENCODER_UNAVAILABLE where its checkpoint is not here, TEXT_TOO_LONG, TOO_LARGE,
    EMPTY_QUERY; gives what it has and ends when `stopped` says so, which is asked before every token.
    """

    def propose(
        self, model: str, text: str, count: int, seed: int, shown: Sequence[Shown], stopped: Callable[[], bool]
    ) -> Iterator[Sequence[Written]]:
        """SMILES for a text as they are drawn, some at a time, `count` in all: the likeliest few, then draws. Same seed, same SMILES."""
        ...

    def describe(self, model: str, smiles: str, count: int, shown: Sequence[Shown], stopped: Callable[[], bool]) -> Sequence[Written]:
        """Texts for a molecule, best first, `count` of them at most; none when stopped. Always the same."""
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
    models: Models
    structures: StructureIndex
    # None where this process does not generate but leaves it to workers.
    generator: Generator | None = None

    def with_model(self, version: str) -> "Ports":
        """The same with encoder and index of one model, whichever answers. Raises MODEL_NOT_FOUND, ENCODER_UNAVAILABLE, INDEX_UNAVAILABLE."""
        return replace(self, encoder=self.models.encoder(version), index=self.models.index(version))


class SecretHashes(Protocol):
    """Hashes from which no secret can be won back in useful time. Thread-safe."""

    def hash(self, secret: str) -> str: ...

    def verify(self, hashed: str, secret: str) -> bool:
        """Whether the hash is of this secret; may remember the answer for a while."""
        ...


class Tokens(Protocol):
    """Signed bearer tokens of an identity provider. Thread-safe."""

    def caller(self, token: str) -> Caller | None:
        """Who a valid token speaks of, with the scopes it carries; None for any other."""
        ...


@dataclass(frozen=True)
class Trust:
    """By what the edge knows callers."""

    # False lets anyone do anything: for loopback.
    required: bool
    hashes: SecretHashes
    tokens: Tokens | None = None
