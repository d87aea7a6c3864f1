"""Pages of lists: every item once and in order, whatever the limit, and whatever is added meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync.core.pages import Page, each_page
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncFilter, SyncStatus, Trigger
from phasesync.errors import InvalidInputError, NotFoundError
from phasesync.store import Store
from tests.support.stores import (
    ACTOR,
    TTL,
    access_key,
    add_dynamic,
    add_sync,
    after,
    end_lease,
    issue_lease,
    put,
    run_of,
    write,
)
from tests.support.values import HOUR

Fetch = Callable[[str | None, int], Page[Any]]


@dataclass(frozen=True)
class Listed:
    """A list under test: how a page is fetched, how an item is named, and how one more is added among the others."""

    fetch: Fetch
    name: Callable[[Any], object]
    add: Callable[[str], object]
    names: Sequence[object]


def _apps(store: Store) -> Listed:
    names = ["a", "B", "c-1", "c_2", "d"]
    for name in reversed(names):
        store.apps.add_app(name)
    return Listed(
        lambda cursor, limit: store.apps.page_apps(after=cursor, limit=limit),
        lambda app: app.name,
        store.apps.add_app,
        names,
    )


def _environments(store: Store) -> Listed:
    for app in ("b", "a"):
        store.apps.add_app(app)
        for name in ("two", "One"):
            store.apps.add_environment(app, name)
    return Listed(
        lambda cursor, limit: store.apps.page_environments(after=cursor, limit=limit),
        lambda environment: environment.label,
        lambda name: store.apps.add_environment("a", name),
        ["a/One", "a/two", "b/One", "b/two"],
    )


def _credentials(store: Store) -> Listed:
    names = ["a", "B", "c"]
    for name in names:
        store.credentials.add(name, access_key())
    return Listed(
        lambda cursor, limit: store.credentials.page(after=cursor, limit=limit),
        lambda credential: credential.name,
        lambda name: store.credentials.add(name, access_key()),
        names,
    )


def _syncs(store: Store) -> Listed:
    names = ["a", "B", "c", "d", "e"]
    for name in names:
        add_sync(store, name)
    # A sync that reads several environments has several rows.
    put(store, write(), environment="staging")
    reader = store.claims.claim(store.syncs.get_sync("B").id, "me", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    reads = {environment.id: 1 for environment in store.apps.list_environments()}
    store.runs.finish(reader, run_of(reader, sync="B"), after(reads=reads))
    return Listed(
        lambda cursor, limit: store.syncs.page_syncs(after=cursor, limit=limit),
        lambda sync: sync.name,
        lambda name: add_sync(store, name),
        names,
    )


def _secrets(store: Store) -> Listed:
    put(store, *(write(key, path=path) for path in ("/", "/db") for key in ("A", "B C", "ß")))
    return Listed(
        lambda cursor, limit: store.secrets.page_secrets("shop", "production", after=cursor, limit=limit),
        lambda secret: (secret.path, secret.key),
        lambda name: put(store, write(name)),
        [(path, key) for path in ("/", "/db") for key in ("A", "B C", "ß")],
    )


def _dynamics(store: Store) -> Listed:
    for name in ("b", "a", "c"):
        add_dynamic(store, name, path=f"/{name}")
    return Listed(
        lambda cursor, limit: store.dynamics.page(after=cursor, limit=limit),
        lambda dynamic: dynamic.name,
        lambda name: add_dynamic(store, name, path=f"/{name}"),
        ["a", "b", "c"],
    )


def _leases(store: Store) -> Listed:
    dynamic = add_dynamic(store)
    issued = [issue_lease(store, dynamic) for _ in range(4)]
    end_lease(store, issued[1])
    leases = store.leases(ttl=TTL)
    return Listed(
        lambda cursor, limit: leases.page_leases(ended=True, after=cursor, limit=limit),
        lambda lease: lease.id,
        lambda _: None,  # A newer one comes before the first page.
        [lease.id for lease in reversed(issued)],
    )


def _runs(store: Store, *, outcomes: tuple[Outcome, ...] = (), since: timedelta | None = None) -> Listed:
    add_sync(store)
    made = [
        log(store, outcome=(Outcome.FAILED, Outcome.HELD, Outcome.UNCHANGED)[n % 3], ago=HOUR - n * HOUR / 20)
        for n in range(9)
    ]
    start = None if since is None else datetime.now(UTC) - since
    kept = [
        run for run in made if (not outcomes or run.outcome in outcomes) and (start is None or run.ended_at >= start)
    ]
    return Listed(
        lambda cursor, limit: store.runs.page_runs(outcomes=outcomes, since=start, after=cursor, limit=limit),
        lambda run: run.id,
        lambda _: log(store),
        [run.id for run in reversed(kept)],
    )


def log(store: Store, name: str = "web", *, ago: timedelta = timedelta(0), **changes: object) -> Run:
    """Log a run of a sync that ended some time ago."""
    sync = store.syncs.get_sync(name)
    claim = store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    run = run_of(claim, sync=name, ended_at=datetime.now(UTC) - ago, **changes)
    store.runs.finish(claim, run, after())
    return run


LISTS = {
    "apps": _apps,
    "environments": _environments,
    "credentials": _credentials,
    "syncs": _syncs,
    "secrets": _secrets,
    "dynamics": _dynamics,
    "leases": _leases,
    "runs": _runs,
    "runs of outcomes": lambda store: _runs(store, outcomes=(Outcome.FAILED, Outcome.HELD)),
    "runs since": lambda store: _runs(store, since=HOUR / 2),
    "runs of an outcome since": lambda store: _runs(store, outcomes=(Outcome.HELD,), since=HOUR / 2),
}


@pytest.fixture(params=LISTS)
def listed(store: Store, request: pytest.FixtureRequest) -> Listed:
    """Each list, with a few items."""
    return LISTS[request.param](store)


def test_pages_of_any_limit_have_every_item_once_and_in_order(listed: Listed) -> None:
    for limit in range(1, len(listed.names) + 2):
        pages = list(walk(listed.fetch, limit))

        assert [listed.name(item) for page in pages for item in page.items] == listed.names
        assert all(len(page.items) == limit for page in pages[:-1])
        assert pages[-1].next is None


def test_a_cursor_may_be_given_again(listed: Listed) -> None:
    first = listed.fetch(None, 1)

    assert listed.fetch(first.next, 1) == listed.fetch(first.next, 1)


def test_what_is_added_meanwhile_repeats_and_hides_nothing(listed: Listed) -> None:
    shown = []
    for number, page in enumerate(walk(listed.fetch, 1)):
        shown += [listed.name(item) for item in page.items]
        if number < 2:
            listed.add(f"A{number}")  # Before, or right after, what is shown by now.

    assert len(shown) == len(set(shown))
    assert [name for name in shown if name in listed.names] == listed.names


def test_a_cursor_that_no_page_had_is_refused(listed: Listed) -> None:
    for cursor in ("", "?", "../etc", "1-2-3-x!", "x" * 3000, "\ud800"):
        with pytest.raises(InvalidInputError, match="no place in this list") as refused:
            listed.fetch(cursor, 1)
        assert "--after" in str(refused.value.hint)


def walk(fetch: Fetch, limit: int) -> Iterator[Page[Any]]:
    """Yield pages of a limit, one after the other."""
    cursor = None
    while True:
        page = fetch(cursor, limit)
        yield page
        if (cursor := page.next) is None:
            return


def test_pages_are_fetched_one_at_a_time_up_to_the_limit() -> None:
    asked: list[tuple[str | None, int]] = []

    def fetch(cursor: str | None, limit: int) -> Page[int]:
        asked.append((cursor, limit))
        begin = int(cursor or 0)
        return Page(items=tuple(range(begin, begin + limit)), next=str(begin + limit))

    pages = each_page(fetch, limit=2_500)
    assert asked == []
    assert [len(page.items) for page in pages] == [1000, 1000, 500]
    assert asked == [(None, 1000), ("1000", 1000), ("2000", 500)]


# --- syncs by status, app, credential


@pytest.fixture
def fleet(store: Store) -> Store:
    """Syncs with every status, in two apps, of two credentials."""
    store.credentials.add("aws", access_key())
    settled = {
        "failing": SyncStatus.FAILING,
        "held": SyncStatus.HELD,
        "halted": SyncStatus.HALTED,
        "ok": SyncStatus.IN_SYNC,
    }
    add_sync(store, "new")
    for name, status in settled.items():
        finish(store, add_sync(store, name).name, status)
    return store


def finish(store: Store, name: str, status: SyncStatus) -> None:
    """Have a sync run and end with a status; it has read its environment."""
    sync = store.syncs.get_sync(name)
    claim = store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    reads = {sync.environment_id: sync.source_revision}
    store.runs.finish(claim, run_of(claim, sync=name), after(status=status, reads=reads))


def names_of(store: Store, **which: object) -> list[str]:
    page = store.syncs.page_syncs(SyncFilter(**which))  # type: ignore[arg-type]
    return [sync.name for sync in page.items]


def test_syncs_are_listed_by_app_credential_and_environment(fleet: Store) -> None:
    fleet.credentials.add("other", access_key())
    fleet.apps.add_app("blog")
    fleet.apps.add_environment("blog", "production")
    from_blog = add_sync(fleet, "posts", app="blog", credential="other")

    assert names_of(fleet, app="BLOG") == names_of(fleet, credential="Other") == ["posts"]
    assert names_of(fleet, app="shop", credential="other") == []
    assert names_of(fleet, environment_id=from_blog.environment_id) == ["posts"]
    assert "posts" not in names_of(fleet, app="shop")
    with pytest.raises(NotFoundError, match="no app nope"):
        names_of(fleet, app="nope")
    with pytest.raises(NotFoundError, match="no credential nope"):
        names_of(fleet, credential="nope")


def test_readers_of_an_environment_are_those_that_refer_to_it_too(fleet: Store) -> None:
    put(fleet, write(), environment="shared")
    shared = fleet.apps.get_environment("shop", "shared")
    sync = fleet.syncs.get_sync("ok")
    claim = fleet.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    fleet.runs.finish(claim, run_of(claim, sync="ok"), after(reads={sync.environment_id: 1, shared.id: 1}))

    assert names_of(fleet, environment_id=shared.id) == ["ok"]
