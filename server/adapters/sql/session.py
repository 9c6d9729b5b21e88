"""What the repositories of one transaction share."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, CursorResult, Table, UpdateBase, any_, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite

from server.adapters.sql.tables import PlainText, libraries
from server.domain.errors import AtomasError, Reason

Item = TypeVar("Item")
Insert = postgresql.Insert | sqlite.Insert

# SQLite takes 32,766 values in a statement, PostgreSQL 65,535: lists of keys are asked for in pieces well below.
KEYS_PER_STATEMENT = 5_000


class Session:
    """An open transaction's connection, with what differs between databases settled here."""

    def __init__(self, connection: Connection, *, writes: bool) -> None:
        self.connection = connection
        self.now = datetime.now(UTC)
        self._writes = writes
        self._library_keys: dict[str, int] = {}

    def age_seconds(self, since: datetime | None) -> float:
        """Until now; 0 for what has no time."""
        return 0.0 if since is None else max(0.0, (self.now - since).total_seconds())

    def insert(self, table: Table) -> Insert:
        """An INSERT that knows ON CONFLICT."""
        return postgresql.insert(table) if self.connection.dialect.name == "postgresql" else sqlite.insert(table)

    def is_one_of(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Whether the column has one of the values, which travel as one parameter: with a parameter for each, making the statement costs more
        than running it."""
        if self.connection.dialect.name == "postgresql":
            return column == any_(cast(list(values), postgresql.ARRAY(column.type)))
        if isinstance(column.type, PlainText):
            values = [column.type.process_bind_param(value, self.connection.dialect) for value in values]
        return column.in_(select(func.json_each(json.dumps(values)).table_valued("value").c.value))

    def require_writing(self) -> None:
        """Raises RuntimeError in a snapshot: SQLite would let a lock pass there that PostgreSQL refuses."""
        if not self._writes:
            raise RuntimeError("reading() is for reading: open a transaction() to lock or to write.")

    def write(self, statement: UpdateBase, rows: Sequence[Mapping[str, object]] | None = None) -> CursorResult[Any]:
        """Runs an INSERT, UPDATE or DELETE, once for each of `rows` where they are given."""
        self.require_writing()
        # None is not an empty list: to SQLAlchemy that would be one row of defaults.
        return self.connection.execute(statement) if rows is None else self.connection.execute(statement, rows)

    def library_key(self, library: str) -> int | None:
        """The key of a visible library; in a transaction that writes it also cannot be deleted until the end."""
        if library in self._library_keys:
            return self._library_keys[library]
        query = select(libraries.c.key).where(libraries.c.id == library, libraries.c.delete_time.is_(None))
        if self._writes:
            # The weakest lock there is: imports share it, and the count of compounds can still be changed.
            query = query.with_for_update(read=True, key_share=True)
        key: int | None = self.connection.scalar(query)
        if key is not None:
            self._library_keys[library] = key
        return key

    def require_library(self, library: str) -> int:
        """The key of a visible library, held until the end. Raises LIBRARY_NOT_FOUND."""
        key = self.library_key(library)
        if key is None:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library!r}.", library=library)
        return key

    def forget_library(self, library: str) -> None:
        """To be called when the library stops being visible."""
        self._library_keys.pop(library, None)


def batches(items: Sequence[Item], size: int = KEYS_PER_STATEMENT) -> Iterator[Sequence[Item]]:
    """The items in order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
