"""
Dynamic secrets, their leases, and the log of leases.

Revision: 0002
Follows: 0001

Adds tables only, so the previous release still works with its own tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORKS_WITH = "0002"
LOCKS = ("credentials", "environments")
GROWS_WITH = ()


def upgrade() -> None:
    op.create_table(
        "dynamic_secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("environment_id", sa.String(length=40), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.String(length=40), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["environments.id"],
            name="fk_dynamic_secrets_environment_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], name="fk_dynamic_secrets_credential_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dynamic_secrets"),
        sa.UniqueConstraint("name_key", name="uq_dynamic_secrets_name_key"),
    )
    op.create_index("ix_dynamic_secrets_environment_id", "dynamic_secrets", ["environment_id"])
    op.create_index("ix_dynamic_secrets_credential_id", "dynamic_secrets", ["credential_id"])

    op.create_table(
        "leases",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("dynamic_id", sa.String(length=40), nullable=False),
        sa.Column("credential_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("max_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("retry_at", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("kept", sa.LargeBinary()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("claim_owner", sa.Text()),
        sa.Column("claim_until", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["dynamic_id"], ["dynamic_secrets.id"], name="fk_leases_dynamic_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
    )
    op.create_index("ix_leases_dynamic_id", "leases", ["dynamic_id"])
    op.create_index("ix_leases_credential_id", "leases", ["credential_id"])
    op.create_index("ix_leases_status_expires_at", "leases", ["status", "expires_at"])

    op.create_table(
        "lease_events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lease_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("detail", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_lease_events_lease_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_lease_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_lease_events_lease_id", "lease_events", ["lease_id"])


def downgrade() -> None:
    """Users that were issued stay at AWS: revoke the leases first."""
    for table in ("lease_events", "leases", "dynamic_secrets"):
        op.drop_table(table)
