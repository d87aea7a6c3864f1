"""
The first schema.

Revision: 0001
Follows: nothing

Written out in full and never changed afterwards: it must make the same tables whatever `tables.py` says later. Instants
are microseconds since 1970, ciphertexts and digests are binary.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WORKS_WITH = "0001"
LOCKS = ()
GROWS_WITH = ()


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("restored_at", sa.BigInteger()),
        sa.Column("generation_floor", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
    )

    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("root_key_id", sa.String(length=40), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
    )

    op.create_table(
        "apps",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_apps"),
        sa.UniqueConstraint("name_key", name="uq_apps_name_key"),
    )

    op.create_table(
        "environments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("app_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name="fk_environments_app_id"),
        sa.ForeignKeyConstraint(["data_key_id"], ["data_keys.id"], name="fk_environments_data_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
        sa.UniqueConstraint("app_id", "name_key", name="uq_environments_app_id_name_key"),
    )

    op.create_table(
        "secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("environment_id", sa.String(length=40), nullable=False),
        sa.Column("lookup", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("is_set", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name="fk_secrets_environment_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        sa.UniqueConstraint("environment_id", "lookup", name="uq_secrets_environment_id_lookup"),
    )

    op.create_table(
        "secret_versions",
        sa.Column("secret_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary()),
        sa.Column("comment", sa.LargeBinary()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["secret_id"], ["secrets.id"], name="fk_secret_versions_secret_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("secret_id", "version", name="pk_secret_versions"),
    )

    op.create_table(
        "credentials",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=32)),
        sa.Column("source_id", sa.String(length=40)),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["source_id"], ["credentials.id"], name="fk_credentials_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.UniqueConstraint("name_key", name="uq_credentials_name_key"),
    )
    op.create_index("ix_credentials_source_id", "credentials", ["source_id"])

    op.create_table(
        "syncs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=64), nullable=False),
        sa.Column("environment_id", sa.String(length=40), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.String(length=40), nullable=False),
        sa.Column("destination_kind", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("account", sa.String(length=32)),
        sa.Column("adopt", sa.String(length=32)),
        sa.Column("adopt_versions", sa.Text()),
        sa.Column("approved_digest", sa.Text()),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.Column("destination_key", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text()),
        sa.Column("paused_at", sa.BigInteger()),
        sa.Column("paused_reason", sa.LargeBinary()),
        sa.Column("paused_until", sa.BigInteger()),
        sa.Column("applied_revision", sa.BigInteger()),
        sa.Column("settled_status", sa.String(length=32), nullable=False),
        sa.Column("status_reason", sa.LargeBinary()),
        sa.Column("error_class", sa.String(length=64)),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_run_id", sa.String(length=40)),
        sa.Column("objects", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.BigInteger()),
        sa.Column("next_due_at", sa.BigInteger()),
        sa.Column("requested", sa.String(length=32)),
        sa.Column("requested_by", sa.Text()),
        sa.Column("request_number", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("claim_owner", sa.Text()),
        sa.Column("claim_until", sa.BigInteger()),
        sa.Column("claim_trigger", sa.String(length=32)),
        sa.Column("claim_actor", sa.Text()),
        sa.Column("claim_request", sa.BigInteger()),
        sa.Column("claimed_at", sa.BigInteger()),
        sa.Column("interrupted_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], name="fk_syncs_credential_id"),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name="fk_syncs_environment_id"),
        sa.PrimaryKeyConstraint("id", name="pk_syncs"),
        sa.UniqueConstraint("destination_key", name="uq_syncs_destination_key"),
        sa.UniqueConstraint("name_key", name="uq_syncs_name_key"),
    )
    op.create_index("ix_syncs_credential_id", "syncs", ["credential_id"])
    op.create_index("ix_syncs_environment_id", "syncs", ["environment_id"])
    op.create_index("ix_syncs_next_due_at", "syncs", ["next_due_at"])

    op.create_table(
        "sync_reads",
        sa.Column("sync_id", sa.String(length=40), nullable=False),
        sa.Column("environment_id", sa.String(length=40), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name="fk_sync_reads_environment_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sync_id"], ["syncs.id"], name="fk_sync_reads_sync_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sync_id", "environment_id", name="pk_sync_reads"),
    )
    op.create_index("ix_sync_reads_environment_id", "sync_reads", ["environment_id"])

    op.create_table(
        "journal",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sync_id", sa.String(length=40), nullable=False),
        sa.Column("remote_name", sa.String(length=512), nullable=False),
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("arn", sa.Text()),
        sa.Column("version_id", sa.Text()),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["sync_id"], ["syncs.id"], name="fk_journal_sync_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
        sa.UniqueConstraint(
            "sync_id", "account", "region", "remote_name", name="uq_journal_sync_id_account_region_remote_name"
        ),
    )

    op.create_table(
        "runs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sync_id", sa.String(length=40), nullable=False),
        sa.Column("trigger", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger()),
        sa.Column("aws_calls", sa.Integer(), nullable=False),
        sa.Column("versions_written", sa.Integer(), nullable=False),
        sa.Column("error_class", sa.String(length=64)),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["sync_id"], ["syncs.id"], name="fk_runs_sync_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_ended_at", "runs", ["ended_at"])
    op.create_index("ix_runs_sync_id_number", "runs", ["sync_id", "number"])

    op.create_table(
        "daemons",
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_daemons"),
    )

    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chores"),
    )


def downgrade() -> None:
    op.drop_table("chores")
    op.drop_table("daemons")
    op.drop_table("runs")
    op.drop_table("journal")
    op.drop_table("sync_reads")
    op.drop_table("syncs")
    op.drop_table("credentials")
    op.drop_table("secret_versions")
    op.drop_table("secrets")
    op.drop_table("environments")
    op.drop_table("apps")
    op.drop_table("data_keys")
    op.drop_table("instance")
