"""
All tables. `migrations/versions` creates the same ones step by step; a test compares the two.

    apps ─< environments ─< secrets ─< secret_versions
                  │  └─ data_keys
                  ├─< sync_reads >─┐
                  ├─────< syncs ───┴─< journal, runs
             credentials ─<┤
                  └─────< dynamic_secrets ─< leases ─< lease_events
    environments ─< change_requests
    projects ─< owned_objects
    notifications ─< notices >─ alerts
    notifications ─< messages
    audit, audit_head, root_keys, backup_schedules
    instance, daemons, chores, sweeps, schema_compatibility

Columns of type LargeBinary are ciphertexts, digests or wrapped keys. Values, names of keys, comments, reasons and
credentials exist in no other form. Instants are microseconds of the database's clock.

Keyed MACs and the registry may be NULL only in the schema, so that a migration can add them: a row without one is
refused. `docs/security.md` says what each column is worth to an attacker who can write to the database but has no key.
"""

from typing import Final

import sqlalchemy as sa

from phasesync.store.db_time import Instant

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

LIVE_LEASE: Final = "status NOT IN ('revoked', 'expired')"
"""
The condition of an index, as it has to be in a query too: SQLite compares the text, and knows no values of parameters.
An unknown status counts as live: it is an alteration, which a daemon finds and reports.
"""

OPEN_ALERT: Final = "ended_at IS NULL"
"""The condition of the index of open alerts, which is unique: one of each condition for a subject."""


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    # As options of the index, the condition would load the dialects of both databases. The migration has it.
    return sa.Index(name, *columns, unique=unique, info={"where": where})


_Id = sa.String(40)
_Name = sa.String(64)
_Word = sa.String(32)
_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")

instance = sa.Table(
    "instance",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1: one row
    sa.Column("instance_id", _Id, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("restored_at", Instant),  # since when it counts as older than AWS, until an operator accepts it
    # generations of objects that are not in the journal begin above this
    sa.Column("generation_floor", sa.BigInteger, nullable=False, server_default="0"),
    # since when nobody may work with this database, since its copy is in use, and where that is (without a password)
    sa.Column("retired_at", Instant),
    sa.Column("retired_to", sa.Text),
    # id and version of what an operator defines (`instance.REGISTERED`); bound to the instance, its restoration and the
    # floor
    sa.Column("registry", sa.LargeBinary),
    sa.Column("server", sa.Text),  # the run of the database server on which it was last compared with AWS
)

# The oldest revision whose release can work with this schema: one row, which a migration writes. See `migrate.py`.
schema_compatibility = sa.Table(
    "schema_compatibility",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("works_with", _Word, nullable=False),
)

# The root keys that wrap data keys, or did. A root key itself is here only if something else encrypts it.
root_keys = sa.Table(
    "root_keys",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("source", _Word, nullable=False),  # file, environment, systemd-credential, aws-kms, age
    sa.Column("status", _Word, nullable=False),  # next, current, former
    sa.Column("wrapped", sa.LargeBinary),  # the root key, encrypted by AWS KMS; NULL = it is kept elsewhere
    sa.Column("wrapped_by", sa.Text),  # the ARN of the KMS key
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),  # since when it has its status
    sa.Column("mac", sa.LargeBinary),  # covers all but the instants; see `root_keys.py`
)

data_keys = sa.Table(
    "data_keys",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("purpose", _Word, nullable=False),
    sa.Column("root_key_id", _Id, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("retired_at", Instant),  # since when another key takes its place; NULL = it encrypts
)

# --- the source

apps = sa.Table(
    "apps",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),  # lower case: names are unique regardless of case
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("windows", sa.LargeBinary),  # maintenance windows of its syncs; NULL = none
)

