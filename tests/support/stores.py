"""A store on a fresh database, and valid content for it that a test changes in one place."""

import base64
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import sqlalchemy as sa

from phasesync.core.chores import Chore
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicDraft, DynamicSecret, lease_spec_of
from phasesync.core.lease import Cause, Lease, LeaseSpec, begin_issue, begin_revoke, issued, revoke_failed, revoked
from phasesync.core.lease_claim import LeaseClaim, Outputs
from phasesync.core.lease_users import user_owner_tags
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Sync, SyncConfig, SyncDraft, SyncStatus
from phasesync.core.sync_claim import AfterRun, Claim
from phasesync.errors import NotFoundError, PhasesyncError, SchemaMismatchError
from phasesync.store import Database, Store, initialise, open_database, open_store, read_wrapped_keys, tables
from phasesync.store.db_time import before
from phasesync.store.key_ring import KeyRing, RootKey
from phasesync.store.lease_rows import is_authentic, lease_mac
from tests.support.values import ACCOUNT, dynamic_config

T = TypeVar("T")

ROOT_KEY = RootKey(material=bytes(range(32)), source="a test")
OTHER_ROOT_KEY = RootKey(material=bytes(range(1, 33)), source="a test")
TTL = timedelta(minutes=5)
EXPIRED = timedelta(seconds=-1)
"""A claim or a membership with this ttl has expired already; no test has to wait."""
LONG = timedelta(hours=1)
ACTOR = "ada"


def open_test_store(database_url: str, root_key: RootKey = ROOT_KEY) -> Store:
    """Open the store of a migrated database; create its first keys if it has none."""
    # A test need not survive a power cut; a process that dies loses nothing either way.
    database = open_database(database_url, synchronous="OFF")
    keys = KeyRing([root_key], partial(read_wrapped_keys, database))
    try:
        try:
            return open_store(database, keys)
        except SchemaMismatchError:  # It has no keys yet, unlike the copies of the template that nearly every test has.
            initialise(database, keys)
            return open_store(database, keys)
    except BaseException:
        database.close()
        raise


def opens_with(root_key: RootKey = ROOT_KEY) -> Callable[[Database], KeyRing]:
    """Return what bootstrap gives to migrations and restores: it returns the key ring of a database, or raises."""

    def open_keys(database: Database) -> KeyRing:
        keys = KeyRing([root_key], partial(read_wrapped_keys, database))
        keys.verify()
        return keys

    return open_keys


def write_root_key(file: Path) -> None:
    """Write the root key of test stores as `phasesync init` writes one."""
    file.write_bytes(base64.b64encode(ROOT_KEY.material))
    file.chmod(0o600)


def write(
    key: str = "URL", value: str = "postgres://db", *, path: str = "/", comment: str | None = None
) -> SecretWrite:
    """One key to set."""
    return SecretWrite(path=path, key=key, value=SecretValue(value), comment=comment)


def put(store: Store, *writes: SecretWrite, environment: str = "production") -> int:
    """Commit writes to an environment of `shop`, created with its app if missing; return its revision."""

    def edit() -> int:
        return store.secrets.edit("shop", environment, actor=ACTOR, origin="set", writes=writes).revision

    try:
        return edit()  # First: nearly every call but the first of a test finds the environment.
    except NotFoundError:
        if not any(app.name == "shop" for app in store.apps.list_apps()):
            store.apps.add_app("shop")
        store.apps.add_environment("shop", environment)
        return edit()


def values_of(store: Store, environment: str = "production") -> dict[str, str]:
    """Return key -> text of an environment of `shop`."""
    versions = store.secrets.list_secrets("shop", environment)
    return {version.key: version.value.reveal_text() for version in versions if version.value is not None}


def access_key(**changes: object) -> CredentialDraft:
    """A credential with an access key."""
    draft = CredentialDraft(
        type=CredentialType.ACCESS_KEY,
        region="eu-central-1",
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key=SecretValue("wJalrXUtnFEMI/K7MDENG"),
    )
    return replace(draft, **changes)  # type: ignore[arg-type]


def incomplete_role() -> CredentialDraft:
    """A credential with a role that does not exist yet."""
    return CredentialDraft(type=CredentialType.ASSUME_ROLE, region="eu-central-1", external_id="phasesync-1234")


