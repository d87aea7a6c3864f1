"""
The clients of AWS, shared between threads: one for each credential, Region and service, and one session of each role.

Every client signs with fixed keys, and is replaced when the keys change. The identity of keys is fetched with the same
keys, so that the result of a check still holds for the call. No lock is held during a call. Must not keep a secret
longer than a client or session needs it, and must not decide what a refusal means for a sync.
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
from phasesync.adapters.aws.credential_process import kill_all
from phasesync.adapters.aws.login import CHAIN_WITHIN_S, Keys, Login
from phasesync.adapters.aws.rate_limiter import RateLimiter, Slot
from phasesync.adapters.aws.request_reports import RequestReports
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
    from mypy_boto3_sts.client import STSClient

T = TypeVar("T")

RENEW_BEFORE: Final = timedelta(minutes=5)
"""A session of a role is renewed this long before it expires."""
RENEW_CHAIN_BEFORE: Final = timedelta(minutes=15)
"""Keys of the default chain are resolved again this long before they expire, as botocore does (credentials.py)."""
MAX_CLIENTS: Final = 512
OVERDUE_AFTER_S: Final = 5.0
"""How long after its deadline a call counts as hanging: its own limits should have ended it."""

_CHAIN: Final = ("", 0)
"""Key of the one login that all users of the default chain share, in place of a credential's id and version."""
_DENIED: Final = ("AccessDenied", "AccessDeniedException")

_ClientKey = tuple[str, str, Service, bool]
"""Credential id, Region, service, and whether the SDK makes no retries."""
_LoginKey = tuple[str, int]
"""Credential id and version."""


@dataclass(frozen=True)
class _CachedClient:
    """
    A client and the keys that it signs with. It is replaced when the credential has other keys.

    The keys are no part of the cache key, so that a client is not kept beside its successor. The endpoint is the same
    for all clients.
    """

    keys: Keys
    client: "BaseClient"


