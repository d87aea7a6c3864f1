"""
Judges every change that a worker makes at AWS. It knows the history of AWS and of commits, and nothing of the engine.

    foreign     nothing that is not ours is changed, but by an adoption with consent
    order       nothing newer is overwritten by something older
    reasons     every version has a reason: an edit, a repair, an adoption, a new key
    guard       nothing is emptied, dropped, turned into binary or deleted in numbers without an approval
    deletion    only what is ours, not wanted, asked to be deleted, and gone for the grace
    budget      no object gets more versions than AWS keeps
    claims      who lost the right to write writes nothing more than the call in hand (see workers.py)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import PENDING, TAG_INSTANCE, TAG_SYNC, Intent, JournalEntry, Observed
from phasesync.core.run import Outcome
from phasesync.core.sync import Layout, OnDrift, OnRemove, Sync, Trigger
from tests.durability.machine.ledger import Write

if TYPE_CHECKING:
    from tests.durability.machine.stage import Stage
    from tests.durability.machine.workers import Worker

DAY: Final = timedelta(hours=24)
REFILL: Final = timedelta(minutes=24)
MOST_AT_ONCE: Final = 30
MOST_BY_HAND: Final = 40
MOST_REPAIRS: Final = 3
_OLDER: Final = "StaleDatabaseError"
_LOOKED: Final = frozenset({Outcome.UNCHANGED, Outcome.APPLIED, Outcome.HELD})


@dataclass(frozen=True, kw_only=True)
class Own:
    """A version that a worker wrote. `key` is the KMS key that it was written under."""

    version: str
    commit: int
    value: SecretValue
    key: str | None


class Judge:
    """Collects what must not happen, as sentences."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self.violations: list[str] = []
        self.owner: dict[str, str] = {}
        """ARN -> sync that made or adopted it."""
        self.own: dict[str, list[Own]] = {}
        """ARN -> versions that workers wrote, in order."""
        self._fresh: set[str] = set()
        """ARNs of which the accepted database need not know what it holds."""
        self._adopted: dict[str, int] = {}
        """ARN -> how many own versions it had at the last adoption."""
        self._copied: dict[str, set[str]] = {}
        self._seen_present: dict[tuple[str, str], list[datetime]] = {}
        """Sync and key -> when a run ended well that found the key in the store."""
        self._written_at: dict[str, list[datetime]] = {}
        self._repaired_at: dict[str, list[datetime]] = {}

    def blame(self, text: str) -> None:
        """Note something that must not happen."""
        self.violations.append(text)

    # --- what the world does

    def database_put_back(self) -> None:
        """Its budgets and counts of repairs are older as well."""
        self._written_at.clear()
        self._repaired_at.clear()
        self._seen_present.clear()

    def accepted(self) -> None:
        """Whatever was written before does not bind any more."""
        self._fresh = set(self.own)

    def clock_put_back(self) -> None:
        """Times of before lie in the future now."""
        now = self._stage.clock.now()
        for key, since in self._stage.absent_since.items():
            self._stage.absent_since[key] = min(since, now)
        self._written_at.clear()
        self._seen_present.clear()

    def spend_budget(self, entry: JournalEntry) -> list[datetime]:
        """Let all but one of the unattended writes of an object have been made; return when each was."""
        written = [self._stage.clock.now()] * 29
        if entry.arn is not None:
            self._written_at[entry.arn] = list(written)
        return written

    # --- what a worker does

    def on_write(self, write: Write) -> None:
        """Judge one change."""
        worker = write.by
        if worker is None or worker.state is None or worker.commit is None:
            self.blame(f"{write.what} by a worker that had not read its sync and source")
            return
        sync = worker.state.sync
        self._foreign(write, worker, sync)
        match write.what:
            case "create" | "put":
                self._value(write, worker, sync)
            case "delete":
                self._deletion(write, worker, sync)
            case "remove_replicas":
                foreign = set(write.regions) - self._copied.get(write.arn, set())
                if foreign:
                    self.blame(f"copies in {sorted(foreign)} that somebody else made were removed")
            case "replicate":
                self._copied.setdefault(write.arn, set()).update(write.regions)
            case "update" if write.before is not None and write.after is not None:
                self._metadata(write, sync)

    def after_run(self, worker: "Worker") -> None:
        """Judge a whole run."""
        if worker.escaped is not None and not worker.store_failed:
            self.blame(f"an exception escaped: {worker.escaped!r}")
        if worker.run is not None and worker.run.error is not None and worker.run.error.cls == "InternalError":
            self.blame(f"a defect: {worker.run.error.message}")
        older = worker.run is not None and worker.run.error is not None and worker.run.error.cls == _OLDER
        if older and not self._stage.backups_put_back:
            self.blame("the database is taken for an older one, and was never put back")
        if worker.run is not None and worker.run.outcome in _LOOKED and worker.commit is not None:
            for key in worker.commit.content:
                self._seen_present.setdefault((worker.sync, key), []).append(self._stage.clock.now())
        if worker.state is None or worker.commit is None or worker.state.sync.approved_digest is not None:
            return
        sync = worker.state.sync
        standing = self._standing(worker, sync)
        deleted = len(worker.deleted)
        config = sync.config
        many = deleted >= config.delete_limit_objects and deleted * 100 > config.delete_limit_percent * standing
        if many or (deleted >= 2 and deleted >= standing):
            self.blame(f"{deleted} of {standing} objects were deleted in one run without an approval")

    def _standing(self, worker: "Worker", sync: Sync) -> int:
        """Objects of a sync that were there or to be there when the run began, at most."""
        wanted = set(self._stage.wanted(sync, worker.commit)) if worker.commit is not None else set()
        there = {
            one.name
            for one in self._stage.remote.objects.values()
            if self.owner.get(one.arn) == sync.name and one.deleted_at is None
        }
        return len(wanted | there | set(worker.deleted))

    # --- rules

    def _foreign(self, write: Write, worker: "Worker", sync: Sync) -> None:
        if write.what == "create":
            if write.before is None:
                self.owner[write.arn] = sync.name
            return
        consent = sync.adopt is not None
        told = write.told
        if told is None:
            self.blame(f"{write.what} on {write.name} without having looked at it")
            return
        if self.owner.get(write.arn) != sync.name or not self._marked(told, sync):
            if consent and write.what in ("put", "update"):
                self.owner[write.arn] = sync.name
                self._adopted[write.arn] = len(self.own.get(write.arn, []))
            else:
                self.blame(f"{write.what} on {write.name}, which is not ours and nobody consented to take over")
        rotating = any(labels == {PENDING} for labels in told.versions.values())
        if told.rotation_enabled or rotating or told.owning_service:
            self.blame(f"{write.what} on {write.name}, which AWS manages")

    def _marked(self, told: Observed, sync: Sync) -> bool:
        return told.tags.get(TAG_INSTANCE) == self._stage.store.instance_id and told.tags.get(TAG_SYNC) == sync.id

    def _metadata(self, write: Write, sync: Sync) -> None:
        if write.before is None or write.after is None:
            return
        before, after = write.before.observed.tags, write.after.observed.tags
        theirs = {key for key in before if not key.startswith(("phasesync:", "ours-"))}
        if any(after.get(key) != before[key] for key in theirs):
            self.blame(f"a tag of somebody else was changed on {write.name}")

    def _value(self, write: Write, worker: "Worker", sync: Sync) -> None:
        if worker.commit is None or write.after is None or write.new_version is None or write.after.value is None:
            return
        value, commit = write.after.value, worker.commit
        wanted = self._stage.wanted(sync, commit).get(write.name)
        if wanted is None or wanted != value:
            self.blame(f"{write.what} on {write.name} wrote what the source did not hold when it was read")
        former = self.own.setdefault(write.arn, [])
        last = former[-1] if former else None
        fresh = write.arn in self._fresh or _spent_by_a_later_state(write, worker)
        if last is not None and commit.number < last.commit and not fresh:
            self.blame(f"{write.name}: commit {commit.number} was written over commit {last.commit}")
        if write.what == "put":
            self._reason(write, last, fresh=fresh or _unanswered(write, worker))
            # Whoever accepts an older database, or adopts an object, accepts what is written over.
            adopted = self._adopted.get(write.arn) == len(former)
            known = not (fresh or adopted or _of_two_payloads(write, worker))
            self._guarded(write, worker, sync, last if known else None)
        self._budget(write, by_hand=worker.trigger is Trigger.MANUAL)
        self._fresh.discard(write.arn)
        key = write.after.observed.kms_key
        former.append(Own(version=write.new_version, commit=commit.number, value=value, key=key))

    def _reason(self, write: Write, last: Own | None, *, fresh: bool) -> None:
        """
        Every version has one: it is the first, or the value, the version or the key there is another one.

        Or (`fresh`) it is not known what is there: an accepted database does not say, or an earlier write was never
        answered, and may still land where its token is not spent.
        """
        if write.before is None or write.after is None:
            return
        reasons = (
            last is None,
            write.before.value != write.after.value,
            last is not None and write.before.current != last.version,
            last is not None and last.key != write.before.observed.kms_key,
            fresh,
            self._adopted.get(write.arn) == len(self.own[write.arn]),
        )
        if not any(reasons):
            self.blame(f"{write.name} got another version for no reason")

    def _guarded(self, write: Write, worker: "Worker", sync: Sync, last: Own | None) -> None:
        """What had to wait for an approval."""
        if sync.approved_digest is not None or last is None or write.after is None or write.after.value is None:
            return
        value = write.after.value
        before = [last.value]
        if sync.config.layout is Layout.JSON:
            had, has = [_members(one) for one in before], _members(value)
            if not has and all(had):
                self.blame(f"{write.name} was emptied without an approval")
            if all(_shrinks(one, has, sync) for one in had):
                self.blame(f"{write.name} lost more than half of its keys without an approval")
        elif value.type is ValueType.BINARY and last.value.type is not ValueType.BINARY:
            self.blame(f"{write.name} was turned from text into binary without an approval")
        told = write.told
        if told is None or sync.adopt is not None:
            return
        theirs = told.current_version is not None and all(
            told.current_version != one.version for one in self.own[write.arn]
        )
        if not theirs:
            return
        if sync.config.on_drift is OnDrift.HOLD:
            self.blame(f"{write.name} was written over although the sync holds on drift")
        if _unanswered(write, worker):
            return  # An edit of ours that goes out at last; what was begun as a repair was counted then.
        repairs = self._repaired_at.setdefault(write.arn, [])
        if sum(at > write.at - DAY for at in repairs) >= MOST_REPAIRS:
            self.blame(f"{write.name} was repaired more than {MOST_REPAIRS} times within a day")
        repairs.append(write.at)

    def _budget(self, write: Write, *, by_hand: bool) -> None:
        """A bucket of 30 (40 for people), refilled by one every 24 minutes, looked at from every start."""
        times = self._written_at.setdefault(write.arn, [])
        times.append(write.at)
        # A write is paid for before its call; one that came late may stand beside the next.
        most = (MOST_BY_HAND if by_hand else MOST_AT_ONCE) + 1
        for number, start in enumerate(times):
            if len(times) - number > most + (write.at - start) // REFILL:
                self.blame(f"{write.name} got more versions than its budget allows")
                return

    def _deletion(self, write: Write, worker: "Worker", sync: Sync) -> None:
        worker.deleted.append(write.name)
        if worker.commit is None:
            return
        if write.recovery_days is None:
            self.blame(f"{write.name} was deleted without a recovery window")
        if write.name in self._stage.wanted(sync, worker.commit):
            self.blame(f"{write.name} was deleted although its key is in the store")
        if sync.config.on_remove is not OnRemove.DELETE:
            self.blame(f"{write.name} was deleted although the sync retains")
        if worker.state is not None and worker.state.restored:
            self.blame(f"{write.name} was deleted by a restored database that nobody accepted")
        key = self.key_of(write.name, sync)
        if key is None:
            self.blame(f"{write.name} was deleted because the sync writes elsewhere now")
            return
        since = self._stage.absent_since.get(key)
        if since is not None and write.at < since + sync.config.grace and not self._unseen(write, worker, key):
            self.blame(f"{write.name} was deleted {write.at - since} after its key went")

    def _unseen(self, write: Write, worker: "Worker", key: str) -> bool:
        """Whether the key had come back and gone again while no run was made: then its first grace counts."""
        journal = worker.state.journal if worker.state is not None else ()
        noted = next((entry.unwanted_since for entry in journal if entry.remote_name == write.name), None)
        if noted is None or worker.state is None or write.at < noted + worker.state.sync.config.grace:
            return False
        return not any(number > noted for number in self._seen_present.get((worker.sync, key), []))

    @staticmethod
    def key_of(name: str, sync: Sync) -> str | None:
        """Return the key that a remote name stands for where a sync writes now; None if it writes elsewhere."""
        head = sync.config.names.removesuffix("{key}")
        return name.removeprefix(head) if name.startswith(head) else None


