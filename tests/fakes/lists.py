"""
Lists that lag: what ListSecrets shows is how things stood a while ago (API reference, ListSecrets: up to 5 minutes).

Keeps as much of the past as the lag asks for. Must not know objects, only what was to be seen of them.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from phasesync.core.remote import Observed

_Key = tuple[str, str, str]


class LateLists:
    """Remembers how every object looked when."""

    def __init__(self) -> None:
        self._past: dict[_Key, list[tuple[datetime, Observed | None]]] = {}

    def note(
        self, at: datetime, account: str, region: str, name: str, looks: Observed | None, *, keep: timedelta
    ) -> None:
        """
        Remember how an object looks from now on.

        Args:
            at: now.
            account: of the object.
            region: of the object.
            name: of the object.
            looks: None = it is gone.
            keep: how much of the past somebody may ask for.
        """
        past = self._past.setdefault((account, region, name), [])
        past.append((at, looks))
        known = [number for number, (since, _) in enumerate(past) if since <= at - keep]
        if known:
            del past[: known[-1]]

    def as_of(self, at: datetime, account: str, region: str) -> list[Observed]:
        """Return what a list of an account and Region showed at an instant, by name."""
        shown = []
        for key in sorted(self._past):
            if key[:2] == (account, region):
                looks = next((looks for since, looks in reversed(self._past[key]) if since <= at), None)
                shown += [] if looks is None else [self.entry_of(looks)]
        return shown

    @staticmethod
    def entry_of(looks: Observed) -> Observed:
        """Return what a list tells of an object: nothing of copies (API reference, SecretListEntry)."""
        return replace(looks, replicas={}, cross_account_primary=None, cross_account_copies=())
