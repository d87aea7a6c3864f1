"""
Clients of AWS for everybody: one for each credential, Region and service, shared between threads; one AssumeRole for
each lifetime of a role's session.

Every client signs with fixed keys, and is replaced when the keys are others. Who those keys belong to is asked with the
same keys, so that what a check found is still so in the call. No lock is held while anything is asked. Must not keep a
secret longer than a client or session needs it, and must not decide what a refusal means for a sync.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar, cast

from phasesync.adapters.aws.ambient import find_keys, name_of_chain, stamp_of_files
from phasesync.adapters.aws.keys import Keys
from phasesync.adapters.aws.limited_process import kill_all
from phasesync.adapters.aws.login import CHAIN_WITHIN_S, Login
from phasesync.adapters.aws.rate_limiter import RateLimiter, Slot
from phasesync.adapters.aws.roles import (
    ASSUME_ROLE,
    GET_CALLER_IDENTITY,
    GET_ROLE,
    AssumedRole,
    access_keys,
    assume_role,
    caller_identity,
    incomplete,
    refuse_cycle,
    role_arn,
)
from phasesync.adapters.aws.sdk import CallLimits, Sdk, Service
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.remote import CallerIdentity
from phasesync.errors import CredentialRejectedError, InterruptedRunError, PermissionDeniedError, PhasesyncError
from phasesync.ports.runtime import Clock

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_kms.client import KMSClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sts.client import STSClient

T = TypeVar("T")

RENEW_BEFORE: Final = timedelta(minutes=5)
"""A session of a role is renewed this long before it ends."""
RENEW_CHAIN_BEFORE: Final = timedelta(minutes=15)
"""Keys of the default chain are asked for again this long before they end, as botocore does (credentials.py)."""
MAX_CLIENTS: Final = 512
OVERDUE_AFTER_S: Final = 5.0
"""How long after its deadline a call counts as one that will not end: its own limits should have ended it."""

_CHAIN: Final = ("", 0)
"""Stands for a credential's id and version where the default chain of the SDK is meant: all share it."""
_DENIED: Final = ("AccessDenied", "AccessDeniedException")


_Place = tuple[str, str, Service, bool]
"""Credential id, Region, service, and whether the SDK repeats nothing."""


