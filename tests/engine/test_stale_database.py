"""A database that is older than AWS: nothing newer is overwritten, however often it is tried."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.fingerprint import Digests, write_token
from phasesync.core.remote import CURRENT, Observed
from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt, OnDrift, SyncStatus, Trigger
from phasesync.engine.stale_database import LOOK_AHEAD, SKIP, check_not_stale
from phasesync.errors import ClaimHeldError, CredentialRejectedError, StaleDatabaseError
from phasesync.store.tables import journal
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR, TTL
from tests.support.vouching import set_restore_mark
from tests.support.world import NAME, World

pytestmark = on_each_database


class CountedDigests:
    """The digests of the store; counts the tokens that are made."""

    def __init__(self, digests: Digests) -> None:
        self.key_id = digests.key_id
        self.tokens = 0
        self._digests = digests

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        self.tokens += purpose == "write-token"
        return self._digests.digest(purpose, *parts)


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
        assert (run.outcome, run.error.cls) == (Outcome.REFUSED, "StaleDatabaseError")
        assert world.sync.settled_status is SyncStatus.HALTED
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    world.run()
    assert world.text == newest


def test_a_plan_says_so_as_well(world: World) -> None:
    """It would otherwise promise a write that is refused."""
    roll_back(world, writes=1)

    with pytest.raises(StaleDatabaseError):
        world.reconciler.prepare(world.store.sync_states.state_of("web"))


def test_a_spent_token_that_only_the_write_meets_is_refused_again_and_again(world: World) -> None:
    """Someone else's write hides ours; the token of the next write is spent all the same."""
    roll_back(world, writes=1)
    for text in ("theirs", "theirs again"):
        world.remote.outside_put(NAME, text)

    outcomes = [world.run().outcome for _ in range(3)]

    assert outcomes == [Outcome.REFUSED] * 3
    assert world.text == "theirs again"


def written_by(world: World, generation: int, *, marked: bool = True) -> Observed:
    """What AWS shows after a write of ours; not marked: somebody has taken our tags away."""
    entry, state = world.entry, world.store.sync_states.state_of("web")
    seen = world.destinations.open("aws-secrets-manager", state.credential, entry.region).observe(NAME)
    assert seen is not None
    token = write_token(world.store.keys.digests, world.store.instance_id, world.sync_id, NAME, generation)
    return replace(seen, versions={token: frozenset({CURRENT})}, tags=seen.tags if marked else {})


@pytest.mark.parametrize("marked", [True, False], ids=["with our tags", "without our tags"])
def test_how_far_ahead_a_write_is_recognised(world: World, marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last generation that is looked at, and the first one that is not. Far where a run would write."""
    monkeypatch.setattr("phasesync.engine.stale_database.FAR_AHEAD", 3 * LOOK_AHEAD)
    ahead = 3 * LOOK_AHEAD if marked else LOOK_AHEAD
    world.run()
    entry, digests, instance_id = world.entry, world.store.keys.digests, world.store.instance_id

    check_not_stale(entry, written_by(world, entry.generation + ahead + 1, marked=marked), digests, instance_id)
    with pytest.raises(StaleDatabaseError):
        check_not_stale(entry, written_by(world, entry.generation + ahead, marked=marked), digests, instance_id)


def test_a_hundred_acceptances_are_within_what_is_looked_at(world: World) -> None:
    """With all that AWS lets anybody write in a year."""
    world.run()
    observed = written_by(world, 100 * SKIP + 365 * 100)

    with pytest.raises(StaleDatabaseError):
        check_not_stale(world.entry, observed, world.store.keys.digests, world.store.instance_id)


def test_the_version_of_another_is_searched_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an operator does not decide on drift, each check meets it again."""
    world.configure(on_drift=OnDrift.HOLD)
    world.run()
    world.remote.outside_put(NAME, "theirs")
    world.run()
    counted = CountedDigests(world.store.keys.digests)
    monkeypatch.setattr(world.store.keys, "_digests", counted)

    assert world.run().outcome is Outcome.HELD
    first = counted.tokens
    assert world.run().outcome is Outcome.HELD

    assert first > LOOK_AHEAD
    assert counted.tokens - first < LOOK_AHEAD


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


# --- accepting it


def test_an_accepted_database_writes_its_values_and_goes_on(world: World) -> None:
    """One version more, and every later write as ever."""
    roll_back(world, writes=5)
    world.run()

    accepted = world.store.restore_mark.accept(ahead=SKIP)

    assert (accepted.syncs, accepted.objects) == (1, 1)
    assert world.due()
    assert world.run().outcome is Outcome.APPLIED
    assert "postgres://older" in world.text
    assert world.run().outcome is Outcome.UNCHANGED
    world.edit(URL="postgres://later")
    assert world.run().outcome is Outcome.APPLIED


def write_newer_values(world: World) -> dict[str, Any]:
    """Have a sync write three newer values; return its row of the journal from before."""
    with world.store.database.read() as connection:
        older = connection.execute(sa.select(journal)).one()._asdict()
    for number in range(3):
        world.edit(URL=f"postgres://newer-{number}")
        world.run()
    return older


def test_the_later_copy_recognises_it_and_halts(world: World) -> None:
    """Whoever still works with the later state must not write over what was accepted."""
    world.run()
    older = write_newer_values(world)
    with world.store.database.read() as connection:
        later = connection.execute(sa.select(journal)).one()._asdict()
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**older))
    world.store.restore_mark.accept(ahead=SKIP)
    world.edit(URL="postgres://accepted")
    world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**later))

    assert world.run().outcome is Outcome.REFUSED
    assert "postgres://accepted" in world.text


