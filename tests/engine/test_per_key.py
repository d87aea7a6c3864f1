"""Layout per-key: one object for each key, each on its own."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.planning.version_budget import BURST
from phasesync.core.remote import TAG_DELETION, TAG_INSTANCE
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, Layout, OnDrift, OnRemove, SyncStatus, Trigger
from phasesync.errors import (
    AccountMismatchError,
    DestinationRejectedError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PermissionDeniedError,
)
from phasesync.store import Store
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR, open_test_store
from tests.support.vouching import set_restore_mark
from tests.support.world import Killed, World

URL, USER = "shop/production/URL", "shop/production/USER"


def per_key(store: Store, **config: Any) -> World:
    """A world with a sync that writes one object a key."""
    template = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": "{app}/{env}/{key}"}
    return World(store, **{**template, **config})


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()


@pytest.fixture
def keyed(store: Store) -> World:
    """Two keys, retained when removed."""
    return per_key(store)


@pytest.fixture
def deleting(store: Store) -> World:
    """Six keys; what is removed from the store is deleted an hour later."""
    world = per_key(store, on_remove=OnRemove.DELETE)
    world.edit(A="a", B="b", C="c", D="d")
    world.run()
    return world


def names(world: World) -> list[str]:
    """Names of the objects at AWS that are not scheduled for deletion."""
    return sorted(one.name for one in world.remote.objects.values() if one.deleted_at is None)


@on_each_database
def test_each_key_is_an_object_with_our_marks(keyed: World) -> None:
    run = keyed.run()

    assert (run.outcome, run.counts, run.versions_written) == (Outcome.APPLIED, {"create": 2}, 2)
    assert names(keyed) == [URL, USER]
    assert keyed.remote.object(URL).text() == "postgres://db"
    assert keyed.remote.object(USER).tags[TAG_INSTANCE] == keyed.store.instance_id
    assert keyed.run().outcome is Outcome.UNCHANGED


@on_each_database
def test_binary_and_json_values_keep_their_form(keyed: World) -> None:
    writes = [
        SecretWrite(path="/", key="CERT", value=SecretValue(b"\x00\xff", ValueType.BINARY)),
        SecretWrite(path="/", key="LIMITS", value=SecretValue('{"b": 1, "a": 2}', ValueType.JSON)),
    ]
    keyed.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)
    keyed.run()

    cert = keyed.remote.object("shop/production/CERT").current
    assert cert is not None
    assert (cert.value.type, cert.value.reveal()) == (ValueType.BINARY, b"\x00\xff")
    assert keyed.remote.object("shop/production/LIMITS").text() == '{"a":2,"b":1}'


def test_an_edit_of_one_key_touches_one_object(keyed: World) -> None:
    """And looks at no other: what an edit did not change is left to the checks."""
    keyed.run()
    keyed.run()
    keyed.edit(URL="postgres://new")
    keyed.destinations.log.clear()

    run = keyed.run(Trigger.CHANGE)

    assert keyed.destinations.log == ["observe", "put_value"]
    assert run.counts == {"noop": 1, "put": 1}
    assert keyed.remote.object(URL).text() == "postgres://new"


def test_edits_do_not_put_off_the_check_of_the_others(keyed: World) -> None:
    keyed.run()
    due = keyed.sync.next_due_at
    for number in range(3):
        keyed.clock.pass_(seconds=30)
        keyed.edit(URL=f"postgres://{number}")
        keyed.run(Trigger.CHANGE)

    after = keyed.sync.next_due_at
    assert due is not None and after is not None
    assert after <= due


def test_an_edit_that_meets_a_check_that_is_due_makes_it_too(keyed: World) -> None:
    """Edits without a pause would else keep an outside change of another key from ever being seen."""
    keyed.run()
    keyed.remote.outside_put(USER, "theirs")
    keyed.clock.pass_(minutes=6)
    keyed.edit(URL="postgres://new")

    keyed.run(Trigger.CHANGE)

    assert keyed.remote.object(USER).text() == "shop"


def test_one_bad_object_does_not_stop_the_others(keyed: World) -> None:
    """An empty value, a value over the limit, a name that someone else has, a call that AWS refuses."""
    keyed.edit(BIG="x" * 70_000, TAKEN="ours", REFUSED="no")
    keyed.store.secrets.edit(
        "shop",
        "production",
        actor=ACTOR,
        origin="set",
        writes=[SecretWrite(path="/", key="EMPTY", value=SecretValue(""))],
    )
    keyed.remote.outside_create("shop/production/TAKEN", "theirs")
    seen: list[str] = []

    def refuse(when: str, what: str) -> None:
        if (when, what) == ("before", "create") and not seen:
            seen.append(what)
            raise DestinationRejectedError("AWS rejects it", code="InvalidParameterException")

    with keyed.steps(refuse):
        run = keyed.run()

    outcomes = {change.remote_name.rpartition("/")[2]: change.outcome for change in run.changes}
    assert outcomes == {
        "BIG": Outcome.FAILED,
        "EMPTY": Outcome.FAILED,
        "REFUSED": Outcome.FAILED,
        "TAKEN": Outcome.REFUSED,
        "URL": Outcome.APPLIED,
        "USER": Outcome.APPLIED,
    }
    assert names(keyed) == ["shop/production/TAKEN", URL, USER]
    assert keyed.remote.object("shop/production/TAKEN").text() == "theirs"
    assert run.error is not None and "shop/production/" in run.error.message


def test_a_destination_that_is_down_is_not_asked_for_every_object(keyed: World) -> None:
    keyed.edit(**{f"K{number}": "v" for number in range(20)})
    keyed.destinations.fail("observe", error=DestinationUnavailableError("no connection"), times=99)

    run = keyed.run()

    assert keyed.destinations.log == ["observe"]
    assert keyed.sync.settled_status is SyncStatus.FAILING
    assert run.next_attempt_at is not None


def test_names_that_differ_in_case_only_are_left_alone(keyed: World) -> None:
    keyed.edit(url="other")

    run = keyed.run()

    failed = sorted(change.remote_name for change in run.changes if change.outcome is Outcome.FAILED)
    assert failed == [URL, "shop/production/url"]
    assert names(keyed) == [USER]


def test_a_hint_leaves_the_names_of_secrets_as_they_are(keyed: World) -> None:
    """NAME in a hint is the sync; in the name of a secret it is a part of that."""
    keyed.edit(HOSTNAME="h")
    keyed.remote.outside_create("shop/production/HOSTNAME", "theirs")
    keyed.remote.outside_delete("shop/production/HOSTNAME")
    assert hint(keyed) == "phasesync syncs adopt web takes it over"

    keyed.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)

    assert hint(keyed) == "aws secretsmanager restore-secret --secret-id shop/production/HOSTNAME, then adopt it"


def hint(world: World) -> str | None:
    """What a run that ends with an error reports."""
    error = world.run().error
    assert error is not None
    return error.hint


def test_a_removed_key_keeps_its_object(keyed: World) -> None:
    keyed.run()
    keyed.edit(URL=None)
    run = keyed.run()

    assert run.outcome is Outcome.UNCHANGED
    assert names(keyed) == [URL, USER]


def test_another_template_waits_for_an_approval(keyed: World) -> None:
    """The objects under the old names would stay behind with old values."""
    keyed.run()
    keyed.configure(name_template="{env}/{key}")

    run = keyed.run()

    assert run.outcome is Outcome.HELD
    assert names(keyed) == [URL, USER]


# --- deletion


@on_each_database
def test_a_removed_key_is_deleted_after_its_grace(deleting: World) -> None:
    deleting.edit(A=None)
    first = deleting.run()
    assert first.outcome is Outcome.UNCHANGED
    assert any("deleted after" in change.reason for change in first.changes)
    assert "shop/production/A" in names(deleting)
    assert deleting.sync.next_due_at is not None

    deleting.clock.pass_(hours=1, minutes=1)
    run = deleting.run()

    assert run.counts["delete"] == 1
    gone = deleting.remote.object("shop/production/A")
    assert gone.deleted_at is not None
    assert gone.deleted_at - deleting.clock.now() > timedelta(days=29)
    assert deleting.run().outcome is Outcome.UNCHANGED


def test_a_key_that_comes_back_within_its_grace_loses_nothing(deleting: World) -> None:
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(minutes=50)
    deleting.edit(A="a")
    deleting.run()
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(minutes=20)

    assert "delete" not in deleting.run().counts
    assert "shop/production/A" in names(deleting)


def test_a_key_that_comes_back_later_is_restored_under_the_same_arn(deleting: World) -> None:
    """By us it was deleted, so that is no drift, not even for a sync that holds on drift."""
    deleting.configure(on_drift=OnDrift.HOLD)
    arn = deleting.remote.object("shop/production/A").arn
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.run()
    deleting.edit(A="a again")

    run = deleting.run()

    assert run.outcome is Outcome.APPLIED
    assert run.counts == {"restore": 1, "put": 1, "noop": 5}
    back = deleting.remote.object("shop/production/A")
    assert (back.arn, back.deleted_at, back.text()) == (arn, None, "a again")


def test_what_others_delete_after_that_is_drift_and_no_older_database(deleting: World) -> None:
    """The tag of our deletion is still on it, and the journal knows that deletion."""
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.run()
    deleting.edit(A="a again")
    deleting.run()
    deleting.remote.outside_delete("shop/production/A")

    run = deleting.run()

    assert (run.outcome, run.counts["restore"]) == (Outcome.APPLIED, 1)
    assert deleting.remote.object("shop/production/A").text() == "a again"


def no_right_to_tag(world: World) -> None:
    world.destinations.fail("update_metadata", error=PermissionDeniedError(action="secretsmanager:TagResource"))


def no_room_for_a_tag(world: World) -> None:
    room = 50 - len(world.remote.object("shop/production/A").tags)
    world.remote.outside_tag("shop/production/A", {f"theirs-{number}": "x" for number in range(room)})


@pytest.mark.parametrize("scene", [no_right_to_tag, no_room_for_a_tag])
def test_a_deletion_that_cannot_be_marked_goes_on(deleting: World, scene: Callable[[World], None]) -> None:
    """It was asked for, and the mark is for copies of the database alone."""
    deleting.edit(A=None)
    deleting.run()
    scene(deleting)
    deleting.clock.pass_(hours=2)

    assert deleting.run().counts["delete"] == 1
    gone = deleting.remote.object("shop/production/A")
    assert gone.deleted_at is not None
    assert TAG_DELETION not in gone.tags


def test_a_crash_between_the_mark_and_the_deletion_loses_neither(deleting: World) -> None:
    """The next run deletes it."""
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)

    def die(when: str, call: str) -> None:
        if (when, call) == ("after", "update_metadata"):
            raise Killed

    with deleting.steps(die), pytest.raises(Killed):
        deleting.run()
    assert deleting.remote.object("shop/production/A").deleted_at is None

    assert deleting.run().counts["delete"] == 1
    gone = deleting.remote.object("shop/production/A")
    assert gone.deleted_at is not None
    assert TAG_DELETION in gone.tags


def test_a_key_that_comes_back_after_the_window_is_created_anew(deleting: World) -> None:
    deleting.configure(on_drift=OnDrift.HOLD)
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.run()
    deleting.clock.pass_(days=31)
    deleting.run()
    deleting.edit(A="a again")

    run = deleting.run()

    assert (run.outcome, run.counts["create"]) == (Outcome.APPLIED, 1)
    assert deleting.remote.object("shop/production/A").text() == "a again"


@on_each_database
def test_many_deletions_wait_for_an_approval(deleting: World) -> None:
    """Three of six, with the numbers; the approval names exactly these."""
    deleting.edit(A=None, B=None, C=None)
    deleting.run()
    deleting.clock.pass_(hours=2)

    run = deleting.run()

    assert run.outcome is Outcome.HELD
    assert run.error is not None and "3 of 6" in run.error.message
    assert len(names(deleting)) == 6
    digest = deleting.reconciler.prepare(deleting.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None and run.error.hint is not None and digest in run.error.hint
    deleting.store.sync_requests.approve("web", digest, actor=ACTOR)
    assert deleting.run().counts["delete"] == 3
    assert len(names(deleting)) == 3


def test_one_approval_is_for_copies_and_objects(deleting: World) -> None:
    """Copies go a run before the objects; nothing of it is asked for twice."""
    deleting.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    deleting.run()
    deleting.remote.settle_replication()
    deleting.remote.remove_replicas(deleting.remote.object("shop/production/C"), ["us-east-1"])
    deleting.edit(A=None, B=None, C=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    digest = deleting.reconciler.prepare(deleting.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None
    deleting.store.sync_requests.approve("web", digest, actor=ACTOR)

    first, second = deleting.run(), deleting.run()

    assert first.counts == {"replicate": 2, "noop": 4}
    assert second.counts["delete"] == 3
    assert set(names(deleting)) == {"shop/production/D", URL, USER}


def test_copies_that_take_their_time_to_go_are_waited_for(deleting: World) -> None:
    """They are taken for no one else's meanwhile, and once they are gone a copy there is not ours any more."""
    gone = "shop/production/A"
    deleting.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    deleting.run()
    deleting.remote.settle_replication()
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    copied = deleting.remote.object(gone).replicas["us-east-1"]
    assert deleting.run().counts["replicate"] == 1
    deleting.remote.object(gone).replicas["us-east-1"] = copied

    waiting = deleting.run()

    assert (waiting.outcome, waiting.counts["replicate"]) == (Outcome.APPLIED, 1)
    assert deleting.run().counts["delete"] == 1
    (entry,) = [one for one in deleting.store.sync_states.state_of("web").journal if one.remote_name == gone]
    assert entry.replicas_written == ()


