"""The port `Destinations`: opens a destination of any kind. Makes no call and keeps nothing but the shared clients."""

from phasesync.adapters.aws.roles import incomplete
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.destinations import spec_of
from phasesync.core.credential import Credential, CredentialStatus
from phasesync.ports import Destination


class RegisteredDestinations:
    """Opens destinations of the registered kinds on shared clients."""

    def __init__(self, clients: AwsClients, *, instance_id: str) -> None:
        """
        Args:
            clients: shared by all destinations.
            instance_id: our instance; objects that carry it as a tag are listed as ours.
        """
        self._clients = clients
        self._instance_id = instance_id

    def open(
        self, kind: str, credential: Credential, region: str, *, customer: str = "", fresh: bool = False
    ) -> Destination:
        """
        Return a destination for one run.

        Args:
            kind: destination kind.
            credential: who writes.
            region: where.
            customer: for whom, such as a sync's id: customers take turns where calls have to wait for quotas.
            fresh: find the identity of the credential anew, because a person asked for it.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        if fresh:
            self._clients.forget(credential)
        return spec.open(self._clients, credential, region, instance_id=self._instance_id, customer=customer)

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """
        Return the ARN of a KMS key that may be named by id, alias or ARN; AWS_MANAGED_KEY comes back as it is.

        Raises:
            InvalidInputError: the key does not exist there, is disabled, or is not for symmetric encryption.
            PermissionDeniedError: the credential may not ask KMS.
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.resolve_key(self._clients, credential, region, key)

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        spec_of(kind).validate_name(remote_name)
