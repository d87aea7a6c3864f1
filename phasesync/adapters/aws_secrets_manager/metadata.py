"""
Resource policies of secrets: read, checked by AWS, replaced whole. Broad access is always refused.

Must not repeat AWS's text about a policy, only the names of its checks.

What surrounds a value at Secrets Manager: description, key, tags, and copies in other Regions.

Sets what it is told and leaves the rest alone. Must not write values, and must not wait for a copy to be made.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from phasesync.adapters.aws_secrets_manager.client import INVALID_PARAMETER, NOT_FOUND, SecretsManagerClient
from phasesync.adapters.aws_secrets_manager.responses import told
from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    RemoteChangedError,
)

T = TypeVar("T")

MAX_CHARACTERS: Final = 20_480
"""Longest resource policy (User Guide, quotas)."""

_IN_THE_WAY: Final = "InvalidRequestException"
_CHECK_NAME: Final = re.compile(r"[A-Za-z0-9 _.:-]{1,80}")
_PUBLIC_HINT: Final = "name the accounts or roles that may read the secret as Principal, or narrow it with a Condition"
_HINTS: Final[Mapping[str | None, str]] = {
    "PublicPolicyException": _PUBLIC_HINT,
    "MalformedPolicyDocumentException": (
        "check the policy: it needs Version and Statement, each statement Effect, Principal, Action and Resource, and "
        "every principal has to exist"
    ),
}


class AwsResourcePolicy(SecretsManagerClient):
    """
    The part of the adapter that reads and sets resource policies.

    It names no policy, so that each call is about the one called `default`, the only one that can be changed; what AWS
    keeps beside it is never read or touched (API reference, ListResourcePolicies and GetResourcePolicy, PolicyName).
    """

    def resource_policy(self, arn: str) -> str | None:
        """
        Return the resource policy as canonical JSON, None = it has none.

        Raises:
            RemoteChangedError: the object is gone or scheduled for deletion; AWS does not show its policy then.
        """
        answer = _seen_before(lambda: self._call("GetResourcePolicy", lambda sm: sm.get_resource_policy(SecretId=arn)))
        policy = told(answer, "ResourcePolicy")
        if policy is None:
            return None
        try:
            return canonical_json(parse_json_document(policy.encode()))
        except InvalidInputError:
            raise DestinationUnavailableError("secretsmanager:GetResourcePolicy: a garbled answer") from None

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """
        Replace the whole resource policy, after AWS has checked it.

        Raises:
            DestinationRejectedError: too long, malformed, or failed checks of AWS, which it names.
            RemoteChangedError: the object is gone, scheduled for deletion, or a copy.
        """
        if len(policy) > MAX_CHARACTERS:
            raise DestinationRejectedError(
                f"the resource policy has {len(policy):,} characters, the limit is {MAX_CHARACTERS:,}",
                hint="name fewer principals, or a role or an organization that stands for them",
            )
        try:
            answer = _seen_before(
                lambda: self._call(
                    "ValidateResourcePolicy",
                    lambda sm: sm.validate_resource_policy(SecretId=arn, ResourcePolicy=policy),
                )
            )
            _check(answer)
            self._call(
                "PutResourcePolicy",
                lambda sm: sm.put_resource_policy(SecretId=arn, ResourcePolicy=policy, BlockPublicPolicy=True),
                write=True,
            )
        except DestinationRejectedError as error:
            error.hint = error.hint or _HINTS.get(error.code)
            raise


def _check(answer: Mapping[str, Any]) -> None:
    """Raise DestinationRejectedError with the names of the checks that failed."""
    passed = answer.get("PolicyValidationPassed")
    if passed is True:
        return
    if passed is not False:
        raise DestinationUnavailableError("secretsmanager:ValidateResourcePolicy: a garbled answer")
    names = {told(entry, "CheckName") or "" for entry in answer.get("ValidationErrors") or []}
    failed = ", ".join(sorted(name for name in names if _CHECK_NAME.fullmatch(name))) or "a check without a name"
    raise DestinationRejectedError(f"the resource policy fails AWS's check: {failed}", hint=_PUBLIC_HINT)


def _seen_before(read: Callable[[], T]) -> T:
    """Read of an object that was there a moment ago: that it is not, or not in a fit state, means that it changed."""
    try:
        return read()
    except DestinationRejectedError as error:
        if error.code not in (NOT_FOUND, _IN_THE_WAY):
            raise
        changed = RemoteChangedError(
            f"{error.message}: the object is gone or scheduled for deletion",
            code=error.code,
            request_id=error.request_id,
        )
    raise changed


_KEY_HINT: Final = (
    "check that the key exists, is symmetric (SYMMETRIC_DEFAULT) and is in the secret's Region; "
    "phasesync syncs update NAME --kms-key ARN sets another one"
)


class AwsMetadata(SecretsManagerClient):
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
