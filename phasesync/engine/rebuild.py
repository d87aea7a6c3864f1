"""
Rebuilds an installation whose root key was lost from what is at AWS: with the operator's own right to read values.

Nothing is written at AWS. The instance id and the ids of syncs are taken over from the tags, and the versions that
stand there go into the journal, so the objects are ours afterwards and no run writes what is there already.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from phasesync.core.counted import counted
from phasesync.core.credential import Credential
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.rebuild import FoundObject, RebuildPlan, RebuiltSync, Said, draft_of, is_id, plan_rebuild
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Observed
from phasesync.core.sync import SyncConfig
from phasesync.core.windows import canonical_windows
from phasesync.engine.context import Context
from phasesync.engine.sync_validation import SyncValidator
from phasesync.errors import (
    DestinationError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
    RemoteChangedError,
)
from phasesync.ports.destination import Destination

_ATTEMPTS: Final = 3
_IDS_NAMED: Final = 10
_TENANT: Final = "rebuild"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An object with our tags that a rebuild leaves out, and why."""

    remote_name: str
    region: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """
    What a rebuild would make, and what it leaves out.

    Attributes:
        credential: name of the one that the syncs use.
        left_out: by name and Region.
        missing: syncs of the former database that no object has as its tag, by id; they are not rebuilt.
        not_in_former: syncs that are rebuilt, and that the former database does not have.
    """

    plan: RebuildPlan
    credential: str
    kind: str
    left_out: tuple[LeftOut, ...] = ()
    missing: Mapping[str, Said] = field(default_factory=dict)
    not_in_former: tuple[RebuiltSync, ...] = ()


def prepare_rebuild(
    context: Context,
    credential: str,
    *,
    kind: str,
    regions: Sequence[str],
    instance_id: str | None,
    said: Mapping[str, Said],
    former: Collection[str] = (),
    mapped: Collection[str] = (),
    skipped: Collection[str] = (),
    used: str | None = None,
    report: Callable[[int], object] = lambda _: None,
) -> Rebuild:
    """
    Return what the objects at AWS become. Reads their values; writes nothing.

    Args:
        context: of the new, empty installation.
        credential: name of the credential that lists and reads.
        kind: destination kind.
        regions: where to look.
        instance_id: of the lost installation; None: the only one that has objects there.
        said: sync id -> what is known of it.
        former: ids of the syncs that the former database has, if there is one.
        mapped: ids of syncs that an operator named; no object there has the tag of an unknown one.
        skipped: ids of syncs that are left out; their values are not read.
        used: name of the credential that the syncs use; None: the same one.
        report: called with the number of objects read so far.

    Raises:
        IllegalTransitionError: this database is in use: it has apps or syncs, or a daemon is at work.
        InvalidInputError: several installations have objects there, and none was named; or an id is none.
        NotFoundError: there is no object of such an installation, or no such credential.
        DestinationError: PermissionDeniedError names the action that is missing.
    """
    context.store.rebuild.check_fresh()
    if instance_id is not None and not is_id(instance_id):
        raise InvalidInputError(
            "the id of an installation has 32 hex digits", hint="it is in the tag phasesync:instance of its AWS secrets"
        )
    reach, used_reach = (context.store.credentials.get(name) for name in (credential, used or credential))
    listed: dict[str, tuple[Destination, str, Observed]] = {}
    for region in regions:
        destination = context.destinations.open(kind, reach, region, tenant=_TENANT, fresh=True)
        with _naming(f"the list of AWS secrets in {region}"):
            destination.account_id()
            listed |= {observed.arn: (destination, region, observed) for observed in destination.sweep(instance_id)}
    instance_id = instance_id or _only_instance(listed.values())
    ours = [one for one in listed.values() if one[2].tags.get(TAG_INSTANCE) == instance_id]
    tagged = {observed.tags.get(TAG_SYNC) for _, _, observed in ours}
    _check_known([*mapped, *skipped], tagged)
    reading = _Reading(instance_id, frozenset(skipped))
    found: list[FoundObject] = []
    for destination, region, observed in ours:
        if observed.primary_region not in (None, region):
            continue  # A copy: AWS keeps it as its primary is.
        with _naming(f"{observed.name} in {region}, of the sync {observed.tags.get(TAG_SYNC)}"):
            item = reading.read(destination, region, observed)
        if item is not None:
            found.append(item)
            report(len(found))
    if not ours:
        raise NotFoundError(
            f"there is nothing with the tags of the installation {instance_id} in {', '.join(regions)}",
            hint="name the Regions with --region, and a credential of the account that the syncs wrote to",
        )
    validator = SyncValidator(context)
    plan = plan_rebuild(
        instance_id,
        found,
        said,
        context.digests,
        check=lambda sync: _checked_config(validator, sync, used_reach, kind),
    )
    left_out = sorted(reading.left_out, key=lambda one: (one.remote_name, one.region))
    return Rebuild(
        plan=plan,
        credential=used_reach.name,
        kind=kind,
        left_out=tuple(left_out),
        missing={sync_id: said[sync_id] for sync_id in sorted(former) if sync_id not in tagged},
        not_in_former=tuple(sync for sync in plan.syncs if former and sync.id not in former),
    )


