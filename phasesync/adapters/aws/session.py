"""
Clients of AWS for everybody: one for each credential, Region and service, shared between threads; one AssumeRole for
each lifetime of a role's session.

Must not keep a secret longer than a client or session needs it, and must not decide what a refusal means for a sync.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from phasesync.adapters.aws.quotas import Quotas, Turn
from phasesync.adapters.aws.roles import (
    ASSUME_ROLE,
    GET_CALLER_IDENTITY,
    AssumedRole,
    access_keys,
    assume_role,
    caller_identity,
    incomplete,
    refuse_cycle,
)
from phasesync.adapters.aws.sdk import CallLimits, Sdk, Service
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.remote import CallerIdentity
from phasesync.errors import CredentialRejectedError
from phasesync.ports import Clock

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_kms.client import KMSClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sts.client import STSClient

RENEW_BEFORE: Final = timedelta(minutes=5)
"""A session is renewed this long before it ends."""
MAX_CLIENTS: Final = 512

_DEFAULT_CHAIN: Final = ("", 0)
"""Stands for a credential's id and version where the default chain of the SDK assumes a role."""


_Place = tuple[str, str, Service, bool]
"""Credential id, Region, service, and whether the SDK repeats nothing."""


@dataclass
class _Login:
    """What is known of one version of a credential. `lock` makes sure that one thread asks and the others wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    session: AssumedRole | None = None
    identity: CallerIdentity | None = None


@dataclass(frozen=True)
class _Kept:
    """
    A client and what it was made for: when version or session have moved on, it is replaced.

    The place it is kept at says nothing of the version, so that a superseded client is not kept beside its
    successor. The endpoint is the same for all.
    """

    version: int
    session: str | None
    """Access key id of a role's session, None where there is no role. Two sessions may end at the same second."""
    client: "BaseClient"


