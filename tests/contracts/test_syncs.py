"""Syncs: adding, changing, pausing and requesting them, and one sync for one remote object."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import Adopt, Paused, SyncConfig, SyncStatus, TagMode, Trigger
from phasesync.errors import (
    AlreadyExistsError,
    ClaimHeldError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
)
from tests.support.stores import (
    EXPIRED,
    LONG,
    access_key,
    add_sync,
    after,
    claim_due,
    claim_one,
    put,
    run_of,
    settle,
    sync_draft,
    write,
)

FULL = SyncConfig(
    remote_name="shop/web",
    kms_key="arn:aws:kms:eu-central-1:111122223333:key/1",
    description="of the web shop",
    tags={"team": "web", "cost": "7"},
    tag_mode=TagMode.REPLACE_OWN,
    recovery_days=7,
    interval=timedelta(seconds=90),
    shrink_limit_percent=10,
    shrink_limit_keys=3,
    guard_window=timedelta(hours=5),
)


def paused(**changes: object) -> Paused:
    values = {"by": "ada", "at": datetime(2026, 1, 2, tzinfo=UTC), "reason": "maintenance", "until": None, **changes}
    return Paused(**values)  # type: ignore[arg-type]


def update(store, name="web", **changes):
    values = {
        "config": SyncConfig(remote_name="shop/web"),
        "path": "/",
        "credential": "aws",
        "region": "eu-central-1",
        "adopt": None,
        **changes,
    }
    return store.syncs.update_sync(name, **values)


def test_a_sync_comes_back_as_it_was_given(store):
    added = add_sync(store, "Web", config=FULL, path="/db/", account="111122223333", adopt=Adopt.OVERWRITE)
    assert store.syncs.get_sync("wEB") == added
    assert store.syncs.list_syncs() == [added]
    assert added.config == FULL
    assert all(
        getattr(FULL, member.name) != member.default
        for member in fields(FULL)
        if member.name in ("kms_key", "interval")
    )
    assert (added.path, added.account, added.adopt, added.version) == ("/db", "111122223333", Adopt.OVERWRITE, 1)
    assert (added.environment_label, added.credential) == ("shop/production", "aws")


def test_a_new_sync_is_pending_and_claimed_at_once(store):
    added = add_sync(store)
    assert (added.pending, added.settled_status, added.reads) == (
        True,
        SyncStatus.PENDING,
        {added.environment_id: -1},
    )
    assert claim_one(store).trigger is Trigger.CHANGE


def test_a_sync_needs_what_it_names(store):
    put(store)
    store.credentials.add("aws", access_key())
    with pytest.raises(NotFoundError, match="environment"):
        store.syncs.add_sync(sync_draft(environment="staging"))
    with pytest.raises(NotFoundError, match="app"):
        store.syncs.add_sync(sync_draft(app="blog"))
    with pytest.raises(NotFoundError, match="credential"):
        store.syncs.add_sync(sync_draft(credential="nobody"))
    with pytest.raises(InvalidInputError):
        store.syncs.add_sync(sync_draft("a b"))
    with pytest.raises(InvalidInputError):
        store.syncs.add_sync(sync_draft(path="/../x"))
    assert store.syncs.list_syncs() == []


def test_an_unknown_sync_is_not_found(store):
    add_sync(store)
    for call in (
        lambda: store.syncs.get_sync("nope"),
        lambda: store.sync_states.state_of("nope"),
        lambda: update(store, "nope"),
        lambda: store.syncs.remove_sync("nope"),
        lambda: store.sync_requests.pause("nope", paused()),
        lambda: store.sync_requests.resume("nope", actor="ada"),
        lambda: store.sync_requests.request("nope", Trigger.MANUAL, actor="ada"),
        lambda: store.sync_requests.approve("nope", "d", actor="ada"),
        lambda: store.sync_requests.consent_to_adopt("nope", Adopt.OVERWRITE, actor="ada"),
    ):
        with pytest.raises(NotFoundError, match="nope"):
            call()


def test_names_are_unique_regardless_of_case(store):
    add_sync(store, "web")
    with pytest.raises(AlreadyExistsError, match="web"):
        add_sync(store, "WEB", config=SyncConfig(remote_name="else"))


def test_two_syncs_do_not_write_to_one_remote_object(store):
    add_sync(store, "web", config=SyncConfig(remote_name="shop/Web"))
    with pytest.raises(AlreadyExistsError, match="web"):
        add_sync(store, "two", config=SyncConfig(remote_name="SHOP/web"))
    add_sync(store, "elsewhere", config=SyncConfig(remote_name="shop/web"), region="eu-west-1")
    with pytest.raises(AlreadyExistsError, match="web"):
        update(store, "elsewhere")
    assert store.syncs.get_sync("elsewhere").region == "eu-west-1"


def test_the_same_name_in_two_accounts_is_fine(store):
    add_sync(store, "web", account="111122223333")
    add_sync(store, "two", account="444455556666", config=SyncConfig(remote_name="shop/web"))
    assert len(store.syncs.list_syncs()) == 2


def test_the_account_of_the_credential_counts_when_none_is_given(store):
    first = add_sync(store, "web")
    store.credentials.mark(first.credential_id, CredentialStatus.VERIFIED, account="111122223333")
    store.credentials.add("again", access_key())
    store.credentials.update("again", access_key(), account="111122223333")
    with pytest.raises(AlreadyExistsError, match="web"):
        add_sync(store, "two", credential="again", config=SyncConfig(remote_name="shop/web"))


def test_a_run_that_finds_the_account_pins_it(store):
    add_sync(store)
    settled = settle(store, claim_one(store), account="111122223333")
    assert settled.account == "111122223333"
    with pytest.raises(AlreadyExistsError, match="web"):
        add_sync(store, "two", account="111122223333", config=SyncConfig(remote_name="shop/web"))


def test_a_run_that_finds_itself_in_anothers_place_is_recorded_all_the_same(store):
    add_sync(store, "web", account="111122223333")
    store.credentials.add("other", access_key())
    add_sync(store, "two", credential="other", config=SyncConfig(remote_name="shop/web"))
    two = next(claim for claim in claim_due(store) if claim.sync_id == store.syncs.get_sync("two").id)
    assert settle(store, two, account="111122223333", status=SyncStatus.HALTED).account == "111122223333"


def test_an_update_replaces_the_configuration_and_makes_the_sync_pending(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.HALTED, due_in=None)
    updated = update(store, config=FULL, path="/db", region="eu-west-1", adopt=Adopt.OVERWRITE)
    assert (updated.config, updated.path, updated.region, updated.version) == (FULL, "/db", "eu-west-1", 2)
    assert updated.pending
    assert claim_one(store).trigger is Trigger.CHANGE


def test_another_credential_brings_its_own_account(store):
    add_sync(store, account="111122223333")
    store.credentials.add("other", access_key())
    assert update(store, credential="other").account is None
    assert update(store, credential="other").credential == "other"


def test_an_update_while_a_run_is_under_way_wins_over_what_the_run_says(store):
    add_sync(store, adopt=Adopt.OVERWRITE)
    claim = claim_one(store)
    state = store.sync_states.load(claim)
    store.credentials.add("other", access_key())
    update(store, credential="other", adopt=Adopt.OVERWRITE)
    reads = {state.sync.environment_id: state.sync.source_revision}
    store.runs.finish(claim, run_of(claim), after(reads=reads, account="111122223333", adopt_done=True))
    sync = store.syncs.get_sync("web")
    assert (sync.account, sync.adopt) == (None, Adopt.OVERWRITE)
    assert claim_one(store).trigger is Trigger.CHANGE


def test_a_removed_sync_is_gone_with_its_runs(store):
    add_sync(store)
    settle(store, claim_one(store))
    assert len(store.runs.list_runs()) == 1
    assert store.syncs.remove_sync("web") == ()
    assert store.syncs.list_syncs() == []
    assert store.runs.list_runs() == []


def test_a_sync_that_is_being_reconciled_is_not_removed(store):
    add_sync(store)
    claim_one(store)
    with pytest.raises(ClaimHeldError):
        store.syncs.remove_sync("web")
    assert store.syncs.get_sync("web").running


def test_a_sync_whose_claim_expired_may_be_removed(store):
    sync = add_sync(store)
    claim = claim_one(store, ttl=EXPIRED)
    store.syncs.remove_sync("web")
    assert store.claims.write_conditions(sync.id).paused
    with pytest.raises(NotFoundError):
        store.sync_states.load(claim)


def test_a_paused_sync_is_not_claimed_until_it_is_resumed(store):
    sync = add_sync(store)
    store.sync_requests.pause("web", paused())
    assert store.syncs.get_sync("web").paused == paused()
    assert store.claims.write_conditions(sync.id).paused
    assert claim_due(store) == []
    store.sync_requests.resume("web", actor="bob")
    assert store.syncs.get_sync("web").paused is None
    assert not store.claims.write_conditions(sync.id).paused
    claim = claim_one(store)
    assert (claim.trigger, claim.actor) == (Trigger.RESUME, "bob")


def test_pausing_again_replaces_who_and_why(store):
    add_sync(store)
    store.sync_requests.pause("web", paused())
    store.sync_requests.pause("web", paused(by="bob", reason="", until=datetime(2099, 1, 1, tzinfo=UTC)))
    assert store.syncs.get_sync("web").paused == paused(by="bob", reason="", until=datetime(2099, 1, 1, tzinfo=UTC))


def test_a_pause_ends_by_itself(store):
    sync = add_sync(store)
    store.sync_requests.pause("web", paused(until=datetime(2020, 1, 1, tzinfo=UTC)))
    assert not store.claims.write_conditions(sync.id).paused
    assert store.syncs.get_sync("web").paused is None
    assert claim_one(store).owner == "daemon-1"


def test_resuming_what_is_not_paused_does_nothing(store):
    add_sync(store)
    settle(store, claim_one(store))
    store.sync_requests.resume("web", actor="ada")
    assert claim_due(store) == []


def test_a_request_overrides_back_off(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.FAILING, failures=3, retry_in=LONG)
    assert claim_due(store) == []
    store.sync_requests.request("web", Trigger.MANUAL, actor="bob")
    assert store.syncs.get_sync("web").requested is Trigger.MANUAL
    claim = claim_one(store)
    assert (claim.trigger, claim.actor) == (Trigger.MANUAL, "bob")
    assert settle(store, claim).requested is None


def test_a_request_for_a_paused_sync_is_refused(store):
    add_sync(store)
    store.sync_requests.pause("web", paused())
    with pytest.raises(IllegalTransitionError, match="ada"):
        store.sync_requests.request("web", Trigger.MANUAL, actor="bob")


def test_a_request_while_a_run_is_under_way_leads_to_one_more_run(store):
    add_sync(store)
    store.sync_requests.request("web", Trigger.MANUAL, actor="first")
    claim = claim_one(store)
    store.sync_requests.request("web", Trigger.MANUAL, actor="second")
    settle(store, claim)
    following = claim_one(store)
    assert following.actor == "second"
    settle(store, following)
    assert claim_due(store) == []


def test_an_approval_is_kept_until_a_run_has_used_it(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.HELD)
    store.sync_requests.approve("web", "abc123", actor="bob")
    assert store.syncs.get_sync("web").approved_digest == "abc123"
    claim = claim_one(store)
    assert (claim.trigger, claim.actor) == (Trigger.MANUAL, "bob")
    assert settle(store, claim, approval_used=True).approved_digest is None


def test_a_consent_is_kept_until_a_run_has_carried_it_out(store):
    add_sync(store)
    settle(store, claim_one(store), status=SyncStatus.HALTED, due_in=None)
    store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor="bob")
    claim = claim_one(store)
    assert store.sync_states.load(claim).sync.adopt is Adopt.OVERWRITE
    assert settle(store, claim, status=SyncStatus.FAILING, failures=1, due_in=LONG).adopt is Adopt.OVERWRITE
    store.sync_requests.request("web", Trigger.MANUAL, actor="bob")
    assert settle(store, claim_one(store), adopt_done=True).adopt is None


def test_a_state_is_read_without_a_claim_too(store):
    add_sync(store)
    state = store.sync_states.state_of("WEB")
    assert (state.sync, state.credential.name, state.journal) == (store.syncs.get_sync("web"), "aws", ())


def test_list_syncs_tells_of_each_what_get_sync_tells(store):
    put(store, environment="staging")
    add_sync(store, "b", environment="staging")
    add_sync(store, "a")
    for claim in claim_due(store):
        sync = store.sync_states.load(claim).sync
        others = {environment.id: environment.revision for environment in store.apps.list_environments()}
        store.runs.finish(claim, run_of(claim), after(reads=others, status=SyncStatus.IN_SYNC))
        assert len(others) == 2, sync.name
    put(store, write("URL", "new"))
    listed = store.syncs.list_syncs()
    assert [sync.name for sync in listed] == ["a", "b"]
    assert listed == [store.syncs.get_sync("a"), store.syncs.get_sync("b")]
    assert all(sync.pending for sync in listed)
