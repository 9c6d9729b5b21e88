"""The port of the vector index: compounds as points, questions to its legs, and who answers them."""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from server.domain.compounds import JsonValue
from server.domain.filters import Filter
from server.domain.search import Leg
from server.ports.vectors import Parts, Vector, Words


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
