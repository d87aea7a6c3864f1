"""
Since when a sync has its status, notifications, and what they have to say.

Revision: 0006
Follows: 0005

`alerts` holds what is wrong with syncs and leases, `notifications` whom to tell, `notices` how far each of them is with
each alert, and `messages` is their outbox.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WORKS_WITH = "0006"
LOCKS = ("apps", "syncs")
GROWS_WITH = ("syncs",)

_MOSTLY_NULL = ("behind_since", "budget_full_at")
_INSTANTS = ("status_since", *_MOSTLY_NULL)


def upgrade() -> None:
    for column in _INSTANTS:
        op.add_column("syncs", sa.Column(column, sa.BigInteger()))
    op.add_column("syncs", sa.Column("alerted_status", sa.String(32)))
    op.create_index("ix_syncs_settled_status_status_since", "syncs", ["settled_status", "status_since"])
    for column in _MOSTLY_NULL:
        _partial_index(f"ix_syncs_{column}", "syncs", [column], f"{column} IS NOT NULL")
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(64), nullable=False),
        sa.Column("app_id", sa.String(40)),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name="fk_notifications_app_id_apps"),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        sa.UniqueConstraint("name_key", name="uq_notifications_name_key"),
    )
    op.create_index("ix_notifications_app_id", "notifications", ["app_id"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("condition", sa.String(32), nullable=False),
        sa.Column("subject_kind", sa.String(32), nullable=False),
        sa.Column("subject_id", sa.String(40), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("ended_by", sa.String(32)),
        sa.Column("news_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    _partial_index("ix_alerts_open", "alerts", ["subject_id", "condition"], "ended_at IS NULL", unique=True)
    _partial_index("ix_alerts_news_at", "alerts", ["news_at"], "news_at IS NOT NULL")
    _partial_index("ix_alerts_ended_at", "alerts", ["ended_at"], "ended_at IS NOT NULL")
    op.create_table(
        "notices",
        sa.Column("notification_id", sa.String(40), nullable=False),
        sa.Column("alert_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("made_at", sa.BigInteger()),
        sa.Column("message_id", sa.String(40)),
        sa.Column("cause", sa.String(128)),
        _owned_by("notices", "notification_id", "notifications"),
        _owned_by("notices", "alert_id", "alerts"),
        sa.PrimaryKeyConstraint("notification_id", "alert_id", name="pk_notices"),
    )
    op.create_index("ix_notices_alert_id", "notices", ["alert_id"])
    _partial_index("ix_notices_next_at", "notices", ["next_at"], "next_at IS NOT NULL")
    op.create_table(
        "messages",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("notification_id", sa.String(40), nullable=False),
        sa.Column("step", sa.String(32), nullable=False),
        sa.Column("condition", sa.String(32), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("after_id", sa.String(40)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_class", sa.String(64)),
        sa.Column("error_code", sa.String(64)),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("claim_owner", sa.Text()),
        sa.Column("claim_until", sa.BigInteger()),
        _owned_by("messages", "notification_id", "notifications"),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
    )
    for column in ("notification_id", "created_at"):
        op.create_index(f"ix_messages_{column}", "messages", [column])
    _partial_index("ix_messages_next_at", "messages", ["next_at"], "next_at IS NOT NULL")


def downgrade() -> None:
    for table in ("messages", "notices", "alerts", "notifications"):
        op.drop_table(table)
    op.drop_index("ix_syncs_settled_status_status_since", "syncs")
    for column in _MOSTLY_NULL:
        op.drop_index(f"ix_syncs_{column}", "syncs")
    for column in ("alerted_status", *_INSTANTS):
        op.drop_column("syncs", column)


def _owned_by(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=f"fk_{table}_{column}_{owner}", ondelete="CASCADE")


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
