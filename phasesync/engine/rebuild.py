"""
Rebuilds an installation whose root key was lost from what is at AWS: with the operator's own right to read values.

Nothing is written at AWS. The instance id and the ids of syncs are taken over from the tags, and the versions that
stand there go into the journal, so the objects are ours afterwards and no run writes what is there already.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from phasesync.core.counted import counted
from phasesync.core.model import SecretValue
from phasesync.core.planning.ownership import refusal_of
from phasesync.core.rebuild import FoundObject, RebuildPlan, Said, plan_rebuild
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Observed
from phasesync.engine.context import Context
from phasesync.errors import IllegalTransitionError, InvalidInputError, NotFoundError, RemoteChangedError
from phasesync.ports.destination import Destination

_ATTEMPTS: Final = 3
_TENANT: Final = "rebuild"


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """
    What a rebuild would make, and what it leaves out.

    Attributes:
        left_out: remote name -> why it is not part of it.
    """

    plan: RebuildPlan
    left_out: Mapping[str, str] = field(default_factory=dict)


def prepare_rebuild(
    context: Context,
    credential: str,
    *,
    kind: str,
    regions: Sequence[str],
    instance_id: str | None,
    said: Mapping[str, Said],
    skipped: Collection[str] = (),
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
        skipped: ids of syncs that are left out; their values are not read.
        report: called with the number of objects read so far.

    Raises:
        IllegalTransitionError: this database is in use: it has apps or syncs, or a daemon is at work.
        InvalidInputError: several installations have objects there, and none was named.
        NotFoundError: there is no object of such an installation, or no such credential.
        DestinationError: PermissionDeniedError names the action that is missing.
    """
    context.store.rebuild.check_fresh()
    reach = context.store.credentials.get(credential)
    left_out: dict[str, str] = {}
    listed: list[tuple[Destination, str, Observed]] = []
    for region in regions:
        destination = context.destinations.open(kind, reach, region, tenant=_TENANT, fresh=True)
        destination.account_id()
        listed += [(destination, region, observed) for observed in destination.sweep(instance_id)]
    instance_id = instance_id or _only_instance(listed)
    found: list[FoundObject] = []
    for destination, region, observed in listed:
        if observed.tags.get(TAG_INSTANCE) != instance_id or observed.tags.get(TAG_SYNC) in skipped:
            continue
        if observed.primary_region not in (None, region):
            continue  # A copy: AWS keeps it as its primary is.
        item = _read(destination, region, observed, left_out)
        if item is not None:
            found.append(item)
            report(len(found))
    if not found and not left_out:
        raise NotFoundError(
            f"there is nothing with the tags of the installation {instance_id} in {', '.join(regions)}",
            hint="name the Regions with --region, and a credential of the account that the syncs wrote to",
        )
    plan = plan_rebuild(instance_id, found, said, context.digests)
    return Rebuild(plan=plan, left_out=dict(sorted(left_out.items())))


def carry_out(context: Context, rebuild: Rebuild, credential: str, *, kind: str, actor: str) -> None:
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
    context.store.rebuild.make(rebuild.plan, credential=credential, kind=kind, actor=actor)


def _only_instance(listed: Sequence[tuple[Destination, str, Observed]]) -> str:
    """Return the installation that the objects belong to. InvalidInputError if there are several; NotFoundError."""
    counts = Counter(observed.tags.get(TAG_INSTANCE, "") for _, _, observed in listed)
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


def _read(destination: Destination, region: str, listed: Observed, left_out: dict[str, str]) -> FoundObject | None:
    """Return an object with the value of the version that stands there; None if it is left out."""
    for observed, value in _readings(destination, listed):
        sync_id = observed.tags.get(TAG_SYNC)
        reason = _why_left_out(observed, region)
        if reason is not None or sync_id is None or observed.current_version is None:
            left_out[listed.name] = reason or "it has no current value"
            return None
        after = destination.observe(listed.arn)
        if value is not None and after is not None and after.current_version == observed.current_version:
            return FoundObject(
                sync_id=sync_id,
                remote_name=observed.name,
                account=destination.account_id(),
                region=region,
                arn=observed.arn,
                version_id=observed.current_version,
                value=value,
                kms_key=observed.kms_key,
            )
    raise RemoteChangedError(f"{listed.name} kept changing while it was read")


def _readings(destination: Destination, listed: Observed) -> Iterator[tuple[Observed, SecretValue | None]]:
    """Yield what AWS reports of an object, and its value: a list may lag, so it only names the object."""
    for _ in range(_ATTEMPTS):
        observed = destination.observe(listed.arn)
        if observed is None:
            continue
        readable = observed.deleted_at is None and observed.current_version is not None
        yield observed, destination.read_value(listed.arn) if readable else None


def _why_left_out(observed: Observed, region: str) -> str | None:
    if observed.deleted_at is not None:
        return "it is scheduled for deletion"
    if TAG_SYNC not in observed.tags:
        return "its tag does not say which sync it belongs to"
    refusal = refusal_of(observed.name, observed, region)
    return None if refusal is None else refusal[0]
