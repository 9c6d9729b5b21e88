"""One folder of the in-process Qdrant engine, behind the service's own values."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import qdrant_edge as edge
from qdrant_client import models

from server.adapters.edge_folder import sync_tree
from server.adapters.qdrant_filters import in_libraries
from server.adapters.qdrant_points import DESCRIPTOR_PATHS, DOCUMENT, LIBRARY, NUMBERS, TERMS, EnginePoint, paths_to_index
from server.adapters.qdrant_questions import EngineQuestion
from server.domain.errors import AtomasError, Reason
from server.domain.search import VECTOR_LEGS, Leg
from server.ports import ScoredPoint

T = TypeVar("T")

# Every call of the engine holds Python's global lock, so calls are kept near 10 ms for other threads to get their turn.
POINTS_PER_CALL = 128
QUERIES_PER_CALL = 16
IDS_PER_CALL = 1_000
# Bounds the log, 50 MB, and with it the seconds that loading takes after a crash.
POINTS_PER_FLUSH = 10_000

# Scores are exact whatever the index: int8 only finds candidates, twice as many as wanted, which the stored vectors rank.
_SEARCH = edge.SearchParams(hnsw_ef=128, quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0))
# Fragments of the few points that are ordered again: all of them are compared.
_EXACT = edge.SearchParams(exact=True)
# Adds nothing where the lexical leg is known already.
_ADD_WORDS = edge.UpdateOperation.create_sparse_vector(Leg.LEXICAL.value, edge.Modifier.Idf)


class ShardClosedError(AtomasError):
    """The shard was closed, by the index or because a better one took its place."""

    def __init__(self) -> None:
        super().__init__(Reason.INDEX_UNAVAILABLE, "The vector index is closed.")


class EdgeShard:
    """The engine's calls, sliced so that none holds Python for long. Thread-safe; failures raise INDEX_UNAVAILABLE.

    Points and filters are checked before they get here: what the engine refuses it may have written half, and its log would bring it back.
    """

    def __init__(self, folder: Path, shard: "edge.EdgeShard") -> None:
        self.folder = folder
        self._shard = shard
        self._closed = False
        self._unflushed = 0
        self._paths = {path for path in shard.info().payload_schema if path.startswith(NUMBERS)}

    @classmethod
    def create(cls, folder: Path, dimension: int, fragment_dimension: int, optimise_points: int) -> "EdgeShard":
        """A new shard in a folder that does not exist yet, without a place for fragments where their dimension is 0."""
        with _failures(folder):
            folder.mkdir(parents=True)
            shard = edge.EdgeShard.create(str(folder), _config(dimension, fragment_dimension, optimise_points))
            shard.update(edge.UpdateOperation.create_field_index(LIBRARY, edge.KeywordIndexParams(is_tenant=True)))
            shard.update(edge.UpdateOperation.create_field_index(TERMS, edge.KeywordIndexParams()))
            for path in DESCRIPTOR_PATHS:
                shard.update(edge.UpdateOperation.create_field_index(path, edge.FloatIndexParams()))
            shard.update(_ADD_WORDS)
            shard.flush()
            return cls(folder, shard)

    @classmethod
    def load(cls, folder: Path, dimension: int, fragment_dimension: int, optimise_points: int) -> "EdgeShard":
        """The shard of an earlier process; unflushed writes come back from the engine's log."""
        with _failures(folder):
            shard = edge.EdgeShard.load(str(folder), _config(dimension, fragment_dimension, optimise_points))
            # A shard of before there was a lexical leg gets one; its points have no words until they are written again.
            shard.update(_ADD_WORDS)
            return cls(folder, shard)

    @staticmethod
    def add_fragments(folder: Path, dimension: int) -> None:
        """Gives a closed shard of before there were fragments a place for them; once more changes nothing."""
        with _failures(folder):
            shard = edge.EdgeShard.load(str(folder))
            kind = _fragment_params(dimension)
            shard.update(
                edge.UpdateOperation.create_dense_vector(
                    Leg.FRAGMENTS.value, dimension, kind.distance, kind.multivector_config, kind.datatype
                )
            )
            shard.flush()
            shard.close()

    def upsert(self, points: Sequence[EnginePoint]) -> None:
        """Inserts or replaces whole points, and gives numbers of new names their index."""
        for slice_ in _sliced(points, POINTS_PER_CALL):
            for path in paths_to_index(slice_, self._paths):
                self._update(edge.UpdateOperation.create_field_index(path, edge.FloatIndexParams()))
                self._paths.add(path)
            self._update(edge.UpdateOperation.upsert_points([edge.Point(p.id, _named_vectors(p), p.payload) for p in slice_]), len(slice_))

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes those that exist."""
        for slice_ in _sliced(ids, IDS_PER_CALL):
            self._update(edge.UpdateOperation.delete_points(list(slice_)), len(slice_))

    def search(self, questions: Sequence[EngineQuestion], limit: int, filter: models.Filter | None) -> list[list[ScoredPoint]]:
        """The best points for each unit vector or words; equal scores in any order."""
        condition = None if filter is None else edge_filter(filter)
        requests = [
            edge.QueryRequest(limit=limit, query=_query(question), filter=condition, with_payload=False, params=_SEARCH)
            for question in questions
        ]
        return self._answers(requests)

    def align(self, asked: Sequence[tuple[list[list[float]], list[uuid.UUID]]]) -> list[list[ScoredPoint]]:
        """For weighted phrases and some points: the points that have fragments, and how well these meet the phrases."""
        requests = [
            edge.QueryRequest(
                limit=len(ids),
                query=edge.Query.Nearest(phrases, Leg.FRAGMENTS.value),
                filter=edge.Filter(must=[edge.HasIdCondition(set(ids))]),
                with_payload=False,
                params=_EXACT,
            )
            for phrases, ids in asked
        ]
        return self._answers(requests)

    def _answers(self, requests: "Sequence[edge.QueryRequest]") -> list[list[ScoredPoint]]:
        found: list[list[ScoredPoint]] = []
        for slice_ in _sliced(requests, QUERIES_PER_CALL):
            with self._failures():
                answers = self._shard.query_batch(edge.QueryBatchRequest(list(slice_)))
            found.extend([ScoredPoint(hit.id, hit.score) for hit in answer] for answer in answers)
        return found

    def documents(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        """Documents of the points that exist."""
        found: dict[uuid.UUID, str] = {}
        for slice_ in _sliced(ids, IDS_PER_CALL):
            with self._failures():
                found.update((record.id, record.payload[DOCUMENT]) for record in self._shard.retrieve(list(slice_), [DOCUMENT], False))
        return found

    def vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, dict[str, list[float]]]:
        """Stored vectors of the points that exist."""
        found: dict[uuid.UUID, dict[str, list[float]]] = {}
        for slice_ in _sliced(ids, POINTS_PER_CALL):
            with self._failures():
                found.update((record.id, record.vector) for record in self._shard.retrieve(list(slice_), False, list(VECTOR_LEGS)))
        return found

    def points(self, ids: Sequence[uuid.UUID]) -> Iterator[EnginePoint]:
        """Whole points that exist, to be written elsewhere."""
        for slice_ in _sliced(ids, POINTS_PER_CALL):
            with self._failures():
                records = self._shard.retrieve(list(slice_), True, True)
            yield from (_engine_point(record) for record in records)

    def count(self, library: str | None = None) -> int:
        """Points of one library or of all."""
        with self._failures():
            return int(self._shard.count(edge.CountRequest(exact=True, filter=_within(library))))

    def page(self, library: str | None, start: uuid.UUID | None) -> tuple[list[uuid.UUID], uuid.UUID | None]:
        """Ids in order from `start` on, and where the next page starts."""
        return self.select(None if library is None else models.Filter(must=[in_libraries([library])]), start)

    def select(self, filter: models.Filter | None, start: uuid.UUID | None) -> tuple[list[uuid.UUID], uuid.UUID | None]:
        """As `page`, of the points that meet the filter."""
        condition = None if filter is None else edge_filter(filter)
        with self._failures():
            records, following = self._shard.scroll(
                edge.ScrollRequest(offset=start, limit=IDS_PER_CALL, filter=condition, with_payload=False, with_vector=False)
            )
        return [record.id for record in records], following

    def sync(self) -> None:
        """Returns when everything written survives a power cut, in the engine's log if not yet in its segments.

        The engine's own flush waits for some twenty files of every payload index and holds Python's global lock meanwhile, 0.7 s on a busy disk;
        these few files take a tenth of that and hold nothing.
        """
        while True:
            with self._failures():
                try:
                    return sync_tree(self.folder / "wal")
                except FileNotFoundError:
                    # The engine renamed a file of its log meanwhile.
                    if not self.folder.exists():
                        raise

    def flush(self) -> None:
        """Brings everything from the log into the segments, where loading does not have to repeat it."""
        with self._failures():
            self._shard.flush()
        self._unflushed = 0

    def close(self) -> None:
        """Flushes and lets go of the folder; a second call does nothing."""
        if not self._closed:
            self.flush()
            self._closed = True
            with _failures(self.folder):
                self._shard.close()

    def _update(self, operation: "edge.UpdateOperation", points: int = 0) -> None:
        with self._failures():
            self._shard.update(operation)
        self._unflushed += points
        if self._unflushed >= POINTS_PER_FLUSH:
            self.flush()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        if self._closed:
            raise ShardClosedError
        try:
            with _failures(self.folder):
                yield
        except AtomasError:
            if self._closed:
                raise ShardClosedError from None
            raise


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """The engine raises plain exceptions, and panics that are no Exception at all."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise AtomasError(Reason.INDEX_UNAVAILABLE, f"The vector index in {folder} failed: {error}") from error
        raise


