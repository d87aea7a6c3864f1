"""
Secrets Manager in memory: the objects of all accounts and Regions, with AWS's limits and refusals.

It is stricter than the public emulators: refusals on what is scheduled for deletion or a copy, limits of size, labels,
tags, versions. A test that plays another actor calls a method that begins with `outside_`. Must not know hooks or
counts; those are in `destination.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import check_size
from phasesync.core.remote import (
    CURRENT,
    PENDING,
    PREVIOUS,
    CrossAccountLink,
    CrossAccountStatus,
    Observed,
    Payload,
    Replica,
    ReplicaStatus,
    ResourceExists,
    WriteResult,
)
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, QuotaExceededError
from tests.fakes.kms_keys import FakeKeys
from tests.fakes.objects import (
    ACCOUNT,
    REGION,
    START,
    VALID_NAME,
    FakeObject,
    FakeVersion,
    LateLists,
    in_the_way,
    missing,
    rejected,
    writable,
)
from tests.fakes.policies import MAX_CHARACTERS, as_stored, check_policy

__all__ = ["ACCOUNT", "REGION", "START", "VALID_NAME", "FakeObject", "FakeRemote", "FakeVersion"]

_MAX_TAGS: Final = 50
_MAX_VERSIONS: Final = 100
_KEPT_FOR: Final = timedelta(hours=24)
"""Versions younger than this are never pruned (User Guide, secret versions)."""


class FakeRemote:
    """
    All secrets. Default account and Region serve tests that need only one of each.

    A copy in another Region is in progress until it settles, failed where the name is taken, and read-only; one that is
    in sync is an object in its Region. Value, description, tags, rotation and resource policy follow its primary. Of a
    copy in another account only the value follows; each account ends the replication on its side before it deletes
    (User Guide, replicate across accounts and stop cross-account replication).
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: START,
        lag: timedelta = timedelta(0),
        replicates_at_once: bool = False,
    ) -> None:
        """
        Args:
            now: the time, for versions, deletions, reads and lists.
            lag: how long a change takes to show in lists; AWS says up to 5 minutes.
            replicates_at_once: copies are in sync at once; else they are in progress until `settle_replication`.
        """
        self.now = now
        self.keys = FakeKeys()
        """The KMS keys."""
        self.lag = lag
        self.replicates_at_once = replicates_at_once
        self.sorting: Literal["done", "refused", "ignored"] = "done"
        """How lists treat SortBy; ignored: they come by name."""
        self.lag_share: Callable[[str], float] = lambda name: 1
        """Name -> the share of `lag` by which lists lag for that object, 0 to 1."""
        self.undated = False
        """Changes do not move LastChangedDate."""
        self._objects: dict[tuple[str, str, str], FakeObject] = {}
        self._lists = LateLists()
        self._made = 0

    # --- objects

    @property
    def objects(self) -> dict[tuple[str, str, str], FakeObject]:
        """(account, Region, name) -> object; it is gone after its recovery window."""
        for secret in list(self._objects.values()):
            if secret.deleted_at is not None and secret.deleted_at <= self.now():
                self.drop(secret)
        return self._objects

    def object(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> FakeObject:
        """Return an object by name or ARN; KeyError when there is none."""
        target = self.find(name, account=account, region=region)
        if target is None:
            raise KeyError(f"no object {name} in {account} {region}")
        return target

    def find(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> FakeObject | None:
        """Return an object by name or ARN, None if there is none."""
        for (its_account, its_region, its_name), candidate in self.objects.items():
            if (its_account, its_region) == (account, region) and name in (its_name, candidate.arn):
                return candidate
        return None

    def listed(self, *, account: str, region: str) -> list[Observed]:
        """Return what ListSecrets shows, by name: as things stood `lag` ago, and nothing of copies."""
        if self.lag:
            now = self.now()
            return self._lists.as_of(lambda name: now - self.lag * self.lag_share(name), account, region)
        return [
            LateLists.entry_of(secret.observed())
            for (its_account, its_region, _), secret in sorted(self.objects.items())
            if (its_account, its_region) == (account, region)
        ]

    def newest_first(self, listed: list[Observed]) -> list[Observed]:
        """Return a list as SortBy=last-changed-date orders it: the newest first, equal dates by name."""
        if self.sorting == "refused":
            raise rejected("ListSecrets")
        if self.sorting == "ignored":
            return listed
        return sorted(listed, key=lambda observed: observed.last_changed_at or START, reverse=True)

    def add(self, name: str, *, account: str, region: str) -> FakeObject:
        """Make an empty object; it replaces one of the same name. The caller calls `changed` in the end."""
        self._made += 1
        secret = FakeObject(
            name=name, arn=f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-{_suffix(self._made)}"
        )
        self._objects[account, region, name] = secret
        return secret

    def add_version(self, secret: FakeObject, version_id: str, value: SecretValue) -> FakeVersion:
        """Write a version, which becomes the current one."""
        version = secret.versions[version_id] = FakeVersion(version_id, value, set(), self.now())
        _make_current(secret, version)
        self.changed(secret)
        return version

    def new_version_id(self, by: str) -> str:
        """Return an id for a version that another actor writes."""
        self._made += 1
        return f"{by}-{self._made:032}"

    def changed(self, secret: FakeObject) -> None:
        """A change of a primary is carried to its copies: at once, or when replication settles."""
        if secret.replicas and self.replicates_at_once:
            self._settle(secret)
        elif secret.replicas:
            for region, copied in secret.replicas.items():
                if copied.status is ReplicaStatus.IN_SYNC and self._is_behind(secret, region):
                    secret.replicas[region] = replace(copied, status=ReplicaStatus.IN_PROGRESS)
        self._touch(secret)

    def show(self, secret: FakeObject) -> None:
        """Let the lists show the present state of an object when their lag has passed."""
        self._lists.note(self.now(), secret.account, secret.region, secret.name, secret.observed(), keep=self.lag)

    def drop(self, secret: FakeObject) -> None:
        """Remove an object for good."""
        del self._objects[secret.account, secret.region, secret.name]
        self._lists.note(self.now(), secret.account, secret.region, secret.name, None, keep=self.lag)

    # --- values and metadata

    def create(
        self,
        name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
        account: str,
        region: str,
    ) -> WriteResult | ResourceExists:
        """CreateSecret."""
        self._check(payload, token)
        if not VALID_NAME.fullmatch(name):
            raise rejected("CreateSecret")
        secret = self.find(name, account=account, region=region)
        if secret is not None:
            if secret.deleted_at is not None:
                raise in_the_way("CreateSecret")
            former = secret.versions.get(token)
            # The same request once more is answered as the first time.
            return (
                ResourceExists() if former is None or former.value != payload.value else _written(secret, former, None)
            )
        _check_tags({}, tags)
        fake_object = self.add(name, account=account, region=region)
        fake_object.description = description or ""
        fake_object.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        fake_object.tags = dict(tags)
        return _written(fake_object, self.add_version(fake_object, token, payload.value), None)

    def put(self, target: FakeObject | None, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        """PutSecretValue without labels: the new version becomes current, the one before it previous."""
        self._check(payload, token)
        secret = writable(target, "PutSecretValue", value=True)
        former = secret.versions.get(token)
        if former is not None:
            same = former.value == payload.value
            return _written(secret, former, CURRENT in former.labels) if same else ResourceExists()
        self._prune(secret)
        written = _written(secret, self.add_version(secret, token, payload.value), True)
        self._follow_primary(secret)
        return written

    def update(
        self,
        target: FakeObject | None,
        *,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str] | None,
        untag: Sequence[str],
    ) -> None:
        """UpdateSecret, TagResource and UntagResource, whichever is asked for."""
        secret = writable(target, "UpdateSecret")
        if description is not None:
            secret.description = description
        if kms_key is not None:
            secret.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        if tags:
            _check_tags(secret.tags, tags)
            secret.tags.update(tags)
        for key in untag:
            secret.tags.pop(key, None)
        self.changed(secret)

    def read(self, target: FakeObject | None) -> SecretValue | None:
        """GetSecretValue; AWS notes the day."""
        if target is None or target.current is None:
            return None
        if target.deleted_at is not None:
            raise DestinationRejectedError("AWS does not show a deleted value", code="InvalidRequestException")
        target.last_read_on = self.now().date()
        self.show(target)
        return target.current.value

    # --- deletion (User Guide, delete a secret; API reference, DeleteSecret and RestoreSecret)

    def delete(self, target: FakeObject | None, *, recovery_days: int | None) -> None:
        """DeleteSecret; None forces it, which succeeds where nothing is."""
        if recovery_days is not None and not 7 <= recovery_days <= 30:
            raise rejected("DeleteSecret")
        if target is None:
            if recovery_days is None:
                return
            raise missing("DeleteSecret")
        if target.replicas:
            raise in_the_way("DeleteSecret", "InvalidParameterException")
        if target.is_replica:
            raise rejected("DeleteSecret")
        if target.cross_account_copies or target.cross_account_primary is not None:
            raise in_the_way("DeleteSecret")
        if target.owning_service is not None:
            raise in_the_way("DeleteSecret")
        if recovery_days is None:
            self.drop(target)
            return
        if target.deleted_at is not None:
            raise in_the_way("DeleteSecret")
        target.deleted_at = self.now() + timedelta(days=recovery_days)
        self.changed(target)

    def restore(self, target: FakeObject | None) -> None:
        """RestoreSecret; what is not scheduled for deletion stays as it is."""
        if target is None:
            raise missing("RestoreSecret")
        if target.is_replica:
            raise rejected("RestoreSecret")
        target.deleted_at = None
        self.changed(target)

    # --- resource policies (User Guide, resource-based policies; API reference, PutResourcePolicy and Validate...)

    def policy_of(self, target: FakeObject | None) -> str | None:
        """GetResourcePolicy; AWS refuses it while a deletion is scheduled."""
        if target is None:
            raise missing("GetResourcePolicy")
        if target.deleted_at is not None:
            raise in_the_way("GetResourcePolicy")
        return target.resource_policy

    def put_policy(self, target: FakeObject | None, policy: str) -> None:
        """ValidateResourcePolicy, then PutResourcePolicy with BlockPublicPolicy."""
        secret = writable(target, "PutResourcePolicy")
        if not 1 <= len(policy) <= MAX_CHARACTERS:
            raise rejected("PutResourcePolicy")
        check_policy(policy)
        secret.resource_policy = as_stored(policy)
        self.changed(secret)

    # --- copies in other Regions (User Guide, replicate across Regions)

    def replicate(self, target: FakeObject | None, regions: Mapping[str, str]) -> None:
        """ReplicateSecretToRegions without overwriting; a copy that failed is tried again."""
        secret = writable(target, "ReplicateSecretToRegions")
        standing = {region for region, copied in secret.replicas.items() if copied.status is not ReplicaStatus.FAILED}
        if not regions or secret.region in regions or standing & set(regions):
            raise rejected("ReplicateSecretToRegions")
        secret.primary_region = secret.region
        for region, key in regions.items():
            secret.replicas[region] = Replica(
                status=ReplicaStatus.IN_PROGRESS, kms_key=None if key == AWS_MANAGED_KEY else key
            )
        self.changed(secret)

    def remove_replicas(self, target: FakeObject | None, regions: Sequence[str]) -> None:
        """RemoveRegionsFromReplication: the copies are gone at once and for good; what else has the name stays."""
        secret = writable(target, "RemoveRegionsFromReplication")
        if not regions or not set(regions) <= set(secret.replicas):
            raise rejected("RemoveRegionsFromReplication")
        for region in regions:
            secret.replicas.pop(region, None)
            copied = self._copy_of(secret, region)
            if copied is not None:
                self.drop(copied)
        if not secret.replicas:
            secret.primary_region = None
        self.changed(secret)

    def settle_replication(self) -> None:
        """Let time pass until every copy is in sync or has failed."""
        for secret in list(self.objects.values()):
            self._settle(secret)

    # --- out-of-band changes by other actors, who are bound by AWS's rules too

    def outside_create(
        self,
        name: str,
        value: str | bytes = "theirs",
        *,
        tags: Mapping[str, str] | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> FakeObject:
        """Another actor makes an object."""
        fake_object = self.add(name, account=account, region=region)
        fake_object.tags = dict(tags or {})
        self.add_version(fake_object, self.new_version_id("outside"), _value(value))
        return fake_object

    def outside_put(self, name: str, value: str | bytes, *, account: str = ACCOUNT, region: str = REGION) -> str:
        """Another actor writes a value; return its version id."""
        secret = self.object(name, account=account, region=region)
        return self.add_version(secret, self.new_version_id("outside"), _value(value)).id

    def outside_delete(
        self, name: str, *, recovery_days: int | None = 30, account: str = ACCOUNT, region: str = REGION
    ) -> None:
        """Another actor deletes an object: scheduled, or at once where `recovery_days` is None."""
        self.delete(self.object(name, account=account, region=region), recovery_days=recovery_days)

    def outside_restore(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Another actor cancels a scheduled deletion."""
        self.restore(self.object(name, account=account, region=region))

    def outside_tag(self, name: str, tags: Mapping[str, str], *, untag: Sequence[str] = ()) -> None:
        """Another actor changes tags, ours included."""
        secret = self.object(name)
        secret.tags.update(tags)
        for key in untag:
            secret.tags.pop(key, None)
        self.changed(secret)

    def outside_describe(self, name: str, *, description: str | None = None, kms_key: str | None = None) -> None:
        """Another actor sets the description or the key; a `kms_key` of AWS_MANAGED_KEY is the AWS-managed one."""
        secret = self.object(name)
        if description is not None:
            secret.description = description
        if kms_key is not None:
            secret.kms_key = None if kms_key == AWS_MANAGED_KEY else kms_key
        self.changed(secret)

    def outside_read(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Another actor reads the value: AWS notes the day."""
        secret = self.object(name, account=account, region=region)
        secret.last_read_on = self.now().date()
        self.show(secret)

    def outside_rotation(self, name: str) -> None:
        """Another actor has AWS rotate the object: a pending version appears."""
        secret = self.object(name)
        secret.rotation_enabled = True
        version_id = self.new_version_id("rotation")
        secret.versions[version_id] = FakeVersion(version_id, SecretValue("rotating"), {PENDING}, self.now())
        self.changed(secret)

    def outside_service(self, name: str, service: str = "rds") -> None:
        """An AWS service takes an object over."""
        secret = self.object(name)
        secret.owning_service = service
        self.changed(secret)

    def outside_policy(self, name: str, policy: str | None, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """Another actor sets the resource policy, unchecked, or takes it off."""
        secret = self.object(name, account=account, region=region)
        secret.resource_policy = None if policy is None else as_stored(policy)
        self.changed(secret)

    def outside_replicate(
        self, name: str, region: str, *, kms_key: str | None = None, account: str | None = None
    ) -> None:
        """Another actor has an object copied to a Region; that has settled already."""
        secret = self.object(name) if account is None else self.object(name, account=account)
        self.replicate(secret, {region: kms_key or AWS_MANAGED_KEY})
        self._settle(secret)

    def outside_promote(self, name: str, region: str) -> None:
        """Another actor turns the copy in a Region into an object of its own (StopReplicationToReplica)."""
        secret = self.object(name)
        copied = self._copy_of(secret, region)
        if copied is None:
            raise in_the_way("StopReplicationToReplica")
        copied.primary_region = None
        del secret.replicas[region]
        self.changed(copied)
        self.changed(secret)

    def outside_break_replication(self, name: str, region: str) -> None:
        """The copy in a Region fails for another reason than its name, such as a key."""
        secret = self.object(name)
        secret.replicas[region] = replace(secret.replicas[region], status=ReplicaStatus.FAILED, name_taken=False)
        self.changed(secret)

    def outside_external(self, name: str, kind: str = "SalesforceClientSecret") -> None:
        """Another actor makes a managed external secret of an object."""
        secret = self.object(name)
        secret.external_type = kind
        self.changed(secret)

    def outside_copy(
        self,
        name: str,
        *,
        account: str,
        primary_account: str = ACCOUNT,
        role_arn: str | None = None,
        region: str = REGION,
    ) -> FakeObject:
        """
        Both sides have an object copied to another account; that has settled already.

        Args:
            name: of the primary, and of the copy.
            account: of the copy.
            primary_account: of the primary.
            role_arn: the role that replicates; None if each writer does.
            region: of both.
        """
        primary = self.object(name, account=primary_account, region=region)
        fake_object = self.add(name, account=account, region=region)
        fake_object.cross_account_primary = CrossAccountLink(arn=primary.arn, status=CrossAccountStatus.PENDING)
        link = CrossAccountLink(arn=fake_object.arn, status=CrossAccountStatus.IN_PROGRESS, role_arn=role_arn)
        primary.cross_account_copies = (*primary.cross_account_copies, link)
        self._follow_primary(primary)
        self.changed(primary)
        return fake_object

    def outside_end_copies(self, name: str, *, account: str = ACCOUNT, region: str = REGION) -> None:
        """The owner of a primary ends its replication; the copies stay, detached."""
        primary = self.object(name, account=account, region=region)
        for fake_object in self._copies_of(primary):
            self._set_copy_status(fake_object, CrossAccountStatus.DETACHED)
        primary.cross_account_copies = ()
        self.changed(primary)

    # --- private

    def _touch(self, secret: FakeObject) -> None:
        """Note when an object was changed, and show it to the lists."""
        if not self.undated:
            secret.changed_at = self.now()
        self.show(secret)

    def _check(self, payload: Payload, token: str) -> None:
        check_size(payload)
        if not 32 <= len(token) <= 64 or len(payload.value) == 0:
            raise rejected("the request")

    def _prune(self, secret: FakeObject) -> None:
        """Make room for a version: what has no label and is older than a day goes, oldest first."""
        for version in list(secret.versions.values()):
            if len(secret.versions) < _MAX_VERSIONS:
                return
            if not version.labels and self.now() - version.written_at > _KEPT_FOR:
                del secret.versions[version.id]
        if len(secret.versions) >= _MAX_VERSIONS:
            raise QuotaExceededError(
                "the secret has 100 versions, none of them old enough", code="LimitExceededException"
            )

    def _follow_primary(self, primary: FakeObject) -> None:
        """Bring the values of copies in step with their primary's."""
        for fake_object in self._copies_of(primary):
            fake_object.versions = {
                key: replace(version, labels=copy(version.labels))
                for key, version in primary.versions.items()
                if version.labels
            }
            self._set_copy_status(fake_object, CrossAccountStatus.IN_SYNC)
        primary.cross_account_copies = tuple(
            replace(link, status=CrossAccountStatus.IN_SYNC) for link in primary.cross_account_copies
        )

    def _copies_of(self, primary: FakeObject) -> list[FakeObject]:
        arns = {link.arn for link in primary.cross_account_copies}
        return [each for each in self.objects.values() if each.arn in arns]

    def _set_copy_status(self, fake_object: FakeObject, status: CrossAccountStatus) -> None:
        if fake_object.cross_account_primary is not None:
            fake_object.cross_account_primary = replace(fake_object.cross_account_primary, status=status)
        self.changed(fake_object)

    def _settle(self, secret: FakeObject) -> None:
        for region, copied in list(secret.replicas.items()):
            if copied.status is ReplicaStatus.FAILED:
                continue
            taken = self._is_taken(secret, region)
            status = ReplicaStatus.FAILED if taken else ReplicaStatus.IN_SYNC
            secret.replicas[region] = replace(copied, status=status, name_taken=taken)
            if not taken:
                self._carry_over(secret, region)
        self.show(secret)

    def _carry_over(self, secret: FakeObject, region: str) -> None:
        """Make or refresh the copy in a Region."""
        copied = self._copy_of(secret, region) or FakeObject(
            name=secret.name,
            arn=secret.arn.replace(f":{secret.region}:", f":{region}:", 1),
            primary_region=secret.region,
        )
        copied.kms_key = secret.replicas[region].kms_key
        copied.versions = {
            key: replace(version, labels=copy(version.labels)) for key, version in secret.versions.items()
        }
        copied.description, copied.tags = secret.description, dict(secret.tags)
        copied.rotation_enabled, copied.resource_policy = secret.rotation_enabled, secret.resource_policy
        self._objects[secret.account, region, secret.name] = copied
        self._touch(copied)

    def _is_behind(self, secret: FakeObject, region: str) -> bool:
        copied = self._copy_of(secret, region)
        return copied is None or _content(copied) != _content(secret)

    def _is_taken(self, secret: FakeObject, region: str) -> bool:
        return self._copy_of(secret, region) is None and (secret.account, region, secret.name) in self.objects

    def _copy_of(self, secret: FakeObject, region: str) -> FakeObject | None:
        """Return the copy in a Region, None where it has not been made or something else has the name."""
        target = self.objects.get((secret.account, region, secret.name))
        return target if target is not None and target.primary_region == secret.region else None


def _check_tags(secret: Mapping[str, str], more: Mapping[str, str]) -> None:
    if len({*secret, *more}) > _MAX_TAGS or any(key.startswith("aws:") for key in more):
        raise rejected("TagResource")


def _written(secret: FakeObject, version: FakeVersion, current: bool | None) -> WriteResult:
    return WriteResult(arn=secret.arn, version_id=version.id, current=current)


def _make_current(secret: FakeObject, version: FakeVersion) -> None:
    former = secret.current
    if former is version:
        return
    for other in secret.versions.values():
        other.labels.discard(PREVIOUS)
    if former is not None:
        former.labels.discard(CURRENT)
        former.labels.add(PREVIOUS)
    version.labels.add(CURRENT)


def _suffix(number: int) -> str:
    """Return the six characters that end an ARN; another object of the same name gets others."""
    return f"{number:06}".translate(str.maketrans("0123456789", "AbCdEfGhIj"))


def _value(value: str | bytes) -> SecretValue:
    """Return a text as SecretString, bytes as SecretBinary."""
    return SecretValue(value, ValueType.BINARY if isinstance(value, bytes) else ValueType.TEXT)


def _content(secret: FakeObject) -> tuple[object, ...]:
    """Return what follows the primary."""
    labels = {key: version.labels for key, version in secret.versions.items()}
    return labels, secret.description, secret.tags, secret.rotation_enabled, secret.resource_policy
