"""An import as a state machine without transport: what to send next, what an answer means, when to try again."""

import random
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from atomas import codec
from atomas.errors import AbortedError, AtomasError, CancelledError, DeadlineExceededError, ReaderError, UnavailableError
from atomas.readers import Source
from atomas.rows import row_from_fields
from atomas.types import ImportCounts, ImportProgress, Operation, Row
from atomas.v1.library_service_pb2 import ImportCompoundsRequest, ImportCompoundsResponse, ImportRow

# What rows may come as: a Row, a mapping with names as in JSON Lines, or a bare SMILES.
RowLike: TypeAlias = Row | Mapping[str, object] | str

CHUNK_ROWS = 500
CHUNK_BYTES = 1024 * 1024
# A longer row could not be answered back in a list of rejections.
MAX_ROW_BYTES = 8 * 1024 * 1024
# Chunks sent and not yet acknowledged; they are kept, to be sent again when the stream breaks.
WINDOW_CHUNKS = 8
# A stream on which nothing was acknowledged for so long is given up and opened anew.
STALL_SECONDS = 120.0
# Breaks are mended for so long without any progress; before the first answer the service is just not there.
PATIENCE_SECONDS = 120.0
FIRST_PATIENCE_SECONDS = 5.0
# A service that is going down cancels its streams; a conflict with another writer passes.
_PASSING = (UnavailableError, DeadlineExceededError, CancelledError, AbortedError)
_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class _Chunk:
    request: ImportCompoundsRequest
    # Rows of the import up to and with this chunk.
    end: int


def batches(rows: Iterable[RowLike]) -> Iterator[list[ImportRow]]:
    """Rows in batches of at most 500 rows and about 1 MiB. When `rows` raises, those before it come first, then its exception."""
    batcher = Batcher()
    try:
        for row in rows:
            if full := batcher.add(row):
                yield full
    except Exception:
        if rest := batcher.rest():
            yield rest
        raise
    if rest := batcher.rest():
        yield rest


class Batcher:
    """Gathers rows until a batch is full; counts positions for rows that have none."""

    def __init__(self) -> None:
        self._rows: list[ImportRow] = []
        self._bytes = 0
        self._position = 0

    def add(self, row: RowLike) -> list[ImportRow]:
        """The batch that this row made full, without the row itself where it no longer fits; else nothing."""
        self._position += 1
        message = codec.encode_row(_as_row(row), self._position)
        size = message.ByteSize()
        if size > MAX_ROW_BYTES:
            complaint = f"The row takes {size:,} bytes; the limit is {MAX_ROW_BYTES:,}."
            message = ImportRow(position=message.position, unreadable=complaint)
            size = message.ByteSize()
        full = self.rest() if self._rows and (len(self._rows) >= CHUNK_ROWS or self._bytes + size > CHUNK_BYTES) else []
        self._rows.append(message)
        self._bytes += size
        return full

    def rest(self) -> list[ImportRow]:
        """What was gathered and not yet given out."""
        rows, self._rows, self._bytes = self._rows, [], 0
        return rows


