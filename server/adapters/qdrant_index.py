"""The vector index on a Qdrant server, spoken to over gRPC."""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from qdrant_client import QdrantClient, models

from server.adapters.qdrant_calls import QdrantCalls, connect
from server.adapters.qdrant_filters import engine_filter, in_libraries
from server.adapters.qdrant_points import (
    DESCRIPTOR_PATHS,
    DOCUMENT,
    LIBRARY,
    NUMBERS,
    TERMS,
    EnginePoint,
    engine_phrases,
    engine_points,
    paths_to_index,
)
from server.adapters.qdrant_questions import EngineQuestion, aligned, answers, engine_questions
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Filter
from server.domain.search import VECTOR_LEGS, Leg
from server.ports import Parts, Point, Question, ScoredPoint, Vector

# About one megabyte a message.
POINTS_PER_CALL = 256
QUERIES_PER_CALL = 64
IDS_PER_CALL = 5_000
COLLECTION_PREFIX = "atomas_"


def collection_of(model_version: str) -> str:
    """The collection's name."""
    return COLLECTION_PREFIX + model_version


@dataclass(frozen=True)
class CollectionSettings:
    """How a collection is laid out when it is created; an existing one keeps its layout."""

    shards: int = 1
    replicas: int = 1
    # Replicas that must have a write before it is acknowledged.
    write_consistency: int = 1
    # Full vectors, payloads and payload indexes on disk; int8 copies of the vectors stay in memory and find the candidates.
    on_disk: bool = True
    # int8 copies of the vectors in memory; without them searches read the full vectors.
    quantised: bool = True
    # Candidates ranked by their full vectors, as a multiple of the hits wanted.
    oversampling: float = 2.0
    hnsw_ef: int = 128