@dataclass(frozen=True)
class _Kept:
    """
    A client and the keys that it signs with: when they are others, it is replaced.

    The place it is kept at says nothing of the keys, so that a superseded client is not kept beside its successor. The
    endpoint is the same for all.
    """

    keys: Keys
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
        rate_limiter: RateLimiter | None = None,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        """
        Args:
            source_of: returns a credential by id (`CredentialStore.get_by_id`): the one that assumes a role. A session
                that it has opened lives on to its end when the source changes.
            clock: tells when a session has to be renewed.
            instance_id: our instance, for the names of sessions.
            endpoint_url: above all that the AWS SDK finds; None = what it finds.
            limits: of every call; None = the defaults.
            rate_limiter: each call of these clients waits for a slot there; None = a process that is alone.
            max_clients: clients kept; the one used least recently goes first.

        Raises:
            SettingsError: the endpoint is neither https nor loopback.
        """
        self._source_of = source_of
        self._clock = clock
        self._instance_id = instance_id
        self._sdk = Sdk(endpoint_url, limits or CallLimits())
        self._max_clients = max_clients
        self.rate_limiter = rate_limiter or RateLimiter()
        self._lock = threading.Lock()  # guards what is below; never held while anything is made or asked
        self._clients: OrderedDict[_Place, _Kept] = OrderedDict()
        self._logins: OrderedDict[tuple[str, int], Login] = OrderedDict()
        self._in_call: dict[int, tuple[str, float]] = {}
        """Thread -> for whom it makes a call now, and when that has to be over."""
        self._stopped = False
        self._making = threading.Lock()  # The SDK makes one client at a time; it reads files, and asks nobody.

    def secrets_manager(self, credential: Credential, region: str, keys: Keys | None = None) -> "SecretsManagerClient":
        """Return the client of Secrets Manager in a Region; `keys` as in `sts`. CredentialRejectedError."""
        return cast("SecretsManagerClient", self._client(credential, "secretsmanager", region, keys))

    def sts(self, credential: Credential, keys: Keys | None = None) -> "STSClient":
        """
        Return the client of STS in the credential's Region, as the credential (in its role, where it has one).

        Args:
            credential: who.
            keys: sign with these keys of it; None = with those that it has now.

        Raises:
            CredentialRejectedError: it has no keys.
        """
        return cast("STSClient", self._client(credential, "sts", credential.region, keys))

    def kms(self, credential: Credential, region: str, keys: Keys | None = None) -> "KMSClient":
        """Return the client of KMS in a Region; `keys` as in `sts`. CredentialRejectedError, SettingsError."""
        return cast("KMSClient", self._client(credential, "kms", region, keys))

    def iam(self, credential: Credential, keys: Keys | None = None, *, once: bool = False) -> "IAMClient":
        """Return the client of IAM in the credential's partition. `once`: no call of it is repeated by the SDK."""
        return cast("IAMClient", self._client(credential, "iam", credential.region, keys, once=once))

    def keys_of(self, credential: Credential) -> Keys:
        """
        Return the keys that a credential signs with now.

        Found by one thread while the others wait for it, none of them without end.

        Raises:
            CredentialRejectedError: it has none, or they do not come in time.
            DestinationUnavailableError, ThrottledError, InterruptedRunError: STS could not be asked for a role.
        """
        if credential.type is CredentialType.ACCESS_KEY:
            return access_keys(credential)
        if credential.type is CredentialType.AMBIENT:
            return self._chain_keys(credential.region)
        return self._login(credential).keys(
            lambda: self.assume(credential), now=self._clock.now, renew_before=RENEW_BEFORE
        )

    def newer_keys(self, credential: Credential, refused: Keys, error: PhasesyncError) -> Keys | None:
        """
        Return other keys of a credential, found from scratch, after AWS refused some; None = there are no others.

        A request that was refused for its keys was not carried out, so it may be repeated with others, a write too.

        Args:
            credential: whose.
            refused: the keys that signed the call.
            error: the refusal. One without permission may be a session that was revoked (a policy that denies
                everything to sessions begun before some time): for such keys others are asked for, now and then.

        Raises:
            CredentialRejectedError: there are no keys at all any more.
        """
        return self._newer(credential, credential.region, refused, error)

    def identity_of(self, credential: Credential) -> CallerIdentity:
        """
        Return who AWS says the credential is, asked once for its keys: from the answer of AssumeRole for a role, with
        GetCallerIdentity (which needs no permission) for the others. CredentialRejectedError.
        """
        return self._as(credential, credential.region, lambda keys: self.identity_with(credential, keys))

    def identity_with(self, credential: Credential, keys: Keys) -> CallerIdentity:
        """Return who AWS says these keys of a credential are; asked with these keys. CredentialRejectedError."""
        if isinstance(keys, AssumedRole):
            return keys.identity

        def ask() -> CallerIdentity:
            return caller_identity(self.sts(credential, keys), self._slot(GET_CALLER_IDENTITY, credential))

        return self._login(credential).identity(keys, ask)

    def ask_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who a credential is, whatever is known. CredentialRejectedError."""
        slot = self._slot(GET_CALLER_IDENTITY, credential)
        return self._as(credential, credential.region, lambda keys: caller_identity(self.sts(credential, keys), slot))

    def ask_base_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who assumes the credential's role: its source, or the default chain. CredentialRejectedError."""
        slot = self._base_slot(GET_CALLER_IDENTITY, credential)
        return self.as_base(credential, lambda client: caller_identity(client, slot))

    def caller_of(self, credential: Credential) -> str:
        """Return the account that a credential leads to, as far as that is known without a call; else its id."""
        with self._lock:
            login = self._logins.get(_login_key(credential))
        account = None
        if login is not None:
            keys, known = login.last_keys(), login.known_identity()
            identity = keys.identity if isinstance(keys, AssumedRole) else known
            account = identity.account if identity else None
        return account or credential.account or credential.id

    def assume(self, credential: Credential, *, with_external_id: bool = True) -> AssumedRole:
        """Ask STS for a session of the credential's role now, whatever is kept. CredentialRejectedError."""
        if credential.role_arn is None:
            raise incomplete(credential)

        def ask(client: "STSClient") -> AssumedRole:
            slot = self._base_slot(ASSUME_ROLE, credential)
            return assume_role(
                client, credential, slot, instance_id=self._instance_id, with_external_id=with_external_id
            )

        return self.as_base(credential, ask)

    def ask_base_role(self, credential: Credential, role: str) -> str:
        """
        Ask IAM for the ARN of the role whose session assumes the credential's role: it has the path, which the ARN of
        the session lacks. `role` = its name.

        Raises:
            DestinationError: IAM does not say; PermissionDeniedError without iam:GetRole.
        """
        slot = self._base_slot(GET_ROLE, credential)
        return self._as_base(credential, "iam", lambda client: role_arn(cast("IAMClient", client), role, slot))

    def as_base(self, credential: Credential, ask: Callable[["STSClient"], T]) -> T:
        """Ask STS, in the credential's Region, as who assumes the credential's role."""
        return self._as_base(credential, "sts", lambda client: ask(cast("STSClient", client)))

    def _as_base(self, credential: Credential, service: Service, ask: Callable[["BaseClient"], T]) -> T:
        refuse_cycle(credential, self._source_of)
        source = None if credential.source_id is None else self._source_of(credential.source_id)
        place: _Place = (_CHAIN[0] if source is None else source.id, credential.region, service, False)
        return self._as(source, credential.region, lambda keys: ask(self._client_at(place, keys)))

    def is_known(self, access_key_id: str, secret_access_key: str, credential: Credential) -> bool:
        """
        Return whether STS, in a credential's Region, knows an access key; one that was just made is known in seconds.

        DestinationUnavailableError, ThrottledError: it could not be asked.
        """
        keys = Keys(
            access_key_id=access_key_id, secret_access_key=secret_access_key, session_token=None, expires_at=None
        )
        client = self._new_client("sts", credential.region, keys)
        try:
            caller_identity(cast("STSClient", client), self._slot(GET_CALLER_IDENTITY, credential))
        except CredentialRejectedError:
            return False
        finally:
            client.close()
        return True

    @contextmanager
    def calling(self, tenant: str) -> Iterator[None]:
        """Note that this thread makes one call for `customer`, for as long as the block lasts."""
        thread, limit_s = threading.get_ident(), self._sdk.limits.call_s + OVERDUE_AFTER_S
        with self._lock:
            self._in_call[thread] = (tenant, time.monotonic() + limit_s)
        try:
            yield
        finally:
            with self._lock:
                del self._in_call[thread]

    def overdue(self) -> set[str]:
        """Return for whom a call is under way that should have ended: whoever waits for it, waits in vain."""
        now = time.monotonic()
        with self._lock:
            return {tenant for tenant, limit in self._in_call.values() if now >= limit}

    def endpoints(self, region: str) -> Mapping[Service, str]:
        """Return service -> the endpoint that is in use in place of AWS's usual one. Makes no call. SettingsError."""
        with self._making:
            return self._sdk.own_endpoints(region)

    def prepare(self) -> None:
        """Load the SDK ahead of the first call. Makes no call and keeps no client."""
        with self._making:
            self._sdk.prepare()

    def forget(self, credential: Credential) -> None:
        """
        Drop what is known of a credential and of who assumes its role, failures included: a person has changed
        something, or wants to see how it stands.
        """
        with self._lock:
            login = self._logins.get(_login_key(credential))
        if login is not None:
            login.forget()
        if credential.type is CredentialType.ASSUME_ROLE:
            refuse_cycle(credential, self._source_of)
            if credential.source_id is not None:
                self.forget(self._source_of(credential.source_id))
            else:
                self._chain_login().forget()

    def stop(self) -> None:
        """Wait for nothing any more: turns among the quotas, and processes that give keys."""
        self._stopped = True
        self.rate_limiter.stop()
        kill_all()

    def close(self) -> None:
        """Close every connection. Clients that were given out must not be used afterwards."""
        kill_all()
        with self._lock:
            clients = [kept.client for kept in self._clients.values()]
            self._clients.clear()
            self._logins.clear()
        for client in clients:
            client.close()

    def _chain_keys(self, region: str) -> Keys:
        """Return the keys of the default chain."""
        return self._chain_login().keys(
            lambda: self._find_keys(region),
            now=self._clock.now,
            renew_before=RENEW_CHAIN_BEFORE,
            stamp=stamp_of_files(),
        )

    def _find_keys(self, region: str) -> Keys:
        try:
            return find_keys(region, self._sdk.config())
        except CredentialRejectedError:
            if not self._stopped:
                raise
        raise InterruptedRunError("phasesync was told to stop")

    def _keys(self, who: Credential | None, region: str) -> Keys:
        return self._chain_keys(region) if who is None else self.keys_of(who)

    def _as(self, who: Credential | None, region: str, ask: Callable[[Keys], T]) -> T:
        """Ask as somebody (None = the default chain); once more with other keys where AWS refuses those there were."""
        keys = self._keys(who, region)
        try:
            return ask(keys)
        except (CredentialRejectedError, PermissionDeniedError) as error:
            newer = self._newer(who, region, keys, error)
            if newer is None:
                raise
        return ask(newer)

    def _newer(self, who: Credential | None, region: str, refused: Keys, error: PhasesyncError) -> Keys | None:
        if error.code is None or (who is not None and who.type is CredentialType.ACCESS_KEY):
            return None
        login = self._chain_login() if who is None else self._login(who)
        denied = error.code in _DENIED
        if denied and refused.session_token is None:
            return None
        if not denied and not isinstance(error, CredentialRejectedError):
            return None
        if login.last_keys() == refused:  # Else another thread has seen to it.
            if denied and not login.may_renew_when_denied():
                return None
            login.drop(refused)
        keys = self._keys(who, region)
        return None if keys == refused else keys

    def _login(self, credential: Credential) -> Login:
        if credential.type is CredentialType.AMBIENT:
            return self._chain_login()
        return self._login_at(_login_key(credential), lambda: Login(f"the credential {credential.name}"))

    def _chain_login(self) -> Login:
        return self._login_at(_CHAIN, lambda: Login(name_of_chain(), within_s=CHAIN_WITHIN_S))

    def _login_at(self, key: tuple[str, int], make: Callable[[], Login]) -> Login:
        with self._lock:
            if key not in self._logins:
                for former in [k for k in self._logins if k[0] == key[0] and k[1] < key[1]]:
                    del self._logins[former]
                self._logins[key] = make()
            self._logins.move_to_end(key)
            while len(self._logins) > self._max_clients:
                self._logins.popitem(last=False)
            return self._logins[key]

    def _slot(self, action: str, credential: Credential) -> Slot:
        """Wait for the turn of a call that is made as a credential. ThrottledError, InterruptedRunError."""
        account = self.caller_of(credential)
        return self.rate_limiter.take(action, account=account, region=credential.region, tenant=credential.id)

    def _base_slot(self, action: str, credential: Credential) -> Slot:
        """The same for a call that is made as who assumes the credential's role."""
        account = _CHAIN[0]
        if credential.source_id is not None:
            account = self.caller_of(self._source_of(credential.source_id))
        return self.rate_limiter.take(action, account=account, region=credential.region, tenant=credential.id)

    def _client(
        self, credential: Credential, service: Service, region: str, keys: Keys | None, *, once: bool = False
    ) -> "BaseClient":
        """Return the client of a credential; finds its keys first where none are given."""
        return self._client_at((credential.id, region, service, once), keys or self.keys_of(credential))

    def _client_at(self, place: _Place, keys: Keys) -> "BaseClient":
        """Return the client that is kept, or make it; one thread at a time."""
        _, region, service, once = place
        kept = self._kept_at(place, keys)
        if kept is not None:
            return kept
        with self._making:
            kept = self._kept_at(place, keys)
            if kept is not None:
                return kept
            client = self._sdk.client(service, region, keys.arguments(), once=once)
            with self._lock:
                # Another thread may be in a call of the client that goes, so it is not closed but left to be collected.
                self._clients[place] = _Kept(keys, client)
                self._clients.move_to_end(place)
                while len(self._clients) > self._max_clients:
                    self._clients.popitem(last=False)
            return client

    def _kept_at(self, place: _Place, keys: Keys) -> "BaseClient | None":
        with self._lock:
            kept = self._clients.get(place)
            if kept is None or kept.keys != keys:
                return None
            self._clients.move_to_end(place)
            return kept.client

    def _new_client(self, service: Service, region: str, keys: Keys) -> "BaseClient":
        with self._making:
            return self._sdk.client(service, region, keys.arguments())


def _login_key(credential: Credential) -> tuple[str, int]:
    """Return what a credential's login is kept by: all that stand for the default chain share one."""
    return _CHAIN if credential.type is CredentialType.AMBIENT else (credential.id, credential.version)