class ImportSession:
    """One import over however many streams it takes. Not thread-safe."""

    def __init__(self, parent: str, *, source: str, create_library: bool, request_id: str | None) -> None:
        self._start = ImportCompoundsRequest.Start(
            parent=parent, request_id=request_id or str(uuid.uuid4()), source=source, allow_missing=create_library
        )
        self._unacknowledged: deque[_Chunk] = deque()
        # Chunks of those above that went out on the present stream.
        self._sent = 0
        # What the present stream has seen: start sent, start answered, finish sent.
        self._opened = self._answered = self._finished = False
        # Whether the source has no more rows.
        self._ended = False
        # Breaks since the last progress, and when the first of them was.
        self._breaks = 0
        self._broken_since = 0.0
        self.rows = 0
        self.acknowledged_rows = 0
        self.operation = ""
        self.complete = False

    @property
    def wants_rows(self) -> bool:
        """Whether the next rows may be added now."""
        return not self._ended and len(self._unacknowledged) < WINDOW_CHUNKS

    def add(self, rows: list[ImportRow]) -> None:
        request = ImportCompoundsRequest(rows=ImportCompoundsRequest.Rows(offset=self.rows, rows=rows))
        self.rows += len(rows)
        self._unacknowledged.append(_Chunk(request, self.rows))
        self._drop_acknowledged()

    def end(self) -> None:
        """No more rows will be added."""
        self._ended = True

    def next_request(self) -> ImportCompoundsRequest | None:
        """What to send now on the present stream, if anything.

        The answer to `start` is waited for, and after a break each chunk's: a refusal must not be lost under what was sent after it.
        """
        if not self._opened:
            self._opened = True
            return ImportCompoundsRequest(start=self._start)
        if not self._answered or (self._breaks and self._sent):
            return None
        if self._sent < len(self._unacknowledged):
            self._sent += 1
            return self._unacknowledged[self._sent - 1].request
        if self._ended and not self._finished:
            self._finished = True
            return ImportCompoundsRequest(finish=ImportCompoundsRequest.Finish(row_count=self.rows))
        return None

    def receive(self, response: ImportCompoundsResponse) -> None:
        """Take in an acknowledgement."""
        self._answered = True
        self.operation = response.operation or self.operation
        if response.acknowledged_rows > self.acknowledged_rows:
            self._breaks = 0
        self.acknowledged_rows = max(self.acknowledged_rows, response.acknowledged_rows)
        self.complete = response.complete
        self._drop_acknowledged()

    def broke(self, error: AtomasError) -> float:
        """Prepare for a new stream after this one failed; returns the seconds to wait first. Raises the error when it is of no use."""
        if not isinstance(error, _PASSING) and error.retry_after_seconds is None:
            raise error
        now = monotonic()
        self._broken_since = self._broken_since if self._breaks else now
        self._breaks += 1
        if now - self._broken_since > (PATIENCE_SECONDS if self.operation else FIRST_PATIENCE_SECONDS):
            raise error
        self._opened = self._answered = self._finished = False
        self._sent = 0
        if error.retry_after_seconds is not None:
            return error.retry_after_seconds * random.uniform(1.0, 1.5)
        return min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** (self._breaks - 1)) * random.uniform(0.5, 1.0)

    def _drop_acknowledged(self) -> None:
        while self._unacknowledged and self._unacknowledged[0].end <= self.acknowledged_rows:
            self._unacknowledged.popleft()
            self._sent = max(0, self._sent - 1)


class Notifier:
    """Turns the state of an import into progress for its caller, if there is one who wants it."""

    def __init__(self, session: ImportSession, file: Source | None, on_progress: Callable[[ImportProgress], None] | None) -> None:
        self._session = session
        self._file = file
        self._on_progress = on_progress

    def sending(self) -> None:
        self._tell(None)

    def processing(self, operation: Operation) -> None:
        self._tell(operation.counts)

    def _tell(self, counts: ImportCounts | None) -> None:
        if self._on_progress is not None:
            self._on_progress(
                ImportProgress(
                    operation=self._session.operation,
                    rows_sent=self._session.rows,
                    rows_acknowledged=self._session.acknowledged_rows,
                    bytes_read=self._file.bytes_read if self._file else None,
                    total_bytes=self._file.total_bytes if self._file else None,
                    counts=counts,
                )
            )


@contextmanager
def damage_told(session: ImportSession) -> Iterator[None]:
    """Has a ReaderError say what became of the rows before it."""
    try:
        yield
    except ReaderError as error:
        if not session.rows:
            raise
        raise ReaderError(
            f"{error.message} The {session.rows:,} rows before that were imported and stay; mend the file and import it again, "
            "and they will count as duplicates.",
            rows_imported=session.rows,
            operation=session.operation,
        ) from None


def stream_ended_early() -> AtomasError:
    """The service closed the stream properly but before it had everything."""
    return UnavailableError("The service closed the import before it was complete; import again to go on.", reason="STREAM_CLOSED")


def stream_stalled() -> AtomasError:
    return UnavailableError(f"The service acknowledged nothing for {STALL_SECONDS:.0f} seconds.", reason="STREAM_STALLED")


def _as_row(row: RowLike) -> Row:
    if isinstance(row, Row):
        return row
    if isinstance(row, str):
        return Row(smiles=row)
    if isinstance(row, Mapping):
        try:
            return row_from_fields(row, None)
        except ValueError:
            return Row(unreadable="The row holds bytes that are not UTF-8 text.")
    raise TypeError(f"A row is a Row, a mapping or a SMILES string, not {type(row).__name__}.")
