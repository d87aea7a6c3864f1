"""While a database is known to be older than AWS, and that is not accepted, nothing is written in any dimension."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.remote import TAG_INSTANCE
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnRemove, SyncConfig, SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.explanation import explain
from phasesync.engine.removal import release_sync, remove_sync
from phasesync.engine.stale_database import SKIP
from phasesync.errors import IllegalTransitionError, StaleDatabaseError
from phasesync.store.instance import lock_registry
from phasesync.store.tables import journal, syncs
from tests.fakes.remote import REGION
from tests.support.databases import on_each_database
from tests.support.operator import operations
from tests.support.stores import ACTOR, EXPIRED, TTL, sync_draft
from tests.support.vouching import set_restore_mark
from tests.support.world import KEY_ARN, NAME, World

OTHER = "shop/other"


def put_back(world: World) -> None:
    """The database was put in place of a later state, as `db restore` notes it."""
    set_restore_mark(world.store.database)


def edited(world: World) -> None:
    world.edit(URL="postgres://older")


def first_write(world: World) -> None:
    world.configure(remote_name=OTHER)


def tags(world: World) -> None:
    world.configure(tags={"team": "older"})


def description(world: World) -> None:
    world.configure(description="older")


def policy(world: World) -> None:
    statement = (
        '{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
        '"Principal":{"AWS":"arn:aws:iam::111122223333:role/reader"},"Resource":"*"}'
    )
    world.configure(resource_policy=f'{{"Statement":[{statement}],"Version":"2012-10-17"}}')


def key(world: World) -> None:
    world.configure(kms_key=KEY_ARN)


def copies(world: World) -> None:
    world.configure(replicas={"us-east-1": AWS_MANAGED_KEY})


def deletion_undone(world: World) -> None:
    world.remote.outside_delete(NAME)


CHANGES: list[tuple[Callable[[World], None], str]] = [
    (edited, "put"),
    (first_write, "create"),
    (tags, "retag"),
    (description, "set-description"),
    (policy, "set-policy"),
    (key, "rekey"),
    (copies, "replicate"),
    (deletion_undone, "restore"),
]


@pytest.mark.parametrize("database_backend", ["sqlite"])
@pytest.mark.parametrize(("change", "action"), CHANGES)
def test_every_row_of_the_table_that_writes_is_held(world: World, change: Callable[[World], None], action: str) -> None:
    """Until an operator accepts the database; then it goes on."""
    world.run()
    change(world)
    put_back(world)
    world.destinations.log.clear()

    for trigger in (Trigger.CHANGE, Trigger.MANUAL, Trigger.SCHEDULE):
        run = world.run(trigger)
        assert run.error is not None
        assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
        assert run.error.hint is not None and "db accept-restore" in run.error.hint
        (made,) = [one for one in run.changes if one.action == action]
        assert made.outcome is Outcome.HELD
        assert made.reason.startswith("this database is older than AWS")

    assert world.writes() == []
    assert world.sync.settled_status is SyncStatus.HALTED
    world.store.restore_mark.accept(ahead=SKIP)
    assert world.due()
    if action == "create":  # The guard asks for a word of its own, as ever.
        operations(world).approve("web", operations(world).plan("web").guarded.digest or "", actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED


@pytest.mark.parametrize("database_backend", ["sqlite"])
def test_what_is_as_wanted_stays_in_step(world: World) -> None:
    world.run()
    put_back(world)
    assert world.run().outcome is Outcome.UNCHANGED
    assert world.sync.settled_status is SyncStatus.IN_SYNC


@pytest.mark.parametrize("database_backend", ["sqlite"])
def test_a_plan_shows_what_would_be_written_and_no_approval_releases_it(world: World) -> None:
    world.run()
    edited(world)
    put_back(world)

    report = operations(world).plan("web")

    assert [str(one.rule) for one in report.guarded.held] == ["restored"]
    assert report.guarded.digest is None
    assert [one.held for one in explain(world.context, "web").objects] == ["restored"]
    with pytest.raises(StaleDatabaseError):
        operations(world).approve("web", "0" * 16, actor=ACTOR)


@pytest.mark.parametrize("database_backend", ["sqlite"])
def test_a_plan_is_shown_although_aws_has_newer_versions(two: World) -> None:
    """Who has to decide whether to accept the database sees what that would write."""
    two.run()

    report = operations(two).plan("web")

    (held,) = report.guarded.held
    assert (str(held.rule), str(held.change.action), held.change.keys.changed) == ("restored", "put", ("URL",))
    assert [one.row for one in explain(two.context, "web").objects] == [
        "ours, current version is not the one that was written last"
    ]


@pytest.mark.parametrize("database_backend", ["sqlite"])
def test_deletions_wait_as_well(world: World) -> None:
    world.configure(
        layout=Layout.PER_KEY,
        remote_name=None,
        name_template="shop/{key}",
        on_remove=OnRemove.DELETE,
        grace=timedelta(0),
    )
    world.edit(MORE="x")
    world.run()
    world.edit(MORE=None)
    put_back(world)

    world.run()

    assert world.remote.object("shop/MORE").deleted_at is None
    world.store.restore_mark.accept(ahead=SKIP)
    world.run()
    assert world.remote.object("shop/MORE").deleted_at is not None


# --- the proof on one sync is a proof for the whole database


@pytest.fixture
def two(world: World) -> World:
    """A second sync of the same environment; the journal of the first one is older than AWS."""
    config = replace(SyncConfig(remote_name=OTHER), description="ours")
    other = world.store.syncs.add_sync(sync_draft("other", region=REGION, config=config)).id
    world.run()
    reconcile(world, other)
    with world.store.database.read() as connection:
        mine = connection.execute(sa.select(journal).where(journal.c.sync_id == world.sync_id)).one()._asdict()
    world.edit(URL="postgres://newer")
    world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.update().where(journal.c.id == mine["id"]).values(**mine))
    return world


def reconcile(world: World, sync_id: str) -> Outcome:
    """Reconcile the other sync."""
    claim = world.store.claims.claim(sync_id, "daemon", trigger=Trigger.CHANGE, actor=ACTOR, ttl=EXPIRED)
    run = world.another_reconciler().reconcile(claim, lambda: None)
    assert run is not None
    return run.outcome


@on_each_database
def test_no_sync_writes_once_one_has_met_the_proof(two: World) -> None:
    """Its own metadata included: what the later state had set there is not known here."""
    other = two.store.syncs.get_sync("other").id
    two.remote.outside_describe(OTHER, description="newer")
    assert two.run().outcome is Outcome.REFUSED
    two.destinations.log.clear()

    assert reconcile(two, other) is Outcome.REFUSED

    assert two.writes() == []
    assert two.remote.object(OTHER).description == "newer"
    two.store.restore_mark.accept(ahead=SKIP)
    assert not two.store.restore_mark.is_set()
    assert reconcile(two, other) is Outcome.APPLIED
    assert two.run().outcome is Outcome.APPLIED


@on_each_database
def test_a_run_under_way_writes_nothing_more_once_another_sync_has_met_the_proof(two: World) -> None:
    """It had looked, and planned its write, before."""
    other = two.store.syncs.get_sync("other")
    claim = two.store.claims.claim(other.id, "daemon", trigger=Trigger.CHANGE, actor=ACTOR, ttl=TTL)
    checkpoint = ClaimKeeper(two.context).hold(claim)
    checkpoint()

    two.run()

    with pytest.raises(StaleDatabaseError):
        checkpoint()


@on_each_database
def test_the_proof_outlives_its_sync_and_its_evidence(two: World) -> None:
    """Neither removing the sync that met it nor a later change of the object makes the database newer."""
    two.run()
    two.remote.outside_put(NAME, "theirs")
    two.remote.outside_put(NAME, "theirs again")
    assert two.run().outcome is Outcome.REFUSED

    (line,) = remove_sync(two.context, "web", actor=ACTOR)

    assert "keeps our tags" in line
    assert TAG_INSTANCE in two.object.tags
    assert two.store.restore_mark.is_set()
    assert two.store.sync_states.state_of("other").restored


@on_each_database
def test_a_proof_that_an_earlier_release_met_counts(two: World) -> None:
    """It noted it on the sync alone."""
    two.run()
    with two.store.database.write() as connection:
        lock_registry(connection, two.store.keys).store(restored_at=None)
        assert connection.scalar(sa.select(syncs.c.error_class).where(syncs.c.name == "web"))

    assert two.store.restore_mark.is_set()
    assert two.store.sync_states.state_of("other").restored


@pytest.mark.parametrize("database_backend", ["sqlite"])
def test_former_tags_are_not_put_back(two: World) -> None:
    two.run()
    two.destinations.log.clear()

    with pytest.raises(IllegalTransitionError):
        release_sync(two.context, "other", actor=ACTOR)

    assert two.writes() == []
    assert two.store.syncs.get_sync("other").paused is None
