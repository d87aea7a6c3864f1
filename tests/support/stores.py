"""A store on a fresh database, and valid things to put into it that a test changes in one place."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from phasesync.adapters.keys import EnvelopeKeyRing, RootKey
from phasesync.adapters.store import Store, WrappedKeyTable, initialise, open_database, open_store
from phasesync.core.credential import CredentialType
from phasesync.core.model import SecretValue
from phasesync.core.run import Run
from phasesync.core.status import Outcome, SyncStatus
from phasesync.core.sync import Sync
from phasesync.core.sync_config import SyncConfig
from phasesync.ports import AfterRun, Claim, CredentialDraft, SecretWrite, SyncDraft

ROOT_KEY = RootKey(material=bytes(range(32)), source="a test")
OTHER_ROOT_KEY = RootKey(material=bytes(range(1, 33)), source="a test")
TTL = timedelta(minutes=5)
EXPIRED = timedelta(seconds=-1)
"""A claim or a membership with this life has ended already; no test has to wait."""
LONG = timedelta(hours=1)
ACTOR = "ada"


def open_test_store(database_url: str, root_key: RootKey = ROOT_KEY) -> Store:
    """Open a migrated database, with keys made if it has none."""
    # A test does not outlive a power cut; processes that die lose nothing either way.
    database = open_database(database_url, synchronous="OFF")
    keys = EnvelopeKeyRing([root_key], WrappedKeyTable(database))
    initialise(database, keys)
    return open_store(database, keys)


def write(
    key: str = "URL", value: str = "postgres://db", *, path: str = "/", comment: str | None = None
) -> SecretWrite:
    """One key to set."""
    return SecretWrite(path=path, key=key, value=SecretValue(value), comment=comment)


def put(store: Store, *writes: SecretWrite, environment: str = "production") -> int:
    """Commit writes to an environment of `shop`, made with its app where missing; return its revision."""
    if not any(app.name == "shop" for app in store.environments.list_apps()):
        store.environments.add_app("shop")
    if not any(one.name == environment for one in store.environments.list_environments("shop")):
        store.environments.add_environment("shop", environment)
    return store.environments.edit("shop", environment, actor=ACTOR, origin="set", writes=writes).revision


def values_of(store: Store, environment: str = "production") -> dict[str, str]:
    """Return key -> text of an environment of `shop`."""
    found = store.environments.list_secrets("shop", environment)
    return {one.key: one.value.reveal_text() for one in found if one.value is not None}


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
    """A credential whose role does not exist yet."""
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
    put(store)
    if not any(one.name == "aws" for one in store.credentials.list_all()):
        store.credentials.add("aws", access_key())
    return store.state.add_sync(sync_draft(name, **changes))


def claim_due(
    store: Store, owner: str = "daemon-1", *, limit: int = 10, ttl: timedelta = TTL, large: int | None = None
) -> list[Claim]:
    """Claim what is due."""
    return store.state.claim_due(owner, limit=limit, ttl=ttl, large=large)


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
    """What a good run leaves behind."""
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
    sync = store.state.load(claim).sync
    changes = {"reads": {sync.environment_id: sync.source_revision}, **changes}
    return store.state.finish(claim, run_of(claim), after(**changes))
