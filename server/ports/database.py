"""The port of the database: units of work over all that is kept in SQL."""

from contextlib import AbstractContextManager
from typing import Protocol

from server.ports.access import ApiKeys
from server.ports.compounds import Compounds, Names
from server.ports.generations import Generations
from server.ports.jobs import JobStarts
from server.ports.libraries import Libraries
from server.ports.models import ModelVersions
from server.ports.operations import Operations


class Transaction(Protocol):
    """One unit of work: commits when its `with` block ends, rolls back when it raises."""

    @property
    def libraries(self) -> Libraries: ...
    @property
    def compounds(self) -> Compounds: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def names(self) -> Names: ...
    @property
    def models(self) -> ModelVersions: ...
    @property
    def job_starts(self) -> JobStarts: ...
    @property
    def generations(self) -> Generations: ...
    @property
    def api_keys(self) -> ApiKeys: ...


class Database(Protocol):
    """Metadata and truth. Thread-safe; transient conflicts and outages surface as DATABASE_UNAVAILABLE, a full disk as DISK_FULL."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Read and write."""
        ...

    def reading(self) -> AbstractContextManager[Transaction]:
        """One consistent snapshot; writes are a programming error."""
        ...

    def check(self) -> None:
        """Raises SCHEMA_MISMATCH or DATABASE_UNAVAILABLE."""
        ...

    def close(self) -> None: ...
