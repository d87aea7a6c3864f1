"""The port `LeaseIssuers`: opens an issuer of any kind. Makes no call and keeps nothing but the shared clients."""

from phasesync.adapters.aws.roles import incomplete
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.issuers import REGISTRY, spec_of
from phasesync.core.credential import Credential, CredentialStatus, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.ports import IssuerTraits, LeaseIssuer


class RegisteredIssuers:
    """Opens issuers of the registered kinds on shared clients."""

    def __init__(self, clients: AwsClients) -> None:
        """
        Args:
            clients: shared by all issuers.
        """
        self._clients = clients

    def open(self, kind: str, credential: Credential, *, customer: str = "") -> LeaseIssuer:
        """
        Return an issuer.

        Args:
            kind: of the issuer.
            credential: who makes and takes back.
            customer: for whom, such as a dynamic secret's id: customers take turns where calls have to wait for quotas.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.open(self._clients, credential, customer=customer)

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issuers that there are."""
        return tuple(REGISTRY)

    def traits(self, kind: str) -> IssuerTraits:
        """Return what an issuer is like. NotFoundError for the kind."""
        return spec_of(kind).traits

    def check(self, kind: str, config: DynamicConfig, credential: CredentialType) -> None:
        """Make sure that AWS would take a configuration, without asking. InvalidInputError; NotFoundError."""
        spec_of(kind).check(config, credential)