@pytest.mark.parametrize(("accepts", "writes"), [(1, 1), (1, 3), (3, 1), (3, 20)])
def test_the_older_copy_recognises_it_and_halts(world: World, accepts: int, writes: int) -> None:
    """A copy of the very backup that was accepted, which has written nothing since, however often that was done."""
    world.run()
    with world.store.database.read() as connection:
        older = connection.execute(sa.select(journal)).one()._asdict()
    for time in range(accepts):
        world.store.restore_mark.accept(ahead=SKIP)
        for number in range(writes):
            world.clock.pass_(hours=1)
            world.edit(URL=f"postgres://accepted-{time}-{number}")
            assert world.run().outcome is Outcome.APPLIED
    accepted, versions = world.text, world.versions
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**older))
    world.edit(URL="postgres://older")

    runs = [world.run() for _ in range(2)]

    assert [run.outcome for run in runs] == [Outcome.REFUSED] * 2
    assert runs[0].error is not None and runs[0].error.cls == "StaleDatabaseError"
    assert (world.text, world.versions) == (accepted, versions)


def test_an_accepted_database_is_within_what_release_0_1_0_looks_at(world: World) -> None:
    """That is 1,000 writes ahead: a copy that was not upgraded halts as well."""
    world.run()
    before = world.entry.generation
    world.store.restore_mark.accept(ahead=SKIP)
    for number in range(5):
        world.edit(URL=f"postgres://accepted-{number}")
        world.run()

    assert before + SKIP + 5 == world.entry.generation < before + 1_000


def test_a_later_state_that_wrote_more_than_is_skipped_is_accepted_again(world: World) -> None:
    """Not overwritten unasked, and not refused for ever."""
    world.run()
    older = write_newer_values(world)
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**older))
    world.edit(URL="postgres://accepted")
    outcomes = []
    for _ in range(2):
        world.store.restore_mark.accept(ahead=2)
        outcomes.append(world.run().outcome)

    assert outcomes == [Outcome.REFUSED, Outcome.APPLIED]
    assert "postgres://accepted" in world.text


def test_an_intent_of_the_backup_is_not_believed(world: World) -> None:
    """The later state may have spent its token on another payload."""
    world.run()
    world.edit(URL="postgres://first")
    world.destinations.fail("put_value")
    world.run()
    with world.store.database.read() as connection:
        with_intent = connection.execute(sa.select(journal)).one()._asdict()
    world.edit(URL="postgres://second")
    world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**with_intent))
    world.edit(URL="postgres://first")
    world.store.restore_mark.accept(ahead=SKIP)

    world.run()

    assert "postgres://first" in world.text
    assert world.run().outcome is Outcome.UNCHANGED


def test_an_object_that_was_made_since_the_backup_is_accepted_too(world: World) -> None:
    """The journal of the backup knows nothing of it; it is taken over with consent, or by whoever removes it."""
    world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.delete())
    assert world.run().outcome is Outcome.REFUSED
    world.store.restore_mark.accept(ahead=SKIP)

    refused = world.run()

    assert refused.error is not None and refused.error.cls == "OwnershipConflictError"
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED
    world.edit(URL="postgres://later")
    assert world.run().outcome is Outcome.APPLIED
    assert world.run().outcome is Outcome.UNCHANGED


def test_an_open_write_of_a_restored_database_is_not_taken_for_landed(world: World) -> None:
    """The later state spent its token on a newer value, and wrote nothing after that."""
    world.run()
    world.edit(URL="postgres://older")
    world.destinations.fail("put_value")
    world.run()
    with world.store.database.read() as connection:
        with_intent = connection.execute(sa.select(journal)).one()._asdict()
    world.edit(URL="postgres://newer")
    world.run()
    with world.store.database.write() as connection:
        connection.execute(journal.update().values(**with_intent))
    set_restore_mark(world.store.database)
    world.edit(URL="postgres://older")

    assert [world.run().outcome for _ in range(2)] == [Outcome.REFUSED] * 2
    assert "postgres://newer" in world.text
    world.store.restore_mark.accept(ahead=SKIP)
    assert world.run().outcome is Outcome.APPLIED
    assert "postgres://older" in world.text


def test_nothing_is_accepted_under_a_run(world: World) -> None:
    world.run()
    world.store.claims.claim(world.sync_id, "daemon", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    with pytest.raises(ClaimHeldError):
        world.store.restore_mark.accept(ahead=SKIP)
