"""
Copies in other Regions: in progress until they settle, failed where the name is taken, read-only. Part of `FakeRemote`.

A copy that is in sync is an object in its Region; value, description, tags, rotation and resource policy follow its
primary (User Guide, replicate across Regions).
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

from phasesync.core.remote import Replica, ReplicaStatus
from phasesync.core.sync import AWS_MANAGED_KEY
from tests.fakes.objects import FakeObject, FakeObjects, in_the_way, rejected, writable


class FakeReplication(FakeObjects):
    """What ReplicateSecretToRegions and RemoveRegionsFromReplication do, and what happens afterwards."""

    def replicate(self, found: FakeObject | None, regions: Mapping[str, str]) -> None:
        """ReplicateSecretToRegions without overwriting; a copy that failed is tried again."""
        there = writable(found, "ReplicateSecretToRegions")
        standing = {region for region, copied in there.replicas.items() if copied.status is not ReplicaStatus.FAILED}
        if not regions or there.region in regions or standing & set(regions):
            raise rejected("ReplicateSecretToRegions")
        there.primary_region = there.region
        for region, key in regions.items():
            there.replicas[region] = Replica(
                status=ReplicaStatus.IN_PROGRESS, kms_key=None if key == AWS_MANAGED_KEY else key
            )
        self.changed(there)

    def remove_replicas(self, found: FakeObject | None, regions: Sequence[str]) -> None:
        """RemoveRegionsFromReplication: the copies are gone at once and for good; what else has the name stays."""
        there = writable(found, "RemoveRegionsFromReplication")
        if not regions or not set(regions) <= set(there.replicas):
            raise rejected("RemoveRegionsFromReplication")
        for region in regions:
            there.replicas.pop(region, None)
            copied = self._copy_of(there, region)
            if copied is not None:
                self.drop(copied)
        if not there.replicas:
            there.primary_region = None
        self.changed(there)

    def settle_replication(self) -> None:
        """Let time pass until every copy is in sync or has failed."""
        for there in list(self.objects.values()):
            self._settle(there)

    def outside_replicate(
        self, name: str, region: str, *, kms_key: str | None = None, account: str | None = None
    ) -> None:
        """Somebody has an object copied to a Region; that has settled already."""
        there = self.object(name) if account is None else self.object(name, account=account)
        self.replicate(there, {region: kms_key or AWS_MANAGED_KEY})
        self._settle(there)

    def outside_promote(self, name: str, region: str) -> None:
        """Somebody turns the copy in a Region into an object of its own (StopReplicationToReplica)."""
        there = self.object(name)
        copied = self._copy_of(there, region)
        if copied is None:
            raise in_the_way("StopReplicationToReplica")
        copied.primary_region = None
        del there.replicas[region]
        self.changed(copied)
        self.changed(there)

    def outside_break_replication(self, name: str, region: str) -> None:
        """The copy in a Region fails for another reason than its name, such as a key."""
        there = self.object(name)
        there.replicas[region] = replace(there.replicas[region], status=ReplicaStatus.FAILED, name_taken=False)
        self.changed(there)

    def changed(self, there: FakeObject) -> None:
        """A change of a primary is carried to its copies: at once, or when replication settles."""
        if there.replicas and self.replicates_at_once:
            self._settle(there)
        elif there.replicas:
            for region, copied in there.replicas.items():
                if copied.status is ReplicaStatus.IN_SYNC and self._is_behind(there, region):
                    there.replicas[region] = replace(copied, status=ReplicaStatus.IN_PROGRESS)
        super().changed(there)

    def _settle(self, there: FakeObject) -> None:
        for region, copied in list(there.replicas.items()):
            if copied.status is ReplicaStatus.FAILED:
                continue
            taken = self._is_taken(there, region)
            status = ReplicaStatus.FAILED if taken else ReplicaStatus.IN_SYNC
            there.replicas[region] = replace(copied, status=status, name_taken=taken)
            if not taken:
                self._carry_over(there, region)
        self.show(there)

    def _carry_over(self, there: FakeObject, region: str) -> None:
        """Make or refresh the copy in a Region."""
        copied = self._copy_of(there, region) or FakeObject(
            name=there.name, arn=there.arn.replace(f":{there.region}:", f":{region}:", 1), primary_region=there.region
        )
        copied.kms_key = there.replicas[region].kms_key
        copied.versions = {
            key: replace(version, labels=copy(version.labels)) for key, version in there.versions.items()
        }
        copied.description, copied.tags = there.description, dict(there.tags)
        copied.rotation_enabled, copied.resource_policy = there.rotation_enabled, there.resource_policy
        self._objects[there.account, region, there.name] = copied
        super().changed(copied)

    def _is_behind(self, there: FakeObject, region: str) -> bool:
        copied = self._copy_of(there, region)
        return copied is None or _content(copied) != _content(there)

    def _is_taken(self, there: FakeObject, region: str) -> bool:
        return self._copy_of(there, region) is None and (there.account, region, there.name) in self.objects

    def _copy_of(self, there: FakeObject, region: str) -> FakeObject | None:
        """Return the copy in a Region, None where it has not been made or something else has the name."""
        found = self.objects.get((there.account, region, there.name))
        return found if found is not None and found.primary_region == there.region else None


def _content(there: FakeObject) -> tuple[object, ...]:
    """Return what follows the primary."""
    labels = {key: version.labels for key, version in there.versions.items()}
    return labels, there.description, there.tags, there.rotation_enabled, there.resource_policy
