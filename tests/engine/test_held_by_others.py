"""Managed external secrets, and copies between accounts: never written, taken over or deleted, and never hidden."""

from collections.abc import Callable

import pytest

from phasesync.core.model import SecretValue
from phasesync.core.remote import CrossAccountStatus
from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt, Layout, OnRemove
from phasesync.engine.explanation import explain
from phasesync.engine.import_values import read_remote
from phasesync.engine.removal import force_delete, remove_sync_and_objects
from phasesync.engine.value_comparison import verify_sync
from phasesync.errors import IllegalTransitionError, OwnershipConflictError
from tests.fakes.remote import ACCOUNT, REGION
from tests.support.operator import accept, preview
from tests.support.stores import ACTOR
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

KIND = "aws-secrets-manager"
THEIR_ACCOUNT = "222222222222"
WRITES = {"create", "put_value", "update_metadata", "restore", "delete", "replicate", "remove_replicas"}


def make_external(world: World) -> str:
    """A partner's secret has the name; return what names it."""
    world.remote.outside_create(NAME, '{"URL": "theirs"}')
    world.remote.outside_external(NAME, "DatadogApiKey")
    return "DatadogApiKey"


def make_copy(world: World) -> str:
    """A copy of another account's secret has the name; return what names its primary."""
    primary = world.remote.outside_create(NAME, '{"URL": "theirs"}', account=THEIR_ACCOUNT)
    world.remote.outside_copy(NAME, account=ACCOUNT, primary_account=THEIR_ACCOUNT)
    return primary.arn


Make = Callable[[World], str]
THEIRS = pytest.mark.parametrize("make", [make_external, make_copy], ids=["external", "copy"])


def nothing_was_changed(world: World) -> bool:
    """Whether no call was made that changes anything."""
    return not WRITES & set(world.destinations.log)


@THEIRS
def test_it_is_no_target_and_the_reason_names_who_holds_it(world: World, make: Make) -> None:
    name = make(world)

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None
    assert name in run.error.message
    assert world.text == '{"URL": "theirs"}'
    assert nothing_was_changed(world)


@THEIRS
@pytest.mark.parametrize("mode", Adopt)
def test_it_is_not_taken_over_whatever_was_consented_to(world: World, make: Make, mode: Adopt) -> None:
    name = make(world)
    offer = preview(world, mode)

    assert offer.existing.adoptable == ()
    assert name in offer.existing.warnings[0]
    with pytest.raises(IllegalTransitionError, match=name):
        accept(world, offer)

    shown = {NAME: world.object.observed().current_version or ""}
    world.store.sync_requests.consent_to_adopt("web", mode, actor=ACTOR, versions=shown)
    assert world.run().outcome is Outcome.REFUSED
    assert nothing_was_changed(world)


@THEIRS
def test_why_says_who_holds_it(world: World, make: Make) -> None:
    name = make(world)

    (one,) = explain(world.context, "web").objects

    assert (one.decision, one.ownership) == ("refuse", "foreign")
    assert name in one.reason


@pytest.mark.reads_values("syncs adopt --import")
@THEIRS
def test_its_value_can_be_imported_with_a_warning(world: World, make: Make) -> None:
    """Reading harms no one; whoever imports has to know that the value gets old."""
    name = make(world)

    read = read_remote(world.context, kind=KIND, credential="aws", region=None, remote_name=NAME)

    assert read.value == SecretValue('{"URL": "theirs"}')
    assert name in (read.warning or "")


@pytest.mark.reads_values("syncs adopt --import")
def test_an_import_of_anything_else_warns_of_nothing(world: World) -> None:
    world.remote.outside_create(NAME, "theirs")
    read = read_remote(world.context, kind=KIND, credential="aws", region=None, remote_name=NAME)
    assert read.warning is None


def test_what_was_ours_is_left_to_the_partner_from_then_on(world: World) -> None:
    """UpdateSecret can set the type of a secret that exists: neither its value nor its deletion is ours any more."""
    world.configure(on_remove=OnRemove.DELETE, layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.run()
    world.remote.outside_external("shop/URL")
    world.edit(URL=None, USER="new")
    world.clock.pass_(hours=2)
    world.run()
    world.run()

    assert world.remote.object("shop/URL").deleted_at is None
    assert world.remote.object("shop/URL").text() == "postgres://db"
    assert world.remote.object("shop/USER").text() == "new"

    blocked = remove_sync_and_objects(world.context, "web", actor=ACTOR).blocked
    assert "SalesforceClientSecret" in blocked["shop/URL"]
    with pytest.raises(OwnershipConflictError, match="SalesforceClientSecret"):
        force_delete(world.context, "aws", None, "shop/URL", kind=KIND, actor=ACTOR)
    assert world.remote.object("shop/URL").deleted_at is None


# --- our own secret, with a copy in another account


def with_copy(world: World) -> str:
    """The sync has written its secret, and another account has a copy; return the command that ends that."""
    world.run()
    made = world.remote.outside_copy(NAME, account=THEIR_ACCOUNT)
    return (
        f"aws secretsmanager disassociate-cross-account-replica --secret-id {NAME} "
        f"--cross-account-replica-arn {made.arn} --region {REGION}"
    )


def test_a_primary_is_written_as_ever_and_its_copy_follows(world: World) -> None:
    with_copy(world)
    world.edit(URL="postgres://new")

    assert world.run().outcome is Outcome.APPLIED
    copied = world.remote.object(NAME, account=THEIR_ACCOUNT)
    assert copied.text() == world.text
    assert "postgres://new" in copied.text()


def test_a_copy_blocks_the_deletion_until_its_replication_is_ended(world: World) -> None:
    """Nothing of it is done by halves, and the message has the whole command."""
    command = with_copy(world)

    first = remove_sync_and_objects(world.context, "web", actor=ACTOR)
    with pytest.raises(OwnershipConflictError) as forced:
        force_delete(world.context, "aws", None, NAME, kind=KIND, actor=ACTOR)

    assert command in first.blocked[NAME]
    assert forced.value.hint == command
    assert world.object.deleted_at is None
    assert "delete" not in world.destinations.log

    world.remote.outside_end_copies(NAME)
    assert remove_sync_and_objects(world.context, "web", actor=ACTOR).scheduled == (NAME,)
    copied = world.remote.object(NAME, account=THEIR_ACCOUNT)
    assert copied.deleted_at is None
    assert copied.cross_account_primary is not None
    assert copied.cross_account_primary.status is CrossAccountStatus.DETACHED


def test_a_copy_that_appears_while_it_is_deleted_keeps_it(world: World) -> None:
    world.run()

    def copy(when: str, what: str) -> None:
        if (when, what) == ("before", "delete") and not world.object.cross_account_copies:
            world.remote.outside_copy(NAME, account=THEIR_ACCOUNT)

    with world.steps(copy):
        blocked = remove_sync_and_objects(world.context, "web", actor=ACTOR).blocked

    assert list(blocked) == [NAME]
    assert world.object.deleted_at is None
    assert world.store.sync_states.state_of("web").journal[0].deletion_at is None


def test_why_tells_of_a_copy_and_of_whose_rights_it_is_made_with(world: World) -> None:
    with_copy(world)

    (one,) = explain(world.context, "web").objects

    assert "copy in 222222222222: InSync, replicated with the rights of the writer" in one.reported


@pytest.mark.reads_values("syncs verify")
def test_verify_says_why_a_value_is_another_one(world: World) -> None:
    make_external(world)

    (one,) = verify_sync(world.context, "web").objects

    assert "DatadogApiKey" in (one.reason or "")