def sync_draft(name: str = "web", **changes: object) -> SyncDraft:
    """A sync of shop/production that writes to a remote object of its own name."""
    draft = SyncDraft(
        name=name,
        app="shop",
        environment="production",
        path="/",
        credential="aws",
        destination_kind="aws-secrets-manager",
        region="eu-central-1",
        config=SyncConfig(remote_name=f"shop/{name}"),
        account=None,
        adopt=None,
    )
    return replace(draft, **changes)  # type: ignore[arg-type]


def add_sync(store: Store, name: str = "web", **changes: object) -> Sync:
    """Add a sync with the environment and the credential that it needs."""
    draft = sync_draft(name, **changes)
    try:
        return store.syncs.add_sync(draft)
    except NotFoundError:
        put(store)
        if "aws" not in [credential.name for credential in store.credentials.list_all()]:
            store.credentials.add("aws", access_key())
        return store.syncs.add_sync(draft)


def have_done_housekeeping(store: Store) -> None:
    """Have a daemon done the housekeeping two hours ago: without that, the first one deletes nothing for a day."""
    done = {"name": Chore.HOUSEKEEPING.value, "owner": "daemon-0", "claimed_at": before(timedelta(hours=2))}
    with store.database.write() as connection:
        connection.execute(tables.chores.insert().values(done))


def claim_due(
    store: Store, owner: str = "daemon-1", *, limit: int = 10, ttl: timedelta = TTL, large: int | None = None
) -> list[Claim]:
    """Claim the syncs that are due, as a daemon does."""
    urgencies = store.claims.next_due(large=large is None or large > 0).urgencies
    return store.claims.claim_due(owner, limit=limit, ttl=ttl, large=large, urgencies=urgencies) if urgencies else []


def claim_one(store: Store, owner: str = "daemon-1", *, ttl: timedelta = TTL) -> Claim:
    """Claim the one sync that is due."""
    (claim,) = claim_due(store, owner, ttl=ttl)
    return claim


