"""${message}

Revision: ${up_revision}
Follows: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

# `phasesync db migrate --check` says these; tests compare them with what the migration does.
# The oldest schema whose release goes on working with this one; if it is not this one, the migration writes it into
# schema_compatibility.
WORKS_WITH = ${repr(up_revision)}
# Tables from before that others wait for until it ends, on PostgreSQL.
LOCKS = ()
# Tables from before whose rows it goes through.
GROWS_WITH = ()


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
