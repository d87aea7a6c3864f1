"""
Rows of syncs: reading them, the keyed MAC over what an operator set, the destination key, and conditions on claims.

The MAC is checked whenever a sync is read: an attacker who can write to the database but has no key cannot point a sync
at another place, nor consent to anything.

The destination key keeps two syncs from writing to one remote object. Until the AWS account is known, the credential
stands for it; once a sync is pinned to an account, its key is computed anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final, cast

import sqlalchemy as sa

from phasesync.core.pages import PAGE_SIZE
from phasesync.core.regions import partition_of
from phasesync.core.sync import Adopt, Paused, Sync, SyncConfig, SyncStatus, Trigger
from phasesync.core.sync_claim import Claim
from phasesync.errors import AlreadyExistsError, CiphertextError, ClaimLostError, PhasesyncError
from phasesync.store.app_windows import decrypt_windows
from phasesync.store.base import Names, lookup_error, no_such
from phasesync.store.database import row_lock
from phasesync.store.db_time import now, to_microseconds
from phasesync.store.key_ring import UNVERSIONED, KeyRing, same_mac
from phasesync.store.serialization import from_json, to_json, to_member
from phasesync.store.tables import apps, credentials, environments, sync_reads, syncs

NOT_PAUSED: Final = {"paused_by": None, "paused_at": None, "paused_until": None}
"""Columns of a sync that is not paused."""

NEVER_READ: Final = -1

MAC_COLUMNS: Final = (
    "id",
    "name",
    "name_key",
    "environment_id",
    "path",
    "credential_id",
    "destination_kind",
    "region",
    "version",
    "config",
    "account",
    "adopt",
    "adopt_versions",
    "approved_digest",
    "paused_by",
    "paused_at",
    "paused_until",
)
"""Columns that the MAC covers."""

_read_environments = environments.alias("read_environments")


def settled(status: Any) -> dict[str, Any]:
    """Return the columns of a sync whose run left a status: the status, and since when it has it."""
    return {
        "settled_status": status,
        "status_since": sa.case(
            ((syncs.c.settled_status == status) & syncs.c.status_since.is_not(None), syncs.c.status_since),
            else_=now(),
        ),
    }


def sync_mac(keys: KeyRing, values: Mapping[str, Any]) -> bytes:
    """Return the MAC of a sync's configuration columns."""
    covered = {name: values[name] for name in MAC_COLUMNS}
    return keys.digests.digest("sync-configuration", to_json(covered).encode())


def destination_key(values: Mapping[str, Any]) -> str:
    """Return what two syncs must not share: partition, account (or credential, if unknown), Region and remote name."""
    region = values["region"]
    config = from_json(SyncConfig, values["config"])
    owner = values["account"] or values["credential_id"]
    place = f"{partition_of(region)}:{owner}:{region}"
    if config.remote_name is None:
        # Names come from keys; whether two syncs share one is checked when a sync is added or changed.
        return f"{place}:{{}}:{values['environment_id']}:{values['path']}:{config.names.lower()}"
    return f"{place}:{config.remote_name.lower()}"


@cache
def select_syncs() -> sa.Select[Any]:
    """
    Return the select behind `to_syncs`: a row for every environment that a sync reads, ordered by name.

    A sync without reads has one row too.
    """
    return (
        sa.select(
            syncs,
            apps.c.id.label("app_id"),
            apps.c.name.label("app"),
            apps.c.windows.label("app_windows"),
            environments.c.name.label("environment"),
            environments.c.revision.label("source_revision"),
            environments.c.data_key_id,
            credentials.c.name.label("credential"),
            sync_reads.c.environment_id.label("read_id"),
            sync_reads.c.revision.label("read_revision"),
            _read_environments.c.revision.label("read_source"),
            now().label("clock"),
        )
        .join_from(syncs, environments, syncs.c.environment_id == environments.c.id)
        .join(apps)
        .join(credentials, syncs.c.credential_id == credentials.c.id)
        .outerjoin(sync_reads, sync_reads.c.sync_id == syncs.c.id)
        .outerjoin(_read_environments, _read_environments.c.id == sync_reads.c.environment_id)
        .order_by(syncs.c.name_key, sync_reads.c.environment_id)
    )


def to_syncs(rows: Sequence[sa.Row[Any]], keys: KeyRing) -> list[Sync]:
    """Return the syncs of rows of `select_syncs`. CiphertextError."""
    return [_to_sync(list(group), keys) for _, group in groupby(rows, key=lambda row: row.id)]


