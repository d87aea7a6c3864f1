"""
One identity: the keys that it signs with now, and the account that AWS says they belong to.

Nothing that failed is kept. Keys are dropped when they expire, when the files that they come from change, and when AWS
refuses them. An account is known for one access key only.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from phasesync.adapters.aws.single_flight import FOLLOWER_WAIT_S, SingleFlight
from phasesync.core.remote import CallerIdentity
from phasesync.errors import CredentialRejectedError, DestinationError, DestinationUnavailableError, PhasesyncError

RESOLVE_WITHIN_S: Final = 30.0
"""
How long the default chain may take. Tools that get keys from a vault or a browser session take seconds. In a
daemon, no one can answer a question of such a tool.
"""
CHAIN_WITHIN_S: Final = RESOLVE_WITHIN_S + 5
"""When the chain is given up: it ends most providers by itself, but not one that hangs in reading a file."""
RESOLVE_KEYS_WITHOUT_END_AFTER: Final = timedelta(minutes=5)
"""Keys without an expiry are resolved again after this time: their source may have other keys by now."""
RENEW_DENIED_AFTER: Final = timedelta(minutes=5)
"""How often a denied call opens a new session: AWS denies a revoked session like one without permission."""
FETCH_WITHIN_S: Final = 90.0
"""
The longest fetch: the chain below a role, a wait for a slot of the rate limiter, and a call with all its attempts. Each
has a limit of its own below this one.
"""

_EXPIRY_MARGIN: Final = timedelta(seconds=10)
"""Keys that expire sooner are not used any more: a request has to arrive before they expire."""
_JUST_NOW: Final = timedelta(seconds=1)

Stamp = tuple[object, ...]
"""Changes when one of the files changes in which the default chain looks for keys."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """
    Keys that sign requests: an access key, or those of a session. Frozen, so that they cannot change between a check
    and a call.

    Attributes:
        session_token: None for a key without an expiry.
        expires_at: None if their source does not say.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    expires_at: datetime | None

    def arguments(self) -> Mapping[str, str]:
        """Return the arguments that make a client of boto3 sign with these keys."""
        arguments = {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": self.secret_access_key}
        if self.session_token is not None:
            arguments["aws_session_token"] = self.session_token
        return arguments


def are_sendable(*parts: str) -> bool:
    """Return whether these parts of keys may be sent in a header: visible ASCII, without line ends and spaces."""
    return all(part.isascii() and part.isprintable() and " " not in part for part in parts)


@dataclass(frozen=True, kw_only=True)
class _CachedKeys:
    """Keys, the stamp of the files that they come from, when they were resolved and how long that took."""

    keys: Keys
    stamp: Stamp
    resolved_at: datetime
    took: timedelta


@dataclass(frozen=True, kw_only=True)
class _CachedIdentity:
    """The identity that an access key belongs to."""

    access_key_id: str
    identity: CallerIdentity


class Login:
    """One identity, shared by all threads. Holds no lock while keys or an identity are fetched."""

    def __init__(self, name: str, *, within_s: float = FETCH_WITHIN_S) -> None:
        """
        Args:
            name: of the identity, for messages.
            within_s: how long the resolution of its keys may take.
        """
        self._name = name
        self._keys: SingleFlight[_CachedKeys] = SingleFlight(within_s=within_s, overdue=self._overdue)
        self._identity: SingleFlight[_CachedIdentity] = SingleFlight(within_s=FETCH_WITHIN_S, overdue=_identity_overdue)
        self._lock = threading.Lock()
        self._denied_at: float | None = None
        self._forgotten_at: float | None = None

    def keys(
        self, resolve: Callable[[], Keys], *, now: Callable[[], datetime], renew_before: timedelta, stamp: Stamp = ()
    ) -> Keys:
        """
        Return the keys to sign with.

        Args:
            resolve: finds the keys from scratch.
            now: returns the time.
            renew_before: how long before they expire the keys are resolved again. Until they expire, a failure to
                resolve them that is not a verdict of AWS leaves the former keys in use.
            stamp: of the files that they come from; a change has the keys resolved again.

        Raises:
            PhasesyncError: what `resolve` raised, or that it does not end.
        """

        def fetch() -> _CachedKeys:
            began = now()
            keys = resolve()
            return _CachedKeys(keys=keys, stamp=stamp, resolved_at=now(), took=now() - began)

        def is_fresh(cached: _CachedKeys) -> bool:
            age, expires_at = now() - cached.resolved_at, cached.keys.expires_at
            if cached.stamp != stamp:
                return False
            if expires_at is None:
                return not stamp or timedelta(0) <= age < RESOLVE_KEYS_WITHOUT_END_AFTER
            # If keys live no longer than this, every call would have them resolved again.
            just_resolved = age < max(_JUST_NOW, 10 * cached.took) and now() < expires_at - _EXPIRY_MARGIN
            return just_resolved or now() < expires_at - renew_before

        former = self._keys.last()
        expires_at = None if former is None else former.keys.expires_at
        still_valid = (
            former is not None and former.stamp == stamp and (expires_at is None or now() < expires_at - _EXPIRY_MARGIN)
        )
        wait_s = FOLLOWER_WAIT_S if still_valid else None
        try:
            return self._keys.get(fetch, usable=is_fresh, basis=stamp, wait_s=wait_s).keys
        except DestinationError as error:
            if former is None or not still_valid or error.code is not None:
                raise
        return former.keys

    def last_keys(self) -> Keys | None:
        """Return the keys that were resolved last, without a call."""
        cached = self._keys.last()
        return None if cached is None else cached.keys

    def identity(self, keys: Keys, fetch: Callable[[], CallerIdentity]) -> CallerIdentity:
        """Return the identity of keys, fetched once for each access key. Raises what `fetch` raises."""

        def fetch_identity() -> _CachedIdentity:
            return _CachedIdentity(access_key_id=keys.access_key_id, identity=fetch())

        while True:
            cached = self._identity.get(
                fetch_identity, usable=lambda identity: identity.access_key_id == keys.access_key_id
            )
            if cached.access_key_id == keys.access_key_id:
                return cached.identity
            # Another thread was fetching it with other keys: they have changed in between.

    def last_identity(self) -> CallerIdentity | None:
        """Return the identity that was fetched last, without a call."""
        cached = self._identity.last()
        return None if cached is None else cached.identity

    def drop(self, keys: Keys) -> None:
        """Forget keys that AWS refused, unless they were replaced already."""
        cached = self._keys.last()
        if cached is not None and cached.keys == keys:
            self._keys.drop(cached)

    def forget(self, *, unless_within_s: float = 0.0) -> None:
        """Forget everything, failures included. Do nothing if that was done within `unless_within_s`."""
        now = time.monotonic()
        with self._lock:
            if self._forgotten_at is not None and now - self._forgotten_at < unless_within_s:
                return
            self._forgotten_at = now
            self._denied_at = None
        self._keys.drop()
        self._identity.drop()

    def may_renew_when_denied(self) -> bool:
        """Return whether new keys may be resolved after a denied call, and note that they are."""
        now = time.monotonic()
        with self._lock:
            if self._denied_at is not None and now - self._denied_at < RENEW_DENIED_AFTER.total_seconds():
                return False
            self._denied_at = now
            return True

    def _overdue(self, after_s: float) -> PhasesyncError:
        if after_s < RESOLVE_WITHIN_S:
            return CredentialRejectedError(
                f"{self._name} was asked for its keys {after_s:.0f} s ago, without an answer yet"
            )
        return CredentialRejectedError(f"{self._name} gives no keys within {after_s:.0f} s")


def _identity_overdue(after_s: float) -> PhasesyncError:
    return DestinationUnavailableError(f"sts:GetCallerIdentity: no answer for {after_s:.0f} s so far")
