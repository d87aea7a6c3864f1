"""`syncs why` and `syncs verify` on a whole phasesync."""

from datetime import timedelta

import pytest

from phasesync.core.planning.explain import ObjectExplanation
from phasesync.core.sync import Layout, OnRemove, Paused
from phasesync.engine import explanation
from phasesync.engine.explanation import Explanation
from phasesync.engine.value_comparison import verify_sync
from phasesync.errors import DestinationUnavailableError, PermissionDeniedError, UnresolvedReferenceError
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


def explain(world: World) -> Explanation:
    """Ask why."""
    return explanation.explain(world.context, "web")


def only(world: World) -> ObjectExplanation:
    """The one object of an explanation."""
    (one,) = explain(world).objects
    return one


def per_key(world: World, **config: object) -> None:
    """Have the sync write one object a key."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}", **config)


def test_a_sync_in_step_has_little_to_say(world: World) -> None:
    world.run()

    found = explain(world)

    assert found.reasons[0] == "status in-sync"
    assert "pinned to account 111122223333" in found.reasons
    assert (only(world).decision, only(world).ownership) == ("noop", "ours")
    assert found.problem is None


def test_a_pause_a_pending_revision_and_a_request_are_told(world: World) -> None:
    world.run()
    world.edit(URL="postgres://new")
    world.store.sync_requests.pause("web", Paused(by="ada", at=world.clock.now(), reason="a migration", until=None))

    reasons = explain(world).reasons

    assert reasons[0] == "status paused"
    assert any(line.startswith("paused by ada") and line.endswith(": a migration") for line in reasons)
    assert "revision 2 of shop/production is pending (applied: 1)" in reasons


def test_back_off_and_the_last_error_are_told(world: World) -> None:
    world.destinations.fail("create", error=PermissionDeniedError(action="secretsmanager:CreateSecret"))
    world.run()

    reasons = explain(world).reasons

    assert any("PermissionDeniedError" in line and "secretsmanager:CreateSecret" in line for line in reasons)
    assert "1 failed run in a row" in reasons
    assert any(line.startswith("backing off: no run by itself before") for line in reasons)


def test_what_ends_a_run_at_once_is_a_problem_and_the_journal_is_shown(world: World) -> None:
    """Neither an error nor a silence."""
    world.run()
    world.edit(URL="${MISSING}")

    found = explain(world)

    assert found.problem is not None
    assert found.problem.cls == "UnresolvedReferenceError"
    assert (only(world).remote_name, only(world).decision) == (NAME, None)
    assert only(world).budget.used_24h == 1


def test_a_lost_destination_is_a_problem_too(world: World) -> None:
    world.run()
    world.destinations.fail("observe", error=DestinationUnavailableError("no network"))

    found = explain(world)

    assert found.problem is not None
    assert found.objects[0].reason == "not looked at: no network"


def test_each_of_many_objects_is_explained_on_its_own(world: World) -> None:
    """One that AWS would not describe, one that cannot be made, one on its way out, one that is ours."""
    per_key(world, on_remove=OnRemove.DELETE, grace=timedelta(hours=2))
    world.edit(GONE="x", DENIED="x")
    world.run()
    world.edit(BAD="x" * 70_000, GONE=None)
    world.destinations.fail("observe", error=PermissionDeniedError(action="secretsmanager:DescribeSecret"))

    found = {one.remote_name: one for one in explain(world).objects}

    assert set(found) == {f"shop/{key}" for key in ("BAD", "DENIED", "GONE", "URL", "USER")}
    assert (found["shop/BAD"].decision, "65,536" in found["shop/BAD"].reason) == (None, True)
    assert (found["shop/DENIED"].ownership, found["shop/DENIED"].decision) == ("unknown", None)
    assert found["shop/GONE"].row == "no longer wanted"
    assert found["shop/GONE"].grace_until is not None
    assert found["shop/URL"].decision == "noop"


def test_why_writes_nothing(world: World) -> None:
    world.run()
    world.edit(URL="postgres://new")
    writes = world.writes()
    before = world.entry

    explain(world)

    assert (world.writes(), world.entry) == (writes, before)


# --- verify


def results(world: World) -> dict[str, str]:
    """Remote name -> what came of comparing it."""
    return {one.remote_name: str(one.result) for one in verify_sync(world.context, "web").objects}


@pytest.mark.reads_values("syncs verify")
def test_values_are_compared_with_what_the_store_wants(world: World) -> None:
    """Byte for byte, and text with text."""
    per_key(world)
    world.edit(MORE="x", LESS="x")
    world.run()
    assert verify_sync(world.context, "web").all_same

    world.remote.outside_put("shop/URL", "theirs")
    world.remote.outside_put("shop/USER", b"shop")
    world.remote.outside_delete("shop/MORE", recovery_days=None)
    world.remote.outside_delete("shop/LESS")

    assert results(world) == {
        "shop/URL": "differs",
        "shop/USER": "differs",
        "shop/MORE": "missing",
        "shop/LESS": "unreadable",
    }


def test_a_refused_read_names_the_action(world: World) -> None:
    world.run()
    world.destinations.fail("read_value", error=PermissionDeniedError(action="secretsmanager:GetSecretValue"))

    (one,) = verify_sync(world.context, "web").objects

    assert (str(one.result), "secretsmanager:GetSecretValue" in (one.reason or "")) == ("unreadable", True)
    assert "phasesync aws policy web --with-import" in (one.hint or "")


def test_a_source_that_does_not_resolve_is_an_error(world: World) -> None:
    world.edit(URL="${MISSING}")

    with pytest.raises(UnresolvedReferenceError):
        verify_sync(world.context, "web")
