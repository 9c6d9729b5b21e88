"""Names: what compounds are looked up by; the index is filled anew, because its points had no words before."""

import json

import sqlalchemy as sa
from alembic import op

from server.domain.names import keys_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BATCH = 1_000


def upgrade() -> None:
    op.create_table(
        "name_keys",
        sa.Column("compound_key", KEY, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("compound_key", "number", name="pk_name_keys"),
        sa.ForeignKeyConstraint(["compound_key"], ["compounds.key"], name="fk_name_keys_compound_key", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    _fill(op.get_bind())
    # After the rows: an index is built faster than it is kept.
    op.create_index("ix_name_keys_number", "name_keys", ["number"])
    # Whatever has no entry is encoded and written again, in place, by the sweep of any server; searches go on meanwhile.
    op.execute("DELETE FROM index_entries")


def _fill(connection: sa.Connection) -> None:
    compounds = sa.table("compounds", sa.column("key", KEY), sa.column("records", sa.String()))
    name_keys = sa.table("name_keys", sa.column("compound_key", KEY), sa.column("number", sa.BigInteger()))
    after = -1
    while True:
        query = sa.select(compounds).where(compounds.c.key > after).order_by(compounds.c.key).limit(BATCH)
        rows = connection.execute(query).all()
        if not rows:
            return
        values = [{"compound_key": row.key, "number": number} for row in rows for number in sorted(_numbers(row.records))]
        if values:
            connection.execute(sa.insert(name_keys), values)
        after = rows[-1].key


def _numbers(records: str) -> set[int]:
    said = json.loads(records)
    names = [name for record in said for name in (record.get("name", ""), *record.get("synonyms", ()))]
    return keys_of(names, [record.get("id", "") for record in said])


def downgrade() -> None:
    op.drop_table("name_keys")
