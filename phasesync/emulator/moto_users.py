"""
IAM users, groups and policies of all accounts: moto's objects, and what moto does not keep about them.

Only this file and `moto_state.py` touch moto. The rules of the `iam_*` files decide what happens. Everything is in the
partition `aws`. Callers that change anything hold `MotoState.lock`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from phasesync.emulator.clock import EmulatorClock

_PARTITION: Final = "aws"
_AWS_MANAGED: Final = "arn:aws:iam::aws:policy/"
_LONG_LIVED: Final = "AKIA"


@dataclass(frozen=True)
class ServiceCredential:
    """A name and a password for one service, such as Git's for CodeCommit."""

    credential_id: str
    service: str
    service_user: str
    password: str = field(repr=False)
    created_at: datetime


@dataclass
class UserExtras:
    """What moto does not keep of a user."""

    boundary: str | None = None
    """ARN of the permissions boundary."""
    service_credentials: list[ServiceCredential] = field(default_factory=list)


@dataclass(frozen=True)
class _Issued:
    """An access key that was made here; it may be deleted since."""

    account: str
    made_at: datetime


class MotoUsers:
    """The IAM users of all accounts."""

    def __init__(self, clock: EmulatorClock) -> None:
        """
        Args:
            clock: the time of everything.
        """
        self._clock = clock
        self._extras: dict[str, UserExtras] = {}
        """By the user's id, which a new name does not change."""
        self._issued: dict[str, _Issued] = {}
        self._hidden: dict[str, tuple[datetime, bool]] = {}
        """User id -> until when IAM does not find it, and whether it is hidden from lookups by key too."""

    def clear(self) -> None:
        """Forget what moto does not keep."""
        self._extras.clear()
        self._issued.clear()
        self._hidden.clear()

    # --- users

    def find(self, account: str, name: str) -> Any | None:
        """Return a user by its name, None if there is none or IAM does not find it now."""
        user = _backend(account).users.get(name)
        return None if user is None or self.is_hidden(user) else user

    def hide(self, account: str, name: str, takes: timedelta, *, with_keys: bool = True) -> None:
        """
        Hide a user from IAM for a time; its keys work meanwhile. IAM is eventually consistent.

        Args:
            account: of the user.
            name: of the user.
            takes: how long.
            with_keys: also hide it when it is looked up by a key.
        """
        self._hidden[_backend(account).users[name].id] = (self._clock.now() + takes, with_keys)

    def is_hidden(self, user: Any, *, by_key: bool = False) -> bool:
        """Return whether IAM does not find a user now; `by_key`: by one of its keys."""
        until, with_keys = self._hidden.get(user.id, (self._clock.now(), True))
        return self._clock.now() < until and (with_keys or not by_key)

    def all(self, account: str) -> list[Any]:
        """Return the users of an account."""
        return list(_backend(account).users.values())

    def create(self, account: str, name: str, path: str = "/") -> Any:
        """Make a user with nothing attached."""
        user = _backend(account).create_user(_PARTITION, name, path)
        user.create_date = self._now()
        return user

    def remove(self, user: Any) -> None:
        """Remove a user; it must have nothing attached."""
        _backend(user.account_id).delete_user(user.name)
        self._extras.pop(user.id, None)

    def move(self, user: Any, name: str, path: str) -> None:
        """Change name and path of a user; everything attached stays (moto would lose tags and keys)."""
        backend, tags = _backend(user.account_id), self.tags(user)
        self.set_tags(user, {})
        del backend.users[user.name]
        user.name, user.path = name, path
        backend.users[name] = user
        self.set_tags(user, tags)
        for credential in (*user.access_keys, *user.ssh_public_keys, *user.signing_certificates.values()):
            credential.user_name = name

    def extras(self, user: Any) -> UserExtras:
        """Return what moto does not keep of a user."""
        return self._extras.setdefault(user.id, UserExtras())

    def tags(self, user: Any) -> dict[str, str]:
        """Return the tags of a user."""
        tags: dict[str, str] = _backend(user.account_id).tagger.get_tag_dict_for_resource(user.arn)
        return tags

    def set_tags(self, user: Any, tags: Mapping[str, str]) -> None:
        """Replace the tags of a user."""
        tagger = _backend(user.account_id).tagger
        tagger.delete_all_tags_for_resource(user.arn)
        if tags:
            tagger.tag_resource(user.arn, [{"Key": key, "Value": value} for key, value in tags.items()])

    # --- groups, roles, devices

    def group(self, account: str, name: str) -> Any | None:
        """Return a group by its name, None if there is none."""
        return _backend(account).groups.get(name)

    def groups_of(self, user: Any) -> list[Any]:
        """Return the groups that a user is in."""
        return [group for group in list(_backend(user.account_id).groups.values()) if user in group.users]

    def arn(self, account: str, kind: str, name: str) -> str | None:
        """Return the ARN of a user, group, role or instance profile, None if it does not exist."""
        backend = _backend(account)
        if kind in ("user", "group"):
            entity = self.find(account, name) if kind == "user" else backend.groups.get(name)
            return None if entity is None else str(entity.arn)
        entities = {"role": backend.roles, "instance-profile": backend.instance_profiles}.get(kind, {})
        return next((str(entity.arn) for entity in list(entities.values()) if entity.name == name), None)

    def is_device_in_use(self, account: str, serial_number: str) -> bool:
        """Return whether a virtual MFA device belongs to a user."""
        device = _backend(account).virtual_mfa_devices.get(serial_number)
        return device is not None and device.user is not None

    # --- policies

    def policy(self, account: str, arn: str) -> Any | None:
        """Return a managed policy of an account or of AWS, None if there is none. moto loads AWS's only on request."""
        policies = _backend(account).managed_policies
        if arn not in policies and arn.startswith(_AWS_MANAGED):
            loaded = _aws_managed(account, arn)
            if loaded is not None:
                policies[arn] = loaded
        return policies.get(arn)

    def is_attached(self, account: str, arn: str) -> bool:
        """Return whether a managed policy is attached to anything of an account."""
        backend = _backend(account)
        holders = (*backend.users.values(), *backend.groups.values(), *backend.roles.values())
        return any(arn in holder.managed_policies for holder in holders)

    # --- access keys

    def create_key(self, user: Any) -> Any:
        """Make an access key of a user."""
        key = user.create_access_key(_LONG_LIVED)
        key.create_date = self._now()
        _backend(user.account_id).access_keys[key.access_key_id] = key
        self._issued[key.access_key_id] = _Issued(user.account_id, self._clock.now())
        return key

    def delete_key(self, user: Any, key: Any) -> None:
        """Delete an access key; that it existed is remembered."""
        user.access_keys.remove(key)
        _backend(user.account_id).access_keys.pop(key.access_key_id, None)

    def owner_of_key(self, access_key_id: str) -> tuple[str, Any | None]:
        """
        Return the account of an access key, and the user that it belongs to.

        The user is None if the key is unknown or belongs to the session of a role. moto takes keys that it did not
        issue for keys of its default account.
        """
        from moto.iam.models import get_account_id_from

        issued = self._issued.get(access_key_id)
        account = str(get_account_id_from(access_key_id)) if issued is None else issued.account
        backend = _backend(account)
        key = backend.access_keys.get(access_key_id)
        return account, None if key is None else backend.users.get(key.user_name)

    def is_usable(self, access_key_id: str, new_key_takes: timedelta) -> bool:
        """
        Return whether a key is accepted: it exists, is active and no longer new. Keys not issued here are accepted.

        Args:
            access_key_id: the key.
            new_key_takes: how long a key is new.
        """
        issued = self._issued.get(access_key_id)
        if issued is None:
            return True
        key = _backend(issued.account).access_keys.get(access_key_id)
        return key is not None and key.status == "Active" and issued.made_at + new_key_takes <= self._clock.now()

    def _now(self) -> datetime:
        """Return the time in moto's form: UTC, and naive."""
        return self._clock.now().replace(tzinfo=None)


def _backend(account: str) -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[account][_PARTITION]


def _aws_managed(account: str, arn: str) -> Any | None:
    """Make moto's object of one of AWS's own policies, None if moto's list has none of that ARN."""
    from moto.iam.models import AWSManagedPolicy

    name = arn.rpartition("/")[2]
    data = _aws_managed_policies().get(name)
    policy = None if data is None else AWSManagedPolicy.from_data(name, account, _PARTITION, data)
    return policy if policy is not None and policy.arn == arn else None


@cache
def _aws_managed_policies() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    policies: dict[str, Any] = json.loads(aws_managed_policies_data)
    return policies
