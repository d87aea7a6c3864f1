"""Desired state: which objects a sync wants now, and at which destination. Reads the source; writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from phasesync.core.change import PlanContext
from phasesync.core.payloads import build_payloads
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import Desired, JournalEntry, Payload
from phasesync.core.sync import Sync
from phasesync.core.sync_claim import SyncState
from phasesync.core.tags import desired_tags, unwanted_tags
from phasesync.engine.context import Context
from phasesync.engine.observe import entries_of, left_behind, verify_account
from phasesync.engine.run_result import RunBuilder
from phasesync.engine.source import Source, check_not_rolled_back, read_source
from phasesync.errors import PhasesyncError
from phasesync.ports.destination import Destination


@dataclass(frozen=True, kw_only=True)
class DesiredState:
    """
    The objects that a sync wants now, and the destination that they belong to.

    Attributes:
        wanted: remote name -> the object as it should be.
        problems: remote name -> why its payload cannot be made.
        left_behind: entries of objects that the sync wrote and no longer wants.
        manual: a person asked for the run.
    """

    state: SyncState
    destination: Destination
    account: str
    wanted: Mapping[str, Desired]
    problems: Mapping[str, PhasesyncError]
    left_behind: tuple[JournalEntry, ...]
    manual: bool


def load_desired(
    context: Context, state: SyncState, run: RunBuilder, *, manual: bool, source: Source | None = None
) -> DesiredState:
    """
    Read the source, then open the destination: if the source cannot be read, no call is made.

    Args:
        context: has the source and opens the destination.
        state: the sync, its credential and its journal.
        run: takes what is found out, even if this ends with an error.
        manual: a person asked for the run.
        source: what the sync reads, if it was read already.

    Raises:
        EnvironmentStoreError: nothing may be planned.
        AccountMismatchError: the credential leads to another account than the pinned one.
        DestinationError: AWS does not say who we are.
    """
    sync = state.sync
    with context.tracer.span("read", read_ahead=source is not None):
        source = source or read_source(context.store.secrets, sync)
        run.reads, run.labels = source.reads, source.labels
        check_not_rolled_back(state, source)
        if (unresolved := source.error()) is not None:
            raise unresolved
        payloads = build_payloads(sync, source.values, context.digests, referring=source.referring)
        if payloads.problems and not payloads.payloads:
            raise next(iter(payloads.problems.values()))
    run.destination = destination = context.destinations.open(
        sync.destination_kind, state.credential, sync.region, tenant=sync.id, fresh=manual
    )
    run.account = destination.account_id()
    account = verify_account(state, destination)
    entries = entries_of(state, payloads.payloads, account)
    wanted = {
        name: desired_object(sync, name, payload, entries[name].tags_written, owner_tags(context.instance_id, sync.id))
        for name, payload in payloads.payloads.items()
    }
    return DesiredState(
        state=state,
        destination=destination,
        account=account,
        wanted=wanted,
        problems=payloads.problems,
        left_behind=tuple(left_behind(state, {*wanted, *payloads.problems}, account)),
        manual=manual,
    )


def desired_object(
    sync: Sync, remote_name: str, payload: Payload, tags_written: Mapping[str, str], marks: Mapping[str, str]
) -> Desired:
    """
    Return one object as a sync wants it.

    Args:
        sync: what the operator configured.
        remote_name: its name.
        payload: its value.
        tags_written: tags that we wrote before.
        marks: our owner tags.
    """
    config = sync.config
    tags = desired_tags(config, marks)
    return Desired(
        remote_name=remote_name,
        payload=payload,
        description=config.description,
        kms_key=config.kms_key,
        tags=tags,
        unwanted_tags=unwanted_tags(config, tags, tags_written),
        replicas=config.replicas,
        resource_policy=config.resource_policy,
    )


def plan_context_of(sync: Sync, *, instance_id: str, account: str, now: datetime) -> PlanContext:
    """Return what the plan of a sync depends on besides its objects."""
    return PlanContext(
        instance_id=instance_id,
        account=account,
        region=sync.region,
        now=now,
        layout=sync.config.layout,
        adopt=sync.adopt,
        adopt_versions=sync.adopt_versions,
        on_remove=sync.config.on_remove,
        grace=sync.config.grace,
    )
