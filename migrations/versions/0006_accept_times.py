"""Accept times of chunks: how old the oldest waiting work is. Chunks of before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("import_chunks", sa.Column("accept_time", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("import_chunks", "accept_time")
