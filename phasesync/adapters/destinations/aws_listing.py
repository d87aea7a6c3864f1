"""
Lists of the secrets of an account and Region.

What AWS lists lags up to 5 minutes (API reference, ListSecrets). Must not take a missing entry for a missing object.
"""

from collections.abc import Iterator
from typing import Any, Final

from phasesync.adapters.destinations.aws_answers import listing_of, observed_of
from phasesync.adapters.destinations.aws_caller import AwsCaller
from phasesync.core.remote import TAG_INSTANCE, Observed, RemoteListing
from phasesync.errors import DestinationUnavailableError

PAGE: Final = 100
"""Most entries of one answer of ListSecrets (API reference)."""


class AwsListing(AwsCaller):
    """The part of the adapter that lists."""

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects, those scheduled for deletion too."""
        found: list[RemoteListing] = []
        arguments: dict[str, Any] = {"IncludePlannedDeletion": True}
        while limit is None or len(found) < limit:
            arguments["MaxResults"] = PAGE if limit is None else min(PAGE, limit - len(found))
            entries, token = self._page(arguments)
            found += [listing_of(entry, self._instance_id) for entry in entries]
            if token is None:
                break
            arguments["NextToken"] = token
        return found[:limit]

    def sweep(self, instance_id: str) -> Iterator[Observed]:
        """Yield the objects with our instance tag, those scheduled for deletion too; one call for each 100 of them."""
        arguments: dict[str, Any] = {
            "IncludePlannedDeletion": True,
            "MaxResults": PAGE,
            # Two filters that know nothing of each other, and of beginnings (User Guide, find secrets) ...
            "Filters": [
                {"Key": "tag-key", "Values": [TAG_INSTANCE]},
                {"Key": "tag-value", "Values": [instance_id]},
            ],
        }
        while True:
            entries, token = self._page(arguments)
            for entry in entries:
                observed = observed_of(entry, "ListSecrets")
                # ... so what they let through is looked at.
                if observed.tags.get(TAG_INSTANCE) == instance_id:
                    yield observed
            if token is None:
                return
            arguments["NextToken"] = token

    def _page(self, arguments: dict[str, Any]) -> tuple[list[Any], str | None]:
        """Return the entries of a page, which may be none, and the token of the next one."""
        answer = self._call("ListSecrets", lambda sm: sm.list_secrets(**arguments))
        entries = answer.get("SecretList")
        if not isinstance(entries, list):  # An empty page has an empty list.
            raise DestinationUnavailableError("secretsmanager:ListSecrets: a garbled answer")
        return entries, answer.get("NextToken") or None
