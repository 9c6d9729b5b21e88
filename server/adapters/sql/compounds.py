"""Compounds in SQL, and which revision of each an index holds."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, cast, delete, func, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY

from server.adapters.sql.codec import compound_columns, compound_from
from server.adapters.sql.failures import conflict
from server.adapters.sql.names import rewrite
from server.adapters.sql.session import Session, batches
from server.adapters.sql.tables import PlainText, compounds, index_entries, libraries, model_versions
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.domain.models import IndexEntry

_VISIBLE = compounds.c.delete_time.is_(None)


class SqlCompounds:
    """The `Compounds` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # (library key, InChIKey) of the rows that this transaction has locked or written: nobody else can have changed them since.
        self._held: set[tuple[int, str]] = set()

    def get(self, library: str, inchikey: str) -> Compound:
        found = self.get_many(library, [inchikey])
        if not found:
            raise _not_found(library, inchikey)
        return found[inchikey]

    def get_many(self, library: str, inchikeys: Sequence[str], for_update: bool = False) -> dict[str, Compound]:
        if for_update:
            self._session.require_writing()
        key = self._session.library_key(library)
        if key is None:
            return {}
        found: dict[str, Compound] = {}
        for batch in batches(sorted(set(inchikeys))):
            visible = select(compounds).where(_VISIBLE)
            query = self._each(visible.with_for_update() if for_update else visible, key, batch)
            for row in self._session.connection.execute(query):
                found[row.inchikey] = compound_from(library, row)
        if for_update:
            self._held.update((key, inchikey) for inchikey in found)
        return found

    def revisions(self, library: str, inchikeys: Sequence[str]) -> dict[str, int]:
        key = self._session.library_key(library)
        if key is None:
            return {}
        found: dict[str, int] = {}
        for batch in batches(sorted(set(inchikeys))):
            query = self._each(select(compounds.c.inchikey, compounds.c.revision).where(_VISIBLE), key, batch)
            found.update((row.inchikey, row.revision) for row in self._session.connection.execute(query))
        return found

    def page(self, library: str, after: str, limit: int) -> list[Compound]:
        key = self._session.library_key(library)
        if key is None:
            return []
        query = select(compounds).where(compounds.c.library_key == key, compounds.c.inchikey > after, _VISIBLE)
        rows = self._session.connection.execute(query.order_by(compounds.c.inchikey).limit(limit))
        return [compound_from(library, row) for row in rows]

    def save(self, compounds_: Sequence[Compound]) -> None:
        for library, group in groupby(sorted(compounds_, key=lambda c: c.library), key=lambda c: c.library):
            key = self._session.require_library(library)
            # In one order everywhere; of two with the same identity the later one stays.
            latest = dict(sorted({compound.inchikey: compound for compound in group}.items()))
            self._replace(key, [compound for inchikey, compound in latest.items() if (key, inchikey) in self._held])
            self._insert(key, [compound for inchikey, compound in latest.items() if (key, inchikey) not in self._held])
            self._held.update((key, inchikey) for inchikey in latest)
            rows: dict[str, int] = {}
            for batch in batches(sorted(latest)):
                query = self._each(select(compounds.c.key, compounds.c.inchikey), key, batch)
                rows.update((row.inchikey, row.key) for row in self._session.connection.execute(query))
            rewrite(self._session, rows, list(latest.values()))

    def mark_deleted(self, library: str, inchikey: str) -> None:
        session = self._session
        key = session.require_library(library)
        chosen = (compounds.c.library_key == key) & (compounds.c.inchikey == inchikey) & _VISIBLE
        if not session.write(update(compounds).where(chosen).values(delete_time=session.now)).rowcount:
            raise _not_found(library, inchikey)
        self._held.discard((key, inchikey))
        self._count(key, -1)

    def remove_deleted(self, library: str, inchikeys: Sequence[str]) -> None:
        session = self._session
        key = session.library_key(library)
        if key is None:
            return
        for batch in batches(sorted(set(inchikeys))):
            chosen = list(session.connection.scalars(self._each(select(compounds.c.key), key, batch)))
            session.write(delete(index_entries).where(session.is_one_of(index_entries.c.compound_key, chosen)))
            session.write(delete(compounds).where(session.is_one_of(compounds.c.key, chosen), ~_VISIBLE))

    def deleted(self, limit: int) -> list[tuple[str, str]]:
        query = select(libraries.c.id, compounds.c.inchikey).join(libraries).where(~_VISIBLE, libraries.c.delete_time.is_(None))
        return self._pairs(query.order_by(compounds.c.key).limit(limit))

    def mark_indexed(self, library: str, revisions: Mapping[str, int], model_version: str) -> None:
        self._note(library, {inchikey: (revision, None) for inchikey, revision in revisions.items()}, model_version)

    def mark_refused(self, library: str, inchikey: str, revision: int, model_version: str, error: str) -> None:
        self._note(library, {inchikey: (revision, error)}, model_version)

    def forget_indexed(self, library: str, inchikeys: Sequence[str], model_version: str) -> None:
        session = self._session
        key = session.library_key(library)
        if key is None:
            return
        model_key = self._model_key(model_version)
        for batch in batches(sorted(set(inchikeys))):
            chosen = list(session.connection.scalars(self._each(select(compounds.c.key), key, batch)))
            mine = session.is_one_of(index_entries.c.compound_key, chosen) & (index_entries.c.model_key == model_key)
            session.write(delete(index_entries).where(mine))

    def entries(self, library: str, model_version: str, after: str, limit: int, inchikeys: Sequence[str] | None = None) -> list[IndexEntry]:
        connection = self._session.connection
        key = self._session.library_key(library)
        if key is None:
            return []
        model_key = connection.scalar(select(model_versions.c.key).where(model_versions.c.version == model_version))
        entry = (index_entries.c.compound_key == compounds.c.key) & (index_entries.c.model_key == (model_key or 0))
        held = index_entries.c.revision.label("indexed")
        query = select(compounds.c.inchikey, compounds.c.revision, held, index_entries.c.error).outerjoin(index_entries, entry)
        query = query.where(compounds.c.library_key == key, compounds.c.inchikey > after, _VISIBLE)
        if inchikeys is not None:
            query = query.where(self._session.is_one_of(compounds.c.inchikey, inchikeys))
        rows = connection.execute(query.order_by(compounds.c.inchikey).limit(limit))
        return [IndexEntry(row.inchikey, row.revision, row.indexed, row.error or "") for row in rows]

    def _note(self, library: str, notes: Mapping[str, tuple[int, str | None]], model_version: str) -> None:
        session = self._session
        session.require_writing()
        key = session.library_key(library)
        if key is None or not notes:
            return
        model_key = self._model_key(model_version)
        entries = []
        for batch in batches(sorted(notes)):
            # Locked, so that a row that is removed meanwhile is not found, rather than failing the whole batch.
            query = select(compounds.c.key, compounds.c.inchikey).with_for_update(read=True, key_share=True)
            for row in session.connection.execute(self._each(query, key, batch)):
                revision, error = notes[row.inchikey]
                entries.append({"compound_key": row.key, "model_key": model_key, "revision": revision, "error": error})
        if entries:
            statement = session.insert(index_entries)
            replaced = {"revision": statement.excluded.revision, "error": statement.excluded.error}
            session.write(statement.on_conflict_do_update(index_elements=["compound_key", "model_key"], set_=replaced), entries)

    def unindexed(self, model_version: str, limit: int, after: tuple[str, str] | None = None) -> list[tuple[str, str]]:
        connection = self._session.connection
        model_key = connection.scalar(select(model_versions.c.key).where(model_versions.c.version == model_version))
        entry = (index_entries.c.compound_key == compounds.c.key) & (index_entries.c.model_key == (model_key or 0))
        query = (
            select(libraries.c.id, compounds.c.inchikey)
            .join_from(compounds, libraries)
            .outerjoin(index_entries, entry)
            .where(_VISIBLE, libraries.c.delete_time.is_(None), index_entries.c.revision.is_distinct_from(compounds.c.revision))
        )
        if after is not None:
            library, inchikey = after
            mine = select(libraries.c.key).where(libraries.c.id == library).scalar_subquery()
            start = connection.scalar(select(compounds.c.key).where(compounds.c.library_key == mine, compounds.c.inchikey == inchikey))
            # Where it has been removed meanwhile the walk begins again: slower, and nothing is missed.
            query = query.where(compounds.c.key > (start or 0))
        return self._pairs(query.order_by(compounds.c.key).limit(limit))

    def _each(self, query: Select[Any], library_key: int, inchikeys: Sequence[str]) -> Select[Any]:
        """The query for each of the InChIKeys of a library, in their order; asked in one order everywhere, two transactions never
        wait for each other's locks crosswise."""
        mine = query.where(compounds.c.library_key == library_key)
        if self._session.connection.dialect.name != "postgresql":
            return mine.where(self._session.is_one_of(compounds.c.inchikey, inchikeys))
        # Before its first statistics PostgreSQL takes a library for a handful of rows and would read the whole of it for an IN list;
        # a lateral subquery with an OFFSET can only be answered key by key from the index.
        wanted = func.unnest(cast(inchikeys, ARRAY(PlainText))).table_valued("inchikey").render_derived()
        each = mine.where(compounds.c.inchikey == wanted.c.inchikey).offset(0).lateral()
        return select(each).select_from(wanted.join(each, true()))

    def _replace(self, library_key: int, changed: Sequence[Compound]) -> None:
        if not changed:
            return
        statement = update(compounds).where(
            compounds.c.library_key == bindparam("of_library"), compounds.c.inchikey == bindparam("of_inchikey")
        )
        rows = self._rows(library_key, changed)
        for row in rows:
            # What identifies a row never changes, nor does its birth.
            row["of_library"], row["of_inchikey"] = row.pop("library_key"), row.pop("inchikey")
            del row["create_time"]
        self._session.write(statement, rows)

    def _insert(self, library_key: int, new: Sequence[Compound]) -> None:
        if not new:
            return
        statement = self._session.insert(compounds)
        # A row marked deleted comes back, with a revision that no index can hold; any other one somebody else has just written.
        revived: dict[str, ColumnElement[Any]] = {
            column.name: statement.excluded[column.name] for column in compounds.columns if column.name not in ("key", "revision")
        }
        revived["revision"] = compounds.c.revision + statement.excluded.revision
        statement = statement.on_conflict_do_update(index_elements=["library_key", "inchikey"], set_=revived, where=~_VISIBLE)
        rows = self._rows(library_key, new)
        written = self._session.write(statement.execution_options(preserve_rowcount=True), rows).rowcount
        if written < len(rows):
            raise conflict()
        self._count(library_key, written)

    def _rows(self, library_key: int, values: Iterable[Compound]) -> list[dict[str, object]]:
        now = self._session.now
        stamps = {"library_key": library_key, "update_time": now, "delete_time": None}
        return [{**compound_columns(value), **stamps, "create_time": value.create_time or now} for value in values]

    def _count(self, library_key: int, change: int) -> None:
        self._session.write(
            update(libraries).where(libraries.c.key == library_key).values(compound_count=libraries.c.compound_count + change)
        )

    def _model_key(self, version: str) -> int:
        session = self._session
        query = select(model_versions.c.key).where(model_versions.c.version == version)
        key: int | None = session.connection.scalar(query)
        if key is None:
            session.write(session.insert(model_versions).values(version=version).on_conflict_do_nothing())
            key = session.connection.scalar(query)
        if key is None:
            raise conflict()
        return key

    def _pairs(self, query: Select[Any]) -> list[tuple[str, str]]:
        return [(library, inchikey) for library, inchikey in self._session.connection.execute(query)]


def _not_found(library: str, inchikey: str) -> AtomasError:
    message = f"There is no compound {inchikey!r} in library {library!r}."
    return AtomasError(Reason.COMPOUND_NOT_FOUND, message, library=library, compound=inchikey)
