"""A structure index of plain RDKit molecules: every question asks every molecule, nothing is screened."""

import uuid
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rdkit import Chem, DataStructs

from encoder.molecules import MoleculeError
from encoder.patterns import Pattern, matched_atoms, read_pattern
from server.domain.errors import AtomasError, Reason
from server.ports import ScoredPoint, StructureEntry

T = TypeVar("T")


class FakeStructures:
    """StructureIndex by brute force."""

    def __init__(self) -> None:
        self.generation = uuid.uuid4().hex
        self.complete = False
        self._entries: dict[uuid.UUID, StructureEntry] = {}

    def upsert(self, entries: Sequence[StructureEntry]) -> str:
        self._entries.update((entry.id, entry) for entry in entries)
        return self.generation

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        for id in ids:
            self._entries.pop(id, None)

    def delete_library(self, library: str) -> None:
        self.delete(self.ids(library))

    def renew(self) -> None:
        self._entries, self.generation, self.complete = {}, uuid.uuid4().hex, False

    def declare_complete(self) -> None:
        self.complete = True

    def check_pattern(self, pattern: str) -> None:
        _read(pattern)

    def containing(self, pattern: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        query = self._asked(_read(pattern)).query
        return [entry.id for entry in self._chosen(libraries) if Chem.MolFromSmiles(entry.smiles).HasSubstructMatch(query)]

    def contained_in(self, smiles: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        whole = self._asked(Chem.MolFromSmiles(smiles))
        return [entry.id for entry in self._chosen(libraries) if whole.HasSubstructMatch(Chem.MolFromSmiles(entry.smiles))]

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        return [entry.id for entry in self._chosen(libraries) if entry.skeleton == self._asked(skeleton)]

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        query = self._asked(_bits(fingerprint))
        scored = [ScoredPoint(e.id, DataStructs.TanimotoSimilarity(query, _bits(e.fingerprint))) for e in self._chosen(libraries)]
        # As float32 tells them apart, so that 3/5 reaches a threshold of 0.6.
        return sorted((s for s in scored if s.score >= threshold - 1e-7), key=lambda s: (-s.score, s.id))

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        return self.similar(fingerprint, 0.0, libraries)[: max(count, 0)]

    def tanimoto(self, fingerprint: bytes, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, float]:
        query = _bits(fingerprint)
        known = [self._entries[id] for id in ids if id in self._entries]
        return {entry.id: DataStructs.TanimotoSimilarity(query, _bits(entry.fingerprint)) for entry in known}

    def matched_atoms(self, pattern: str, smiles: Sequence[str]) -> list[tuple[int, ...]]:
        query = _read(pattern)
        return [tuple(matched_atoms(query, Chem.MolFromSmiles(text))) for text in smiles]

    def count(self, library: str | None = None) -> int:
        return len(self.ids(library))

    def ids(self, library: str | None = None) -> list[uuid.UUID]:
        return sorted(entry.id for entry in self._chosen(None if library is None else [library]))

    def close(self) -> None: ...

    def _asked(self, question: T) -> T:
        if not self.complete:
            raise AtomasError(Reason.INDEX_UNAVAILABLE, "The fake is being filled.")
        return question

    def _chosen(self, libraries: Sequence[str] | None) -> Iterator[StructureEntry]:
        return (entry for entry in list(self._entries.values()) if libraries is None or entry.library in libraries)


def _read(pattern: str) -> Pattern:
    try:
        return read_pattern(pattern)
    except MoleculeError as error:
        raise AtomasError(Reason(error.reason.value), error.message) from None


def _bits(fingerprint: bytes) -> DataStructs.ExplicitBitVect:
    return DataStructs.CreateFromBinaryText(fingerprint)
