"""
Keyed MACs of leases: one of each lease's state and times, and one of which live leases a dynamic secret has.

The first keeps somebody who can write to the database but has no key from calling a lease ended, or moving its end.
The second notices a live lease whose row was deleted, and one that has ended and was put back.

A row is changed and its MAC made anew in one transaction. Where the set of live leases changes the dynamic secret is
locked after the lease, by everybody: nobody who holds a dynamic secret waits for a lease that is live.

Leases as rows, and back. What a lease is made of, its access key id and its reasons are one ciphertext.

The ciphertext is bound to the lease, its recipe, its credential and the end that it cannot outlive, and a MAC covers
its state and times with it: somebody who can write to the database but has no key cannot have us revoke another's user,
nor lengthen a life, nor call one ended.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.lease import ENDED, Lease, LeaseSpec, LeaseStatus
from phasesync.core.lease_claim import LeaseEvent, LeaseRecord
from phasesync.core.model import SecretValue
from phasesync.errors import CiphertextError
from phasesync.store.database import row_lock
from phasesync.store.db_time import now, to_microseconds
from phasesync.store.encryption import UNVERSIONED, same_mac
from phasesync.store.keys import KeyRing
from phasesync.store.serialization import members, to_json, to_member, to_plain
from phasesync.store.tables import dynamic_secrets, environments, lease_events, leases

MAC_COLUMNS: Final = (
    "id",
    "dynamic_id",
    "credential_id",
    "status",
    "requested_at",
    "expires_at",
    "max_expires_at",
    "ended_at",
)
"""Columns of a lease that its MAC covers, beside its details."""


def lease_mac(keys: KeyRing, values: Mapping[str, Any]) -> bytes:
    """Return the MAC of a lease's columns."""
    covered = {name: values[name] for name in MAC_COLUMNS}
    return keys.digests.digest("lease", to_json(covered).encode(), values["details"])


def is_authentic(keys: KeyRing, row: sa.Row[Any]) -> bool:
    """Return whether the columns of a lease are as we wrote them."""
    return isinstance(row.details, bytes) and same_mac(row.mac, lease_mac(keys, row._asdict()))


def live_leases_mac(keys: KeyRing, dynamic_id: str, live: Iterable[str]) -> bytes:
    """Return the MAC of which live leases a dynamic secret has."""
    return keys.digests.digest("live-leases", dynamic_id.encode(), to_json(sorted(live)).encode())


def check_live_leases_mac(keys: KeyRing, dynamic: sa.Row[Any], live: Iterable[str]) -> None:
    """Raise CiphertextError where live leases of a row of dynamic_secrets were deleted, or ended ones put back."""
    if not _mac_matches(keys, dynamic.id, dynamic.leases_mac, live):
        raise CiphertextError(
            f"the leases of the dynamic secret {dynamic.name} in table leases are not those that it has: some were "
            "deleted, put back, or called ended outside phasesync",
            hint="restore a backup; or see which users are left: phasesync leases reap, then go on with the leases "
            f"that there are: phasesync dynamic update {dynamic.name} --max-leases N",
        )


