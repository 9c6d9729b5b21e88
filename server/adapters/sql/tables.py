"""The schema, one for SQLite and PostgreSQL; every change of it is a migration."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class PlainText(TypeDecorator[str]):
    """Text compared and ordered by its bytes, whatever the locale of the server: pages end and begin at the same place everywhere."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(collation="C") if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        # PostgreSQL stores no NUL, nobody stores half a surrogate pair: one odd name must not stop an import for good.
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class UtcTime(TypeDecorator[datetime]):
    """An aware time, read back in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite gives out numbers by itself only to a column that is declared INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")


UNREGISTERED = "UNREGISTERED"


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


# Inside, rows are tied by short integer keys: with 10^9 compounds every repeated byte is a gigabyte.
libraries = Table(
    "libraries",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("id", PlainText, nullable=False, unique=True),
    Column("display_name", PlainText, nullable=False),
    Column("description", PlainText, nullable=False),
    # Kept by whoever adds or removes compounds, in the same transaction: counting rows would read the whole library.
    _count("compound_count"),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    # Set when the library waits to be purged.
    Column("delete_time", UtcTime),
)

library_fields = Table(
    "library_fields",
    metadata,
    Column("library_key", _Key, ForeignKey(libraries.c.key), primary_key=True),
    Column("name", PlainText, primary_key=True),
    Column("kind", PlainText, primary_key=True),
)

compounds = Table(
    "compounds",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("library_key", _Key, ForeignKey(libraries.c.key), nullable=False),
    Column("inchikey", PlainText, nullable=False),
    Column("smiles", PlainText, nullable=False),
    # NULL when the structure is its own parent, as most are.
    Column("parent_smiles", PlainText),
    # Its first 14 characters are the skeleton: looked up as a range of this index.
    Column("parent_inchikey", PlainText, nullable=False, index=True),
    # JSON as text: PostgreSQL's own type refuses NaN, which is a value here like any other.
    Column("descriptors", PlainText, nullable=False),
    Column("records", PlainText, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    # Set when the row waits for the removal of its vector.
    Column("delete_time", UtcTime),
    UniqueConstraint("library_key", "inchikey"),
)
Index(
    "ix_compounds_deleted",
    compounds.c.key,
    sqlite_where=compounds.c.delete_time.is_not(None),
    postgresql_where=compounds.c.delete_time.is_not(None),
)

# What names and ids are looked up by (`server.domain.names`); the names themselves are in the records.
name_keys = Table(
    "name_keys",
    metadata,
    Column("compound_key", _Key, ForeignKey(compounds.c.key, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, index=True),
    sqlite_with_rowid=False,
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("version", PlainText, nullable=False, unique=True),
    # How the service uses the model; UNREGISTERED when an older release filled its index.
    Column("state", PlainText, nullable=False, server_default=UNREGISTERED),
    Column("path", PlainText),
    Column("dimension", Integer, nullable=False, server_default="0"),
    Column("max_tokens", Integer, nullable=False, server_default="0"),
    # Of a row from before there was this column 0, until the model is next configured or filled.
    Column("fragment_dimension", Integer, nullable=False, server_default="0"),
    Column("molecule_standard", PlainText),
    # Number and progress of the fill.
    Column("fill", Integer, nullable=False, server_default="0"),
    _count("filled"),
    Column("create_time", UtcTime),
    Column("update_time", UtcTime),
    Column("end_time", UtcTime),
)
# One row decides which model answers: the switch is one transaction.
Index(
    "uq_model_versions_serving",
    model_versions.c.state,
    unique=True,
    sqlite_where=model_versions.c.state == "SERVING",
    postgresql_where=model_versions.c.state == "SERVING",
)

index_entries = Table(
    "index_entries",
    metadata,
    Column("compound_key", _Key, ForeignKey(compounds.c.key, ondelete="CASCADE"), primary_key=True),
    Column("model_key", Integer, ForeignKey(model_versions.c.key), primary_key=True),
    Column("revision", Integer, nullable=False),
    # Why this revision cannot be encoded; NULL when the index holds it.
    Column("error", PlainText),
    sqlite_with_rowid=False,
)

operations = Table(
    "operations",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("id", PlainText, nullable=False, unique=True),
    Column("library_key", _Key, ForeignKey(libraries.c.key), nullable=False),
    Column("request_id", PlainText, nullable=False),
    Column("source", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    # JSON of reason and message.
    Column("error", PlainText),
    Column("last_position", BigInteger, nullable=False, server_default="0"),
    # Sums over the chunks, kept with them, so that asking for progress costs the same for any length of import.
    _count("chunks"),
    _count("indexed_chunks"),
    _count("received"),
    _count("created"),
    _count("updated"),
    _count("duplicate"),
    _count("rejected"),
    _count("indexed"),
    _count("shortened_texts"),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    Column("end_time", UtcTime),
    UniqueConstraint("library_key", "request_id"),
)
Index(
    "ix_operations_running",
    operations.c.key,
    sqlite_where=operations.c.end_time.is_(None),
    postgresql_where=operations.c.end_time.is_(None),
)

import_chunks = Table(
    "import_chunks",
    metadata,
    Column("operation_key", _Key, ForeignKey(operations.c.key), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", PlainText, nullable=False),
    # Work is left: neither indexed nor given up with its operation.
    Column("pending", Boolean, nullable=False),
    _count("row_count"),
    _count("created"),
    _count("updated"),
    _count("duplicate"),
    _count("rejected"),
    # Compressed JSON; NULL once no longer needed.
    Column("changed", LargeBinary),
    Column("rows", LargeBinary),
    # NULL for chunks of older releases.
    Column("accept_time", UtcTime),
)
Index(
    "ix_import_chunks_pending",
    import_chunks.c.operation_key,
    import_chunks.c.number,
    sqlite_where=import_chunks.c.pending,
    postgresql_where=import_chunks.c.pending,
)

rejections = Table(
    "rejections",
    metadata,
    Column("operation_key", _Key, ForeignKey(operations.c.key), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("reason", PlainText, nullable=False),
    # JSON of message and row.
    Column("said", PlainText, nullable=False),
    sqlite_with_rowid=False,
)

rejection_counts = Table(
    "rejection_counts",
    metadata,
    Column("operation_key", _Key, ForeignKey(operations.c.key), primary_key=True),
    Column("reason", PlainText, primary_key=True),
    _count("row_count"),
)

job_starts = Table(
    "job_starts",
    metadata,
    # Name and payload of the job, or their hash where they are long.
    Column("job", PlainText, primary_key=True),
    Column("start", PlainText, primary_key=True),
    # Renewed while the job is being done.
    Column("beat_time", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("prefix", PlainText, nullable=False, unique=True),
    Column("secret_hash", PlainText, nullable=False),
    Column("display_name", PlainText, nullable=False),
    # JSON: level by library.
    Column("scopes", PlainText, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("expire_time", UtcTime),
    Column("revoke_time", UtcTime),
)

generations = Table(
    "generations",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("id", PlainText, nullable=False, unique=True),
    # JSON.
    Column("request", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    # JSON.
    Column("counts", PlainText, nullable=False),
    Column("neighbours", PlainText, nullable=False),
    Column("shortfall", PlainText),
    # JSON of reason and message.
    Column("error", PlainText),
    # Who works on it, with a sign of life renewed meanwhile: a silent worker's place is free.
    Column("worker", PlainText),
    Column("beat_time", UtcTime),
    Column("create_time", UtcTime, nullable=False),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
)
Index(
    "ix_generations_running",
    generations.c.key,
    sqlite_where=generations.c.end_time.is_(None),
    postgresql_where=generations.c.end_time.is_(None),
)

generation_findings = Table(
    "generation_findings",
    metadata,
    Column("generation_key", _Key, ForeignKey(generations.c.key, ondelete="CASCADE"), primary_key=True),
    # From 1, in the order in which they were found.
    Column("ordinal", Integer, primary_key=True),
    # JSON.
    Column("content", PlainText, nullable=False),
    sqlite_with_rowid=False,
)
