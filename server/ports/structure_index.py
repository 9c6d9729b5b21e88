"""The port of the structure index: exact questions about structures."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.ports.vector_index import ScoredPoint


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