def carry_out(context: Context, rebuild: Rebuild, *, actor: str) -> None:
    """
    Make what a plan says, in one transaction: all of it or nothing.

    Raises:
        IllegalTransitionError: parts of it cannot be rebuilt as they are, or this database is in use.
    """
    if rebuild.plan.problems:
        raise IllegalTransitionError(
            f"{counted(len(rebuild.plan.problems), 'sync')} cannot be rebuilt as the plan says, so nothing was",
            hint="say what they were, or that they are skipped, in a file: --mapping FILE",
        )
    context.store.rebuild.make(rebuild.plan, credential=rebuild.credential, kind=rebuild.kind, actor=actor)


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Name in errors of AWS what they are about."""
    try:
        yield
    except DestinationError as error:
        error.message = f"{subject}: {error.message}"
        raise


def _check_known(given: Sequence[str], tagged: Collection[str | None]) -> None:
    """Refuse ids that no object has, before a value is read: a mistyped one may be meant to be skipped."""
    if unknown := sorted({one for one in given if one not in tagged}):
        raise InvalidInputError(
            f"the mapping names syncs that no AWS secret there has as its tag {TAG_SYNC}: "
            + ", ".join(map(repr, unknown[:_IDS_NAMED]))
            + (f" and {len(unknown) - _IDS_NAMED} more" if len(unknown) > _IDS_NAMED else ""),
            hint="correct the ids or take them out of the file; or name the Region with --region. --dry-run -o json "
            "without --mapping shows the ids",
        )


def _checked_config(validator: SyncValidator, sync: RebuiltSync, credential: Credential, kind: str) -> SyncConfig:
    """Return the configuration of a sync as `syncs add` would store it. InvalidInputError."""
    draft = validator.normalise(draft_of(sync, credential.name, kind), credential, former=sync.config, ask=False)
    return replace(draft.config, windows=canonical_windows(draft.config.windows))


def _only_instance(listed: Collection[tuple[Destination, str, Observed]]) -> str:
    """Return the installation that the objects belong to. InvalidInputError if there are several; NotFoundError."""
    tags = (observed.tags.get(TAG_INSTANCE, "") for _, _, observed in listed)
    counts = Counter(tag for tag in tags if is_id(tag))
    if not counts:
        raise NotFoundError(
            "nothing here has the tags of phasesync",
            hint="name the Regions with --region, and a credential of the account that the syncs wrote to",
        )
    if len(counts) > 1:
        shown = ", ".join(f"{name} ({counted(count, 'object')})" for name, count in sorted(counts.items()))
        raise InvalidInputError(
            f"several installations have objects here: {shown}",
            hint="name yours: --instance ID; the table instance of the former database has its id in the clear",
        )
    return next(iter(counts))


class _Reading:
    """Reads the objects of an installation. `left_out`: what could not be, so far."""

    def __init__(self, instance_id: str, skipped: Collection[str]) -> None:
        self._instance_id = instance_id
        self._skipped = skipped
        self.left_out: list[LeftOut] = []

    def read(self, destination: Destination, region: str, listed: Observed) -> FoundObject | None:
        """Return an object with the value of the version that stands there; None if it is left out or skipped."""
        if listed.tags.get(TAG_SYNC) in self._skipped:
            return None
        for _ in range(_ATTEMPTS):
            # A list may lag, so it only names the object.
            observed = destination.observe(listed.arn)
            if observed is None:
                self._leave_out(listed, region, "it was deleted")
                return None
            sync_id = observed.tags.get(TAG_SYNC)
            if sync_id in self._skipped:
                return None
            if (reason := self._why_left_out(observed, region)) is not None:
                self._leave_out(observed, region, reason)
                return None
            value, after = destination.read_value(listed.arn), destination.observe(listed.arn)
            version = observed.current_version
            if sync_id is None or version is None or value is None or after is None:
                continue
            if (after.current_version, after.tags) == (version, observed.tags):
                return FoundObject(
                    sync_id=sync_id,
                    remote_name=observed.name,
                    account=destination.account_id(),
                    region=region,
                    arn=observed.arn,
                    version_id=version,
                    value=value,
                    kms_key=observed.kms_key,
                )
        raise RemoteChangedError("its value or its tags kept changing while it was read")

    def _leave_out(self, observed: Observed, region: str, reason: str) -> None:
        self.left_out.append(LeftOut(remote_name=observed.name, region=region, reason=reason))

    def _why_left_out(self, observed: Observed, region: str) -> str | None:
        if observed.deleted_at is not None:
            return "it is scheduled for deletion"
        if observed.tags.get(TAG_INSTANCE) != self._instance_id:
            return "it has no longer the tag of this installation"
        if TAG_SYNC not in observed.tags:
            return "its tag does not say which sync it belongs to"
        if (refusal := refusal_of(observed.name, observed, region)) is not None:
            return refusal[0]
        return "it has no current value" if observed.current_version is None else None
