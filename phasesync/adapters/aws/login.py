"""
What is known of one identity: the keys it signs with now, and whose account AWS says they belong to.

Nothing that failed is kept, and nothing that was found outlives what it was found in: keys end with their time, with
a change of the files they come from, and when AWS refuses them; an identity is that of one access key.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from phasesync.adapters.aws.ambient import RESOLVE_WITHIN_S, Stamp
from phasesync.adapters.aws.keys import Keys
from phasesync.adapters.aws.shared_answer import FOLLOW_S, SharedAnswer
from phasesync.core.remote import CallerIdentity
from phasesync.errors import CredentialRejectedError, DestinationError, DestinationUnavailableError, PhasesyncError

NO_END_FOR: Final = timedelta(minutes=5)
"""Keys that name no end are asked for again after so long: whoever gives them may give others by now."""
DENIED_EVERY: Final = timedelta(minutes=5)
"""How often a denied call opens a new session: a session that was revoked is denied like one without permission."""
CHAIN_WITHIN_S: Final = RESOLVE_WITHIN_S + 5
"""The chain ends what it can by itself; what it cannot, such as reading a file that hangs, is given up then."""
ASK_WITHIN_S: Final = 90.0
"""
The longest question: the chain below a role, a turn among AWS's quotas, and a call with all its attempts. Each has a
limit of its own below this one.
"""

_LAST_MOMENT: Final = timedelta(seconds=10)
"""Keys that end sooner are not used any more: a request has to arrive before their end."""

_JUST_NOW: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Keys, and what they were found in and when."""

    keys: Keys
    stamp: Stamp
    found_at: datetime
    took: timedelta


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Whose an access key is."""

    access_key_id: str
    identity: CallerIdentity


class Login:
    """One identity, for all threads. Holds no lock while anything is asked."""

    def __init__(self, what: str, *, within_s: float = ASK_WITHIN_S) -> None:
        """
        Args:
            what: names it in messages.
            within_s: how long its keys may take to be found.
        """
        self._what = what
        self._keys: SharedAnswer[_Held] = SharedAnswer(within_s=within_s, overdue=self._overdue)
        self._identity: SharedAnswer[_Known] = SharedAnswer(within_s=ASK_WITHIN_S, overdue=_no_identity)
        self._lock = threading.Lock()
        self._denied_at: float | None = None

    def keys(
        self, ask: Callable[[], Keys], *, now: Callable[[], datetime], renew_before: timedelta, stamp: Stamp = ()
    ) -> Keys:
        """
        Return the keys to sign with.

        Args:
            ask: finds them from scratch.
            now: the time.
            renew_before: how long before their end they are asked for again. Until they end, a failure to do so that
                is not AWS's own verdict leaves those that there are in use.
            stamp: what they are found in; others are asked for when it changes.

        Raises:
            PhasesyncError: what `ask` raised, or that it does not end.
        """

        def find() -> _Held:
            began = now()
            keys = ask()
            return _Held(keys=keys, stamp=stamp, found_at=now(), took=now() - began)

        def fresh(held: _Held) -> bool:
            age, ends = now() - held.found_at, held.keys.expires_at
            if held.stamp != stamp:
                return False
            if ends is None:
                return not stamp or timedelta(0) <= age < NO_END_FOR
            # Where keys live no longer than this, each question would else be followed by the next.
            just_found = age < max(_JUST_NOW, 10 * held.took) and now() < ends - _LAST_MOMENT
            return just_found or now() < ends - renew_before

        former = self._keys.last()
        ends = None if former is None else former.keys.expires_at
        lasts = former is not None and former.stamp == stamp and (ends is None or now() < ends - _LAST_MOMENT)
        try:
            return self._keys.get(find, usable=fresh, basis=stamp, patience_s=FOLLOW_S if lasts else None).keys
        except DestinationError as error:
            if former is None or not lasts or error.code is not None:
                raise
        return former.keys

    def last_keys(self) -> Keys | None:
        """Return the keys that were found last, without asking."""
        held = self._keys.last()
        return None if held is None else held.keys

    def identity(self, keys: Keys, ask: Callable[[], CallerIdentity]) -> CallerIdentity:
        """Return whose keys are, asked once for each access key. `ask` asks AWS with these keys; what it raises."""

        def find() -> _Known:
            return _Known(access_key_id=keys.access_key_id, identity=ask())

        while True:
            known = self._identity.get(find, usable=lambda one: one.access_key_id == keys.access_key_id)
            if known.access_key_id == keys.access_key_id:
                return known.identity
            # Another thread was asking with other keys: they have changed in between.

    def known_identity(self) -> CallerIdentity | None:
        """Return whose the last keys were, as far as it was asked."""
        known = self._identity.last()
        return None if known is None else known.identity

    def drop(self, keys: Keys) -> None:
        """Forget keys that AWS refused, unless there are others by now."""
        held = self._keys.last()
        if held is not None and held.keys == keys:
            self._keys.drop(held)

    def forget(self) -> None:
        """Forget everything, what failed included."""
        self._keys.drop()
        self._identity.drop()
        with self._lock:
            self._denied_at = None

    def may_renew_when_denied(self) -> bool:
        """Return whether a denied call is worth new keys, and note that they are being asked for."""
        now = time.monotonic()
        with self._lock:
            if self._denied_at is not None and now - self._denied_at < DENIED_EVERY.total_seconds():
                return False
            self._denied_at = now
            return True

    def _overdue(self, after_s: float) -> PhasesyncError:
        if after_s < RESOLVE_WITHIN_S:
            return CredentialRejectedError(
                f"{self._what} was asked for its keys {after_s:.0f} s ago, without an answer yet"
            )
        return CredentialRejectedError(f"{self._what} gives no keys within {after_s:.0f} s")


def _no_identity(after_s: float) -> PhasesyncError:
    return DestinationUnavailableError(f"sts:GetCallerIdentity: no answer for {after_s:.0f} s so far")
