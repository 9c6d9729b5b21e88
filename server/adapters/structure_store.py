"""All structures of the index: tables per library, merged as they grow, and the log they are read from at the start."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rdkit
from numpy.typing import NDArray
from rdkit import Chem

from encoder.molecules import STANDARD_VERSION
from encoder.patterns import read_pattern
from server.adapters.structure_log import Added, Completed, Entry, LibraryRemoved, Removed, StructureLog
from server.adapters.structure_table import ID_BYTES, Bytes, Columns, Keeping, StructureTable, columns_of, query_words

MADE_BY = f"rdkit {rdkit.__version__}, standard {STANDARD_VERSION}"
# Records that are out of date before the log is written anew.
_GARBAGE_ROWS = 20_000
Scores = NDArray[np.float32]


class StructureStore:
    """Searches see whole batches only. Any number of readers; writers wait for each other."""

    def __init__(self, path: Path, live_molecules: int) -> None:
        """Reads the log. `live_molecules` of the structures are kept ready to match once they were needed."""
        self._write = threading.Lock()
        self._keep = Keeping(live_molecules)
        self._tables: dict[str, tuple[StructureTable, ...]] = {}
        # Where each structure is.
        self._places: dict[bytes, tuple[StructureTable, int]] = {}
        self._garbage = 0
        # Whether searches may rely on the content.
        self.complete = False
        self._log = StructureLog(path, MADE_BY)
        for entry in self._log.open():
            self._apply(entry, merge=False)
        for library in list(self._tables):
            self._merge(library, everything=True)

    @property
    def generation(self) -> str:
        """Another one than before when what was here is lost."""
        return self._log.generation

    def add(self, library: str, ids: Bytes, skeletons: Bytes, morgan: Bytes, smiles: Sequence[str]) -> None:
        """Inserts or replaces; on disk when it returns. Of structures with one id the last stays."""
        latest = np.array(sorted({ids[row].tobytes(): row for row in range(len(ids))}.values()), np.intp)
        columns = columns_of(ids[latest], skeletons[latest], morgan[latest], [smiles[row] for row in latest.tolist()])
        # Compounds are indexed again whenever a text about them changes; their structures hardly ever do.
        news = np.array([row for row in range(len(columns)) if not self._holds(columns, row)], np.intp)
        if len(news):
            self._do(Added(library, columns.chosen(news)))

    def remove(self, ids: Bytes) -> None:
        """Removes those that are here; on disk when it returns."""
        known = [row for row in range(len(ids)) if ids[row].tobytes() in self._places]
        if known:
            self._do(Removed(np.ascontiguousarray(ids[known])))

    def remove_library(self, library: str) -> None:
        """As `remove`, of everything in the library."""
        if library in self._tables:
            self._do(LibraryRemoved(library))

    def declare_complete(self) -> None:
        """Nothing is missing any more; remembered on disk."""
        if not self.complete:
            self._do(Completed())

    def renew(self) -> None:
        """Forgets everything, under another generation."""
        with self._write:
            self._log.rewrite([])
            self._tables, self._places, self._garbage, self.complete = {}, {}, 0, False

    def containing(self, pattern_text: str, libraries: Sequence[str] | None, seconds: float) -> Bytes:
        """Ids of structures that hold the pattern. Raises MoleculeError, TooSlowError."""
        pattern, deadline = read_pattern(pattern_text), time.monotonic() + seconds
        return _joined([table.columns.ids[table.containing(pattern, deadline, self._keep)] for table in self._chosen(libraries)])

    def contained_in(self, smiles: str, libraries: Sequence[str] | None, seconds: float) -> Bytes:
        """Ids of structures that are substructures of a molecule whose SMILES passed the chemistry door. Raises TooSlowError."""
        molecule, deadline = Chem.MolFromSmiles(smiles), time.monotonic() + seconds
        return _joined([table.columns.ids[table.contained_in(molecule, deadline, self._keep)] for table in self._chosen(libraries)])

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None) -> Bytes:
        """Ids of structures whose parent has this first InChIKey block."""
        return _joined([table.columns.ids[table.with_skeleton(skeleton)] for table in self._chosen(libraries)])

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None) -> tuple[Bytes, Scores]:
        """Everything at least so similar: ids and Tanimoto similarities, most similar first, ties by id."""
        query = query_words(fingerprint)
        return _ranked([_answer(table, table.similar(query, threshold)) for table in self._chosen(libraries)])

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None) -> tuple[Bytes, Scores]:
        """The `count` most similar, as `similar`."""
        query = query_words(fingerprint)
        ids, scores = _ranked([_answer(table, table.nearest(query, count)) for table in self._chosen(libraries)])
        return ids[:count], scores[:count]

    def tanimoto(self, fingerprint: bytes, ids: Bytes) -> Scores:
        """Similarities of these structures; NaN for those that are not here."""
        query = query_words(fingerprint)
        scores = np.full(len(ids), np.nan, np.float32)
        for position in range(len(ids)):
            place = self._places.get(ids[position].tobytes())
            if place is not None:
                scores[position] = place[0].tanimoto(query, np.array([place[1]]))[0]
        return scores

    def count(self, library: str | None) -> int:
        """Structures of one library or of all."""
        return sum(int(table.alive.sum()) for table in self._chosen(None if library is None else [library]))

    def ids(self, library: str | None) -> Bytes:
        """Every structure's id, in no order."""
        chosen = self._chosen(None if library is None else [library])
        return _joined([table.columns.ids[np.flatnonzero(table.alive)] for table in chosen])

    def close(self) -> None:
        """Lets go of the log."""
        with self._write:
            self._log.close()

    def _chosen(self, libraries: Sequence[str] | None) -> Iterator[StructureTable]:
        tables = self._tables
        for library in list(tables) if libraries is None else dict.fromkeys(libraries):
            yield from (table for table in tables.get(library, ()) if len(table))

    def _holds(self, columns: Columns, row: int) -> bool:
        place = self._places.get(columns.ids[row].tobytes())
        if place is None:
            return False
        here, there = place[0].columns, place[1]
        return here.molecules[there] == columns.molecules[row] and here.skeletons[there].tobytes() == columns.skeletons[row].tobytes()

    def _do(self, entry: Entry) -> None:
        with self._write:
            self._log.append(entry)
            self._apply(entry, merge=True)
            if self._garbage > _GARBAGE_ROWS + len(self._places):
                self._rewrite()

    def _apply(self, entry: Entry, merge: bool) -> None:
        match entry:
            case Added(library, columns):
                table = StructureTable(columns)
                # A search that runs meanwhile meets a structure that changed in neither table rather than in both.
                self._kill(columns.ids)
                self._tables = {**self._tables, library: (*self._tables.get(library, ()), table)}
                self._note(table)
                if merge:
                    self._merge(library, everything=False)
            case Removed(ids):
                self._kill(ids)
            case LibraryRemoved(library):
                for table in self._tables.get(library, ()):
                    self._kill(table.columns.ids[np.flatnonzero(table.alive)])
                    table.give_up(self._keep)
                self._tables = {name: tables for name, tables in self._tables.items() if name != library}
            case Completed():
                self.complete = True

    def _kill(self, ids: Bytes) -> None:
        for row in range(len(ids)):
            place = self._places.pop(ids[row].tobytes(), None)
            if place is not None:
                place[0].alive[place[1]] = False
                self._garbage += 1

    def _note(self, table: StructureTable) -> None:
        whole = table.columns.ids.tobytes()
        for row in range(len(table)):
            self._places[whole[ID_BYTES * row : ID_BYTES * (row + 1)]] = (table, row)

    def _merge(self, library: str, everything: bool) -> None:
        """Joins the last tables while they are of similar size, so that a library has few and each row moves seldom."""
        tables = list(self._tables[library])
        merged = tables
        while len(merged) > 1 and (everything or len(merged[-2]) <= 2 * len(merged[-1])):
            last = merged if everything else merged[-2:]
            table = StructureTable(Columns.joined([part.surviving() for part in last]))
            merged = [*merged[: -len(last)], table]
        if merged == tables:
            return
        for gone in set(tables) - set(merged):
            gone.give_up(self._keep)
        for table in set(merged) - set(tables):
            self._note(table)
        self._tables = {**self._tables, library: tuple(merged)}

    def _rewrite(self) -> None:
        entries: list[Entry] = [Added(library, table.surviving()) for library, tables in self._tables.items() for table in tables]
        if self.complete:
            entries.append(Completed())
        self._log.rewrite(entries, keep_generation=True)
        self._garbage = 0


def _answer(table: StructureTable, found: tuple[NDArray[np.intp], Scores]) -> tuple[Bytes, Scores]:
    return table.columns.ids[found[0]], found[1]


def _joined(parts: Sequence[Bytes]) -> Bytes:
    return np.concatenate(parts) if parts else np.empty((0, ID_BYTES), np.uint8)


def _ranked(parts: Sequence[tuple[Bytes, Scores]]) -> tuple[Bytes, Scores]:
    ids = _joined([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.float32)
    halves = ids.view(">u8")
    order = np.lexsort((halves[:, 1], halves[:, 0], -scores))
    return ids[order], scores[order]
