"""Generations: what was asked of the decoder, and what it found."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "generations",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", text, nullable=False),
        sa.Column("request", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("counts", text, nullable=False),
        sa.Column("neighbours", text, nullable=False),
        sa.Column("shortfall", text),
        sa.Column("error", text),
        sa.Column("worker", text),
        sa.Column("beat_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("key", name="pk_generations"),
        sa.UniqueConstraint("id", name="uq_generations_id"),
    )
    running = sa.text("end_time IS NULL")
    op.create_index("ix_generations_running", "generations", ["key"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "generation_findings",
        sa.Column("generation_key", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("content", text, nullable=False),
        sa.PrimaryKeyConstraint("generation_key", "ordinal", name="pk_generation_findings"),
        sa.ForeignKeyConstraint(["generation_key"], ["generations.key"], name="fk_generation_findings_generation_key", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("generation_findings")
    op.drop_table("generations")
