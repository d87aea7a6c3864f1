"""
Rows of leases: reading and writing them, their keyed MACs, and the rows of their log.

The spec, the access key id and the reasons of a lease are one ciphertext, bound to the lease, its dynamic secret, its
credential and its maximum end. A MAC covers the lease's status and times. So an attacker who can write to the database
but has no key cannot have us revoke the user of another lease, nor extend a life, nor mark a lease as ended.

A second MAC, on the dynamic secret, covers which live leases it has. It reveals a live lease with a deleted row, and an
ended lease that was put back.

A row and its MAC change in one transaction. If the set of live leases changes, every transaction locks the dynamic
secret after the lease, and a transaction that holds a dynamic secret never waits for a live lease.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.lease import Lease, LeaseSpec, LeaseStatus
from phasesync.core.lease_claim import LeaseEvent, LeaseRecord
from phasesync.core.model import SecretValue
from phasesync.errors import CiphertextError
from phasesync.store.database import row_lock
from phasesync.store.db_time import now, to_microseconds
from phasesync.store.key_ring import UNVERSIONED, KeyRing, same_mac
from phasesync.store.serialization import members, to_json, to_member, to_plain
from phasesync.store.tables import LEASE_IS_LIVE, dynamic_secrets, environments, lease_events, leases

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
    """Return whether the columns of a lease are as phasesync wrote them."""
    return isinstance(row.details, bytes) and same_mac(row.mac, lease_mac(keys, row._asdict()))


def live_leases_mac(keys: KeyRing, dynamic_id: str, live: Iterable[str]) -> bytes:
    """Return the MAC over the set of live leases of a dynamic secret."""
    return keys.digests.digest("live-leases", dynamic_id.encode(), to_json(sorted(live)).encode())


def check_live_leases_mac(keys: KeyRing, dynamic: sa.Row[Any], live: Iterable[str]) -> None:
    """Raise CiphertextError if live leases of a row of dynamic_secrets were deleted, or ended ones put back."""
    if not _mac_matches(keys, dynamic.id, dynamic.leases_mac, live):
        raise CiphertextError(
            f"the leases of the dynamic secret {dynamic.name} in table leases are not those that it has: some were "
            "deleted, put back, or called ended outside phasesync",
            hint="restore a backup; or see which users are left: phasesync leases reap, then go on with the leases "
            f"that there are: phasesync dynamic update {dynamic.name} --max-leases N",
        )


def load_live_leases(connection: sa.Connection, dynamic_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return id of a dynamic secret -> ids of its live leases, in one statement."""
    live: dict[str, list[str]] = {dynamic_id: [] for dynamic_id in dynamic_ids}
    rows = connection.execute(
        sa.select(leases.c.dynamic_id, leases.c.id).where(leases.c.dynamic_id.in_(live), LEASE_IS_LIVE)
    )
    for dynamic_id, lease_id in rows:
        live[dynamic_id].append(lease_id)
    return live


