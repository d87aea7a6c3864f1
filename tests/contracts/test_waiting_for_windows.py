"""Syncs that wait for a maintenance window: counted, left alone until it opens, and found when windows change."""

from datetime import UTC, datetime, timedelta

from phasesync.core.sync import Trigger
from tests.support.world import World


def test_what_waits_is_found_by_all_its_windows(world: World) -> None:
    freeze = f"deny: 2020-01-01..{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d} UTC"
    world.store.apps.update_app("shop", windows=[freeze])
    assert world.store.apps.get_app("shop").windows == world.sync.app_windows == (freeze,)
    world.store.apps.add_app("other", windows=["deny: 01:00-02:00 UTC"])
    world.configure(interval=timedelta(days=30))
    world.run(Trigger.CHANGE)
    world.edit(URL="new")
    assert not world.due()
    waiting = world.store.sync_requests.waiting_for_window()
    assert world.sync.retry_at is not None
    assert (waiting.count, waiting.next_opens_at) == (1, world.sync.retry_at.replace(microsecond=0))

    world.store.apps.update_app("other", windows=[])
    assert not world.due()
    world.store.sync_requests.retry_waiting_for_window()
    assert world.due()
    world.run(Trigger.CHANGE)
    assert not world.due()
    world.store.apps.update_app("shop", windows=[])
    assert world.due()

    assert world.run(Trigger.CHANGE).versions_written == 1
    assert world.store.sync_requests.waiting_for_window().count == 0
