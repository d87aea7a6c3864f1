"""
AWS Secrets Manager as a destination.

Reads, writes and reports evidence. Must not diff, repeat, decide whose an object is, or read a value except for an
import. Values go out with CreateSecret and PutSecretValue only, whose token makes a repeated request harmless;
UpdateSecret gives no such promise (API reference, ClientRequestToken).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from phasesync.adapters.aws.policies import IMPORT_ACTIONS, LIST_ACTIONS, SYNC_ACTIONS
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.destinations.aws_answers import listing_of, observed_of, told, value_of
from phasesync.adapters.destinations.aws_caller import NOT_FOUND, AwsCaller
from phasesync.adapters.destinations.secret_names import validate_name, warn_of_name
from phasesync.adapters.destinations.spec import DestinationSpec
from phasesync.core.mapping import LIMIT_BYTES, check_size
from phasesync.core.model import AWS_MANAGED_KEY, Credential, SecretValue, ValueType
from phasesync.core.remote import CURRENT, Observed, Occupied, Payload, RemoteListing, Written
from phasesync.errors import (
    DestinationRejectedError,
    OutcomeUnknownError,
    RemoteChangedError,
)
from phasesync.ports import Destination

KIND: Final = "aws-secrets-manager"
PAGE: Final = 100
"""Most entries of one answer of ListSecrets (API reference)."""

_EXISTS: Final = "ResourceExistsException"


class AwsSecretsManager(AwsCaller):
    """One account and Region under one credential, for one run. Not for two threads at once."""

    def observe(self, remote_name: str) -> Observed | None:
        """Describe one object, by name or ARN; None = it does not exist."""
        try:
            answer = self._call("DescribeSecret", lambda sm: sm.describe_secret(SecretId=remote_name))
        except DestinationRejectedError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        observed = observed_of(answer)
        if remote_name not in (observed.name, observed.arn):
            # A part of an ARN also finds an object (User Guide, troubleshooting); we never ask with one.
            raise DestinationRejectedError("DescribeSecret: the answer is about another object than the one asked for")
        return observed

    def create(
        self,
        remote_name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
    ) -> Written | Occupied:
        """Create an object with its first version. Occupied: the name is taken, by us or by somebody else."""
        check_payload(payload)
        arguments: dict[str, Any] = {"Name": remote_name, "ClientRequestToken": token, **_value_argument(payload)}
        if description is not None:
            arguments["Description"] = description
        if kms_key is not None and kms_key != AWS_MANAGED_KEY:
            arguments["KmsKeyId"] = kms_key
        if tags:
            arguments["Tags"] = _tag_list(tags)
        try:
            answer = self._call("CreateSecret", lambda sm: sm.create_secret(**arguments), write=True)
        except RemoteChangedError as error:
            if error.code == _EXISTS:
                return Occupied()
            if error.code == NOT_FOUND:
                # There is no object yet that could be missing.
                raise DestinationRejectedError(
                    f"secretsmanager:CreateSecret: the KMS key was not found ({NOT_FOUND})",
                    hint="check that the key is in this Region and that its ARN is written in full",
                    code=error.code,
                    request_id=error.request_id,
                ) from None
            raise
        return _written(answer, "CreateSecret")

    def put_value(self, arn: str, payload: Payload, *, token: str) -> Written | Occupied:
        """Write a version. Occupied: the token is spent on another payload."""
        check_payload(payload)
        arguments: dict[str, Any] = {"SecretId": arn, "ClientRequestToken": token, **_value_argument(payload)}
        try:
            # Without VersionStages: then AWSCURRENT moves to the new version by itself.
            answer = self._call("PutSecretValue", lambda sm: sm.put_secret_value(**arguments), write=True)
        except RemoteChangedError as error:
            if error.code == _EXISTS:
                return Occupied()
            raise
        return _written(answer, "PutSecretValue")

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
            key_id = "" if kms_key == AWS_MANAGED_KEY else kms_key
            self._call("UpdateSecret", lambda sm: sm.update_secret(SecretId=arn, KmsKeyId=key_id), write=True)
        if tags:
            tag_list: Any = _tag_list(tags)
            self._call("TagResource", lambda sm: sm.tag_resource(SecretId=arn, Tags=tag_list), write=True)
        if untag:
            keys = sorted(untag)
            self._call("UntagResource", lambda sm: sm.untag_resource(SecretId=arn, TagKeys=keys), write=True)

    def restore(self, arn: str) -> None:
        """Cancel a scheduled deletion; nothing happens to an object that is not scheduled for deletion."""
        self._call("RestoreSecret", lambda sm: sm.restore_secret(SecretId=arn), write=True)

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """List objects, those scheduled for deletion too. What AWS lists may lag 5 minutes (API reference)."""
        found: list[RemoteListing] = []
        arguments: dict[str, Any] = {"IncludePlannedDeletion": True}
        while limit is None or len(found) < limit:
            arguments["MaxResults"] = PAGE if limit is None else min(PAGE, limit - len(found))
            answer = self._call("ListSecrets", lambda sm: sm.list_secrets(**arguments))
            found += [listing_of(entry, self._instance_id) for entry in answer.get("SecretList", [])]
            if not answer.get("NextToken"):
                break
            arguments["NextToken"] = answer["NextToken"]
        return found[:limit]

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Read a current value, for import only; None = the object has none, or does not exist."""
        try:
            return value_of(self._call("GetSecretValue", lambda sm: sm.get_secret_value(SecretId=remote_name)))
        except DestinationRejectedError as error:
            if error.code == NOT_FOUND:
                return None
            raise


def check_payload(payload: Payload) -> None:
    """Refuse what AWS would refuse: PayloadTooLargeError, or DestinationRejectedError for an empty payload."""
    check_size(payload)
    if len(payload.value) == 0:
        raise DestinationRejectedError("AWS does not take an empty value", hint="give the key a value, or unset it")


def _value_argument(payload: Payload) -> dict[str, str | bytes]:
    """Return the value as the argument for its type."""
    if payload.value.type is ValueType.BINARY:
        return {"SecretBinary": payload.value.reveal()}
    try:
        return {"SecretString": payload.value.reveal_text()}
    except UnicodeDecodeError:
        error = DestinationRejectedError("the payload is not UTF-8 text")
    # Out here, because the decoder's error carries the bytes and would hang on ours as its context.
    raise error


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _written(answer: Mapping[str, Any], operation: str) -> Written:
    """Read the answer to a write; one that cannot be read leaves open what has happened."""
    arn, version_id = told(answer, "ARN"), told(answer, "VersionId")
    if arn is None or version_id is None:
        raise OutcomeUnknownError(f"secretsmanager:{operation}: a garbled answer; it may have been carried out")
    labels = answer.get("VersionStages")
    return Written(arn=arn, version_id=version_id, current=None if labels is None else CURRENT in labels)


def open_destination(
    clients: AwsClients, credential: Credential, region: str, *, instance_id: str, customer: str
) -> Destination:
    """Make a destination; makes no call yet."""
    return AwsSecretsManager(clients, credential, region, instance_id=instance_id, customer=customer)


SPEC: Final = DestinationSpec(
    kind=KIND,
    payload_limit_bytes=LIMIT_BYTES,
    validate_name=validate_name,
    warn_of_name=warn_of_name,
    actions={"sync": SYNC_ACTIONS, "import": IMPORT_ACTIONS, "list": LIST_ACTIONS},
    open=open_destination,
)