class AwsClients:
    """Makes clients and opens sessions of roles once, and shares them between threads."""

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
                that it has opened is used until it expires, even if the source changes.
            clock: decides when a session has to be renewed.
            instance_id: our instance, for the names of sessions.
            endpoint_url: overrides what the AWS SDK is configured with; None means what it is configured with.
            limits: of every call; None means the defaults.
            rate_limiter: each call of these clients waits for a slot there; None means that this process is alone.
            max_clients: clients kept; the least recently used goes first.

        Raises:
            SettingsError: the endpoint is neither https nor loopback.
        """
        self._source_of = source_of
        self._clock = clock
        self._instance_id = instance_id
        self._sdk = Sdk(endpoint_url, limits or CallLimits())
        self._max_clients = max_clients
        self.rate_limiter = rate_limiter or RateLimiter()
        self._lock = threading.Lock()  # guards what is below; never held while a client is made or called
        self._clients: OrderedDict[_ClientKey, _CachedClient] = OrderedDict()
        self._logins: OrderedDict[_LoginKey, Login] = OrderedDict()
        self._in_call: dict[int, tuple[str, float]] = {}
        """Thread -> the tenant of its call under way, and when that call has to end."""
        self._stopped = False
        self._making = threading.Lock()  # The SDK makes one client at a time; it reads files, but makes no call.

    @property
    def reports(self) -> RequestReports:
        """Reports each request of these clients."""
        return self._sdk.reports

    def client(
        self, credential: Credential, service: Service, region: str, keys: Keys | None = None, *, once: bool = False
    ) -> "BaseClient":
        """
        Return the client of a service that signs as the credential (in its role, if it has one).

        Args:
            credential: who calls.
            service: the service.
            region: the Region.
            keys: of the credential, to sign with; None means those that it has now.
            once: the SDK makes no retries.

        Raises:
            CredentialRejectedError: the credential has no keys.
            SettingsError: the Region, the endpoint or AWS's configuration files are not usable.
        """
        return self._client((credential.id, region, service, once), keys or self.keys_of(credential))

    def keys_of(self, credential: Credential) -> Keys:
        """
        Return the keys that a credential signs with now.

        One thread resolves them while the others wait for it; every wait has a limit.

        Raises:
            CredentialRejectedError: it has none, or they cannot be resolved in time.
            DestinationUnavailableError, ThrottledError, InterruptedRunError: STS could not open a session of a role.
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
        Return new keys of a credential, resolved from scratch after AWS refused some; None if there are no other keys.

        A request that was refused for its keys was not carried out, so it may be repeated with new keys, also a write.

        Args:
            credential: the owner of the keys.
            refused: the keys that signed the call.
            error: the refusal. A denied permission may mean a session that was revoked (a policy that denies everything
                to sessions opened before some time): keys of a session are then resolved again, but not often.

        Raises:
            CredentialRejectedError: there are no keys any more.
        """
        return self._newer_keys(credential, credential.region, refused, error)

    def identity_of(self, credential: Credential) -> CallerIdentity:
        """
        Return who AWS says the credential is, fetched once for its keys: from the response of AssumeRole for a role,
        with GetCallerIdentity (which needs no permission) for the others. CredentialRejectedError.
        """
        return self._call_with_keys(credential, credential.region, lambda keys: self.identity_with(credential, keys))

    def identity_with(self, credential: Credential, keys: Keys) -> CallerIdentity:
        """Return who AWS says these keys of a credential are; fetched with these keys. CredentialRejectedError."""
        if isinstance(keys, AssumedRole):
            return keys.identity

        def fetch() -> CallerIdentity:
            return caller_identity(self._sts(credential, keys), self._slot(GET_CALLER_IDENTITY, credential))

        return self._login(credential).identity(keys, fetch)

    def fetch_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who a credential is, even if that is known. CredentialRejectedError."""
        slot = self._slot(GET_CALLER_IDENTITY, credential)
        return self._call_with_keys(
            credential, credential.region, lambda keys: caller_identity(self._sts(credential, keys), slot)
        )

    def fetch_base_identity(self, credential: Credential) -> CallerIdentity:
        """Ask AWS who assumes the credential's role: its source, or the default chain. CredentialRejectedError."""
        slot = self._base_slot(GET_CALLER_IDENTITY, credential)
        return self.call_as_base(credential, lambda client: caller_identity(client, slot))

    def fetch_base_role_arn(self, credential: Credential, role: str) -> str:
        """
        Return the ARN of the role that assumes the credential's role; fetched from IAM, because the ARN of a session
        lacks the path of its role. `role` = its name.

        Raises:
            DestinationError: IAM does not report it; PermissionDeniedError without iam:GetRole.
        """
        slot = self._base_slot(GET_ROLE, credential)
        return self._call_as_base(credential, "iam", lambda client: role_arn(cast("IAMClient", client), role, slot))

    def account_key(self, credential: Credential) -> str:
        """Return the account that a credential leads to, if it is known without a call; else the credential's id."""
        with self._lock:
            login = self._logins.get(_login_key(credential))
        account = None
        if login is not None:
            keys, identity = login.last_keys(), login.last_identity()
            if isinstance(keys, AssumedRole):
                identity = keys.identity
            account = identity.account if identity else None
        return account or credential.account or credential.id

    def assume(self, credential: Credential, *, with_external_id: bool = True) -> AssumedRole:
        """Open a new session of the credential's role, even if there is one. CredentialRejectedError."""
        if credential.role_arn is None:
            raise incomplete(credential)

        def open_session(client: "STSClient") -> AssumedRole:
            slot = self._base_slot(ASSUME_ROLE, credential)
            return assume_role(
                client, credential, slot, instance_id=self._instance_id, with_external_id=with_external_id
            )

        return self.call_as_base(credential, open_session)

    def call_as_base(self, credential: Credential, call: Callable[["STSClient"], T]) -> T:
        """Call STS, in the credential's Region, as the identity that assumes the credential's role."""
        return self._call_as_base(credential, "sts", lambda client: call(cast("STSClient", client)))

    def _call_as_base(self, credential: Credential, service: Service, call: Callable[["BaseClient"], T]) -> T:
        refuse_cycle(credential, self._source_of)
        source = None if credential.source_id is None else self._source_of(credential.source_id)
        key: _ClientKey = (_CHAIN[0] if source is None else source.id, credential.region, service, False)
        return self._call_with_keys(source, credential.region, lambda keys: call(self._client(key, keys)))

    def is_key_known(self, access_key_id: str, secret_access_key: str, credential: Credential) -> bool:
        """
        Return whether STS, in a credential's Region, knows an access key; a new key is known after some seconds.

        Raises:
            DestinationUnavailableError, ThrottledError: STS could not be asked.
        """
        keys = Keys(
            access_key_id=access_key_id, secret_access_key=secret_access_key, session_token=None, expires_at=None
        )
        with self._making:
            client = self._sdk.client("sts", credential.region, keys.arguments())
        try:
            caller_identity(cast("STSClient", client), self._slot(GET_CALLER_IDENTITY, credential))
        except CredentialRejectedError:
            return False
        finally:
            client.close()
        return True

    @contextmanager
    def calling(self, tenant: str) -> Iterator[None]:
        """Note that this thread makes one call for a tenant, for the duration of the block."""
        thread, limit_s = threading.get_ident(), self._sdk.limits.call_s + OVERDUE_AFTER_S
        with self._lock:
            self._in_call[thread] = (tenant, time.monotonic() + limit_s)
        try:
            yield
        finally:
            with self._lock:
                del self._in_call[thread]

    def overdue(self) -> set[str]:
        """Return the tenants with a call that hangs: it should have ended by now."""
        now = time.monotonic()
        with self._lock:
            return {tenant for tenant, limit in self._in_call.values() if now >= limit}

    def endpoints(self, region: str) -> Mapping[Service, str]:
        """Return service -> the endpoint that replaces AWS's usual one. Makes no call. SettingsError."""
        with self._making:
            return self._sdk.custom_endpoints(region)

    def prepare(self) -> None:
        """Load the SDK before the first call. Makes no call and keeps no client."""
        with self._making:
            self._sdk.prepare()

    def forget(self, credential: Credential, *, unless_within_s: float = 0.0) -> None:
        """
        Drop what is known of a credential and of the identity that assumes its role, failures included: a person has
        changed something, or wants to see the present state.

        `unless_within_s`: what was dropped within this time stays. If many ask at once, each would have the others wait
        for an identity anew, or fail.
        """
        with self._lock:
            login = self._logins.get(_login_key(credential))
        if login is not None:
            login.forget(unless_within_s=unless_within_s)
        if credential.type is CredentialType.ASSUME_ROLE:
            refuse_cycle(credential, self._source_of)
            if credential.source_id is not None:
                self.forget(self._source_of(credential.source_id), unless_within_s=unless_within_s)
            else:
                self._chain_login().forget(unless_within_s=unless_within_s)

    def stop(self) -> None:
        """End every wait: those for slots of the rate limiter, and those for processes that give keys."""
        self._stopped = True
        self.rate_limiter.stop()
        kill_all()

    def close(self) -> None:
        """Close every connection. Clients must not be used afterwards."""
        kill_all()
        with self._lock:
            clients = [cached.client for cached in self._clients.values()]
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
        raise InterruptedRunError("phasesync was asked to stop")

    def _keys(self, credential: Credential | None, region: str) -> Keys:
        return self._chain_keys(region) if credential is None else self.keys_of(credential)

    def _call_with_keys(self, credential: Credential | None, region: str, call: Callable[[Keys], T]) -> T:
        """Call as a credential (None: the default chain). If AWS refuses its keys, call once more with new ones."""
        keys = self._keys(credential, region)
        try:
            return call(keys)
        except (CredentialRejectedError, PermissionDeniedError) as error:
            newer = self._newer_keys(credential, region, keys, error)
            if newer is None:
                raise
        return call(newer)

    def _newer_keys(
        self, credential: Credential | None, region: str, refused: Keys, error: PhasesyncError
    ) -> Keys | None:
        if error.code is None or (credential is not None and credential.type is CredentialType.ACCESS_KEY):
            return None
        login = self._chain_login() if credential is None else self._login(credential)
        denied = error.code in _DENIED
        if denied and refused.session_token is None:
            return None
        if not denied and not isinstance(error, CredentialRejectedError):
            return None
        if login.last_keys() == refused:  # Otherwise another thread has replaced them already.
            if denied and not login.may_renew_when_denied():
                return None
            login.drop(refused)
        keys = self._keys(credential, region)
        return None if keys == refused else keys

    def _login(self, credential: Credential) -> Login:
        if credential.type is CredentialType.AMBIENT:
            return self._chain_login()
        return self._login_at(_login_key(credential), lambda: Login(f"the credential {credential.name}"))

    def _chain_login(self) -> Login:
        return self._login_at(_CHAIN, lambda: Login(name_of_chain(), within_s=CHAIN_WITHIN_S))

    def _login_at(self, key: _LoginKey, make: Callable[[], Login]) -> Login:
        with self._lock:
            if key not in self._logins:
                for former in [other for other in self._logins if other[0] == key[0] and other[1] < key[1]]:
                    del self._logins[former]
                self._logins[key] = make()
            self._logins.move_to_end(key)
            while len(self._logins) > self._max_clients:
                self._logins.popitem(last=False)
            return self._logins[key]

    def _slot(self, action: str, credential: Credential) -> Slot:
        """Wait for the slot of a call that is made as a credential. ThrottledError, InterruptedRunError."""
        account = self.account_key(credential)
        return self.rate_limiter.take(action, account=account, region=credential.region, tenant=credential.id)

    def _base_slot(self, action: str, credential: Credential) -> Slot:
        """Wait for the slot of a call that is made as the identity that assumes the credential's role."""
        account = _CHAIN[0]
        if credential.source_id is not None:
            account = self.account_key(self._source_of(credential.source_id))
        return self.rate_limiter.take(action, account=account, region=credential.region, tenant=credential.id)

    def _sts(self, credential: Credential, keys: Keys) -> "STSClient":
        return cast("STSClient", self.client(credential, "sts", credential.region, keys))

    def _client(self, key: _ClientKey, keys: Keys) -> "BaseClient":
        """Return the cached client, or make it; one thread at a time."""
        _, region, service, once = key
        cached = self._cached_client(key, keys)
        if cached is not None:
            return cached
        with self._making:
            cached = self._cached_client(key, keys)
            if cached is not None:
                return cached
            client = self._sdk.client(service, region, keys.arguments(), once=once)
            with self._lock:
                # Another thread may be in a call of the former client, so that one is not closed but collected later.
                self._clients[key] = _CachedClient(keys, client)
                self._clients.move_to_end(key)
                while len(self._clients) > self._max_clients:
                    self._clients.popitem(last=False)
            return client

    def _cached_client(self, key: _ClientKey, keys: Keys) -> "BaseClient | None":
        with self._lock:
            cached = self._clients.get(key)
            if cached is None or cached.keys != keys:
                return None
            self._clients.move_to_end(key)
            return cached.client


def _login_key(credential: Credential) -> _LoginKey:
    """Return the key of a credential's login: all credentials of the type ambient share one."""
    return _CHAIN if credential.type is CredentialType.AMBIENT else (credential.id, credential.version)
