"""One sync, once: what a run makes of what it finds, on a real store and an AWS in memory."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, Paused, SyncStatus, TagMode, Trigger
from phasesync.errors import (
    ClaimLostError,
    CredentialRejectedError,
    DestinationUnavailableError,
    InterruptedRunError,
    PermissionDeniedError,
    RemoteChangedError,
    ThrottledError,
)
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR
from tests.support.values import LINK
from tests.support.world import KEY_ARN, NAME, World

pytestmark = on_each_database


def values(world: World) -> dict[str, object]:
    """What readers at AWS get."""
    found: dict[str, object] = json.loads(world.text)
    return found


# --- the main job


def test_the_first_run_creates_the_object_with_our_marks(world: World) -> None:
    """Name, value and owner tags in one call."""
    run = world.run()

    assert run.outcome is Outcome.APPLIED
    assert values(world) == {"URL": "postgres://db", "USER": "shop"}
    assert world.object.tags == {TAG_INSTANCE: world.store.instance_id, TAG_SYNC: world.sync_id}
    assert world.writes() == ["create"]
    assert (run.aws_calls, run.versions_written, run.counts) == (2, 1, {"create": 1})


def test_an_unchanged_run_writes_nothing_and_reads_no_value(world: World) -> None:
    """One DescribeSecret, whatever woke it."""
    world.run()
    world.destinations.log.clear()

    run = world.run()

    assert run.outcome is Outcome.UNCHANGED
    assert world.destinations.log == ["observe"]
    assert world.versions == 1


def test_an_edit_makes_the_sync_pending_and_one_version(world: World) -> None:
    """And nothing else is touched."""
    world.run()
    assert not world.due()

    revision = world.edit(URL="postgres://new")

    assert world.due()
    run = world.run(Trigger.CHANGE)
    assert values(world)["URL"] == "postgres://new"
    assert world.versions == 2
    assert run.revisions == {"shop/production": revision}
    assert world.sync.applied_revision == revision
    assert not world.due()


def test_an_edit_that_changes_nothing_wakes_nobody(world: World) -> None:
    """The same value again is no revision."""
    world.run()

    world.edit(URL="postgres://db")

    assert not world.due()


def test_an_edit_while_a_run_is_under_way_leads_to_one_more_run(world: World) -> None:
    """The run in hand read the older revision."""

    def edit_during_create(when: str, what: str) -> None:
        if (when, what) == ("before", "create"):
            world.on_step = None
            world.edit(URL="postgres://new")

    with world.steps(edit_during_create):
        world.run()

    assert values(world)["URL"] == "postgres://db"
    assert world.due()
    world.run()
    assert values(world)["URL"] == "postgres://new"


def test_a_referenced_environment_reaches_every_sync_that_uses_it(world: World) -> None:
    """Through two hops; an edit there makes the sync pending."""
    for name, key, value in (("base", "HOST", "db.internal"), ("shared", "DSN", "postgres://${base.HOST}")):
        world.store.apps.add_environment("shop", name)
        write = SecretWrite(path="/", key=key, value=SecretValue(value))
        world.store.secrets.edit("shop", name, actor=ACTOR, origin="set", writes=[write])
    world.edit(URL="${shared.DSN}")
    world.run()
    assert values(world)["URL"] == "postgres://db.internal"
    assert not world.due()

    changed = SecretWrite(path="/", key="HOST", value=SecretValue("db2.internal"))
    world.store.secrets.edit("shop", "base", actor=ACTOR, origin="set", writes=[changed])

    assert world.due()
    world.run()
    assert values(world)["URL"] == "postgres://db2.internal"


def test_json_values_are_embedded_and_binary_ones_are_base64(world: World) -> None:
    """Types reach the payload."""
    writes = [
        SecretWrite(path="/", key="LIMITS", value=SecretValue('{"b":1.10,"a":[true]}', ValueType.JSON)),
        SecretWrite(path="/", key="CERT", value=SecretValue(b"\x00\xff", ValueType.BINARY)),
    ]
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)

    world.run()

    assert '"LIMITS":{"a":[true],"b":1.10}' in world.text
    assert values(world)["CERT"] == "AP8="


# --- drift and metadata


def test_an_outside_edit_is_repaired_without_reading_the_value(world: World) -> None:
    """The version id gives it away; the run says that drift woke it."""
    world.run()
    world.remote.outside_put(NAME, "theirs")

    run = world.run(Trigger.SCHEDULE)

    assert run.trigger is Trigger.DRIFT
    assert values(world)["URL"] == "postgres://db"
    assert "read_value" not in world.destinations.log


def test_a_deleted_object_is_made_again_and_a_scheduled_one_restored(world: World) -> None:
    """Restored under the same ARN, without a new version."""
    world.run()
    arn = world.object.arn
    world.remote.outside_delete(NAME)

    restored = world.run()

    assert (world.object.arn, world.versions, restored.versions_written) == (arn, 1, 0)
    world.remote.outside_delete(NAME, recovery_days=None)
    world.run()
    assert world.object.arn != arn
    assert world.entry.arn == world.object.arn


def test_a_new_key_brings_a_fresh_version(world: World) -> None:
    """So that the current value is under the new key alone; the way back works too."""
    world.run()

    world.configure(kms_key=KEY_ARN)
    world.run()

    assert (world.object.kms_key, world.versions) == (KEY_ARN, 2)
    world.configure(kms_key=AWS_MANAGED_KEY)
    world.run()
    assert (world.object.kms_key, world.versions) == (None, 3)
    world.run()
    assert world.versions == 3


def test_a_key_that_is_not_set_is_left_alone(world: World) -> None:
    """Unset is never touched, and no call is made for it."""
    world.run()
    world.object.kms_key = KEY_ARN
    world.object.description = "theirs"

    assert world.run().outcome is Outcome.UNCHANGED
    assert (world.object.kms_key, world.object.description) == (KEY_ARN, "theirs")


def test_description_and_tags_are_set_without_a_version(world: World) -> None:
    """Foreign tags stay, in every mode."""
    world.run()
    world.remote.outside_tag(NAME, {"cost-centre": "42"})

    world.configure(description="of the shop", tags={"team": "shop", "tier": "1"})
    world.run()

    assert world.object.description == "of the shop"
    assert {"team", "tier", "cost-centre"} <= world.object.tags.keys()
    world.configure(tags={"team": "shop"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    assert "tier" not in world.object.tags
    assert world.object.tags["cost-centre"] == "42"
    world.configure(tags={"team": "other"}, tag_mode=TagMode.NEVER)
    assert world.run().outcome is Outcome.UNCHANGED
    assert world.object.tags["team"] == "shop"
    assert world.versions == 1


# --- guard


def test_a_mistyped_path_creates_nothing_until_approved(world: World) -> None:
    """The first write from an empty source waits; the digest of the plan lets it go out."""
    world.edit(URL=None, USER=None)

    run = world.run()

    assert (run.outcome, run.aws_calls, world.remote.objects) == (Outcome.HELD, 1, {})
    assert world.sync.settled_status is SyncStatus.HELD
    assert "mistyped path" in (world.sync.status_reason or "")
    assert run.error is not None and "mistyped path" in (run.error.held or "")
    digest = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None
    world.store.sync_requests.approve("web", digest, actor=ACTOR)
    assert world.due()
    assert world.run().outcome is Outcome.APPLIED
    assert world.text == "{}"
    assert world.sync.approved_digest is None


def test_emptying_waits_and_other_changes_go_out(world: World) -> None:
    """Only what tripped the guard is held; the object keeps its value."""
    world.run()
    world.edit(URL=None, USER=None)
    world.configure(description="new")

    run = world.run()

    assert run.outcome is Outcome.HELD
    assert values(world) == {"URL": "postgres://db", "USER": "shop"}
    assert world.object.description == "new"
    assert not world.due()


def test_putting_the_keys_back_ends_a_hold(world: World) -> None:
    """The next edit plans anew."""
    world.run()
    world.edit(URL=None, USER=None)
    world.run()

    world.edit(URL="postgres://db", USER="shop")

    assert world.due()
    assert world.run().outcome is Outcome.UNCHANGED
    assert world.sync.settled_status is SyncStatus.IN_SYNC


def test_an_approval_of_another_plan_releases_nothing(world: World) -> None:
    """It lapses when the held changes do."""
    world.run()
    world.edit(URL=None, USER=None)
    world.store.sync_requests.approve("web", "0" * 16, actor=ACTOR)

    assert world.run().outcome is Outcome.HELD
    assert values(world)["USER"] == "shop"


def test_a_hold_does_not_spend_the_token_of_an_open_write(world: World) -> None:
    """A write may still land, then the source is emptied: nothing empty goes out unattended."""
    world.run()
    world.edit(URL="postgres://new")
    world.destinations.fail("put_value", when="before")
    world.run()
    assert world.entry.intent is not None
    world.edit(URL=None, USER=None)

    run = world.run()

    assert run.outcome is Outcome.HELD
    assert values(world)["USER"] == "shop"


def test_a_sync_that_moves_to_another_name_waits(world: World) -> None:
    """The old object would stay behind; it does, once approved."""
    world.run()
    world.configure(remote_name="shop/elsewhere")

    assert world.run().outcome is Outcome.HELD
    assert [key[2] for key in world.remote.objects] == [NAME]
    digest = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
    world.store.sync_requests.approve("web", digest or "", actor=ACTOR)
    world.run()
    assert sorted(key[2] for key in world.remote.objects) == ["shop/elsewhere", NAME]


# --- ownership


def test_a_foreign_object_is_never_written_without_consent(world: World) -> None:
    """Conflict, with the hint to adopt; then the operator consents."""
    world.remote.outside_create(NAME, "theirs", tags={"team": "other"})

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None
    assert "adopt" in (run.error.hint or "")
    assert world.text == "theirs"
    assert world.writes() == []
    assert world.sync.settled_status is SyncStatus.HALTED
    assert not world.due()
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED
    assert values(world)["URL"] == "postgres://db"
    assert world.object.tags["team"] == "other"
    assert world.entry.former_tags == {"team": "other"}
    assert world.sync.adopt is None


def test_an_object_whose_marks_were_taken_off_is_a_conflict(world: World) -> None:
    """Unknown counts as foreign."""
    world.run()
    world.edit(URL="postgres://new")
    world.remote.outside_tag(NAME, {}, untag=[TAG_INSTANCE])

    assert world.run().outcome is Outcome.REFUSED
    assert values(world)["URL"] == "postgres://db"


def test_forged_marks_do_not_make_an_object_ours(world: World) -> None:
    """Tags alone prove nothing."""
    marks = {TAG_INSTANCE: world.store.instance_id, TAG_SYNC: world.sync_id}
    world.remote.outside_create(NAME, "theirs", tags=marks)

    assert world.run().outcome is Outcome.REFUSED
    assert world.text == "theirs"


@pytest.mark.parametrize("change", ["rotation", "service", "replica", "partner", "copy"])
def test_what_aws_manages_is_refused(world: World, change: str) -> None:
    """Even where it was ours before."""
    world.run()
    world.edit(URL="postgres://new")
    if change == "rotation":
        world.remote.outside_rotation(NAME)
    elif change == "service":
        world.object.owning_service = "rds"
    elif change == "partner":
        world.remote.outside_external(NAME)
    elif change == "copy":
        world.object.cross_account_primary = LINK
    else:
        world.object.primary_region = "us-east-1"

    assert world.run().outcome is Outcome.REFUSED
    assert values(world)["URL"] == "postgres://db"


def test_another_account_than_the_pinned_one_halts(world: World) -> None:
    """An edited role would create everything anew in the wrong place."""
    world.run()
    assert world.sync.account == "111122223333"
    world.edit(URL="postgres://new")
    world.destinations.accounts[world.sync.credential_id] = "999999999999"

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None
    assert run.error.cls == "AccountMismatchError"
    assert values(world)["URL"] == "postgres://db"
    assert world.sync.next_due_at is not None

    world.destinations.accounts.clear()

    assert world.run().outcome is Outcome.APPLIED
    assert values(world)["URL"] == "postgres://new"


# --- failures


def test_an_unresolved_reference_pushes_nothing_and_heals_by_itself(world: World) -> None:
    """The whole or nothing; adding what was missing wakes the sync."""
    world.run()
    world.edit(URL="${common.HOST}")

    run = world.run()

    assert (run.outcome, run.aws_calls) == (Outcome.FAILED, 0)
    assert world.sync.settled_status is SyncStatus.HALTED
    assert "${common.HOST}" in (world.sync.status_reason or "")
    assert values(world)["URL"] == "postgres://db"
    assert not world.due()
    world.store.apps.add_environment("shop", "common")
    write = SecretWrite(path="/", key="HOST", value=SecretValue("db"))
    world.store.secrets.edit("shop", "common", actor=ACTOR, origin="set", writes=[write])
    assert world.due()
    world.run()
    assert values(world)["URL"] == "db"


def test_an_oversize_payload_names_the_largest_keys(world: World) -> None:
    """Before any call."""
    world.edit(BIG="x" * 70_000)

    run = world.run()

    assert run.error is not None
    assert run.error.cls == "PayloadTooLargeError"
    assert "BIG" in run.error.message
    assert "65,536" in run.error.message
    assert run.aws_calls == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ThrottledError(), SyncStatus.FAILING),
        (DestinationUnavailableError(), SyncStatus.FAILING),
        (CredentialRejectedError(code="InvalidClientTokenId"), SyncStatus.FAILING),
        (PermissionDeniedError(action="secretsmanager:PutSecretValue"), SyncStatus.FAILING),
    ],
)
def test_what_is_tried_again_waits_its_time(world: World, error: Exception, status: SyncStatus) -> None:
    """It counts failures, says when it tries again, and an edit does not hurry it."""
    world.run()
    world.edit(URL="postgres://new")
    world.destinations.fail("put_value", error=error)  # type: ignore[arg-type]

    run = world.run()

    assert run.next_attempt_at is not None
    assert world.sync.settled_status is status
    assert world.sync.failures == 1
    world.edit(URL="postgres://newer")
    assert not world.due()
    assert world.run().attempt == 2
    assert values(world)["URL"] == "postgres://newer"
    assert world.sync.failures == 0


def test_a_lost_answer_is_settled_by_the_next_run_without_a_second_version(world: World) -> None:
    """Unknown is not failed: the write may have landed."""
    world.run()
    world.edit(URL="postgres://new")
    world.destinations.fail("put_value", when="after")

    run = world.run()

    assert run.outcome is Outcome.UNKNOWN
    assert world.sync.settled_status is SyncStatus.PENDING
    settling = world.run()
    assert (settling.outcome, settling.versions_written) == (Outcome.APPLIED, 1)
    assert world.writes() == ["create", "put_value"]
    assert world.versions == 2


def test_somebody_who_writes_between_look_and_write_is_met_in_the_same_run(world: World) -> None:
    """The run looks again and ends in step."""
    world.run()
    world.edit(URL="postgres://new")

    def delete_before_put(when: str, what: str) -> None:
        if (when, what) == ("before", "put_value"):
            world.on_step = None
            world.remote.outside_delete(NAME)

    with world.steps(delete_before_put):
        run = world.run()

    assert run.outcome is Outcome.APPLIED
    assert world.object.deleted_at is None
    assert values(world)["URL"] == "postgres://new"


def test_a_defect_is_told_by_class_and_place_and_tried_again(world: World) -> None:
    """Its text may carry values and stays out of the log."""

    def broken(when: str, what: str) -> None:
        if what == "observe":
            raise ValueError("canary text")

    with world.steps(broken):
        run = world.run()

    assert run.error is not None
    assert run.error.cls == "InternalError"
    assert "ValueError" in run.error.message
    assert "canary" not in run.error.message
    assert world.sync.settled_status is SyncStatus.FAILING


def test_what_the_host_lacks_is_no_defect(world: World) -> None:
    """Nobody is asked to report it, and it is tried again."""

    def without_memory(when: str, what: str) -> None:
        if what == "observe":
            raise MemoryError

    with world.steps(without_memory):
        run = world.run()

    assert run.error is not None
    assert (run.error.cls, run.error.message) == (
        "HostUnavailableError",
        "this host could not do it: there is no memory left",
    )
    assert world.sync.settled_status is SyncStatus.FAILING
    assert world.run().outcome is Outcome.APPLIED


# --- pause, stop, claims


def test_a_pause_takes_effect_before_the_next_write(world: World) -> None:
    """Even for a run that is under way; the permit asks before every write."""
    world.run()
    world.edit(URL="postgres://new")
    pause = Paused(by=ACTOR, at=world.sync.created_at, reason="", until=None)

    def checkpoint() -> None:
        if world.store.claims.write_conditions(world.sync_id).paused:
            raise InterruptedRunError("the sync was paused")

    def pause_before_save(when: str, what: str) -> None:
        if (when, what) == ("before", "save_entry"):
            world.on_step = None
            world.store.sync_requests.pause("web", pause)

    with world.steps(pause_before_save):
        run = world.reconciler.reconcile(world.claim(), checkpoint)

    assert run is not None
    assert run.outcome is Outcome.INTERRUPTED
    assert values(world)["URL"] == "postgres://db"
    assert not world.due()
    world.store.sync_requests.resume("web", actor=ACTOR)
    assert world.due()
    world.run()
    assert values(world)["URL"] == "postgres://new"


def test_a_run_whose_claim_was_taken_over_records_nothing(world: World) -> None:
    """The successor's record stands."""
    world.run()
    stale = world.claim()
    world.run()
    runs = len(world.store.runs.list_runs())

    assert world.reconciler.reconcile(stale, lambda: None) is None
    assert len(world.store.runs.list_runs()) == runs


