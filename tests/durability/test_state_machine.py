"""
Any order of edits, outside edits, crashes, freezes, lost and late answers, clock jumps, restores and approvals.

After every step the judge has seen nothing that must not happen; when the dust has settled AWS is as the store says.
The ordinary suite takes some hundred steps; `PHASESYNC_STEPS=10000 pytest -s tests/durability/test_state_machine.py`
takes at least as many, other ones each time, and prints how often each rule ran.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial, wraps
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import CURRENT, PREVIOUS, TAG_INSTANCE, TAG_SYNC
from phasesync.core.sync import AWS_MANAGED_KEY, OnDrift, OnRemove, TagMode, Trigger
from phasesync.errors import PhasesyncError
from phasesync.store import Store
from tests.durability.machine.dust import settle
from tests.durability.machine.ledger import Ledger
from tests.durability.machine.stage import KEYED, KEYS, TEMPLATES, WHOLE, WHOLE_NAME, Rows, Stage, prepare
from tests.durability.machine.workers import Fault, Mishap
from tests.support.stores import open_test_store
from tests.support.world import KEY_ARN

STEPS, SHRINK = "PHASESYNC_STEPS", "PHASESYNC_SHRINK"
PER_EXAMPLE = 40
US, NORTH = "us-east-1", "eu-north-1"
POLICIES = [
    '{"Statement":[{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
    f'"Principal":{{"AWS":"arn:aws:iam::111122223333:role/{role}"}},"Resource":"*"}}],"Version":"2012-10-17"}}'
    for role in ("web", "batch")
]

F = TypeVar("F", bound=Callable[..., Any])

syncs = st.sampled_from([WHOLE, KEYED])
values = st.sampled_from(
    [
        *(SecretValue(text) for text in ("red", "green", "blue")),
        SecretValue('{"b": 1, "a": [2]}', ValueType.JSON),
        SecretValue(b"\x00\xff", ValueType.BINARY),
    ]
)
edits = st.dictionaries(st.sampled_from(KEYS), st.none() | values, min_size=1, max_size=5)
names = st.sampled_from([WHOLE_NAME, *(TEMPLATES[0].format(key=key) for key in KEYS)])
triggers = st.sampled_from([Trigger.CHANGE, Trigger.MANUAL, Trigger.SCHEDULE])
often = [Fault.FREEZE, Fault.FREEZE, Fault.LATE, Fault.KILL]
faults = st.sampled_from([*often, *Fault])
mishaps = st.lists(st.builds(Mishap, st.integers(0, 20), faults), min_size=1, max_size=2)
theirs = st.sampled_from(["mine", "yours"])
changes = st.one_of(
    st.fixed_dictionaries({"description": st.sampled_from([None, "first", "second"])}),
    st.fixed_dictionaries(
        {
            "tags": st.sampled_from([{}, {"ours-a": "1"}, {"ours-a": "2", "ours-b": "1"}]),
            "tag_mode": st.sampled_from([TagMode.UPSERT, TagMode.REPLACE_OWN]),
        }
    ),
    st.fixed_dictionaries({"kms_key": st.sampled_from([None, AWS_MANAGED_KEY, KEY_ARN])}),
    st.fixed_dictionaries({"replicas": st.sampled_from([None, {}, {US: AWS_MANAGED_KEY}])}),
    st.fixed_dictionaries({"resource_policy": st.sampled_from([None, *POLICIES])}),
    st.fixed_dictionaries({"on_drift": st.sampled_from(OnDrift)}),
)


class Steps:
    """How often each rule ran, of a whole test."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    @property
    def all(self) -> int:
        """All of them."""
        return self.of.total()


def counted(act: F) -> F:
    """Count a rule that ran to its end or failed, and let a moment pass."""

    @wraps(act)
    def step(self: "Machine", *args: Any, **kwargs: Any) -> None:
        if not {"data", "mishaps"} & kwargs.keys():
            self.stage.chronicle.append(f"-- {act.__name__} {kwargs or ''}")
        act(self, *args, **kwargs)
        self.steps.of[act.__name__] += 1

    return step  # type: ignore[return-value]


