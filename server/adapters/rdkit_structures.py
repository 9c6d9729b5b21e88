"""The structure index on RDKit and FPSim2, both in the keeper process; this side only asks."""

import math
import uuid
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from server.adapters.keeper_messages import Message, texts_part
from server.ports import ScoredPoint, StructureEntry

# Bounds a message and a batch on disk to a few megabytes.
ENTRIES_PER_CALL = 1_000
_SKELETON_LETTERS = 14
# What UUID's constructor does at half its price, when a thousand of them are an answer: it checks arguments that cannot be wrong here.
_new_id, _set_number, _set_safety = uuid.UUID.__new__, uuid.UUID.int.__set__, uuid.UUID.is_safe.__set__  # type: ignore[misc, attr-defined] # slots


class Keeper(Protocol):
    """Whoever answers the calls: a child process here, or a server of the fleet."""

    def call(self, head: Mapping[str, Any], parts: Sequence[bytes] = (), seconds: float | None = None) -> Message:
        """The answer; with `seconds`, TIMEOUT after them."""
        ...

    def close(self) -> None: ...


class RdkitStructures:
    """StructureIndex over a keeper."""

    def __init__(self, keeper: Keeper, pattern_seconds: float) -> None:
        """`pattern_seconds` is what one pattern may take over all the libraries it is looked for in."""
        self._keeper = keeper
        self._pattern_seconds = pattern_seconds

    @property
    def generation(self) -> str:
        return str(self._keeper.call({"call": "generation"}).head["generation"])

    @property
    def complete(self) -> bool:
        return bool(self._keeper.call({"call": "generation"}).head["complete"])

    def declare_complete(self) -> None:
        """Questions are answered from now on."""
        self._keeper.call({"call": "declare_complete"})

    def upsert(self, entries: Sequence[StructureEntry]) -> str:
        """Inserts or replaces; of entries with one id the last stays."""
        generations = []
        for library, group in groupby(sorted(entries, key=lambda entry: entry.library), key=lambda entry: entry.library):
            members = list(group)
            for start in range(0, len(members), ENTRIES_PER_CALL):
                generations.append(self._add(library, members[start : start + ENTRIES_PER_CALL]))
        # Replaced meanwhile: what was written before is lost, and under this name nobody will believe that it is here.
        return generations[0] if generations and len(set(generations)) == 1 else "" if generations else self.generation

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes those that exist."""
        if ids:
            self._keeper.call({"call": "remove"}, [_packed(ids)])

    def delete_library(self, library: str) -> None:
        """Removes every structure of the library."""
        self._keeper.call({"call": "remove_library", "library": library})

    def renew(self) -> None:
        """Forgets everything, under a new generation."""
        self._keeper.call({"call": "renew"})

    def check_pattern(self, pattern: str) -> None:
        """Raises as the searches do."""
        self._keeper.call({"call": "check_pattern", "pattern": pattern}, seconds=self._pattern_seconds)

    def containing(self, pattern: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures that hold the pattern."""
        head = {"call": "containing", "pattern": pattern, "libraries": _listed(libraries)}
        return _ids(self._keeper.call(head, seconds=self._pattern_seconds).parts[0])

    def contained_in(self, smiles: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures that are substructures of the molecule."""
        head = {"call": "contained_in", "smiles": smiles, "libraries": _listed(libraries)}
        return _ids(self._keeper.call(head, seconds=self._pattern_seconds).parts[0])

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures whose parent has this first InChIKey block."""
        head = {"call": "with_skeleton", "skeleton": skeleton, "libraries": _listed(libraries)}
        return _ids(self._keeper.call(head).parts[0])

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        """Everything at least so similar, most similar first, ties by id."""
        head = {"call": "similar", "threshold": threshold, "libraries": _listed(libraries)}
        return _scored(self._keeper.call(head, [fingerprint]))

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        """The most similar, in the order of `similar`."""
        if count < 1:
            return []
        return _scored(self._keeper.call({"call": "nearest", "count": count, "libraries": _listed(libraries)}, [fingerprint]))

    def tanimoto(self, fingerprint: bytes, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, float]:
        """Similarities of those that exist."""
        answer = self._keeper.call({"call": "tanimoto"}, [fingerprint, _packed(ids)])
        scores = np.frombuffer(answer.parts[0], "<f4").tolist()
        return {id: score for id, score in zip(ids, scores, strict=True) if not math.isnan(score)}

    def matched_atoms(self, pattern: str, smiles: Sequence[str]) -> list[tuple[int, ...]]:
        """For each molecule the atoms that any match covers, in ascending order."""
        head = {"call": "matched_atoms", "pattern": pattern}
        answer = self._keeper.call(head, [texts_part(smiles)], seconds=self._pattern_seconds)
        return [tuple(atoms) for atoms in answer.head["atoms"]]

    def count(self, library: str | None = None) -> int:
        """Structures of one library or of all."""
        return int(self._keeper.call({"call": "count", "library": library}).head["count"])

    def ids(self, library: str | None = None) -> list[uuid.UUID]:
        """Every structure's id, in order."""
        return sorted(_ids(self._keeper.call({"call": "ids", "library": library}).parts[0]))

    def close(self) -> None:
        """Ends the keeper, or the connection to it."""
        self._keeper.close()

    def _add(self, library: str, entries: Sequence[StructureEntry]) -> str:
        parts = [
            _packed([entry.id for entry in entries]),
            b"".join(entry.skeleton.encode().ljust(_SKELETON_LETTERS, b"\0")[:_SKELETON_LETTERS] for entry in entries),
            b"".join(entry.fingerprint for entry in entries),
            texts_part([entry.smiles for entry in entries]),
        ]
        return str(self._keeper.call({"call": "add", "library": library}, parts).head["generation"])


def _listed(libraries: Sequence[str] | None) -> list[str] | None:
    return None if libraries is None else list(libraries)


def _packed(ids: Sequence[uuid.UUID]) -> bytes:
    return b"".join(id.bytes for id in ids)


def _ids(packed: bytes) -> list[uuid.UUID]:
    halves = np.frombuffer(packed, ">u8").tolist()
    ids = [_new_id(uuid.UUID) for _ in range(len(packed) // 16)]
    for id, high, low in zip(ids, halves[::2], halves[1::2], strict=True):
        _set_number(id, high << 64 | low)
        _set_safety(id, uuid.SafeUUID.unknown)
    return ids


def _scored(answer: Message) -> list[ScoredPoint]:
    scores = np.frombuffer(answer.parts[1], "<f4").tolist()
    return list(map(ScoredPoint, _ids(answer.parts[0]), scores))
