"""The IAM policy for a place of backups in Amazon S3. What an identity may do there is decided here."""

from typing import Final

from phasesync.core.arns import region_of_key
from phasesync.core.backup_schedule import Bucket
from phasesync.core.iam.document import VERSION, Document, allow
from phasesync.core.regions import MAIN, dns_suffix_of, partition_of

_KMS_ACTIONS: Final = ("kms:GenerateDataKey", "kms:Decrypt")
"""S3 decrypts to put the parts of a large file together (S3 User Guide, multipart upload and AWS KMS)."""


def backup_policy(place: Bucket, *, region: str | None, kms_key: str | None = None) -> Document:
    """
    Return the policy of who keeps backups in a place: makes, reads, lists and removes them.

    Args:
        place: the bucket and the prefix.
        region: of the bucket, which gives the partition; None: that of the key, else the main one.
        kms_key: ARN of the customer-managed key that encrypts the bucket; None: none does.
    """
    region_of_place = region or (None if kms_key is None else region_of_key(kms_key))
    partition = MAIN if region_of_place is None else partition_of(region_of_place)
    bucket = f"arn:{partition}:s3:::{place.name}"
    statements = [
        allow(
            "KeepBackups", ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"], [f"{bucket}/{_names(place)}"]
        ),
        # A statement of its own: where nothing may be removed, it is left out.
        allow("RemoveOldBackups", ["s3:DeleteObject"], [f"{bucket}/{_names(place)}"]),
        allow("ListBackups", ["s3:ListBucket"], [bucket], {"StringLike": {"s3:prefix": place.key("*")}}),
    ]
    if kms_key is not None and region_of_place is not None:
        through = {"StringEquals": {"kms:ViaService": f"s3.{region_of_place}.{dns_suffix_of(region_of_place)}"}}
        statements.append(allow("EncryptBackups", _KMS_ACTIONS, [kms_key], through))
    return {"Version": VERSION, "Statement": statements}


def _names(place: Bucket) -> str:
    return place.key("phasesync-*")