class Machine(RuleBasedStateMachine):
    """One example: a stage, and what may happen on it."""

    def __init__(self, store: Store, rows: Rows, steps: Steps) -> None:
        super().__init__()
        self.stage = Stage(store, rows)
        self.steps = steps
        self.settled = False

    @property
    def remote(self) -> Ledger:
        """AWS."""
        return self.stage.remote

    # --- people

    @rule(changes=edits)
    @counted
    def edit(self, changes: dict[str, SecretValue | None]) -> None:
        self.stage.edit(changes)

    @rule(changes=edits)
    @counted
    def edit_and_run(self, changes: dict[str, SecretValue | None]) -> None:
        self.stage.edit(changes)
        self._run_both(Trigger.CHANGE)

    @rule(sync=syncs, changes=changes)
    @counted
    def configure(self, sync: str, changes: dict[str, Any]) -> None:
        self.stage.configure(sync, **changes)

    @rule(on_remove=st.sampled_from(OnRemove), grace=st.sampled_from([1, 24]))
    @counted
    def choose_what_becomes_of_removed_keys(self, on_remove: OnRemove, grace: int) -> None:
        self.stage.configure(KEYED, on_remove=on_remove, grace=timedelta(hours=grace))

    @rule(template=st.sampled_from(TEMPLATES))
    @counted
    def rename(self, template: str) -> None:
        self.stage.configure(KEYED, name_template=template)

    @precondition(lambda self: self.stage.something_is_held())
    @rule(sync=syncs)
    @counted
    def approve(self, sync: str) -> None:
        self.stage.approve(sync)

    @rule(sync=syncs)
    @counted
    def approve_and_run(self, sync: str) -> None:
        self.stage.approve(sync)
        self.stage.run(sync)

    @precondition(lambda self: self.stage.something_is_not_ours())
    @rule(sync=syncs)
    @counted
    def adopt(self, sync: str) -> None:
        self.stage.adopt(sync)

    @rule(sync=syncs)
    @counted
    def pause(self, sync: str) -> None:
        self.stage.pause(sync)

    @precondition(lambda self: any(self.stage.is_paused(sync) for sync in (WHOLE, KEYED)))
    @rule(sync=syncs)
    @counted
    def resume(self, sync: str) -> None:
        self.stage.resume(sync)

    # --- daemons

    @rule(sync=syncs, trigger=triggers)
    @counted
    def run(self, sync: str, trigger: Trigger) -> None:
        self.stage.run(sync, trigger)

    @rule(sync=syncs, trigger=triggers, mishaps=mishaps)
    @counted
    def run_with_mishaps(self, sync: str, trigger: Trigger, mishaps: list[Mishap]) -> None:
        self.stage.run(sync, trigger, *mishaps)

    @rule(sync=syncs, changes=edits, mishaps=mishaps)
    @counted
    def edit_and_run_with_mishaps(
        self, sync: str, changes: dict[str, SecretValue | None], mishaps: list[Mishap]
    ) -> None:
        self.stage.edit(changes)
        self.stage.run(sync, Trigger.CHANGE, *mishaps)

    @rule(sync=syncs, first=edits, second=edits, step=st.integers(0, 12))
    @counted
    def overtake_a_late_request(
        self, sync: str, first: dict[str, SecretValue | None], second: dict[str, SecretValue | None], step: int
    ) -> None:
        self.stage.edit(first)
        self.stage.run(sync, Trigger.CHANGE, Mishap(step, Fault.LATE))
        self.stage.edit(second)
        self.stage.run(sync, Trigger.CHANGE)
        for late in list(self.stage.on_the_way):
            self.stage.deliver(late)

    @rule(sync=syncs, first=edits, second=edits, step=st.integers(0, 12), dies_at=st.none() | st.integers(0, 12))
    @counted
    def overtake_a_frozen_worker(
        self,
        sync: str,
        first: dict[str, SecretValue | None],
        second: dict[str, SecretValue | None],
        step: int,
        dies_at: int | None,
    ) -> None:
        self.stage.edit(first)
        worker = self.stage.run(sync, Trigger.CHANGE, Mishap(step, Fault.FREEZE))
        self.stage.edit(second)
        deaths = [] if dies_at is None else [Mishap(dies_at, Fault.KILL)]
        self.stage.run(sync, Trigger.CHANGE, *deaths)
        if worker.frozen:
            worker.thaw()

    @precondition(lambda self: self.stage.frozen())
    @rule(data=st.data())
    @counted
    def thaw(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.stage.frozen())).thaw()

    @precondition(lambda self: self.stage.frozen())
    @rule(data=st.data(), changes=edits)
    @counted
    def edit_and_thaw(self, data: st.DataObject, changes: dict[str, SecretValue | None]) -> None:
        self.stage.edit(changes)
        data.draw(st.sampled_from(self.stage.frozen())).thaw()

    @precondition(lambda self: self.stage.frozen())
    @rule()
    @counted
    def expire(self) -> None:
        self.stage.expire()

    @precondition(lambda self: self.stage.on_the_way)
    @rule(data=st.data())
    @counted
    def deliver(self, data: st.DataObject) -> None:
        self.stage.deliver(data.draw(st.sampled_from(self.stage.on_the_way)))

    @rule(sync=syncs, manual=st.booleans())
    @counted
    def write_often(self, sync: str, manual: bool) -> None:
        """Its budget is nearly used up; then come more edits than are left, and a person may have the rest."""
        entry = next((entry for entry in self.stage.state_of(sync).journal if entry.written_before), None)
        assume(entry is not None and not any(worker.sync == sync for worker in self.stage.frozen()))
        assert entry is not None
        self.stage.use_up_budget(entry, sync)
        for _ in range(4):
            edited = {key: SecretValue(f"value {self.stage.next_number()}") for key in list(self.stage.content)[:2]}
            self.stage.edit(edited or {"A": SecretValue("red")})
            self.stage.run(sync, Trigger.MANUAL if manual else Trigger.CHANGE)

    # --- the world

    @rule(hours=st.sampled_from([0.1, 0.5, 2, 25, 24 * 31]))
    @counted
    def pass_time(self, hours: float) -> None:
        self.stage.clock.pass_(timedelta(hours=hours))
        for worker in self.stage.frozen():
            worker.lost = True

    @rule(hours=st.sampled_from([-25, -2, -0.1, 2, 25]))
    @counted
    def set_the_clock(self, hours: float) -> None:
        self.stage.clock.jump(timedelta(hours=hours))
        if hours < 0:
            self.stage.judge.clock_put_back()

    @precondition(lambda self: len(self.stage.backups) < 3)
    @rule()
    @counted
    def back_up(self) -> None:
        self.stage.back_up()

    @precondition(lambda self: self.stage.backups)
    @rule(data=st.data(), noted=st.booleans())
    @counted
    def put_back(self, data: st.DataObject, noted: bool) -> None:
        self.stage.put_back(self.stage.backups[data.draw(st.integers(0, len(self.stage.backups) - 1))], noted=noted)

    @rule(changes=edits, noted=st.booleans())
    @counted
    def lose_a_write(self, changes: dict[str, SecretValue | None], noted: bool) -> None:
        """The database of before an edit is put back, which AWS has."""
        self.stage.back_up()
        backup = self.stage.backups.pop()
        self.stage.edit(changes)
        self._run_both(Trigger.CHANGE)
        self.stage.put_back(backup, noted=noted)
        self._run_both(Trigger.SCHEDULE)

    def _run_both(self, trigger: Trigger) -> None:
        for sync in (WHOLE, KEYED):
            self.stage.run(sync, trigger)

    @precondition(lambda self: self.stage.store.restore_mark.is_set())
    @rule()
    @counted
    def accept_restore(self) -> None:
        self.stage.accept()

    # --- someone else at AWS

    @rule(name=names, marks=st.sampled_from(["none", "another instance", "forged"]), value=theirs)
    @counted
    def outside_create(self, name: str, marks: str, value: str) -> None:
        assume(self.remote.find(name) is None)
        sync = WHOLE if name == WHOLE_NAME else KEYED
        tags = {
            "none": {"team": "other"},
            "another instance": {TAG_INSTANCE: "another", TAG_SYNC: self.stage.sync_id(sync)},
            "forged": {TAG_INSTANCE: self.stage.store.instance_id, TAG_SYNC: self.stage.sync_id(sync)},
        }[marks]
        self.remote.outside_create(name, value, tags=tags)

    @rule(name=names, value=theirs)
    @counted
    def outside_put(self, name: str, value: str) -> None:
        self._outside(lambda: self.remote.outside_put(name, value))

    @rule(
        sync=syncs,
        on_drift=st.sampled_from(OnDrift),
        changes=edits,
        fault=st.none() | st.sampled_from([Fault.LOST, Fault.LATE, Fault.THROTTLED]),
        times=st.sampled_from([1, 1, 2, 4]),
    )
    @counted
    def interfere(
        self, sync: str, on_drift: OnDrift, changes: dict[str, SecretValue | None], fault: Fault | None, times: int
    ) -> None:
        """Someone writes what we write, also while a write of ours was not answered, and keeps at it."""
        self.stage.configure(sync, on_drift=on_drift)
        self.stage.run(sync)
        for number in range(times):
            self.stage.edit(changes if number % 2 == 0 else {"A": SecretValue("ours")})
            self.stage.run(sync, Trigger.CHANGE, *([] if fault is None else [Mishap(4, fault)]))
            written = [entry.remote_name for entry in self.stage.state_of(sync).journal if entry.written_before]
            there = next((name for name in written if self.remote.find(name) is not None), None)
            assume(there is not None)
            assert there is not None
            self._outside(partial(self.remote.outside_put, there, "theirs"))
            self.stage.run(sync, Trigger.SCHEDULE)

    @rule(name=names, for_good=st.booleans())
    @counted
    def outside_delete(self, name: str, for_good: bool) -> None:
        self._outside(lambda: self.remote.outside_delete(name, recovery_days=None if for_good else 30))

    @rule(name=names)
    @counted
    def outside_restore(self, name: str) -> None:
        self._outside(lambda: self.remote.outside_restore(name))

    @rule(name=names, ours=st.booleans())
    @counted
    def outside_untag(self, name: str, ours: bool) -> None:
        self._outside(lambda: self.remote.outside_tag(name, {"team": "other"}, untag=[TAG_INSTANCE if ours else "x"]))

    @rule(
        name=names, changes=st.sampled_from([{"description": "theirs"}, {"kms_key": KEY_ARN}, {"kms_key": "default"}])
    )
    @counted
    def outside_describe(self, name: str, changes: dict[str, str]) -> None:
        self._outside(lambda: self.remote.outside_describe(name, **changes))

    @rule(name=names, on=st.booleans())
    @counted
    def outside_rotation(self, name: str, on: bool) -> None:
        there = self.remote.find(name)
        assume(there is not None)
        assert there is not None
        if on:
            self.remote.outside_rotation(name)
        else:
            there.rotation_enabled = False
            for version in there.versions.values():
                version.labels &= {CURRENT, PREVIOUS}

    @rule(name=names, region=st.sampled_from([US, NORTH]))
    @counted
    def outside_replicate(self, name: str, region: str) -> None:
        self._outside(lambda: self.remote.outside_replicate(name, region))

    @rule(sync=syncs, wanted=st.sampled_from([{}, {US: AWS_MANAGED_KEY}]), region=st.sampled_from([US, NORTH]))
    @counted
    def copies_of_both(self, sync: str, wanted: dict[str, str], region: str) -> None:
        """Someone else copies what the sync copies as well, or wants no copies of."""
        written = [entry.remote_name for entry in self.stage.state_of(sync).journal if entry.written_before]
        assume(written)
        self._outside(lambda: self.remote.outside_replicate(written[0], region))
        self.stage.configure(sync, replicas=wanted)
        self.stage.run(sync)

    @rule(name=names)
    @counted
    def outside_policy(self, name: str) -> None:
        self._outside(lambda: self.remote.outside_policy(name, POLICIES[1]))

    @precondition(lambda self: any(there.replicas for there in self.stage.remote.objects.values()))
    @rule()
    @counted
    def settle_replication(self) -> None:
        self.remote.settle_replication()

    def _outside(self, act: Callable[[], object]) -> None:
        """Others are bound by AWS's rules too; what it refuses them is no step."""
        try:
            act()
        except (KeyError, PhasesyncError):
            assume(False)

    # --- what always holds, and what holds in the end

    @invariant()
    def nothing_happened_that_must_not(self) -> None:
        if self.stage.judge.violations:
            note(self.stage.story())
        assert not self.stage.judge.violations, self.stage.judge.violations[0]

    def teardown(self) -> None:
        """Also after a failure: threads that wait must end."""
        try:
            if not self.stage.judge.violations:
                try:
                    settle(self.stage)
                except AssertionError:
                    note(self.stage.story())
                    raise
                self.nothing_happened_that_must_not()
        finally:
            for worker in self.stage.frozen():
                worker.kill()


