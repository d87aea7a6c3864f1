"""Incidents over the owner of an object: two syncs, two accounts, somebody else's secret, a service's secret."""

import pytest

from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Adopt, Layout, OnDrift, SyncConfig, SyncStatus, Trigger
from phasesync.errors import AlreadyExistsError
from tests.support.stores import ACTOR, EXPIRED, access_key, sync_draft
from tests.support.world import NAME, World


def run_of(world: World, sync_id: str) -> Run | None:
    """Run another sync of the same world."""
    claim = world.store.claims.claim(sync_id, "daemon-x", trigger=Trigger.MANUAL, actor=ACTOR, ttl=EXPIRED)
    return world.another_reconciler().reconcile(claim, lambda: None)


def test_a_second_sync_of_the_same_name_is_refused_when_it_is_added(world: World) -> None:
    draft = sync_draft("second", region=world.sync.region, config=SyncConfig(remote_name=NAME.upper()))

    with pytest.raises(AlreadyExistsError, match="web"):
        world.store.syncs.add_sync(draft)


def test_syncs_whose_names_meet_leave_each_other_alone(world: World) -> None:
    """The names of a layout per-key come from keys, so two syncs may meet later: the second one is refused."""
    world.run()
    config = SyncConfig(layout=Layout.PER_KEY, name_template="shop/{key}")
    second = world.store.syncs.add_sync(sync_draft("second", region=world.sync.region, config=config))
    world.edit(web="mine")
    world.run()
    text = world.text

    run = run_of(world, second.id)

    assert run is not None and run.outcome is Outcome.REFUSED
    assert run.error is not None and NAME in run.error.message
    assert world.text == text
    assert world.run().outcome is Outcome.UNCHANGED


def test_an_existing_secret_is_taken_over_with_consent_alone_and_its_tags_are_remembered(world: World) -> None:
    world.remote.outside_create(NAME, "theirs", tags={"team": "other"})
    refused = world.run()
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None and refused.error.hint == "phasesync syncs adopt web takes it over"
    assert world.text == "theirs"

    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED
    assert world.entry.former_tags == {"team": "other"}
    assert world.object.tags["team"] == "other"


def test_what_somebody_changed_is_not_written_over_where_the_sync_holds(world: World) -> None:
    world.configure(on_drift=OnDrift.HOLD)
    world.run()
    world.remote.outside_put(NAME, "theirs")

    assert world.run().outcome is Outcome.HELD
    assert world.text == "theirs"


def test_the_main_job_reads_no_value(world: World) -> None:
    """Create, change, repair, restore, metadata: GetSecretValue is never called."""
    world.run()
    world.edit(URL="postgres://new")
    world.run()
    world.remote.outside_put(NAME, "theirs")
    world.run()
    world.remote.outside_delete(NAME)
    world.run()
    world.configure(description="ours", tags={"team": "shop"})
    world.run()

    assert "read_value" not in world.destinations.log


def test_the_same_name_in_two_accounts_is_two_objects(world: World) -> None:
    world.run()
    other = world.store.credentials.add("other", access_key(region=world.sync.region))
    world.destinations.accounts[other.id] = "444455556666"
    draft = sync_draft("second", credential="other", region=world.sync.region, config=SyncConfig(remote_name=NAME))
    second = world.store.syncs.add_sync(draft)

    run = run_of(world, second.id)

    assert run is not None and run.outcome is Outcome.APPLIED
    assert world.remote.object(NAME, account="444455556666").text() == world.text


def test_the_same_key_in_two_folders_is_two_values(world: World) -> None:
    writes = [SecretWrite(path="/db", key="URL", value=SecretValue("of the folder"))]
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)
    world.run()

    assert '"URL":"postgres://db"' in world.text


def test_references_are_resolved_in_what_is_pushed_or_nothing_is(world: World) -> None:
    world.edit(DSN="${URL}/app")
    world.run()
    assert '"DSN":"postgres://db/app"' in world.text

    text = world.text
    world.edit(DSN="${MISSING}/app")
    run = world.run()
    assert run.error is not None
    assert run.error.cls == "UnresolvedReferenceError" and "MISSING" in run.error.message
    assert world.text == text


def test_a_secret_of_a_service_is_left_alone(world: World) -> None:
    """RDS and others own secrets; not even a consent to adopt changes that."""
    world.run()
    world.remote.outside_service(NAME)
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    world.edit(URL="postgres://new")
    text = world.text

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert world.sync.settled_status is SyncStatus.HALTED
    assert world.text == text


def test_a_secret_that_aws_rotates_is_left_alone(world: World) -> None:
    """Two writers would undo each other's work for ever."""
    world.run()
    world.remote.outside_rotation(NAME)
    world.edit(URL="postgres://new")

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None and "rotat" in run.error.message
    assert world.versions == 2, "ours, and the one that the rotation prepares"