def _config(dimension: int, fragment_dimension: int, optimise_points: int) -> "edge.EdgeConfig":
    kilobytes = max(optimise_points * dimension * 4 // 1024, 1)
    int8 = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Cached)
    vector = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine, quantization_config=int8)
    vectors = {leg.value: vector for leg in VECTOR_LEGS}
    if fragment_dimension:
        vectors[Leg.FRAGMENTS.value] = _fragment_params(fragment_dimension)
    return edge.EdgeConfig(
        vectors=vectors,
        # A tenth of the size that is optimised: filters that leave less are answered exactly.
        hnsw_config=edge.HnswIndexConfig(m=16, ef_construct=128, full_scan_threshold=max(min(kilobytes // 10, 10_000), 10)),
        # The engine optimises only when told; then whatever has grown to half the size counts.
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=max(kilobytes // 2, 1), default_segment_number=1),
    )


def _fragment_params(dimension: int) -> "edge.EdgeVectorParams":
    """Several vectors for a point, of a byte a number, on disk, without a graph: they only order again what was found."""
    return edge.EdgeVectorParams(
        size=dimension,
        # Of unit vectors; cosine would undo the weights of the phrases.
        distance=edge.Distance.Dot,
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        datatype=edge.VectorStorageDatatype.Turbo8,
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10),
        memory=edge.Memory.Cold,
    )


def _named_vectors(point: EnginePoint) -> "dict[str, list[float] | list[list[float]] | edge.SparseVector]":
    vectors: dict[str, list[float] | list[list[float]] | edge.SparseVector] = dict(point.vectors)
    if point.fragments:
        vectors[Leg.FRAGMENTS.value] = point.fragments
    if point.words[0]:
        vectors[Leg.LEXICAL.value] = edge.SparseVector(*point.words)
    return vectors


def _engine_point(record: "edge.Record") -> EnginePoint:
    vectors = dict(record.vector)
    words = vectors.pop(Leg.LEXICAL.value, None)
    fragments = vectors.pop(Leg.FRAGMENTS.value, [])
    return EnginePoint(record.id, vectors, record.payload, ([], []) if words is None else (words.indices, words.values), fragments)


def _query(question: EngineQuestion) -> "edge.Query":
    if isinstance(question.asked, tuple):
        return edge.Query.Nearest(edge.SparseVector(*question.asked), question.leg.value)
    return edge.Query.Nearest(question.asked, question.leg.value)


def edge_filter(filter: models.Filter) -> "edge.Filter":
    """The same filter in the engine's own classes."""
    return edge.Filter(must=_conditions(filter.must), should=_conditions(filter.should), must_not=_conditions(filter.must_not))


def _conditions(conditions: object) -> "list[edge.ConditionType] | None":
    if not isinstance(conditions, list):
        return None
    return [_condition(condition) for condition in conditions]


def _condition(condition: object) -> "edge.ConditionType":
    match condition:
        case models.Filter():
            return edge_filter(condition)
        case models.HasIdCondition(has_id=ids):
            return edge.HasIdCondition(set(ids))
        case models.FieldCondition():
            return _field(condition)
    raise TypeError(f"No filter of this service holds {condition!r}.")


def _field(condition: models.FieldCondition) -> "edge.FieldCondition":
    match condition:
        case models.FieldCondition(match=models.MatchValue(value=value)):
            return edge.FieldCondition(condition.key, match=edge.MatchValue(value))
        case models.FieldCondition(match=models.MatchAny(any=values)):
            return edge.FieldCondition(condition.key, match=edge.MatchAny(list(values)))
        case models.FieldCondition(range=models.Range(gt=gt, gte=gte, lt=lt, lte=lte)):
            return edge.FieldCondition(condition.key, range=edge.RangeFloat(gt=gt, gte=gte, lt=lt, lte=lte))
    raise TypeError(f"No filter of this service holds {condition!r}.")


def _within(library: str | None) -> "edge.Filter | None":
    return None if library is None else edge_filter(models.Filter(must=[in_libraries([library])]))


def _sliced(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
