"""Compare what the indexes hold with what the database says they should, and mend the difference."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from server.domain.compounds import point_id
from server.domain.documents import compound_of
from server.domain.models import IndexEntry, ModelState
from server.jobs import FillStructures, IndexCompounds
from server.ports import Ports, StructureIndex, VectorIndex
from server.usecases.index_compounds import index_compounds
from server.usecases.index_structures import fill_structures
from server.usecases.live_models import live_models

PAGE = 1_000
EXAMPLES = 5
# What a job is about to settle looks wrong for a moment: whatever looks wrong is looked at again after a while.
SECOND_LOOK_SECONDS = 1.0
_ALL = 1_000_000


def batched(ids: Iterator[uuid.UUID], size: int) -> Iterator[list[uuid.UUID]]:
    """Python's own comes with 3.12."""
    while batch := list(islice(ids, size)):
        yield batch


@dataclass
class Difference:
    """How many of a kind, and a few of them by name."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, names: Sequence[str]) -> None:
        self.count += len(names)
        self.examples.extend(names[: EXAMPLES - len(self.examples)])


@dataclass
class Finding:
    """One index beside the database, for one library; for no library, what belongs to none."""

    index: str
    library: str
    compounds: int = 0
    # A job has still to bring them in line; not wrong.
    waiting: int = 0
    # They cannot be encoded, and the database says why; not wrong.
    refused: Difference = field(default_factory=Difference)
    # The database believes them in the index, and they are not.
    missing: Difference = field(default_factory=Difference)
    # The index holds another revision of them than the database believes.
    stale: Difference = field(default_factory=Difference)
    # The index holds them, and there is no such compound.
    orphaned: Difference = field(default_factory=Difference)

    @property
    def wrong(self) -> int:
        return self.missing.count + self.stale.count + self.orphaned.count


class Index(Protocol):
    """What a vector index and the structure index have in common."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str:
        """Under which the database notes what the index holds."""
        ...

    def revisions(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, int | None]:
        """Of those that exist; None where the index does not know the revision."""
        ...

    def owners(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, tuple[str, str]] | None:
        """(library, InChIKey) of those that exist; None where the index does not know them."""
        ...

    def ids(self, library: str | None) -> Iterator[uuid.UUID]: ...
    def count(self, library: str | None) -> int: ...
    def delete(self, ids: Sequence[uuid.UUID]) -> None: ...


@dataclass(frozen=True)
class _Vectors:
    index: VectorIndex

    @property
    def name(self) -> str:
        return f"model {self.index.model_version}"

    @property
    def version(self) -> str:
        return self.index.model_version

    def revisions(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, int | None]:
        return {id: compound_of(document).revision for id, document in self.index.documents(ids).items()}

    def owners(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, tuple[str, str]] | None:
        found = {id: compound_of(document) for id, document in self.index.documents(ids).items()}
        return {id: (compound.library, compound.inchikey) for id, compound in found.items()}

    def ids(self, library: str | None) -> Iterator[uuid.UUID]:
        return self.index.ids(library)

    def count(self, library: str | None) -> int:
        return self.index.count(library)

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        self.index.delete(ids)
        self.index.flush()


class _Structures:
    """Knows ids alone, all of them at once."""

    name = "structures"

    def __init__(self, index: StructureIndex) -> None:
        self._index = index
        self._held = frozenset(index.ids())

    @property
    def version(self) -> str:
        return self._index.generation

    def revisions(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, int | None]:
        # Looked up once, and again for those that look missing.
        present = self._held if self._held.issuperset(ids) else frozenset(self._index.ids())
        return {id: None for id in ids if id in present}

    def owners(self, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, tuple[str, str]] | None:
        return None

    def ids(self, library: str | None) -> Iterator[uuid.UUID]:
        return iter(self._index.ids(library))

    def count(self, library: str | None) -> int:
        return self._index.count(library)

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        self._index.delete(ids)


def verify(ports: Ports, *, repair: bool = False, here: bool = False) -> Iterator[Finding]:
    """Looks at every index and every library. With `repair` orphans are removed and the rest is indexed again: `here`, or by jobs.

    A service may be at work meanwhile: what its jobs are about to settle is not reported.
    """
    indexes: list[Index] = [_Vectors(ports.models.index(model.version)) for model in live_models(ports)]
    if ports.structures.generation:
        indexes.append(_Structures(ports.structures))
    with ports.database.reading() as transaction:
        libraries = [library.id for library in transaction.libraries.page("", _ALL)]
    for index in indexes:
        held = 0
        for library in libraries:
            finding = _verify_library(index, library, ports, repair=repair, here=here)
            held += finding.compounds - finding.waiting - finding.refused.count - finding.missing.count
            yield finding
        if index.count(None) != held:
            yield _verify_homeless(index, libraries, ports, repair=repair)


def leftovers(ports: Ports) -> list[str]:
    """Model versions whose index takes up room though no model of the service uses it."""
    used = {model.version for model in live_models(ports)}
    with ports.database.reading() as transaction:
        used |= {model.version for model in transaction.models.all() if model.state is ModelState.DELETING}
    return [version for version in ports.models.stored_indexes() if version not in used]


