"""Libraries in SQL."""

from collections.abc import Mapping

from sqlalchemy import Select, Table, bindparam, delete, select, tuple_, update

from server.adapters.sql.codec import AnyRow
from server.adapters.sql.session import Session
from server.adapters.sql.tables import compounds, import_chunks, libraries, library_fields, operations, rejection_counts, rejections
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.operations import State

_VISIBLE = libraries.c.delete_time.is_(None)
# Every search reads its library: putting these statements together each time would cost it more than running them.
_ONE = select(libraries).where(libraries.c.id == bindparam("wanted"), _VISIBLE)
_FIELDS = select(library_fields).where(library_fields.c.library_key.in_(bindparam("wanted", expanding=True)))


class SqlLibraries:
    """The `Libraries` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, library: Library) -> Library:
        session = self._session
        statement = session.insert(libraries).values(
            id=library.id,
            display_name=library.display_name,
            description=library.description,
            create_time=library.create_time or session.now,
            update_time=library.update_time or session.now,
        )
        # A refusal that leaves the transaction usable; on PostgreSQL a violated constraint would not.
        key = session.write(statement.on_conflict_do_nothing(index_elements=["id"]).returning(libraries.c.key)).scalar()
        if key is None:
            deleted = session.connection.scalar(select(libraries.c.delete_time).where(libraries.c.id == library.id)) is not None
            message = "is still being deleted: try again shortly" if deleted else "exists already: use it or choose another id"
            raise AtomasError(Reason.LIBRARY_EXISTS, f"Library {library.id!r} {message}.", library=library.id)
        self._add_fields(key, library.fields)
        return self.get(library.id)

    def get(self, library_id: str) -> Library:
        found = self._read(_ONE, {"wanted": library_id})
        if not found:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library_id!r}.", library=library_id)
        return found[0]

    def page(self, after: str, limit: int) -> list[Library]:
        return self._read(select(libraries).where(libraries.c.id > after, _VISIBLE).order_by(libraries.c.id).limit(limit))

    def update(self, library: Library) -> Library:
        key = self._session.require_library(library.id)
        changes = {"display_name": library.display_name, "description": library.description, "update_time": self._session.now}
        self._session.write(update(libraries).where(libraries.c.key == key).values(**changes))
        return self.get(library.id)

    def add_fields(self, library_id: str, fields: Mapping[str, frozenset[str]]) -> None:
        self._add_fields(self._session.require_library(library_id), fields)

    def mark_deleted(self, library_id: str) -> None:
        session = self._session
        session.require_writing()
        mine = select(libraries.c.key).where(libraries.c.id == library_id, _VISIBLE)
        running = select(operations.c.key).where(operations.c.library_key.in_(mine), operations.c.end_time.is_(None))
        # Operations first, as imports lock them, then the library: the other way round both would wait for each other.
        session.connection.execute(running.order_by(operations.c.key).with_for_update(key_share=True))
        key = session.connection.scalar(mine.with_for_update())
        if key is None:
            raise AtomasError(Reason.LIBRARY_NOT_FOUND, f"There is no library {library_id!r}.", library=library_id)
        session.write(update(libraries).where(libraries.c.key == key).values(delete_time=session.now))
        cancelled = {"state": State.CANCELLED.value, "update_time": session.now, "end_time": session.now}
        unfinished = (operations.c.library_key == key) & operations.c.end_time.is_(None)
        # Their chunks go with the library.
        session.write(update(operations).where(unfinished).values(**cancelled))
        session.forget_library(library_id)

    def purgeable(self) -> list[str]:
        query = select(libraries.c.id).where(libraries.c.delete_time.is_not(None)).order_by(libraries.c.delete_time, libraries.c.key)
        return list(self._session.connection.scalars(query))

    def purge(self, library_id: str, limit: int) -> bool:
        session = self._session
        key = session.connection.scalar(select(libraries.c.key).where(libraries.c.id == library_id, libraries.c.delete_time.is_not(None)))
        if key is None:
            return True
        owned = select(operations.c.key).where(operations.c.library_key == key)
        steps: tuple[tuple[Table, Select[tuple[object, ...]]], ...] = (
            (compounds, select(compounds.c.key).where(compounds.c.library_key == key)),
            *(
                (table, select(*table.primary_key).where(table.c.operation_key.in_(owned)))
                for table in (rejections, import_chunks, rejection_counts)
            ),
            (operations, owned),
            (library_fields, select(*library_fields.primary_key).where(library_fields.c.library_key == key)),
            (libraries, select(libraries.c.key).where(libraries.c.key == key)),
        )
        for table, doomed in steps:
            removed = session.write(delete(table).where(tuple_(*table.primary_key).in_(doomed.limit(limit)))).rowcount
            limit -= removed
            if limit <= 0:
                return False
        return True

    def _add_fields(self, key: int, fields: Mapping[str, frozenset[str]]) -> None:
        # In one order everywhere, so that two imports never wait for each other crosswise.
        rows = sorted((name, kind) for name, kinds in fields.items() for kind in kinds)
        if rows:
            statement = self._session.insert(library_fields).on_conflict_do_nothing()
            values = [{"library_key": key, "name": name, "kind": kind} for name, kind in rows]
            self._session.write(statement, values)

    def _read(self, query: Select[tuple[object, ...]], values: Mapping[str, object] | None = None) -> list[Library]:
        connection = self._session.connection
        rows = connection.execute(query, values).all()
        fields: dict[int, dict[str, set[str]]] = {row.key: {} for row in rows}
        for field in connection.execute(_FIELDS, {"wanted": list(fields)}) if rows else ():
            fields[field.library_key].setdefault(field.name, set()).add(field.kind)
        return [_library_from(row, fields[row.key]) for row in rows]


def _library_from(row: AnyRow, fields: Mapping[str, set[str]]) -> Library:
    return Library(
        id=row.id,
        display_name=row.display_name,
        description=row.description,
        compound_count=row.compound_count,
        fields={name: frozenset(kinds) for name, kinds in fields.items()},
        create_time=row.create_time,
        update_time=row.update_time,
    )
