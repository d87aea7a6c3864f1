"""A database that is older than AWS: nothing newer is overwritten, however often it is tried."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from phasesync.adapters.store.tables import journal
from phasesync.core.fingerprint import write_token
from phasesync.core.model import Adopt
from phasesync.core.remote import CURRENT, Observed
from phasesync.core.status import Outcome, SyncStatus
from phasesync.engine.restored import LOOK_AHEAD, check_not_restored
from phasesync.errors import CredentialRejectedError, RestoredDatabaseError
from tests.support.stores import ACTOR
from tests.support.world import NAME, World


def roll_back(world: World, *, writes: int) -> str:
    """Write some more, then bring the journal back to what it was before; return what AWS has."""
    world.run()
    with world.store.database.read() as connection:
        before = connection.execute(sa.select(journal)).one()._asdict()
    for number in range(writes):
        world.edit(URL=f"postgres://newer-{number}")
        world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**before))
    world.edit(URL="postgres://older")
    return world.text


@pytest.mark.parametrize("writes", [1, 2, 5])
def test_a_restored_database_never_overwrites_what_is_newer(world: World, writes: int) -> None:
    """Neither a second run nor an edit nor a consent to adopt wears the refusal down."""
    newest = roll_back(world, writes=writes)

    for attempt in range(4):
        world.edit(USER=f"shop-{attempt}")
        run = world.run()

        assert run.error is not None
        assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "RestoredDatabaseError")
        assert world.sync.settled_status is SyncStatus.HALTED
    world.store.state.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    world.run()
    assert world.text == newest


def test_a_plan_says_so_as_well(world: World) -> None:
    """It would otherwise promise a write that is refused."""
    roll_back(world, writes=1)

    with pytest.raises(RestoredDatabaseError):
        world.reconciler.prepare(world.store.state.state_of("web"))


def test_a_spent_token_that_only_the_write_meets_is_refused_again_and_again(world: World) -> None:
    """Somebody else's write hides ours; the token of the next write is spent all the same."""
    roll_back(world, writes=1)
    for text in ("theirs", "theirs again"):
        world.remote.outside_put(NAME, text)

    outcomes = [world.run().outcome for _ in range(3)]

    assert outcomes == [Outcome.REFUSED] * 3
    assert world.text == "theirs again"


def test_how_far_ahead_a_write_is_recognised(world: World) -> None:
    """The last generation that is looked at, and the first one that is not."""
    world.run()
    entry, digests, instance_id = world.entry, world.store.keys.digests, world.store.instance_id
    state = world.store.state.state_of("web")
    seen = world.destinations.open("aws-secrets-manager", state.credential, entry.region).observe(NAME)
    assert seen is not None

    def written_by(generation: int) -> Observed:
        token = write_token(digests, instance_id, world.sync_id, NAME, generation)
        return replace(seen, versions={token: frozenset({CURRENT})})

    check_not_restored(entry, written_by(entry.generation + LOOK_AHEAD + 1), digests, instance_id)
    with pytest.raises(RestoredDatabaseError):
        check_not_restored(entry, written_by(entry.generation + LOOK_AHEAD), digests, instance_id)


def test_an_outside_write_is_drift_and_no_restored_database(world: World) -> None:
    """Its version id is none of ours."""
    world.run()
    world.remote.outside_put(NAME, "theirs")
    generation = world.entry.generation

    run = world.run()

    assert run.outcome is Outcome.APPLIED
    assert world.entry.generation == generation + 1


def test_the_hint_to_test_the_credential_names_the_credential(world: World) -> None:
    """And not the sync, as other hints do."""
    world.destinations.fail("account_id", error=CredentialRejectedError())

    run = world.run()

    assert run.error is not None
    assert run.error.hint == "phasesync credentials test aws says what is wrong"
