"""
When the dust settles: faults stop, people correct what waits for them, daemons run until nothing is left to do.

Then AWS is as the store says, or the example has found something.
"""

from datetime import timedelta

from phasesync.core.planning.metadata import is_other_key
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import CURRENT, PREVIOUS
from phasesync.core.run import Outcome
from phasesync.core.sync import OnRemove, SyncStatus
from tests.durability.machine.stage import KEYED, WHOLE, Stage
from tests.fakes.remote import FakeObject

ROUNDS = 30


def settle(stage: Stage) -> None:
    """Let everything come to rest; AssertionError where it does not, or where AWS is not as the store says."""
    for worker in stage.frozen():
        while worker.frozen:
            worker.thaw()
    for late in list(stage.on_the_way):
        stage.deliver(late)
    for name in (WHOLE, KEYED):
        stage.resume(name)
    if stage.store.restore_mark.is_set():
        stage.accept()
    for _ in range(ROUNDS):
        outcomes = [_round(stage, name) for name in (WHOLE, KEYED)]
        if all(outcomes):
            break
        stage.clock.pass_(timedelta(hours=25))
        stage.remote.settle_replication()
    else:
        reasons = {name: stage.sync(name).status_reason for name in (WHOLE, KEYED)}
        raise AssertionError(f"it does not come to rest: {reasons}")
    for name in (WHOLE, KEYED):
        _check(stage, name)


def _round(stage: Stage, name: str) -> bool:
    """Repair and run once; return whether the sync is at rest."""
    _mend(stage, name)
    written = len(stage.remote.history)
    worker = stage.run(name)
    if worker.run is None:
        raise AssertionError(f"a run of {name} was not recorded")
    if worker.run.error is not None and worker.run.error.cls == "StaleDatabaseError":
        stage.accept()
        return False
    if worker.run.outcome is Outcome.HELD:
        stage.approve(name)
        return False
    at_rest = worker.run.outcome is Outcome.UNCHANGED and stage.sync(name).settled_status is SyncStatus.IN_SYNC
    if at_rest and len(stage.remote.history) != written:
        raise AssertionError(f"a run of {name} that changed nothing wrote something")
    return at_rest and not any("deleted after" in change.reason for change in worker.run.changes)


def _mend(stage: Stage, name: str) -> None:
    """What an operator does about everything that is refused."""
    sync = stage.sync(name)
    adopt = False
    marks = owner_tags(stage.store.instance_id, sync.id)
    for remote_name in stage.wanted(sync, stage.commit):
        there = stage.remote.find(remote_name)
        if there is None:
            continue
        _end_rotation(there)
        there.owning_service = None
        known = any(entry.arn == there.arn for entry in stage.state_of(name).journal)
        if not marks.items() <= there.tags.items() or not known:
            there.deleted_at = None
            adopt = True
        for region in there.replicas:
            _make_room(stage, there, region)
    for entry in stage.state_of(name).journal:
        there = stage.remote.find(entry.remote_name)
        unwanted = entry.remote_name not in stage.wanted(sync, stage.commit)
        if unwanted and there is not None and there.replicas and there.deleted_at is None:
            # Copies that someone else made keep an object from being deleted.
            stage.remote.settle_replication()
            theirs = there.replicas.keys() - set(entry.replicas_written)
            stage.remote.remove_replicas(there, sorted(theirs)) if theirs else None
    if adopt:
        stage.adopt(name)


def _end_rotation(there: FakeObject) -> None:
    there.rotation_enabled = False
    for version in there.versions.values():
        version.labels &= {CURRENT, PREVIOUS}


def _make_room(stage: Stage, there: FakeObject, region: str) -> None:
    """Someone removes what has the name of a copy, and then the copy that failed."""
    taken = stage.remote.find(there.name, region=region)
    if taken is not None and not taken.is_replica:
        stage.remote.drop(taken)
    if there.replicas[region].name_taken:
        stage.remote.remove_replicas(there, [region])


def _check(stage: Stage, name: str) -> None:
    state = stage.state_of(name)
    sync, config = state.sync, state.sync.config
    entries = {entry.remote_name: entry for entry in state.journal}
    wanted = stage.wanted(sync, stage.commit)
    marks = owner_tags(stage.store.instance_id, sync.id)
    for remote_name, value in wanted.items():
        there = stage.remote.find(remote_name)
        assert there is not None, f"{remote_name} is missing"
        assert there.deleted_at is None, f"{remote_name} is scheduled for deletion"
        assert there.current is not None and there.current.value == value, f"{remote_name} has another value"
        assert config.description in (None, there.description), f"{remote_name} has another description"
        assert config.kms_key is None or not is_other_key(config.kms_key, there.kms_key), f"{remote_name}: other key"
        tags = {**config.tags, **marks}
        assert tags.items() <= there.tags.items(), f"{remote_name} has other tags"
        assert config.replicas is None or config.replicas.keys() <= there.replicas.keys(), f"{remote_name}: copies"
        assert config.resource_policy in (None, there.resource_policy), f"{remote_name} has another policy"
        assert entries[remote_name].version_id == there.current.id, f"{remote_name}: the journal has another version"
    for entry in state.journal:
        there = stage.remote.find(entry.remote_name)
        if entry.remote_name in wanted:
            assert entry.intent is None, f"{entry.remote_name} has an open intent"
        here = stage.judge.key_of(entry.remote_name, sync) is not None
        if (
            entry.remote_name in wanted
            or there is None
            or entry.arn != there.arn
            or config.on_remove is OnRemove.RETAIN
        ):
            continue
        ours = marks.items() <= there.tags.items() and not there.rotation_enabled and there.owning_service is None
        assert there.deleted_at is not None or not ours or not here or there.replicas, f"{entry.remote_name} stayed"
    written = len(stage.remote.history)
    assert stage.run(name).run is not None
    assert len(stage.remote.history) == written, f"another run of {name} wrote something"
