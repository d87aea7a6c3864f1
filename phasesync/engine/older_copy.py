"""
Finds out that the database is an older copy before anything is written, when it was brought in without our knowledge.

Wherever the database server was started anew, or the database is another one there than before, it may be older than
AWS: a snapshot, pg_restore, a copy of the data directory. So before the first write AWS is asked for all objects: a
list for each account and Region, 100 objects a call. One object with a version that is one of our later tokens proves
it for the whole database. An ordinary restart of a daemon changes nothing of the above, and costs nothing.

What cannot be asked now is noted, and nothing is written there until it was asked. Lists lag by up to 5 minutes: what
was written by then and does not show yet is found by the run that describes the object before it writes.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from phasesync.core.events import DatabaseCompared
from phasesync.core.planning.listing_check import PAGE
from phasesync.core.remote import TAG_SYNC, JournalEntry, Observed
from phasesync.core.sweep_check import Place
from phasesync.core.sync_claim import SyncState
from phasesync.engine.context import Context
from phasesync.engine.stale_database import check_not_stale, newer_at_aws_error
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationError,
    NotFoundError,
    PermissionDeniedError,
    SettingsError,
    StaleDatabaseError,
)
from phasesync.ports.destination import Destination
from phasesync.store.comparison import ComparedPlace, Standing, key_of

_TENANT: Final = "comparison"
_one_at_a_time: Final = threading.Lock()
"""Runs that begin together wait for one comparison."""


def is_restored(context: Context) -> bool:
    """
    Return whether this database counts as older than AWS; compare it first if that was not done where it is now.

    Raises:
        StoreUnavailableError: the database cannot be asked.
    """
    mark = context.store.restore_mark.read()
    if mark.compared:
        return mark.restored
    return _compare(context).restored


def require_compared(context: Context, state: SyncState) -> None:
    """
    Let a run go on only if AWS has nothing that is newer than this database.

    Raises:
        StaleDatabaseError: it has.
        DestinationError: the account and Region of the sync could not be asked.
    """
    if state.compared:
        return
    standing = _compare(context)
    place = Place(
        destination_kind=state.sync.destination_kind, account=state.sync.account or "", region=state.sync.region
    )
    if not standing.restored and key_of(place) in standing.unanswered:
        standing = _compare_place(context, standing, place)
    if standing.restored:
        raise newer_at_aws_error()


def _compare(context: Context) -> Standing:
    """Compare the whole database if that was not done on this run of its server; return how it stands."""
    store = context.store.comparison
    with _one_at_a_time:
        standing = store.standing()
        if standing.compared:
            return standing
        if standing.restored:
            store.note(standing.run)
            return store.standing()
        places, objects, unanswered = store.places(), 0, []
        older = False
        for compared in places:
            try:
                objects += _check_place(context, compared)
            except StaleDatabaseError:
                older = True
                break
            except (DestinationError, NotFoundError, SettingsError):
                # The runs of its syncs ask again, and report the error with names and hints.
                unanswered.append(compared.place)
        if older:
            store.note_older(standing.run)
        else:
            store.note(standing.run, unanswered=unanswered)
        if places:
            context.events.emit(
                DatabaseCompared(places=len(places), objects=objects, unanswered=len(unanswered), older=older)
            )
        return store.standing()


def _compare_place(context: Context, standing: Standing, place: Place) -> Standing:
    """Compare a place that gave no answer before. DestinationError, NotFoundError if it gives none now either."""
    store = context.store.comparison
    for compared in store.places():
        if compared.place == place:
            try:
                _check_place(context, compared)
            except StaleDatabaseError:
                store.note_older(standing.run)
                return store.standing()
    store.note_place(standing.run, place)
    return store.standing()


def _check_place(context: Context, compared: ComparedPlace) -> int:
    """
    Compare the objects of a place with the first credential that leads there; return how many.

    Raises:
        StaleDatabaseError: AWS has a write of ours that the journal does not know.
        DestinationError: no credential leads there, or AWS gives no answer.
    """
    place = compared.place
    refused: DestinationError = CredentialRejectedError()
    for credential in compared.credentials:
        try:
            destination = context.destinations.open(place.destination_kind, credential, place.region, tenant=_TENANT)
            if (account := destination.account_id()) != place.account:
                refused = AccountMismatchError(f"the credential {credential.name} leads to {account}")
                continue
            return _check_listed(context, place, destination)
        except CredentialRejectedError as error:
            refused = error
    raise refused


def _check_listed(context: Context, place: Place, destination: Destination) -> int:
    count = 0
    try:
        listed = iter(destination.sweep(context.instance_id))
        while page := tuple(islice(listed, PAGE)):
            # The journal is read after the list, so it knows every write that the list may show.
            _check_page(context, place, page)
            count += len(page)
    except PermissionDeniedError:
        return _check_described(context, place, destination)
    return count


def _check_described(context: Context, place: Place, destination: Destination) -> int:
    """Describe the objects one by one, where lists are denied."""
    count, after = 0, ""
    while entries := context.store.comparison.entries_after(place, after):
        for entry in entries:
            try:
                observed = destination.observe(entry.remote_name)
            except PermissionDeniedError:
                continue  # It is not written either without this right.
            count += observed is not None
            if observed is not None:
                _check_page(context, place, [observed])
        after = max(str(entry.id) for entry in entries)
    return count


def _check_page(context: Context, place: Place, page: Sequence[Observed]) -> None:
    """Raise StaleDatabaseError if one of these objects has a write of ours that the journal does not know."""
    by_name = {observed.name: observed for observed in page}
    entries = context.store.comparison.entries_named(place, by_name)
    known = {(entry.remote_name, entry.sync_id) for entry in entries}
    for entry in (*entries, *_unknown(context, place, page, known)):
        check_not_stale(entry, by_name[entry.remote_name], context.digests, context.instance_id)


def _unknown(
    context: Context, place: Place, page: Iterable[Observed], known: set[tuple[str, str]]
) -> Iterator[JournalEntry]:
    """Yield empty entries of objects that carry the tag of a sync of ours whose journal does not know them."""
    marked = {
        observed.name: sync_id
        for observed in page
        if (sync_id := observed.tags.get(TAG_SYNC)) is not None and (observed.name, sync_id) not in known
    }
    if not marked:
        return
    syncs, floor = context.store.comparison.known_syncs(set(marked.values()))
    for name, sync_id in marked.items():
        if sync_id in syncs:
            yield JournalEntry(
                id=None,
                sync_id=sync_id,
                remote_name=name,
                account=place.account,
                region=place.region,
                generation=floor,
            )
