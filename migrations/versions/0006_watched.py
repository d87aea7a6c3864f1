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


def upgrade() -> None:
    op.add_column("syncs", sa.Column("status_since", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("syncs", "status_since")
