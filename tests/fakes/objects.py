"""
One secret of the fake, what the lists remember of it, and the refusals that several operations share.

Must not know what an operation of AWS allows; that is in `remote.py`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.core.remote import CURRENT, PREVIOUS, CrossAccountLink, Observed, Replica
from phasesync.errors import DestinationRejectedError, RemoteChangedError

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
        external_type: the partner that holds a managed external secret.
        cross_account_primary: of a copy of another account's secret; its value follows that one's.
        cross_account_copies: its copies in other accounts.
        replicas: Region -> how the copy there stands; a copy that is in sync is an object of its own.
        resource_policy: canonical JSON, as AWS words it.
        last_read_on: AWS shows the day only.
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
        """True for a copy of a primary in another Region."""
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
        """Return what DescribeSecret shows."""
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


class LateLists:
    """
    Lists that lag: ListSecrets shows a former state (API reference, ListSecrets: up to 5 minutes).

    Keeps as much of the past as the lag asks for.
    """

    def __init__(self) -> None:
        self._past: dict[tuple[str, str, str], list[tuple[datetime, Observed | None]]] = {}

    def note(
        self, at: datetime, account: str, region: str, name: str, looks: Observed | None, *, keep: timedelta
    ) -> None:
        """
        Remember how an object looks from now on.

        Args:
            at: now.
            account: of the object.
            region: of the object.
            name: of the object.
            looks: None if it no longer exists.
            keep: how much of the past may be asked for.
        """
        past = self._past.setdefault((account, region, name), [])
        past.append((at, looks))
        known = [number for number, (since, _) in enumerate(past) if since <= at - keep]
        if known:
            del past[: known[-1]]

    def as_of(self, at: Callable[[str], datetime], account: str, region: str) -> list[Observed]:
        """
        Return what a list of an account and Region shows, by name.

        Args:
            at: name -> the instant whose state is shown.
            account: that is listed.
            region: that is listed.
        """
        shown = []
        for key in sorted(self._past):
            if key[:2] == (account, region):
                looks = next((looks for since, looks in reversed(self._past[key]) if since <= at(key[2])), None)
                shown += [] if looks is None else [self.entry_of(looks)]
        return shown

    @staticmethod
    def entry_of(looks: Observed) -> Observed:
        """Return what a list shows of an object: nothing of copies (API reference, SecretListEntry)."""
        return replace(looks, replicas={}, cross_account_primary=None, cross_account_copies=())


def writable(secret: FakeObject | None, operation: str, *, value: bool = False) -> FakeObject:
    """
    Return an object that may be written to: no copy, not scheduled for deletion, not managed by a service.

    Only the value of a copy of another account's secret is not its own to change (User Guide, replicate across
    accounts).
    """
    if secret is None:
        raise missing(operation)
    if value and secret.cross_account_primary is not None:
        raise rejected(operation)
    if secret.is_replica:
        # "Operation not permitted on a replica secret": AWS counts it as a wrong parameter.
        raise rejected(operation)
    if secret.deleted_at is not None or secret.owning_service is not None:
        raise in_the_way(operation)
    return secret


def missing(operation: str) -> RemoteChangedError:
    """The refusal of a write to what does not exist."""
    return RemoteChangedError(f"{operation}: there is no such object", code="ResourceNotFoundException")


def in_the_way(operation: str, code: str = "InvalidRequestException") -> RemoteChangedError:
    """The refusal of a write that the object's state does not allow."""
    return RemoteChangedError(f"{operation}: the object does not allow it now", code=code)


def rejected(request: str, code: str = "InvalidParameterException") -> DestinationRejectedError:
    """The refusal of a request that is wrong in itself."""
    return DestinationRejectedError(f"AWS rejects {request}", code=code)
