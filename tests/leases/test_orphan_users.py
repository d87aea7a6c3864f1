"""Users that no lease wants: found by our marks, shown, and removed; others' users are never touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.events import ChoreFailed, OrphanUsersRemoved
from phasesync.core.lease_users import TAG_LEASE, TAG_MAX_EXPIRES_AT, OrphanVerdict
from phasesync.core.model import SecretValue
from phasesync.core.remote import TAG_INSTANCE
from phasesync.errors import IllegalTransitionError, NotFoundError
from phasesync.ports.issuer import RevokeOutcome
from phasesync.store import Store
from phasesync.store.tables import credentials as credential_rows
from phasesync.store.tables import dynamic_secrets as dynamic_rows
from phasesync.store.tables import leases as lease_rows
from tests.support.databases import on_each_database
from tests.support.lease_world import INLINE, REGION, LeaseWorld
from tests.support.stores import ACTOR, alter
from tests.support.vouching import vouch_for_leases


def lose_rows(store: Store) -> None:
    """The database was put back to a time before the leases."""
    with store.database.write() as connection:
        connection.execute(lease_rows.delete())
    vouch_for_leases(store.database)


def add_user(world: LeaseWorld, name: str, *, path: str = "/phasesync/shop/production/", **tags: str) -> None:
    """Someone makes a user with tags."""
    named = {"instance": TAG_INSTANCE, "lease": TAG_LEASE, "end": TAG_MAX_EXPIRES_AT}
    listed = [{"Key": named[key], "Value": value} for key, value in tags.items()]
    world.iam.create_user(UserName=name, Path=path, Tags=listed)


def fates(world: LeaseWorld) -> dict[str, OrphanVerdict]:
    return {orphan.user.name: orphan.verdict for scan in world.orphan_users.scan() for orphan in scan.orphans}


def reaped(world: LeaseWorld) -> list[tuple[str, int, int]]:
    return [(one.account, one.orphans, one.removed) for one in world.events if isinstance(one, OrphanUsersRemoved)]


@on_each_database
def test_users_of_live_leases_stay_and_cost_no_call_each(world: LeaseWorld) -> None:
    names = {world.issue().lease.spec.name for _ in range(3)}
    before = len(world.calls())

    world.orphan_users.collect(lambda: None)

    assert world.users() == names
    assert world.calls()[before:] == ["ListUsers"]
    assert reaped(world) == [("123456789012", 0, 0)]


@on_each_database
def test_a_user_of_a_lost_lease_stays_until_the_end_that_its_tag_names(world: LeaseWorld) -> None:
    name = world.issue().lease.spec.name
    lose_rows(world.store)
    assert fates(world) == {name: OrphanVerdict.UNKNOWN}
    world.clock.pass_(hours=7)
    world.orphan_users.collect(lambda: None)
    assert world.users() == {name}, "somebody may still want it: a lease lives for eight hours"

    world.clock.pass_(hours=2)
    assert fates(world) == {name: OrphanVerdict.OVERDUE}
    world.orphan_users.collect(lambda: None)

    assert world.users() == set()
    assert reaped(world)[-1] == ("123456789012", 1, 1)


def test_a_lost_user_with_much_on_it_is_stripped_and_removed(world: LeaseWorld) -> None:
    name = world.issue().lease.spec.name
    world.iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=INLINE)
    lose_rows(world.store)
    world.clock.pass_(hours=9)

    world.orphan_users.collect(lambda: None)

    assert world.users() == set()


OTHERS: list[dict[str, str]] = [
    {},
    {"instance": "another", "lease": "l", "end": "2020-01-01T00:00:00Z"},
    {"lease": "l", "end": "2020-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("tags", OTHERS)
def test_others_users_under_our_path_are_never_touched(world: LeaseWorld, tags: dict[str, str]) -> None:
    add_user(world, "theirs", **tags)

    assert fates(world) == {}
    world.orphan_users.collect(lambda: None)

    assert world.users() == {"theirs"}


@pytest.mark.parametrize("end", ["", "soon", "2020-01-01", "2020-13-01T00:00:00Z"])
def test_a_user_of_ours_whose_end_cannot_be_read_is_shown_and_left(world: LeaseWorld, end: str) -> None:
    add_user(world, "ours", instance=world.store.instance_id, lease="lost", end=end)

    assert fates(world) == {"ours": OrphanVerdict.UNKNOWN}
    world.orphan_users.collect(lambda: None)

    assert world.users() == {"ours"}


def test_a_user_that_lost_its_lease_tag_is_left_alone(world: LeaseWorld) -> None:
    add_user(world, "ours", instance=world.store.instance_id, end="2020-01-01T00:00:00Z")

    (orphan,) = [orphan for scan in world.orphan_users.scan() for orphan in scan.orphans]
    results = world.orphan_users.remove([orphan], actor=ACTOR)

    assert [result for _, result in results] == [RevokeOutcome.FOREIGN]
    assert world.users() == {"ours"}


def test_a_name_that_was_taken_over_between_the_look_and_the_removal_is_left_alone(world: LeaseWorld) -> None:
    ours = {"instance": world.store.instance_id, "lease": "lost", "end": "2020-01-01T00:00:00Z"}
    add_user(world, "ci-1", **ours)
    orphans = [orphan for scan in world.orphan_users.scan() for orphan in scan.orphans]
    world.iam.delete_user(UserName="ci-1")
    add_user(world, "ci-1", instance="another", lease="theirs", end="2030-01-01T00:00:00Z")

    results = world.orphan_users.remove(orphans, actor=ACTOR)

    assert [result for _, result in results] == [RevokeOutcome.FOREIGN]
    assert world.users() == {"ci-1"}


def test_nothing_is_removed_while_the_database_may_be_an_older_one(world: LeaseWorld) -> None:
    name = world.issue().lease.spec.name
    lose_rows(world.store)
    world.clock.pass_(hours=9)
    world.become_restored()

    world.orphan_users.collect(lambda: None)
    orphans = [orphan for scan in world.orphan_users.scan() for orphan in scan.orphans]
    with pytest.raises(IllegalTransitionError, match="older backup"):
        world.orphan_users.remove(orphans, actor=ACTOR)

    assert [orphan.verdict for orphan in orphans] == [OrphanVerdict.OVERDUE]
    assert world.users() == {name}
    assert world.events == []


def test_paths_that_operators_chose_are_looked_at_as_well(world: LeaseWorld) -> None:
    world.add("ops", config=replace(world.dynamic.config, iam_path="/teams/ops/", keys=_other_keys()))
    ours = {"instance": world.store.instance_id, "lease": "lost", "end": "2020-01-01T00:00:00Z"}
    add_user(world, "ops-1", path="/teams/ops/", **ours)
    add_user(world, "else-1", path="/elsewhere/", **ours)

    world.orphan_users.collect(lambda: None)

    left = {user["UserName"] for user in world.iam.list_users()["Users"]}
    assert left == {"else-1"}, "that path is none of ours"


def test_a_path_whose_leases_live_is_looked_at_although_the_dynamic_secret_has_another_one(world: LeaseWorld) -> None:
    world.configuration.update("ci", lambda config: replace(config, iam_path="/teams/ops/"))
    world.issue()
    world.configuration.update("ci", lambda config: replace(config, iam_path=None))
    add_user(world, "ops-1", path="/teams/ops/", **_overdue(world))

    assert fates(world) == {"ops-1": OrphanVerdict.OVERDUE}


@on_each_database
def test_the_credential_of_live_leases_looks_as_well(world: LeaseWorld) -> None:
    world.issue()
    other = {"access_key_id": "AKIAANOTHERCREDENTIAL", "secret_access_key": SecretValue("not-a-real-secret")}
    draft = CredentialDraft(type=CredentialType.ACCESS_KEY, region=REGION, **other)  # type: ignore[arg-type]
    world.store.credentials.add("two", draft)
    world.configuration.update("ci", lambda config: config, credential="two")
    world.aws.deny("iam:ListUsers", caller="AKIAANOTHERCREDENTIAL")
    add_user(world, "ci-1", **_overdue(world))

    assert fates(world) == {"ci-1": OrphanVerdict.OVERDUE}


def test_where_users_lie_under_no_path_all_users_are_looked_at(world: LeaseWorld) -> None:
    world.store.dynamics.update("ci", credential="aws", config=replace(world.dynamic.config, iam_path=None))
    add_user(world, "ci-1", path="/", **_overdue(world))

    assert fates(world) == {"ci-1": OrphanVerdict.OVERDUE}


def test_what_was_altered_tells_no_path(world: LeaseWorld) -> None:
    world.issue()
    with world.store.database.write() as connection:
        connection.execute(lease_rows.update().values(details=b"altered"))
        connection.execute(dynamic_rows.update().values(config=b"altered"))
    add_user(world, "elsewhere", path="/", **_overdue(world))

    assert "elsewhere" not in fates(world)


def _overdue(world: LeaseWorld) -> dict[str, str]:
    return {"instance": world.store.instance_id, "lease": "lost", "end": "2020-01-01T00:00:00Z"}


def _other_keys() -> dict[str, str]:
    return {"username": "OPS_USER", "access_key_id": "OPS_ID", "secret_access_key": "OPS_SECRET"}


def test_a_credential_that_may_not_list_is_told_and_removes_nothing(world: LeaseWorld) -> None:
    world.deny("iam:ListUsers")

    (scan,) = world.orphan_users.scan()
    world.orphan_users.collect(lambda: None)

    assert scan.error is not None and "iam:ListUsers" in scan.error.message
    failed = [one for one in world.events if isinstance(one, ChoreFailed)]
    assert [(one.chore, one.error) for one in failed] == [("reap-users", "PermissionDeniedError")]


def test_a_user_that_may_not_be_looked_at_hides_no_other(world: LeaseWorld) -> None:
    """Another's, elsewhere under our path: the printed policy names paths of recipes alone."""
    world.iam.create_user(UserName="another", Path="/phasesync/other/")
    add_user(world, "ci-1", instance=world.store.instance_id, lease="lost", end="2020-01-01T00:00:00Z")
    world.aws.deny("iam:GetUser", caller="AKIATESTTESTTESTTEST", resource="*/another")

    assert world.orphan_users.collect(lambda: None)

    assert world.users() == {"another"}


