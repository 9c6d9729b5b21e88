"""First schema: libraries, compounds, what each index holds, operations with their chunks and rejections."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Types as they are stored; a migration never changes with the code that reads its tables.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _times(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, TIME, nullable=name in ("delete_time", "end_time")) for name in names]


def _refers(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete=ondelete)


def upgrade() -> None:
    op.create_table(
        "libraries",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        _count("compound_count"),
        *_times("create_time", "update_time", "delete_time"),
        sa.PrimaryKeyConstraint("key", name="pk_libraries"),
        sa.UniqueConstraint("id", name="uq_libraries_id"),
    )
    op.create_table(
        "library_fields",
        sa.Column("library_key", KEY, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("library_key", "name", "kind", name="pk_library_fields"),
        _refers("library_fields", "library_key", "libraries.key"),
    )
    _create_compounds()
    _create_imports()


def _create_compounds() -> None:
    op.create_table(
        "compounds",
        sa.Column("key", KEY, nullable=False),
        sa.Column("library_key", KEY, nullable=False),
        sa.Column("inchikey", TEXT, nullable=False),
        sa.Column("smiles", TEXT, nullable=False),
        sa.Column("parent_smiles", TEXT, nullable=True),
        sa.Column("parent_inchikey", TEXT, nullable=False),
        sa.Column("descriptors", TEXT, nullable=False),
        sa.Column("records", TEXT, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        *_times("create_time", "update_time", "delete_time"),
        sa.PrimaryKeyConstraint("key", name="pk_compounds"),
        sa.UniqueConstraint("library_key", "inchikey", name="uq_compounds_library_key_inchikey"),
        _refers("compounds", "library_key", "libraries.key"),
    )
    op.create_index("ix_compounds_parent_inchikey", "compounds", ["parent_inchikey"])
    deleted = sa.text("delete_time IS NOT NULL")
    op.create_index("ix_compounds_deleted", "compounds", ["key"], sqlite_where=deleted, postgresql_where=deleted)
    op.create_table(
        "model_versions",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_model_versions"),
        sa.UniqueConstraint("version", name="uq_model_versions_version"),
    )
    op.create_table(
        "index_entries",
        sa.Column("compound_key", KEY, nullable=False),
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("compound_key", "model_key", name="pk_index_entries"),
        _refers("index_entries", "compound_key", "compounds.key", ondelete="CASCADE"),
        _refers("index_entries", "model_key", "model_versions.key"),
        sqlite_with_rowid=False,
    )


def _create_imports() -> None:
    op.create_table(
        "operations",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("library_key", KEY, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("error", TEXT, nullable=True),
        _count("last_position"),
        _count("chunks"),
        _count("indexed_chunks"),
        _count("received"),
        _count("created"),
        _count("updated"),
        _count("duplicate"),
        _count("rejected"),
        _count("indexed"),
        _count("shortened_texts"),
        *_times("create_time", "update_time", "end_time"),
        sa.PrimaryKeyConstraint("key", name="pk_operations"),
        sa.UniqueConstraint("id", name="uq_operations_id"),
        sa.UniqueConstraint("library_key", "request_id", name="uq_operations_library_key_request_id"),
        _refers("operations", "library_key", "libraries.key"),
    )
    running = sa.text("end_time IS NULL")
    op.create_index("ix_operations_running", "operations", ["key"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "import_chunks",
        sa.Column("operation_key", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        _count("row_count"),
        _count("created"),
        _count("updated"),
        _count("duplicate"),
        _count("rejected"),
        sa.Column("changed", sa.LargeBinary(), nullable=True),
        sa.Column("rows", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("operation_key", "number", name="pk_import_chunks"),
        _refers("import_chunks", "operation_key", "operations.key"),
    )
    op.create_index(
        "ix_import_chunks_pending",
        "import_chunks",
        ["operation_key", "number"],
        sqlite_where=sa.text("pending = 1"),
        postgresql_where=sa.text("pending"),
    )
    op.create_table(
        "rejections",
        sa.Column("operation_key", KEY, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("said", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("operation_key", "position", name="pk_rejections"),
        _refers("rejections", "operation_key", "operations.key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejection_counts",
        sa.Column("operation_key", KEY, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        _count("row_count"),
        sa.PrimaryKeyConstraint("operation_key", "reason", name="pk_rejection_counts"),
        _refers("rejection_counts", "operation_key", "operations.key"),
    )


def downgrade() -> None:
    for table in (
        "rejection_counts",
        "rejections",
        "import_chunks",
        "operations",
        "index_entries",
        "model_versions",
        "compounds",
        "library_fields",
        "libraries",
    ):
        op.drop_table(table)
