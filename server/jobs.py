"""What servers and workers tell each other, as data: jobs by name, queue and frozen payload; questions to the encoder, answers."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReadChunk:
    """Give every row of one chunk its verdict."""

    name: ClassVar[str] = "import.read_chunk"
    queue: ClassVar[str] = "import"
    operation: str
    chunk: int


@dataclass(frozen=True)
class EmbedCompounds:
    """Bring the index in line with SQL for the compounds that one chunk changed."""

    name: ClassVar[str] = "index.embed"
    queue: ClassVar[str] = "index"
    operation: str
    chunk: int


@dataclass(frozen=True)
class IndexCompounds:
    """Bring the index in line with SQL for compounds that no chunk will index."""

    name: ClassVar[str] = "index.compounds"
    queue: ClassVar[str] = "index"
    library: str
    inchikeys: tuple[str, ...]
    # Version of the model whose index is meant; every live one when empty.
    model: str = ""


@dataclass(frozen=True)
class FillStructures:
    """Bring over to the structure index what SQL has and it lacks."""

    name: ClassVar[str] = "structures.fill"
    queue: ClassVar[str] = "index"


@dataclass(frozen=True)
class RemoveDeleted:
    """Remove the vectors, then the rows, of compounds marked deleted."""

    name: ClassVar[str] = "index.remove_deleted"
    queue: ClassVar[str] = "index"
    library: str
    inchikeys: tuple[str, ...]


@dataclass(frozen=True)
class PurgeLibrary:
    """Remove a deleted library's vectors, then its rows."""

    name: ClassVar[str] = "library.purge"
    queue: ClassVar[str] = "index"
    library: str


@dataclass(frozen=True)
class FillIndex:
    """Send the next step of filling the index of a second model, and this job again for the steps after it."""

    name: ClassVar[str] = "model.fill"
    queue: ClassVar[str] = "index"
    model: str
    # Jobs of a former fill find another number in the database, and end.
    fill: int
    # Walks over all compounds, the last of which finds nothing left to do.
    walk: int
    # (library, InChIKey) of the compound where the former step ended; empty at the beginning.
    after: tuple[str, ...] = ()
    # The newest that the former walk missed.
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class RemoveIndex:
    """Remove the index of a model that is being deleted."""

    name: ClassVar[str] = "model.remove_index"
    queue: ClassVar[str] = "index"
    model: str


@dataclass(frozen=True)
class Generate:
    """Work on a generation to its end, unless somebody else does."""

    name: ClassVar[str] = "generate.run"
    queue: ClassVar[str] = "generate"
    generation: str


Job: TypeAlias = (
    ReadChunk | EmbedCompounds | IndexCompounds | RemoveDeleted | PurgeLibrary | FillIndex | RemoveIndex | FillStructures | Generate
)
JOBS: tuple[type[Job], ...] = (
    ReadChunk,
    EmbedCompounds,
    IndexCompounds,
    RemoveDeleted,
    PurgeLibrary,
    FillIndex,
    RemoveIndex,
    FillStructures,
    Generate,
)


EncodeKind: TypeAlias = Literal["text", "molecule", "text and phrases", "molecule and fragments", "explanation"]


@dataclass(frozen=True)
class EncodeItems:
    """A question, not a job: somebody waits for the vectors, and nobody wants them later."""

    name: ClassVar[str] = "encode.items"
    queue: ClassVar[str] = "encode"
    # An explanation has two items: the text and the canonical SMILES.
    kind: EncodeKind
    items: tuple[str, ...]
    # A worker with another model refuses.
    model: str
    # Unix time; the clocks of a fleet agree within a fraction of a second.
    deadline: float


@dataclass(frozen=True)
class EncodeAnswer:
    """Vectors as base64 of little-endian float32, row after row; an explanation as JSON; or the reason why there is none."""

    vectors: str = ""
    # Of the phrases or fragments of all items, one after the other; how many each item has, and what each weighs.
    parts: str = ""
    part_counts: tuple[int, ...] = ()
    part_weights: str = ""
    explanation: str = ""
    reason: str = ""
    message: str = ""


QUEUES: tuple[str, ...] = (*dict.fromkeys(job.queue for job in JOBS), EncodeItems.queue)

Message = TypeVar("Message", bound=Job | EncodeItems | EncodeAnswer)


def to_payload(message: Job | EncodeItems | EncodeAnswer) -> dict[str, Any]:
    """The message as JSON values; an answer's without those that say nothing, so that servers of before read it."""
    values = asdict(message)
    return {name: value for name, value in values.items() if value} if isinstance(message, EncodeAnswer) else values


def from_payload(kind: type[Message], payload: Mapping[str, Any]) -> Message:
    """Reads what `to_payload` wrote; TypeError when a field is missing or unknown."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in payload.items()}
    return kind(**values)


def pack_vectors(vectors: NDArray[np.float32]) -> str:
    """(N, dimension) as text."""
    return base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode("ascii")


def unpack_vectors(packed: str, dimension: int) -> NDArray[np.float32]:
    """(N, dimension) from what `pack_vectors` wrote; ValueError when it holds no whole rows."""
    return np.frombuffer(base64.b64decode(packed, validate=True), dtype="<f4").reshape(-1, dimension).astype(np.float32)
