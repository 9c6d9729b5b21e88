"""The port of operations in SQL, with their chunks and rejections."""

from collections.abc import Sequence
from typing import Literal, Protocol

from server.domain.operations import Backlog, Chunk, ImportRow, Operation, Rejection, State


class Operations(Protocol):
    """Operations, their accepted chunks, their rejections.

    Locks are taken in one order, operation, compounds, library, or transactions of a server database may block each other.
    """

    def open(self, operation: Operation) -> Operation:
        """Insert, or return the stored operation that has the same library and request id. Raises LIBRARY_NOT_FOUND."""
        ...

    def get(self, operation_id: str) -> Operation:
        """With the counts of all its chunks. Raises OPERATION_NOT_FOUND."""
        ...

    def page(self, before: str, limit: int) -> list[Operation]:
        """Newest first; those opened before the operation with the id `before`, all when it is empty. Raises OPERATION_NOT_FOUND."""
        ...

    def accept(self, operation_id: str, rows: Sequence[ImportRow]) -> int:
        """Store rows as the next chunk; returns its number. The caller has checked the offset under `lock`.

        Raises IMPORT_PROTOCOL unless positions grow from 1 on through the whole import: rejections are listed by them.
        """
        ...

    def lock(self, operation_id: str) -> Operation:
        """As `get`, and nobody else changes the operation until the transaction ends."""
        ...

    def chunk(self, operation_id: str, number: int, for_update: bool = False) -> Chunk:
        """Raises OPERATION_NOT_FOUND."""
        ...

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
        """Verdicts of a chunk, with the InChIKeys of the compounds it changed. A chunk that has its verdicts is left as it is."""
        ...

    def mark_indexed(self, operation_id: str, number: int, shortened_texts: int) -> None:
        """Every changed compound of the chunk can be found; the raw rows are no longer needed and are dropped.

        Does nothing to a chunk that is indexed already or has no verdicts yet.
        """
        ...

    def set_state(self, operation_id: str, state: State, error: tuple[str, str] | None = None) -> None:
        """A final state also stamps the end time and drops the raw rows of chunks that will never be finished."""
        ...

    def unfinished_chunks(self, limit: int) -> list[tuple[str, int, Literal["ACCEPTED", "READ"]]]:
        """(operation, chunk, state) of chunks that still have work waiting, of operations that are not final, oldest first."""
        ...

    def backlog(self) -> tuple[Backlog, Backlog]:
        """Chunks without verdicts and chunks that wait for the index, of operations that are not final."""
        ...

    def all_indexed(self, operation_id: str) -> bool: ...

    def completable(self) -> list[str]:
        """Ids of operations in PROCESSING whose chunks are all indexed."""
        ...

    def idle(self, seconds: float) -> list[str]:
        """Ids of operations in RECEIVING of which nothing was heard for so long and whose accepted rows are all indexed."""
        ...

    def rejections(self, operation_id: str, after: int, limit: int) -> list[Rejection]:
        """By position, greater than `after`."""
        ...
