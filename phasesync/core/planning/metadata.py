"""
Which metadata differs: description, KMS key, tags, replica Regions, resource policy.

Each dimension is compared separately. A dimension that the sync does not set is never reported. The journal keeps a
digest of what was wanted when a dimension was last in step. If that is still wanted and AWS reports something else,
someone else changed it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from phasesync.core.remote import Desired, JournalEntry, Observed, ReplicaStatus
from phasesync.core.sync import AWS_MANAGED_KEY

_DIGITS: Final = 16


class Dimension(StrEnum):
    """Metadata that is compared separately from the value."""

    DESCRIPTION = "description"
    KEY = "key"
    TAGS = "tags"
    REPLICAS = "replicas"
    POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class ReplicaDiff:
    """
    What differs in the copies in other Regions.

    Attributes:
        add: Region -> key ARN there, or AWS_MANAGED_KEY; failed copies are tried again.
        remove: Regions with a copy of ours that is no longer wanted.
        blocked: Regions where another secret has the name.
        failed: Regions in `add` that had a copy which failed. That is no drift.
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
    """Return the digest of a text as AWS returned it; None has a digest too."""
    return _digest(text)


def differing(wanted: Desired, observed: Observed, entry: JournalEntry) -> frozenset[Dimension]:
    """Return the dimensions in which the object is not as wanted."""
    dimensions = set()
    if wanted.description is not None and wanted.description != observed.description:
        dimensions.add(Dimension.DESCRIPTION)
    if key_differs(wanted, observed):
        dimensions.add(Dimension.KEY)
    if any(observed.tags.get(key) != value for key, value in wanted.tags.items()) or any(
        key in observed.tags for key in wanted.unwanted_tags
    ):
        dimensions.add(Dimension.TAGS)
    if replica_diff(wanted, observed, entry).any:
        dimensions.add(Dimension.REPLICAS)
    if _policy_differs(wanted, observed, entry):
        dimensions.add(Dimension.POLICY)
    return frozenset(dimensions)


def changed_outside(dimension: Dimension, wanted: Desired, entry: JournalEntry) -> bool:
    """Return whether a dimension that differs was in step before with what is wanted now: someone else changed it."""
    return entry.metadata.get(dimension) == wanted_metadata(wanted).get(dimension)


def key_differs(wanted: Desired, observed: Observed) -> bool:
    """Return whether the KMS key has to be changed."""
    return wanted.kms_key is not None and is_other_key(wanted.kms_key, observed.kms_key)


def is_other_key(wanted: str, observed: str | None) -> bool:
    """
    Return whether a KMS key is not the wanted one.

    AWS reports no key if the AWS-managed key is in use, and may report a key's id in place of its ARN.
    """
    if wanted == AWS_MANAGED_KEY:
        return observed is not None
    return observed is None or wanted.rpartition("/")[2] != observed.rpartition("/")[2]


def replica_diff(wanted: Desired, observed: Observed, entry: JournalEntry) -> ReplicaDiff:
    """Return what differs in the copies; a copy that someone else made is never removed, nor is its key changed."""
    if wanted.replicas is None:
        return ReplicaDiff(add={}, remove=())
    failed = {region for region, copy in observed.replicas.items() if copy.status is ReplicaStatus.FAILED}
    blocked = {region for region in failed & wanted.replicas.keys() if observed.replicas[region].name_taken}
    anew = (failed & wanted.replicas.keys()) - blocked
    surplus = observed.replicas.keys() - wanted.replicas.keys()
    missing = (wanted.replicas.keys() - observed.replicas.keys()) | anew
    return ReplicaDiff(
        add={region: key for region, key in sorted(wanted.replicas.items()) if region in missing},
        remove=tuple(sorted(surplus & set(entry.replicas_written))),
        blocked=tuple(sorted(blocked)),
        failed=tuple(sorted(anew)),
    )


def _policy_differs(wanted: Desired, observed: Observed, entry: JournalEntry) -> bool:
    if wanted.resource_policy is None or observed.resource_policy == wanted.resource_policy:
        return False
    # AWS may return a policy worded differently than it was sent: that is no difference.
    as_stored = entry.policy_as_stored is not None and entry.policy_as_stored == text_digest(observed.resource_policy)
    return not (as_stored and changed_outside(Dimension.POLICY, wanted, entry))


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
