"""
Applies one change at a time: journals the intent, calls AWS, verifies, settles. Decides nothing: the change says what.

Every write of a value is journalled before its call and carries a token of its generation. So a crash at any step
neither adds a version nor loses a write, and a worker that wakes late cannot overwrite a newer value. Changes of
metadata make no version; each may be repeated after a crash. What becomes ours is journalled before the call, so that
nothing of ours is taken for another writer's.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from phasesync.core.change import VALUE_WRITES, Change
from phasesync.core.fingerprint import write_token
from phasesync.core.planning.journal import (
    intend_deletion,
    intend_restore,
    intend_write,
    next_generation,
    settle_restore,
    settle_used_token,
    settle_write,
)
from phasesync.core.planning.metadata import Dimension, key_differs, text_digest, wanted_metadata
from phasesync.core.planning.version_budget import full_at, within_a_day
from phasesync.core.remote import (
    TAG_DELETION,
    Action,
    Desired,
    Intent,
    JournalEntry,
    Observed,
    ResourceExists,
    WriteResult,
)
from phasesync.core.run import ChangeResult, Outcome
from phasesync.core.sync_claim import Claim
from phasesync.engine.claims import Checkpoint
from phasesync.engine.context import Context
from phasesync.engine.stale_database import newer_at_aws_error
from phasesync.errors import (
    DestinationError,
    DestinationRejectedError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports.destination import Destination
from phasesync.store.journal import with_id


class JournalWriter:
    """
    The journal of one run.

    What has to be in the database before a call of AWS is saved. What a run has learned is noted: it is stored with the
    next save, or with the end of the run. If the process dies before that, the next observation shows it again.
    """

    def __init__(
        self,
        context: Context,
        claim: Claim,
        *,
        reads: Mapping[str, int] | None = None,
        sync_version: int | None = None,
    ) -> None:
        """
        Args:
            context: keeps the journal, and has the time.
            claim: the right to write it; every write carries its fence.
            reads: environment id -> the revision that this run has read; stored with every entry.
            sync_version: the version of the sync that this run uses; stored with every entry.
        """
        self._context = context
        self._claim = claim
        self._reads = dict(reads or {})
        self._sync_version = sync_version
        self._latest: dict[str, JournalEntry] = {}
        self._noted: dict[str, JournalEntry] = {}

    def save(self, entry: JournalEntry) -> JournalEntry:
        """Store an entry, and all that was noted, now; return it with its id. ClaimLostError."""
        self._noted.pop(entry.remote_name, None)
        stored = self._latest[entry.remote_name] = self._context.store.journal.save_entry(
            self._claim, self._completed(entry), self.noted()
        )
        self._noted.clear()
        return stored

    def note(self, entry: JournalEntry) -> JournalEntry:
        """Keep an entry for the next save or the end of the run; return it with its id."""
        noted = with_id(self._completed(entry))
        self._latest[entry.remote_name] = self._noted[entry.remote_name] = noted
        return noted

    def noted(self) -> list[JournalEntry]:
        """Return the entries that are not stored yet."""
        return list(self._noted.values())

    def latest(self, remote_name: str, entry: JournalEntry) -> JournalEntry:
        """Return an object's newest entry, or `entry` if there is none of this run. For use after an error."""
        return self._latest.get(remote_name, entry)

    def budget_full_at(self) -> datetime | None:
        """Return when the version budget of the most written object is full again; None if all budgets are full."""
        now = self.now()
        latest = max((full_at(entry.versions_at, now) for entry in self._latest.values()), default=now)
        return latest if latest > now else None

    def now(self) -> datetime:
        """Return the time."""
        return self._context.clock.now()

    def _completed(self, entry: JournalEntry) -> JournalEntry:
        return replace(
            entry,
            revisions={**entry.revisions, **self._reads},
            sync_version=self._sync_version or entry.sync_version,
        )


