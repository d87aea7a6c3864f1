"""
Columns for keyed MACs over what is not encrypted: pointers, names, states, and which rows exist.

Revision: 0003
Follows: 0002

Adds columns only. The MACs themselves need the root key: `phasesync.store.migration_0003` computes them in the same
transaction, after the last step of the schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORKS_WITH = "0003"
LOCKS = ("dynamic_secrets", "environments", "instance", "leases")
GROWS_WITH = ("environments", "secrets", "syncs", "journal", "leases")

ADDED = (("instance", "registry"), ("environments", "mac"), ("dynamic_secrets", "leases_mac"), ("leases", "mac"))


def upgrade() -> None:
    for table, column in ADDED:
        op.add_column(table, sa.Column(column, sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """The MACs of syncs stay as they are: the former release refuses these syncs until they are added again."""
    for table, column in reversed(ADDED):
        op.drop_column(table, column)
