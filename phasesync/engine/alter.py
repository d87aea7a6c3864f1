"""
Carries out changes that write no value: tags, description, resource policy, copies in other Regions, deletion.

None of them makes a version; each may be repeated after a crash. What is ours is noted in the journal before the call,
so that nothing of ours is taken for somebody else's. It decides nothing: what to do stands in the change.
"""

from collections.abc import Callable
from dataclasses import replace

from phasesync.core.change import Change
from phasesync.core.metadata import Dimension, text_digest, wanted_metadata
from phasesync.core.remote import Action, Desired, JournalEntry, Observed
from phasesync.engine.pen import Pen
from phasesync.errors import OutcomeUnknownError, PermissionDeniedError, PhasesyncError
from phasesync.ports import Destination


class Alterer:
    """Changes what is not the value, for one run on one destination."""

    def __init__(self, *, destination: Destination, pen: Pen, permit: Callable[[], None], recovery_days: int) -> None:
        """
        Args:
            destination: where to write.
            pen: keeps the journal.
            permit: called before every AWS write; raises when this run may not write any more.
            recovery_days: recovery window of deletions.
        """
        self._destination = destination
        self._pen = pen
        self._permit = permit
        self._recovery_days = recovery_days

    def delete(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        """
        Take one step towards the deletion of an object: its copies, or itself; return the journal entry afterwards.

        Raises as `Applier.apply`.
        """
        now = self._pen.now()
        if change.action is Action.REPLICATE:
            entry = self._pen.save(replace(entry, touched_at=now))
            self._permit()
            self._destination.remove_replicas(observed.arn, change.remove_replicas)
            return entry  # They are ours until a look shows that they are gone.
        # Noted before the call: an object whose deletion we asked for is not taken for one that somebody else deleted.
        entry = self._pen.save(replace(entry, touched_at=now, deletion_at=now, deletion_approved=change.approved))
        try:
            self._permit()
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
        self._permit()
        self._destination.update_metadata(observed.arn, description=desired.description)
        return entry

    def _set_policy(self, desired: Desired, observed: Observed, entry: JournalEntry) -> JournalEntry:
        if desired.resource_policy is None:
            raise AssertionError("a policy that is not set is left alone")
        entry = self._pen.save(entry)
        self._permit()
        self._destination.put_resource_policy(observed.arn, desired.resource_policy)
        # AWS may word it anew; what it gives back is what later looks compare with.
        return replace(entry, policy_as_stored=text_digest(self._destination.resource_policy(observed.arn)))

    def _replicate(self, change: Change, observed: Observed, entry: JournalEntry) -> JournalEntry:
        before = set(entry.replicas_written)
        ours = sorted({*before, *change.add_replicas})
        entry = self._pen.save(replace(entry, replicas_written=tuple(ours)))
        if change.remove_replicas:
            self._permit()
            self._destination.remove_replicas(observed.arn, change.remove_replicas)
            left = tuple(region for region in ours if region not in change.remove_replicas)
            entry = replace(entry, replicas_written=left)
        if change.add_replicas:
            self._permit()
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
        self._permit()
        self._destination.update_metadata(observed.arn, tags=differing or None, untag=untag)
        return replace(entry, tags_written={key: value for key, value in ours.items() if key not in untag})