def test_a_run_without_a_permit_writes_nothing(world: World) -> None:
    """The claim is past its end: no call goes out."""

    def checkpoint() -> None:
        raise ClaimLostError

    world.reconciler.reconcile(world.claim(), checkpoint)

    assert world.writes() == []


def test_a_removed_sync_is_not_pushed(world: World) -> None:
    """Removed while its claim was queued."""
    claim = world.claim()
    world.store.claims.release(claim)
    world.store.syncs.remove_sync("web")

    assert world.reconciler.reconcile(claim, lambda: None) is None
    assert world.remote.objects == {}


def test_a_changed_credential_is_used_at_once(world: World) -> None:
    """And wakes the syncs that use it."""
    world.run()
    draft = CredentialDraft(
        type=CredentialType.ACCESS_KEY,
        region="eu-west-1",
        access_key_id="AKIAOTHER",
        secret_access_key=SecretValue("other"),
    )

    world.store.credentials.update("aws", draft, account=None)

    assert world.due()


def test_paused_until_an_instant_ends_by_itself(world: World) -> None:
    """No resume is needed."""
    now = world.sync.created_at
    world.store.sync_requests.pause("web", Paused(by=ACTOR, at=now, reason="", until=now + timedelta(hours=1)))
    assert not world.due()

    over = replace(world.sync.paused, until=now) if world.sync.paused else None
    assert over is not None
    world.store.sync_requests.pause("web", over)

    assert world.due()


