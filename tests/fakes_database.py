"""Declared fake of the database: tables in memory, one writer at a time, snapshots, rollback."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from rapidfuzz.distance import OSA

from server.domain.access import ApiKey
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.models import IndexEntry, ModelState, StoredModel
from server.domain.names import MAX_NAME_CHARACTERS, MAX_NEAR_CHARACTERS, MIN_NEAR_CHARACTERS, normalised
from server.domain.operations import Backlog, Chunk, ChunkState, Counts, ImportRow, Operation, Rejection, State
from server.domain.search import NamedCompound
from tests.fakes_generations import FakeGenerations, StoredGeneration

Place = tuple[str, str]


@dataclass
class _Tables:
    """Everything stored; values are frozen, so a copy of the dictionaries is a copy of the database."""

    libraries: dict[str, Library] = field(default_factory=dict)
    dying_libraries: dict[str, Library] = field(default_factory=dict)
    # In order of their first insertion, as keys count up in SQL.
    compounds: dict[Place, Compound] = field(default_factory=dict)
    dead_compounds: dict[Place, Compound] = field(default_factory=dict)
    index_entries: dict[tuple[Place, str], int] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    last_positions: dict[str, int] = field(default_factory=dict)
    chunks: dict[tuple[str, int], Chunk] = field(default_factory=dict)
    accept_times: dict[tuple[str, int], datetime] = field(default_factory=dict)
    # Rows that a chunk's verdicts leave to be found.
    findable: dict[tuple[str, int], int] = field(default_factory=dict)
    rejections: dict[tuple[str, int], Rejection] = field(default_factory=dict)
    refusals: dict[tuple[Place, str], str] = field(default_factory=dict)
    models: dict[str, StoredModel] = field(default_factory=dict)
    job_starts: dict[tuple[str, str], datetime] = field(default_factory=dict)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)
    generations: dict[str, StoredGeneration] = field(default_factory=dict)

    def copy(self) -> "_Tables":
        return _Tables(**{one.name: dict(getattr(self, one.name)) for one in fields(self)})


class FakeDatabase:
    """The `Database` port without a database."""

    def __init__(self) -> None:
        self._committed = _Tables()
        self._writer = threading.Lock()
        # Set to refuse every transaction, as a database that is down.
        self.down = False

    @contextmanager
    def transaction(self) -> Iterator["FakeTransaction"]:
        self._require_up()
        if not self._writer.acquire(timeout=10):
            raise AtomasError(Reason.DATABASE_UNAVAILABLE, "Another transaction holds the fake database.")
        try:
            tables = self._committed.copy()
            yield FakeTransaction(tables, writes=True)
            self._committed = tables
        finally:
            self._writer.release()

    @contextmanager
    def reading(self) -> Iterator["FakeTransaction"]:
        self._require_up()
        yield FakeTransaction(self._committed, writes=False)

    def check(self) -> None:
        self._require_up()

    def close(self) -> None:
        pass

    def _require_up(self) -> None:
        if self.down:
            raise AtomasError(Reason.DATABASE_UNAVAILABLE, "The fake database is down.")


class FakeTransaction:
    def __init__(self, tables: _Tables, *, writes: bool) -> None:
        def require_writing() -> None:
            if not writes:
                raise RuntimeError("reading() is for reading: open a transaction() to lock or to write.")

        self.libraries = _Libraries(tables, require_writing)
        self.compounds = _Compounds(tables, require_writing)
        self.operations = _Operations(tables, require_writing)
        self.names = _Names(tables)
        self.models = _Models(tables, require_writing)
        self.job_starts = _JobStarts(tables, require_writing)
        self.api_keys = _ApiKeys(tables, require_writing)
        self.generations = FakeGenerations(tables.generations, require_writing)


class _Libraries:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._tables = tables
        self._require_writing = require_writing

    def add(self, library: Library) -> Library:
        self._require_writing()
        if library.id in self._tables.libraries or library.id in self._tables.dying_libraries:
            raise AtomasError(Reason.LIBRARY_EXISTS, f"Library {library.id!r} exists already.")
        now = datetime.now(UTC)
        stored = replace(library, create_time=library.create_time or now, update_time=library.update_time or now, compound_count=0)
        self._tables.libraries[library.id] = stored
        return stored

    def get(self, library_id: str) -> Library:
        if library_id not in self._tables.libraries:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library_id!r}.")
        count = sum(library == library_id for library, _ in self._tables.compounds)
        return replace(self._tables.libraries[library_id], compound_count=count)

    def page(self, after: str, limit: int) -> list[Library]:
        return [self.get(library) for library in sorted(self._tables.libraries) if library > after][:limit]

    def update(self, library: Library) -> Library:
        self._require_writing()
        self._tables.libraries[library.id] = replace(
            self.get(library.id), display_name=library.display_name, description=library.description, update_time=datetime.now(UTC)
        )
        return self.get(library.id)

    def add_fields(self, library_id: str, fields: Mapping[str, frozenset[str]]) -> None:
        self._require_writing()
        library = self.get(library_id)
        merged = dict(library.fields)
        for name, kinds in fields.items():
            merged[name] = merged.get(name, frozenset()) | kinds
        self._tables.libraries[library_id] = replace(library, fields=merged)

    def mark_deleted(self, library_id: str) -> None:
        self._require_writing()
        self._tables.dying_libraries[library_id] = self.get(library_id)
        del self._tables.libraries[library_id]
        for operation in list(self._tables.operations.values()):
            if operation.library == library_id and not operation.state.final:
                now = datetime.now(UTC)
                self._tables.operations[operation.id] = replace(operation, state=State.CANCELLED, update_time=now, end_time=now)

    def purgeable(self) -> list[str]:
        return list(self._tables.dying_libraries)

    def purge(self, library_id: str, limit: int) -> bool:
        self._require_writing()
        tables = self._tables
        if library_id not in tables.dying_libraries:
            return True
        for rows in (tables.compounds, tables.dead_compounds):
            for place in [place for place in rows if place[0] == library_id]:
                if limit <= 0:
                    return False
                limit -= 1
                del rows[place]
                _drop_entries(tables, place)
        doomed = {operation.id for operation in tables.operations.values() if operation.library == library_id}
        for owned in (tables.chunks, tables.accept_times, tables.findable, tables.rejections):
            for key in [key for key in owned if key[0] in doomed]:
                del owned[key]
        for operation in doomed:
            del tables.operations[operation]
            tables.last_positions.pop(operation, None)
        del tables.dying_libraries[library_id]
        return True


class _Compounds:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._tables = tables
        self._require_writing = require_writing
        self._held: set[Place] = set()

    def get(self, library: str, inchikey: str) -> Compound:
        found = self.get_many(library, [inchikey])
        if not found:
            raise AtomasError(Reason.COMPOUND_NOT_FOUND, f"There is no compound {inchikey!r} in library {library!r}.")
        return found[inchikey]

    def get_many(self, library: str, inchikeys: Sequence[str], for_update: bool = False) -> dict[str, Compound]:
        if for_update:
            self._require_writing()
        present = [
            inchikey for inchikey in inchikeys if library in self._tables.libraries and (library, inchikey) in self._tables.compounds
        ]
        if for_update:
            self._held.update((library, inchikey) for inchikey in present)
        return {inchikey: self._tables.compounds[library, inchikey] for inchikey in present}

    def revisions(self, library: str, inchikeys: Sequence[str]) -> dict[str, int]:
        return {inchikey: compound.revision for inchikey, compound in self.get_many(library, inchikeys).items()}

    def page(self, library: str, after: str, limit: int) -> list[Compound]:
        places = sorted(place for place in self._tables.compounds if self._visible(place) and place[0] == library and place[1] > after)
        return [self._tables.compounds[place] for place in places[:limit]]

    def save(self, compounds: Sequence[Compound]) -> None:
        self._require_writing()
        now = datetime.now(UTC)
        for library in {compound.library for compound in compounds}:
            if library not in self._tables.libraries:
                raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library!r}.")
        for place, compound in {(compound.library, compound.inchikey): compound for compound in compounds}.items():
            stored = self._tables.compounds.get(place)
            dead = self._tables.dead_compounds.pop(place, None)
            if stored is not None and place not in self._held:
                raise AtomasError(Reason.DATABASE_UNAVAILABLE, "Another transaction was at work on the same rows.", cause="conflict")
            create_time = (stored.create_time if stored else compound.create_time) or now
            revision = compound.revision + (dead.revision if dead else 0)
            self._tables.compounds[place] = replace(compound, create_time=create_time, update_time=now, revision=revision)
            self._held.add(place)

    def mark_deleted(self, library: str, inchikey: str) -> None:
        self._require_writing()
        if library not in self._tables.libraries:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library!r}.")
        self._tables.dead_compounds[library, inchikey] = self.get(library, inchikey)
        del self._tables.compounds[library, inchikey]
        self._held.discard((library, inchikey))

    def remove_deleted(self, library: str, inchikeys: Sequence[str]) -> None:
        self._require_writing()
        for place in [(library, inchikey) for inchikey in inchikeys if library in self._tables.libraries]:
            self._tables.dead_compounds.pop(place, None)
            _drop_entries(self._tables, place)

    def deleted(self, limit: int) -> list[Place]:
        return [place for place in self._tables.dead_compounds if self._visible(place)][:limit]

    def mark_indexed(self, library: str, revisions: Mapping[str, int], model_version: str) -> None:
        self._require_writing()
        for inchikey, revision in revisions.items():
            if library in self._tables.libraries and {(library, inchikey)} & {*self._tables.compounds, *self._tables.dead_compounds}:
                self._tables.index_entries[(library, inchikey), model_version] = revision
                self._tables.refusals.pop(((library, inchikey), model_version), None)

    def mark_refused(self, library: str, inchikey: str, revision: int, model_version: str, error: str) -> None:
        self.mark_indexed(library, {inchikey: revision}, model_version)
        if ((library, inchikey), model_version) in self._tables.index_entries:
            self._tables.refusals[(library, inchikey), model_version] = error

    def forget_indexed(self, library: str, inchikeys: Sequence[str], model_version: str) -> None:
        self._require_writing()
        for inchikey in inchikeys if library in self._tables.libraries else ():
            self._tables.index_entries.pop(((library, inchikey), model_version), None)
            self._tables.refusals.pop(((library, inchikey), model_version), None)

    def entries(self, library: str, model_version: str, after: str, limit: int, inchikeys: Sequence[str] | None = None) -> list[IndexEntry]:
        found = []
        for compound in self.page(library, after, len(self._tables.compounds)):
            if inchikeys is None or compound.inchikey in inchikeys:
                key = ((library, compound.inchikey), model_version)
                said = self._tables.index_entries.get(key), self._tables.refusals.get(key, "")
                found.append(IndexEntry(compound.inchikey, compound.revision, *said))
        return found[:limit]

    def unindexed(self, model_version: str, limit: int, after: Place | None = None) -> list[Place]:
        places = list(self._tables.compounds)
        start = places.index(after) + 1 if after in places else 0
        entries = self._tables.index_entries
        return [
            place
            for place in places[start:]
            if self._visible(place) and entries.get((place, model_version)) != self._tables.compounds[place].revision
        ][:limit]

    def _visible(self, place: Place) -> bool:
        return place[0] in self._tables.libraries


class _Names:
    """Every name of every compound, compared."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    def spelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        return self._found(text, 0, libraries)[:limit]

    def misspelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        return self._found(text, 1, libraries)[:limit]

    def with_inchikey(self, beginning: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        keys = sorted((inchikey, library) for library, inchikey in self._within(libraries) if inchikey.startswith(beginning))
        return [NamedCompound(library, inchikey, inchikey) for inchikey, library in keys][:limit]

    def _found(self, text: str, typos: int, libraries: Sequence[str] | None) -> list[NamedCompound]:
        wanted = normalised(text)
        lengths = range(MIN_NEAR_CHARACTERS if typos else 1, (MAX_NEAR_CHARACTERS if typos else MAX_NAME_CHARACTERS) + 1)
        found = []
        for library, inchikey in self._within(libraries):
            compound = self._tables.compounds[library, inchikey]
            said = [(name, True) for name in compound.source_ids if not typos]
            said += [(name, False) for name in dict.fromkeys((compound.display_name, *compound.synonyms))]
            for name, is_id in said:
                if len(normalised(name)) in lengths and OSA.distance(normalised(name), wanted) == typos:
                    found.append(NamedCompound(library, inchikey, name, is_id, not is_id and name == compound.display_name))
        return found

    def _within(self, libraries: Sequence[str] | None) -> list[Place]:
        known = self._tables.libraries if libraries is None else [library for library in libraries if library in self._tables.libraries]
        return [place for place in self._tables.compounds if place[0] in known]


class _Operations:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._tables = tables
        self._require_writing = require_writing

    def open(self, operation: Operation) -> Operation:
        self._require_writing()
        if operation.library not in self._tables.libraries:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {operation.library!r}.")
        for stored in self._tables.operations.values():
            if (stored.library, stored.request_id) == (operation.library, operation.request_id):
                return stored
        now = datetime.now(UTC)
        fresh = replace(operation, create_time=operation.create_time or now, update_time=operation.update_time or now, counts=Counts())
        self._tables.operations[operation.id] = fresh
        return fresh

    def get(self, operation_id: str) -> Operation:
        if operation_id not in self._tables.operations:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"There is no operation {operation_id!r}.")
        return self._tables.operations[operation_id]

    def page(self, before: str, limit: int) -> list[Operation]:
        newest_first = list(reversed(self._tables.operations.values()))
        start = newest_first.index(self.get(before)) + 1 if before else 0
        return newest_first[start : start + limit]

    def lock(self, operation_id: str) -> Operation:
        self._require_writing()
        return self.get(operation_id)

    def accept(self, operation_id: str, rows: Sequence[ImportRow]) -> int:
        self._require_writing()
        operation = self.get(operation_id)
        positions = [self._tables.last_positions.get(operation_id, 0), *(row.position for row in rows)]
        if any(position <= former for former, position in pairwise(positions)):
            raise AtomasError(Reason.IMPORT_PROTOCOL, "Row positions must grow from 1 on through the whole import.")
        number = sum(key[0] == operation_id for key in self._tables.chunks)
        self._tables.chunks[operation_id, number] = Chunk(operation_id, number, ChunkState.ACCEPTED, tuple(rows))
        self._tables.accept_times[operation_id, number] = datetime.now(UTC)
        self._tables.last_positions[operation_id] = positions[-1]
        self._count(operation, received=len(rows))
        return number

    def chunk(self, operation_id: str, number: int, for_update: bool = False) -> Chunk:
        if for_update:
            self._require_writing()
        if (operation_id, number) not in self._tables.chunks:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"Operation {operation_id!r} has no chunk {number}.")
        return self._tables.chunks[operation_id, number]

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
        self._require_writing()
        operation = self.get(operation_id)
        chunk = self._tables.chunks.get((operation_id, number))
        if chunk is None or chunk.state is not ChunkState.ACCEPTED:
            return
        self._tables.chunks[operation_id, number] = replace(chunk, state=ChunkState.READ, changed=tuple(changed))
        self._tables.findable[operation_id, number] = created + updated + duplicate
        self._tables.rejections.update({(operation_id, item.position): item for item in rejections})
        by_reason = dict(operation.counts.rejected_by_reason)
        for item in rejections:
            by_reason[item.reason] = by_reason.get(item.reason, 0) + 1
        operation = replace(operation, counts=replace(operation.counts, rejected_by_reason=by_reason))
        self._count(operation, created=created, updated=updated, duplicate=duplicate, rejected=len(rejections))

    def mark_indexed(self, operation_id: str, number: int, shortened_texts: int) -> None:
        self._require_writing()
        operation = self.get(operation_id)
        chunk = self._tables.chunks.get((operation_id, number))
        if chunk is None or chunk.state is not ChunkState.READ:
            return
        self._tables.chunks[operation_id, number] = replace(chunk, state=ChunkState.INDEXED, rows=(), changed=())
        self._count(operation, indexed=self._tables.findable[operation_id, number], shortened_texts=shortened_texts)

    def set_state(self, operation_id: str, state: State, error: tuple[str, str] | None = None) -> None:
        self._require_writing()
        now = datetime.now(UTC)
        end_time = now if state.final else None
        stored = replace(self.get(operation_id), state=state, error=error, update_time=now, end_time=end_time)
        self._tables.operations[operation_id] = stored
        for key, chunk in self._tables.chunks.items():
            if key[0] == operation_id and state.final and chunk.state is not ChunkState.INDEXED:
                self._tables.chunks[key] = replace(chunk, rows=(), changed=())

    def unfinished_chunks(self, limit: int) -> list[tuple[str, int, Literal["ACCEPTED", "READ"]]]:
        # Operations are opened in order, and so are the chunks of each.
        order = {operation: place for place, operation in enumerate(self._tables.operations)}
        waiting: list[tuple[str, int, Literal["ACCEPTED", "READ"]]] = [
            (operation, number, "READ" if chunk.state is ChunkState.READ else "ACCEPTED")
            for (operation, number), chunk in self._tables.chunks.items()
            if chunk.state is not ChunkState.INDEXED and not self.get(operation).state.final
        ]
        return sorted(waiting, key=lambda item: (order[item[0]], item[1]))[:limit]

    def backlog(self) -> tuple[Backlog, Backlog]:
        unread, unindexed = (
            [key for key, chunk in self._tables.chunks.items() if chunk.state is state and not self.get(key[0]).state.final]
            for state in (ChunkState.ACCEPTED, ChunkState.READ)
        )
        return self._backlog(unread), self._backlog(unindexed)

    def _backlog(self, chunks: Sequence[tuple[str, int]]) -> Backlog:
        ages = [(datetime.now(UTC) - self._tables.accept_times[chunk]).total_seconds() for chunk in chunks]
        return Backlog(len(ages), max(ages, default=0.0))

    def all_indexed(self, operation_id: str) -> bool:
        self.get(operation_id)
        return all(chunk.state is ChunkState.INDEXED for key, chunk in self._tables.chunks.items() if key[0] == operation_id)

    def completable(self) -> list[str]:
        running = [operation for operation in self._tables.operations.values() if operation.state is State.PROCESSING]
        return [operation.id for operation in running if self.all_indexed(operation.id)]

    def idle(self, seconds: float) -> list[str]:
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        return [
            operation.id
            for operation in self._tables.operations.values()
            if operation.state is State.RECEIVING
            and self.all_indexed(operation.id)
            and operation.update_time is not None
            and operation.update_time < before
        ]

    def rejections(self, operation_id: str, after: int, limit: int) -> list[Rejection]:
        mine = [item for (operation, position), item in self._tables.rejections.items() if operation == operation_id and position > after]
        return sorted(mine, key=lambda item: item.position)[:limit]

    def _count(self, operation: Operation, **more: int) -> None:
        counts = replace(operation.counts, **{name: getattr(operation.counts, name) + count for name, count in more.items()})
        self._tables.operations[operation.id] = replace(operation, counts=counts, update_time=datetime.now(UTC))


