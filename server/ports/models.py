"""The ports of models: which versions the database knows, and those that this process works with."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from server.domain.models import ModelVersion, StoredModel
from server.ports.encoder import Encoder
from server.ports.vector_index import VectorIndex


class ModelVersions(Protocol):
    """Model versions in SQL. At most one of them is SERVING: a transaction that breaks this raises DATABASE_UNAVAILABLE."""

    def all(self) -> list[StoredModel]:
        """Every model that was registered, in the order of their registration."""
        ...

    def get(self, version: str) -> StoredModel:
        """Raises MODEL_NOT_FOUND."""
        ...

    def lock(self) -> list[StoredModel]:
        """As `all`, and nobody else changes a model until the transaction ends."""
        ...

    def put(self, model: StoredModel) -> None:
        """Insert or replace; stamps the update time, and the creation time of a model without one."""
        ...

    def add_filled(self, version: str, fill: int, count: int) -> bool:
        """Note progress; False, and nothing is noted, when this fill is over."""
        ...

    def forget_entries(self, version: str, after: int, limit: int) -> int | None:
        """Forget what the index of a model holds, in steps: returns where the next step begins, None after the last."""
        ...


class Models(Protocol):
    """The models of this process: which one answers, and encoders and indexes of every live one. Thread-safe."""

    def serving(self) -> str:
        """The version that the present call works with."""
        ...

    def pinned(self) -> AbstractContextManager[None]:
        """Calls in the block work with one model, whatever is activated meanwhile."""
        ...

    def encoder(self, version: str) -> Encoder:
        """Raises MODEL_NOT_FOUND, ENCODER_UNAVAILABLE where its checkpoint cannot be read."""
        ...

    def index(self, version: str) -> VectorIndex:
        """Raises MODEL_NOT_FOUND, INDEX_UNAVAILABLE."""
        ...

    def read_checkpoint(self, path: Path) -> ModelVersion:
        """What a folder holds. Raises INVALID_ARGUMENT where it is no checkpoint."""
        ...

    def stored_indexes(self) -> list[str]:
        """Versions of every index that takes up room, whether the database knows it or not."""
        ...

    def discard_index(self, version: str) -> None:
        """Removes an index that nobody uses any more; one that is not there is no error."""
        ...

    def refresh(self) -> None:
        """Follows the database at once instead of soon."""
        ...