@pytest.fixture
def ground(migrated_database_url: str) -> Iterator[tuple[Store, Rows]]:
    """A store with both syncs, and its rows to begin each example with."""
    store = open_test_store(migrated_database_url)
    yield store, prepare(store)
    store.close()


def take_steps(ground: tuple[Store, Rows], steps: Steps, *, examples: int, derandomize: bool) -> None:
    """Run examples; count the steps that they take."""
    run_state_machine_as_test(
        lambda: Machine(*ground, steps),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=PER_EXAMPLE,
            derandomize=derandomize,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if os.environ.get(SHRINK) else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database_backend", "examples"), [("sqlite", 2), ("postgresql", 1)], indirect=["database_backend"]
)
def test_whatever_happens_aws_ends_as_the_store_says(
    ground: tuple[Store, Rows], examples: int, capsys: pytest.CaptureFixture[str], database_backend: str
) -> None:
    """On SQLite most of it; PostgreSQL has its own locks and takes a part."""
    least = int(os.environ.get(STEPS, "0")) * examples // 3
    steps = Steps()
    try:
        take_steps(ground, steps, examples=examples, derandomize=not least)
        while steps.all < least:
            more = max(10, (least - steps.all) // PER_EXAMPLE + 1)
            take_steps(ground, steps, examples=more, derandomize=False)
        assert steps.all >= examples * 10
    finally:
        if least:
            with capsys.disabled():
                rules = ", ".join(f"{name} {count}" for name, count in steps.of.most_common())
                print(f"\n{database_backend}: {steps.all} steps: {rules}")
