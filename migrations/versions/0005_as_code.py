"""
As code, windows, approvals, and a store that moved.

Revision: 0005
Follows: 0004

`projects` and `owned_objects` hold which document owns an object, and since when it was changed by hand. `apps.windows`
holds maintenance windows; those of a sync are in its configuration. `environments.approvers` protects an environment,
whose changes wait in `change_requests`. `instance.retired_to` marks a database whose copy is in use.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WORKS_WITH = "0005"
LOCKS = ("apps", "environments", "instance", "secret_versions")
GROWS_WITH = ()

COLUMNS = (
    ("instance", "retired_at", sa.BigInteger()),
    ("instance", "retired_to", sa.Text()),
    ("apps", "windows", sa.LargeBinary()),
    ("environments", "approvers", sa.Integer()),
    ("secret_versions", "approved_by", sa.Text()),
)
_EDITED = "edited_at IS NOT NULL"


def upgrade() -> None:
    for table, name, type_ in COLUMNS:
        op.add_column(table, sa.Column(name, type_))
    op.create_table(
        "change_requests",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("environment_id", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["environments.id"],
            name="fk_change_requests_environment_id_environments",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_change_requests"),
    )
    for column in ("environment_id", "digest", "expires_at"):
        op.create_index(f"ix_change_requests_{column}", "change_requests", [column])
    op.create_table(
        "projects",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(64), nullable=False),
        sa.Column("manage", sa.String(32), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.Column("applied_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name_key", name="uq_projects_name_key"),
    )
    op.create_table(
        "owned_objects",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("object_id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("edited_at", sa.BigInteger()),
        sa.Column("removed_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_owned_objects_project_id_projects", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("kind", "object_id", name="pk_owned_objects"),
    )
    op.create_index("ix_owned_objects_project_id", "owned_objects", ["project_id"])
    op.create_index(
        "ix_owned_objects_edited_at",
        "owned_objects",
        ["edited_at"],
        sqlite_where=sa.text(_EDITED),
        postgresql_where=sa.text(_EDITED),
    )


def downgrade() -> None:
    for table in ("owned_objects", "projects", "change_requests"):
        op.drop_table(table)
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
