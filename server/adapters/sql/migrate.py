"""Bring a database to this release's schema, or say what is wrong with the one it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from server.adapters.sql.engines import migration_engine, parse_url
from server.adapters.sql.failures import MIGRATE_COMMAND, translated
from server.domain.errors import AtomasError, Reason

_SCRIPTS = Path(__file__).parents[3] / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Brings the schema to this release's, or to an older one, in one transaction. Creates a SQLite file that is missing, but not its folder.

    Raises SCHEMA_MISMATCH for a database that a newer release has migrated, DATABASE_UNAVAILABLE.
    """
    name = parse_url(url).render_as_string(hide_password=True)
    with translated(name), connected(url) as connection:
        stored = stored_revision(connection)
        if stored is not None:
            require_known(stored, f"The database {name}")
        connection.rollback()
        command.upgrade(alembic_config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Takes the schema back to an older revision, `base` for none at all; what that one has no place for is lost."""
    with translated(parse_url(url).render_as_string(hide_password=True)), connected(url) as connection:
        command.downgrade(alembic_config(connection), revision)


def require_current_schema(connection: Connection, name: str) -> None:
    """Raises SCHEMA_MISMATCH with the command to run unless the schema is this release's."""
    stored = stored_revision(connection)
    expected = _scripts().get_current_head()
    if stored == expected:
        return
    if stored is not None:
        require_known(stored, f"The database {name}")
    found = "has no schema yet" if stored is None else f"has the schema of an older release ({stored}, needed is {expected})"
    raise AtomasError(Reason.SCHEMA_MISMATCH, f"The database {name} {found}: run `{MIGRATE_COMMAND}`.")


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings for commands on an open connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection to the database, which is let go of at the end of the block."""
    engine = migration_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def stored_revision(connection: Connection) -> str | None:
    """The schema that a database has; None for none."""
    return ", ".join(MigrationContext.configure(connection).get_current_heads()) or None


def require_known(revision: str, holder: str) -> None:
    """Raises SCHEMA_MISMATCH for a schema that this release does not know; `holder` is what has it, for people."""
    if revision not in {script.revision for script in _scripts().walk_revisions()}:
        raise AtomasError(
            Reason.SCHEMA_MISMATCH,
            f"{holder} has a schema that this release does not know ({revision}): start the newer release that made it, "
            f"or update this one and run `{MIGRATE_COMMAND}`.",
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_SCRIPTS))
