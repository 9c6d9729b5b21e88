"""Every vector index there is, opened empty for a test."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from uuid import uuid4

from qdrant_client import QdrantClient

from deploy.index_server import wire_server
from server.adapters.edge_index import EdgeIndex
from server.adapters.qdrant_index import QdrantIndex
from server.ports import VectorIndex
from tests.fakes_index import FakeIndex
from tests.memory import MEMORY

Opened: TypeAlias = AbstractContextManager[VectorIndex]


# Length of the vectors of fragments in every index.
FRAGMENT_DIMENSION = 8


@contextmanager
def fake(dimension: int) -> Iterator[VectorIndex]:
    """Exact search with numpy."""
    yield FakeIndex("m1", dimension, FRAGMENT_DIMENSION)


@contextmanager
def edge(dimension: int) -> Iterator[VectorIndex]:
    """The engine in this process."""
    with (
        TemporaryDirectory(dir=MEMORY) as folder,
        closing(EdgeIndex.open(Path(folder), "m1", dimension, fragment_dimension=FRAGMENT_DIMENSION)) as index,
    ):
        yield index


@contextmanager
def wire(dimension: int) -> Iterator[VectorIndex]:
    """The client over loopback gRPC to the engine."""
    with wire_server() as (url, _), closing(QdrantIndex(url, "m1", dimension, fragment_dimension=FRAGMENT_DIMENSION)) as index:
        yield index


@contextmanager
def local(dimension: int) -> Iterator[VectorIndex]:
    """The client's own Python emulation of a server."""
    with warnings.catch_warnings():
        # It has no payload indexes and says so.
        warnings.simplefilter("ignore", UserWarning)
        with closing(QdrantIndex("", "m1", dimension, fragment_dimension=FRAGMENT_DIMENSION, client=OneAtATime(":memory:"))) as index:
            yield index


class OneAtATime(QdrantClient):
    """The local mode changes its arrays under the feet of other threads."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._turn = threading.RLock()
        for name in ("upsert", "delete", "query_batch_points", "retrieve", "scroll", "count", "create_payload_index"):
            setattr(self, name, self._alone(getattr(self, name)))

    def _alone(self, call: Callable[..., object]) -> Callable[..., object]:
        def alone(*args: object, **kwargs: object) -> object:
            with self._turn:
                return call(*args, **kwargs)

        return alone


@contextmanager
def server(dimension: int) -> Iterator[VectorIndex]:
    """A real server at QDRANT_URL."""
    url, version = os.environ["QDRANT_URL"], f"test-{uuid4().hex}"
    with closing(QdrantIndex(url, version, dimension, fragment_dimension=FRAGMENT_DIMENSION)) as index:
        try:
            yield index
        finally:
            index.drop()


INDEXES: dict[str, Callable[[int], Opened]] = {"fake": fake, "edge": edge, "wire": wire, "local": local}
if os.environ.get("QDRANT_URL"):
    INDEXES["server"] = server