def test_all_of_two_wait_and_one_of_many_does_not(store: Store) -> None:
    world = per_key(store, on_remove=OnRemove.DELETE)
    world.run()
    world.edit(URL=None, USER=None)
    world.run()
    world.clock.pass_(hours=2)

    assert world.run().outcome is Outcome.HELD
    assert names(world) == [URL, USER]


def test_what_a_moved_sync_left_behind_makes_no_deletion_look_small(deleting: World) -> None:
    """Two objects under new names, six under the old ones: two of two go, not two of eight."""
    deleting.edit(A=None, B=None, C=None, D=None)
    deleting.configure(name_template="moved/{key}", grace=timedelta(0))
    digest = deleting.reconciler.prepare(deleting.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None
    deleting.store.sync_requests.approve("web", digest, actor=ACTOR)
    deleting.run()
    assert {"moved/URL", "moved/USER"} < set(names(deleting))

    deleting.edit(URL=None, USER=None)
    run = deleting.run()

    assert run.error is not None
    assert "would delete 2 of 2 objects" in run.error.message
    assert {"moved/URL", "moved/USER"} < set(names(deleting))


def test_what_aws_does_not_describe_now_makes_no_deletion_look_small(deleting: World) -> None:
    """Three of six go, and two of them are not seen: the third waits with them."""
    deleting.edit(A=None, B=None, C=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.destinations.fail("observe", error=PermissionDeniedError("denied"), times=2)

    deleting.run()

    assert len(names(deleting)) == 6


def test_nothing_foreign_is_ever_deleted(deleting: World) -> None:
    """An object that lost our tags, or another one that took the name, is left alone."""
    deleting.edit(A=None, B=None)
    deleting.run()
    deleting.remote.outside_tag("shop/production/A", {}, untag=[TAG_INSTANCE])
    deleting.remote.outside_delete("shop/production/B", recovery_days=None)
    deleting.remote.outside_create("shop/production/B", "theirs")
    deleting.clock.pass_(hours=2)

    run = deleting.run()

    assert "delete" not in run.counts
    assert deleting.remote.object("shop/production/A").deleted_at is None
    assert deleting.remote.object("shop/production/B").deleted_at is None


def test_somebody_who_restores_it_gets_another_grace(deleting: World) -> None:
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.run()
    deleting.remote.object("shop/production/A").deleted_at = None

    assert "delete" not in deleting.run().counts
    deleting.clock.pass_(hours=2)
    assert deleting.run().counts["delete"] == 1


def test_a_restored_database_deletes_nothing(deleting: World) -> None:
    deleting.edit(A=None)
    deleting.run()
    set_restore_mark(deleting.store.database)
    deleting.clock.pass_(hours=2)

    assert deleting.run().outcome is Outcome.UNCHANGED
    assert deleting.store.restore_mark.is_set()
    deleting.store.restore_mark.accept(ahead=10)
    assert deleting.run().counts["delete"] == 1


def test_another_folder_under_the_same_names_says_what_goes(deleting: World) -> None:
    """There is no warning if the names distinguish folders, or if nothing is deleted."""

    def warnings(path: str) -> tuple[str, ...]:
        return deleting.configuration().update("web", change=lambda config: config, path=path).warnings

    assert any("are deleted after the grace, although / still has" in line for line in warnings("/db"))
    deleting.configure(on_remove=OnRemove.RETAIN)
    assert warnings("/other") == ()
    deleting.configure(on_remove=OnRemove.DELETE, name_template="{app}/{path}/{key}")
    assert warnings("/") == ()


def test_a_failed_deletion_is_tried_again_and_told(deleting: World) -> None:
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.destinations.fail("delete", error=DestinationRejectedError("AWS rejects it"))

    assert deleting.run().outcome is Outcome.FAILED
    assert deleting.run().counts["delete"] == 1


# --- one object that fails, and the others


def test_edits_of_the_others_do_not_wait_for_one_that_fails(keyed: World) -> None:
    """A name that someone else has halts the sync; its other keys go out as ever, and are still checked."""
    keyed.remote.outside_create("shop/production/TAKEN", "theirs")
    keyed.edit(TAKEN="ours")
    keyed.run()
    assert keyed.sync.settled_status is SyncStatus.HALTED
    assert keyed.sync.next_due_at is not None, "drift of the others is still looked for"
    assert not keyed.due()

    keyed.edit(URL="postgres://new")

    assert keyed.due()
    keyed.run(Trigger.CHANGE)
    assert keyed.remote.object(URL).text() == "postgres://new"


def test_a_right_that_is_missing_for_one_does_not_slow_the_others(keyed: World) -> None:
    keyed.run()
    keyed.edit(NEW="value")
    keyed.destinations.fail("create", error=PermissionDeniedError(action="secretsmanager:CreateSecret"), times=9)
    keyed.run(Trigger.CHANGE)
    assert keyed.sync.settled_status is SyncStatus.FAILING

    keyed.edit(URL="postgres://new")

    assert keyed.due()
    keyed.run(Trigger.CHANGE)
    assert keyed.remote.object(URL).text() == "postgres://new"


def test_another_account_that_shows_in_the_middle_ends_the_writing(keyed: World) -> None:
    """The keys behind an identity may change at any moment; nothing more goes out, and the run is refused."""
    keyed.run()
    keyed.edit(A="a", B="b", C="c")
    keyed.destinations.fail("create", error=AccountMismatchError("another account"))

    run = keyed.run(Trigger.CHANGE)

    assert run.outcome is Outcome.REFUSED
    assert names(keyed) == [URL, USER]
    assert keyed.sync.settled_status is SyncStatus.HALTED
    assert keyed.sync.next_due_at is not None

    keyed.run(Trigger.SCHEDULE)
    assert len(names(keyed)) == 5


def test_a_key_that_waits_for_its_budget_does_not_hold_up_the_others(keyed: World) -> None:
    for number in range(BURST + 2):
        keyed.edit(URL=f"postgres://{number}")
        keyed.run(Trigger.CHANGE)
    assert keyed.sync.settled_status is SyncStatus.PENDING
    assert not keyed.due()

    keyed.edit(USER="somebody")

    assert keyed.due()
    run = keyed.run(Trigger.CHANGE)
    assert keyed.remote.object(USER).text() == "somebody"
    assert (keyed.sync.settled_status, run.waits_for) == (SyncStatus.PENDING, "version-budget")


def test_another_template_deletes_nothing(deleting: World) -> None:
    """What was written under the old names stays for good: no key was removed from the store."""
    deleting.configure(name_template="{env}/{key}")
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.edit(A=None)
    deleting.run()
    deleting.clock.pass_(hours=2)

    assert "delete" not in deleting.run().counts
    assert len(names(deleting)) == 6


def test_a_key_that_goes_after_the_names_came_back_has_its_whole_grace(deleting: World) -> None:
    """The time under other names does not count as time without the key."""
    deleting.configure(name_template="{env}/{key}")
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.run()
    deleting.configure(name_template="{app}/{env}/{key}")
    deleting.edit(A=None)

    assert "delete" not in deleting.run().counts
    deleting.clock.pass_(hours=2)
    assert deleting.run().counts["delete"] == 1


def test_an_edit_that_is_taken_back_is_not_left_to_a_write_that_may_still_land(keyed: World) -> None:
    """The store says again what was written last, and yet the object is looked at: its token is spent."""
    keyed.run()
    keyed.run()
    keyed.edit(URL="postgres://new")
    keyed.destinations.fail("put_value", error=OutcomeUnknownError("no answer"))
    keyed.run(Trigger.CHANGE)
    keyed.edit(URL="postgres://db")

    keyed.run(Trigger.CHANGE)

    entries = {entry.remote_name: entry for entry in keyed.store.sync_states.state_of("web").journal}
    assert entries[URL].intent is None
    assert keyed.remote.object(URL).text() == "postgres://db"
    assert len(keyed.remote.object(URL).versions) == 2


@pytest.mark.parametrize("meanwhile", [{"name_template": "{env}/{key}"}, {"on_remove": OnRemove.RETAIN}])
def test_a_grace_does_not_go_on_while_nothing_may_be_deleted(deleting: World, meanwhile: dict[str, Any]) -> None:
    """The key may have come back and gone again unseen."""
    before = {name: getattr(deleting.sync.config, name) for name in meanwhile}
    deleting.edit(A=None)
    deleting.run()
    deleting.configure(**meanwhile)
    deleting.run()
    deleting.clock.pass_(hours=2)
    deleting.configure(**before)

    assert "delete" not in deleting.run().counts
    deleting.clock.pass_(hours=2)
    assert deleting.run().counts["delete"] == 1


def test_text_becomes_binary_only_with_an_approval_although_an_answer_was_lost(keyed: World) -> None:
    """What landed is known to be text, however it was found out."""
    keyed.destinations.fail("create", when="after", times=2)
    keyed.run()
    writes = [SecretWrite(path="/", key="URL", value=SecretValue(b"\x00\xff", ValueType.BINARY))]
    keyed.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)

    assert keyed.run().outcome is Outcome.HELD
    assert keyed.remote.object(URL).text() == "postgres://db"
