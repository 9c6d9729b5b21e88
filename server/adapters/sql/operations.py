"""Operations, their accepted chunks and their rejections in SQL."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, select, update

from server.adapters.sql import codec
from server.adapters.sql.session import Session
from server.adapters.sql.tables import import_chunks, libraries, operations, rejection_counts, rejections
from server.domain.errors import AtomasError, Reason
from server.domain.operations import Backlog, Chunk, ChunkState, ImportRow, Operation, Rejection, State


class SqlOperations:
    """The `Operations` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(self, operation: Operation) -> Operation:
        session = self._session
        key = session.require_library(operation.library)
        statement = session.insert(operations).values(
            id=operation.id,
            library_key=key,
            request_id=operation.request_id,
            source=operation.source,
            state=operation.state.value,
            error=codec.error_text(operation.error),
            create_time=operation.create_time or session.now,
            update_time=operation.update_time or session.now,
            end_time=session.now if operation.state.final else None,
        )
        session.write(statement.on_conflict_do_nothing(index_elements=["library_key", "request_id"]))
        return self._one(operations.c.library_key == key, operations.c.request_id == operation.request_id)

    def get(self, operation_id: str) -> Operation:
        return self._one(operations.c.id == operation_id)

    def page(self, before: str, limit: int) -> list[Operation]:
        query = select(operations, libraries.c.id.label("library")).join(libraries)
        if before:
            query = query.where(operations.c.key < self._key(before))
        return self._read(query.order_by(operations.c.key.desc()).limit(limit))

    def lock(self, operation_id: str) -> Operation:
        self._session.require_writing()
        # Weaker than FOR UPDATE: rows that refer to the operation can still be added by others.
        query = select(operations.c.key).where(operations.c.id == operation_id).with_for_update(key_share=True)
        if self._session.connection.scalar(query) is None:
            raise _not_found(operation_id)
        return self.get(operation_id)

    def accept(self, operation_id: str, rows: Sequence[ImportRow]) -> int:
        session = self._session
        session.require_writing()
        chosen = operations.c.id == operation_id
        stored = session.connection.execute(
            select(operations.c.key, operations.c.last_position).where(chosen).with_for_update(key_share=True)
        )
        operation = stored.one_or_none()
        if operation is None:
            raise _not_found(operation_id)
        _require_growing([operation.last_position, *(row.position for row in rows)], operation_id)
        counted = {
            "chunks": operations.c.chunks + 1,
            "received": operations.c.received + len(rows),
            "last_position": rows[-1].position if rows else operation.last_position,
            "update_time": session.now,
        }
        chunks = session.write(update(operations).where(chosen).values(**counted).returning(operations.c.chunks)).scalar_one()
        number = int(chunks) - 1
        chunk = {"operation_key": operation.key, "number": number, "row_count": len(rows), "rows": codec.pack_rows(rows)}
        session.write(session.insert(import_chunks).values(state=ChunkState.ACCEPTED.value, pending=True, accept_time=session.now, **chunk))
        return number

    def chunk(self, operation_id: str, number: int, for_update: bool = False) -> Chunk:
        query = select(import_chunks).join(operations).where(operations.c.id == operation_id, import_chunks.c.number == number)
        if for_update:
            self._session.require_writing()
            query = query.with_for_update(of=import_chunks)
        row = self._session.connection.execute(query).one_or_none()
        if row is None:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"Operation {operation_id!r} has no chunk {number}.", operation=operation_id)
        return Chunk(operation_id, number, ChunkState(row.state), codec.unpack_rows(row.rows), codec.unpack_keys(row.changed))

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
        key = self._key(operation_id)
        verdicts = {"created": created, "updated": updated, "duplicate": duplicate, "rejected": len(rejections)}
        values = {"state": ChunkState.READ.value, "changed": codec.pack_keys(changed), **verdicts}
        if self._move(key, number, ChunkState.ACCEPTED, values) is not None:
            self._reject(key, rejections)
            self._add(key, verdicts)

    def mark_indexed(self, operation_id: str, number: int, shortened_texts: int) -> None:
        key = self._key(operation_id)
        values = {"state": ChunkState.INDEXED.value, "pending": False, "rows": None, "changed": None}
        chunk = self._move(key, number, ChunkState.READ, values)
        if chunk is not None:
            found = chunk.created + chunk.updated + chunk.duplicate
            self._add(key, {"indexed_chunks": 1, "indexed": found, "shortened_texts": shortened_texts})

    def set_state(self, operation_id: str, state: State, error: tuple[str, str] | None = None) -> None:
        now = self._session.now
        key = self._key(operation_id)
        values = {"state": state.value, "error": codec.error_text(error), "update_time": now, "end_time": now if state.final else None}
        self._session.write(update(operations).where(operations.c.key == key).values(**values))
        if state.final:
            unfinished = (import_chunks.c.operation_key == key) & import_chunks.c.pending
            self._session.write(update(import_chunks).where(unfinished).values(pending=False, rows=None, changed=None))

    def unfinished_chunks(self, limit: int) -> list[tuple[str, int, Literal["ACCEPTED", "READ"]]]:
        query = (
            select(operations.c.id, import_chunks.c.number, import_chunks.c.state)
            .join_from(import_chunks, operations)
            .where(import_chunks.c.pending, operations.c.end_time.is_(None))
            .order_by(import_chunks.c.operation_key, import_chunks.c.number)
            .limit(limit)
        )
        rows = self._session.connection.execute(query)
        return [(operation, number, "READ" if state == ChunkState.READ else "ACCEPTED") for operation, number, state in rows]

    def backlog(self) -> tuple[Backlog, Backlog]:
        columns = (import_chunks.c.state, func.count(), func.min(import_chunks.c.accept_time))
        query = select(*columns).where(import_chunks.c.pending).group_by(import_chunks.c.state)
        found = {
            state: Backlog(count, self._session.age_seconds(oldest)) for state, count, oldest in self._session.connection.execute(query)
        }
        return found.get(ChunkState.ACCEPTED.value, Backlog()), found.get(ChunkState.READ.value, Backlog())

    def all_indexed(self, operation_id: str) -> bool:
        query = select(operations.c.chunks == operations.c.indexed_chunks).where(operations.c.key == self._key(operation_id))
        return bool(self._session.connection.scalar(query))

    def completable(self) -> list[str]:
        done = (operations.c.state == State.PROCESSING.value) & (operations.c.chunks == operations.c.indexed_chunks)
        query = select(operations.c.id).where(operations.c.end_time.is_(None), done).order_by(operations.c.key)
        return list(self._session.connection.scalars(query))

    def idle(self, seconds: float) -> list[str]:
        silent = operations.c.update_time < self._session.now - timedelta(seconds=seconds)
        done = (operations.c.state == State.RECEIVING.value) & (operations.c.chunks == operations.c.indexed_chunks)
        query = select(operations.c.id).where(operations.c.end_time.is_(None), done, silent).order_by(operations.c.key)
        return list(self._session.connection.scalars(query))

    def rejections(self, operation_id: str, after: int, limit: int) -> list[Rejection]:
        query = select(rejections).join(operations).where(operations.c.id == operation_id, rejections.c.position > after)
        return [codec.rejection_from(row) for row in self._session.connection.execute(query.order_by(rejections.c.position).limit(limit))]

    def _key(self, operation_id: str) -> int:
        key: int | None = self._session.connection.scalar(select(operations.c.key).where(operations.c.id == operation_id))
        if key is None:
            raise _not_found(operation_id)
        return key

    def _move(self, key: int, number: int, expected: ChunkState, values: dict[str, Any]) -> codec.AnyRow | None:
        """The chunk after a change of state, or None where it was in another state than expected."""
        chosen = (import_chunks.c.operation_key == key, import_chunks.c.number == number, import_chunks.c.state == expected.value)
        verdicts = (import_chunks.c.created, import_chunks.c.updated, import_chunks.c.duplicate)
        statement = update(import_chunks).where(*chosen).values(**values).returning(*verdicts)
        return self._session.write(statement).one_or_none()

    def _add(self, key: int, counts: dict[str, int]) -> None:
        changes = {name: operations.c[name] + count for name, count in counts.items()}
        self._session.write(update(operations).where(operations.c.key == key).values(**changes, update_time=self._session.now))

    def _reject(self, key: int, rejected: Sequence[Rejection]) -> None:
        if not rejected:
            return
        rows = [
            {"operation_key": key, "position": item.position, "reason": str(item.reason), "said": codec.rejection_text(item)}
            for item in rejected
        ]
        self._session.write(self._session.insert(rejections), rows)
        for reason in sorted({str(item.reason) for item in rejected}):
            count = sum(1 for item in rejected if item.reason == reason)
            statement = self._session.insert(rejection_counts).values(operation_key=key, reason=reason, row_count=count)
            more = {"row_count": rejection_counts.c.row_count + statement.excluded.row_count}
            self._session.write(statement.on_conflict_do_update(index_elements=["operation_key", "reason"], set_=more))

    def _one(self, *conditions: ColumnElement[bool]) -> Operation:
        found = self._read(select(operations, libraries.c.id.label("library")).join(libraries).where(*conditions))
        if not found:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, "There is no such operation.")
        return found[0]

    def _read(self, query: Select[Any]) -> list[Operation]:
        rows = self._session.connection.execute(query).all()
        reasons: dict[int, dict[str, int]] = {row.key: {} for row in rows}
        counted = select(rejection_counts).where(rejection_counts.c.operation_key.in_(reasons))
        for count in self._session.connection.execute(counted) if rows else ():
            reasons[count.operation_key][count.reason] = count.row_count
        return [codec.operation_from(row, row.library, reasons[row.key]) for row in rows]


def _not_found(operation_id: str) -> AtomasError:
    return AtomasError(Reason.OPERATION_NOT_FOUND, f"There is no operation {operation_id!r}.", operation=operation_id)


def _require_growing(positions: Sequence[int], operation_id: str) -> None:
    for former, position in pairwise(positions):
        if position <= former:
            raise AtomasError(
                Reason.IMPORT_PROTOCOL,
                f"Row position {position} follows position {former}: positions must grow from 1 on through the whole import.",
                operation=operation_id,
            )