def _verify_library(index: Index, library: str, ports: Ports, *, repair: bool, here: bool) -> Finding:
    finding = Finding(index.name, library)
    held = 0
    for entries in _pages(library, index.version, ports):
        finding.compounds += len(entries)
        finding.waiting += sum(entry.waiting for entry in entries)
        settled = [entry for entry in entries if not entry.waiting]
        finding.refused.add([f"{entry.inchikey} ({entry.error})" for entry in settled if entry.error])
        expected = [entry for entry in settled if not entry.error]
        missing, stale = _wrong(index, library, expected, ports)
        held += len(expected) - len(missing)
        finding.missing.add(missing)
        finding.stale.add(stale)
        if repair and (missing or stale):
            _index_again(index, library, (*missing, *stale), ports, here=here)
    if index.count(library) > held:
        orphans = _orphans(index, library, ports)
        finding.orphaned.add([name for name, _ in orphans])
        if repair:
            index.delete([id for _, id in orphans])
    return finding


def _pages(library: str, version: str, ports: Ports) -> Iterator[list[IndexEntry]]:
    after = ""
    while True:
        with ports.database.reading() as transaction:
            entries = transaction.compounds.entries(library, version, after, PAGE)
        if not entries:
            return
        yield entries
        after = entries[-1].inchikey


def _wrong(index: Index, library: str, expected: Sequence[IndexEntry], ports: Ports) -> tuple[list[str], list[str]]:
    """InChIKeys that are missing, and that are stale."""
    missing, stale = _look(index, library, expected)
    if not (missing or stale):
        return [], []
    time.sleep(SECOND_LOOK_SECONDS)
    with ports.database.reading() as transaction:
        again = transaction.compounds.entries(library, index.version, "", PAGE, [*missing, *stale])
    return _look(index, library, [entry for entry in again if not entry.waiting and not entry.error])


def _look(index: Index, library: str, expected: Sequence[IndexEntry]) -> tuple[list[str], list[str]]:
    ids = {point_id(library, entry.inchikey): entry for entry in expected}
    found = index.revisions(list(ids))
    missing = [entry.inchikey for id, entry in ids.items() if id not in found]
    stale = [entry.inchikey for id, entry in ids.items() if found.get(id) not in (None, entry.revision)]
    return missing, stale


def _orphans(index: Index, library: str, ports: Ports) -> list[tuple[str, uuid.UUID]]:
    """Points of a library that no compound has, under the best name there is for each."""
    with ports.database.reading() as transaction:
        # Their vectors are being removed.
        dying = {point_id(*place) for place in transaction.compounds.deleted(_ALL)}
    suspects = [id for id in _unknown(index, library, ports) if id not in dying]
    if not suspects:
        return []
    time.sleep(SECOND_LOOK_SECONDS)
    still = set(_unknown(index, library, ports))
    owners = index.owners(suspects) or {}
    return [(owners[id][1] if id in owners else str(id), id) for id in suspects if id in still]


def _unknown(index: Index, library: str, ports: Ports) -> list[uuid.UUID]:
    unknown: list[uuid.UUID] = []
    for ids in batched(index.ids(library), PAGE):
        owners = index.owners(ids)
        if owners is None:
            known = {point_id(library, entry.inchikey) for entries in _pages(library, index.version, ports) for entry in entries}
            return [id for id in index.ids(library) if id not in known]
        with ports.database.reading() as transaction:
            inchikeys = [inchikey for owner, inchikey in owners.values() if owner == library]
            entries = transaction.compounds.entries(library, index.version, "", PAGE, inchikeys)
        known = {point_id(library, entry.inchikey) for entry in entries}
        unknown.extend(id for id in ids if id in owners and id not in known)
    return unknown


def _verify_homeless(index: Index, libraries: Sequence[str], ports: Ports, *, repair: bool) -> Finding:
    """Points of libraries that are gone."""
    finding = Finding(index.name, "")
    with ports.database.reading() as transaction:
        housed = {*libraries, *transaction.libraries.purgeable()}
    known = {id for library in housed for id in index.ids(library)} if index.owners([]) is None else set()
    for ids in batched(index.ids(None), PAGE):
        owners = index.owners(ids)
        homeless = [id for id in ids if (id not in known if owners is None else id in owners and owners[id][0] not in housed)]
        finding.orphaned.add([f"{owners[id][0]}/{owners[id][1]}" if owners and id in owners else str(id) for id in homeless])
        if repair and homeless:
            index.delete(homeless)
    return finding


def _index_again(index: Index, library: str, inchikeys: Sequence[str], ports: Ports, *, here: bool) -> None:
    # Durable before anything is sent: what gets lost on the way the sweep finds.
    with ports.database.transaction() as transaction:
        transaction.compounds.forget_indexed(library, inchikeys, index.version)
    if isinstance(index, _Structures):
        if here:
            fill_structures(ports)
        else:
            ports.queue.send(FillStructures())
    elif here:
        index_compounds(library, inchikeys, ports, index.version)
    else:
        ports.queue.send(IndexCompounds(library, tuple(inchikeys), index.version))
