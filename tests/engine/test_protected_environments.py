"""A protected environment at AWS: nothing reaches it, and nothing is taken from it, before somebody else approved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phasesync.core.actors import BY_ACTOR, BY_OS_USER
from phasesync.core.change_request import ChangeRequest, RequestStatus
from phasesync.core.run import Outcome
from phasesync.engine import approvals
from phasesync.engine.explanation import explain
from phasesync.engine.removal import force_delete, release_sync, remove_sync, remove_sync_and_objects
from phasesync.errors import ApprovalNeededError, IllegalTransitionError, PermissionDeniedError
from tests.fakes.remote import REGION
from tests.support.operator import operations
from tests.support.stores import ACTOR, access_key
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

SHOP = ("shop", "production")
OTHER = "grace"


@pytest.fixture
def protected(world: World) -> World:
    """A sync in step, of a protected environment."""
    world.run()
    world.store.apps.protect_environment(*SHOP, approvers=1)
    world.run()
    return world


def ask(world: World, change: Callable[[], object]) -> ChangeRequest:
    """Try a change, and have it filed as a command does."""
    with pytest.raises(ApprovalNeededError) as refused:
        change()
    return approvals.file_request(world.context, refused.value, actor=ACTOR)


def approve(world: World, request: ChangeRequest) -> ChangeRequest:
    """Have somebody else approve it."""
    return approvals.approve(world.context, SHOP, request.digest, actor=OTHER, by=BY_ACTOR)


def test_an_edit_reaches_aws_when_it_is_approved_and_the_run_says_who(protected: World) -> None:
    before, calls = protected.text, len(protected.writes())
    request = ask(protected, lambda: protected.edit(URL="postgres://new"))
    assert not protected.due()
    assert protected.run().outcome is Outcome.UNCHANGED
    assert (protected.text, len(protected.writes())) == (before, calls)

    approve(protected, request)
    assert protected.due()
    run = protected.run()

    assert "postgres://new" in protected.text
    (approved,) = approvals.approved_in(protected.context, run)
    assert (approved.asked_by, approved.approved_by, approved.digest) == (ACTOR, OTHER, request.digest)
    assert approvals.approved_in(protected.context, protected.run()) == [], "the next run carries nothing new"


def test_a_change_of_the_sync_is_shown_in_its_run(protected: World) -> None:
    request = ask(protected, lambda: protected.configure(description="another"))
    approve(protected, request)
    (approved,) = approvals.approved_in(protected.context, protected.run())
    assert approved.changes == ("update the sync web", "description: - -> another")


def test_whoever_references_it_sees_only_what_is_approved(protected: World) -> None:
    protected.store.apps.add_environment("shop", "other")
    ask(protected, lambda: protected.edit(URL="postgres://new"))
    with protected.store.secrets.snapshot() as reader:
        (snapshot,) = reader.load([SHOP]).values()
    assert snapshot.secrets["/", "URL"].reveal_text() == "postgres://db"


REMOVALS: dict[str, Callable[[World], object]] = {
    "remove and keep": lambda world: remove_sync(world.context, "web", actor=ACTOR),
    "remove and delete": lambda world: remove_sync_and_objects(world.context, "web", actor=ACTOR),
    "release": lambda world: release_sync(world.context, "web", actor=ACTOR),
    "force-delete": lambda world: force_delete(
        world.context, "aws", REGION, NAME, kind="aws-secrets-manager", actor=ACTOR
    ),
}


@pytest.mark.parametrize("command", REMOVALS.values(), ids=REMOVALS)
def test_what_is_taken_from_aws_waits_for_an_approval_and_the_same_command_then_does_it(
    protected: World, command: Callable[[World], object]
) -> None:
    tags, calls = dict(protected.object.tags), len(protected.writes())
    request = ask(protected, lambda: command(protected))
    assert request.command is not None
    assert (protected.object.tags, len(protected.writes()), protected.sync.paused) == (tags, calls, None)
    assert protected.object.deleted_at is None

    approved = approve(protected, request)
    assert (approved.status, len(protected.writes())) == (RequestStatus.APPROVED, calls)
    with pytest.raises(IllegalTransitionError, match="all its approvals"):
        approve(protected, request)

    command(protected)
    assert len(protected.writes()) > calls
    (done,) = protected.store.change_requests.list_requests(applied=True)
    assert (done.status, done.approved_by) == (RequestStatus.APPLIED, OTHER)


def test_an_approved_command_that_fails_can_be_repeated(protected: World) -> None:
    request = ask(protected, lambda: release_sync(protected.context, "web", actor=ACTOR))
    approve(protected, request)
    protected.destinations.fail("update_metadata", error=PermissionDeniedError())
    assert set(release_sync(protected.context, "web", actor=ACTOR).kept) == {NAME}
    assert release_sync(protected.context, "web", actor=ACTOR).given_back == (NAME,)
    assert protected.store.change_requests.list_requests() == []


def test_an_approval_is_for_the_sync_as_it_was(protected: World) -> None:
    request = ask(protected, lambda: remove_sync(protected.context, "web", actor=ACTOR))
    other = ask(protected, lambda: protected.configure(description="another"))
    approve(protected, request)
    approve(protected, other)
    again = ask(protected, lambda: remove_sync(protected.context, "web", actor=ACTOR))
    assert again.digest != request.digest


def test_an_altered_sync_can_still_be_removed(protected: World) -> None:
    with protected.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE syncs SET path = '/other'")
    request = ask(protected, lambda: remove_sync(protected.context, "web", actor=ACTOR))
    approve(protected, request)
    remove_sync(protected.context, "web", actor=ACTOR)
    assert not protected.store.syncs.has_sync("web")


def test_what_the_guard_holds_is_approved_by_another_person_than_the_author(protected: World) -> None:
    approve(protected, ask(protected, lambda: protected.edit(URL=None, USER=None)))
    assert protected.run().outcome is Outcome.HELD
    digest = operations(protected).plan("web").guarded.digest
    assert digest is not None
    with pytest.raises(IllegalTransitionError, match=f"{ACTOR} made its newest edit"):
        operations(protected).approve("web", digest, actor=ACTOR)
    with pytest.raises(IllegalTransitionError, match=f"{ACTOR} made its newest edit"):
        protected.store.sync_requests.approve_all({"web": digest}, actor=ACTOR)
    operations(protected).approve("web", digest, actor=OTHER)
    assert protected.run().outcome is Outcome.APPLIED


def test_who_may_approve_what_the_guard_holds_is_told_apart_as_for_requests(protected: World) -> None:
    approve(protected, ask(protected, lambda: protected.edit(URL=None, USER=None)))
    protected.run()
    digest = operations(protected).plan("web").guarded.digest
    assert digest is not None
    # A revision without an author: the newest edit is the one before.
    approve(protected, ask(protected, lambda: protected.store.apps.protect_environment(*SHOP, approvers=2)))
    own = [(f" {ACTOR.upper()}", BY_ACTOR), (f"{ACTOR} as grace", BY_OS_USER)]
    for actor, by in own:
        with pytest.raises(IllegalTransitionError, match="made its newest edit"):
            operations(protected).approve("web", digest, actor=actor, by=by)
        with pytest.raises(IllegalTransitionError, match="made its newest edit"):
            protected.store.sync_requests.approve_all({"web": digest}, actor=actor, by=by)
    operations(protected).approve("web", digest, actor=f"{ACTOR} as grace", by=BY_ACTOR)


def test_an_approved_deletion_is_for_the_credential_that_was_named(protected: World) -> None:
    request = ask(protected, lambda: REMOVALS["force-delete"](protected))
    approve(protected, request)
    protected.store.credentials.rename("aws", "former")
    protected.store.credentials.add("aws", access_key())
    again = ask(protected, lambda: REMOVALS["force-delete"](protected))
    assert again.digest != request.digest
    assert protected.object.deleted_at is None


def test_an_explanation_names_what_waits(protected: World) -> None:
    request = ask(protected, lambda: protected.edit(URL="postgres://new"))
    assert [one.digest for one in explain(protected.context, "web").requests] == [request.digest]
