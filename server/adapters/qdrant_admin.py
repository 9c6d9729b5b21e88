"""Collections of a Qdrant server as a whole: which there are, their removal, their snapshots."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from qdrant_client import QdrantClient, models

from server.adapters.qdrant_calls import QdrantCalls, connect
from server.adapters.qdrant_index import COLLECTION_PREFIX, collection_of
from server.domain.errors import AtomasError, Reason
from server.settings import Settings

# A snapshot copies every segment to the server's disk.
SNAPSHOT_SECONDS = 3_600


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a collection, as the server keeps it."""

    model_version: str
    name: str
    bytes: int
    create_time: datetime | None


class QdrantAdmin:
    """Opens a connection for each call: these calls are rare."""

    def __init__(self, url: str, api_key: str | None = None, timeout_seconds: int = 10) -> None:
        self._url, self._api_key, self._timeout_seconds = url, api_key, timeout_seconds
        self._call = QdrantCalls(url).call

    @classmethod
    def of(cls, settings: Settings) -> "QdrantAdmin":
        """The server that the settings name."""
        return cls(settings.qdrant_url, settings.qdrant_api_key or None, settings.qdrant_timeout_seconds)

    def versions(self) -> list[str]:
        """Model versions that have a collection."""
        with self._client() as client:
            names = [found.name for found in self._call(client.get_collections).collections]
        return sorted(name.removeprefix(COLLECTION_PREFIX) for name in names if name.startswith(COLLECTION_PREFIX))

    def drop(self, version: str) -> None:
        """Removes a model version's collection; one that is not there is no error."""
        with self._client() as client:
            self._call(client.delete_collection, collection_of(version))

    def create_snapshots(self) -> list[Snapshot]:
        """A snapshot of every model's collection, on the server's disk; returns when they are complete."""
        with self._client(SNAPSHOT_SECONDS) as client:
            made = []
            for version in self.versions():
                described = self._call(client.create_snapshot, collection_of(version), wait=True)
                if described is None:
                    raise AtomasError(Reason.INDEX_UNAVAILABLE, f"The Qdrant server made no snapshot of {collection_of(version)}.")
                made.append(_snapshot(version, described))
        return made

    def snapshots(self) -> list[Snapshot]:
        """Every snapshot of every model's collection."""
        with self._client() as client:
            return [
                _snapshot(version, described)
                for version in self.versions()
                for described in self._call(client.list_snapshots, collection_of(version))
            ]

    def restore(self, version: str, location: str) -> None:
        """Puts a collection back as a snapshot has it; `location` is a URL that the Qdrant server reads, `file:///...` on its own disk.

        Qdrant offers this over HTTP only, on the port of the settings' URL or 6333.
        """
        with self._client(SNAPSHOT_SECONDS) as client:
            if not self._call(
                client.recover_snapshot, collection_of(version), location, priority=models.SnapshotPriority.SNAPSHOT, wait=True
            ):
                raise AtomasError(Reason.INDEX_UNAVAILABLE, f"The Qdrant server did not restore {collection_of(version)} from {location}.")

    @contextmanager
    def _client(self, timeout_seconds: int | None = None) -> Iterator[QdrantClient]:
        client = connect(self._url, self._api_key, timeout_seconds or self._timeout_seconds)
        try:
            yield client
        finally:
            client.close()


def _snapshot(version: str, described: models.SnapshotDescription) -> Snapshot:
    created = datetime.fromisoformat(described.creation_time) if described.creation_time else None
    return Snapshot(version, described.name, described.size, created.replace(tzinfo=created.tzinfo or UTC) if created else None)
