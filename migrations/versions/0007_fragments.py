"""Fragments: what is known of a model says how long their vectors are; the index is filled anew, because its points had none before."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("fragment_dimension", sa.Integer(), nullable=False, server_default="0"))
    # Whatever has no entry is encoded and written again, in place, by the sweep of any server; searches go on meanwhile.
    op.execute("DELETE FROM index_entries")


def downgrade() -> None:
    with op.batch_alter_table("model_versions") as table:
        table.drop_column("fragment_dimension")
