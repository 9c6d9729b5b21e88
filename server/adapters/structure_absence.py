"""What stands for the structure index in a fleet that has none: searches by words and vectors work, questions about structures say what to do."""

import uuid
from collections.abc import Sequence
from typing import NoReturn

from server.domain.errors import AtomasError, Reason
from server.ports import ScoredPoint, StructureEntry


class NoStructures:
    """StructureIndex that keeps nothing, under no generation; when a keeper is configured later it is filled from SQL."""

    generation = ""
    complete = True

    def declare_complete(self) -> None: ...

    def upsert(self, entries: Sequence[StructureEntry]) -> str:
        """Notes nothing."""
        return ""

    def delete(self, ids: Sequence[uuid.UUID]) -> None: ...

    def delete_library(self, library: str) -> None: ...

    def renew(self) -> None: ...

    def check_pattern(self, pattern: str) -> None:
        _refuse()

    def containing(self, pattern: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        _refuse()

    def contained_in(self, smiles: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        _refuse()

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None = None) -> Sequence[uuid.UUID]:
        _refuse()

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None = None) -> Sequence[ScoredPoint]:
        _refuse()

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None = None) -> Sequence[ScoredPoint]:
        _refuse()

    def tanimoto(self, fingerprint: bytes, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, float]:
        _refuse()

    def matched_atoms(self, pattern: str, smiles: Sequence[str]) -> Sequence[tuple[int, ...]]:
        _refuse()

    def count(self, library: str | None = None) -> int:
        """Nothing is here."""
        return 0

    def ids(self, library: str | None = None) -> Sequence[uuid.UUID]:
        """Nothing is here."""
        return ()

    def close(self) -> None: ...


def _refuse() -> NoReturn:
    raise AtomasError(
        Reason.INDEX_UNAVAILABLE,
        "This fleet has no structure keeper. Start one by `python -m server structures` and set ATOMAS_STRUCTURES_URL to its address, or "
        "install the RDKit cartridge in its database.",
    )
