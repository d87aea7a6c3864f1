"""Which action each writing method of the stores writes to the audit log; a new method needs a decision."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.audit import AuditKind
from phasesync.core.backup_schedule import BackupSchedule, Folder
from phasesync.core.change_request import RequestStatus
from phasesync.core.credential import CredentialStatus
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.project.ownership import Manage
from phasesync.core.run import ChangeResult, Outcome, RunError
from phasesync.core.sync import Adopt, Paused, SyncConfig, Trigger
from phasesync.errors import ApprovalNeededError, StaleDatabaseError
from phasesync.store import Store
from phasesync.store.data_keys import encrypted_tables
from phasesync.store.projects import Ownership
from phasesync.store.tables import leases
from tests.support.alerts import draft, notify
from tests.support.stores import (
    ACTOR,
    EXPIRED,
    TTL,
    access_key,
    add_dynamic,
    add_sync,
    after,
    alter,
    claim_one,
    issue_lease,
    put,
    run_of,
    sync_draft,
    write,
)
from tests.support.values import NOW

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

SHOP = ("shop", "production")
PAUSED = Paused(by=ACTOR, at=NOW, reason="", until=None)


def request(store: Store) -> str:
    """Ask for a change of a protected environment; return the id of the request."""
    store.apps.protect_environment(*SHOP, approvers=1)
    with pytest.raises(ApprovalNeededError) as needed:
        put(store, write("URL", "another"))
    return store.change_requests.file(needed.value.proposal, list(needed.value.environments), actor=ACTOR).id


def change(outcome: Outcome = Outcome.APPLIED) -> ChangeResult:
    return ChangeResult(action="put", remote_name="shop/web", outcome=outcome, reason="r", version_id="v")


def end_run(store: Store, **changes: Any) -> None:
    claim = claim_one(store)
    store.runs.finish(claim, run_of(claim, **changes), after())


def replace_keys(store: Store) -> None:
    assert all(store.data_keys.replace(key) for key in store.data_keys.in_use())


def remove_keys(store: Store) -> None:
    replace_keys(store)
    for table in encrypted_tables():
        store.data_keys.encrypt_anew(table, after=None, limit=500)
    assert store.data_keys.remove_former().kept == frozenset()


def halt(store: Store) -> None:
    claim = claim_one(store)
    store.runs.halt(claim, run_of(claim, outcome=Outcome.FAILED), retry_in=TTL)


def stale(store: Store) -> None:
    error = RunError(cls=StaleDatabaseError.__name__, code=None, message="m", request_id=None, hint=None)
    end_run(store, outcome=Outcome.FAILED, error=error)


def interrupt(store: Store) -> None:
    claim_one(store, ttl=EXPIRED)
    store.claims.release_expired()


def ended(store: Store, event: LeaseEvent) -> None:
    lease = issue_lease(store, store.dynamics.get("ci"))
    store.leases(ttl=TTL).change(lease.id, lambda lease, _now: lease, entry=Entry(event=event, actor=ACTOR))


def drop(store: Store) -> None:
    lease = issue_lease(store, store.dynamics.get("ci"))
    alter(store, leases, lease.id, details=b"eve")
    store.leases(ttl=TTL).drop_altered(lease.id)


def dynamic(store: Store) -> None:
    config = replace(store.dynamics.get("ci").config, max_ttl=timedelta(hours=9))
    store.dynamics.update("ci", credential="aws", config=config)


def sync(store: Store) -> None:
    stored = store.syncs.get_sync("web")
    config = replace(stored.config, description="another")
    store.syncs.update_sync("web", config=config, path="/", credential="aws", region=stored.region, adopt=None)


def paused(store: Store) -> Store:
    store.sync_requests.pause("web", PAUSED)
    return store


OWNERSHIP = Ownership(name="shop", manage=Manage.STRICT, source="shop.yaml", objects={}, dropped=())


def back_up(store: Store) -> BackupSchedule:
    return store.backup_schedules.set(
        Folder(path="/backups"), every=timedelta(days=1), keep=7, credential_id=None, region=None, actor=ACTOR
    )


WRITES: dict[str, tuple[Callable[[Store], object], str]] = {
    "audit.add": (
        lambda store: store.audit.add("secret.reveal", "shop/production", kind=AuditKind.REVEAL),
        "secret.reveal",
    ),
    "apps.add_app": (lambda store: store.apps.add_app("blog"), "app.add"),
    "apps.update_app": (lambda store: store.apps.update_app("shop", new_name="store"), "app.update"),
    "apps.remove_app": (lambda store: store.apps.remove_app("none"), "app.remove"),
    "apps.add_environment": (lambda store: store.apps.add_environment("shop", "new"), "environment.add"),
    "apps.update_environment": (
        lambda store: store.apps.update_environment(*SHOP, new_name="prod"),
        "environment.update",
    ),
    "apps.protect_environment": (
        lambda store: store.apps.protect_environment(*SHOP, approvers=1),
        "environment.protect",
    ),
    "apps.remove_environment": (lambda store: store.apps.remove_environment("shop", "empty"), "environment.remove"),
    "secrets.edit": (lambda store: put(store, write("URL", "another")), "secret.set"),
    "secrets.edit of a rollback": (
        lambda store: store.secrets.edit(*SHOP, actor=ACTOR, origin="rollback", writes=[write("URL", "x")]),
        "secret.rollback",
    ),
    "secrets.clone_environment": (
        lambda store: store.secrets.clone_environment(*SHOP, "copy", actor=ACTOR),
        "environment.clone",
    ),
    "credentials.add": (lambda store: store.credentials.add("more", access_key()), "credential.add"),
    "credentials.update": (
        lambda store: store.credentials.update("aws", access_key(region="eu-west-1"), account=None),
        "credential.update",
    ),
    "credentials.rename": (lambda store: store.credentials.rename("aws", "other"), "credential.rename"),
    "credentials.mark": (
        lambda store: store.credentials.mark(store.credentials.get("aws").id, CredentialStatus.VERIFIED),
        "credential.test",
    ),
    "credentials.remove": (lambda store: store.credentials.remove("unused"), "credential.remove"),
    "syncs.add_sync": (
        lambda store: store.syncs.add_sync(sync_draft("second", config=SyncConfig(remote_name="shop/second"))),
        "sync.add",
    ),
    "syncs.update_sync": (sync, "sync.update"),
    "syncs.rename": (lambda store: store.syncs.rename("web", "site"), "sync.rename"),
    "syncs.remove_sync": (lambda store: store.syncs.remove_sync("web"), "sync.remove"),
    "sync_requests.pause": (lambda store: store.sync_requests.pause("web", PAUSED), "sync.pause"),
    "sync_requests.resume": (lambda store: paused(store).sync_requests.resume("web", actor=ACTOR), "sync.resume"),
    "sync_requests.request": (
        lambda store: store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR),
        "sync.trigger",
    ),
    "sync_requests.approve": (lambda store: store.sync_requests.approve("web", "d", actor="grace"), "sync.approve"),
    "sync_requests.consent_to_adopt": (
        lambda store: store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR),
        "sync.adopt",
    ),
    "sync_requests.pause_all": (lambda store: store.sync_requests.pause_all(["web"], PAUSED), "sync.pause"),
    "sync_requests.resume_all": (
        lambda store: paused(store).sync_requests.resume_all(["web"], actor=ACTOR),
        "sync.resume",
    ),
    "sync_requests.request_all": (
        lambda store: store.sync_requests.request_all(["web"], Trigger.MANUAL, actor=ACTOR),
        "sync.trigger",
    ),
    "sync_requests.approve_all": (
        lambda store: store.sync_requests.approve_all({"web": "d"}, actor="grace"),
        "sync.approve",
    ),
    "runs.finish": (
        lambda store: end_run(store, changes=[change()], versions_written=1, outcome=Outcome.APPLIED),
        "sync.run",
    ),
    "runs.finish of a run that failed at AWS": (
        lambda store: end_run(store, changes=[change(Outcome.UNKNOWN)], outcome=Outcome.UNKNOWN),
        "sync.run",
    ),
    "runs.finish that proves an older copy": (stale, "db.mark-restored"),
    "claims.release_expired": (interrupt, "sync.run"),
    "restore_mark.accept": (lambda store: store.restore_mark.accept(ahead=9), "db.accept-restore"),
    "dynamics.add": (lambda store: add_dynamic(store, "second"), "dynamic.add"),
    "dynamics.update": (dynamic, "dynamic.update"),
    "dynamics.rename": (lambda store: store.dynamics.rename("ci", "cd"), "dynamic.rename"),
    "dynamics.remove": (lambda store: store.dynamics.remove("ci"), "dynamic.remove"),
    "leases.change": (lambda store: ended(store, LeaseEvent.RENEWED), "lease.renew"),
    "leases.save": (lambda store: ended(store, LeaseEvent.ISSUED), "lease.issue"),
    "leases.reuse": (lambda store: ended(store, LeaseEvent.GIVEN_AGAIN), "lease.issue"),
    "leases.save of a revocation": (lambda store: ended(store, LeaseEvent.REVOKED), "lease.revoke"),
    "leases.drop_altered": (drop, "lease.drop"),
    "change_requests.file": (request, "environment.request"),
    "change_requests.add_approval": (
        lambda store: store.change_requests.add_approval(request(store), actor="grace", reason=""),
        "environment.approve",
    ),
    "change_requests.close": (
        lambda store: store.change_requests.close(request(store), RequestStatus.REJECTED, actor="grace"),
        "environment.reject",
    ),
    "projects.save": (lambda store: store.projects.save(OWNERSHIP, actor=ACTOR), "project.apply"),
    "notifications.add": (lambda store: notify(store, "more"), "notification.add"),
    "notifications.update": (lambda store: store.notifications.update("ops", draft()), "notification.update"),
    "backup_schedules.set": (back_up, "db.schedule-backup"),
    "backup_schedules.remove": (
        lambda store: store.backup_schedules.remove(back_up(store).place),
        "db.unschedule-backup",
    ),
    "backup_schedules.succeeded": (lambda store: store.backup_schedules.succeeded(back_up(store)), "db.backup"),
    "notifications.remove": (lambda store: store.notifications.remove("ops"), "notification.remove"),
    "data_keys.replace": (replace_keys, "key.rotate-data"),
    "data_keys.remove_former": (remove_keys, "key.rotate-data"),
}
"""Method of a store -> a call, and the action of the newest row afterwards."""

NOTHING = {
    # The log itself: what was emptied is a row that the housekeeping adds.
    "audit": {"drop_empty", "empty", "head", "head_of", "page", "verify"},
    "apps": {
        *("check_change", "check_removal", "find_app_by_id", "find_environment_by_id", "get_app", "get_environment"),
        *("list_apps", "list_environments", "page_apps", "page_environments"),
    },
    # Whoever shows values writes that: `cli/reveals.py`.
    "secrets": {"check_editable", "get_secret", "history", "list_secrets", "page_secrets", "snapshot"},
    "credentials": {"get", "get_by_id", "list_all", "page", "statuses"},
    "syncs": {
        *("count_by_status", "find_by_id", "find_similar", "get_sync", "get_syncs", "has_sync", "list_syncs"),
        *("names_of", "page_syncs", "stored_names"),
    },
    # What the daemon requests of itself: the run that follows is a row if it changes anything.
    "sync_requests": {"retry_refused", "retry_waiting_for_window", "waiting_for_window", "wake_where_behind"},
    "sync_states": {"inputs", "load", "load_all", "state_of", "states_by_id"},
    "claims": {
        # Claims that take over an expired one log the interrupted run as `release_expired` does.
        *("claim", "claim_due", "claim_if_due", "due_for_queue", "next_due", "release", "renew", "write_conditions"),
    },
    # The run that saves it is a row.
    "journal": {"save_entry"},
    # A halted run has changed nothing.
    "runs": {"before", "full_run_id", "get_run", "halt", "list_runs", "page_runs", "prune_runs", "tail"},
    "sweeps": {
        *("defer", "due_count", "due_soon", "entries", "forget", "journalled", "objects", "places", "save"),
        *("save_full", "suspect"),
    },
    "dynamics": {"check_removal", "find_by_id", "get", "list_all", "page"},
    # Before AWS is asked: `lease.issue` follows, done or failed. Claims and their ends change nothing that counts.
    "leases": {
        *("claim", "claim_due", "defer", "extend", "full_id", "get", "kept", "list_leases", "page_leases"),
        *("prune", "records", "release", "request", "statuses"),
    },
    "change_requests": {"approved_plan", "find", "list_requests", "lock", "prune", "lapse"},
    "projects": {"applied", "check_by_hand", "list_projects", "owner_of"},
    "notifications": {"find_by_id", "get", "list_all", "page", "sent"},
    # The daemon logs what failed, and counts it.
    "backup_schedules": {"claim_due", "failed", "list_all", "release"},
    "alerts": {"check_times", "counts", "stale_after"},
    # Batches of a rotation: `replace` and `remove_former` are its rows.
    "data_keys": {"count_rows", "encrypt_anew", "former", "in_use"},
    "outbox": {"claim", "failed", "has_work", "make", "prune", "release", "sent"},
    "figures": {"read"},
    "daemons": {"alive", "beat", "claim_chore", "deregister", "since_chore"},
    "clock_watch": {"check"},
}
"""Methods that read, and those whose effect another row tells or that concern nobody: claims, heartbeats, retention."""


@pytest.fixture
def filled(store: Store) -> Store:
    put(store, write())
    add_sync(store)
    add_dynamic(store)
    notify(store)
    put(store, environment="empty")
    store.credentials.add("unused", access_key())
    store.apps.add_app("none")
    return store


@pytest.mark.parametrize(("call", "action"), WRITES.values(), ids=WRITES)
def test_a_write_says_what_it_did(filled: Store, call: Callable[[Store], object], action: str) -> None:
    before = filled.audit.head()
    assert before is not None
    call(filled)
    rows = filled.audit.page(oldest_first=True, after=str(before.number)).items
    actions = [row.entry.action for row in rows if row.entry]
    assert actions[-1] == action
    assert filled.audit.verify([before]).findings == ()


@pytest.mark.parametrize("noun", sorted(NOTHING))
def test_every_method_of_the_store_writes_to_the_log_or_not_on_purpose(store: Store, noun: str) -> None:
    kind = type(store.leases(ttl=TTL) if noun == "leases" else getattr(store, noun))
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    written = {name.split()[0].partition(".")[2] for name in WRITES if name.startswith(f"{noun}.")}
    assert methods - NOTHING[noun] == written
    assert not NOTHING[noun] - methods


@pytest.mark.parametrize(
    "call",
    [
        halt,
        lambda store: end_run(store),
        lambda store: store.apps.update_app("shop", description=""),
        lambda store: put(store, write()),
        lambda store: store.sync_requests.resume("web", actor=ACTOR),
    ],
    ids=["a halted run", "a run that only looks", "no change", "no edit", "not paused"],
)
def test_what_changes_nothing_is_no_row(filled: Store, call: Callable[[Store], object]) -> None:
    before = filled.audit.head()
    call(filled)
    assert filled.audit.head() == before
