"""The IAM policy for the KMS keys that encrypt root keys. What an identity may do with them is decided here."""

from collections.abc import Sequence
from typing import Final

from phasesync.core.iam.document import VERSION, Document, allow

ROOT_KEY_CONTEXT: Final = "phasesync:instance"
"""Name in the encryption context whose value is the id of the installation."""


def root_key_policy(kms_keys: Sequence[str], *, instance_id: str | None) -> Document:
    """
    Return the policy of who opens root keys, and of who makes them.

    Args:
        kms_keys: ARNs of the KMS keys.
        instance_id: the installation; None if there is none yet, and then the policy is for every one.
    """
    condition = (
        None if instance_id is None else {"StringEquals": {f"kms:EncryptionContext:{ROOT_KEY_CONTEXT}": instance_id}}
    )
    return {
        "Version": VERSION,
        "Statement": [
            allow("OpenRootKeys", ["kms:Decrypt"], kms_keys, condition),
            # A statement of its own: a daemon makes none.
            allow("MakeRootKeys", ["kms:GenerateDataKey"], kms_keys, condition),
        ],
    }
