"""Changes of many syncs: one transaction, few statements, and the error of one leaves the others alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phasesync.core.sync import Paused, SyncFilter, SyncStatus, Trigger
from phasesync.errors import CiphertextError, IllegalTransitionError, NotFoundError
from phasesync.store import Store, tables
from tests.support.sql import traffic
from tests.support.stores import ACTOR, add_sync, alter, claim_due

PAUSED = Paused(by="ada", at=datetime(2026, 1, 2, tzinfo=UTC), reason="the account moves", until=None)
NAMES = ("api", "Docs", "web")


@pytest.fixture
def filled(store: Store) -> Store:
    """Three syncs."""
    for name in NAMES:
        add_sync(store, name)
    return store


def pauses(store: Store) -> dict[str, str | None]:
    """Name -> reason of the pause, None if it is not paused; altered ones are left out."""
    listed = [sync for sync in store.syncs.list_syncs() if sync.settled_status is not SyncStatus.HALTED]
    return {sync.name: sync.paused.reason if sync.paused is not None else None for sync in listed}


def test_several_syncs_are_paused_and_resumed(filled: Store) -> None:
    assert filled.sync_requests.pause_all(["API", "web"], PAUSED) == {}
    assert pauses(filled) == {"api": PAUSED.reason, "Docs": None, "web": PAUSED.reason}
    assert filled.syncs.get_sync("api").paused == PAUSED

    assert filled.sync_requests.resume_all(list(NAMES), actor="bob") == {}

    assert pauses(filled) == dict.fromkeys(NAMES)
    requested = {sync.name: sync.requested for sync in filled.syncs.list_syncs()}
    assert requested == {"api": Trigger.RESUME, "Docs": None, "web": Trigger.RESUME}
    assert {claim.trigger for claim in claim_due(filled)} == {Trigger.RESUME, Trigger.CHANGE}


def test_paused_syncs_and_unknown_ones_are_left_alone(filled: Store) -> None:
    filled.sync_requests.pause("web", PAUSED)
    errors = filled.sync_requests.request_all(["web", "nope", "Docs"], Trigger.MANUAL, actor=ACTOR)
    assert {name: type(error) for name, error in errors.items()} == {
        "web": IllegalTransitionError,
        "nope": NotFoundError,
    }
    assert [sync.name for sync in filled.syncs.list_syncs() if sync.requested is Trigger.MANUAL] == ["Docs"]


def test_an_altered_sync_is_left_alone_and_the_others_are_changed(filled: Store) -> None:
    alter(filled, tables.syncs, filled.syncs.get_sync("Docs").id, region="us-east-1")
    errors = filled.sync_requests.pause_all(NAMES, PAUSED)
    assert {name: type(error) for name, error in errors.items()} == {"Docs": CiphertextError}
    assert pauses(filled) == {"api": PAUSED.reason, "web": PAUSED.reason}


def test_several_plans_are_approved_or_none(filled: Store) -> None:
    with pytest.raises(NotFoundError):
        filled.sync_requests.approve_all({"api": "a" * 16, "nope": "b" * 16}, actor=ACTOR)
    assert filled.syncs.get_sync("api").approved_digest is None

    filled.sync_requests.approve_all({"api": "a" * 16, "web": "b" * 16}, actor=ACTOR)

    approved = {sync.name: sync.approved_digest for sync in filled.syncs.list_syncs()}
    assert approved == {"api": "a" * 16, "Docs": None, "web": "b" * 16}
    assert filled.syncs.get_sync("web").requested is Trigger.MANUAL


def test_names_are_found_by_filters_and_whatever_their_case(filled: Store) -> None:
    assert filled.syncs.names_of() == ["api", "Docs", "web"]
    assert filled.syncs.names_of(SyncFilter(statuses=frozenset({SyncStatus.PAUSED}))) == []
    assert filled.syncs.stored_names(["WEB", "docs"]) == ["web", "Docs"]
    assert [sync.name for sync in filled.syncs.get_syncs(["web", "nope", "api"])] == ["web", "api"]


def test_the_number_of_statements_does_not_grow_with_the_number_of_syncs(filled: Store) -> None:
    changes = (
        lambda names: filled.sync_requests.pause_all(names, PAUSED),
        lambda names: filled.sync_requests.resume_all(names, actor=ACTOR),
        lambda names: filled.sync_requests.request_all(names, Trigger.MANUAL, actor=ACTOR),
    )
    for change in changes:
        sent = []
        for names in (["api"], ["Docs", "web"]):
            with traffic(filled.database.engine) as seen:
                assert change(names) == {}
            assert seen.transactions == 1
            sent.append(len(seen.statements))
        assert sent[0] == sent[1] <= 9
