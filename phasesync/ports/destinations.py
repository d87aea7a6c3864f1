"""The remote place a sync writes to."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from phasesync.core.model import Credential, SecretValue
from phasesync.core.remote import Observed, Occupied, Payload, RemoteListing, Written


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
    ) -> Written | Occupied:
        """Create an object with its first version. Occupied: the name is taken, by us or by somebody else."""
        ...

    def put_value(self, arn: str, payload: Payload, *, token: str) -> Written | Occupied:
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

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects of the account and Region; needs an IAM action of its own."""
        ...

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Read a current value, for import only; None = it has none. Needs an IAM action of its own."""
        ...


class Destinations(Protocol):
    """Opens destinations; clients behind them are shared and made once."""

    def open(self, kind: str, credential: Credential, region: str) -> Destination:
        """Return a destination for one run. CredentialRejectedError where the credential is incomplete."""
        ...

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        ...
