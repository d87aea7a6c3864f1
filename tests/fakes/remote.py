"""
Secrets Manager in memory: the objects of all accounts and Regions, with AWS's manners.

It is stricter than the emulators: refusals on what is scheduled for deletion or a copy, limits of size, labels, tags,
versions. Where a test plays somebody else who changes things, it calls a method that begins with `outside_`.
Values and metadata are here, the rest is in files of its own. Must not know hooks or counts; those are in
`fake_destination.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.core.payloads import check_size
from phasesync.core.remote import CURRENT, Payload, ResourceExists, WriteResult
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, QuotaExceededError
from tests.fakes.cross_account import FakeCrossAccount
from tests.fakes.kms_keys import FakeKeys
from tests.fakes.objects import (
    ACCOUNT,
    REGION,
    START,
    VALID_NAME,
    FakeObject,
    FakeVersion,
    in_the_way,
    rejected,
    writable,
)
from tests.fakes.outsiders import FakeOutsiders
from tests.fakes.policies import FakePolicies
from tests.fakes.replication import FakeReplication

__all__ = ["ACCOUNT", "REGION", "START", "VALID_NAME", "FakeObject", "FakeRemote", "FakeVersion"]

_MAX_TAGS: Final = 50
_MAX_VERSIONS: Final = 100
_KEPT_FOR: Final = timedelta(hours=24)
"""Versions younger than this are never pruned (User Guide, secret versions)."""


class FakeRemote(FakeReplication, FakePolicies, FakeCrossAccount, FakeOutsiders):
    """All of it; `keys` are the KMS keys."""

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
        super().__init__(now=now, lag=lag, replicates_at_once=replicates_at_once)
        self.keys = FakeKeys()

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
    ) -> WriteResult | ResourceExists:
        """CreateSecret."""
        self._check(payload, token)
        if not VALID_NAME.fullmatch(name):
            raise rejected("CreateSecret")
        there = self.find(name, account=account, region=region)
        if there is not None:
            if there.deleted_at is not None:
                raise in_the_way("CreateSecret")
            former = there.versions.get(token)
            # The same request once more is answered as the first time.
            return (
                ResourceExists() if former is None or former.value != payload.value else _written(there, former, None)
            )
        _check_tags({}, tags)
        made = self.add(name, account=account, region=region)
        made.description = description or ""
        made.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        made.tags = dict(tags)
        return _written(made, self.add_version(made, token, payload.value), None)

    def put(self, found: FakeObject | None, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        """PutSecretValue without labels: the new version becomes current, the one before it previous."""
        self._check(payload, token)
        there = writable(found, "PutSecretValue", value=True)
        former = there.versions.get(token)
        if former is not None:
            same = former.value == payload.value
            return _written(there, former, CURRENT in former.labels) if same else ResourceExists()
        self._prune(there)
        written = _written(there, self.add_version(there, token, payload.value), True)
        self.follow(there)
        return written

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
        there = writable(found, "UpdateSecret")
        if description is not None:
            there.description = description
        if kms_key is not None:
            there.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        if tags:
            _check_tags(there.tags, tags)
            there.tags.update(tags)
        for key in untag:
            there.tags.pop(key, None)
        self.changed(there)

    def read(self, found: FakeObject | None) -> SecretValue | None:
        """GetSecretValue; AWS notes the day."""
        if found is None or found.current is None:
            return None
        if found.deleted_at is not None:
            raise DestinationRejectedError("AWS does not show a deleted value", code="InvalidRequestException")
        found.last_read_on = self.now().date()
        self.show(found)
        return found.current.value

    def _check(self, payload: Payload, token: str) -> None:
        check_size(payload)
        if not 32 <= len(token) <= 64 or len(payload.value) == 0:
            raise rejected("the request")

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


def _check_tags(there: Mapping[str, str], more: Mapping[str, str]) -> None:
    if len({*there, *more}) > _MAX_TAGS or any(key.startswith("aws:") for key in more):
        raise rejected("TagResource")


def _written(there: FakeObject, version: FakeVersion, current: bool | None) -> WriteResult:
    return WriteResult(arn=there.arn, version_id=version.id, current=current)
