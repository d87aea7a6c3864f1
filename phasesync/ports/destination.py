"""The remote place that a sync writes to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from phasesync.core.credential import Credential
from phasesync.core.model import SecretValue
from phasesync.core.remote import Observed, Payload, RemoteListing, ResourceExists, WriteResult


class Destination(Protocol):
    """
    One remote place under one credential, for one run. Reads, writes and reports evidence; never decides.

    Writes raise OutcomeUnknownError when they may have landed.
    """

    @property
    def calls(self) -> int:
        """How many calls of the service were made through this object."""
        ...

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        ...

    def observe(self, remote_name: str) -> Observed | None:
        """Describe one object, by name or ARN; None = it does not exist. Never reads a value."""
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
        """Create an object with its first version. Occupied: the name is taken, by us or by somebody else."""
        ...

    def put_value(self, arn: str, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        """Write a version. Occupied: the token is spent on another payload."""
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
            recovery_days: 7 to 30 days in which `restore` undoes it; None = at once and for good.

        Raises:
            RemoteChangedError: it has replicas or copies in other accounts, is scheduled already, or is gone (the last
                two only with a recovery window).
            DestinationRejectedError: the recovery window is not 7 to 30 days.
        """
        ...

    def replicate(self, arn: str, regions: Mapping[str, str]) -> None:
        """
        Have it copied to other Regions; never writes over what has its name there. The copies come later: `observe`.

        Args:
            arn: of the primary.
            regions: Region -> key ARN there, or AWS_MANAGED_KEY; without any, no call is made.

        Raises:
            RemoteChangedError: it is gone or scheduled for deletion.
            DestinationRejectedError: it is a copy itself, its own Region is named, or one with a copy that stands; a
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
        Return the resource policy as canonical JSON, None = it has none. Needs an IAM action of its own.

        Raises:
            RemoteChangedError: the object is gone or scheduled for deletion.
        """
        ...

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """
        Replace the whole resource policy, after AWS has checked it; broad access is refused (BlockPublicPolicy).

        Raises:
            DestinationRejectedError: names the checks that the policy failed.
            RemoteChangedError: the object is gone or scheduled for deletion.
        """
        ...

    def sweep(self, instance_id: str) -> Iterator[Observed]:
        """
        Yield the objects of the account and Region that carry our instance tag, those scheduled for deletion too.

        One call for each 100 objects. Lists lag up to 5 minutes and show no replicas, no resource policies and no
        replication between accounts, so this only raises suspects: what is missing here may well exist. Needs an IAM
        action of its own.
        """
        ...

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects of the account and Region; needs an IAM action of its own."""
        ...

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Read a current value, for import only; None = it has none. Needs an IAM action of its own."""
        ...


class Destinations(Protocol):
    """Opens destinations; clients behind them are shared and made once."""

    def open(
        self, kind: str, credential: Credential, region: str, *, tenant: str = "", fresh: bool = False
    ) -> Destination:
        """
        Return a destination for one run. CredentialRejectedError where the credential is incomplete.

        Calls have to wait for the destination's quotas, and `customer` (a sync's id) says for whom: customers take
        turns. Where the turn does not come in time a call raises ThrottledError and has not been made. `fresh`: a
        person asked, so nothing that is known of the credential's identity is used.
        """
        ...

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """
        Return the ARN of a KMS key that may be named by id, alias or ARN; asks KMS (kms:DescribeKey).

        Raises:
            InvalidInputError: the key does not exist there, is disabled, or is not for symmetric encryption.
            PermissionDeniedError: the credential may not ask; the full ARN of the key is accepted without asking.
        """
        ...

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        ...
