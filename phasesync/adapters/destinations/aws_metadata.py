"""
What surrounds a value at Secrets Manager: description, key, tags, and copies in other Regions.

Sets what it is told and leaves the rest alone. Must not write values, and must not wait for a copy to be made.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from phasesync.adapters.destinations.aws_caller import INVALID_PARAMETER, NOT_FOUND, AwsCaller
from phasesync.core.sync_config import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError

_KEY_HINT: Final = (
    "check that the key exists, is symmetric (SYMMETRIC_DEFAULT) and is in the secret's Region; "
    "phasesync syncs update NAME --kms-key ARN sets another one"
)


class AwsMetadata(AwsCaller):
    """The part of the adapter that sets metadata and copies."""

    def update_metadata(
        self,
        arn: str,
        *,
        description: str | None = None,
        kms_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
    ) -> None:
        """Set what is given, one call for each, and leave the rest alone."""
        if description is not None:
            self._call("UpdateSecret", lambda sm: sm.update_secret(SecretId=arn, Description=description), write=True)
        if kms_key is not None:
            # An empty key id goes back to the AWS-managed key (API reference, UpdateSecret).
            self._set_key(arn, "" if kms_key == AWS_MANAGED_KEY else kms_key)
        if tags:
            tagged: Any = tag_list(tags)
            self._call("TagResource", lambda sm: sm.tag_resource(SecretId=arn, Tags=tagged), write=True)
        if untag:
            keys = sorted(untag)
            self._call("UntagResource", lambda sm: sm.untag_resource(SecretId=arn, TagKeys=keys), write=True)

    def replicate(self, arn: str, regions: Mapping[str, str]) -> None:
        """
        Have it copied to other Regions; a copy whose name is taken there fails later, and nothing is written over.

        No call is made where no Region is named.
        """
        added: Any = [_replica_region(region, key) for region, key in sorted(regions.items())]
        if added:
            self._call(
                "ReplicateSecretToRegions",
                lambda sm: sm.replicate_secret_to_regions(
                    SecretId=arn, AddReplicaRegions=added, ForceOverwriteReplicaSecret=False
                ),
                write=True,
            )

    def remove_replicas(self, arn: str, regions: Sequence[str]) -> None:
        """Delete the copies in these Regions, at once and for good. No call is made where no Region is named."""
        removed = sorted(regions)
        if removed:
            # Never StopReplicationToReplica: that makes an object of its own of the copy (User Guide, promote).
            self._call(
                "RemoveRegionsFromReplication",
                lambda sm: sm.remove_regions_from_replication(SecretId=arn, RemoveReplicaRegions=removed),
                write=True,
            )

    def _set_key(self, arn: str, key_id: str) -> None:
        try:
            self._call("UpdateSecret", lambda sm: sm.update_secret(SecretId=arn, KmsKeyId=key_id), write=True)
        except DestinationRejectedError as error:
            refusal = error
        else:
            return
        raise blaming_key(refusal, key_id)


def blaming_key(refusal: DestinationRejectedError, key_id: str | None) -> DestinationRejectedError:
    """
    Return a refusal, with the key named as its cause where AWS may have meant the key.

    Secrets Manager answers a key that does not exist, is in another Region or is asymmetric with the code of all wrong
    arguments: "The operation failed because of an invalid KMS key" (public, terraform-provider-aws pull request 13303).

    Args:
        refusal: of a call that sets a key.
        key_id: the key that was sent; empty and None = none of the customer's.
    """
    if refusal.code not in (INVALID_PARAMETER, NOT_FOUND) or not key_id:
        return refusal
    return DestinationRejectedError(
        f"{refusal.message}: most likely it does not accept the KMS key",
        hint=_KEY_HINT,
        code=refusal.code,
        request_id=refusal.request_id,
    )


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of AWS, by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _replica_region(region: str, key: str) -> dict[str, str]:
    return {"Region": region} if key == AWS_MANAGED_KEY else {"Region": region, "KmsKeyId": key}