def _unanswered(write: Write, worker: "Worker") -> bool:
    """Whether the journal that the worker found had an open intent to write this object."""
    return _open_intent(write, worker) is not None


def _open_intent(write: Write, worker: "Worker") -> Intent | None:
    entry = _entry(write, worker)
    return None if entry is None else entry.intent


def _entry(write: Write, worker: "Worker") -> JournalEntry | None:
    """Return what the journal that the worker found has of this object."""
    journal = worker.state.journal if worker.state is not None else ()
    return next((one for one in journal if one.remote_name == write.name), None)


def _of_two_payloads(write: Write, worker: "Worker") -> bool:
    """
    Whether it is unknown which of several payloads is there: the guard takes it for the one sent last.

    That is so while the write is open, and after it was found done, when its fingerprint is not known.
    """
    intent = _open_intent(write, worker)
    if intent is not None:
        return intent.payloads > 1
    entry = _entry(write, worker)
    return entry is not None and entry.version_id is not None and entry.fingerprint is None


def _spent_by_a_later_state(write: Write, worker: "Worker") -> bool:
    """
    Whether a database that was put back without a note had this write open, and a later state had spent its token.

    That looks as if its own write had landed. With a note nothing is written until someone accepts it.
    """
    intent = _open_intent(write, worker)
    put_back = worker.state is not None and not worker.state.restored and worker.stage.backups_put_back
    return bool(put_back and intent is not None and write.told is not None and intent.token in write.told.versions)


def _members(value: SecretValue) -> Mapping[str, object]:
    found = json.loads(value.reveal())
    return found if isinstance(found, dict) else {}


def _shrinks(had: Mapping[str, object], has: Mapping[str, object], sync: Sync) -> bool:
    dropped = len(had.keys() - has.keys())
    limit = sync.config
    return dropped >= limit.shrink_limit_keys and dropped * 100 > limit.shrink_limit_percent * len(had)
