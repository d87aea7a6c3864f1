"""
The ports `Destinations` and `Destination` on objects in memory, with hooks for tests.

    remote = FakeRemote()
    destinations = FakeDestinations(remote, instance_id="...")
    destinations.fail("put_value", when="after")        the write lands, the answer is lost
    destinations.on_call = lambda when, call: ...       kill, pause or write from outside at any step
    destinations.log                                    names of all calls, in order

Passes the same contract suite as the real adapter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.model import SecretValue
from phasesync.core.remote import (
    TAG_INSTANCE,
    ChangesPage,
    Observed,
    Payload,
    RemoteListing,
    ResourceExists,
    WriteResult,
)
from phasesync.errors import (
    CredentialRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    PhasesyncError,
)
from tests.fakes.remote import ACCOUNT, VALID_NAME, FakeObject, FakeRemote
from tests.support.reads import reads

T = TypeVar("T")
When = Literal["before", "after"]

_PAGE: Final = 100


@dataclass
class _Fault:
    call: str
    when: When
    error: PhasesyncError
    times: int


class FakeDestinations:
    """
    Opens fake destinations on one set of objects; faults and hooks hold for all of them.

    `log` has the names of all calls, in order.
    """

    def __init__(self, remote: FakeRemote, *, instance_id: str, kind: str = "aws-secrets-manager") -> None:
        """
        Args:
            remote: the objects.
            instance_id: objects that carry it as a tag are listed as ours.
            kind: the only destination kind there is.
        """
        self.log: list[str] = []
        self.on_call: Callable[[When, str], None] | None = None
        self._faults: list[_Fault] = []
        self.remote = remote
        self.instance_id = instance_id
        self.accounts: dict[str, str] = {}
        """Credential id -> account that it leads to; others lead to the account of their role, else the pinned one."""
        self._kind = kind

    def fail(self, call: str, *, when: When = "before", error: PhasesyncError | None = None, times: int = 1) -> None:
        """
        Let the next calls fail.

        Args:
            call: name of a method of `Destination`, or `resolve_key`.
            when: before = nothing happens; after = it happens, and then the error is raised.
            error: None means the usual one: unavailable before, unknown after.
            times: how many calls fail.
        """
        default = DestinationUnavailableError("no connection") if when == "before" else OutcomeUnknownError("no answer")
        self._faults.append(_Fault(call, when, error or default, times))

    def reach(self, when: When, call: str) -> None:
        """Pass one point of a call: call the hook, then raise the error that a test has asked for."""
        if self.on_call is not None:
            self.on_call(when, call)
        for fault in self._faults:
            if (fault.call, fault.when) == (call, when) and fault.times > 0:
                fault.times -= 1
                raise fault.error

    def open(
        self, kind: str, credential: Credential, region: str, *, tenant: str = "", fresh: bool = False
    ) -> "FakeDestination":
        """Return a destination for one run. CredentialRejectedError where the credential is incomplete."""
        self._check(kind, credential)
        return FakeDestination(self, self._account_of(credential), region)

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """Return the ARN of a KMS key. InvalidInputError where it does not fit; PermissionDeniedError."""
        self._check(kind, credential)
        self.log.append("resolve_key")
        self.reach("before", "resolve_key")
        arn = self.remote.keys.resolve(key, account=self._account_of(credential), region=region)
        self.reach("after", "resolve_key")
        return arn

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        self._check_kind(kind)
        if not VALID_NAME.fullmatch(remote_name):
            raise InvalidInputError("this is not a name of an AWS secret")

    def _check(self, kind: str, credential: Credential) -> None:
        self._check_kind(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise CredentialRejectedError(f"the credential {credential.name} is incomplete")

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
        return self._call("observe", lambda: self._observed(remote_name))

    def create(
        self,
        remote_name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
    ) -> WriteResult | ResourceExists:
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

    def put_value(self, arn: str, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
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

    def delete(self, arn: str, *, recovery_days: int | None) -> None:
        """DeleteSecret."""
        self._call("delete", lambda: self._remote.delete(self._find(arn), recovery_days=recovery_days))

    def replicate(self, arn: str, regions: Mapping[str, str]) -> None:
        """ReplicateSecretToRegions."""
        if regions:
            self._call("replicate", lambda: self._remote.replicate(self._find(arn), regions))

    def remove_replicas(self, arn: str, regions: Sequence[str]) -> None:
        """RemoveRegionsFromReplication."""
        if regions:
            self._call("remove_replicas", lambda: self._remote.remove_replicas(self._find(arn), regions))

    def resource_policy(self, arn: str) -> str | None:
        """GetResourcePolicy."""
        return self._call("resource_policy", lambda: self._remote.policy_of(self._find(arn)))

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """ValidateResourcePolicy and PutResourcePolicy: two calls, one entry of the log."""
        self._calls += 1
        self._call("put_resource_policy", lambda: self._remote.put_policy(self._find(arn), policy))

    def sweep(self, instance_id: str | None) -> Iterator[Observed]:
        """ListSecrets, a call for each 100 objects with our instance tag, or with that of any instance."""
        first = 0
        while True:
            listed = self._call("sweep", lambda: self._listed(instance_id))
            page = [item for item in listed if TAG_INSTANCE in item.tags][first : first + _PAGE + 1]
            yield from page[:_PAGE]
            if len(page) <= _PAGE:
                return
            first += _PAGE

    def sweep_newest(self, instance_id: str) -> Iterator[ChangesPage]:
        """ListSecrets with SortBy=last-changed-date, page by page."""
        first = 0
        while True:
            listed = self._call("sweep_newest", lambda: self._remote.newest_first(self._listed(instance_id)))
            yield ChangesPage(entries=tuple(listed[first : first + _PAGE]), answered_at=self._remote.now())
            first += _PAGE
            if first >= len(listed):
                return

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """ListSecrets, with those scheduled for deletion."""
        return self._call("list_names", lambda: [self._listing(listed) for listed in self._listed()[:limit]])

    def read_value(self, remote_name: str) -> SecretValue | None:
        """GetSecretValue. Refused, as everything that reads, unless the test asks for the right."""

        def read() -> SecretValue | None:
            reads.check("GetSecretValue")
            return self._remote.read(self._find(remote_name))

        return self._call("read_value", read)

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

    def _observed(self, name: str) -> Observed | None:
        fake_object = self._find(name)
        return None if fake_object is None else fake_object.observed()

    def _listed(self, instance_id: str | None = None) -> list[Observed]:
        listed = self._remote.listed(account=self._account, region=self._region)
        return [observed for observed in listed if instance_id in (None, observed.tags.get(TAG_INSTANCE))]

    def _listing(self, observed: Observed) -> RemoteListing:
        return RemoteListing(
            name=observed.name,
            arn=observed.arn,
            description=observed.description,
            ours=observed.tags.get(TAG_INSTANCE) == self._owner.instance_id,
            deleted_at=observed.deleted_at,
            owning_service=observed.owning_service,
            external_type=observed.external_type,
        )
