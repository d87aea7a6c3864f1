"""
The ports `Destinations` and `Destination` on objects in memory, with hooks for tests.

    remote = FakeRemote()
    destinations = FakeDestinations(remote, instance_id="...")
    destinations.fail("put_value", when="after")        the write lands, the answer is lost
    destinations.on_call = lambda when, call: ...       kill, pause or write from outside at any step
    destinations.log                                    names of all calls, in order

Passes the same contract suite as the real adapter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from phasesync.core.model import Credential, CredentialStatus, SecretValue
from phasesync.core.remote import TAG_INSTANCE, Observed, Occupied, Payload, RemoteListing, Written
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    PhasesyncError,
)
from phasesync.testing.fake_remote import ACCOUNT, VALID_NAME, FakeObject, FakeRemote

T = TypeVar("T")
When = Literal["before", "after"]


@dataclass
class _Fault:
    call: str
    when: When
    error: PhasesyncError
    times: int


class FakeDestinations:
    """Opens fake destinations on one set of objects; faults and hooks hold for all of them."""

    def __init__(self, remote: FakeRemote, *, instance_id: str, kind: str = "aws-secrets-manager") -> None:
        """
        Args:
            remote: the objects.
            instance_id: objects that carry it as a tag are listed as ours.
            kind: the only destination kind there is.
        """
        self.remote = remote
        self.instance_id = instance_id
        self.log: list[str] = []
        self.on_call: Callable[[When, str], None] | None = None
        self.accounts: dict[str, str] = {}
        """Credential id -> account that it leads to; others lead to the account of their role, else the pinned one."""
        self._kind = kind
        self._faults: list[_Fault] = []

    def open(self, kind: str, credential: Credential, region: str) -> "FakeDestination":
        """Return a destination for one run. CredentialRejectedError where the credential is incomplete."""
        self._check_kind(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise CredentialRejectedError(f"the credential {credential.name} is incomplete")
        return FakeDestination(self, self._account_of(credential), region)

    def fail(self, call: str, *, when: When = "before", error: PhasesyncError | None = None, times: int = 1) -> None:
        """
        Have the next calls fail.

        Args:
            call: name of a method of `Destination`.
            when: before = nothing happens; after = it happens, and then the error is raised.
            error: None = what such a failure is in life: unavailable before, unknown after.
            times: how many calls fail.
        """
        default = DestinationUnavailableError("no connection") if when == "before" else OutcomeUnknownError("no answer")
        self._faults.append(_Fault(call, when, error or default, times))

    def reach(self, when: When, call: str) -> None:
        """Go past one point of a call: tell the test, then raise what it asked for."""
        if self.on_call is not None:
            self.on_call(when, call)
        for fault in self._faults:
            if (fault.call, fault.when) == (call, when) and fault.times > 0:
                fault.times -= 1
                raise fault.error

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        self._check_kind(kind)
        if not VALID_NAME.fullmatch(remote_name):
            raise InvalidInputError("this is not a name of an AWS secret")

    def _check_kind(self, kind: str) -> None:
        if kind != self._kind:
            raise NotFoundError(f"{kind!r} is not a destination kind")

    def _account_of(self, credential: Credential) -> str:
        of_role = credential.role_arn.split(":")[4] if credential.role_arn else None
        return self.accounts.get(credential.id) or of_role or credential.account or ACCOUNT


class FakeDestination:
    """One account and Region, for one run."""

    def __init__(self, owner: FakeDestinations, account: str, region: str) -> None:
        """
        Args:
            owner: holds objects, faults and hooks.
            account: the account that it leads to.
            region: the Region.
        """
        self._owner = owner
        self._remote = owner.remote
        self._account = account
        self._region = region
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many calls were made through this object."""
        return self._calls

    def account_id(self) -> str:
        """Return the account; not counted, as for the real one it is not a call of the service."""
        self._owner.reach("before", "account_id")
        return self._account

    def observe(self, remote_name: str) -> Observed | None:
        """DescribeSecret."""
        return self._call("observe", lambda: _observed(self._find(remote_name)))

    def create(
        self,
        remote_name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
    ) -> Written | Occupied:
        """CreateSecret."""
        return self._call(
            "create",
            lambda: self._remote.create(
                remote_name,
                payload,
                token=token,
                description=description,
                kms_key=kms_key,
                tags=tags,
                account=self._account,
                region=self._region,
            ),
        )

    def put_value(self, arn: str, payload: Payload, *, token: str) -> Written | Occupied:
        """PutSecretValue."""
        return self._call("put_value", lambda: self._remote.put(self._find(arn), payload, token=token))

    def update_metadata(
        self,
        arn: str,
        *,
        description: str | None = None,
        kms_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
    ) -> None:
        """UpdateSecret, TagResource and UntagResource: one call for each thing that is given."""
        if description is not None:
            self._update(arn, description=description)
        if kms_key is not None:
            self._update(arn, kms_key=kms_key)
        if tags:
            self._update(arn, tags=tags)
        if untag:
            self._update(arn, untag=untag)

    def restore(self, arn: str) -> None:
        """RestoreSecret."""
        self._call("restore", lambda: self._remote.restore(self._find(arn)))

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """ListSecrets, with those scheduled for deletion."""
        here = (self._account, self._region)
        return self._call(
            "list_names",
            lambda: [
                self._listing(found)
                for (account, region, _), found in sorted(self._remote.objects.items())
                if (account, region) == here
            ][:limit],
        )

    def read_value(self, remote_name: str) -> SecretValue | None:
        """GetSecretValue."""
        return self._call("read_value", lambda: _value(self._find(remote_name)))

    def _find(self, name: str) -> FakeObject | None:
        return self._remote.find(name, account=self._account, region=self._region)

    def _update(
        self,
        arn: str,
        *,
        description: str | None = None,
        kms_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
    ) -> None:
        self._call(
            "update_metadata",
            lambda: self._remote.update(
                self._find(arn), description=description, kms_key=kms_key, tags=tags, untag=untag
            ),
        )

    def _call(self, name: str, act: Callable[[], T]) -> T:
        self._calls += 1
        self._owner.log.append(name)
        self._owner.reach("before", name)
        answer = act()
        self._owner.reach("after", name)
        return answer

    def _listing(self, found: FakeObject) -> RemoteListing:
        return RemoteListing(
            name=found.name,
            arn=found.arn,
            description=found.description,
            ours=found.tags.get(TAG_INSTANCE) == self._owner.instance_id,
            deleted_at=found.deleted_at,
            owning_service=found.owning_service,
        )


def _observed(found: FakeObject | None) -> Observed | None:
    if found is None:
        return None
    return Observed(
        arn=found.arn,
        name=found.name,
        versions={version.id: frozenset(version.labels) for version in found.versions.values() if version.labels},
        description=found.description,
        kms_key=found.kms_key,
        tags=dict(found.tags),
        deleted_at=found.deleted_at,
        rotation_enabled=found.rotation_enabled,
        owning_service=found.owning_service,
        primary_region=found.primary_region,
    )


def _value(found: FakeObject | None) -> SecretValue | None:
    if found is None or found.current is None:
        return None
    if found.deleted_at is not None:
        raise DestinationRejectedError("AWS does not show a deleted value", code="InvalidRequestException")
    return found.current.value