class QdrantIndex:
    """VectorIndex on a server; the collection is named after the model version. Vectors are kept at length 1.

    Every call may be repeated without harm, so calls that find no server are repeated for a few seconds before they raise INDEX_UNAVAILABLE.
    """

    def __init__(
        self,
        url: str,
        model_version: str,
        dimension: int,
        *,
        fragment_dimension: int = 0,
        api_key: str | None = None,
        timeout_seconds: int = 10,
        attempts: int = 5,
        settings: CollectionSettings | None = None,
        client: QdrantClient | None = None,
    ) -> None:
        """Opens the model version's collection or creates it. `url` is `http(s)://HOST[:6333]`, or `grpc(s)://HOST:PORT` for another port of gRPC.

        Raises INDEX_UNAVAILABLE, and SCHEMA_MISMATCH when the collection was not made for this model version. `client` replaces the connection.
        """
        self._client = client or connect(url, api_key, timeout_seconds)
        self._model_version = model_version
        self._dimension = dimension
        self._fragment_dimension = fragment_dimension
        self._settings = settings or CollectionSettings()
        self._collection = collection_of(model_version)
        self._call = QdrantCalls(url, attempts).call
        self._paths: set[str] = set()
        self._search = models.SearchParams(
            hnsw_ef=self._settings.hnsw_ef,
            quantization=models.QuantizationSearchParams(rescore=True, oversampling=self._settings.oversampling)
            if self._settings.quantised
            else None,
        )
        self._open()

    @property
    def model_version(self) -> str:
        return self._model_version

    def upsert(self, points: Sequence[Point]) -> None:
        """Inserts or replaces whole points; of points with one id the last stays."""
        converted = engine_points(points, self._dimension, self._fragment_dimension)
        for path in paths_to_index(converted, self._paths):
            self._index_number(path)
        for start in range(0, len(converted), POINTS_PER_CALL):
            structs = [
                # Checked already; pydantic would look at every number again.
                models.PointStruct.model_construct(id=str(point.id), vector=_named_vectors(point), payload=point.payload)
                for point in converted[start : start + POINTS_PER_CALL]
            ]
            self._call(self._client.upsert, self._collection, structs, wait=True)

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes those that exist."""
        for start in range(0, len(ids), IDS_PER_CALL):
            names = models.PointIdsList(points=_names(ids[start : start + IDS_PER_CALL]))
            self._call(self._client.delete, self._collection, names, wait=True)

    def delete_library(self, library: str) -> None:
        """Removes every point of the library."""
        self._call(self._client.delete, self._collection, models.Filter(must=[in_libraries([library])]), wait=True)

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
        converted = engine_questions(questions, self._dimension)
        condition = engine_filter(filter, libraries, only)

        def ask(asked: Sequence[EngineQuestion], depth: int) -> list[list[ScoredPoint]]:
            requests = [
                models.QueryRequest(
                    query=_query(question), using=question.leg.value, filter=condition, limit=depth, with_payload=False, params=self._search
                )
                for question in asked
            ]
            return self._query_all(requests)

        return answers(ask, converted, limit)

    def align(self, asked: Sequence[tuple[Parts, Collection[uuid.UUID]]]) -> list[dict[uuid.UUID, float]]:
        """How well the fragments of the points meet the phrases, of the points that have fragments."""
        if not self._fragment_dimension:
            return [{} for _ in asked]
        converted = [(engine_phrases(phrases, self._fragment_dimension), list(ids)) for phrases, ids in asked]

        def ask(questions: Sequence[tuple[list[list[float]], list[uuid.UUID]]]) -> list[list[ScoredPoint]]:
            requests = [
                models.QueryRequest(
                    query=phrases,
                    using=Leg.FRAGMENTS.value,
                    filter=models.Filter(must=[models.HasIdCondition(has_id=_names(ids))]),
                    limit=len(ids),
                    with_payload=False,
                    params=models.SearchParams(exact=True),
                )
                for phrases, ids in questions
            ]
            return self._query_all(requests)

        return aligned(ask, converted)

    def select(
        self, libraries: Sequence[str] | None = None, filter: Filter | None = None, only: Collection[uuid.UUID] | None = None
    ) -> Iterator[uuid.UUID]:
        """Ids of the points that meet the filter, in order; points written while it runs may or may not be among them."""
        return self._scrolled(engine_filter(filter, libraries, only))

    def documents(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        """Documents of the points that exist."""
        found: dict[uuid.UUID, str] = {}
        for start in range(0, len(ids), POINTS_PER_CALL):
            names = _names(ids[start : start + POINTS_PER_CALL])
            for record in self._call(self._client.retrieve, self._collection, names, with_payload=[DOCUMENT]):
                found[uuid.UUID(str(record.id))] = (record.payload or {})[DOCUMENT]
        return found

    def fetch_vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Mapping[Leg, Vector]]:
        """Stored vectors, of length 1, of the points that exist."""
        found: dict[uuid.UUID, Mapping[Leg, Vector]] = {}
        for start in range(0, len(ids), POINTS_PER_CALL):
            names = _names(ids[start : start + POINTS_PER_CALL])
            for record in self._call(self._client.retrieve, self._collection, names, with_payload=False, with_vectors=list(VECTOR_LEGS)):
                vectors = record.vector if isinstance(record.vector, dict) else {}
                found[uuid.UUID(str(record.id))] = {Leg(name): np.array(vector, dtype=np.float32) for name, vector in vectors.items()}
        return found

    def count(self, library: str | None = None) -> int:
        """Points of one library or of all."""
        return self._call(self._client.count, self._collection, _within(library), exact=True).count

    def ids(self, library: str | None = None) -> Iterator[uuid.UUID]:
        """Every point's id, in order; points written while it runs may or may not be among them."""
        return self.select(None if library is None else [library])

    def _scrolled(self, filter: models.Filter | None) -> Iterator[uuid.UUID]:
        start: models.ExtendedPointId | None = None
        while True:
            records, following = self._call(
                self._client.scroll, self._collection, filter, limit=IDS_PER_CALL, offset=start, with_payload=False
            )
            yield from (uuid.UUID(str(record.id)) for record in records)
            if following is None:
                return
            start = str(following)

    def flush(self) -> None:
        """Does nothing: a write is acknowledged when the server's log and enough replicas have it, and no call asks for more.

        What one server loses in a power cut within its flush interval (5 s by default) is found by comparing with the database.
        """

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def drop(self) -> None:
        """Removes the collection and everything in it; the index is of no further use."""
        self._call(self._client.delete_collection, self._collection)

    def _open(self) -> None:
        if not self._exists():
            try:
                self._create()
            except AtomasError:
                # Another process may have been faster.
                if not self._exists():
                    raise
        info = self._call(self._client.get_collection, self._collection)
        made_for = info.config.metadata or {}
        if (made_for.get("model_version"), made_for.get("dimension")) != (self._model_version, self._dimension):
            raise AtomasError(
                Reason.SCHEMA_MISMATCH,
                f"The collection {self._collection} was made for model {made_for.get('model_version')} with vectors of {made_for.get('dimension')} values, "
                f"not for model {self._model_version} with {self._dimension}. Delete the collection or use another server.",
            )
        if Leg.LEXICAL.value not in (info.config.params.sparse_vectors or {}):
            # A collection of before there was a lexical leg; its points have no words until they are written again.
            words = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))
            self._call(self._client.create_vector_name, self._collection, Leg.LEXICAL.value, words, wait=True)
        self._find_fragments(info.config.params.vectors)
        known = set(info.payload_schema)
        on_disk = self._settings.on_disk
        if LIBRARY not in known:
            # A tenant's points lie together on disk, so a search within one library reads little else.
            self._index(LIBRARY, models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True, on_disk=on_disk))
        if TERMS not in known:
            self._index(TERMS, models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=on_disk))
        self._paths = {path for path in known if path.startswith(NUMBERS)}
        for path in DESCRIPTOR_PATHS:
            if path not in known:
                self._index_number(path)

    def _find_fragments(self, vectors: object) -> None:
        """Keeps to the place for fragments that the collection has; one of before there were any gets it, its points when they are written again."""
        params = vectors.get(Leg.FRAGMENTS.value) if isinstance(vectors, dict) else None
        if isinstance(params, models.VectorParams):
            if self._fragment_dimension not in (0, params.size):
                raise AtomasError(
                    Reason.SCHEMA_MISMATCH,
                    f"The collection {self._collection} holds fragments of {params.size} values, not of {self._fragment_dimension}. "
                    "Delete the collection or use another server.",
                )
            self._fragment_dimension = params.size
        elif self._fragment_dimension:
            wanted = fragment_params(self._fragment_dimension, self._settings.on_disk)
            dense = models.DenseVectorConfig(
                size=wanted.size, distance=wanted.distance, multivector_config=wanted.multivector_config, datatype=wanted.datatype
            )
            name = Leg.FRAGMENTS.value
            self._call(self._client.create_vector_name, self._collection, name, models.DenseVectorNameConfig(dense=dense), wait=True)
            # What else there is to say of a vector can be said of an existing one only.
            layout = models.VectorParamsDiff(
                hnsw_config=wanted.hnsw_config, on_disk=wanted.on_disk, quantization_config=models.Disabled.DISABLED
            )
            self._call(self._client.update_collection, self._collection, vectors_config={name: layout})

    def _exists(self) -> bool:
        return self._call(self._client.collection_exists, self._collection)

    def _create(self) -> None:
        settings = self._settings
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        vector = models.VectorParams(
            size=self._dimension,
            distance=models.Distance.COSINE,
            on_disk=settings.on_disk,
            quantization_config=models.ScalarQuantization(scalar=int8) if settings.quantised else None,
        )
        vectors = {leg.value: vector for leg in VECTOR_LEGS}
        if self._fragment_dimension:
            vectors[Leg.FRAGMENTS.value] = fragment_params(self._fragment_dimension, settings.on_disk)
        self._call(
            self._client.create_collection,
            self._collection,
            vectors_config=vectors,
            sparse_vectors_config={
                Leg.LEXICAL.value: models.SparseVectorParams(
                    modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=settings.on_disk)
                )
            },
            shard_number=settings.shards,
            replication_factor=settings.replicas,
            write_consistency_factor=settings.write_consistency,
            on_disk_payload=settings.on_disk,
            hnsw_config=models.HnswConfigDiff(m=16, ef_construct=128),
            metadata={"model_version": self._model_version, "dimension": self._dimension},
        )

    def _index_number(self, path: str) -> None:
        self._index(path, models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=self._settings.on_disk))
        self._paths.add(path)

    def _index(self, path: str, schema: models.PayloadSchemaParams) -> None:
        self._call(self._client.create_payload_index, self._collection, path, schema, wait=True)

    def _query_all(self, requests: Sequence[models.QueryRequest]) -> list[list[ScoredPoint]]:
        starts = range(0, len(requests), QUERIES_PER_CALL)
        return [hits for start in starts for hits in self._query(requests[start : start + QUERIES_PER_CALL])]

    def _query(self, requests: Sequence[models.QueryRequest]) -> list[list[ScoredPoint]]:
        answers = self._call(self._client.query_batch_points, self._collection, requests)
        return [[ScoredPoint(uuid.UUID(str(hit.id)), hit.score) for hit in answer.points] for answer in answers]


