"""The vector index inside this process: the Qdrant engine on a folder, nothing to install."""

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree, disk_usage
from typing import TypeVar

import numpy as np
import structlog
from qdrant_client import models

from server.adapters.edge_folder import IndexFolder, Manifest, sync_tree, tree_bytes
from server.adapters.edge_optimiser import optimise
from server.adapters.edge_shard import EdgeShard, ShardClosedError
from server.adapters.qdrant_filters import engine_filter
from server.adapters.qdrant_points import engine_phrases, engine_points
from server.adapters.qdrant_questions import EngineQuestion, aligned, answers, engine_questions
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Filter
from server.domain.search import Leg
from server.ports import Parts, Point, Question, ScoredPoint, Vector

T = TypeVar("T")
log = structlog.get_logger(__name__)

# Exact search takes 12 ms at 100,000 points of 256 dimensions; a graph a tenth of that.
OPTIMISE_POINTS = 100_000
# Writes wait while the last so many changes are brought over to the optimised shard.
LAST_CHANGES = 500
# Writers that are faster than bringing over must not postpone the end for ever.
MOST_ROUNDS = 20


class EdgeIndex:
    """VectorIndex on a folder that one process owns. Vectors are kept at length 1.

    Searches are exact until `optimise_points` changes have gathered. Then a copy of the shard gets its graphs in a child process while searches
    and writes go on here; the ids written meanwhile are brought over and the copy takes the shard's place. A crash before that only loses the copy.
    """

    def __init__(self, folder: IndexFolder, manifest: Manifest, shard: EdgeShard, optimise_points: int) -> None:
        self._folder = folder
        self._manifest = manifest
        self._shard = shard
        self._optimise_points = optimise_points
        # Orders writes; searches never take it.
        self._write = threading.Lock()
        self._changes = max(0, shard.count() - manifest.optimised_points)
        # Ids written since the copy was made; None when there is no copy.
        self._touched: set[uuid.UUID] | None = None
        self._optimiser: threading.Thread | None = None
        self._closing = threading.Event()
        self._flush = threading.Lock()
        self._written = 0
        self._flushed = 0

    @classmethod
    def open(
        cls, folder: Path, model_version: str, dimension: int, *, fragment_dimension: int = 0, optimise_points: int = OPTIMISE_POINTS
    ) -> "EdgeIndex":
        """Opens the index of a model version, or creates it in a missing or empty folder. An index that has a place for fragments keeps it.

        Raises DATA_DIR_IN_USE when another process has it open, SCHEMA_MISMATCH when another model filled it, INDEX_UNAVAILABLE when it is damaged.
        """
        place = IndexFolder(folder)
        try:
            manifest = place.manifest()
            place.discard_shards_but(manifest.shard if manifest else None)
            if manifest is None:
                manifest = Manifest(model_version, dimension, _new_name(), fragment_dimension=fragment_dimension)
                shard = EdgeShard.create(place.shard(manifest.shard), dimension, fragment_dimension, optimise_points)
                place.write(manifest)
            else:
                _require_same_model(manifest, model_version, dimension, fragment_dimension, folder)
                if fragment_dimension and not manifest.fragment_dimension:
                    # Of before there were fragments: its points have none until they are written again.
                    EdgeShard.add_fragments(place.shard(manifest.shard), fragment_dimension)
                    manifest = replace(manifest, fragment_dimension=fragment_dimension)
                    place.write(manifest)
                shard = EdgeShard.load(place.shard(manifest.shard), dimension, manifest.fragment_dimension, optimise_points)
            index = cls(place, manifest, shard, optimise_points)
        except BaseException:
            place.close()
            raise
        index.optimise_if_needed()
        return index

    @property
    def model_version(self) -> str:
        return self._manifest.model_version

    def upsert(self, points: Sequence[Point]) -> None:
        """Inserts or replaces whole points; of points with one id the last stays."""
        converted = engine_points(points, self._manifest.dimension, self._manifest.fragment_dimension)
        with self._writing([point.id for point in converted]) as shard:
            shard.upsert(converted)
        self.optimise_if_needed()

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes those that exist."""
        with self._writing(ids) as shard:
            shard.delete(ids)

    def delete_library(self, library: str) -> None:
        """Removes every point of the library, in steps that searches can pass between."""
        while True:
            ids, _ = self._read(lambda shard: shard.page(library, None))
            if not ids:
                return
            self.delete(ids)

    def search(
        self, leg: Leg, vectors: Sequence[Vector], limit: int, libraries: Sequence[str] | None = None, filter: Filter | None = None
    ) -> list[list[ScoredPoint]]:
        """Cosines of the stored vectors, best first, ties by id."""
        return self.search_legs([Question(leg, vector) for vector in vectors], limit, libraries, filter)

    def search_legs(
        self,
        questions: Sequence[Question],
        limit: int,
        libraries: Sequence[str] | None = None,
        filter: Filter | None = None,
        only: Collection[uuid.UUID] | None = None,
    ) -> list[list[ScoredPoint]]:
        """Scores of the legs, best first, ties by id."""
        converted = engine_questions(questions, self._manifest.dimension)
        condition = engine_filter(filter, libraries, only)

        def ask(asked: Sequence[EngineQuestion], depth: int) -> list[list[ScoredPoint]]:
            return self._read(lambda shard: shard.search(asked, depth, condition))

        return answers(ask, converted, limit)

    def align(self, asked: Sequence[tuple[Parts, Collection[uuid.UUID]]]) -> list[dict[uuid.UUID, float]]:
        """How well the fragments of the points meet the phrases, of the points that have fragments."""
        if not self._manifest.fragment_dimension:
            return [{} for _ in asked]
        converted = [(engine_phrases(phrases, self._manifest.fragment_dimension), list(ids)) for phrases, ids in asked]
        return aligned(lambda questions: self._read(lambda shard: shard.align(questions)), converted)

    def select(
        self, libraries: Sequence[str] | None = None, filter: Filter | None = None, only: Collection[uuid.UUID] | None = None
    ) -> Iterator[uuid.UUID]:
        """Ids of the points that meet the filter, in order; points written while it runs may or may not be among them."""
        return self._scrolled(engine_filter(filter, libraries, only))

    def documents(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        """Documents of the points that exist."""
        return self._read(lambda shard: shard.documents(ids))

    def fetch_vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Mapping[Leg, Vector]]:
        """Stored vectors, of length 1, of the points that exist."""
        found = self._read(lambda shard: shard.vectors(ids))
        return {id: {Leg(name): np.array(values, dtype=np.float32) for name, values in vectors.items()} for id, vectors in found.items()}

    def count(self, library: str | None = None) -> int:
        """Points of one library or of all."""
        return self._read(lambda shard: shard.count(library))

    def ids(self, library: str | None = None) -> Iterator[uuid.UUID]:
        """Every point's id, in order; points written while it runs may or may not be among them."""
        return self.select(None if library is None else [library])

    def flush(self) -> None:
        """Returns when all that was written survives a power cut; callers that wait together share one write to disk."""
        wanted = self._written
        with self._flush:
            if self._flushed < wanted:
                written = self._written
                self._read(EdgeShard.sync)
                self._flushed = written

    def close(self) -> None:
        """Ends a running optimisation, flushes, and lets other processes use the folder."""
        self._closing.set()
        if self._optimiser is not None:
            self._optimiser.join()
        with self._write:
            try:
                self._shard.close()
            finally:
                self._folder.close()

    def optimise_if_needed(self) -> None:
        """Starts an optimisation in the background when enough has changed since the last; upserts call it."""
        if self._changes < self._optimise_points:
            return
        with self._write:
            count = self._shard.count()
            # Rebuilding costs as much as the index is large, so a large one waits for more changes.
            if (
                self.running_optimisation() is None
                and not self._closing.is_set()
                and count >= self._optimise_points
                and self._changes >= count // 5
            ):
                self._optimiser = threading.Thread(target=self._optimise, name="index-optimiser", daemon=True)
                self._optimiser.start()

    def running_optimisation(self) -> threading.Thread | None:
        """The thread that optimises at present, to wait for."""
        running = self._optimiser
        return running if running is not None and running.is_alive() else None

    def _optimise(self) -> None:
        name = _new_name()
        try:
            if not self._copy_to(name) or not optimise(self._folder.shard(name), self._closing):
                return
            sync_tree(self._folder.shard(name))
            self._take(name)
            log.info("vector index optimised", points=self._manifest.optimised_points)
        except (AtomasError, RuntimeError, OSError):
            # The shard in use knows nothing of it; searches stay exact until the next attempt.
            log.warning("vector index could not be optimised", exc_info=True)
        finally:
            with self._write:
                self._touched = None
            self._folder.discard_shards_but(self._manifest.shard)

    def _copy_to(self, name: str) -> bool:
        with self._write:
            # From here on counted anew: a failed attempt is repeated after as many changes again.
            self._changes = 0
            self._shard.flush()
            size, free = tree_bytes(self._shard.folder), disk_usage(self._folder.path).free
            # A copy, and its optimised form beside it while it is built; the engine dies of a full disk.
            if free < 3 * size:
                log.warning("vector index not optimised: disk nearly full", needed_bytes=3 * size, free_bytes=free)
                return False
            copytree(self._shard.folder, self._folder.shard(name))
            self._touched = set()
        return True

    def _take(self, name: str) -> None:
        """Brings the changes since the copy over and serves from it."""
        shard = EdgeShard.load(self._folder.shard(name), self._manifest.dimension, self._manifest.fragment_dimension, self._optimise_points)
        unused = shard
        try:
            manifest = replace(self._manifest, shard=name, optimised_points=shard.count())
            for _ in range(MOST_ROUNDS):
                with self._write:
                    ids = self._take_touched()
                _bring_over(ids, self._shard, shard)
                if len(ids) < LAST_CHANGES:
                    break
            with self._write:
                _bring_over(self._take_touched(), self._shard, shard)
                shard.flush()
                self._folder.write(manifest)
                unused, self._shard, self._manifest = self._shard, shard, manifest
        finally:
            unused.close()

    def _scrolled(self, filter: models.Filter | None) -> Iterator[uuid.UUID]:
        start: uuid.UUID | None = None
        while True:
            found, start = self._read(partial(EdgeShard.select, filter=filter, start=start))
            yield from found
            if start is None:
                return

    def _take_touched(self) -> list[uuid.UUID]:
        touched, self._touched = self._touched or set(), set()
        return list(touched)

    @contextmanager
    def _writing(self, ids: Sequence[uuid.UUID]) -> Iterator[EdgeShard]:
        with self._write:
            try:
                yield self._shard
            finally:
                # Whatever failed may have been written in part.
                self._changes += len(ids)
                self._written += 1
                if self._touched is not None:
                    self._touched.update(ids)

    def _read(self, ask: Callable[[EdgeShard], T]) -> T:
        while True:
            shard = self._shard
            try:
                return ask(shard)
            except ShardClosedError:
                if shard is self._shard:
                    raise


def _bring_over(ids: Sequence[uuid.UUID], source: EdgeShard, target: EdgeShard) -> None:
    for start in range(0, len(ids), LAST_CHANGES):
        wanted = ids[start : start + LAST_CHANGES]
        points = list(source.points(wanted))
        target.upsert(points)
        target.delete(list(set(wanted).difference(point.id for point in points)))


def _require_same_model(manifest: Manifest, model_version: str, dimension: int, fragment_dimension: int, folder: Path) -> None:
    other_fragments = fragment_dimension and manifest.fragment_dimension not in (0, fragment_dimension)
    if (manifest.model_version, manifest.dimension) != (model_version, dimension) or other_fragments:
        raise AtomasError(
            Reason.SCHEMA_MISMATCH,
            f"The vector index in {folder} holds vectors of {manifest.dimension} values made by model {manifest.model_version}, not of {dimension} values "
            f"made by model {model_version}. Give the new model a folder of its own, or start with the model that filled this one.",
        )


def _new_name() -> str:
    return uuid.uuid4().hex
