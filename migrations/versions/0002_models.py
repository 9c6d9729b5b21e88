"""Models: which one serves and which are being filled, compounds that cannot be encoded, jobs that were begun."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("model_versions") as table:
        table.add_column(sa.Column("state", TEXT, nullable=False, server_default="UNREGISTERED"))
        for name in ("path", "molecule_standard"):
            table.add_column(sa.Column(name, TEXT, nullable=True))
        for name in ("dimension", "max_tokens", "fill"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("filled", sa.BigInteger(), nullable=False, server_default="0"))
        for name in ("create_time", "update_time", "end_time"):
            table.add_column(sa.Column(name, TIME, nullable=True))
    serving = sa.text("state = 'SERVING'")
    op.create_index("uq_model_versions_serving", "model_versions", ["state"], unique=True, sqlite_where=serving, postgresql_where=serving)
    # No batch: a new column that may be NULL needs no copy of the largest table there is, on either database.
    op.add_column("index_entries", sa.Column("error", TEXT, nullable=True))
    op.create_table(
        "job_starts",
        sa.Column("job", TEXT, nullable=False),
        sa.Column("start", TEXT, nullable=False),
        sa.Column("beat_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("job", "start", name="pk_job_starts"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("job_starts")
    # Compounds that could not be encoded count as not indexed: the older release would take the note for an index entry.
    op.execute(sa.text("DELETE FROM index_entries WHERE error IS NOT NULL"))
    op.drop_column("index_entries", "error")
    op.drop_index("uq_model_versions_serving", "model_versions")
    with op.batch_alter_table("model_versions") as table:
        for name in (
            "state",
            "path",
            "molecule_standard",
            "dimension",
            "max_tokens",
            "fill",
            "filled",
            "create_time",
            "update_time",
            "end_time",
        ):
            table.drop_column(name)
