"""
Since when a sync has its status, notifications, and what they have to say.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOSTLY_NULL = ("behind_since", "budget_full_at")
_INSTANTS = ("status_since", *_MOSTLY_NULL)


def upgrade() -> None:
    for column in _INSTANTS:
        op.add_column("syncs", sa.Column(column, sa.BigInteger()))
    op.create_index("ix_syncs_settled_status_status_since", "syncs", ["settled_status", "status_since"])
    for column in _MOSTLY_NULL:
        condition = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_syncs_{column}", "syncs", [column], sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    op.drop_index("ix_syncs_settled_status_status_since", "syncs")
    for column in _MOSTLY_NULL:
        op.drop_index(f"ix_syncs_{column}", "syncs")
    for column in _INSTANTS:
        op.drop_column("syncs", column)
