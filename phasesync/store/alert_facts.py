"""
What is known now of the subjects of alerts: names, accounts, statuses and times.

Nothing is decrypted but what the guard holds, for messages that say it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.alert import Alert, SubjectKind
from phasesync.core.notification_text import Facts
from phasesync.core.sync import SyncStatus
from phasesync.errors import CiphertextError
from phasesync.store.key_ring import KeyRing
from phasesync.store.runs import select_runs, to_run
from phasesync.store.tables import apps, credentials, dynamic_secrets, environments, leases, runs, syncs

_PART: Final = 500
"""Ids in one statement."""
_sources: Final = credentials.alias("sources")


@dataclass(frozen=True, kw_only=True)
class Known:
    """
    What is known of one subject.

    Attributes:
        facts: for the text.
        app_id: of the app that it belongs to; None if it was removed.
        settled: the status that the newest run of a sync left; None for a lease, and for a status that is no word.
    """

    facts: Facts
    app_id: str | None = None
    settled: SyncStatus | None = None


UNKNOWN: Final = Known(facts=Facts())


def load_facts(connection: sa.Connection, subjects: Collection[Alert]) -> dict[str, Known]:
    """Return subject id -> what is known of it; without those that were removed."""
    known: dict[str, Known] = {}
    for kind, select, to_known in (
        (SubjectKind.SYNC, _select_syncs(), _sync),
        (SubjectKind.LEASE, _select_leases(), _lease),
    ):
        ids = sorted({alert.subject_id for alert in subjects if alert.subject_kind is kind})
        for part in _parts(ids):
            known |= {row.id: to_known(row) for row in connection.execute(select, {"ids": part})}
    return known


def load_held(connection: sa.Connection, keys: KeyRing, sync_ids: Collection[str]) -> dict[str, str]:
    """
    Return sync id -> what its newest run found that the guard holds, in fixed words and numbers.

    It is in the encrypted details of that run, so nobody without a key can put words into it. Syncs of which it is not
    known are left out.
    """
    held: dict[str, str] = {}
    for part in _parts(sorted(sync_ids)):
        for row in connection.execute(_select_newest_runs(), {"ids": part}):
            try:
                error = to_run(row, keys).error
            except (CiphertextError, TypeError, ValueError):  # SQLite stores a value of any type in any column.
                continue  # It was altered: the message has its fixed text, and `runs list` says what is wrong.
            if error is not None and error.held is not None:
                held[row.sync_id] = error.held
    return held


@cache
def _select_newest_runs() -> sa.Select[Any]:
    return select_runs().where(runs.c.id == syncs.c.last_run_id, syncs.c.id.in_(sa.bindparam("ids", expanding=True)))


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[n : n + _PART] for n in range(0, len(ids), _PART)]


@cache
def _select_syncs() -> sa.Select[Any]:
    return (
        sa.select(
            *(syncs.c.id, syncs.c.name, syncs.c.account, syncs.c.region, syncs.c.settled_status, syncs.c.error_class),
            *(syncs.c.next_due_at, syncs.c.retry_at),
            apps.c.id.label("app_id"),
            apps.c.name.label("app"),
            environments.c.name.label("environment"),
            credentials.c.name.label("credential"),
            credentials.c.account.label("credential_account"),
            _sources.c.name.label("source"),
        )
        .join_from(syncs, environments, environments.c.id == syncs.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
        .join(credentials, credentials.c.id == syncs.c.credential_id)
        .outerjoin(_sources, _sources.c.id == credentials.c.source_id)
        .where(syncs.c.id.in_(sa.bindparam("ids", expanding=True)))
    )


@cache
def _select_leases() -> sa.Select[Any]:
    return (
        sa.select(
            *(leases.c.id, leases.c.status, leases.c.retry_at),
            dynamic_secrets.c.name,
            apps.c.id.label("app_id"),
            apps.c.name.label("app"),
            environments.c.name.label("environment"),
            credentials.c.name.label("credential"),
            credentials.c.account.label("credential_account"),
        )
        .join_from(leases, dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
        .join(environments, environments.c.id == dynamic_secrets.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
        .outerjoin(credentials, credentials.c.id == leases.c.credential_id)
        .where(leases.c.id.in_(sa.bindparam("ids", expanding=True)))
    )


def _sync(row: sa.Row[Any]) -> Known:
    status = row.settled_status if row.settled_status in tuple(SyncStatus) else None
    facts = Facts(
        name=row.name,
        owner=f"{row.app}/{row.environment}",
        credential=row.credential,
        source=row.source,
        account=row.account or row.credential_account,
        region=row.region,
        status=status,
        error_class=row.error_class,
        next_try_at=row.next_due_at,
    )
    return Known(facts=facts, app_id=row.app_id, settled=None if status is None else SyncStatus(status))


def _lease(row: sa.Row[Any]) -> Known:
    facts = Facts(
        name=f"{row.name}/{row.id}",
        owner=f"{row.app}/{row.environment}",
        credential=row.credential,
        account=row.credential_account,
        next_try_at=row.retry_at,
    )
    return Known(facts=facts, app_id=row.app_id)
