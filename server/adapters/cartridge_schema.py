"""The tables of the structure index in PostgreSQL, and whether the RDKit cartridge is there to search them."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import rdkit
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from encoder.molecules import STANDARD_VERSION

log = structlog.get_logger(__name__)

LAYOUT = 1
# Any number that nothing else in the database uses for an advisory lock.
_LOCK = 8_210_447_302
_INSUFFICIENT_PRIVILEGE = "42501"

# A schema of its own: an index, made again from the other tables whenever it is lost, and no business of the migrations.
_TABLES = """
CREATE SCHEMA atomas_structures;
CREATE TABLE atomas_structures.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation text NOT NULL,
    complete boolean NOT NULL,
    made_by text NOT NULL
);
CREATE TABLE atomas_structures.molecules (
    id uuid PRIMARY KEY,
    library text NOT NULL,
    skeleton text NOT NULL,
    smiles text NOT NULL,
    elements smallint[] NOT NULL,
    fingerprint bfp NOT NULL,
    -- NULL where the cartridge reads the structure otherwise than this service does: such structures are matched by the service.
    mol mol
);
CREATE INDEX molecules_library ON atomas_structures.molecules (library);
CREATE INDEX molecules_skeleton ON atomas_structures.molecules (skeleton);
CREATE INDEX molecules_read_otherwise ON atomas_structures.molecules (library) WHERE mol IS NULL;
CREATE INDEX molecules_fingerprint ON atomas_structures.molecules USING gist (fingerprint);
CREATE INDEX molecules_mol ON atomas_structures.molecules USING gist (mol);
"""


def prepare(engine: Engine) -> str | None:
    """Makes the tables, or begins them anew where another release or cartridge made them; returns the schema that holds the cartridge.

    None where there is no cartridge, or we may not install it. Raises what the driver raises when the database cannot be reached.
    """
    try:
        with engine.begin() as connection:
            # Servers that start together.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            schema = _schema_of_cartridge(connection)
            if schema is None:
                return None
            connection.exec_driver_sql("SELECT set_config('search_path', %s, true)", (schema,))
            made_by = _maker(connection)
            if _made_by(connection) != made_by:
                connection.exec_driver_sql("DROP SCHEMA IF EXISTS atomas_structures CASCADE")
                # The driver takes one statement with parameters, or any number without.
                connection.exec_driver_sql(_TABLES)
                insert = "INSERT INTO atomas_structures.state (generation, complete, made_by) VALUES (%s, false, %s)"
                connection.exec_driver_sql(insert, (new_generation(), made_by))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        log.warning(
            "the RDKit cartridge is there but may not be used: let its administrator run CREATE EXTENSION rdkit in this database, "
            "and grant the service's user CREATE on the database"
        )
        return None
    return schema


def new_generation() -> str:
    """A name that no content had before."""
    return uuid4().hex


@contextmanager
def session(engine: Engine, schema: str, seconds: float | None = None, threshold: float | None = None) -> Iterator[Connection]:
    """A transaction in which the operators of the cartridge in this schema are known; statements under a limit of time, `%` under one of
    similarity."""
    with engine.begin() as connection:
        settings = [
            ("search_path", schema),
            ("rdkit.do_chiral_sss", "false"),
            ("rdkit.tanimoto_threshold", f"{0.5 if threshold is None else threshold:.9f}"),
        ]
        if seconds is not None:
            settings.append(("statement_timeout", str(max(1, int(seconds * 1000)))))
        calls = ", ".join("set_config(%s, %s, true)" for _ in settings)
        connection.exec_driver_sql(f"SELECT {calls}", tuple(value for setting in settings for value in setting))
        yield connection


def _schema_of_cartridge(connection: Connection) -> str | None:
    """The schema that holds the cartridge, which is installed first where it can be; None where there is none."""
    query = "SELECT installed_version IS NOT NULL FROM pg_available_extensions WHERE name = 'rdkit'"
    installed = connection.exec_driver_sql(query).scalar()
    if installed is None:
        return None
    if not installed:
        connection.exec_driver_sql("CREATE EXTENSION rdkit")
    query = "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'rdkit'"
    return str(connection.exec_driver_sql(query).scalar_one())


def _maker(connection: Connection) -> str:
    cartridge = connection.exec_driver_sql("SELECT rdkit_toolkit_version()").scalar_one()
    return f"layout {LAYOUT}, cartridge {cartridge}, rdkit {rdkit.__version__}, standard {STANDARD_VERSION}"


def _made_by(connection: Connection) -> str | None:
    if connection.exec_driver_sql("SELECT to_regclass('atomas_structures.state')").scalar() is None:
        return None
    made_by: str | None = connection.exec_driver_sql("SELECT made_by FROM atomas_structures.state").scalar()
    return made_by