def drop_live_lease(connection: sa.Connection, keys: KeyRing, dynamic_id: str, lease_id: str) -> None:
    """
    Update the MAC over the live leases after a lease has ended or was removed, which is stored already.

    If the set was altered before, its MAC stays as it is: the end must succeed, and the alteration is not vouched for.
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
"""Members that are plain columns; `status` is one too."""

_ELSEWHERE: Final = (*_PLAIN, "status", "dynamic", "kept")
"""Members that are not in `details`. The issuer is in `details`: the row of the dynamic secret may be altered."""

_FORMER_SPEC: Final = "order"
"""The name of `spec` in details that code of schema 0002 wrote."""


@cache
def select_leases() -> sa.Select[Any]:
    """Return the select that `to_lease` reads; with name and issuer of the dynamic secret, `data_key_id`, `clock`."""
    return (
        sa.select(
            leases,
            dynamic_secrets.c.name.label("dynamic"),
            dynamic_secrets.c.issuer,
            environments.c.data_key_id,
            now().label("clock"),
        )
        # A lease with an altered reference is listed too, with the reason.
        .outerjoin_from(leases, dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
        .outerjoin(environments, environments.c.id == dynamic_secrets.c.environment_id)
    )


def to_lease(row: sa.Row[Any], keys: KeyRing) -> Lease:
    """Return the lease of a row of `select_leases`. CiphertextError."""
    values = row._asdict()
    unauthentic = CiphertextError(
        f"the lease {row.id} of {row.dynamic} in table leases does not authenticate: it was altered outside phasesync",
        hint=f"restore a backup, or drop it with its recipe: phasesync dynamic remove {row.dynamic} --revoke; what "
        "it issued is then removed by phasesync leases reap, once its end has come",
    )
    if not is_authentic(keys, row):
        raise unauthentic
    try:
        details = json.loads(keys.decrypt(lease_context(values), row.details))
        if _FORMER_SPEC in details:
            details["spec"] = details.pop(_FORMER_SPEC)
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
    """Return the lease of a row for a list; an altered lease is listed with the reason, so that it hides no other."""
    try:
        return to_lease(row, keys)
    except CiphertextError as error:
        return Lease(
            **{name: getattr(row, name) for name in _PLAIN},
            dynamic=row.dynamic or "?",
            issuer=row.issuer or "?",
            # An unknown status is shown as the one that a daemon will store.
            status=LeaseStatus(row.status) if row.status in tuple(LeaseStatus) else LeaseStatus.REVOKE_FAILED,
            spec=LeaseSpec(name="?", ttl=timedelta(0)),
            error=error.message,
        )


def to_columns(lease: Lease, keys: KeyRing, data_key_id: str) -> dict[str, Any]:
    """Return the columns of a lease, except its kept values."""
    values: dict[str, Any] = {name: getattr(lease, name) for name in _PLAIN} | {"status": lease.status}
    details = {
        member.name: to_plain(getattr(lease, member.name)) for member in fields(lease) if member.name not in _ELSEWHERE
    }
    values["details"] = keys.encrypt_json(data_key_id, lease_context(values), details)
    values["mac"] = lease_mac(keys, values)
    return values


def revocable_columns(row: sa.Row[Any], keys: KeyRing) -> dict[str, Any] | None:
    """
    Return the columns that have a lease with an altered status or time revoked; None if more was altered.

    Its details still authenticate and are bound to its dynamic secret and credential, so they name the right user. The
    former status is unknown, and the life may have been extended, so the lease ends.
    """
    values = row._asdict()
    try:
        keys.decrypt(lease_context(values), row.details)
    except CiphertextError:
        return None
    changes = {"status": LeaseStatus.REVOKE_FAILED, "ended_at": None}
    return {**changes, "mac": lease_mac(keys, {**values, **changes})}


def encrypt_outputs(lease_id: str, outputs: Mapping[str, SecretValue], keys: KeyRing, data_key_id: str) -> bytes:
    """Encrypt the issued values of a lease."""
    plain = {name: value.reveal_text() for name, value in outputs.items()}
    return keys.encrypt_json(data_key_id, kept_context(lease_id), plain)


def decrypt_outputs(lease_id: str, sealed: bytes, keys: KeyRing) -> dict[str, SecretValue]:
    """Decrypt the issued values of a lease. CiphertextError."""
    plain = json.loads(keys.decrypt(kept_context(lease_id), sealed))
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
    """Add an entry to the log of a lease."""
    connection.execute(
        lease_events.insert().values(
            lease_id=lease_id,
            at=now(),
            event=event,
            actor=actor,
            detail=keys.encrypt_text(data_key_id, detail_context(lease_id), detail),
        )
    )


def to_record(row: sa.Row[Any], keys: KeyRing) -> LeaseRecord:
    """Return the entry of a row of `lease_events`. CiphertextError."""
    return LeaseRecord(
        lease_id=row.lease_id,
        at=row.at,
        event=to_member(LeaseEvent, row.event, "event in table lease_events"),
        actor=row.actor,
        detail=keys.decrypt_text(detail_context(row.lease_id), row.detail),
    )


def lease_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the details of a lease are bound to."""
    return (
        "leases",
        values["id"],
        "details",
        UNVERSIONED,
        values["dynamic_id"],
        values["credential_id"],
        str(to_microseconds(values["max_expires_at"])),
    )


def kept_context(lease_id: str) -> tuple[str, ...]:
    """Return what the kept values of a lease are bound to."""
    return ("leases", lease_id, "kept", UNVERSIONED)


def detail_context(lease_id: str) -> tuple[str, ...]:
    """Return what the detail of an entry in the log of a lease is bound to."""
    return ("lease_events", lease_id, "detail", UNVERSIONED)