class _Models:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._tables = tables
        self._require_writing = require_writing

    def all(self) -> list[StoredModel]:
        return list(self._tables.models.values())

    def get(self, version: str) -> StoredModel:
        if version not in self._tables.models:
            raise AtomasError(Reason.MODEL_NOT_FOUND, f"There is no model {version!r}.")
        return self._tables.models[version]

    def lock(self) -> list[StoredModel]:
        self._require_writing()
        return self.all()

    def put(self, model: StoredModel) -> None:
        self._require_writing()
        serving = {version for version, stored in self._tables.models.items() if stored.state is ModelState.SERVING} - {model.version}
        if serving and model.state is ModelState.SERVING:
            raise AtomasError(Reason.DATABASE_UNAVAILABLE, f"{serving} serves.", cause="conflict")
        now = datetime.now(UTC)
        self._tables.models[model.version] = replace(model, create_time=model.create_time or now, update_time=now)

    def add_filled(self, version: str, fill: int, count: int) -> bool:
        self._require_writing()
        stored = self._tables.models.get(version)
        if stored is None or stored.fill != fill or stored.state is not ModelState.FILLING:
            return False
        self.put(replace(stored, filled=stored.filled + count))
        return True

    def forget_entries(self, version: str, after: int, limit: int) -> int | None:
        self._require_writing()
        for key in [key for key in self._tables.index_entries if key[1] == version]:
            del self._tables.index_entries[key]
            self._tables.refusals.pop(key, None)
        return None