def to_listed_syncs(rows: Sequence[sa.Row[Any]], keys: KeyRing) -> list[Sync]:
    """
    Return the syncs of rows for a list; an altered sync is listed as halted, so that it hides no other.

    The content of an altered row is shown and used for nothing else.
    """
    return [_to_listed(list(group), keys) for _, group in groupby(rows, key=lambda row: row.id)]


def is_claimed(row: sa.Row[Any]) -> bool:
    """Return whether a run is under way, by a row of `select_syncs`. A claim without an end has expired."""
    until: Any = row.claim_until
    return row.claim_owner is not None and until is not None and to_microseconds(until) >= row.clock


def is_paused(row: sa.Row[Any], clock: int) -> bool:
    """Return whether a sync is paused at a time of the database's clock; a pause may have an end."""
    until: Any = row.paused_until
    return row.paused_at is not None and (until is None or to_microseconds(until) > clock)


def check_sync_mac(row: sa.Row[Any], keys: KeyRing) -> None:
    """Raise CiphertextError if the configuration columns of a sync were altered."""
    if not same_mac(row.mac, sync_mac(keys, cast(Mapping[str, Any], row._mapping))):
        raise CiphertextError(
            f"the configuration of sync {row.name} in table syncs does not authenticate: it was altered outside "
            "phasesync",
            hint=f"restore a backup, or phasesync syncs remove {row.name} and add it again",
        )


def reason_context(sync_id: str, column: str) -> tuple[str, ...]:
    """Return the context of the ciphertexts of a sync's reasons."""
    return ("syncs", sync_id, column, UNVERSIONED)


def _to_listed(rows: list[sa.Row[Any]], keys: KeyRing) -> Sync:
    try:
        return _to_sync(rows, keys)
    except CiphertextError as error:
        return Sync(
            **_plain_members(rows[0]),
            config=SyncConfig(remote_name="?"),
            account=None,
            adopt=None,
            approved_digest=None,
            paused=None,
            reads={},
            settled_status=SyncStatus.HALTED,
            status_reason=error.message,
            requested=None,
            running=False,
            pending=False,
        )


def _to_sync(rows: list[sa.Row[Any]], keys: KeyRing) -> Sync:
    row = rows[0]
    check_sync_mac(row, keys)
    return Sync(
        **_plain_members(row),
        config=from_json(SyncConfig, row.config),
        account=row.account,
        adopt=None if row.adopt is None else Adopt(row.adopt),
        adopt_versions={} if row.adopt_versions is None else from_json(dict[str, str], row.adopt_versions),
        approved_digest=row.approved_digest,
        paused=_paused(row, keys),
        reads={read.read_id: read.read_revision for read in rows if read.read_id is not None},
        settled_status=to_member(SyncStatus, row.settled_status, "settled_status in table syncs"),
        status_reason=keys.decrypt_text(reason_context(row.id, "status_reason"), row.status_reason),
        requested=None if row.requested is None else to_member(Trigger, row.requested, "requested in table syncs"),
        running=is_claimed(row),
        pending=any(read.read_source is not None and read.read_source > read.read_revision for read in rows),
        app_windows=decrypt_windows(keys, row.app_id, row.app_windows),
    )


_PLAIN: Final = (
    "id",
    "name",
    "environment_id",
    "app",
    "environment",
    "path",
    "credential_id",
    "credential",
    "destination_kind",
    "region",
    "version",
    "source_revision",
    "applied_revision",
    "failures",
    "retry_at",
    "next_due_at",
    "last_run_id",
    "created_at",
)
"""Members of a sync that are plain columns."""


def _plain_members(row: sa.Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _PLAIN}


def _paused(row: sa.Row[Any], keys: KeyRing) -> Paused | None:
    if not is_paused(row, row.clock):
        return None
    return Paused(
        by=row.paused_by,
        at=row.paused_at,
        reason=keys.decrypt_text(reason_context(row.id, "paused_reason"), row.paused_reason) or "",
        until=row.paused_until,
    )


def pin_account(
    connection: sa.Connection,
    keys: KeyRing,
    which: sa.ColumnElement[bool],
    account: str | None,
    *,
    lenient: bool = False,
) -> None:
    """
    Pin syncs to an account.

    Args:
        connection: of a write.
        keys: makes the MACs.
        which: the syncs.
        account: 12 digits; None unpins the syncs.
        lenient: do not raise if another sync writes to the same object; the run finds out by the owner mark.

    Raises:
        AlreadyExistsError: another sync writes to the same remote object there.
    """
    for row in connection.execute(row_lock(sa.select(syncs).where(which).order_by(syncs.c.id))).all():
        values = with_mac(connection, keys, row, {"account": account}, lenient=lenient)
        connection.execute(syncs.update().where(syncs.c.id == row.id).values(**values))