def test_an_object_that_keeps_changing_is_named(world: World) -> None:
    """A run looks again some times, and then it says which one it was."""
    world.run()
    world.edit(URL="postgres://new")
    world.destinations.fail("put_value", error=RemoteChangedError("it moved"), times=99)

    run = world.run()

    assert run.error is not None
    assert run.error.message == f"{NAME}: the remote object kept changing while it was written"
    assert [(one.remote_name, one.outcome) for one in run.changes] == [(NAME, Outcome.FAILED)]


def test_a_shell_without_an_identity_does_not_put_the_daemon_off(world: World) -> None:
    """A run by hand that never reached AWS says nothing of the daemon's own identity."""
    world.run()
    world.destinations.fail("account_id", error=CredentialRejectedError("no AWS credentials were found"))
    world.run()
    assert world.due(), "at once"

    world.destinations.fail("account_id", error=CredentialRejectedError("no AWS credentials were found"))
    world.run(Trigger.SCHEDULE)
    assert not world.due(), "the daemon's own trouble is slow"


@pytest.mark.parametrize("rename", ["app", "environment"])
def test_a_rename_while_a_run_reads_is_no_verdict(world: World, monkeypatch: pytest.MonkeyPatch, rename: str) -> None:
    """The names that the run read lead to nothing a moment later: it is tried again by itself."""
    secrets = world.context.store.secrets
    snapshot = secrets.snapshot

    def renamed_before() -> object:
        monkeypatch.undo()
        if rename == "app":
            world.store.apps.update_app("shop", new_name="store")
        else:
            world.store.apps.update_environment("shop", world.sync.environment, new_name="live")
        return snapshot()

    monkeypatch.setattr(secrets, "snapshot", renamed_before)
    run = world.run()

    assert run.error is not None
    assert (run.error.cls, world.sync.settled_status) == ("StalePlanError", SyncStatus.FAILING)
    assert world.run().outcome is Outcome.APPLIED