class _JobStarts:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._beats = tables.job_starts
        self._require_writing = require_writing

    def begin(self, job: str, start: str, silent_seconds: float) -> int:
        self._require_writing()
        self._beats[job, start] = datetime.now(UTC)
        before = datetime.now(UTC) - timedelta(seconds=silent_seconds)
        return sum(each == job and other != start and beat <= before for (each, other), beat in self._beats.items())

    def beat(self, job: str, start: str) -> None:
        self._require_writing()
        if (job, start) in self._beats:
            self._beats[job, start] = datetime.now(UTC)

    def end(self, job: str, start: str | None = None) -> None:
        self._require_writing()
        for key in [key for key in self._beats if key[0] == job and start in (None, key[1])]:
            del self._beats[key]

    def forget(self, older_than_seconds: float) -> None:
        self._require_writing()
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        for key in [key for key, beat in self._beats.items() if beat <= before]:
            del self._beats[key]


class _ApiKeys:
    def __init__(self, tables: _Tables, require_writing: Callable[[], None]) -> None:
        self._keys = tables.api_keys
        self._require_writing = require_writing

    def add(self, key: ApiKey) -> ApiKey:
        self._require_writing()
        if key.prefix in self._keys:
            raise AtomasError(Reason.DATABASE_UNAVAILABLE, f"Key {key.prefix} exists.", cause="conflict")
        self._keys[key.prefix] = replace(key, scopes=tuple(key.scopes), create_time=datetime.now(UTC))
        return self._keys[key.prefix]

    def get(self, prefix: str) -> ApiKey:
        if prefix not in self._keys:
            raise AtomasError(Reason.API_KEY_NOT_FOUND, f"There is no API key {prefix!r}.")
        return self._keys[prefix]

    def page(self, after: str, limit: int) -> list[ApiKey]:
        return [self._keys[prefix] for prefix in sorted(self._keys) if prefix > after][:limit]

    def revoke(self, prefix: str) -> ApiKey:
        self._require_writing()
        key = self.get(prefix)
        self._keys[prefix] = replace(key, revoke_time=key.revoke_time or datetime.now(UTC))
        return self._keys[prefix]


def _drop_entries(tables: _Tables, place: Place) -> None:
    for key in [key for key in tables.index_entries if key[0] == place]:
        del tables.index_entries[key]
        tables.refusals.pop(key, None)
