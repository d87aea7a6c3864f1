"""
Writes the journal for one run: under its claim, and remembering what was stored last.

Carries out changes that write no value: tags, description, resource policy, copies in other Regions, deletion.

None of them makes a version; each may be repeated after a crash. What is ours is noted in the journal before the call,
so that nothing of ours is taken for somebody else's. It decides nothing: what to do stands in the change.

Carries out one change at a time: journal the intent, call, verify, settle.

Every write of a value is journalled before its call and carries a token of its generation, so that a crash at any step
neither adds a version nor loses a write, and a worker that wakes late puts nothing older on top. It decides nothing:
what to do stands in the change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from phasesync.core.change import VALUE_WRITES, Change
from phasesync.core.fingerprint import Digests, write_token
from phasesync.core.planning.budget import within_a_day
from phasesync.core.planning.journal import (
    intend_restore,
    intend_write,
    next_generation,
    settle_restore,
    settle_used_token,
    settle_write,
)
from phasesync.core.planning.metadata import Dimension, key_differs, text_digest, wanted_metadata
from phasesync.core.remote import Action, Desired, Intent, JournalEntry, Observed, ResourceExists, WriteResult
from phasesync.core.run import ChangeResult, Outcome
from phasesync.core.sync_state import Claim
from phasesync.engine.context import Context
from phasesync.engine.stale_database import restored
from phasesync.errors import (
    DestinationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports.destination import Destination


class JournalWriter:
    """The journal of one run."""

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
            reads: environment id -> the revision that this run has read; noted with every entry.
            sync_version: the version of the sync that this run goes by; noted with every entry.
        """
        self._context = context
        self._claim = claim
        self._reads = dict(reads or {})
        self._sync_version = sync_version
        self._saved: dict[str, JournalEntry] = {}

    def save(self, entry: JournalEntry) -> JournalEntry:
        """Store an entry and return it with its id. ClaimLostError."""
        noted = replace(
            entry,
            revisions={**entry.revisions, **self._reads},
            sync_version=self._sync_version or entry.sync_version,
        )
        stored = self._saved[entry.remote_name] = self._context.store.journal.save_entry(self._claim, noted)
        return stored

    def latest(self, remote_name: str, entry: JournalEntry) -> JournalEntry:
        """Return an object's entry as it was stored last, `entry` where it was not: for after a change that raised."""
        return self._saved.get(remote_name, entry)

    def now(self) -> datetime:
        """Return the time."""
        return self._context.clock.now()


