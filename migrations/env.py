"""Run migrations on one database: one at a time, in one transaction, never waiting long for the tables in use."""

from alembic import context
from sqlalchemy import Connection, text

from server.adapters.sql.engines import migration_engine
from server.adapters.sql.tables import metadata

# Any number that nothing else in the database uses for an advisory lock.
MIGRATION_LOCK = 8_210_447_301


def migrate(connection: Connection) -> None:
    """Runs what the Alembic command asked for on an open connection."""
    postgresql = connection.dialect.name == "postgresql"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite alters a table by copying it; PostgreSQL runs the same scripts as plain ALTERs.
        render_as_batch=True,
        compare_server_default=True,
        # SQLite can undo schema changes too, once transactions are begun by hand, as its engine here does.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if postgresql:
            # Servers that start together: the first migrates, the others wait for it and find nothing left to do.
            connection.execute(text("SET LOCAL lock_timeout = '120s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            # A schema change that waits for a table makes every later query wait behind it: better to give up and be run again.
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
        if not postgresql and connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
            raise RuntimeError("The migration would leave rows that refer to nothing; it has been undone.")


def connect_and_migrate() -> None:
    """Uses the connection of the calling program, or the URL of `alembic -c pyproject.toml -x url=URL ...`."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    url = context.get_x_argument(as_dictionary=True).get("url")
    if context.is_offline_mode() or not isinstance(url, str):
        raise SystemExit(
            "Name the database: alembic -c pyproject.toml -x url=sqlite:///FILE COMMAND. To migrate one in use, run `python -m server migrate`."
        )
    engine = migration_engine(url)
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()


connect_and_migrate()
