"""
Secrets Manager in memory: the objects of all accounts and Regions, with AWS's manners.

It is stricter than the emulators: refusals on what is scheduled for deletion, limits of size, labels, tags, versions.
Where a test plays somebody else who changes things, it calls a method that begins with `outside_`.
Must not know hooks or counts; those are in `fake_destination.py`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from phasesync.core.mapping import check_size
from phasesync.core.model import AWS_MANAGED_KEY, SecretValue
from phasesync.core.remote import CURRENT, PENDING, PREVIOUS, Occupied, Payload, Written
from phasesync.errors import DestinationRejectedError, QuotaExceededError, RemoteChangedError

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-west-1"
START: Final = datetime(2030, 1, 1, tzinfo=UTC)

VALID_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_MAX_TAGS: Final = 50
_MAX_VERSIONS: Final = 100
_KEPT_FOR: Final = timedelta(hours=24)
"""Versions younger than this are never pruned (User Guide, secret versions)."""


@dataclass
class FakeVersion:
    """One version of an object."""

    id: str
    value: SecretValue = field(repr=False)
    labels: set[str]
    written_at: datetime


@dataclass
class FakeObject:
    """One secret, as it stands. `versions` is in the order of writing, superseded ones included."""

    name: str
    arn: str
    description: str = ""
    kms_key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[str, FakeVersion] = field(default_factory=dict)
    deleted_at: datetime | None = None
    rotation_enabled: bool = False
    owning_service: str | None = None
    primary_region: str | None = None

    @property
    def current(self) -> FakeVersion | None:
        """The version that readers get."""
        return next((version for version in self.versions.values() if CURRENT in version.labels), None)

    @property
    def previous(self) -> FakeVersion | None:
        """The version that readers got before."""
        return next((version for version in self.versions.values() if PREVIOUS in version.labels), None)

    def text(self) -> str:
        """Return the current value as text; AssertionError when there is none."""
        if self.current is None:
            raise AssertionError(f"{self.name} has no current version")
        return self.current.value.reveal_text()


class FakeRemote:
    """All objects. Default account and Region serve tests that need only one of each."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: START) -> None:
        """
        Args:
            now: the time, for versions and deletions.
        """
        self.now = now
        self.objects: dict[tuple[str, str, str], FakeObject] = {}
        self._made = 0

    def object(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> FakeObject:
        """Return an object by name or ARN; KeyError when there is none."""
        found = self.find(name, account=account, region=region)
        if found is None:
            raise KeyError(f"no object {name} in {account} {region}")
        return found

    def find(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> FakeObject | None:
        """Return an object by name or ARN, None when there is none."""
        for (its_account, its_region, its_name), candidate in self.objects.items():
            if (its_account, its_region) == (account, region) and name in (its_name, candidate.arn):
                return candidate
        return None

    # --- what AWS does when it is asked to write

    def create(
        self,
        name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
        account: str,
        region: str,
    ) -> Written | Occupied:
        """CreateSecret."""
        self._check(payload, token)
        if not VALID_NAME.fullmatch(name):
            raise _rejected("CreateSecret")
        there = self.find(name, account=account, region=region)
        if there is not None:
            if there.deleted_at is not None:
                raise _in_the_way("CreateSecret")
            former = there.versions.get(token)
            # The same request once more is answered as the first time.
            return Occupied() if former is None or former.value != payload.value else _written(there, former, None)
        _check_tags({}, tags)
        self._made += 1
        made = FakeObject(
            name=name,
            arn=f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-{_suffix(self._made)}",
            description=description or "",
            kms_key=None if kms_key == AWS_MANAGED_KEY else kms_key,
            tags=dict(tags),
        )
        self.objects[account, region, name] = made
        return _written(made, self._add_version(made, token, payload.value), None)

    def put(self, found: FakeObject | None, payload: Payload, *, token: str) -> Written | Occupied:
        """PutSecretValue without labels: the new version becomes current, the one before it previous."""
        self._check(payload, token)
        there = _writable(found, "PutSecretValue")
        former = there.versions.get(token)
        if former is not None:
            same = former.value == payload.value
            return _written(there, former, CURRENT in former.labels) if same else Occupied()
        self._prune(there)
        return _written(there, self._add_version(there, token, payload.value), True)

    def update(
        self,
        found: FakeObject | None,
        *,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str] | None,
        untag: Sequence[str],
    ) -> None:
        """UpdateSecret, TagResource and UntagResource, whichever is asked for."""
        there = _writable(found, "UpdateSecret")
        if description is not None:
            there.description = description
        if kms_key is not None:
            there.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        if tags:
            _check_tags(there.tags, tags)
            there.tags.update(tags)
        for key in untag:
            there.tags.pop(key, None)

    def restore(self, found: FakeObject | None) -> None:
        """RestoreSecret."""
        if found is None:
            raise _missing("RestoreSecret")
        found.deleted_at = None

    # --- what somebody else does

    def outside_create(
        self,
        name: str,
        value: str | bytes = "theirs",
        *,
        tags: Mapping[str, str] | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> FakeObject:
        """Somebody makes an object."""
        self._made += 1
        made = FakeObject(
            name=name,
            arn=f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-{_suffix(self._made)}",
            tags=dict(tags or {}),
        )
        self.objects[account, region, name] = made
        self._add_version(made, f"outside-{self._made:032}", SecretValue(value))
        return made

    def outside_put(self, name: str, value: str | bytes, *, account: str = ACCOUNT, region: str = REGION) -> str:
        """Somebody writes a value; return its version id."""
        self._made += 1
        there = self.object(name, account=account, region=region)
        return self._add_version(there, f"outside-{self._made:032}", SecretValue(value)).id

    def outside_delete(
        self, name: str, *, recovery_days: int | None = 30, account: str = ACCOUNT, region: str = REGION
    ) -> None:
        """Somebody deletes an object: scheduled, or at once where `recovery_days` is None."""
        there = self.object(name, account=account, region=region)
        if recovery_days is None:
            del self.objects[account, region, there.name]
        else:
            there.deleted_at = self.now() + timedelta(days=recovery_days)

    def outside_tag(self, name: str, tags: Mapping[str, str], *, untag: Sequence[str] = ()) -> None:
        """Somebody changes tags, ours included."""
        there = self.object(name)
        there.tags.update(tags)
        for key in untag:
            there.tags.pop(key, None)

    def outside_rotation(self, name: str) -> None:
        """Somebody has AWS rotate the object: a pending version appears."""
        there = self.object(name)
        there.rotation_enabled = True
        self._made += 1
        version_id = f"rotation-{self._made:032}"
        there.versions[version_id] = FakeVersion(version_id, SecretValue("rotating"), {PENDING}, self.now())

    def _check(self, payload: Payload, token: str) -> None:
        check_size(payload)
        if not 32 <= len(token) <= 64 or len(payload.value) == 0:
            raise _rejected("the request")

    def _add_version(self, there: FakeObject, version_id: str, value: SecretValue) -> FakeVersion:
        version = there.versions[version_id] = FakeVersion(version_id, value, set(), self.now())
        _make_current(there, version)
        return version

    def _prune(self, there: FakeObject) -> None:
        """Make room for a version: what has no label and is older than a day goes, oldest first."""
        for version in list(there.versions.values()):
            if len(there.versions) < _MAX_VERSIONS:
                return
            if not version.labels and self.now() - version.written_at > _KEPT_FOR:
                del there.versions[version.id]
        if len(there.versions) >= _MAX_VERSIONS:
            raise QuotaExceededError(
                "the secret has 100 versions, none of them old enough", code="LimitExceededException"
            )


def _make_current(there: FakeObject, version: FakeVersion) -> None:
    former = there.current
    if former is version:
        return
    for other in there.versions.values():
        other.labels.discard(PREVIOUS)
    if former is not None:
        former.labels.discard(CURRENT)
        former.labels.add(PREVIOUS)
    version.labels.add(CURRENT)


def _writable(found: FakeObject | None, operation: str) -> FakeObject:
    if found is None:
        raise _missing(operation)
    if found.deleted_at is not None or found.owning_service is not None:
        raise _in_the_way(operation)
    return found


def _check_tags(there: Mapping[str, str], more: Mapping[str, str]) -> None:
    if len({*there, *more}) > _MAX_TAGS or any(key.startswith("aws:") for key in more):
        raise _rejected("TagResource")


def _written(there: FakeObject, version: FakeVersion, current: bool | None) -> Written:
    return Written(arn=there.arn, version_id=version.id, current=current)


def _missing(operation: str) -> RemoteChangedError:
    return RemoteChangedError(f"{operation}: there is no such object", code="ResourceNotFoundException")


def _in_the_way(operation: str) -> RemoteChangedError:
    return RemoteChangedError(f"{operation}: the object does not allow it now", code="InvalidRequestException")


def _rejected(what: str) -> DestinationRejectedError:
    return DestinationRejectedError(f"AWS rejects {what}", code="InvalidParameterException")


def _suffix(number: int) -> str:
    """Return the six characters that end an ARN; another object of the same name gets others."""
    return f"{number:06}".translate(str.maketrans("0123456789", "AbCdEfGhIj"))
