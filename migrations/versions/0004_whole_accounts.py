"""
Whole accounts: what is due as an index range, how far sweeps have read, and indexes for lists and retention.

Revision: 0004
Follows: 0003

`woken_at` is set by an edit of what a sync reads, and by a request of a run. `due_at` is the earliest time at which a
daemon may claim the sync; NULL means never, as things stand. `urgency` is the order among those that are due. The
database computes both from the other columns of the row, so that no writer can forget them. SQLite computes them when
it reads a row, since it cannot add stored ones; its index holds them all the same.

`sweeps` holds how far the lists of an account and Region were read. With its two indexes a sweep reads the syncs of one
account and Region, and the journal by remote names, a part at a time.

The indexes on `error_class`, `claimed_at` and `claim_until` answer what daemons ask every second.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORKS_WITH = "0004"
LOCKS = ("journal", "leases", "runs", "sync_reads", "syncs")
GROWS_WITH = ("journal", "leases", "runs", "sync_reads", "syncs")

_BACK_OFF_OVER = "CASE WHEN retry_at > woken_at THEN retry_at ELSE woken_at END"
_WANTED_AT = (
    "CASE WHEN requested IS NOT NULL THEN coalesce(woken_at, 0) "
    "WHEN woken_at IS NULL THEN next_due_at "
    f"WHEN next_due_at < ({_BACK_OFF_OVER}) THEN next_due_at "
    f"ELSE {_BACK_OFF_OVER} END"
)
_FREE_AT = "CASE WHEN claim_owner IS NOT NULL THEN coalesce(claim_until, 0) ELSE 0 END"
_RESUMED_AT = "CASE WHEN paused_at IS NOT NULL THEN paused_until ELSE 0 END"


def _latest(first: str, second: str) -> str:
    """The later of two instants; NULL if one of them is NULL. The functions for it differ between the databases."""
    return f"CASE WHEN ({first}) >= ({second}) THEN ({first}) WHEN ({first}) < ({second}) THEN ({second}) END"


DUE_AT = _latest(_latest(_WANTED_AT, _FREE_AT), _RESUMED_AT)
URGENCY = "CASE WHEN requested IS NOT NULL THEN 0 WHEN woken_at IS NOT NULL THEN 1 ELSE 2 END"
SWEEP_INDEXES = (
    ("syncs", ("destination_kind", "account", "region", "credential_id", "id")),
    ("journal", ("remote_name",)),
)
INDEXES = (("urgency", "due_at"), ("claimed_at",))

# What lists, counts and retention read. Each replaced index is the beginning of its successor.
REPLACED_INDEXES = (
    ("syncs", ("credential_id",), ("credential_id", "name_key")),
    ("sync_reads", ("environment_id",), ("environment_id", "revision")),
    ("runs", ("ended_at",), ("ended_at", "number")),
)
LIST_INDEXES = (
    # Without the many NULLs: otherwise SQLite's statistics say that the index excludes nothing, and it is not used.
    ("ix_syncs_error_class", "syncs", ("error_class",), "error_class IS NOT NULL"),
    ("ix_syncs_claim_until", "syncs", ("claim_until",), "claim_until IS NOT NULL"),
    ("ix_syncs_settled_status_name_key", "syncs", ("settled_status", "name_key"), None),
    ("ix_syncs_paused_at", "syncs", ("paused_at",), "paused_at IS NOT NULL"),
    ("ix_runs_outcome_ended_at_number", "runs", ("outcome", "ended_at", "number"), None),
    ("ix_leases_requested_at_id", "leases", ("requested_at", "id"), None),
    ("ix_leases_live", "leases", ("requested_at", "id"), "status NOT IN ('revoked', 'expired')"),
    ("ix_leases_ended_at", "leases", ("ended_at",), "ended_at IS NOT NULL"),
)


def upgrade() -> None:
    stored = op.get_bind().dialect.name == "postgresql"
    op.add_column("syncs", sa.Column("woken_at", sa.BigInteger()))
    op.execute(
        "UPDATE syncs SET woken_at = 0 WHERE requested IS NOT NULL OR EXISTS (SELECT 1 FROM sync_reads "
        "JOIN environments ON environments.id = sync_reads.environment_id WHERE sync_reads.sync_id = syncs.id "
        "AND environments.revision > sync_reads.revision)"
    )
    op.add_column("syncs", sa.Column("due_at", sa.BigInteger(), sa.Computed(DUE_AT, persisted=stored)))
    op.add_column("syncs", sa.Column("urgency", sa.Integer(), sa.Computed(URGENCY, persisted=stored)))
    for columns in INDEXES:
        op.create_index(f"ix_syncs_{'_'.join(columns)}", "syncs", list(columns))
    for table, former, columns in REPLACED_INDEXES:
        _replace_index(table, former, columns)
    for name, table, columns, where in LIST_INDEXES:
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, list(columns), sqlite_where=condition, postgresql_where=condition)
    for table, sorted_by in SWEEP_INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(sorted_by)}", table, list(sorted_by))
    op.create_table(
        "sweeps",
        sa.Column("destination_kind", sa.String(64), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("changed_since", sa.BigInteger()),
        sa.Column("full_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("destination_kind", "account", "region", name="pk_sweeps"),
    )


def downgrade() -> None:
    op.drop_table("sweeps")
    for table, sorted_by in reversed(SWEEP_INDEXES):
        op.drop_index(f"ix_{table}_{'_'.join(sorted_by)}", table)
    for name, table, _, _ in reversed(LIST_INDEXES):
        op.drop_index(name, table)
    for table, former, columns in reversed(REPLACED_INDEXES):
        _replace_index(table, columns, former)
    for columns in reversed(INDEXES):
        op.drop_index(f"ix_syncs_{'_'.join(columns)}", "syncs")
    for column in ("urgency", "due_at", "woken_at"):
        op.drop_column("syncs", column)


def _replace_index(table: str, former: tuple[str, ...], columns: tuple[str, ...]) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
    op.drop_index(f"ix_{table}_{'_'.join(former)}", table)