def load_live_leases(connection: sa.Connection, dynamic_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return id of a dynamic secret -> ids of its live leases, in one statement."""
    found: dict[str, list[str]] = {one: [] for one in dynamic_ids}
    rows = connection.execute(
        sa.select(leases.c.dynamic_id, leases.c.id).where(leases.c.dynamic_id.in_(found), leases.c.status.not_in(ENDED))
    )
    for dynamic_id, lease_id in rows:
        found[dynamic_id].append(lease_id)
    return found


def drop_live_lease(connection: sa.Connection, keys: KeyRing, dynamic_id: str, lease_id: str) -> None:
    """
    Note that a lease has ended or was removed, which is stored already.

    Where the set was altered before, its MAC stays as it was: an end must go through, and nothing is blessed.
    """
    former = connection.scalar(
        row_lock(sa.select(dynamic_secrets.c.leases_mac).where(dynamic_secrets.c.id == dynamic_id))
    )
    live = load_live_leases(connection, [dynamic_id])[dynamic_id]
    if _mac_matches(keys, dynamic_id, former, [*live, lease_id]):
        connection.execute(
            dynamic_secrets.update()
            .where(dynamic_secrets.c.id == dynamic_id)
            .values(leases_mac=live_leases_mac(keys, dynamic_id, live))
        )


def _mac_matches(keys: KeyRing, dynamic_id: str, mac: bytes | None, live: Iterable[str]) -> bool:
    return same_mac(mac, live_leases_mac(keys, dynamic_id, live))


_PLAIN: Final = (
    "id",
    "dynamic_id",
    "credential_id",
    "requested_at",
    "expires_at",
    "max_expires_at",
    "retry_at",
    "ended_at",
)
"""Members that are columns as they are; `status` is one as well."""

_ELSEWHERE: Final = (*_PLAIN, "status", "dynamic", "kept")
"""Every other member of a lease is in `details`, the issuer too: its recipe may be altered by now."""


@cache
def select_leases() -> sa.Select[Any]:
    """Return the select behind `to_lease`: with `dynamic`, `issuer` of that by now, `data_key_id` and `clock`."""
    return (
        sa.select(
            leases,
            dynamic_secrets.c.name.label("dynamic"),
            dynamic_secrets.c.issuer,
            environments.c.data_key_id,
            now().label("clock"),
        )
        # One that was led elsewhere is in lists too, with the reason.
        .outerjoin_from(leases, dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
        .outerjoin(environments, environments.c.id == dynamic_secrets.c.environment_id)
    )


def to_lease(row: sa.Row[Any], keys: KeyRing) -> Lease:
    """Return the lease that a row of `select_leases` tells of. CiphertextError."""
    values = row._asdict()
    unauthentic = CiphertextError(
        f"the lease {row.id} of {row.dynamic} in table leases does not authenticate: it was altered outside phasesync",
        hint=f"restore a backup, or drop it with its recipe: phasesync dynamic remove {row.dynamic} --revoke; what "
        "it issued is then removed by phasesync leases reap, once its end has come",
    )
    if not is_authentic(keys, row):
        raise unauthentic
    try:
        details = json.loads(keys.decrypt(_context(values), row.details))
        status = LeaseStatus(row.status)
    except (CiphertextError, ValueError):
        raise unauthentic from None
    return Lease(
        **{name: getattr(row, name) for name in _PLAIN},
        **members(Lease, details),
        dynamic=row.dynamic,
        status=status,
        kept=row.kept is not None,
    )


def to_listed_lease(row: sa.Row[Any], keys: KeyRing) -> Lease:
    """Return a lease for a list: one that somebody altered stands in it with the reason, so that it hides no other."""
    try:
        return to_lease(row, keys)
    except CiphertextError as error:
        return Lease(
            **{name: getattr(row, name) for name in _PLAIN},
            dynamic=row.dynamic or "?",
            issuer=row.issuer or "?",
            # A status that there is not: it stands as what a daemon makes of it.
            status=LeaseStatus(row.status) if row.status in tuple(LeaseStatus) else LeaseStatus.REVOKE_FAILED,
            spec=LeaseSpec(name="?", ttl=timedelta(0)),
            error=error.message,
        )


def to_columns(lease: Lease, keys: KeyRing, data_key_id: str) -> dict[str, Any]:
    """Return the columns of a lease, but for what is kept with it."""
    values: dict[str, Any] = {name: getattr(lease, name) for name in _PLAIN} | {"status": lease.status}
    details = {one.name: to_plain(getattr(lease, one.name)) for one in fields(lease) if one.name not in _ELSEWHERE}
    values["details"] = keys.encrypt_json(data_key_id, _context(values), details)
    values["mac"] = lease_mac(keys, values)
    return values


def revocable_columns(row: sa.Row[Any], keys: KeyRing) -> dict[str, Any] | None:
    """
    Return the columns that have a lease revoked of which somebody altered the state; None where that is not all.

    Its details are bound to what it was made for, so that nobody else's user is meant. What the state was is not
    known; a life that somebody may have lengthened ends.
    """
    values = row._asdict()
    try:
        keys.decrypt(_context(values), row.details)
    except CiphertextError:
        return None
    changes = {"status": LeaseStatus.REVOKE_FAILED, "ended_at": None}
    return {**changes, "mac": lease_mac(keys, {**values, **changes})}


def encrypt_outputs(lease_id: str, outputs: Mapping[str, SecretValue], keys: KeyRing, data_key_id: str) -> bytes:
    """Encrypt what was handed out."""
    plain = {name: value.reveal_text() for name, value in outputs.items()}
    return keys.encrypt_json(data_key_id, _kept_context(lease_id), plain)


def decrypt_outputs(lease_id: str, sealed: bytes, keys: KeyRing) -> dict[str, SecretValue]:
    """Decrypt what was handed out. CiphertextError."""
    plain = json.loads(keys.decrypt(_kept_context(lease_id), sealed))
    return {name: SecretValue(text) for name, text in plain.items()}


def insert_event(
    connection: sa.Connection,
    keys: KeyRing,
    data_key_id: str,
    lease_id: str,
    *,
    event: LeaseEvent,
    actor: str,
    detail: str | None,
) -> None:
    """Put an entry into the log of a lease."""
    connection.execute(
        lease_events.insert().values(
            lease_id=lease_id,
            at=now(),
            event=event,
            actor=actor,
            detail=keys.encrypt_text(data_key_id, _detail_context(lease_id), detail),
        )
    )


def to_record(row: sa.Row[Any], keys: KeyRing) -> LeaseRecord:
    """Return the entry that a row of `lease_events` tells of. CiphertextError."""
    return LeaseRecord(
        lease_id=row.lease_id,
        at=row.at,
        event=to_member(LeaseEvent, row.event, "event in table lease_events"),
        actor=row.actor,
        detail=keys.decrypt_text(_detail_context(row.lease_id), row.detail),
    )


def _context(values: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "leases",
        values["id"],
        "details",
        UNVERSIONED,
        values["dynamic_id"],
        values["credential_id"],
        str(to_microseconds(values["max_expires_at"])),
    )


def _kept_context(lease_id: str) -> tuple[str, ...]:
    return ("leases", lease_id, "kept", UNVERSIONED)


def _detail_context(lease_id: str) -> tuple[str, ...]:
    return ("lease_events", lease_id, "detail", UNVERSIONED)
