"""
Keyed MACs of leases: one of each lease's state and times, and one of which live leases a dynamic secret has.

The first keeps somebody who can write to the database but has no key from calling a lease ended, or moving its end.
The second notices a live lease whose row was deleted, and one that has ended and was put back.

A row is changed and its MAC made anew in one transaction. Where the set of live leases changes the dynamic secret is
locked after the lease, by everybody: nobody who holds a dynamic secret waits for a lease that is live.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from phasesync.adapters.store.engine import row_lock
from phasesync.adapters.store.plain import to_json
from phasesync.adapters.store.sealing import same_mac
from phasesync.adapters.store.tables import dynamic_secrets, leases
from phasesync.core.lease import ENDED
from phasesync.errors import CiphertextError
from phasesync.ports import KeyRing

COVERED: Final = (
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


def mac_of(keys: KeyRing, values: Mapping[str, Any]) -> bytes:
    """Return the MAC of a lease's columns."""
    covered = {name: values[name] for name in COVERED}
    return keys.digests.digest("lease", to_json(covered).encode(), values["details"])


def is_authentic(keys: KeyRing, row: sa.Row[Any]) -> bool:
    """Return whether the columns of a lease are as we wrote them."""
    return isinstance(row.details, bytes) and same_mac(row.mac, mac_of(keys, row._asdict()))


def leases_mac_of(keys: KeyRing, dynamic_id: str, live: Iterable[str]) -> bytes:
    """Return the MAC of which live leases a dynamic secret has."""
    return keys.digests.digest("live-leases", dynamic_id.encode(), to_json(sorted(live)).encode())


def check_leases_mac(keys: KeyRing, dynamic: sa.Row[Any], live: Iterable[str]) -> None:
    """Raise CiphertextError where live leases of a row of dynamic_secrets were deleted, or ended ones put back."""
    if not _fits(keys, dynamic.id, dynamic.leases_mac, live):
        raise CiphertextError(
            f"the leases of the dynamic secret {dynamic.name} in table leases are not those that it has: some were "
            "deleted, put back, or called ended outside phasesync",
            hint="restore a backup; or see which users are left: phasesync leases reap, then go on with the leases "
            f"that there are: phasesync dynamic update {dynamic.name} --max-leases N",
        )


def live_leases_of(connection: sa.Connection, dynamic_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return id of a dynamic secret -> ids of its live leases, in one statement."""
    found: dict[str, list[str]] = {one: [] for one in dynamic_ids}
    rows = connection.execute(
        sa.select(leases.c.dynamic_id, leases.c.id).where(leases.c.dynamic_id.in_(found), leases.c.status.not_in(ENDED))
    )
    for dynamic_id, lease_id in rows:
        found[dynamic_id].append(lease_id)
    return found


def drop_live(connection: sa.Connection, keys: KeyRing, dynamic_id: str, lease_id: str) -> None:
    """
    Note that a lease has ended or was removed, which is stored already.

    Where the set was altered before, its MAC stays as it was: an end must go through, and nothing is blessed.
    """
    former = connection.scalar(
        row_lock(sa.select(dynamic_secrets.c.leases_mac).where(dynamic_secrets.c.id == dynamic_id))
    )
    live = live_leases_of(connection, [dynamic_id])[dynamic_id]
    if _fits(keys, dynamic_id, former, [*live, lease_id]):
        connection.execute(
            dynamic_secrets.update()
            .where(dynamic_secrets.c.id == dynamic_id)
            .values(leases_mac=leases_mac_of(keys, dynamic_id, live))
        )


def _fits(keys: KeyRing, dynamic_id: str, mac: bytes | None, live: Iterable[str]) -> bool:
    return same_mac(mac, leases_mac_of(keys, dynamic_id, live))
