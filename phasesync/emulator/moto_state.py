"""
All state of the emulator: moto's accounts, roles, KMS keys and secrets, and what moto does not keep about them.

Only this file and `moto_users.py` (IAM users) touch moto; the rules of the other files decide what happens. All Regions
and accounts of a process share one state, because moto's objects do.
"""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from phasesync.emulator.clock import EmulatorClock
from phasesync.emulator.moto_users import MotoUsers
from phasesync.emulator.request import Principal

CURRENT: Final = "AWSCURRENT"
_FULL_ARN: Final = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):(\d{12}):secret:(.+)")
_SUFFIX: Final = re.compile(r"-[A-Za-z0-9]{6}")


MANAGED_POLICY: Final = "cross-account-replication"
"""Name of the resource policy that Secrets Manager keeps on a copy between accounts (User Guide)."""


@dataclass
class CrossAccount:
    """One end of a replication between accounts: the other end, and its status."""

    arn: str
    status: str
    role_arn: str | None = None
    message: str | None = None

    @property
    def account(self) -> str:
        """The account of the other end."""
        return self.arn.split(":")[4]


@dataclass
class Extras:
    """What moto does not keep of a secret."""

    created_at: datetime
    changed_at: datetime
    accessed_on: dict[str, datetime] = field(default_factory=dict)
    """Region -> midnight of the day of the last read (API reference, LastAccessedDate)."""
    version_accessed_on: dict[str, datetime] = field(default_factory=dict)
    version_keys: dict[str, set[str | None]] = field(default_factory=dict)
    """Version id -> ARNs of the keys that open it; None means the AWS-managed key."""
    gone_at: datetime | None = None
    """When a deletion is carried out; None if no deletion is scheduled."""
    for_good: bool = False
    """The deletion cannot be cancelled."""
    rotation_configured: bool = False
    external_type: str | None = None
    """Of a managed external secret: the partner that holds it."""
    external_rotation: dict[str, Any] = field(default_factory=dict)
    """Fields of DescribeSecret on the rotation of a managed external secret."""
    cross_account_primary: CrossAccount | None = None
    """Of a copy between accounts."""
    cross_account_replicas: list[CrossAccount] = field(default_factory=list)
    """Of a primary."""
    shown: list[tuple[datetime, dict[str, Any] | None]] = field(default_factory=list)
    """What ListSecrets showed, and since when; only if it lags."""


@dataclass
class ReplicaExtras:
    """What moto does not keep of a replica."""

    in_sync_at: datetime
    kms_key: str | None = None
    message: str | None = None
    """Why it failed, None if it did not."""


def _import_moto() -> None:
    """
    Import here and now what is used below, and what moto's application would load at a service's first request.

    Two threads that import moto at once get halves of its modules.
    """
    import moto.iam.access_control
    import moto.iam.models
    import moto.iam.urls
    import moto.kms.models
    import moto.kms.urls
    import moto.moto_api._internal.managed_state_model
    import moto.moto_api._internal.models
    import moto.secretsmanager.models
    import moto.secretsmanager.urls
    import moto.sts.models
    import moto.sts.urls  # noqa: F401


