"""What counts as trouble in `phasesync status`."""

from dataclasses import replace
from typing import Any

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.lease import Lease, LeaseStatus
from phasesync.core.sync import Paused, Sync, SyncStatus
from phasesync.core.sync_status import status_of
from phasesync.engine.status_summary import (
    LARGE_LOG_BYTES,
    NEEDS_ATTENTION,
    StatusSummary,
    SyncAttention,
    summarise_status,
)
from tests.support.databases import on_each_database
from tests.support.values import HOUR, NOW, lease
from tests.support.world import World

DAEMON = {"role": "daemon", "host": "host", "pid": 1}
OVERDUE = lease(status=LeaseStatus.ACTIVE, expires_at=NOW - HOUR)


def summary(*, sync: Sync | None = None, **changes: Any) -> StatusSummary:
    status = None if sync is None else status_of(sync, CredentialStatus.VERIFIED)
    values: dict[str, Any] = {
        "syncs": {} if status is None else {status: 1},
        "attention": [sync] if status in NEEDS_ATTENTION else [],
        "credentials": {} if sync is None else {sync.credential_id: CredentialStatus.VERIFIED},
        "leases": [],
        "daemons": [DAEMON],
        "is_revocable": lambda _lease: True,
        "restored": False,
        "now": NOW,
        "log_bytes": 0,
    }
    return summarise_status(**values | changes)


def overdue(of: Lease, **changes: Any) -> bool:
    return summary(leases=[of], **{"daemons": [], **changes}).overdue == (of,)


@on_each_database
def test_a_sync_that_waits_for_a_person_needs_attention(world: World) -> None:
    sync = replace(world.sync, settled_status=SyncStatus.HELD, status_reason="a guard", pending=False, requested=None)

    attention = summary(sync=sync).needs_attention

    assert attention == (SyncAttention(name=sync.name, status=SyncStatus.HELD, reason="a guard"),)


@on_each_database
def test_a_sync_that_is_paused_or_pending_needs_none(world: World) -> None:
    paused = replace(world.sync, paused=Paused(by="me", at=NOW, reason="", until=None))

    assert summary(sync=paused).needs_attention == summary(sync=world.sync).needs_attention == ()
    assert summary(sync=paused).syncs == {"paused": 1}


@on_each_database
def test_it_says_how_many_syncs_that_need_attention_are_not_listed(world: World) -> None:
    held = replace(world.sync, settled_status=SyncStatus.HELD, pending=False, requested=None)

    of_many = summary(sync=held, syncs={SyncStatus.HELD: 700, SyncStatus.FAILING: 31, SyncStatus.IN_SYNC: 5})

    assert (len(of_many.needs_attention), of_many.needs_attention_more) == (1, 730)


def test_a_lease_past_its_end_is_overdue_only_while_no_daemon_runs() -> None:
    assert overdue(OVERDUE)
    assert not overdue(OVERDUE, daemons=[DAEMON])


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        (lease(status=LeaseStatus.ACTIVE), {}),
        (OVERDUE, {"is_revocable": lambda _lease: False}),
        (OVERDUE, {"restored": True}),
        (replace(OVERDUE, error="refused"), {}),
    ],
    ids=["not over", "a session of a role", "perhaps renewed since the backup", "listed as not revoked"],
)
def test_other_leases_are_not(of: Lease, changes: dict[str, Any]) -> None:
    assert not overdue(of, **changes)


def test_a_lease_that_could_not_be_revoked_is_listed_beside_a_daemon_too() -> None:
    failed = lease(status=LeaseStatus.REVOKE_FAILED, error="refused")

    listed = summary(leases=[failed])

    assert (listed.not_revoked, listed.leases) == ((failed,), {"revoke-failed": 1})


def test_a_log_is_large_above_what_is_shortened() -> None:
    assert not summary(log_bytes=LARGE_LOG_BYTES).log_is_large
    assert summary(log_bytes=LARGE_LOG_BYTES + 1).log_is_large
