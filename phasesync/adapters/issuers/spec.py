"""What an issuer says of itself. Pure data: opens nothing by being read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.ports import IssuerTraits, LeaseIssuer

USERNAME = "username"
ACCESS_KEY_ID = "access_key_id"
SECRET_ACCESS_KEY = "secret_access_key"
SESSION_TOKEN = "session_token"


class Opener(Protocol):
    """Makes an issuer for one lease or one look."""

    def __call__(self, clients: AwsClients, credential: Credential, *, customer: str) -> LeaseIssuer:
        """Make it; makes no call yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class IssuerSpec:
    """
    One kind of issuer.

    Attributes:
        kind: its name on the command line and in the database.
        traits: what it is like.
        check: raises InvalidInputError that says what AWS would not take of a configuration.
        open: makes an issuer.
    """

    kind: str
    traits: IssuerTraits
    check: Callable[[DynamicConfig, CredentialType], None]
    open: Opener
