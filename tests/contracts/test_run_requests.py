"""After a successful test of a credential, or in a new process, what AWS refused is tried again at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.run import RunError
from phasesync.core.sync import SyncConfig, SyncStatus
from phasesync.store import Store
from tests.support.aws import ACCOUNT
from tests.support.stores import access_key, add_sync, after, claim_due, run_of, sync_draft

LATER = timedelta(minutes=15)


def fail(store: Store, error: str, status: SyncStatus = SyncStatus.FAILING) -> None:
    """End the runs of all syncs that are due with an error."""
    for claim in claim_due(store):
        sync = store.sync_states.load(claim).sync
        failed = RunError(cls=error, code=None, message="refused", request_id=None, hint=None)
        changes = {"reads": {sync.environment_id: sync.source_revision}, "status": status, "failures": 1}
        store.runs.finish(claim, run_of(claim, error=failed), after(retry_in=LATER, due_in=LATER, **changes))


def due(store: Store) -> list[str]:
    """Names of the syncs that a daemon would run now."""
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    return sorted(names[claim.sync_id] for claim in claim_due(store))


def a_test_succeeds(store: Store) -> None:
    store.credentials.mark(store.credentials.get("aws").id, CredentialStatus.VERIFIED, account=ACCOUNT)


def a_daemon_starts(store: Store) -> None:
    store.sync_requests.retry_refused()


WAKES = [a_test_succeeds, a_daemon_starts]


@pytest.mark.parametrize("wake", WAKES)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("CredentialRejectedError", SyncStatus.FAILING),
        ("PermissionDeniedError", SyncStatus.FAILING),
        ("DestinationUnavailableError", SyncStatus.FAILING),
        ("AccountMismatchError", SyncStatus.HALTED),
    ],
)
def test_what_aws_refused_is_tried_again_at_once(
    store: Store, wake: Callable[[Store], None], error: str, status: SyncStatus
) -> None:
    add_sync(store)
    fail(store, error, status)
    assert due(store) == []

    wake(store)

    assert due(store) == ["web"]


@pytest.mark.parametrize("wake", WAKES)
def test_what_something_else_stands_in_the_way_of_waits_on(store: Store, wake: Callable[[Store], None]) -> None:
    """AWS's quotas, a held plan, a reference that leads nowhere: another identity changes nothing about them."""
    add_sync(store)
    fail(store, "ThrottledError")

    wake(store)

    assert due(store) == []


def test_a_test_wakes_the_syncs_of_the_roles_that_the_credential_assumes_and_no_others(store: Store) -> None:
    add_sync(store)
    store.credentials.add("role", access_key(source_name="aws"))
    store.credentials.add("other", access_key())
    for name in ("role", "other"):
        store.syncs.add_sync(sync_draft(f"by-{name}", credential=name, config=SyncConfig(remote_name=name)))
    fail(store, "CredentialRejectedError")

    a_test_succeeds(store)

    assert due(store) == ["by-role", "web"]


def test_a_test_that_fails_wakes_nothing(store: Store) -> None:
    add_sync(store)
    fail(store, "CredentialRejectedError")

    store.credentials.mark(store.credentials.get("aws").id, CredentialStatus.REJECTED)

    assert due(store) == []