class AwsClients:
    """Makes clients once and shares them between threads; assumes roles once for each lifetime of a session."""

    def __init__(
        self,
        *,
        source_of: Callable[[str], Credential],
        clock: Clock,
        instance_id: str,
        endpoint_url: str | None = None,
        limits: CallLimits | None = None,
        quotas: Quotas | None = None,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        """
        Args:
            source_of: returns a credential by id (`CredentialStore.get_by_id`): the one that assumes a role. A session
                that it has opened lives on to its end when the source changes.
            clock: tells when a session has to be renewed.
            instance_id: our instance, for the names of sessions.
            endpoint_url: in place of AWS's own endpoints; None = what the AWS SDK finds.
            limits: of every call; None = the defaults.
            quotas: whoever makes a call of these clients waits for its turn there; None = a process that is alone.
            max_clients: clients kept; the one used least recently goes first.

        Raises:
            SettingsError: the endpoint is neither https nor loopback.
        """
        self._source_of = source_of
        self._clock = clock
        self._instance_id = instance_id
        self._sdk = Sdk(endpoint_url, limits or CallLimits())
        self._max_clients = max_clients
        self.quotas = quotas or Quotas()
        self._lock = threading.Lock()  # guards what is below; held while a client is made, never during a call
        self._clients: OrderedDict[_Place, _Kept] = OrderedDict()
        self._logins: OrderedDict[tuple[str, int], _Login] = OrderedDict()

    def secrets_manager(self, credential: Credential, region: str) -> "SecretsManagerClient":
        """Return the client of Secrets Manager in a Region. CredentialRejectedError, SettingsError."""
        return cast("SecretsManagerClient", self._client(credential, "secretsmanager", region))

    def sts(self, credential: Credential) -> "STSClient":
        """Return the client of STS in the credential's Region, as the credential (in its role, where it has one)."""
        return cast("STSClient", self._client(credential, "sts", credential.region))

    def kms(self, credential: Credential, region: str) -> "KMSClient":
        """Return the client of KMS in a Region. CredentialRejectedError, SettingsError."""
        return cast("KMSClient", self._client(credential, "kms", region))

    def iam(self, credential: Credential, *, once: bool = False) -> "IAMClient":
        """Return the client of IAM in the credential's partition. `once`: no call of it is repeated by the SDK."""
        return cast("IAMClient", self._client(credential, "iam", credential.region, once=once))

    def base_sts(self, credential: Credential) -> "STSClient":
        """
        Return the client of STS, in the credential's Region, as who assumes the credential's role: its source
        credential, or the default chain.
        """
        refuse_cycle(credential, self._source_of)
        if credential.source_id is not None:
            source = self._source_of(credential.source_id)
            return cast("STSClient", self._client(source, "sts", credential.region))
        chain, version = _DEFAULT_CHAIN
        return cast("STSClient", self._make_once((chain, credential.region, "sts", False), version, None, {}))

    def identity_of(self, credential: Credential) -> CallerIdentity:
        """
        Return who AWS says the credential is, asked once: from the answer of AssumeRole for a role, with
        GetCallerIdentity (which needs no permission) for the others. CredentialRejectedError.
        """
        if credential.type is CredentialType.ASSUME_ROLE:
            return self._assumed(credential).identity
        client = self.sts(credential)
        login = self._login(credential)
        with login.lock:
            if login.identity is None:
                login.identity = caller_identity(client, self._turn(GET_CALLER_IDENTITY, credential))
            return login.identity

    def ask_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who a credential is, whatever is known. CredentialRejectedError."""
        return caller_identity(self.sts(credential), self._turn(GET_CALLER_IDENTITY, credential))

    def ask_base_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who assumes the credential's role: its source, or the default chain. CredentialRejectedError."""
        return caller_identity(self.base_sts(credential), self._base_turn(GET_CALLER_IDENTITY, credential))

    def caller_of(self, credential: Credential) -> str:
        """Return the account that a credential leads to, as far as that is known without a call; else its id."""
        with self._lock:
            login = self._logins.get((credential.id, credential.version))
        identity = None
        if login is not None:
            identity = login.session.identity if login.session else login.identity
        return (identity.account if identity else credential.account) or credential.id

    def assume(self, credential: Credential, *, with_external_id: bool = True) -> AssumedRole:
        """Ask STS for a session of the credential's role now, whatever is kept. CredentialRejectedError."""
        if credential.role_arn is None:
            raise incomplete(credential)
        client = self.base_sts(credential)
        turn = self._base_turn(ASSUME_ROLE, credential)
        return assume_role(client, credential, turn, instance_id=self._instance_id, with_external_id=with_external_id)

    def is_known(self, access_key_id: str, secret_access_key: str, credential: Credential) -> bool:
        """
        Return whether STS, in a credential's Region, knows an access key; one that was just made is known in seconds.

        DestinationUnavailableError, ThrottledError: it could not be asked.
        """
        keys = {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
        with self._lock:
            client = self._sdk.client("sts", credential.region, keys)
        try:
            caller_identity(cast("STSClient", client), self._turn(GET_CALLER_IDENTITY, credential))
        except CredentialRejectedError:
            return False
        finally:
            client.close()
        return True

    def prepare(self) -> None:
        """Load the SDK ahead of the first call. Makes no call and keeps no client."""
        with self._lock:
            self._sdk.prepare()

    def forget(self, credential: Credential) -> None:
        """Drop the session and the identity of a credential, because AWS says that the session has ended."""
        with self._lock:
            self._logins.pop((credential.id, credential.version), None)

    def close(self) -> None:
        """Close every connection. Clients that were handed out must not be used afterwards."""
        with self._lock:
            clients = [kept.client for kept in self._clients.values()]
            self._clients.clear()
            self._logins.clear()
        for client in clients:
            client.close()

    def _assumed(self, credential: Credential) -> AssumedRole:
        """Return the session of a role, renewed by one thread while the others wait for it."""
        login = self._login(credential)
        with login.lock:
            session = login.session
            if session is None or self._clock.now() >= session.expires_at - RENEW_BEFORE:
                session = login.session = self.assume(credential)
            return session

    def _login(self, credential: Credential) -> _Login:
        key = (credential.id, credential.version)
        with self._lock:
            if key not in self._logins:
                for former in [k for k in self._logins if k[0] == credential.id and k[1] < credential.version]:
                    del self._logins[former]
                self._logins[key] = _Login()
            self._logins.move_to_end(key)
            while len(self._logins) > self._max_clients:
                self._logins.popitem(last=False)
            return self._logins[key]

    def _turn(self, action: str, credential: Credential) -> Turn:
        """Wait for the turn of a call that is made as a credential. ThrottledError, InterruptedRunError."""
        account = self.caller_of(credential)
        return self.quotas.take(action, account=account, region=credential.region, customer=credential.id)

    def _base_turn(self, action: str, credential: Credential) -> Turn:
        """The same for a call that is made as who assumes the credential's role."""
        account = _DEFAULT_CHAIN[0]
        if credential.source_id is not None:
            account = self.caller_of(self._source_of(credential.source_id))
        return self.quotas.take(action, account=account, region=credential.region, customer=credential.id)

    def _client(self, credential: Credential, service: Service, region: str, *, once: bool = False) -> "BaseClient":
        """Return the client of a credential; opens the role's session first where there is a role."""
        keys: dict[str, str] = {}
        session_id: str | None = None
        if credential.type is CredentialType.ASSUME_ROLE:
            session = self._assumed(credential)
            session_id = session.access_key_id
            keys = session.keys()
        elif credential.type is CredentialType.ACCESS_KEY:
            keys = access_keys(credential)
        return self._make_once((credential.id, region, service, once), credential.version, session_id, keys)

    def _make_once(self, place: _Place, version: int, session: str | None, keys: dict[str, str]) -> "BaseClient":
        """Return the client that is kept, or make it; one thread at a time."""
        _, region, service, once = place
        with self._lock:
            kept = self._clients.get(place)
            if kept is None or (kept.version, kept.session) != (version, session):
                kept = _Kept(version, session, self._sdk.client(service, region, keys, once=once))
                # Another thread may be in a call of the client that goes, so it is not closed but left to be collected.
                self._clients[place] = kept
            self._clients.move_to_end(place)
            while len(self._clients) > self._max_clients:
                self._clients.popitem(last=False)
            return kept.client
