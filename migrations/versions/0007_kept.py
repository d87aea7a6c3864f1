"""
Root keys that change, an audit log, scheduled backups, and with which older releases a schema works.

Revision: 0007
Follows: 0006

It only adds, so the release of 0006 goes on working with it: `schema_compatibility` says so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WORKS_WITH = "0006"
LOCKS = ("daemons", "data_keys", "instance")
GROWS_WITH = ()


def upgrade() -> None:
    compatibility = op.create_table(
        "schema_compatibility",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("works_with", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_compatibility"),
    )
    op.bulk_insert(compatibility, [{"id": 1, "works_with": WORKS_WITH}])
    op.add_column("instance", sa.Column("server", sa.Text()))
    op.add_column("data_keys", sa.Column("retired_at", sa.BigInteger()))
    op.add_column("daemons", sa.Column("root_keys", sa.Text()))
    op.add_column("daemons", sa.Column("release", sa.String(32)))
    op.create_table(
        "root_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("wrapped", sa.LargeBinary()),
        sa.Column("wrapped_by", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_root_keys"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.Text()),
        sa.Column("source", sa.Text()),
        sa.Column("action", sa.String(64)),
        sa.Column("object", sa.Text()),
        sa.Column("outcome", sa.String(32)),
        sa.Column("details", sa.LargeBinary()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    for columns in (["at"], ["kind", "at"], ["actor", "number"], ["object", "number"]):
        op.create_index(f"ix_audit_{'_'.join(columns)}", "audit", columns)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("chained", sa.LargeBinary(), nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("first_chained", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.create_table(
        "backup_schedules",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("succeeded_at", sa.BigInteger()),
        sa.Column("failed_at", sa.BigInteger()),
        sa.Column("error_class", sa.String(64)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_backup_schedules"),
    )


def downgrade() -> None:
    for table in ("backup_schedules", "audit_head", "audit", "root_keys", "schema_compatibility"):
        op.drop_table(table)
    for column in ("release", "root_keys"):
        op.drop_column("daemons", column)
    op.drop_column("data_keys", "retired_at")
    op.drop_column("instance", "server")
