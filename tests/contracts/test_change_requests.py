"""Requests for changes of protected environments: asking, approving, rejecting, lapsing; on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.actors import BY_ACTOR, BY_OS_USER
from phasesync.core.change_request import ApplyProject, ChangeRequest, Proposal, RequestStatus
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.sync import Adopt, SyncConfig
from phasesync.engine import approvals
from phasesync.engine.retention import end_requests
from phasesync.errors import (
    AlreadyExistsError,
    ApprovalNeededError,
    CiphertextError,
    IllegalTransitionError,
    NotFoundError,
)
from phasesync.store import Store
from tests.support.context import context_of
from tests.support.stores import (
    ACTOR,
    access_key,
    add_dynamic,
    add_sync,
    dynamic_draft,
    put,
    sync_draft,
    values_of,
    write,
)

SHOP = ("shop", "production")
OTHER = "grace"
GONE = timedelta(seconds=-1)


@pytest.fixture
def protected(store: Store) -> Store:
    """shop/production is protected, and has the key URL."""
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=1)
    return store


def ask(store: Store, change: Callable[[], object], *, actor: str = ACTOR, **options: Any) -> ChangeRequest:
    """Try a change; file it as a request."""
    with pytest.raises(ApprovalNeededError) as refused:
        change()
    needed = refused.value
    return store.change_requests.file(needed.proposal, list(needed.environments), actor=actor, **options)


def ask_for(store: Store, value: str = "new", **options: Any) -> ChangeRequest:
    """Ask for a value of URL."""
    return ask(store, lambda: put(store, write("URL", value)), **options)


def approve(store: Store, request: ChangeRequest, actor: str = OTHER, **options: Any) -> ChangeRequest:
    """Approve a request."""
    by = options.pop("by", BY_ACTOR)
    return approvals.approve(context_of(store), SHOP, request.digest, actor=actor, by=by, **options)


# --- values


def test_nothing_happens_until_somebody_else_approves(protected: Store) -> None:
    revision = protected.apps.get_environment(*SHOP).revision
    request = ask_for(protected)
    assert (request.status, request.asked_by, request.needed, request.changes) == (
        RequestStatus.OPEN,
        ACTOR,
        1,
        ("change URL (text)",),
    )
    assert request.expires_at - request.requested_at == timedelta(hours=24)
    assert values_of(protected) == {"URL": "postgres://db"}
    assert protected.apps.get_environment(*SHOP).revision == revision

    done = approve(protected, request, reason="seen")

    assert done.status is RequestStatus.APPLIED
    assert [(one.by, one.reason) for one in done.approvals] == [(OTHER, "seen")]
    assert values_of(protected) == {"URL": "new"}
    newest = protected.secrets.history(*SHOP, "/", "URL")[0]
    assert (newest.changed_by, newest.approved_by, newest.origin) == (ACTOR, OTHER, "set")
    assert protected.change_requests.list_requests() == []
    assert done.revisions == {protected.apps.get_environment(*SHOP).id: revision + 1}


def test_what_was_asked_for_is_what_is_done(protected: Store) -> None:
    """Values of every kind, comments, folders, and keys that are unset, in one revision."""
    binary = bytes(range(256))

    def change() -> None:
        from phasesync.core.model import SecretValue, SecretWrite, ValueType

        writes = [
            SecretWrite(path="/db", key="RAW", value=SecretValue(binary, ValueType.BINARY), comment="raw é"),
            SecretWrite(path="/", key="JSON", value=SecretValue('{"a":1}', ValueType.JSON)),
        ]
        protected.secrets.edit(*SHOP, actor=ACTOR, origin="import", writes=writes, unsets=[("/", "URL")])

    request = ask(protected, change)
    assert request.changes == ("add JSON (json)", "unset URL", "add RAW in /db (binary)")
    approve(protected, request)
    stored = {one.key: one for one in protected.secrets.list_secrets(*SHOP)}
    assert set(stored) == {"RAW", "JSON"}
    raw = stored["RAW"]
    assert raw.value is not None
    assert (raw.value.reveal(), raw.comment, raw.path, raw.origin) == (binary, "raw é", "/db", "import")
    assert {one.approved_by for one in protected.secrets.history(*SHOP, "/", "URL")} == {OTHER, None}


@pytest.mark.parametrize(("actor", "by"), [(ACTOR, BY_ACTOR), (ACTOR, BY_OS_USER), (f"{ACTOR} as grace", BY_OS_USER)])
def test_nobody_approves_an_own_request(protected: Store, actor: str, by: str) -> None:
    request = ask_for(protected)
    with pytest.raises(IllegalTransitionError, match="same person"):
        approve(protected, request, actor, by=by)
    assert values_of(protected) == {"URL": "postgres://db"}
    assert protected.change_requests.list_requests()[0].approvals == ()


def test_a_claimed_name_makes_another_person_unless_the_settings_say_otherwise(protected: Store) -> None:
    assert approve(protected, ask_for(protected), f"{ACTOR} as grace", by=BY_ACTOR).status is RequestStatus.APPLIED


def test_two_approvers_are_two_people(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=2)
    request = ask_for(store)
    first = approve(store, request)
    assert (first.status, first.missing) == (RequestStatus.OPEN, 1)
    assert values_of(store) == {"URL": "postgres://db"}
    with pytest.raises(IllegalTransitionError, match=r"approved [0-9a-f]+ already"):
        approve(store, request)
    assert approve(store, request, "linus").approved_by == "grace, linus"
    assert values_of(store) == {"URL": "new"}
    assert store.secrets.get_secret(*SHOP, "/", "URL").approved_by == "grace, linus"


def test_the_same_change_is_one_request(protected: Store) -> None:
    request = ask_for(protected)
    assert ask_for(protected, actor="linus") == request
    assert ask_for(protected, "other").digest != request.digest
    assert len(protected.change_requests.list_requests()) == 2


def test_a_request_that_no_longer_fits_is_refused_and_ends(protected: Store) -> None:
    first, second = ask_for(protected, "first"), ask_for(protected, "second")
    unrelated = ask(protected, lambda: put(protected, write("USER", "shop")))
    approve(protected, first)
    with pytest.raises(IllegalTransitionError, match=r"URL in / \(version 1 then, 2 now\)"):
        approve(protected, second)
    assert values_of(protected) == {"URL": "first"}
    (ended,) = [one for one in protected.change_requests.list_requests(closed=True) if one.digest == second.digest]
    assert (ended.status, ended.approvals) == (RequestStatus.LAPSED, ())
    assert "version 1 then" in ended.note
    approve(protected, unrelated)
    assert values_of(protected) == {"URL": "first", "USER": "shop"}
    assert approve(protected, ask_for(protected, "second")).status is RequestStatus.APPLIED


def test_a_request_can_be_withdrawn_and_rejected(protected: Store) -> None:
    context = context_of(protected)
    own, others = ask_for(protected, "own"), ask_for(protected, "others")
    withdrawn = approvals.reject(context, SHOP, own.digest, actor=ACTOR)
    rejected = approvals.reject(context, SHOP, others.digest, actor=OTHER, reason="not now")
    assert (withdrawn.status, rejected.status) == (RequestStatus.WITHDRAWN, RequestStatus.REJECTED)
    assert (rejected.closed_by, rejected.note) == (OTHER, "not now")
    for request in (own, others):
        with pytest.raises(NotFoundError):
            approve(protected, request)
    assert values_of(protected) == {"URL": "postgres://db"}


def test_the_database_holds_no_proposed_value_and_no_key_name(protected: Store) -> None:
    ask(protected, lambda: put(protected, write("SECRET_NAME", "secret-value")))
    with protected.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM change_requests").all()
    stored = repr(rows) + repr([bytes(cell) for row in rows for cell in row if isinstance(cell, bytes | memoryview)])
    assert "SECRET_NAME" not in stored
    assert "secret-value" not in stored


# --- lapsing


def test_a_request_lapses_by_the_time_of_the_database(protected: Store) -> None:
    request = ask_for(protected, life=GONE)
    assert request.status is RequestStatus.LAPSED, "before any daemon has noted it"
    assert protected.change_requests.list_requests() == []
    with pytest.raises(NotFoundError):
        approve(protected, request)
    assert ask_for(protected).id != request.id, "it can be asked for again"


def test_housekeeping_erases_what_a_lapsed_request_proposed(protected: Store) -> None:
    ask_for(protected, "x" * 5_000, life=GONE)
    ask_for(protected, "y" * 5_000)
    long = sizes(protected)
    end_requests(context_of(protected), older_than=timedelta(days=90), stopped=lambda: False)
    lapsed, waiting = sizes(protected)
    assert lapsed < 2_000 < 5_000 < waiting == long[1]
    assert [one.status for one in protected.change_requests.list_requests(closed=True)] == [
        RequestStatus.LAPSED,
        RequestStatus.OPEN,
    ]
    assert protected.change_requests.prune(older_than=timedelta(days=-2)) == 2


def sizes(store: Store) -> list[int]:
    """The bytes of the details of each request, the oldest first."""
    with store.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT length(details) FROM change_requests ORDER BY requested_at, id")
        return [row[0] for row in rows]


@pytest.mark.parametrize("end", ["applied", "rejected"])
def test_what_was_proposed_is_erased_with_the_end(protected: Store, end: str) -> None:
    request = ask_for(protected, "x" * 5_000)
    if end == "applied":
        approve(protected, request)
    else:
        approvals.reject(context_of(protected), SHOP, request.digest, actor=OTHER)
    assert sizes(protected)[0] < 2_000


# --- everything else


def test_every_change_of_the_database_is_carried_out_with_the_last_approval(store: Store) -> None:
    put(store, write())
    add_sync(store)
    add_dynamic(store)
    store.apps.protect_environment(*SHOP, approvers=1)
    sync, ci = store.syncs.get_sync("web"), store.dynamics.get("ci")
    changes: list[Callable[[], object]] = [
        lambda: store.syncs.add_sync(sync_draft("second", config=SyncConfig(remote_name="shop/second"))),
        lambda: store.syncs.update_sync(
            "web",
            config=replace(sync.config, tags={"team": "web"}),
            path="/",
            credential="aws",
            region=sync.region,
            adopt=None,
        ),
        lambda: store.sync_requests.consent_to_adopt(
            "second", Adopt.OVERWRITE, actor=ACTOR, versions={"shop/second": "v1"}
        ),
        lambda: store.dynamics.add(dynamic_draft("cd")),
        lambda: store.dynamics.update("ci", credential="aws", config=replace(ci.config, max_leases=3)),
        lambda: store.credentials.update("aws", access_key(access_key_id="AKIAOTHER"), account="111122223333"),
        lambda: store.syncs.rename("second", "third"),
        lambda: store.dynamics.rename("cd", "delivery"),
        lambda: store.apps.update_app("shop", description="both", windows=("deny: 08:00-18:00",)),
        lambda: store.apps.protect_environment(*SHOP, approvers=2),
    ]
    for change in changes:
        assert approve(store, ask(store, change)).status is RequestStatus.APPLIED
        if change is not changes[-1]:
            change_again = store.change_requests.list_requests()
            assert change_again == []
    assert store.syncs.get_sync("web").config.tags == {"team": "web"}
    assert store.syncs.get_sync("third").adopt_versions == {"shop/second": "v1"}
    assert store.dynamics.get("delivery").config == dynamic_draft("cd").config
    assert store.dynamics.get("ci").config.max_leases == 3
    app = store.apps.get_app("shop")
    assert (app.description, app.windows) == ("both", ("deny: 08:00-18:00",))
    changed = store.credentials.get("aws")
    assert (changed.access_key_id, changed.account) == ("AKIAOTHER", "111122223333")
    assert changed.secret_access_key == access_key().secret_access_key
    assert store.apps.get_environment(*SHOP).approvers == 2
    for rename, label in (
        (lambda: store.apps.update_environment(*SHOP, new_name="prod"), ("shop", "prod")),
        (lambda: store.apps.update_app("shop", new_name="store"), ("store", "prod")),
    ):
        request = ask(store, rename)
        for person in (OTHER, "linus"):
            at = next(one for one in store.apps.list_environments() if one.name in ("production", "prod"))
            approvals.approve(context_of(store), (at.app, at.name), request.digest, actor=person, by=BY_ACTOR)
        assert store.apps.get_environment(*label).label == "/".join(label)


def test_the_summary_shows_settings_before_and_after_and_never_a_value(store: Store) -> None:
    put(store, write())
    sync = add_sync(store)
    store.apps.protect_environment(*SHOP, approvers=1)
    config = replace(sync.config, kms_key="alias/shop", interval=timedelta(minutes=10))
    request = ask(
        store,
        lambda: store.syncs.update_sync(
            "web", config=config, path="/db", credential="aws", region=sync.region, adopt=None
        ),
    )
    assert request.changes == (
        "update the sync web",
        "path: / -> /db",
        "kms_key: - -> alias/shop",
        "interval: 5m -> 10m",
    )
    secret = access_key().secret_access_key
    assert secret is not None
    other = ask(store, lambda: store.credentials.update("aws", access_key(region="eu-west-1"), account=None))
    assert other.changes == ("update the credential aws", "region: eu-central-1 -> eu-west-1")
    key = ask(store, lambda: store.credentials.update("aws", access_key(access_key_id="AKIAOTHER"), account=None))
    assert key.changes == ("update the credential aws", "another access key, which ends in THER")
    assert secret.reveal_text() not in repr([request, other, key])


def test_a_credential_that_changed_since_voids_the_request_for_a_sync(store: Store) -> None:
    """Whoever approves saw an account; the credential must lead there still."""
    put(store, write())
    store.credentials.add("aws", access_key())
    store.apps.protect_environment(*SHOP, approvers=1)
    request = ask(store, lambda: store.syncs.add_sync(sync_draft()))
    store.credentials.update("aws", access_key(access_key_id="AKIAOTHER"), account="444455556666")
    with pytest.raises(IllegalTransitionError, match="the credential aws"):
        approve(store, request)
    assert store.syncs.list_syncs() == []


ROLE = CredentialDraft(
    type=CredentialType.ASSUME_ROLE,
    region="eu-central-1",
    role_arn="arn:aws:iam::111111111111:role/x",
    external_id="phasesync-1234",
    source_name="base",
)
EVIL = replace(ROLE, role_arn="arn:aws:iam::666666666666:role/x")


def use(store: Store, name: str, **changes: Any) -> object:
    """Change the sync web or the dynamic secret ci."""
    if name == "web":
        sync = store.syncs.get_sync(name)
        given: dict[str, Any] = {"config": sync.config, "path": "/", "region": sync.region, "adopt": None}
        return store.syncs.update_sync(name, **given | changes)
    return store.dynamics.update(name, **{"config": store.dynamics.get(name).config} | changes)


REFERRING: dict[str, Callable[[Store], object]] = {
    "add a sync": lambda store: store.syncs.add_sync(
        sync_draft("second", credential="good", config=SyncConfig(remote_name="shop/second"))
    ),
    "update a sync": lambda store: use(store, "web", credential="good"),
    "add a dynamic secret": lambda store: store.dynamics.add(replace(dynamic_draft("cd"), credential="good")),
    "update a dynamic secret": lambda store: use(store, "ci", credential="good"),
    "update a credential": lambda store: store.credentials.update(
        "aws", replace(ROLE, source_name="good"), account=None
    ),
}
"""Changes that name the credential good."""


def add_again(store: Store) -> None:
    store.credentials.remove("good")
    store.credentials.add("good", EVIL)


def exchange_names(store: Store) -> None:
    """Afterwards both credentials of that name have had version 2."""
    store.credentials.add("evil", EVIL)
    store.credentials.rename("good", "former")
    store.credentials.rename("evil", "good")


EXCHANGES: dict[str, Callable[[Store], object]] = {
    "removed and added again": add_again,
    "names exchanged": exchange_names,
    "renamed": lambda store: store.credentials.rename("good", "better"),
    "removed": lambda store: store.credentials.remove("good"),
    "led elsewhere": lambda store: store.credentials.update("good", EVIL, account=None),
    "assumed by another": lambda store: store.credentials.update("base", access_key(region="eu-west-1"), account=None),
}


@pytest.fixture
def referring(store: Store) -> Store:
    """shop/production is protected, and has a sync and a dynamic secret; the credential good is used by nothing."""
    put(store, write())
    add_sync(store)
    add_dynamic(store)
    store.credentials.add("base", access_key())
    store.credentials.add("first", ROLE)
    store.credentials.rename("first", "good")
    store.apps.protect_environment(*SHOP, approvers=1)
    return store


def world_of(store: Store) -> list[object]:
    """What requests could have changed."""
    return [store.syncs.list_syncs(), store.dynamics.list_all(), store.credentials.get("aws")]


@pytest.mark.parametrize("database_backend", ["sqlite"])
@pytest.mark.parametrize(
    ("change", "exchange"),
    [(each, "names exchanged") for each in REFERRING] + [("update a sync", each) for each in EXCHANGES],
)
def test_a_name_that_leads_elsewhere_by_now_voids_the_request(referring: Store, change: str, exchange: str) -> None:
    request = ask(referring, lambda: REFERRING[change](referring))
    EXCHANGES[exchange](referring)
    before = world_of(referring)
    with pytest.raises(IllegalTransitionError, match=r"credential (good|base)\b"):
        approve(referring, request)
    assert world_of(referring) == before
    (ended,) = referring.change_requests.list_requests(closed=True)
    assert (ended.status, ended.approvals) == (RequestStatus.LAPSED, ())


@pytest.mark.parametrize("database_backend", ["sqlite"])
@pytest.mark.parametrize("change", REFERRING.values(), ids=REFERRING)
def test_whoever_approves_reads_where_a_credential_leads(referring: Store, change: Callable[[Store], object]) -> None:
    request = ask(referring, lambda: change(referring))
    ours = (
        "the credential good: assume-role, role arn:aws:iam::111111111111:role/x, with an External ID, assumed by "
        "base, account 111111111111"
    )
    base = referring.credentials.get("base")
    ending = str(base.access_key_id)[-4:]
    theirs = f"the credential base: access-key, the key that ends in {ending}, account not known yet"
    assert set(request.changes) >= {ours, theirs}
    secret = access_key().secret_access_key
    assert secret is not None
    for hidden in (secret.reveal_text(), "phasesync-1234", str(base.access_key_id)):
        assert hidden not in repr(request)
    assert approve(referring, request).status is RequestStatus.APPLIED


def test_the_lines_say_whether_there_is_an_external_id(referring: Store) -> None:
    sync = referring.syncs.get_sync("web")
    role = replace(ROLE, external_id=None)
    removed = ask(referring, lambda: referring.credentials.update("aws", role, account=None))
    assert "External ID" not in repr(removed.changes), "it had none"
    referring.credentials.update("good", replace(role, source_name=None), account=None)
    request = ask(referring, lambda: use(referring, "web", credential="good", adopt=Adopt.OVERWRITE))
    assert request.changes == (
        "update the sync web",
        f"credential: {sync.credential} -> good",
        "adopt: - -> overwrite",
        "the credential good: assume-role, role arn:aws:iam::111111111111:role/x, no External ID, assumed by the "
        "identity of the host, account 111111111111",
    )


@pytest.mark.parametrize("database_backend", ["sqlite"])
@pytest.mark.parametrize("change", [REFERRING["add a sync"], REFERRING["add a dynamic secret"]])
def test_an_environment_that_took_the_name_is_not_the_one_that_was_meant(
    referring: Store, change: Callable[[Store], object]
) -> None:
    request = ask(referring, lambda: change(referring))
    rename = ask(referring, lambda: referring.apps.update_environment(*SHOP, new_name="former"))
    approve(referring, rename)
    referring.apps.add_environment(*SHOP)
    before = world_of(referring)
    with pytest.raises(IllegalTransitionError, match="the environment shop/production"):
        approvals.approve(context_of(referring), ("shop", "former"), request.digest, actor=OTHER, by=BY_ACTOR)
    assert world_of(referring) == before


def test_what_ends_with_the_protection_is_still_what_was_asked_for(protected: Store) -> None:
    request = ask_for(protected)
    approve(protected, ask(protected, lambda: protected.apps.protect_environment(*SHOP, approvers=None)))
    put(protected, write("URL", "by hand"))
    with pytest.raises(IllegalTransitionError, match=r"URL in / \(version 1 then, 2 now\)"):
        approve(protected, request)
    assert values_of(protected) == {"URL": "by hand"}


def test_a_key_that_is_gone_ends_the_request(protected: Store) -> None:
    def unset() -> object:
        return protected.secrets.edit(*SHOP, actor=ACTOR, origin="unset", unsets=[("/", "URL")])

    def unset_with_a_write() -> object:
        return protected.secrets.edit(*SHOP, actor=ACTOR, origin="edit", writes=[write("A")], unsets=[("/", "URL")])

    first, second = ask(protected, unset), ask(protected, unset_with_a_write)
    approve(protected, first)
    with pytest.raises(IllegalTransitionError, match="removed or renamed"):
        approve(protected, second)
    assert protected.change_requests.list_requests() == []


def test_a_request_needs_as_many_as_are_asked_for_when_it_is_approved(protected: Store) -> None:
    request, removal = ask_for(protected), ask(protected, lambda: protected.apps.remove_environment(*SHOP))
    assert approve(protected, removal).status is RequestStatus.APPROVED
    approve(protected, ask(protected, lambda: protected.apps.protect_environment(*SHOP, approvers=3)))
    waiting = {one.digest: one for one in protected.change_requests.list_requests()}
    assert {(one.needed, one.status) for one in waiting.values()} == {(3, RequestStatus.OPEN)}
    assert (waiting[request.digest].missing, waiting[removal.digest].missing) == (3, 2)
    assert waiting[removal.digest].next_command == removal.approve_command

    context = context_of(protected)
    with (
        pytest.raises(ApprovalNeededError),
        approvals.allowed(context, lambda: protected.apps.check_removal(*SHOP), actor=ACTOR),
    ):
        raise AssertionError("one of three has approved it")
    for person in (OTHER, "linus"):
        assert approve(protected, request, person).status is RequestStatus.OPEN
    assert values_of(protected) == {"URL": "postgres://db"}
    done = approve(protected, request, "barbara")
    assert (done.status, done.needed, len(done.approvals)) == (RequestStatus.APPLIED, 3, 3)
    assert values_of(protected) == {"URL": "new"}


def test_fewer_approvers_by_now_do_not_make_a_request_cheaper(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=2)
    request, fewer = ask_for(store), ask(store, lambda: store.apps.protect_environment(*SHOP, approvers=1))
    approve(store, fewer)
    approve(store, fewer, "linus")
    assert store.apps.get_environment(*SHOP).approvers == 1
    assert approve(store, request).status is RequestStatus.OPEN
    assert approve(store, request, "linus").status is RequestStatus.APPLIED


def test_another_spelling_is_no_other_person(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=2)
    request = ask_for(store, actor="deploy as ada")
    approve(store, request, "deploy as Grace")
    for actor in ("deploy as Ada ", "deploy as a\u200bda", "deploy as \uff47race", "Deploy  as grace"):
        with pytest.raises(IllegalTransitionError, match=r"same person|approved [0-9a-f]+ already"):
            approve(store, request, actor)
    assert len(store.change_requests.list_requests()[0].approvals) == 1
    ended = approvals.reject(context_of(store), SHOP, request.digest, actor="deploy as ADA")
    assert ended.status is RequestStatus.WITHDRAWN


def test_an_error_of_the_change_stores_no_approval(protected: Store) -> None:
    protected.credentials.add("aws", access_key())
    request = ask(protected, lambda: protected.syncs.add_sync(sync_draft()))
    put(protected, write(), environment="staging")
    protected.syncs.add_sync(sync_draft(environment="staging"))
    with pytest.raises(AlreadyExistsError):
        approve(protected, request)
    (waiting,) = protected.change_requests.list_requests()
    assert (waiting.status, waiting.approvals) == (RequestStatus.OPEN, ())


class KilledError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("method", ["close", "add_approval"])
def test_a_process_that_dies_while_it_carries_out_leaves_nothing_half_done(
    protected: Store, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    request = ask_for(protected)
    original = getattr(protected.change_requests, method)

    def dying(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        raise KilledError

    monkeypatch.setattr(protected.change_requests, method, dying)
    with pytest.raises(KilledError):
        approve(protected, request)
    monkeypatch.undo()
    assert values_of(protected) == {"URL": "postgres://db"}
    assert protected.change_requests.list_requests() == [request]
    assert approve(protected, request).status is RequestStatus.APPLIED


def test_two_who_approve_at_once_do_it_once(store: Store) -> None:
    put(store, write())
    store.apps.protect_environment(*SHOP, approvers=1)
    request = ask_for(store)
    results: list[str] = []

    def approving(person: str) -> None:
        try:
            results.append(approve(store, request, person).status)
        except (NotFoundError, IllegalTransitionError) as error:
            results.append(type(error).__name__)

    threads = [threading.Thread(target=approving, args=(person,)) for person in ("grace", "linus")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) in (["NotFoundError", "applied"], ["IllegalTransitionError", "applied"])
    assert len(store.secrets.history(*SHOP, "/", "URL")) == 2


# --- alterations

ALTERED = {
    "status": "UPDATE change_requests SET status = 'approved'",
    "digest": "UPDATE change_requests SET digest = 'ffffffffffffffff'",
    "expires_at": "UPDATE change_requests SET expires_at = expires_at + 86400000000",
    "requested_at": "UPDATE change_requests SET requested_at = requested_at + 1",
    "version": "UPDATE change_requests SET version = version + 1",
    "environment_id": "UPDATE change_requests SET environment_id = (SELECT id FROM environments WHERE name = 'open')",
    "id": "UPDATE change_requests SET id = 'x'",
}


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
def test_an_altered_request_is_refused_and_hides_no_other(protected: Store, statement: str) -> None:
    put(protected, environment="open")
    request = ask_for(protected)
    with protected.database.write() as connection:
        connection.exec_driver_sql(statement)
    digest = "f" * 16 if "digest" in statement else request.digest
    with pytest.raises((CiphertextError, NotFoundError)):
        approve(protected, replace(request, digest=digest))
    assert values_of(protected) == {"URL": "postgres://db"}
    altered = [one for one in protected.change_requests.list_requests(closed=True) if one.error]
    assert len(altered) == 1
    other = ask(protected, lambda: put(protected, write("USER", "shop")))
    assert approve(protected, other).status is RequestStatus.APPLIED


def test_the_details_of_one_request_are_not_those_of_another(protected: Store) -> None:
    """Nor can an approval be moved."""
    ask_for(protected, "one"), ask_for(protected, "two")
    with protected.database.write() as connection:
        connection.exec_driver_sql("UPDATE change_requests SET details = (SELECT min(details) FROM change_requests)")
    assert len([one for one in protected.change_requests.list_requests() if one.error]) == 1


# --- a plan over several environments


def test_one_request_covers_every_protected_environment_of_a_plan(store: Store) -> None:
    context = context_of(store)
    for name in ("production", "staging", "open"):
        put(store, write(), environment=name)
    store.apps.protect_environment(*SHOP, approvers=1)
    store.apps.protect_environment("shop", "staging", approvers=2)

    plan = Proposal(
        arguments=ApplyProject(plan="abc123", remote="keep"),
        changes=("update everything",),
        command="phasesync apply -f . --plan abc123",
        digest="abc123",
    )

    def apply(value: str, actor: str = ACTOR) -> None:
        with store.database.transaction(), approvals.applying(context, plan, actor=actor):
            for name in ("production", "staging", "open"):
                put(store, write("URL", value), environment=name)

    with store.database.rehearsal(), approvals.rehearsing() as met:
        apply("new")
    assert sorted(met.values()) == ["shop/production", "shop/staging"]
    with pytest.raises(ApprovalNeededError) as refused:
        apply("new")
    assert values_of(store, "open") == {"URL": "postgres://db"}, "a plan is applied as a whole"
    request = approvals.file_request(context, refused.value, actor=ACTOR)
    assert (request.digest, request.needed, request.action) == ("abc123", 2, "project.apply")

    approve(store, request)
    approved = approvals.approve(context, ("shop", "staging"), "abc123", actor="linus", by=BY_ACTOR)
    assert (approved.status, approved.command) == (RequestStatus.APPROVED, "phasesync apply -f . --plan abc123")
    assert values_of(store) == {"URL": "postgres://db"}

    apply("new", "anybody")
    assert values_of(store, "staging") == {"URL": "new"}
    assert store.secrets.get_secret(*SHOP, "/", "URL").approved_by == "grace, linus"
    assert store.change_requests.list_requests(applied=True)[0].closed_by == "anybody"
    with pytest.raises(ApprovalNeededError):
        apply("newer")
