"""
The objects of all accounts and Regions in memory, and what every part of the fake needs to find, change and refuse.

A change is shown to the lists by `changed`; a scheduled deletion comes true when the clock has passed it. Must not
know what an operation of AWS allows; that is in the parts: `fake_remote.py` and the files it puts together.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.core.remote import CURRENT, PREVIOUS, CrossAccountLink, Observed, Replica
from phasesync.errors import DestinationRejectedError, RemoteChangedError
from tests.fakes.lists import LateLists

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-west-1"
START: Final = datetime(2030, 1, 1, tzinfo=UTC)

VALID_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")


@dataclass
class FakeVersion:
    """One version of an object."""

    id: str
    value: SecretValue = field(repr=False)
    labels: set[str]
    written_at: datetime


@dataclass
class FakeObject:
    """
    One secret, as it stands.

    Attributes:
        versions: in the order of writing, superseded ones included.
        external_type: who holds a managed external secret.
        cross_account_primary: of a copy of another account's secret; its value follows that one's.
        cross_account_copies: its copies in other accounts.
        replicas: Region -> how the copy there stands; a copy that is in sync is an object of its own.
        resource_policy: canonical JSON, as AWS words it.
        last_read_on: AWS tells the day only.
        changed_at: when it was changed last, reads not counted.
    """

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
    external_type: str | None = None
    cross_account_primary: CrossAccountLink | None = None
    cross_account_copies: tuple[CrossAccountLink, ...] = ()
    replicas: dict[str, Replica] = field(default_factory=dict)
    resource_policy: str | None = None
    last_read_on: date | None = None
    changed_at: datetime | None = None

    @property
    def region(self) -> str:
        """The Region that it is in."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The account that it is in."""
        return self.arn.split(":")[4]

    @property
    def is_replica(self) -> bool:
        """True for a copy whose primary is in another Region."""
        return self.primary_region not in (None, self.region)

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

    def observed(self) -> Observed:
        """Return what DescribeSecret tells."""
        return Observed(
            arn=self.arn,
            name=self.name,
            versions={version.id: frozenset(version.labels) for version in self.versions.values() if version.labels},
            description=self.description,
            kms_key=self.kms_key,
            tags=dict(self.tags),
            deleted_at=self.deleted_at,
            rotation_enabled=self.rotation_enabled,
            owning_service=self.owning_service,
            primary_region=self.primary_region,
            external_type=self.external_type,
            cross_account_primary=self.cross_account_primary,
            cross_account_copies=self.cross_account_copies,
            replicas=dict(self.replicas),
            last_read_on=self.last_read_on,
            last_changed_at=self.changed_at,
        )


class FakeObjects:
    """All objects. Default account and Region serve tests that need only one of each."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: START,
        lag: timedelta = timedelta(0),
        replicates_at_once: bool = False,
    ) -> None:
        """
        Args:
            now: the time, for versions, deletions, reads and lists.
            lag: how long a change takes to show in lists; AWS says up to 5 minutes.
            replicates_at_once: copies are in sync at once; else they are in progress until `settle_replication`.
        """
        self.now = now
        self.lag = lag
        self.replicates_at_once = replicates_at_once
        self._objects: dict[tuple[str, str, str], FakeObject] = {}
        self._lists = LateLists()
        self._made = 0

    @property
    def objects(self) -> dict[tuple[str, str, str], FakeObject]:
        """(account, Region, name) -> object; those whose recovery window has ended are gone."""
        for there in list(self._objects.values()):
            if there.deleted_at is not None and there.deleted_at <= self.now():
                self.drop(there)
        return self._objects

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

    def listed(self, *, account: str, region: str) -> list[Observed]:
        """Return what ListSecrets shows, by name: as things stood `lag` ago, and nothing of copies."""
        if self.lag:
            return self._lists.as_of(self.now() - self.lag, account, region)
        return [
            LateLists.entry_of(there.observed())
            for (its_account, its_region, _), there in sorted(self.objects.items())
            if (its_account, its_region) == (account, region)
        ]

    def add(self, name: str, *, account: str, region: str) -> FakeObject:
        """Make an empty object; an earlier one of the name is replaced. Its maker calls `changed` when it is done."""
        self._made += 1
        there = FakeObject(
            name=name, arn=f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-{_suffix(self._made)}"
        )
        self._objects[account, region, name] = there
        return there

    def add_version(self, there: FakeObject, version_id: str, value: SecretValue) -> FakeVersion:
        """Write a version, which becomes the current one."""
        version = there.versions[version_id] = FakeVersion(version_id, value, set(), self.now())
        _make_current(there, version)
        self.changed(there)
        return version

    def new_version_id(self, by: str) -> str:
        """Return an id for a version that somebody else writes."""
        self._made += 1
        return f"{by}-{self._made:032}"

    def changed(self, there: FakeObject) -> None:
        """Note when an object was changed, and have it seen."""
        there.changed_at = self.now()
        self.show(there)

    def show(self, there: FakeObject) -> None:
        """Have lists show how an object looks now, later."""
        self._lists.note(self.now(), there.account, there.region, there.name, there.observed(), keep=self.lag)

    def drop(self, there: FakeObject) -> None:
        """Remove an object for good."""
        del self._objects[there.account, there.region, there.name]
        self._lists.note(self.now(), there.account, there.region, there.name, None, keep=self.lag)


def writable(found: FakeObject | None, operation: str, *, value: bool = False) -> FakeObject:
    """
    Return an object that may be written to: no copy, not scheduled for deletion, managed by nobody else.

    Only the value of a copy of another account's secret is not its own to change (User Guide, replicate across
    accounts).
    """
    if found is None:
        raise missing(operation)
    if value and found.cross_account_primary is not None:
        raise rejected(operation)
    if found.is_replica:
        # "Operation not permitted on a replica secret": AWS counts it as a wrong parameter.
        raise rejected(operation)
    if found.deleted_at is not None or found.owning_service is not None:
        raise in_the_way(operation)
    return found


def missing(operation: str) -> RemoteChangedError:
    """The refusal of a write to what does not exist."""
    return RemoteChangedError(f"{operation}: there is no such object", code="ResourceNotFoundException")


def in_the_way(operation: str, code: str = "InvalidRequestException") -> RemoteChangedError:
    """The refusal of a write that the object's state does not allow."""
    return RemoteChangedError(f"{operation}: the object does not allow it now", code=code)


def rejected(what: str, code: str = "InvalidParameterException") -> DestinationRejectedError:
    """The refusal of a request that is wrong in itself."""
    return DestinationRejectedError(f"AWS rejects {what}", code=code)


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


def _suffix(number: int) -> str:
    """Return the six characters that end an ARN; another object of the same name gets others."""
    return f"{number:06}".translate(str.maketrans("0123456789", "AbCdEfGhIj"))
