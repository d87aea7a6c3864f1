"""
What an AWS secret may be called. Pure.

Lists of the secrets of an account and Region.

What AWS lists lags up to 5 minutes (API reference, ListSecrets). Must not take a missing entry for a missing object.

AWS Secrets Manager as a destination.

Values, deletion and the SPEC are here; metadata, resource policies, lists and keys are in files of their own. Reads,
writes and reports evidence. Must not diff, repeat, decide whose an object is, or read a value except for an import.
Values go out with CreateSecret and PutSecretValue only, whose token makes a repeated request harmless; UpdateSecret
gives no such promise (API reference, ClientRequestToken).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from phasesync.adapters.aws.policies import (
    DELETE_ACTIONS,
    IMPORT_ACTIONS,
    KEY_ACTIONS,
    LIST_ACTIONS,
    REPLICATE_ACTIONS,
    RESOURCE_POLICY_ACTIONS,
    SYNC_ACTIONS,
)
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.client import INVALID_PARAMETER, NOT_FOUND, SecretsManagerClient
from phasesync.adapters.aws_secrets_manager.kms_keys import resolve_key
from phasesync.adapters.aws_secrets_manager.metadata import AwsMetadata, AwsResourcePolicy, blaming_key, tag_list
from phasesync.adapters.aws_secrets_manager.responses import listing_of, observed_of, told, value_of
from phasesync.adapters.destinations import DestinationSpec
from phasesync.core.credential import Credential
from phasesync.core.cross_account import copies_in_other_accounts
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import LIMIT_BYTES, check_size
from phasesync.core.remote import CURRENT, TAG_INSTANCE, Observed, Occupied, Payload, RemoteListing, Written
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    OutcomeUnknownError,
    RemoteChangedError,
)
from phasesync.ports.destination import Destination

MAX_CHARACTERS: Final = 512

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9/_+=.@-]")


def validate_name(name: str) -> None:
    """
    Check the name of an AWS secret: 1 to 512 ASCII letters, digits and / _ + = . @ - (User Guide, create a secret).

    Raises:
        InvalidInputError: it says what is wrong.
    """
    if not 1 <= len(name) <= MAX_CHARACTERS:
        raise InvalidInputError(f"the name of an AWS secret has 1 to {MAX_CHARACTERS} characters, not {len(name)}")
    if "!" in name:
        raise InvalidInputError(
            "the name of an AWS secret may not contain '!': AWS keeps it for secrets that one of its services manages"
        )
    if name.startswith("arn:"):
        raise InvalidInputError(
            f"{name[:200]!r} is an ARN, not a name",
            hint="give the name alone: what stands after :secret: without the hyphen and six characters at its end",
        )
    wrong = sorted(set(_NOT_ALLOWED.findall(name)))
    if wrong:
        raise InvalidInputError(
            f"the name of an AWS secret may not contain {', '.join(repr(character) for character in wrong)}",
            hint="allowed are letters, digits and / _ + = . @ -",
        )


PAGE: Final = 100
"""Most entries of one answer of ListSecrets (API reference)."""


class AwsListing(SecretsManagerClient):
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


KIND: Final = "aws-secrets-manager"
RECOVERY_DAYS: Final = range(7, 31)
"""Recovery windows of a deletion, in days (API reference, DeleteSecret)."""

_EXISTS: Final = "ResourceExistsException"


class AwsSecretsManager(AwsMetadata, AwsResourcePolicy, AwsListing):
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
        _check_name(remote_name)
        check_payload(payload)
        arguments: dict[str, Any] = {"Name": remote_name, "ClientRequestToken": token, **_value_argument(payload)}
        if description is not None:
            arguments["Description"] = description
        if kms_key is not None and kms_key != AWS_MANAGED_KEY:
            arguments["KmsKeyId"] = kms_key
        if tags:
            arguments["Tags"] = tag_list(tags)
        try:
            answer = self._call("CreateSecret", lambda sm: sm.create_secret(**arguments), write=True)
        except RemoteChangedError as error:
            if error.code == _EXISTS:
                return Occupied()
            if error.code != NOT_FOUND:
                raise
            # There is no object yet that could be missing, so nothing changed that a new plan would see.
            refusal = DestinationRejectedError(
                f"AWS rejected secretsmanager:CreateSecret ({NOT_FOUND})", code=error.code, request_id=error.request_id
            )
        except DestinationRejectedError as error:
            refusal = error
        else:
            return _written(answer, "CreateSecret")
        raise blaming_key(refusal, arguments.get("KmsKeyId"))

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

    def restore(self, arn: str) -> None:
        """Cancel a scheduled deletion; nothing happens to an object that is not scheduled for deletion."""
        self._call("RestoreSecret", lambda sm: sm.restore_secret(SecretId=arn), write=True)

    def delete(self, arn: str, *, recovery_days: int | None) -> None:
        """
        Schedule a deletion; None deletes at once and for good, and succeeds where nothing is (API reference).

        Raises:
            RemoteChangedError: it has copies, in other accounts too, is scheduled already, or is gone.
            DestinationRejectedError: the recovery window is not 7 to 30 days.
        """
        if recovery_days is not None and recovery_days not in RECOVERY_DAYS:
            raise DestinationRejectedError(
                f"a recovery window has {RECOVERY_DAYS.start} to {RECOVERY_DAYS.stop - 1} days, not {recovery_days}"
            )
        how: dict[str, Any] = {"ForceDeleteWithoutRecovery": True}
        if recovery_days is not None:
            how = {"RecoveryWindowInDays": recovery_days}
        try:
            self._call("DeleteSecret", lambda sm: sm.delete_secret(SecretId=arn, **how), write=True)
        except DestinationRejectedError as error:
            if error.code != INVALID_PARAMETER:
                raise
            refusal = error
        else:
            return
        # AWS has one code for copies that are in the way and for a request that is wrong.
        seen = self.observe(arn)
        if seen is None or not (seen.replicas or seen.cross_account_copies):
            raise refusal
        copies = f"it has copies in {', '.join(sorted(seen.replicas))}"
        raise RemoteChangedError(
            f"{refusal.message}: {copies if seen.replicas else copies_in_other_accounts(seen)}",
            code=refusal.code,
            request_id=refusal.request_id,
        )

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


def _check_name(remote_name: str) -> None:
    """Refuse a name that AWS would refuse; names that come of a template grow with the keys."""
    try:
        validate_name(remote_name)
    except InvalidInputError as error:
        raise DestinationRejectedError(error.message, hint=error.hint) from None


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


def _written(answer: Mapping[str, Any], operation: str) -> Written:
    """Read the answer to a write; one that cannot be read leaves open what has happened."""
    arn, version_id = told(answer, "ARN"), told(answer, "VersionId")
    if arn is None or version_id is None:
        raise OutcomeUnknownError(f"secretsmanager:{operation}: a garbled answer; it may have been carried out")
    labels = answer.get("VersionStages")
    return Written(arn=arn, version_id=version_id, current=None if labels is None else CURRENT in labels)


def open_destination(
    clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str
) -> Destination:
    """Make a destination; makes no call yet."""
    return AwsSecretsManager(clients, credential, region, instance_id=instance_id, tenant=tenant)


SPEC: Final = DestinationSpec(
    kind=KIND,
    payload_limit_bytes=LIMIT_BYTES,
    validate_name=validate_name,
    actions={
        "sync": SYNC_ACTIONS,
        "delete": DELETE_ACTIONS,
        "replicate": REPLICATE_ACTIONS,
        "resource-policy": RESOURCE_POLICY_ACTIONS,
        "sweep": LIST_ACTIONS,
        "key": KEY_ACTIONS,
        "import": IMPORT_ACTIONS,
        "list": LIST_ACTIONS,
    },
    open=open_destination,
    resolve_key=resolve_key,
)