class MotoState:
    """All accounts and Regions."""

    def __init__(self, clock: EmulatorClock) -> None:
        """
        Args:
            clock: the time of everything.
        """
        _import_moto()
        self.clock = clock
        self.lock = threading.RLock()
        """Held while a request to Secrets Manager, IAM or STS is carried out: each one is whole."""
        self.users = MotoUsers(clock)
        self._extras: dict[str, Extras] = {}
        self._replicas: dict[str, ReplicaExtras] = {}
        self._replica_at: dict[tuple[str, str, str], str] = {}
        """Account, Region and name -> ARN of a replica; moto keeps replicas by ARN."""
        self._ends: dict[str, datetime] = {}
        self._principals: dict[str, Principal] = {}

    def reset(self) -> None:
        """Forget everything, moto's objects included."""
        from moto.moto_api._internal.models import moto_api_backend

        with self.lock:
            moto_api_backend.reset()
            self.users.clear()
            self._extras.clear()
            self._replicas.clear()
            self._replica_at.clear()
            self._ends.clear()
            self._principals.clear()

    # --- principals

    def principal(self, access_key_id: str) -> Principal:
        """Return who holds an access key; moto takes keys that it did not issue for its default account."""
        known = self._principals.get(access_key_id)
        if known is not None:
            return known
        account, user = self.users.owner_of_key(access_key_id)
        if user is not None:  # never kept: its name may change
            return Principal(access_key_id, account, user.arn)
        from moto.sts.models import sts_backends

        role = sts_backends[account]["aws"].get_assumed_role_from_access_key(access_key_id)
        if role is None:
            return Principal(access_key_id, account, f"arn:aws:sts::{account}:user/moto")
        principal = Principal(access_key_id, account, role.arn, role.role_arn, self._ends.get(access_key_id))
        self._principals[access_key_id] = principal
        return principal

    def begin_session(self, access_key_id: str, seconds: float) -> datetime:
        """Note when a session ends; return it."""
        self._ends[access_key_id] = ends_at = self.clock.now() + timedelta(seconds=seconds)
        self._principals.pop(access_key_id, None)
        return ends_at

    def end_sessions(self, role_arn: str | None) -> None:
        """End the sessions of a role now; None means all roles."""
        now = self.clock.now()
        for key in list(self._ends):
            if role_arn in (None, self.principal(key).role_arn):
                self._ends[key] = now
        self._principals.clear()

    def make_user(self, account: str, name: str) -> tuple[str, str]:
        """Make an IAM user with an access key in an account; return the key's id and its secret part."""
        with self.lock:
            user = self.users.find(account, name) or self.users.create(account, name)
            key = self.users.create_key(user)
        return key.access_key_id, key.secret_access_key

    def role_external_id(self, role_arn: str) -> str | None:
        """Return the External ID that a role's trust policy requires, None if it requires none or is unknown."""
        from moto.iam.models import iam_backends

        account, _, name = role_arn.removeprefix("arn:aws:iam::").partition(":role/")
        if not account.isdigit():
            return None
        for role in list(iam_backends[account]["aws"].roles.values()):
            if role.name == name.rpartition("/")[2]:
                statements = json.loads(role.assume_role_policy_document)["Statement"]
                statements = statements if isinstance(statements, list) else [statements]
                wanted = [
                    statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId")
                    for statement in statements
                    if _allows_assume_role(statement.get("Action", []))
                ]
                return None if not wanted or None in wanted else str(wanted[0])
        return None

    # --- KMS keys

    def key(self, account: str, region: str, key_id: str) -> Any | None:
        """Return moto's key by its id (not by ARN or alias), or None if there is none."""
        from moto.kms.models import kms_backends

        return kms_backends[account][region].keys.get(key_id)

    def key_of_alias(self, account: str, region: str, alias: str) -> Any | None:
        """Return moto's key that an alias points to, or None if there is no such alias."""
        from moto.kms.models import kms_backends

        for key in kms_backends[account][region].keys.values():
            if alias in key.aliases:
                return key
        return None

    def make_key(self, account: str, region: str, *, key_id: str | None, spec: str, usage: str) -> Any:
        """Make a KMS key, with an id of the caller's choice if one is given."""
        from moto.kms.models import kms_backends

        backend = kms_backends[account][region]
        key = backend.create_key(None, usage, spec, "", [])
        if key_id is not None:
            del backend.keys[key.id]
            key.id, key.arn = key_id, key.arn.replace(key.id, key_id)
            backend.keys[key_id] = key
        return key

    # --- secrets

    def find(self, account: str, region: str, secret_id: str) -> Any | None:
        """
        Return a secret or a replica, or None if there is none.

        A part of an ARN finds it too, unless its name ends like an ARN (User Guide, troubleshooting, partial ARN).
        """
        name = secret_id
        if secret_id.startswith("arn:"):
            parts = _FULL_ARN.fullmatch(secret_id)
            if parts is None or (parts[1], parts[2]) != (region, account):
                return None
            name = parts[3]
        store = self._store(account, region)
        if secret_id.startswith("arn:") and _SUFFIX.fullmatch(name[-7:]):
            secret = self._named(store, account, region, name[:-7])
            return secret if secret is not None and secret.arn == secret_id else None
        return self._named(store, account, region, name)

    def secrets(self, account: str, region: str) -> list[Any]:
        """Return the secrets and replicas of a Region, deletions that are due carried out."""
        now = self.clock.now()
        return [each for each in list(dict.values(self._store(account, region))) if self._is_visible(each, now)]

    def count(self, account: str, region: str) -> int:
        """Return how many secrets and replicas a Region has; deletions that are due may still count."""
        return len(self._store(account, region))

    def create(self, account: str, region: str, name: str, *, now: datetime | None = None) -> Any:
        """Make a secret without a value. `now`: when; None means the time of the clock."""
        from moto.secretsmanager.models import FakeSecret

        secret = FakeSecret(account, region, name, {}, "", version_stages=[])
        dict.__setitem__(self._store(account, region), name, secret)
        at = now or self.clock.now()
        self._extras[secret.arn] = Extras(created_at=at, changed_at=at)
        return secret

    def remove(self, secret: Any) -> None:
        """Remove a secret for good; its extras stay for a list that lags."""
        dict.pop(self._store(secret.account_id, secret.region), secret.name, None)
        self.extras(secret).gone_at = None

    def extras(self, secret: Any) -> Extras:
        """Return what moto does not keep of a secret; a replica has its primary's."""
        source = self.source_of(secret)
        extras = self._extras.get(source.arn)
        if extras is None:  # made past the emulator, by moto itself
            created = datetime.fromtimestamp(source.created_date or 0, UTC)
            extras = self._extras[source.arn] = Extras(created_at=created, changed_at=created)
        return extras

    def all_extras(self, account: str, region: str) -> Iterator[tuple[str, Extras]]:
        """Yield ARN and extras of every secret that was ever made in a Region, deleted ones included."""
        here = f":{region}:{account}:secret:"
        yield from ((arn, extras) for arn, extras in list(self._extras.items()) if here in arn)

    def extras_of_arn(self, arn: str) -> Extras | None:
        """Return the extras of a secret that ever existed, by its ARN, None if none did."""
        return self._extras.get(arn)

    def touch(self, secret: Any) -> None:
        """
        Note a change (API reference, DescribeSecret: LastChangedDate, "modified in any way").

        Every kind of change moves the date here. Whether AWS does so for each kind was not tried.
        """
        self.extras(secret).changed_at = self.clock.now()

    # --- replicas

    def is_replica(self, secret: Any) -> bool:
        """Return whether this is a replica."""
        return hasattr(secret, "source")

    def source_of(self, secret: Any) -> Any:
        """Return the primary of a replica; a primary returns itself."""
        return getattr(secret, "source", secret)

    def replica_extras(self, replica: Any) -> ReplicaExtras:
        """Return what moto does not keep of a replica."""
        return self._replicas.setdefault(replica.arn, ReplicaExtras(in_sync_at=self.clock.now()))

    def add_replica(self, source: Any, region: str, extras: ReplicaExtras) -> None:
        """Attach a replica; one that failed is attached to its primary only."""
        from moto.secretsmanager.models import ReplicaSecret

        failed = extras.message is not None
        replica = ReplicaSecret(source, region, "Failed" if failed else None, extras.message)
        source.replicas.append(replica)
        self._replicas[replica.arn] = extras
        if not failed:
            dict.__setitem__(self._store(source.account_id, region), replica.arn, replica)
            self._replica_at[source.account_id, region, source.name] = replica.arn

    def drop_replica(self, replica: Any) -> None:
        """Detach and remove a replica."""
        replica.source.replicas.remove(replica)
        account, region = replica.source.account_id, replica.region
        if self.replica_extras(replica).message is None:
            dict.pop(self._store(account, region), replica.arn, None)
            self._replica_at.pop((account, region, replica.name), None)
        self._replicas.pop(replica.arn, None)

    def promote(self, replica: Any) -> Any:
        """Make a replica a secret of its own; it keeps its ARN."""
        source, extras = replica.source, self.extras(replica)
        kms_key = self.replica_extras(replica).kms_key
        self.drop_replica(replica)
        secret = self.create(source.account_id, replica.region, source.name)
        self._extras.pop(secret.arn)
        secret.arn = replica.arn
        secret.description, secret.policy, secret.kms_key_id = source.description, source.policy, kms_key
        secret.tags = [dict(tag) for tag in source.tags or []] or None
        secret.versions = {
            version_id: {**version, "version_stages": list(version["version_stages"])}
            for version_id, version in source.versions.items()
        }
        secret.default_version_id = source.default_version_id
        self._extras[secret.arn] = Extras(created_at=extras.created_at, changed_at=self.clock.now())
        return secret

    # --- private

    def _store(self, account: str, region: str) -> Any:
        from moto.secretsmanager.models import secretsmanager_backends

        return secretsmanager_backends[account][region].secrets

    def _named(self, store: Any, account: str, region: str, name: str) -> Any | None:
        secret = dict.get(store, name)
        if secret is None:
            secret = dict.get(store, self._replica_at.get((account, region, name), ""))
        return secret if secret is not None and self._is_visible(secret, self.clock.now()) else None

    def _is_visible(self, secret: Any, now: datetime) -> bool:
        """Return whether calls see a secret; a deletion that is due is carried out here."""
        if self.is_replica(secret):
            return self.replica_extras(secret).in_sync_at <= now
        gone_at = self.extras(secret).gone_at
        if gone_at is not None and gone_at <= now:
            self.remove(secret)
            return False
        return True


def _allows_assume_role(action: str | list[str]) -> bool:
    """Return whether a statement of a trust policy is about AssumeRole; sts:TagSession alone allows no one."""
    actions = {action} if isinstance(action, str) else set(action)
    return not actions.isdisjoint({"sts:AssumeRole", "sts:*", "*"})