def run_of(claim: Claim, **changes: object) -> Run:
    """A run that changed nothing."""
    at = datetime.now(UTC)
    run = Run(
        id=uuid.uuid4().hex,
        sync_id=claim.sync_id,
        sync="web",
        trigger=claim.trigger,
        actor=claim.actor,
        attempt=1,
        outcome=Outcome.UNCHANGED,
        started_at=at,
        ended_at=at,
        revisions={},
        counts={},
        aws_calls=1,
        versions_written=0,
        error=None,
        next_attempt_at=None,
        changes=(),
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def after(**changes: object) -> AfterRun:
    """The state after a successful run."""
    left = AfterRun(
        status=SyncStatus.IN_SYNC,
        reason=None,
        reads=None,
        applied_revision=None,
        failures=0,
        retry_in=None,
        due_in=LONG,
    )
    return replace(left, **changes)  # type: ignore[arg-type]


def settle(store: Store, claim: Claim, **changes: object) -> Sync:
    """Finish a run that read the sync's environment as it is now."""
    sync = store.sync_states.load(claim).sync
    changes = {"reads": {sync.environment_id: sync.source_revision}, "former_reads": sync.reads, **changes}
    return finish(store, claim, run_of(claim), after(**changes))


def finish(store: Store, claim: Claim, run: Run, after: AfterRun) -> Sync:
    """Finish a run; return the sync as it is then."""
    name = store.sync_states.load(claim).sync.name
    store.runs.finish(claim, run, after)
    return store.syncs.get_sync(name)


# --- dynamic secrets and their leases

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/phasesync/shop/production/ci"


def dynamic_draft(name: str = "ci", **changes: object) -> DynamicDraft:
    """A dynamic secret of shop/production that issues keys under names of its own."""
    keys = {"access_key_id": f"{name.upper()}_KEY_ID", "secret_access_key": f"{name.upper()}_SECRET_KEY"}
    draft = DynamicDraft(
        name=name,
        app="shop",
        environment="production",
        path="/",
        credential="aws",
        issuer="aws-iam-user",
        config=dynamic_config(keys=keys),
    )
    return replace(draft, **changes)  # type: ignore[arg-type]


def add_dynamic(
    store: Store,
    name: str = "ci",
    *,
    environment: str = "production",
    path: str = "/",
    credential: str = "aws",
    **config: object,
) -> DynamicSecret:
    """Add a dynamic secret with the environment and the credential that it needs; its configuration may differ."""
    draft = dynamic_draft(name, environment=environment, path=path, credential=credential)
    draft = replace(draft, config=replace(draft.config, **config))  # type: ignore[arg-type]
    try:
        return store.dynamics.add(draft)
    except NotFoundError:
        put(store, environment=environment)
        if credential not in [existing.name for existing in store.credentials.list_all()]:
            store.credentials.add(credential, access_key())
        return store.dynamics.add(draft)


def request_lease(
    store: Store, dynamic: DynamicSecret, owner: str = "cli-1", *, ttl: timedelta = LONG, claim_ttl: timedelta = TTL
) -> tuple[LeaseClaim, Lease]:
    """Request a lease; no call was made yet."""

    def make_spec(lease_id: str, max_expires_at: datetime) -> LeaseSpec:
        ours = user_owner_tags(
            store.instance_id, dynamic_id=dynamic.id, lease_id=lease_id, max_expires_at=max_expires_at
        )
        return lease_spec_of(dynamic.config, name=f"{dynamic.name}-{lease_id}", ttl=ttl, marks=ours)

    return store.leases(ttl=claim_ttl).request(dynamic, make_spec, ttl=ttl, owner=owner)


def activate_lease(store: Store, claim: LeaseClaim, *, keep: Outputs | None = None, done: bool = True) -> Lease:
    """Bring a requested lease to active, and release the claim."""
    leases = store.leases(ttl=TTL)
    leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    return leases.save(
        claim,
        lambda lease, now: issued(
            lease, now, principal=USER_ARN, access_key_id="AKIAIOSFODNN7EXAMPLE", kept=keep is not None
        ),
        keep=keep,
        done=done,
    )


def issue_lease(store: Store, dynamic: DynamicSecret, *, ttl: timedelta = LONG, keep: Outputs | None = None) -> Lease:
    """An active lease without a claim."""
    return activate_lease(store, request_lease(store, dynamic, ttl=ttl)[0], keep=keep)


def revoke_lease(store: Store, lease: Lease, *, cause: Cause = Cause.REQUEST) -> LeaseClaim:
    """Begin to revoke a lease; the claim is kept."""
    leases = store.leases(ttl=TTL)
    claim = leases.claim(lease.id, "revoker").claim
    leases.save(claim, lambda lease, now: begin_revoke(lease, cause, "by ada", now))
    return claim


def end_lease(store: Store, lease: Lease, *, cause: Cause = Cause.REQUEST) -> Lease:
    """Revoke a lease."""
    return store.leases(ttl=TTL).save(revoke_lease(store, lease, cause=cause), revoked, done=True)


def fail_lease(store: Store, lease: Lease, *, pause: timedelta = LONG) -> Lease:
    """Try to revoke a lease, without success."""
    claim = revoke_lease(store, lease)
    return store.leases(ttl=TTL).save(claim, lambda lease, now: revoke_failed(lease, "denied", pause, now), done=True)


def alter(store: Store, table: sa.Table, row_id: str | None = None, **values: object) -> None:
    """Change rows without the store: the row of an id, or all rows of a table."""
    statement = table.update() if row_id is None else table.update().where(table.c.id == row_id)
    with store.database.write() as connection:
        assert connection.execute(statement.values(**values)).rowcount > 0


def move_lease(store: Store, lease: Lease, by: timedelta, *columns: str) -> None:
    """Move instants of a lease, as if more or less time had passed. An altered lease stays altered."""
    was_authentic = is_authentic(store.keys, _lease_row(store, lease.id))
    microseconds = by // timedelta(microseconds=1)
    moved = {name: sa.type_coerce(tables.leases.c[name], sa.BigInteger()) + microseconds for name in columns}
    alter(store, tables.leases, lease.id, **moved)
    if was_authentic:
        alter(store, tables.leases, lease.id, mac=lease_mac(store.keys, _lease_row(store, lease.id)._asdict()))


def _lease_row(store: Store, lease_id: str) -> sa.Row[Any]:
    with store.database.read() as connection:
        return connection.execute(sa.select(tables.leases).where(tables.leases.c.id == lease_id)).one()


def at_once(*calls: Callable[[], T]) -> list[T | PhasesyncError]:
    """Start all calls at the same moment, each in a thread; return the result of each, or our error that it raised."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | PhasesyncError:
        barrier.wait()
        try:
            return call()
        except PhasesyncError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