environments = sa.Table(
    "environments",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("app_id", sa.ForeignKey("apps.id"), nullable=False),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", sa.ForeignKey("data_keys.id"), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("approvers", sa.Integer),  # how many others have to approve a change; NULL = it is not protected
    # covers this row, the names of its app, and which secrets it has in which version; see `environment_mac.py`
    sa.Column("mac", sa.LargeBinary),
    sa.UniqueConstraint("app_id", "name_key"),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("environment_id", sa.ForeignKey("environments.id", ondelete="CASCADE"), nullable=False),
    sa.Column("lookup", sa.LargeBinary, nullable=False),  # keyed digest of environment, folder and key
    sa.Column("name", sa.LargeBinary, nullable=False),  # folder and key
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("is_set", sa.Boolean, nullable=False),
    sa.UniqueConstraint("environment_id", "lookup"),
)

secret_versions = sa.Table(
    "secret_versions",
    metadata,
    sa.Column("secret_id", sa.ForeignKey("secrets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.LargeBinary),  # type and bytes; NULL if the key was unset
    sa.Column("comment", sa.LargeBinary),
    sa.Column("revision", sa.BigInteger, nullable=False),  # revision of the environment that added it
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("origin", _Word, nullable=False),
    sa.Column("approved_by", sa.Text),  # who approved it, if the environment was protected
)

# --- credentials for AWS

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),
    sa.Column("type", _Word, nullable=False),
    sa.Column("region", _Word, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("status", _Word, nullable=False),
    sa.Column("account", _Word),
    sa.Column("source_id", sa.ForeignKey("credentials.id"), index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # role ARN, External ID, access key
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("verified_at", Instant),
)

# --- syncs

syncs = sa.Table(
    "syncs",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),
    # what an operator set; `mac` covers it
    sa.Column("environment_id", sa.ForeignKey("environments.id"), nullable=False, index=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("credential_id", sa.ForeignKey("credentials.id"), nullable=False),
    sa.Column("destination_kind", sa.String(64), nullable=False),
    sa.Column("region", _Word, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("account", _Word),
    sa.Column("adopt", _Word),
    sa.Column("adopt_versions", sa.Text),  # remote name -> version that was shown at the consent
    sa.Column("approved_digest", sa.Text),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    # partition, account or credential, Region, remote name in lower case: two syncs never write to one object
    sa.Column("destination_key", sa.Text, nullable=False, unique=True),
    sa.Column("paused_by", sa.Text),
    sa.Column("paused_at", Instant),
    sa.Column("paused_reason", sa.LargeBinary),
    sa.Column("paused_until", Instant),
    # state after the newest run
    sa.Column("applied_revision", sa.BigInteger),
    sa.Column("settled_status", _Word, nullable=False),
    sa.Column("status_since", Instant),  # since when; NULL = since before it was kept
    sa.Column("alerted_status", _Word),  # the status that its alerts are for; NULL = they have to be brought in line
    sa.Column("behind_since", Instant),  # when the oldest edit was committed that no run has applied; NULL = none
    sa.Column("budget_full_at", Instant),  # when the version budget of its most written object is full again
    sa.Column("status_reason", sa.LargeBinary),
    sa.Column("error_class", sa.String(64)),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_run_id", _Id),
    sa.Column("objects", sa.Integer, nullable=False),  # number of remote objects of the newest run
    # when it runs next
    sa.Column("retry_at", Instant),
    sa.Column("next_due_at", Instant, index=True),
    sa.Column("requested", _Word),
    sa.Column("requested_by", sa.Text),
    sa.Column("request_number", sa.BigInteger, nullable=False),  # grows with each request
    sa.Column("woken_at", Instant),  # since when an edit or a request waits for a run; kept until a run has a result
    # GENERATED: the database computes these two from the other columns (migration 0004)
    sa.Column("due_at", Instant),  # the earliest time at which a daemon may claim it; NULL = never
    sa.Column("urgency", sa.Integer),  # 0 = requested, 1 = edited, 2 = due by time
    # the claim
    sa.Column("fence", sa.BigInteger, nullable=False),  # grows with every claim
    sa.Column("claim_owner", sa.Text),
    sa.Column("claim_until", Instant),
    sa.Column("claim_trigger", _Word),
    sa.Column("claim_actor", sa.Text),
    sa.Column("claim_request", sa.BigInteger),  # the newest request that this claim answers
    sa.Column("claimed_at", Instant, index=True),
    sa.Column("interrupted_at", Instant),  # start of the former claim, if it expired without a result
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_syncs_urgency_due_at", "urgency", "due_at"),
    _partial_index("ix_syncs_error_class", "error_class", where="error_class IS NOT NULL"),
    _partial_index("ix_syncs_claim_until", "claim_until", where="claim_until IS NOT NULL"),
    # for lists and counts by status: see `sync_statuses.py`
    sa.Index("ix_syncs_credential_id_name_key", "credential_id", "name_key"),
    sa.Index("ix_syncs_settled_status_name_key", "settled_status", "name_key"),
    _partial_index("ix_syncs_paused_at", "paused_at", where="paused_at IS NOT NULL"),
    # for metrics: see `figures.py`
    sa.Index("ix_syncs_settled_status_status_since", "settled_status", "status_since"),
    _partial_index("ix_syncs_behind_since", "behind_since", where="behind_since IS NOT NULL"),
    _partial_index("ix_syncs_budget_full_at", "budget_full_at", where="budget_full_at IS NOT NULL"),
    sa.Index(
        "ix_syncs_destination_kind_account_region_credential_id_id",
        *("destination_kind", "account", "region", "credential_id", "id"),
    ),
)

GENERATED: Final = ("due_at", "urgency")
"""Columns of `syncs` that only the database writes."""

sync_reads = sa.Table(
    "sync_reads",
    metadata,
    sa.Column("sync_id", sa.ForeignKey("syncs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("environment_id", sa.ForeignKey("environments.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),  # -1 = never read
    # What is behind an environment is a range of it.
    sa.Index("ix_sync_reads_environment_id_revision", "environment_id", "revision"),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("sync_id", sa.ForeignKey("syncs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("remote_name", sa.String(512), nullable=False, index=True),
    sa.Column("account", _Word, nullable=False),
    sa.Column("region", _Word, nullable=False),
    sa.Column("arn", sa.Text),
    sa.Column("version_id", sa.Text),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("fingerprint", sa.Text),
    sa.Column("details", sa.LargeBinary, nullable=False),  # digests by key name, tags, open intent
    sa.UniqueConstraint("sync_id", "account", "region", "remote_name"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("number", _Sequence, primary_key=True),  # follows the order of commits
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("sync_id", sa.ForeignKey("syncs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("trigger", _Word, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("outcome", _Word, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    sa.Column("next_attempt_at", Instant),
    sa.Column("aws_calls", sa.Integer, nullable=False),
    sa.Column("versions_written", sa.Integer, nullable=False),
    sa.Column("error_class", sa.String(64)),
    sa.Column("details", sa.LargeBinary, nullable=False),  # revisions, counts, error and changes
    sa.Index("ix_runs_sync_id_number", "sync_id", "number"),
    sa.Index("ix_runs_ended_at_number", "ended_at", "number"),
    sa.Index("ix_runs_outcome_ended_at_number", "outcome", "ended_at", "number"),
    sqlite_autoincrement=True,
)

# --- dynamic secrets

dynamic_secrets = sa.Table(
    "dynamic_secrets",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),
    sa.Column("environment_id", sa.ForeignKey("environments.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("credential_id", sa.ForeignKey("credentials.id"), nullable=False, index=True),
    sa.Column("issuer", sa.String(64), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("config", sa.LargeBinary, nullable=False),  # bound to all of the above
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("leases_mac", sa.LargeBinary),  # covers the set of its live leases; see `lease_rows.py`
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("dynamic_id", sa.ForeignKey("dynamic_secrets.id", ondelete="CASCADE"), nullable=False, index=True),
    # the credential that issued it; an ended lease may outlive its credential
    sa.Column("credential_id", _Id, nullable=False, index=True),
    sa.Column("status", _Word, nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("max_expires_at", Instant, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("details", sa.LargeBinary, nullable=False),  # spec, access key id, reasons
    sa.Column("kept", sa.LargeBinary),  # issued values, if they are kept
    sa.Column("mac", sa.LargeBinary),  # covers status, times and details; see `lease_rows.py`
    # the claim
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("claim_owner", sa.Text),
    sa.Column("claim_until", Instant),
    sa.Index("ix_leases_status_expires_at", "status", "expires_at"),
    sa.Index("ix_leases_requested_at_id", "requested_at", "id"),
    _partial_index("ix_leases_live", "requested_at", "id", where=LIVE_LEASE),
    _partial_index("ix_leases_ended_at", "ended_at", where="ended_at IS NOT NULL"),
)

LEASE_IS_LIVE: Final = sa.literal_column(f"leases.{LIVE_LEASE}", sa.Boolean())
"""The condition that a lease has not ended, as the index of the live leases has it."""

lease_events = sa.Table(
    "lease_events",
    metadata,
    sa.Column("number", _Sequence, primary_key=True),
    sa.Column("lease_id", sa.ForeignKey("leases.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", _Word, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("detail", sa.LargeBinary),
    sqlite_autoincrement=True,
)

# --- changes of protected environments

change_requests = sa.Table(
    "change_requests",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("environment_id", sa.ForeignKey("environments.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("status", _Word, nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    # what is to be done, who asked, who approved and how many have to; bound to all of the above
    sa.Column("details", sa.LargeBinary, nullable=False),
)

# --- as code

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),
    sa.Column("manage", _Word, nullable=False),
    sa.Column("source", sa.Text, nullable=False),  # the files it was applied from, for messages
    sa.Column("applied_at", Instant, nullable=False),
    sa.Column("applied_by", sa.Text, nullable=False),
)

# which project document owns an object
owned_objects = sa.Table(
    "owned_objects",
    metadata,
    sa.Column("kind", _Word, primary_key=True),
    sa.Column("object_id", _Id, primary_key=True),
    sa.Column("project_id", sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("spec", sa.LargeBinary, nullable=False),  # as it was applied
    sa.Column("edited_at", Instant),  # the first change that somebody made by hand since it was applied
    sa.Column("removed_at", Instant),  # when somebody removed it by hand
    _partial_index("ix_owned_objects_edited_at", "edited_at", where="edited_at IS NOT NULL"),
)

# --- notifications

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("name_key", _Name, nullable=False, unique=True),
    sa.Column("app_id", sa.ForeignKey("apps.id"), index=True),  # only what belongs to this app; NULL = everything
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # channel, signing secret and rules; bound to all of the above
    sa.Column("created_at", Instant, nullable=False),
)

# What is wrong, or was. A row opens and ends in the transaction that changes the state of its subject.
alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("condition", _Word, nullable=False),
    sa.Column("subject_kind", _Word, nullable=False),  # sync or lease
    sa.Column("subject_id", _Id, nullable=False),  # no foreign key: the end of a subject ends its alerts
    sa.Column("subject", sa.Text, nullable=False),  # its name when the alert opened
    sa.Column("since", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("ended_by", _Word),  # why it ended: in-sync, repaired, paused, removed, over
    sa.Column("news_at", Instant),  # when it opened or ended, until the daemon has looked at that
    _partial_index("ix_alerts_open", "subject_id", "condition", where=OPEN_ALERT, unique=True),
    _partial_index("ix_alerts_news_at", "news_at", where="news_at IS NOT NULL"),
    _partial_index("ix_alerts_ended_at", "ended_at", where="ended_at IS NOT NULL"),
)

# How far each notification is with each alert
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("notification_id", sa.ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("alert_id", sa.ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),  # how many messages there were: 0 = none yet, 1 = the first
    sa.Column("next_at", Instant),  # when the next one is due; NULL = there is none
    sa.Column("made_at", Instant),  # when the newest one was made
    sa.Column("message_id", _Id),  # the newest one
    sa.Column("cause", sa.String(128)),  # what it has in common with others of a digest
    sa.Index("ix_notices_alert_id", "alert_id"),
    _partial_index("ix_notices_next_at", "next_at", where="next_at IS NOT NULL"),
)

# The outbox
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("notification_id", sa.ForeignKey("notifications.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("step", _Word, nullable=False),
    sa.Column("condition", _Word, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),  # bound to the message and its notification
    sa.Column("created_at", Instant, nullable=False, index=True),
    sa.Column("next_at", Instant),  # when it is sent next; NULL = it was sent, or given up
    sa.Column("after_id", _Id),  # a message that has to be sent before
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error_class", sa.String(64)),  # of the newest attempt
    sa.Column("error_code", sa.String(64)),  # what the receiver answered to it, as a code
    sa.Column("sent_at", Instant),
    # the claim
    sa.Column("claim_owner", sa.Text),
    sa.Column("claim_until", Instant),
    _partial_index("ix_messages_next_at", "next_at", where="next_at IS NOT NULL"),
)

# --- the audit log

# Who did what. Each row is chained to the one before; see `audit.py`.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3 and so on, without a gap
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", _Word, nullable=False),  # for retention: change, reveal, lease, approval, access, refusal
    sa.Column("actor", sa.Text),  # this and what follows is NULL once retention has emptied the row
    sa.Column("source", sa.Text),
    sa.Column("action", sa.String(64)),
    sa.Column("object", sa.Text),
    sa.Column("outcome", _Word),
    sa.Column("details", sa.LargeBinary),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # keyed digest of all of the above
    sa.Column("mac", sa.LargeBinary, nullable=False),  # covers the digest and the MAC of the row before
    sa.Index("ix_audit_at", "at"),
    sa.Index("ix_audit_kind_at", "kind", "at"),
    sa.Index("ix_audit_actor_number", "actor", "number"),
    sa.Index("ix_audit_object_number", "object", "number"),
)

# One row: where the chain begins and ends. Whoever adds a row locks it.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("chained", sa.LargeBinary, nullable=False),  # the MAC of the newest row
    sa.Column("first_number", sa.BigInteger, nullable=False),  # rows before it were removed by retention
    sa.Column("first_chained", sa.LargeBinary, nullable=False),  # what the first row that is left follows
    sa.Column("mac", sa.LargeBinary, nullable=False),  # covers this row
)

# --- backups

backup_schedules = sa.Table(
    "backup_schedules",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # where to, how often, how many are kept; bound to the above
    sa.Column("next_at", Instant),
    sa.Column("succeeded_at", Instant),  # when the newest one was complete
    sa.Column("failed_at", Instant),
    sa.Column("error_class", sa.String(64)),  # of the newest attempt; NULL = it succeeded
    sa.Column("created_at", Instant, nullable=False),
)

# --- daemons

daemons = sa.Table(
    "daemons",
    metadata,
    sa.Column("owner", sa.String(255), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("role", _Word, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("beat_at", Instant, nullable=False),
    sa.Column("until", Instant, nullable=False),
    sa.Column("root_keys", sa.Text),  # ids of the root keys that it has; NULL = its release does not say
    sa.Column("release", _Word),
)

chores = sa.Table(
    "chores",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("claimed_at", Instant, nullable=False),
)

# how far the lists of an account and Region were read
sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("destination_kind", sa.String(64), primary_key=True),
    sa.Column("account", _Word, primary_key=True),
    sa.Column("region", _Word, primary_key=True),
    # changes with this LastChangedDate or a later one are not all compared yet; by AWS's clock
    sa.Column("changed_since", Instant),
    sa.Column("full_at", Instant),  # when the newest complete list of everything began
)
