"""
What differs besides the value: description, KMS key, tags, replica Regions, resource policy.

Each dimension is compared on its own; one that the sync does not set is never reported. The journal keeps a digest of
what was wanted when a dimension was last in step: where that still holds and AWS shows something else, somebody else
changed it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from phasesync.core.remote import Desired, JournalEntry, Observed, ReplicaStatus
from phasesync.core.sync import AWS_MANAGED_KEY


class Dimension(StrEnum):
    """One thing that is compared apart from the value."""

    DESCRIPTION = "description"
    KEY = "key"
    TAGS = "tags"
    REPLICAS = "replicas"
    POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class ReplicaDiff:
    """
    What differs in copies in other Regions.

    Attributes:
        add: Region -> key ARN there, or AWS_MANAGED_KEY; those that failed are tried again.
        remove: Regions whose copies go: ours that are no longer wanted.
        blocked: Regions where something else has the name.
        failed: Regions in `add` whose copy was there and failed: nobody's doing.
    """

    add: Mapping[str, str]
    remove: tuple[str, ...]
    blocked: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.add or self.remove)


def wanted_metadata(wanted: Desired) -> dict[str, str]:
    """Return dimension -> digest of what is wanted, for the dimensions that are set."""
    values: dict[Dimension, Any] = {
        Dimension.DESCRIPTION: wanted.description,
        Dimension.KEY: wanted.kms_key,
        Dimension.TAGS: sorted(wanted.tags.items()),
        Dimension.REPLICAS: None if wanted.replicas is None else sorted(wanted.replicas.items()),
        Dimension.POLICY: wanted.resource_policy,
    }
    return {str(dimension): _digest(value) for dimension, value in values.items() if value is not None}


def text_digest(text: str | None) -> str:
    """Return the digest of a text as AWS gave it back; None has one too."""
    return _digest(text)


def differing(wanted: Desired, seen: Observed, entry: JournalEntry) -> frozenset[Dimension]:
    """Return the dimensions in which the object is not as wanted."""
    found = set()
    if wanted.description is not None and wanted.description != seen.description:
        found.add(Dimension.DESCRIPTION)
    if key_differs(wanted, seen):
        found.add(Dimension.KEY)
    if any(seen.tags.get(key) != value for key, value in wanted.tags.items()) or any(
        key in seen.tags for key in wanted.unwanted_tags
    ):
        found.add(Dimension.TAGS)
    if replica_diff(wanted, seen, entry).any:
        found.add(Dimension.REPLICAS)
    if _policy_differs(wanted, seen, entry):
        found.add(Dimension.POLICY)
    return frozenset(found)


def changed_outside(dimension: Dimension, wanted: Desired, entry: JournalEntry) -> bool:
    """Return whether a differing dimension was in step before with what is wanted now."""
    return entry.metadata.get(dimension) == wanted_metadata(wanted).get(dimension)


def key_differs(wanted: Desired, seen: Observed) -> bool:
    """Return whether the KMS key has to be changed."""
    return wanted.kms_key is not None and is_other_key(wanted.kms_key, seen.kms_key)


def is_other_key(wanted: str, seen: str | None) -> bool:
    """
    Return whether a KMS key is another than the wanted one.

    AWS reports no key where the AWS-managed one is in use, and may report a key's id in place of its ARN.
    """
    if wanted == AWS_MANAGED_KEY:
        return seen is not None
    return seen is None or wanted.rpartition("/")[2] != seen.rpartition("/")[2]


def replica_diff(wanted: Desired, seen: Observed, entry: JournalEntry) -> ReplicaDiff:
    """Return what differs in copies; a copy that somebody else made is never removed, nor its key changed."""
    if wanted.replicas is None:
        return ReplicaDiff(add={}, remove=())
    failed = {region for region, copy in seen.replicas.items() if copy.status is ReplicaStatus.FAILED}
    blocked = {region for region in failed & wanted.replicas.keys() if seen.replicas[region].name_taken}
    anew = (failed & wanted.replicas.keys()) - blocked
    surplus = seen.replicas.keys() - wanted.replicas.keys()
    missing = (wanted.replicas.keys() - seen.replicas.keys()) | anew
    return ReplicaDiff(
        add={region: key for region, key in sorted(wanted.replicas.items()) if region in missing},
        remove=tuple(sorted(surplus & set(entry.replicas_written))),
        blocked=tuple(sorted(blocked)),
        failed=tuple(sorted(anew)),
    )


def _policy_differs(wanted: Desired, seen: Observed, entry: JournalEntry) -> bool:
    if wanted.resource_policy is None or seen.resource_policy == wanted.resource_policy:
        return False
    # AWS may give a policy back in other words than it was given: that is no difference.
    as_stored = entry.policy_as_stored is not None and entry.policy_as_stored == text_digest(seen.resource_policy)
    return not (as_stored and not _newly_wanted(Dimension.POLICY, wanted, entry))


def _newly_wanted(dimension: Dimension, wanted: Desired, entry: JournalEntry) -> bool:
    return entry.metadata.get(dimension) != wanted_metadata(wanted).get(dimension)


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


_DIGITS: Final = 16
