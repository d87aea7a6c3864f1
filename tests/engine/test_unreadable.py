"""A sync whose own row or journal was altered outside: halted and told, and no other sync suffers."""

import pytest
import sqlalchemy as sa

from phasesync.core.events import SyncUnreadable
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus
from phasesync.engine.removal import remove_sync
from phasesync.errors import CiphertextError, EnvironmentStoreError, PhasesyncError, SettingsError
from phasesync.store.tables import journal, syncs
from tests.support.databases import on_each_database
from tests.support.stores import TTL, add_sync
from tests.support.world import World

pytestmark = on_each_database


def alter(world: World, statement: sa.Update) -> None:
    """Write to the database as someone who has no key."""
    with world.store.database.write() as connection:
        connection.execute(statement)


def run_what_is_due(world: World) -> int:
    """Claim and reconcile as a daemon does; return how many syncs were due."""
    claims = world.store.claims.claim_due("daemon", limit=10, ttl=TTL)
    for claim in claims:
        world.reconciler.reconcile(claim, lambda: None)
    return len(claims)


def test_an_altered_journal_halts_the_sync(world: World) -> None:
    """It is logged as failed with its class, nothing is written, and it is not tried again at once."""
    world.run()
    world.edit(URL="postgres://new")
    alter(world, journal.update().values(details=b"\x00\x11"))

    assert run_what_is_due(world) == 1

    (run, _) = world.store.runs.list_runs()
    assert (run.outcome, run.error.cls if run.error else None) == (Outcome.FAILED, "CiphertextError")
    assert world.sync.settled_status is SyncStatus.HALTED
    assert "journal" in (world.sync.status_reason or "")
    assert world.writes() == ["create"]
    assert run_what_is_due(world) == 0
    assert any(isinstance(event, SyncUnreadable) for event in world.events)


def test_an_altered_configuration_halts_the_sync_and_hides_no_other(world: World) -> None:
    """The list shows it as halted beside the others."""
    add_sync(world.store, "other", region="eu-west-1")
    alter(world, syncs.update().where(syncs.c.name == "web").values(path="/elsewhere"))

    assert run_what_is_due(world) == 2
    assert run_what_is_due(world) == 0

    listed = {sync.name: sync for sync in world.store.syncs.list_syncs()}
    assert listed["web"].settled_status is SyncStatus.HALTED
    assert "altered" in (listed["web"].status_reason or "")
    assert listed["other"].settled_status is SyncStatus.IN_SYNC
    assert [key[2] for key in world.remote.objects] == ["shop/other"]


def test_an_altered_sync_can_be_removed(world: World) -> None:
    """Without touching AWS: nothing says where its object is."""
    world.run()
    alter(world, syncs.update().where(syncs.c.name == "web").values(mac=b"\x00"))
    alter(world, journal.update().values(details=b"\x00\x11"))

    lines = remove_sync(world.context, "web", actor="ada")

    assert world.store.syncs.list_syncs() == []
    assert len(lines) == 1
    assert world.text


def test_a_sync_with_an_altered_journal_alone_can_be_removed(world: World) -> None:
    """Its row is good, what it wrote where is not."""
    world.run()
    alter(world, journal.update().values(details=b"\x00\x11"))

    lines = remove_sync(world.context, "web", actor="ada")

    assert world.store.syncs.list_syncs() == []
    assert len(lines) == 1
    assert world.text


@pytest.mark.parametrize(
    "error", [CiphertextError("altered"), EnvironmentStoreError("refused"), SettingsError("denied")]
)
def test_what_cannot_be_read_is_looked_at_again_later_and_not_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, error: PhasesyncError
) -> None:
    """Whether an edit woke the run or a check: nothing says which edit would correct it."""
    world.run()
    for wake in (lambda: None, lambda: world.edit(URL="postgres://new")):
        wake()

        def snapshot() -> None:
            raise error

        monkeypatch.setattr(world.context.store.secrets, "snapshot", snapshot)
        world.run()
        monkeypatch.undo()

        assert world.sync.settled_status is SyncStatus.HALTED
        assert not world.due()
        assert world.sync.next_due_at is not None


def test_an_altered_sync_that_is_put_right_runs_again_by_itself(world: World) -> None:
    """It is looked at again after a while, as the log says."""
    world.run()
    alter(world, syncs.update().values(path="/elsewhere"))
    world.reconciler.reconcile(world.claim(), lambda: None)
    alter(world, syncs.update().values(path="/"))

    assert world.sync.next_due_at is not None
    assert not world.due()