def fragment_params(dimension: int, on_disk: bool) -> models.VectorParams:
    """Several vectors for a point, of a byte a number, without a graph: they only order again what was found."""
    return models.VectorParams(
        size=dimension,
        # Of unit vectors; cosine would undo the weights of the phrases.
        distance=models.Distance.DOT,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
        datatype=models.Datatype.TURBO8,
        hnsw_config=models.HnswConfigDiff(m=0),
        on_disk=on_disk,
    )


def _named_vectors(point: EnginePoint) -> dict[str, models.Vector]:
    vectors: dict[str, models.Vector] = dict(point.vectors)
    if point.fragments:
        vectors[Leg.FRAGMENTS.value] = point.fragments
    if point.words[0]:
        vectors[Leg.LEXICAL.value] = models.SparseVector(indices=point.words[0], values=point.words[1])
    return vectors


def _query(question: EngineQuestion) -> list[float] | models.SparseVector:
    if isinstance(question.asked, tuple):
        return models.SparseVector(indices=question.asked[0], values=question.asked[1])
    return question.asked


def _names(ids: Sequence[uuid.UUID]) -> list[models.ExtendedPointId]:
    return [str(id) for id in ids]


def _within(library: str | None) -> models.Filter | None:
    return None if library is None else models.Filter(must=[in_libraries([library])])
