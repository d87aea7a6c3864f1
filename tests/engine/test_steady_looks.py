"""Looks without a claim while runs write: what was read at two moments proves nothing."""

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt
from phasesync.engine.explanation import explain
from phasesync.engine.observe import PAUSES_S
from phasesync.engine.value_comparison import Comparison, verify_sync
from phasesync.errors import StaleDatabaseError, StalePlanError
from tests.support.operator import operations, preview
from tests.support.world import World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


class Editor:
    """Edits, and reconciles as a daemon would, whenever someone without a claim begins to look at AWS."""

    def __init__(self, world: World, *, times: int, at: tuple[str, ...] = ("observe", "read_value")) -> None:
        self.left = times
        self.done = 0
        self._world = world
        self._at = at
        self._busy = False
        world.destinations.on_call = self

    def __call__(self, when: str, call: str) -> None:
        if self._busy or when != "before" or call not in self._at or not self.left:
            return
        self.left -= 1
        self.done += 1
        self._busy = True
        self._world.edit(URL=f"postgres://{self.done}")
        assert self._world.run().outcome is Outcome.APPLIED
        self._busy = False


@pytest.fixture
def written(world: World) -> World:
    """A sync that is in step."""
    world.run()
    return world


@pytest.mark.parametrize("writes", [1, 3])
def test_a_plan_during_edits_is_that_of_a_later_moment(written: World, writes: int) -> None:
    """It is no older backup: the journal had moved."""
    Editor(written, times=writes)

    report = operations(written).plan("web")

    assert [str(change.action) for change in report.plan.changes] == ["noop"]
    assert report.sync.applied_revision == written.sync.applied_revision


def test_an_explanation_during_edits_too(written: World) -> None:
    Editor(written, times=2)

    explained = explain(written.context, "web")

    assert explained.problem is None
    assert [one.row for one in explained.objects] == ["ours, value as wanted"]


def test_a_plan_that_meets_a_write_every_time_says_that_and_nothing_else(
    written: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phasesync.engine.observe.PAUSES_S", (0.0,) * len(PAUSES_S))
    editor = Editor(written, times=100)

    with pytest.raises(StalePlanError) as raised:
        operations(written).plan("web")

    assert "changed during every observation" in raised.value.message
    assert raised.value.hint is not None and "syncs pause web" in raised.value.hint
    assert editor.done == len(PAUSES_S)


def test_where_the_journal_stands_still_an_older_database_is_told_at_once(written: World) -> None:
    """One look is enough, since whoever writes notes it in the journal before the call."""
    older = written.store.sync_states.state_of("web")
    written.edit(URL="postgres://newer")
    written.run()
    entry = older.journal[0]
    written.store.journal.save_entry(claim := written.claim(), entry)
    written.store.claims.release(claim)
    written.destinations.log.clear()

    with pytest.raises(StaleDatabaseError):
        operations(written).plan("web")

    assert written.destinations.log == ["observe"]


def test_an_open_write_that_lands_during_the_look_is_known(written: World) -> None:
    """Its token is in the journal that was read before."""
    written.edit(URL="postgres://1")
    written.destinations.fail("put_value")
    written.run()
    landed: list[str] = []

    def land(when: str, call: str) -> None:
        if (when, call) == ("before", "observe") and not landed:
            landed.append(call)
            written.run()

    written.destinations.on_call = land

    assert [str(change.action) for change in operations(written).plan("web").plan.changes] == ["noop"]


def test_a_former_holder_that_wakes_during_its_successor_s_writes_says_nothing(written: World) -> None:
    """With a claim: the successor's claim is the proof that the picture is stale, so nothing is recorded."""
    claim = written.claim()
    reconciler = written.another_reconciler()
    Editor(written, times=1)

    assert reconciler.reconcile(claim, lambda: None) is None

    assert not written.store.restore_mark.is_set()
    assert written.run().outcome is Outcome.UNCHANGED


@pytest.mark.reads_values("syncs verify")
def test_a_comparison_during_edits_is_that_of_a_later_moment(written: World) -> None:
    Editor(written, times=2)

    verified = verify_sync(written.context, "web")

    assert [one.result for one in verified.objects] == [Comparison.SAME]


@pytest.mark.reads_values("syncs verify")
def test_a_difference_that_stays_is_told(written: World) -> None:
    written.remote.outside_put(written.name, "theirs")
    assert [one.result for one in verify_sync(written.context, "web").objects] == [Comparison.DIFFERS]


@pytest.mark.reads_values("syncs verify")
def test_a_difference_that_the_next_run_ends_says_so(written: World) -> None:
    written.edit(URL="postgres://newer")

    (compared,) = verify_sync(written.context, "web").objects

    assert (compared.result, compared.reason) == (Comparison.DIFFERS, "the newest edit is not applied yet")


def test_what_a_run_makes_during_the_look_is_not_offered_for_adoption(world: World) -> None:
    """It carries our tags, and the journal that was read before knows nothing of it."""
    editor = Editor(world, times=1)

    offer = preview(world, Adopt.OVERWRITE)

    assert editor.done == 1
    assert (offer.existing.foreign, offer.existing.ours) == ((), (world.name,))
