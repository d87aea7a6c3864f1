"""The status of syncs in SQL is the status that `status_of` finds, for every state a row may have."""

from collections import Counter
from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa

from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.sync import SyncFilter, SyncStatus, Trigger
from phasesync.core.sync_status import status_of
from phasesync.store import Store
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.sync_rows import sync_mac
from phasesync.store.tables import sync_reads, syncs
from tests.support.values import HOUR
from tests.support.whole_account import Size, fill

SETTLED = (SyncStatus.PENDING, SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED, SyncStatus.FAILING)
PAUSES = (None, -HOUR, HOUR, timedelta.max)
CLAIMS = (None, -HOUR, HOUR)
STATES = list(product(SETTLED, PAUSES, CLAIMS, (None, Trigger.MANUAL), (0, -1), (False, True)))
"""Status after the newest run, end of a pause, end of a claim, request, what was read, an incomplete credential."""


@pytest.fixture
def fleet(store: Store) -> Store:
    """One sync in each state."""
    fill(store, Size(syncs=len(STATES), environments=2, credentials=1, entries_per_sync=0))
    role = CredentialDraft(type=CredentialType.ASSUME_ROLE, region="eu-central-1", external_id="phasesync-1234")
    incomplete = store.credentials.add("role", role).id
    with store.database.write() as connection:
        clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
        rows = connection.execute(sa.select(syncs).order_by(syncs.c.name_key)).all()
        changes, reads = [], []
        for row, (settled, pause, claim, requested, read, on_incomplete) in zip(rows, STATES, strict=True):
            endless = pause == timedelta.max
            configured = {
                **row._asdict(),
                "paused_by": None if pause is None else "ada",
                "paused_at": None if pause is None else clock,
                "paused_until": None if pause is None or endless else clock + pause,
                "credential_id": incomplete if on_incomplete else row.credential_id,
            }
            changes.append(
                {
                    "which": row.id,
                    "new_mac": sync_mac(store.keys, configured),
                    "new_settled": settled,
                    "new_requested": requested,
                    "new_owner": None if claim is None else "daemon-1",
                    "new_until": None if claim is None else clock + claim,
                    **{f"new_{name}": configured[name] for name in CONFIGURED},
                }
            )
            reads.append({"which": row.id, "seen": read})
        connection.execute(UPDATE, changes)
        connection.execute(
            sync_reads.update()
            .where(sync_reads.c.sync_id == sa.bindparam("which"))
            .values(revision=sa.bindparam("seen")),
            reads,
        )
    return store


CONFIGURED = ("paused_by", "paused_at", "paused_until", "credential_id")
UPDATE = (
    syncs.update()
    .where(syncs.c.id == sa.bindparam("which"))
    .values(
        mac=sa.bindparam("new_mac"),
        settled_status=sa.bindparam("new_settled"),
        requested=sa.bindparam("new_requested"),
        claim_owner=sa.bindparam("new_owner"),
        claim_until=sa.bindparam("new_until"),
        **{name: sa.bindparam(f"new_{name}") for name in CONFIGURED},
    )
)


def test_lists_and_counts_by_status_agree_with_the_rule(fleet: Store) -> None:
    credentials = fleet.credentials.statuses()
    by_name = {sync.name: status_of(sync, credentials[sync.credential_id]) for sync in fleet.syncs.list_syncs()}
    assert len(by_name) == len(STATES) and set(by_name.values()) == set(SyncStatus)

    assert fleet.syncs.count_by_status() == dict(Counter(by_name.values()))
    for status in SyncStatus:
        assert names_of(fleet, status) == [name for name, found in by_name.items() if found is status], status
    several = (SyncStatus.FAILING, SyncStatus.PENDING, SyncStatus.PAUSED)
    assert names_of(fleet, *several) == [name for name, found in by_name.items() if found in several]
    assert names_of(fleet) == list(by_name)


def names_of(store: Store, *statuses: SyncStatus) -> list[str]:
    return [sync.name for sync in store.syncs.list_syncs(SyncFilter(statuses=frozenset(statuses)))]


def test_an_unknown_word_counts_as_halted_as_lists_show_it(store: Store) -> None:
    fill(store, Size(syncs=1, environments=1, credentials=1, entries_per_sync=0))
    with store.database.write() as connection:
        connection.execute(syncs.update().values(settled_status="nonsense"))

    assert store.syncs.count_by_status() == {SyncStatus.HALTED: 1}
    assert [sync.settled_status for sync in store.syncs.list_syncs()] == [SyncStatus.HALTED]


def test_no_sync_has_no_count(store: Store) -> None:
    assert store.syncs.count_by_status() == {}
