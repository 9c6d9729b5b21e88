"""The background jobs as data: name, queue, frozen payload; senders and workers know nothing else of each other."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


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
class PurgeLibrary:
    """Remove a deleted library's vectors, then its rows."""

    name: ClassVar[str] = "library.purge"
    queue: ClassVar[str] = "index"
    library: str


Job: TypeAlias = ReadChunk | EmbedCompounds | PurgeLibrary
JOBS: tuple[type[ReadChunk] | type[EmbedCompounds] | type[PurgeLibrary], ...] = (ReadChunk, EmbedCompounds, PurgeLibrary)