class MetadataApplier:
    """Applies changes that write no value: tags, description, resource policy, copies in other Regions, deletion."""

    def __init__(
        self,
        context: Context,
        destination: Destination,
        journal: JournalWriter,
        checkpoint: Checkpoint,
        *,
        recovery_days: int,
    ) -> None:
        """
        Args:
            context: makes the tokens.
            destination: where to write.
            journal: of the run.
            checkpoint: called before every AWS write.
            recovery_days: recovery window of deletions.
        """
        self._context = context
        self._destination = destination
        self._journal = journal
        self._checkpoint = checkpoint
        self._recovery_days = recovery_days

    def delete(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        """
        Take one step towards the deletion of an object: its copies, or itself; return the journal entry afterwards.

        Raises as `Applier.apply`.
        """
        now = self._journal.now()
        if change.action is Action.REPLICATE:
            entry = self._journal.save(replace(entry, touched_at=now))
            self._checkpoint()
            self._destination.remove_replicas(observed.arn, change.remove_replicas)
            return entry  # They are ours until an observation shows that they are gone.
        entry = self._journal.save(intend_deletion(entry, now))
        self._mark_deletion(observed, entry)
        # Journalled before the call, so that the deletion is not taken for another writer's.
        entry = self._journal.save(replace(entry, touched_at=now, deletion_at=now, deletion_approved=change.approved))
        try:
            self._checkpoint()
            self._destination.delete(observed.arn, recovery_days=self._recovery_days)
        except OutcomeUnknownError:
            raise
        except PhasesyncError:
            self._journal.save(replace(entry, deletion_at=None, deletion_approved=False))
            raise
        return entry

    def _mark_deletion(self, observed: Observed, entry: JournalEntry) -> None:
        """
        Leave a tag by which an older copy of the database recognises the deletion, so that it does not undo it.

        Without the right to set a tag, or room for one, the deletion goes on: someone has asked for it.
        """
        self._checkpoint()
        with suppress(PermissionDeniedError, DestinationRejectedError):
            self._destination.update_metadata(observed.arn, tags=deletion_mark(self._context, entry))

    def set_metadata(self, change: Change, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        """Apply a change of one dimension; return the journal entry afterwards. Raises as `Applier.apply`."""
        entry = replace(entry, touched_at=self._journal.now())
        match change.action:
            case Action.SET_DESCRIPTION:
                entry = self._set_description(desired, observed, entry)
                dimension = Dimension.DESCRIPTION
            case Action.SET_POLICY:
                entry = self._set_policy(desired, observed, entry)
                dimension = Dimension.POLICY
            case Action.REPLICATE:
                entry = self._replicate(change, observed, entry)
                dimension = Dimension.REPLICAS
            case _:
                entry = self._retag(desired, observed, entry)
                dimension = Dimension.TAGS
        wanted = wanted_metadata(desired)
        return self._journal.note(replace(entry, metadata={**entry.metadata, dimension: wanted[dimension]}))

    def _set_description(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        entry = self._journal.save(entry)
        self._checkpoint()
        self._destination.update_metadata(observed.arn, description=desired.description)
        return entry

    def _set_policy(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        if desired.resource_policy is None:
            raise AssertionError("a policy that is not set is left alone")
        entry = self._journal.save(entry)
        self._checkpoint()
        self._destination.put_resource_policy(observed.arn, desired.resource_policy)
        # AWS may reformat it. Later observations compare with what AWS returns.
        return replace(entry, policy_as_stored=text_digest(self._destination.resource_policy(observed.arn)))

    def _replicate(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        before = set(entry.replicas_written)
        ours = sorted({*before, *change.add_replicas})
        entry = self._journal.save(replace(entry, replicas_written=tuple(ours)))
        if change.remove_replicas:
            self._checkpoint()
            self._destination.remove_replicas(observed.arn, change.remove_replicas)
            left = tuple(region for region in ours if region not in change.remove_replicas)
            entry = replace(entry, replicas_written=left)
        if change.add_replicas:
            self._checkpoint()
            try:
                self._destination.replicate(observed.arn, change.add_replicas)
            except PermissionDeniedError:
                # Nothing was created, whichever attempt was refused. A copy that appears there later is not ours.
                asked_for = change.add_replicas.keys() - before
                written = tuple(region for region in entry.replicas_written if region not in asked_for)
                self._journal.save(replace(entry, replicas_written=written))
                raise
        return entry

    def _retag(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        differing = {key: value for key, value in desired.tags.items() if observed.tags.get(key) != value}
        untag = tuple(key for key in desired.unwanted_tags if key in observed.tags)
        # Journalled before the call and kept while they exist, so that no tag of ours is taken for another writer's. A
        # tag that already had the wanted value is not ours.
        ours = {key: value for key, value in entry.tags_written.items() if key in observed.tags} | differing
        entry = self._journal.save(replace(entry, tags_written=ours))
        self._checkpoint()
        self._destination.update_metadata(observed.arn, tags=differing or None, untag=untag)
        return replace(entry, tags_written={key: value for key, value in ours.items() if key not in untag})


@dataclass(frozen=True, kw_only=True)
class Applied:
    """
    The result of a change.

    Attributes:
        entry: the journal entry afterwards; None if the change has none.
        again: the object has to be observed and planned again before the run may end.
    """

    result: ChangeResult
    entry: JournalEntry | None
    again: bool = False


class Applier:
    """Applies the changes of one run on one destination."""

    def __init__(
        self,
        context: Context,
        destination: Destination,
        journal: JournalWriter,
        checkpoint: Checkpoint,
        *,
        recovery_days: int,
    ) -> None:
        """
        Args:
            context: makes the tokens.
            destination: where to write.
            journal: of the run.
            checkpoint: called before every AWS write.
            recovery_days: recovery window of deletions.
        """
        self._destination = destination
        self._journal = journal
        self._checkpoint = checkpoint
        self._digests = context.digests
        self._instance_id = context.instance_id
        self._metadata = MetadataApplier(context, destination, journal, checkpoint, recovery_days=recovery_days)
        self._enforced: set[str] = set()

    def apply(self, change: Change, entry: JournalEntry | None) -> Applied:
        """
        Apply one change.

        Args:
            change: what to do.
            entry: the current journal entry of its object; an earlier change of this run may have updated it. None for
                an object that the sync does not write.

        Raises:
            DestinationError: the call failed; an open intent stays for the next run.
            ClaimLostError, InterruptedRunError: this run may not write any more.
        """
        if entry is None or change.action is Action.NOOP:
            return Applied(result=result_of(change, Outcome.UNCHANGED), entry=entry)
        counted = self._count_repair(change, entry) if change.drift else entry
        try:
            return self._apply(change, counted)
        except OutcomeUnknownError:
            raise
        except DestinationError:
            self._uncount_repair(entry, counted)
            raise

    def _apply(self, change: Change, entry: JournalEntry) -> Applied:
        if change.action is Action.CREATE and change.desired is not None:
            return self._create(change, change.desired, entry)
        observed = change.observed
        if observed is None:
            raise RemoteChangedError
        if change.deletes:
            return Applied(
                result=result_of(change, Outcome.APPLIED), entry=self._metadata.delete(change, observed, entry)
            )
        if change.desired is None:
            return Applied(result=result_of(change, Outcome.UNCHANGED), entry=entry)
        if change.adopts and entry.arn != observed.arn:
            entry = self._journal.save(
                replace(entry, arn=observed.arn, former_tags=dict(observed.tags), tags_written={})
            )
        if change.action in VALUE_WRITES:
            return self._put(change, change.desired, observed, entry)
        if change.action is Action.RESTORE:
            return self._restore(change, observed, entry)
        altered = self._metadata.set_metadata(change, change.desired, observed, entry)
        return Applied(result=result_of(change, Outcome.APPLIED), entry=altered)

    def _count_repair(self, change: Change, entry: JournalEntry) -> JournalEntry:
        """
        Count a repair of drift, once for each object and run, before a call that may get no answer.

        A repair that is under way was counted when it began: a retry is not a further repair.
        """
        under_way = entry.intent is not None and entry.intent.action is change.action
        if entry.remote_name in self._enforced or under_way:
            return entry
        self._enforced.add(entry.remote_name)
        now = self._journal.now()
        return replace(entry, enforced_at=(*within_a_day(entry.enforced_at, now), now))

    def _uncount_repair(self, entry: JournalEntry, noted: JournalEntry) -> None:
        """Undo the count of a repair that was refused, unless an open intent says that it is under way."""
        stored = self._journal.latest(entry.remote_name, entry)
        if noted is not entry and stored.enforced_at == noted.enforced_at and stored.intent == entry.intent:
            self._enforced.discard(entry.remote_name)
            self._journal.save(replace(stored, enforced_at=entry.enforced_at))

    def _create(self, change: Change, desired: Desired, entry: JournalEntry) -> Applied:
        before = _open_write(entry)
        noted = replace(entry, tags_written={**entry.tags_written, **desired.tags})
        intended = self._intend(noted, change, desired)
        token = _token_of(intended)
        self._checkpoint()
        answer = self._destination.create(
            desired.remote_name,
            desired.payload,
            token=token,
            description=desired.description,
            kms_key=desired.kms_key,
            tags=desired.tags,
        )
        if isinstance(answer, ResourceExists):
            return self._create_occupied(change, intended, before, token)
        current = True if before is None else self._is_current(desired.remote_name, answer)
        settled = self._settle(intended, desired, answer)
        # Copies and policy are calls of their own, on what now exists.
        more = bool(desired.replicas) or desired.resource_policy is not None
        return Applied(
            result=result_of(change, Outcome.APPLIED, answer.version_id), entry=settled, again=more or not current
        )

    def _create_occupied(self, change: Change, intended: JournalEntry, before: Intent | None, token: str) -> Applied:
        """Handle a name that is taken: by an earlier write of ours, or by another writer."""
        observed = self._destination.observe(change.remote_name)
        if observed is not None and token in observed.versions:
            if before is None:
                self._withdraw(intended)
                raise newer_at_aws_error()
            settled = self._journal.save(settle_used_token(intended, before, arn=observed.arn))
            return Applied(result=landed(change.remote_name, before), entry=settled, again=True)
        self._journal.save(replace(intended, intent=before))
        raise RemoteChangedError("an object of this name appeared while it was being created")

    def _put(self, change: Change, desired: Desired, observed: Observed, entry: JournalEntry) -> Applied:
        before = _open_write(entry)
        intended = self._intend(entry, change, desired)
        if change.action is Action.REKEY and key_differs(desired, observed):
            self._checkpoint()
            self._destination.update_metadata(observed.arn, kms_key=desired.kms_key)
        self._checkpoint()
        answer = self._destination.put_value(observed.arn, desired.payload, token=_token_of(intended))
        if isinstance(answer, ResourceExists):
            if before is None:
                self._withdraw(intended)
                raise newer_at_aws_error()
            # An earlier write under this token had landed with another payload. Ours gets a new token, after another
            # observation: the guard has not seen what landed.
            settled = self._journal.save(settle_used_token(intended, before, arn=observed.arn))
            return Applied(result=landed(change.remote_name, before), entry=settled, again=True)
        current = answer.current or self._is_current(desired.remote_name, answer)
        settled = self._settle(intended, desired, answer)
        return Applied(result=result_of(change, Outcome.APPLIED, answer.version_id), entry=settled, again=not current)

    def _restore(self, change: Change, observed: Observed, entry: JournalEntry) -> Applied:
        intended = self._journal.save(intend_restore(entry, self._token(entry), self._journal.now()))
        self._checkpoint()
        self._destination.restore(observed.arn)
        settled = self._journal.note(settle_restore(intended))
        return Applied(result=result_of(change, Outcome.APPLIED), entry=settled, again=True)

    def _intend(self, entry: JournalEntry, change: Change, desired: Desired) -> JournalEntry:
        token, now = self._token(entry), self._journal.now()
        return self._journal.save(
            intend_write(entry, change.action, desired.payload, token, now, approved=change.approved)
        )

    def _withdraw(self, intended: JournalEntry) -> None:
        """Close an intent that AWS refused: left open, the next run would take the other write for its own."""
        self._journal.save(replace(intended, intent=None))

    def _settle(self, intended: JournalEntry, desired: Desired, answer: WriteResult) -> JournalEntry:
        """Store what a write proved. A create also sets description, key and tags."""
        tags: dict[str, str] | None = None
        at_once: tuple[Dimension, ...] = (Dimension.KEY,)
        if intended.intent is not None and intended.intent.action is Action.CREATE:
            tags = dict(desired.tags)
            at_once = (Dimension.DESCRIPTION, Dimension.KEY, Dimension.TAGS)
        if intended.intent is not None and intended.intent.action is Action.PUT:
            at_once = ()
        wanted = wanted_metadata(desired)
        settled = settle_write(
            intended, desired.payload, arn=answer.arn, version_id=answer.version_id, tags_written=tags
        )
        if tags is not None:  # What was known of a former object of this name is obsolete.
            settled = replace(settled, metadata={}, replicas_written=(), policy_as_stored=None)
        metadata = dict(settled.metadata) | {str(name): wanted[name] for name in at_once if name in wanted}
        return self._journal.note(replace(settled, metadata=metadata))

    def _is_current(self, remote_name: str, answer: WriteResult) -> bool:
        """Return whether readers get what was written, if the answer to the write does not say so."""
        observed = self._destination.observe(remote_name)
        return observed is not None and observed.current_version == answer.version_id

    def _token(self, entry: JournalEntry) -> str:
        return write_token(self._digests, self._instance_id, entry.sync_id, entry.remote_name, next_generation(entry))


def deletion_mark(context: Context, entry: JournalEntry) -> dict[str, str]:
    """Return the tag of a deletion; the journal entry has the generation of it."""
    token = write_token(context.digests, context.instance_id, entry.sync_id, entry.remote_name, entry.generation)
    return {TAG_DELETION: token}


def _open_write(entry: JournalEntry) -> Intent | None:
    return entry.intent if entry.intent is not None and entry.intent.action in VALUE_WRITES else None


def _token_of(entry: JournalEntry) -> str:
    if entry.intent is None:
        raise AssertionError("a write without an intent")
    return entry.intent.token


def result_of(change: Change, outcome: Outcome, version_id: str | None = None) -> ChangeResult:
    """Return the result of a change for the run."""
    return ChangeResult(
        action=change.action,
        remote_name=change.remote_name,
        outcome=outcome,
        reason=change.reason,
        version_id=version_id,
        keys=change.keys,
    )


def landed(remote_name: str, intent: Intent) -> ChangeResult:
    """Return the result of an earlier write that had landed although its answer was lost."""
    return ChangeResult(
        action=intent.action,
        remote_name=remote_name,
        outcome=Outcome.APPLIED,
        reason="an earlier write had landed",
        version_id=intent.token,
    )
