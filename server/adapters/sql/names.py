"""Compounds by what people call them: every name and id is kept as a few numbers, so that looking one up reads a few rows of an index."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from rapidfuzz.distance import OSA
from sqlalchemy import BigInteger, Select, cast, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from server.adapters.sql.codec import names_in
from server.adapters.sql.session import Session, batches
from server.adapters.sql.tables import compounds, libraries, name_keys
from server.domain.compounds import Compound
from server.domain.names import id_key, keys_of, name_key, near_keys, normalised
from server.domain.search import NamedCompound

# Compounds looked at for one text, of whatever library: names that share a number need not be one typo apart.
_CANDIDATES = 1_000


class SqlNames:
    """The `Names` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def spelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        return self._found(text, {name_key(text), id_key(text)}, 0, libraries, limit)

    def misspelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        return self._found(text, near_keys(text), 1, libraries, limit)

    def with_inchikey(self, beginning: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        query = _visible(libraries).where(compounds.c.inchikey >= beginning, compounds.c.inchikey < f"{beginning}~")
        rows = self._session.connection.execute(query.order_by(compounds.c.inchikey, compounds.c.library_key).limit(limit))
        return [NamedCompound(row.id, row.inchikey, row.inchikey) for row in rows]

    def _found(
        self, text: str, keys: Collection[int | None], typos: int, libraries: Sequence[str] | None, limit: int
    ) -> list[NamedCompound]:
        wanted = [key for key in keys if key is not None]
        if not wanted:
            return []
        # In two steps: asked in one, SQLite would rather walk all compounds in their order than sort a few.
        some = select(name_keys.c.compound_key).distinct().where(name_keys.c.number.in_(wanted)).limit(_CANDIDATES)
        chosen = list(self._session.connection.scalars(some))
        matching = _visible(libraries).where(self._session.is_one_of(compounds.c.key, chosen))
        rows = self._session.connection.execute(matching) if chosen else ()
        found = [match for row in rows for match in _matches(text, typos, row.id, row.inchikey, row.records)]
        return found[:limit]


def rewrite(session: Session, keys: Mapping[str, int], written: Sequence[Compound]) -> None:
    """Brings the numbers of compounds in line with their names; `keys` are their rows by InChIKey."""
    for batch in batches(sorted(keys.values())):
        session.write(delete(name_keys).where(session.is_one_of(name_keys.c.compound_key, batch)))
    rows = [(keys[each.inchikey], number) for each in written for number in sorted(keys_of(_names(each), each.source_ids))]
    if not rows:
        return
    if session.connection.dialect.name == "postgresql":
        # One statement for all rows; with a statement for each they would take longer than the compounds themselves.
        columns = [func.unnest(cast([row[place] for row in rows], ARRAY(BigInteger))) for place in (0, 1)]
        session.write(session.insert(name_keys).from_select(["compound_key", "number"], select(*columns)))
    else:
        # Some thirty rows for each compound: as dictionaries, compiled one by one, they would take longer than all else.
        session.connection.exec_driver_sql("INSERT INTO name_keys (compound_key, number) VALUES (?, ?)", rows)


def _names(compound: Compound) -> Iterable[str]:
    return (compound.display_name, *compound.synonyms)


def _visible(within: Sequence[str] | None) -> Select[tuple[str, str, str]]:
    query = select(libraries.c.id, compounds.c.inchikey, compounds.c.records).join_from(compounds, libraries)
    query = query.where(compounds.c.delete_time.is_(None), libraries.c.delete_time.is_(None))
    return query if within is None else query.where(libraries.c.id.in_(within))


def _matches(text: str, typos: int, library: str, inchikey: str, records: str) -> list[NamedCompound]:
    """The names and ids of a compound's records that the text spells with so many typos."""
    wanted = normalised(text)
    found = {}
    ids, names = names_in(records)
    for source_id in ids if typos == 0 else ():
        if normalised(source_id) == wanted:
            found[source_id, True] = NamedCompound(library, inchikey, source_id, is_id=True)
    for place, name in enumerate(dict.fromkeys(names)):
        if OSA.distance(normalised(name), wanted, score_cutoff=typos) == typos:
            found[name, False] = NamedCompound(library, inchikey, name, is_title=place == 0)
    return list(found.values())
