"""One sync with what is known of it now, as a frozen value. What it writes at AWS is in `remote.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from phasesync.core.status import SyncStatus, Trigger
from phasesync.core.sync_config import Adopt, SyncConfig


@dataclass(frozen=True, kw_only=True)
class Paused:
    """Who paused a sync, when and why. `until` None = until somebody resumes it."""

    by: str
    at: datetime
    reason: str
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Sync:
    """
    One environment and path -> one destination, with what is known of it now.

    Attributes:
        version: grows with every change of the configuration.
        account: the AWS account it writes to, None until pinned.
        adopt: a consent that the next run carries out, None when there is none.
        adopt_versions: remote name -> version that the operator saw when consenting. After an import another version is
            not written over; a consent to overwrite is for these names, and for every name where there are none. A name
            that is missing stands for an object that did not exist then.
        approved_digest: digest of held changes that somebody approved, None when there is none.
        reads: environment id -> revision that the newest run read (-1 = never read).
        source_revision: revision of its environment now.
        applied_revision: revision of its environment that the newest successful run applied, None = never.
        settled_status: status that the newest run left behind; `status` is derived from it and the rest.
        status_reason: one line for the operator, None when nothing is to be said.
        failures: failed runs in a row; drives the pause before the next.
        retry_at: earliest time of the next run that an edit or a check may cause, None = at once.
        next_due_at: when the next check is due, None = nothing is due by time.
        running: whether a claim is good now.
    """

    id: str
    name: str
    environment_id: str
    app: str
    environment: str
    path: str
    credential_id: str
    credential: str
    destination_kind: str
    region: str
    version: int
    config: SyncConfig
    account: str | None
    adopt: Adopt | None
    adopt_versions: Mapping[str, str] = field(default_factory=dict)
    approved_digest: str | None
    paused: Paused | None
    reads: Mapping[str, int]
    source_revision: int
    applied_revision: int | None
    settled_status: SyncStatus
    status_reason: str | None
    failures: int
    retry_at: datetime | None
    next_due_at: datetime | None
    requested: Trigger | None
    running: bool
    pending: bool
    last_run_id: str | None
    created_at: datetime

    @property
    def environment_label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.environment}"
