"""The remote place that a sync writes to: what every kind of destination implements."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from phasesync.core.credential import Credential
from phasesync.core.model import SecretValue
from phasesync.core.remote import ChangesPage, Observed, Payload, RemoteListing, ResourceExists, WriteResult


class Destination(Protocol):
    """
    One remote place under one credential, for one run. Reads, writes and reports evidence; never decides.

    Writes raise OutcomeUnknownError when they may have landed.
    """

    @property
    def calls(self) -> int:
        """Number of calls of the service that were made through this object."""
        ...

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        ...

    def observe(self, remote_name: str) -> Observed | None:
        """Describe one object, by name or ARN; None if it does not exist. Never reads a value."""
        ...

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
        """Create an object with its first version. Occupied: the name is taken, by us or by another writer."""
        ...

    def put_value(self, arn: str, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        """Write a version. Occupied: the token was used for another payload."""
        ...

    def update_metadata(
        self,
        arn: str,
        *,
        description: str | None = None,
        kms_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
    ) -> None:
        """Set what is given and leave the rest alone. A kms_key of AWS_MANAGED_KEY asks for the AWS-managed key."""
        ...

    def restore(self, arn: str) -> None:
        """Cancel a scheduled deletion."""
        ...

    def delete(self, arn: str, *, recovery_days: int | None) -> None:
        """
        Schedule a deletion; the value cannot be read from then on.

        Args:
            arn: of the object; it may have no replicas.
            recovery_days: 7 to 30 days in which `restore` cancels it; None means at once and for good.

        Raises:
            RemoteChangedError: it has replicas or copies in other accounts, is scheduled already, or is gone (the last
                two only with a recovery window).
            DestinationRejectedError: the recovery window is not 7 to 30 days.
        """
        ...

    def replicate(self, arn: str, regions: Mapping[str, str]) -> None:
        """
        Request copies in other Regions; never overwrites an object there. Later, `observe` shows the copies.

        Args:
            arn: of the primary.
            regions: Region -> key ARN there, or AWS_MANAGED_KEY; without any, no call is made.

        Raises:
            RemoteChangedError: it is gone or scheduled for deletion.
            DestinationRejectedError: it is a copy itself, or `regions` names its own Region or one with a good copy. A
                copy that failed is tried again.
        """
        ...

    def remove_replicas(self, arn: str, regions: Sequence[str]) -> None:
        """
        Delete the copies in these Regions; that has no recovery window.

        Raises:
            RemoteChangedError: it is gone or scheduled for deletion.
            DestinationRejectedError: there is no copy in one of them.
        """
        ...

    def resource_policy(self, arn: str) -> str | None:
        """
        Return the resource policy as canonical JSON; None if it has none. Needs a separate IAM action.

        Raises:
            RemoteChangedError: the object is gone or scheduled for deletion.
        """
        ...

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """
        Replace the whole resource policy, after AWS has checked it. Broad access is refused (BlockPublicPolicy).

        Raises:
            DestinationRejectedError: names the checks that the policy failed.
            RemoteChangedError: the object is gone or scheduled for deletion.
        """
        ...

    def sweep(self, instance_id: str | None) -> Iterator[Observed]:
        """
        Yield the objects of the account and Region with our instance tag, including those scheduled for deletion.
        None: with the tag of any instance.

        One call for each 100 objects. Lists lag up to 5 minutes and show no replicas, no resource policies and no
        replication between accounts. So this only finds suspects: what is missing here may exist. Needs a separate IAM
        action.
        """
        ...

    def sweep_newest(self, instance_id: str) -> Iterator[ChangesPage]:
        """
        Yield the same objects page by page, the last changed first (LastChangedDate); one call for each page.

        Every page has up to 100 objects. DestinationRejectedError if the service cannot sort.
        """
        ...

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects of the account and Region. Needs a separate IAM action."""
        ...

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Return a current value, for import only; None if there is none. Needs a separate IAM action."""
        ...


class Destinations(Protocol):
    """Opens destinations. Their clients are created once and shared."""

    def open(
        self, kind: str, credential: Credential, region: str, *, tenant: str = "", fresh: bool = False
    ) -> Destination:
        """
        Return a destination for one run. CredentialRejectedError if the credential is incomplete.

        Args:
            kind: destination kind.
            credential: to open it with.
            region: of the destination.
            tenant: a sync's id. Calls wait for the rate limits of the destination, which tenants share fairly. A call
                that would wait for too long raises ThrottledError and is not made.
            fresh: do not use what is known of the credential's identity: a person asked for the run.
        """
        ...

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """
        Return the ARN of a KMS key, given by id, alias or ARN. Asks KMS (kms:DescribeKey).

        Raises:
            InvalidInputError: the key does not exist there, is disabled, or is not for symmetric encryption.
            PermissionDeniedError: the credential may not ask. The full ARN of a key is accepted without asking.
        """
        ...

    def check_name(self, kind: str, remote_name: str) -> None:
        """Check that the destination would accept a name. NotFoundError for the kind; InvalidInputError."""
        ...