class MetadataApplier:
    """Changes what is not the value, for one run on one destination."""

    def __init__(
        self, *, destination: Destination, pen: JournalWriter, checkpoint: Callable[[], None], recovery_days: int
    ) -> None:
        """
        Args:
            destination: where to write.
            pen: keeps the journal.
            checkpoint: called before every AWS write; raises when this run may not write any more.
            recovery_days: recovery window of deletions.
        """
        self._destination = destination
        self._pen = pen
        self._checkpoint = checkpoint
        self._recovery_days = recovery_days

    def delete(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        """
        Take one step towards the deletion of an object: its copies, or itself; return the journal entry afterwards.

        Raises as `Applier.apply`.
        """
        now = self._pen.now()
        if change.action is Action.REPLICATE:
            entry = self._pen.save(replace(entry, touched_at=now))
            self._checkpoint()
            self._destination.remove_replicas(observed.arn, change.remove_replicas)
            return entry  # They are ours until a look shows that they are gone.
        # Noted before the call: an object whose deletion we asked for is not taken for one that somebody else deleted.
        entry = self._pen.save(replace(entry, touched_at=now, deletion_at=now, deletion_approved=change.approved))
        try:
            self._checkpoint()
            self._destination.delete(observed.arn, recovery_days=self._recovery_days)
        except OutcomeUnknownError:
            raise
        except PhasesyncError:
            self._pen.save(replace(entry, deletion_at=None, deletion_approved=False))
            raise
        return entry

    def set_metadata(self, change: Change, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        """Carry out a change of one dimension; return the journal entry afterwards. Raises as `Applier.apply`."""
        entry = replace(entry, touched_at=self._pen.now())
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
        return self._pen.save(replace(entry, metadata={**entry.metadata, dimension: wanted[dimension]}))

    def _set_description(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        entry = self._pen.save(entry)
        self._checkpoint()
        self._destination.update_metadata(observed.arn, description=desired.description)
        return entry

    def _set_policy(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        if desired.resource_policy is None:
            raise AssertionError("a policy that is not set is left alone")
        entry = self._pen.save(entry)
        self._checkpoint()
        self._destination.put_resource_policy(observed.arn, desired.resource_policy)
        # AWS may word it anew; what it gives back is what later looks compare with.
        return replace(entry, policy_as_stored=text_digest(self._destination.resource_policy(observed.arn)))

    def _replicate(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        before = set(entry.replicas_written)
        ours = sorted({*before, *change.add_replicas})
        entry = self._pen.save(replace(entry, replicas_written=tuple(ours)))
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
                # Nothing was made, whichever attempt was refused; a copy that somebody makes there later is theirs.
                asked_for = change.add_replicas.keys() - before
                self._pen.save(
                    replace(
                        entry, replicas_written=tuple(one for one in entry.replicas_written if one not in asked_for)
                    )
                )
                raise
        return entry

    def _retag(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        differing = {key: value for key, value in desired.tags.items() if observed.tags.get(key) != value}
        untag = tuple(key for key in desired.unwanted_tags if key in observed.tags)
        # Noted before the call and kept while they are there, so that no tag of ours is taken for somebody else's; one
        # that was there as wanted before we came is theirs.
        ours = {key: value for key, value in entry.tags_written.items() if key in observed.tags} | differing
        entry = self._pen.save(replace(entry, tags_written=ours))
        self._checkpoint()
        self._destination.update_metadata(observed.arn, tags=differing or None, untag=untag)
        return replace(entry, tags_written={key: value for key, value in ours.items() if key not in untag})


@dataclass(frozen=True, kw_only=True)
class Applied:
    """
    What became of a change.

    Attributes:
        entry: the journal entry afterwards, None where the change has none.
        again: the object has to be looked at and planned anew before the run may end.
    """

    result: ChangeResult
    entry: JournalEntry | None
    again: bool = False


class Applier:
    """Carries out changes of one run on one destination."""

    def __init__(
        self,
        *,
        destination: Destination,
        pen: JournalWriter,
        checkpoint: Callable[[], None],
        digests: Digests,
        instance_id: str,
        recovery_days: int,
    ) -> None:
        """
        Args:
            destination: where to write.
            pen: keeps the journal.
            checkpoint: called before every AWS write; raises when this run may not write any more.
            digests: makes the tokens.
            instance_id: part of every token.
            recovery_days: recovery window of deletions.
        """
        self._destination = destination
        self._pen = pen
        self._checkpoint = checkpoint
        self._digests = digests
        self._instance_id = instance_id
        self._alterer = MetadataApplier(
            destination=destination, pen=pen, checkpoint=checkpoint, recovery_days=recovery_days
        )
        self._enforced: set[str] = set()

    def apply(self, change: Change, entry: JournalEntry | None) -> Applied:
        """
        Carry out one change.

        Args:
            change: what to do.
            entry: the journal entry of its object now; an earlier change of this run may have moved it on. None for an
                object that the sync does not write.

        Raises:
            DestinationError: the call failed; an open intent stays for the next run.
            ClaimLostError, InterruptedRunError: this run may not write any more.
        """
        if entry is None or change.action is Action.NOOP:
            return Applied(result=result_of(change, Outcome.UNCHANGED), entry=entry)
        noted = self._note_enforced(change, entry) if change.drift else entry
        try:
            return self._carry_out(change, noted)
        except OutcomeUnknownError:
            raise
        except DestinationError:
            self._unnote_enforced(entry, noted)
            raise

    def _carry_out(self, change: Change, entry: JournalEntry) -> Applied:
        if change.action is Action.CREATE and change.desired is not None:
            return self._create(change, change.desired, entry)
        observed = change.observed
        if observed is None:
            raise RemoteChangedError
        if change.deletes:
            return Applied(
                result=result_of(change, Outcome.APPLIED), entry=self._alterer.delete(change, observed, entry)
            )
        if change.desired is None:
            return Applied(result=result_of(change, Outcome.UNCHANGED), entry=entry)
        if change.adopts and entry.arn != observed.arn:
            entry = self._pen.save(replace(entry, arn=observed.arn, former_tags=dict(observed.tags), tags_written={}))
        if change.action in VALUE_WRITES:
            return self._put(change, change.desired, observed, entry)
        if change.action is Action.RESTORE:
            return self._restore(change, observed, entry)
        altered = self._alterer.set_metadata(change, change.desired, observed, entry)
        return Applied(result=result_of(change, Outcome.APPLIED), entry=altered)

    def _note_enforced(self, change: Change, entry: JournalEntry) -> JournalEntry:
        """
        Count a repair of drift, once for each object and run, before the call that may be the last we hear of.

        One that is under way was counted when it began: trying again is not a further repair.
        """
        under_way = entry.intent is not None and entry.intent.action is change.action
        if entry.remote_name in self._enforced or under_way:
            return entry
        self._enforced.add(entry.remote_name)
        now = self._pen.now()
        return replace(entry, enforced_at=(*within_a_day(entry.enforced_at, now), now))

    def _unnote_enforced(self, entry: JournalEntry, noted: JournalEntry) -> None:
        """Take back the count of a repair that was refused, unless an open intent says that it is under way."""
        stored = self._pen.latest(entry.remote_name, entry)
        if noted is not entry and stored.enforced_at == noted.enforced_at and stored.intent == entry.intent:
            self._enforced.discard(entry.remote_name)
            self._pen.save(replace(stored, enforced_at=entry.enforced_at))

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
        """The name is taken: by an earlier write of ours, or by somebody else."""
        seen = self._destination.observe(change.remote_name)
        if seen is not None and token in seen.versions:
            if before is None:
                self._unsay(intended)
                raise restored()
            settled = self._pen.save(settle_used_token(intended, before, arn=seen.arn))
            return Applied(result=landed(change.remote_name, before), entry=settled, again=True)
        self._pen.save(replace(intended, intent=before))
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
                self._unsay(intended)
                raise restored()
            # An earlier write under this token had landed with another payload. Ours goes out under a new one, after
            # another look: the guard has not seen what landed.
            settled = self._pen.save(settle_used_token(intended, before, arn=observed.arn))
            return Applied(result=landed(change.remote_name, before), entry=settled, again=True)
        current = answer.current or self._is_current(desired.remote_name, answer)
        settled = self._settle(intended, desired, answer)
        return Applied(result=result_of(change, Outcome.APPLIED, answer.version_id), entry=settled, again=not current)

    def _restore(self, change: Change, observed: Observed, entry: JournalEntry) -> Applied:
        intended = self._pen.save(intend_restore(entry, self._token(entry), self._pen.now()))
        self._checkpoint()
        self._destination.restore(observed.arn)
        settled = self._pen.save(settle_restore(intended))
        return Applied(result=result_of(change, Outcome.APPLIED), entry=settled, again=True)

    def _intend(self, entry: JournalEntry, change: Change, desired: Desired) -> JournalEntry:
        token, now = self._token(entry), self._pen.now()
        return self._pen.save(intend_write(entry, change.action, desired.payload, token, now, approved=change.approved))

    def _unsay(self, intended: JournalEntry) -> None:
        """Take back an intent that AWS refused: left open, the next run would take the other's write for its own."""
        self._pen.save(replace(intended, intent=None))

    def _settle(self, intended: JournalEntry, desired: Desired, answer: WriteResult) -> JournalEntry:
        """Store what a write made known; a create also sets description, key and tags."""
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
        if tags is not None:  # What was known of a former object of this name is over.
            settled = replace(settled, metadata={}, replicas_written=(), policy_as_stored=None)
        metadata = dict(settled.metadata) | {str(name): wanted[name] for name in at_once if name in wanted}
        return self._pen.save(replace(settled, metadata=metadata))

    def _is_current(self, remote_name: str, answer: WriteResult) -> bool:
        """Ask whether readers get what was written, where the answer to the write does not say so."""
        seen = self._destination.observe(remote_name)
        return seen is not None and seen.current_version == answer.version_id

    def _token(self, entry: JournalEntry) -> str:
        return write_token(self._digests, self._instance_id, entry.sync_id, entry.remote_name, next_generation(entry))


def _open_write(entry: JournalEntry) -> Intent | None:
    return entry.intent if entry.intent is not None and entry.intent.action in VALUE_WRITES else None


def _token_of(entry: JournalEntry) -> str:
    if entry.intent is None:
        raise AssertionError("a write without an intent")
    return entry.intent.token


def result_of(change: Change, outcome: Outcome, version_id: str | None = None) -> ChangeResult:
    """Return what the log says of a change."""
    return ChangeResult(
        action=change.action,
        remote_name=change.remote_name,
        outcome=outcome,
        reason=change.reason,
        version_id=version_id,
        keys=change.keys,
    )


def landed(remote_name: str, intent: Intent) -> ChangeResult:
    """Return what the log says of a write whose answer was lost and which turned out to have landed."""
    return ChangeResult(
        action=intent.action,
        remote_name=remote_name,
        outcome=Outcome.APPLIED,
        reason="an earlier write had landed",
        version_id=intent.token,
    )
