"""A loopback server that speaks Qdrant's gRPC protocol over the in-process engine, for development and tests without a Qdrant server.

It is no Qdrant: one process, no replication, only the calls that the vector index makes.

python -m deploy.index_server --folder var/index --port 6334
"""

import argparse
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import qdrant_edge as edge
from qdrant_client import grpc as wire
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from deploy.index_vectors import asked_vector, said_vectors, stored_vectors, vector_params
from server.adapters.edge_shard import POINTS_PER_FLUSH, edge_filter


@dataclass
class Collection:
    """An engine's folder and what the collection was created with."""

    shard: "edge.EdgeShard"
    created: wire.CreateCollection
    # Points that are in the engine's log only: what a restart would have to write again.
    unflushed: int = 0

    def upsert(self, points: "list[edge.Point]") -> None:
        """Inserts or replaces."""
        self.shard.update(edge.UpdateOperation.upsert_points(points))
        self.unflushed += len(points)
        if self.unflushed >= POINTS_PER_FLUSH:
            self.unflushed = 0
            self.shard.flush()


class WireServer:
    """Collections in a folder, and what tests look at: the calls that came, the calls that are to fail."""

    def __init__(self, folder: Path) -> None:
        """Opens the collections that the folder holds."""
        self._folder = folder
        self._collections: dict[str, Collection] = {}
        for stored in folder.glob("*/created"):
            created = wire.CreateCollection.FromString(stored.read_bytes())
            self._collections[created.collection_name] = Collection(edge.EdgeShard.load(str(stored.parent / "shard")), created)
        self._creating = threading.Lock()
        self._failures: list[grpc.StatusCode] = []
        self._going = threading.Event()
        self._going.set()
        self.calls: list[str] = []
        self.tenants: list[str] = []

    def fail_next(self, *statuses: grpc.StatusCode) -> None:
        """The next calls end with these."""
        self._failures.extend(statuses)

    def hang(self) -> None:
        """Calls get no answer until `go_on`."""
        self._going.clear()

    def go_on(self) -> None:
        """Calls are answered again."""
        self._going.set()

    def indexed(self, name: str) -> list[str]:
        """Paths of the collection's payload indexes."""
        return list(self._collections[name].shard.info().payload_schema)

    def drop(self, name: str) -> bool:
        """Removes the collection; False when there is none."""
        found = self._collections.pop(name, None)
        if found is not None:
            found.shard.close()
            shutil.rmtree(self._place(name))
        return found is not None

    def close(self) -> None:
        """Writes everything to disk and lets go of the folder."""
        for collection in self._collections.values():
            collection.shard.flush()
            collection.shard.close()

    def created(self, name: str) -> wire.CreateCollection:
        """What the collection was asked to be."""
        return self._collections[name].created

    def names(self) -> list[str]:
        """Every collection's name."""
        return list(self._collections)

    def snapshot(self, name: str) -> Path:
        """A copy of the collection as it is now."""
        copy = self._folder / "snapshots" / quote(name, safe="") / f"{name}-{len(self.snapshots(name)) + 1}.snapshot"
        shard = self._collections[name].shard
        shard.flush()
        shutil.copytree(self._place(name) / "shard", copy)
        return copy

    def snapshots(self, name: str) -> list[Path]:
        """The copies of a collection, oldest first."""
        return sorted((self._folder / "snapshots" / quote(name, safe="")).glob("*"))

    def exists(self, name: str) -> bool:
        """Whether there is such a collection."""
        return name in self._collections

    def create(self, request: Any, context: grpc.ServicerContext) -> None:
        """A collection with a shard of its own."""
        with self._creating:
            self._create(request, context)

    def _create(self, request: Any, context: grpc.ServicerContext) -> None:
        name = request.collection_name
        if name in self._collections:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        assert isinstance(vectors, dict)
        config = edge.EdgeConfig(
            vectors={key: vector_params(params) for key, params in vectors.items()},
            sparse_vectors={key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for key in request.sparse_vectors_config.map},
        )
        folder = self._place(name)
        # What a server left that died while it made the collection.
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "shard").mkdir(parents=True)
        self._collections[name] = Collection(edge.EdgeShard.create(str(folder / "shard"), config), request)
        (folder / "created").write_bytes(request.SerializeToString())

    def _place(self, name: str) -> Path:
        return self._folder / quote(name, safe="")

    def find(self, call: str, request: Any, context: grpc.ServicerContext) -> Collection:
        """The collection a call is for, unless the call is to fail."""
        self.arrive(call, context)
        found = self._collections.get(request.collection_name)
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{request.collection_name}` doesn't exist!")
        assert found is not None
        return found

    def arrive(self, call: str, context: grpc.ServicerContext) -> None:
        """Notes a call, or makes it fail."""
        self.calls.append(call)
        self._going.wait()
        if self._failures:
            context.abort(self._failures.pop(0), "refused on purpose")


class _Collections(wire.CollectionsServicer):
    def __init__(self, server: WireServer) -> None:
        self._server = server

    def CollectionExists(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.arrive("CollectionExists", context)
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=self._server.exists(request.collection_name)))

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.arrive("List", context)
        return wire.ListCollectionsResponse(collections=[wire.CollectionDescription(name=name) for name in self._server.names()])

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.arrive("Create", context)
        self._server.create(request, context)
        return wire.CollectionOperationResponse(result=True)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.arrive("DeleteCollection", context)
        return wire.CollectionOperationResponse(result=self._server.drop(request.collection_name))

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        # How vectors are laid out is the engine's own affair here.
        self._server.find("UpdateCollection", request, context)
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        collection = self._server.find("GetCollection", request, context)
        created, info = collection.created, collection.shard.info()
        config = wire.CollectionConfig(
            params=wire.CollectionParams(
                shard_number=created.shard_number,
                vectors_config=created.vectors_config,
                sparse_vectors_config=created.sparse_vectors_config,
                replication_factor=created.replication_factor,
                on_disk_payload=created.on_disk_payload,
            ),
            hnsw_config=wire.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
            optimizer_config=wire.OptimizersConfigDiff(deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0),
            wal_config=wire.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            quantization_config=created.quantization_config if created.HasField("quantization_config") else None,
            metadata=created.metadata,
        )
        schema = {
            key: wire.PayloadSchemaInfo(
                data_type=wire.PayloadSchemaType.Float
                if index.data_type == edge.PayloadSchemaType.Float
                else wire.PayloadSchemaType.Keyword,
                points=index.points,
            )
            for key, index in info.payload_schema.items()
        }
        return wire.GetCollectionInfoResponse(
            result=wire.CollectionInfo(
                status=wire.CollectionStatus.Green,
                optimizer_status=wire.OptimizerStatus(ok=True),
                segments_count=info.segments_count,
                config=config,
                payload_schema=schema,
                points_count=info.points_count,
            )
        )


class _Snapshots(wire.SnapshotsServicer):
    def __init__(self, server: WireServer) -> None:
        self._server = server

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.find("CreateSnapshot", request, context)
        return wire.CreateSnapshotResponse(snapshot_description=_described(self._server.snapshot(request.collection_name)))

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._server.find("ListSnapshots", request, context)
        found = self._server.snapshots(request.collection_name)
        return wire.ListSnapshotsResponse(snapshot_descriptions=[_described(folder) for folder in found])


def _described(folder: Path) -> wire.SnapshotDescription:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    described = wire.SnapshotDescription(name=folder.name, size=size)
    described.creation_time.FromSeconds(int(folder.stat().st_mtime))
    return described


class _Points(wire.PointsServicer):
    def __init__(self, server: WireServer) -> None:
        self._server = server

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("CreateFieldIndex", request, context).shard
        keyword = request.field_type == wire.FieldType.FieldTypeKeyword
        tenant = request.field_index_params.keyword_index_params.is_tenant
        if tenant:
            self._server.tenants.append(request.field_name)
        schema = edge.KeywordIndexParams(is_tenant=tenant) if keyword else edge.FloatIndexParams()
        return _updated(shard, edge.UpdateOperation.create_field_index(request.field_name, schema))

    def CreateVectorName(self, request: Any, context: grpc.ServicerContext) -> Any:
        collection = self._server.find("CreateVectorName", request, context)
        if not request.HasField("dense_config"):
            return _updated(collection.shard, edge.UpdateOperation.create_sparse_vector(request.vector_name, edge.Modifier.Idf))
        asked = request.dense_config
        config = wire.VectorParams(
            size=asked.size, distance=asked.distance, multivector_config=asked.multivector_config, datatype=asked.datatype
        )
        collection.created.vectors_config.params_map.map[request.vector_name].CopyFrom(config)
        params = vector_params(GrpcToRest.convert_vector_params(config))
        return _updated(
            collection.shard,
            edge.UpdateOperation.create_dense_vector(
                request.vector_name, params.size, params.distance, params.multivector_config, params.datatype
            ),
        )

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> Any:
        collection = self._server.find("Upsert", request, context)
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        collection.upsert([edge.Point(p.id, stored_vectors(p.vector), p.payload) for p in points])
        return _completed()

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("Delete", request, context).shard
        selector = GrpcToRest.convert_points_selector(request.points)
        if isinstance(selector, models.FilterSelector):
            return _updated(shard, edge.UpdateOperation.delete_points_by_filter(edge_filter(selector.filter)))
        return _updated(shard, edge.UpdateOperation.delete_points(selector.points))

    def QueryBatch(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("QueryBatch", request, context).shard
        queries = [_query(GrpcToRest.convert_query_points(points)) for points in request.query_points]
        answers = shard.query_batch(edge.QueryBatchRequest(queries))
        return wire.QueryBatchResponse(
            result=[wire.BatchResult(result=[RestToGrpc.convert_scored_point(_hit(hit)) for hit in answer]) for answer in answers]
        )

    def Scroll(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("Scroll", request, context).shard
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        scroll = edge.ScrollRequest(offset=offset, limit=request.limit, filter=_filter(request), with_payload=False)
        records, following = shard.scroll(scroll)
        return wire.ScrollResponse(
            result=[wire.RetrievedPoint(id=wire.PointId(uuid=str(record.id))) for record in records],
            next_page_offset=None if following is None else wire.PointId(uuid=str(following)),
        )

    def Count(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("Count", request, context).shard
        return wire.CountResponse(result=wire.CountResult(count=shard.count(edge.CountRequest(exact=True, filter=_filter(request)))))

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        shard = self._server.find("GetPoints", request, context).shard
        payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
        vectors = GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        records = shard.retrieve([GrpcToRest.convert_point_id(id) for id in request.ids], payload, vectors)
        return wire.GetResponse(
            result=[
                RestToGrpc.convert_record(
                    models.Record(id=str(record.id), vector=said_vectors(record.vector), payload=record.payload or {})
                )
                for record in records
            ]
        )


def _updated(shard: "edge.EdgeShard", operation: "edge.UpdateOperation") -> Any:
    shard.update(operation)
    return _completed()


def _completed() -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed))


def _filter(request: Any) -> "edge.Filter | None":
    return edge_filter(GrpcToRest.convert_filter(request.filter)) if request.HasField("filter") else None


def _query(request: models.QueryRequest) -> "edge.QueryRequest":
    assert isinstance(request.query, models.NearestQuery)
    return edge.QueryRequest(
        limit=request.limit,
        query=edge.Query.Nearest(asked_vector(request.query.nearest), request.using),
        filter=None if request.filter is None else edge_filter(request.filter),
        with_payload=request.with_payload,
    )


def _hit(hit: Any) -> models.ScoredPoint:
    return models.ScoredPoint(id=str(hit.id), version=hit.version, score=hit.score, payload=hit.payload)


@contextmanager
def wire_server(folder: Path | None = None, port: int = 0) -> Iterator[tuple[str, WireServer]]:
    """A running server's URL and the server itself; without a folder it is gone with everything it held when the block ends."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        state = WireServer(folder or Path(temporary))
        # As a real server: it takes messages of any size.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        server = grpc.server(ThreadPoolExecutor(4), options=options)
        wire.add_PointsServicer_to_server(_Points(state), server)  # type: ignore[no-untyped-call] # generated code
        wire.add_CollectionsServicer_to_server(_Collections(state), server)  # type: ignore[no-untyped-call] # generated code
        wire.add_SnapshotsServicer_to_server(_Snapshots(state), server)  # type: ignore[no-untyped-call] # generated code
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{bound}", state
        finally:
            server.stop(None).wait()
            state.close()


def main() -> None:
    """Serves a folder until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=6334)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with wire_server(options.folder, options.port) as (url, _):
            print(f"Index server on {url}.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
