"""What databases complain of, as domain errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from server.domain.errors import AtomasError, Reason

MIGRATE_COMMAND = "python -m server migrate"

_CONFLICT = "Another transaction was at work on the same rows. Nothing of this one was kept: do it again."
_UNREACHABLE = "The database {database} cannot be reached. Check that it runs and that the URL, user and password are right."
_SHORT_OF_ROOM = "The disk of the database {database} is full: free some space, then try again."
_SCHEMA = "The database {database} lacks a table or column that this release needs: run `" + MIGRATE_COMMAND + "`."
_BUSY = "The database {database} is too busy to answer in time. Try again shortly."
_DAMAGED = "The file {database} is no intact SQLite database: restore it from a backup."
_LOCKED = "Another process has been writing to {database} for too long. Try again shortly."
_CANNOT_OPEN = "The database file {database} cannot be opened: does its folder exist, and may this process write there?"

# SQLSTATE codes and classes of PostgreSQL, the longest prefix first.
_POSTGRESQL = (
    ("40", Reason.DATABASE_UNAVAILABLE, _CONFLICT),
    ("55P03", Reason.DATABASE_UNAVAILABLE, _CONFLICT),
    ("23", Reason.DATABASE_UNAVAILABLE, _CONFLICT),
    ("53100", Reason.DISK_FULL, _SHORT_OF_ROOM),
    ("53", Reason.DATABASE_UNAVAILABLE, _BUSY),
    ("57014", Reason.DATABASE_UNAVAILABLE, _BUSY),
    ("57", Reason.DATABASE_UNAVAILABLE, _UNREACHABLE),
    ("25P03", Reason.DATABASE_UNAVAILABLE, _BUSY),
    ("08", Reason.DATABASE_UNAVAILABLE, _UNREACHABLE),
    ("28", Reason.DATABASE_UNAVAILABLE, _UNREACHABLE),
    ("3D", Reason.DATABASE_UNAVAILABLE, _UNREACHABLE),
    ("42P01", Reason.SCHEMA_MISMATCH, _SCHEMA),
    ("42703", Reason.SCHEMA_MISMATCH, _SCHEMA),
)
_SQLITE = (
    ("SQLITE_CONSTRAINT", Reason.DATABASE_UNAVAILABLE, _CONFLICT),
    ("SQLITE_BUSY", Reason.DATABASE_UNAVAILABLE, _LOCKED),
    ("SQLITE_LOCKED", Reason.DATABASE_UNAVAILABLE, _LOCKED),
    ("SQLITE_FULL", Reason.DISK_FULL, _SHORT_OF_ROOM),
    ("SQLITE_CANTOPEN", Reason.DATABASE_UNAVAILABLE, _CANNOT_OPEN),
    ("SQLITE_READONLY", Reason.DATABASE_UNAVAILABLE, _CANNOT_OPEN),
    ("SQLITE_IOERR", Reason.DATABASE_UNAVAILABLE, _CANNOT_OPEN),
    ("SQLITE_NOTADB", Reason.DATABASE_UNAVAILABLE, _DAMAGED),
    ("SQLITE_CORRUPT", Reason.DATABASE_UNAVAILABLE, _DAMAGED),
)


def conflict() -> AtomasError:
    """For repositories that find out by themselves."""
    return AtomasError(Reason.DATABASE_UNAVAILABLE, _CONFLICT, cause="conflict")


@contextmanager
def translated(database: str) -> Iterator[None]:
    """Turns what the driver raises into an AtomasError that names the database; what nobody foresaw passes as it is."""
    try:
        yield
    except PoolTimeoutError as error:
        raise AtomasError(Reason.DATABASE_UNAVAILABLE, _BUSY.format(database=database)) from error
    except SQLAlchemyError as error:
        known = _known(error) if isinstance(error, DBAPIError) else None
        if known is None:
            raise
        reason, sentence = known
        details = {"cause": "conflict"} if sentence is _CONFLICT else {}
        raise AtomasError(reason, sentence.format(database=database), **details) from error


def _known(error: DBAPIError) -> tuple[Reason, str] | None:
    original = error.orig
    sqlite_name = getattr(original, "sqlite_errorname", None)
    if sqlite_name is not None:
        if sqlite_name == "SQLITE_ERROR" and str(original).startswith(("no such table", "no such column")):
            return Reason.SCHEMA_MISMATCH, _SCHEMA
        return _first(_SQLITE, sqlite_name)
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return _first(_POSTGRESQL, state)
    # Without a code the server never spoke: refused, unresolved, cut off.
    return (Reason.DATABASE_UNAVAILABLE, _UNREACHABLE) if error.connection_invalidated or _never_answered(original) else None


def _first(table: tuple[tuple[str, Reason, str], ...], code: str) -> tuple[Reason, str] | None:
    return next(((reason, sentence) for prefix, reason, sentence in table if code.startswith(prefix)), None)


def _never_answered(original: BaseException | None) -> bool:
    # By name: psycopg is not imported where only SQLite is used.
    return type(original).__name__ in ("OperationalError", "ConnectionTimeout", "InterfaceError")