def with_mac(
    connection: sa.Connection, keys: KeyRing, row: sa.Row[Any], changes: Mapping[str, Any], *, lenient: bool = False
) -> dict[str, Any]:
    """
    Return changes to a sync's configuration columns, completed with its MAC and destination key.

    Raises:
        CiphertextError: the row was altered, and a new MAC would vouch for it.
        AlreadyExistsError: another sync writes to the same remote object.
    """
    check_sync_mac(row, keys)
    values = {**row._asdict(), **changes}
    key = destination_key(values)
    if key != row.destination_key:
        other = sync_with_destination(connection, key, row.id)
        if other is None:
            changes = {**changes, "destination_key": key}
        elif not lenient:
            raise remote_name_taken(other)
    return {**changes, "mac": sync_mac(keys, values)}


def sync_with_destination(connection: sa.Connection, key: str, but: str | None = None) -> str | None:
    """Return the name of the sync that has a destination key; None if the key is free."""
    return connection.scalar(sa.select(syncs.c.name).where(syncs.c.destination_key == key, syncs.c.id != (but or "")))


def remote_name_taken(other: str) -> AlreadyExistsError:
    """Return the error for a second sync that would write to one remote object."""
    return AlreadyExistsError(
        f"the sync {other} already writes to this remote name in this account and Region",
        hint=f"choose another --secret-name; phasesync syncs show {other}",
    )


def has_newer_revision() -> sa.ColumnElement[bool]:
    """Return the condition that an environment has a newer revision than the one that the sync read."""
    return (
        sa.exists()
        .where(
            sync_reads.c.sync_id == syncs.c.id,
            environments.c.id == sync_reads.c.environment_id,
            environments.c.revision > sync_reads.c.revision,
        )
        .correlate(syncs)
    )


def lock_claimed(connection: sa.Connection, claim: Claim) -> sa.Row[Any]:
    """Lock and return a claimed sync's row, with `data_key_id` and the time `clock`. ClaimLostError if it is lost."""
    row = connection.execute(_claimed_row(), claimed_by(claim)).first()
    if row is None:
        raise ClaimLostError
    return row


@cache
def _claimed_row() -> sa.Select[Any]:
    return row_lock(
        sa.select(syncs, environments.c.data_key_id, now().label("clock"))
        .join(environments, environments.c.id == syncs.c.environment_id)
        .where(IS_CLAIMED),
        syncs,
    )


IS_CLAIMED: Final = (
    (syncs.c.id == sa.bindparam("claimed_id"))
    & (syncs.c.fence == sa.bindparam("claimed_fence"))
    & (syncs.c.claim_owner == sa.bindparam("claimed_by"))
)
"""
The condition that a claim is valid; its parameters are those of `claimed_by`.

The fence decides: an expired claim without a successor is valid.
"""


def claimed_by(claim: Claim) -> dict[str, Any]:
    """Return the parameters of `IS_CLAIMED`."""
    return {"claimed_id": claim.sync_id, "claimed_fence": claim.fence, "claimed_by": claim.owner}


def unknown_sync(connection: sa.Connection, name: str) -> PhasesyncError:
    """Return the error for a sync that does not exist. It names those that do."""
    return lookup_error(connection, syncs, name, no_such("sync", name, Names.of(connection, syncs), "syncs"))


def locked_sync(connection: sa.Connection, keys: KeyRing, name: str, *, check: bool = True) -> sa.Row[Any]:
    """Lock a sync and return its authentic row. NotFoundError, CiphertextError."""
    statement = row_lock(select_syncs().where(syncs.c.name_key == name.lower()), syncs)
    row = connection.execute(statement).first()
    if row is None:
        raise unknown_sync(connection, name)
    if check:  # an altered sync can still be removed
        check_sync_mac(row, keys)
    return row


def ids_of_syncs(connection: sa.Connection, names: Sequence[str]) -> dict[str, Any]:
    """Return name in lower case -> row with id and name, of those that exist."""
    select = sa.select(syncs.c.id, syncs.c.name, syncs.c.name_key)
    return {
        row.name_key: row
        for part in in_parts([name.lower() for name in names])
        for row in connection.execute(select.where(syncs.c.name_key.in_(part)))
    }


def in_parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Go through items by the thousand: a statement takes no more."""
    for n in range(0, len(items), PAGE_SIZE):
        yield items[n : n + PAGE_SIZE]