def test_a_credential_that_was_altered_is_told_and_hides_no_other(world: LeaseWorld) -> None:
    world.store.credentials.add("zz", CredentialDraft(type=CredentialType.AMBIENT, region=REGION))
    world.add("other", credential="zz", config=replace(world.dynamic.config, keys=_other_keys()))
    add_user(world, "ci-1", instance=world.store.instance_id, lease="lost", end="2020-01-01T00:00:00Z")
    alter(world.store, credential_rows, world.store.credentials.get("zz").id, sealed=b"nothing of ours")

    assert not world.orphan_users.collect(lambda: None), "it is tried again sooner"

    assert world.users() == set()
    assert [one.error for one in world.events if isinstance(one, ChoreFailed)] == ["CiphertextError"]


def test_credentials_that_no_recipe_uses_any_more_look_as_well(world: LeaseWorld) -> None:
    """What came into being late would be no one's; that one without any right finds nothing is no failure."""
    add_user(world, "ci-1", instance=world.store.instance_id, lease="lost", end="2020-01-01T00:00:00Z")
    world.store.dynamics.remove("ci")

    assert world.orphan_users.collect(lambda: None)
    assert world.users() == set()

    world.deny("iam:*")
    assert world.orphan_users.scan() == []


def test_a_removal_that_fails_is_told_and_the_others_go_on(world: LeaseWorld) -> None:
    ours = {"instance": world.store.instance_id, "end": "2020-01-01T00:00:00Z"}
    for name in ("ci-1", "ci-2"):
        add_user(world, name, lease=f"lost-{name}", **ours)
    orphans = [orphan for scan in world.orphan_users.scan() for orphan in scan.orphans]
    world.aws.deny("iam:DeleteUser", caller="AKIATESTTESTTESTTEST", resource="*ci-1")

    results = {orphan.user.name: result for orphan, result in world.orphan_users.remove(orphans, actor=ACTOR)}

    assert results["ci-2"] is RevokeOutcome.REMOVED
    assert getattr(results["ci-1"], "code", None) == "AccessDenied"
    assert world.users() == {"ci-1"}


def test_an_unknown_credential_is_named(world: LeaseWorld) -> None:
    with pytest.raises(NotFoundError, match="there is no credential nobody"):
        world.orphan_users.scan("nobody")
