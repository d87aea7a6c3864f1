"""
AWS Secrets Manager as a destination.

Reads, writes and reports evidence. Must not diff, retry, decide who owns an object, or read a value except for an
import. Values are written with CreateSecret and PutSecretValue only: their token makes a repeated request harmless.
UpdateSecret gives no such promise (API reference, ClientRequestToken).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from phasesync.adapters.aws.client import AwsClient, Response
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.kms_keys import resolve_key, suspect_key
from phasesync.adapters.aws_secrets_manager.limits import (
    check_name,
    check_payload,
    check_policy_length,
    check_recovery_days,
    validate_name,
)
from phasesync.adapters.aws_secrets_manager.responses import (
    INVALID_PARAMETER,
    INVALID_REQUEST,
    NOT_FOUND,
    POLICY_HINTS,
    RESOURCE_EXISTS,
    answered_at_of,
    check_policy_validation,
    entries_of,
    listing_of,
    observed_of,
    policy_of,
    secret_arns,
    value_of,
    written_of,
)
from phasesync.adapters.destinations import DestinationSpec
from phasesync.core.credential import Credential
from phasesync.core.iam.sync_policy import (
    DELETE_ACTIONS,
    IMPORT_ACTIONS,
    KEY_ACTIONS,
    LIST_ACTIONS,
    REPLICATE_ACTIONS,
    RESOURCE_POLICY_ACTIONS,
    SYNC_ACTIONS,
)
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.planning.ownership import describe_copies
from phasesync.core.remote import (
    TAG_INSTANCE,
    ChangesPage,
    Observed,
    Payload,
    RemoteListing,
    ResourceExists,
    WriteResult,
)
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, RemoteChangedError
from phasesync.ports.destination import Destination

KIND: Final = "aws-secrets-manager"
PAGE: Final = 100
"""Most entries of one response to ListSecrets (API reference)."""


class AwsSecretsManager:
    """One account and Region under one credential, for one run (port `Destination`). Not for two threads at once."""

    def __init__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str = ""
    ) -> None:
        """
        Args:
            clients: shared clients.
            credential: who writes.
            region: where.
            instance_id: objects that carry it as a tag are listed as ours.
            tenant: for whom; tenants are served in rotation if calls have to wait for AWS's quotas.
        """
        self._instance_id = instance_id
        self._client = AwsClient(clients, credential, "secretsmanager", region, tenant=tenant, arns_in=secret_arns)

    @property
    def calls(self) -> int:
        """How many calls of Secrets Manager were made through this object; the SDK's own retries are not counted."""
        return self._client.calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._client.account_id()

    # --- reading

    def observe(self, remote_name: str) -> Observed | None:
        """Describe one object, by name or ARN; None if it does not exist."""
        try:
            response = self._client.call("DescribeSecret", SecretId=remote_name)
        except DestinationRejectedError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        observed = observed_of(response)
        if remote_name not in (observed.name, observed.arn):
            # A part of an ARN also finds an object (User Guide, troubleshooting); we never send one.
            raise DestinationRejectedError("DescribeSecret: the answer is about another object than the one asked for")
        return observed

    def read_value(self, remote_name: str) -> SecretValue | None:
        """Read a current value, for import only; None if the object has none, or does not exist."""
        try:
            return value_of(self._client.call("GetSecretValue", SecretId=remote_name))
        except DestinationRejectedError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def list_names(self, *, limit: int | None = None) -> list[RemoteListing]:
        """
        List objects, also those scheduled for deletion.

        A list of AWS lags by up to 5 minutes (API reference, ListSecrets): a missing entry is no missing object.
        """
        listings: list[RemoteListing] = []
        arguments: dict[str, Any] = {"IncludePlannedDeletion": True}
        while limit is None or len(listings) < limit:
            arguments["MaxResults"] = PAGE if limit is None else min(PAGE, limit - len(listings))
            response = self._client.call("ListSecrets", **arguments)
            listings += [listing_of(entry, self._instance_id) for entry in entries_of(response)]
            if not response.get("NextToken"):
                break
            arguments["NextToken"] = response["NextToken"]
        return listings[:limit]

    def sweep(self, instance_id: str | None) -> Iterator[Observed]:
        """
        Yield the objects with our instance tag, also those scheduled for deletion; one call for each 100 of them.
        None: with the tag of any instance.

        The list lags as that of `list_names` does.
        """
        for page in self._pages(instance_id):
            yield from page.entries

    def sweep_newest(self, instance_id: str) -> Iterator[ChangesPage]:
        """
        Yield pages of the same objects, the last changed first.

        `SortBy=last-changed-date` is younger than the call itself (botocore 1.42.8): an endpoint may refuse it.
        """
        return self._pages(instance_id, SortBy="last-changed-date", SortOrder="desc")

    def _pages(self, instance_id: str | None, **order: str) -> Iterator[ChangesPage]:
        arguments: dict[str, Any] = {
            "IncludePlannedDeletion": True,
            "MaxResults": PAGE,
            # The two filters do not refer to the same tag, and match prefixes (User Guide, find secrets) ...
            "Filters": [{"Key": "tag-key", "Values": [TAG_INSTANCE]}],
            **order,
        }
        if instance_id is not None:
            arguments["Filters"].append({"Key": "tag-value", "Values": [instance_id]})
        while True:
            response = self._client.call("ListSecrets", **arguments)
            page = [observed_of(entry, "ListSecrets") for entry in entries_of(response)]
            # ... so the tag of each result is checked.
            ours = tuple(item for item in page if _is_marked(item, instance_id))
            yield ChangesPage(entries=ours, answered_at=answered_at_of(response))
            if not response.get("NextToken"):
                return
            arguments["NextToken"] = response["NextToken"]

    # --- values

    def create(
        self,
        remote_name: str,
        payload: Payload,
        *,
        token: str,
        description: str | None,
        kms_key: str | None,
        tags: Mapping[str, str],
    ) -> WriteResult | ResourceExists:
        """Create an object with its first version. Occupied: the name is taken, by us or by someone else."""
        check_name(remote_name)
        check_payload(payload)
        arguments: dict[str, Any] = {"Name": remote_name, "ClientRequestToken": token, **_value_argument(payload)}
        if description is not None:
            arguments["Description"] = description
        if kms_key is not None and kms_key != AWS_MANAGED_KEY:
            arguments["KmsKeyId"] = kms_key
        if tags:
            arguments["Tags"] = _tag_list(tags)
        try:
            return written_of(self._client.call("CreateSecret", write=True, **arguments), "CreateSecret")
        except RemoteChangedError as error:
            if error.code == RESOURCE_EXISTS:
                return ResourceExists()
            if error.code != NOT_FOUND:
                raise
            # No object exists yet, so nothing has changed that a new plan could observe.
            refusal = DestinationRejectedError(
                f"AWS rejected secretsmanager:CreateSecret ({NOT_FOUND})", code=error.code, request_id=error.request_id
            )
        except DestinationRejectedError as error:
            refusal = error
        raise suspect_key(refusal, arguments.get("KmsKeyId"))

    def put_value(self, arn: str, payload: Payload, *, token: str) -> WriteResult | ResourceExists:
        """Write a version. Occupied: the token is spent on another payload."""
        check_payload(payload)
        arguments: dict[str, Any] = {"SecretId": arn, "ClientRequestToken": token, **_value_argument(payload)}
        try:
            # Without VersionStages, so that AWSCURRENT moves to the new version by itself.
            response = self._client.call("PutSecretValue", write=True, **arguments)
        except RemoteChangedError as error:
            if error.code == RESOURCE_EXISTS:
                return ResourceExists()
            raise
        return written_of(response, "PutSecretValue")

    # --- deletion

    def restore(self, arn: str) -> None:
        """Cancel a scheduled deletion; nothing happens to an object that is not scheduled for deletion."""
        self._client.call("RestoreSecret", write=True, SecretId=arn)

    def delete(self, arn: str, *, recovery_days: int | None) -> None:
        """
        Schedule a deletion; None deletes at once and for good, and succeeds if there is no object (API reference).

        Raises:
            RemoteChangedError: it has copies, in other accounts too, is scheduled already, or is gone.
            DestinationRejectedError: the recovery window is not 7 to 30 days.
        """
        window: dict[str, Any] = {"ForceDeleteWithoutRecovery": True}
        if recovery_days is not None:
            check_recovery_days(recovery_days)
            window = {"RecoveryWindowInDays": recovery_days}
        try:
            self._client.call("DeleteSecret", write=True, SecretId=arn, **window)
        except DestinationRejectedError as error:
            if error.code != INVALID_PARAMETER:
                raise
            refusal = error
        else:
            return
        # AWS has one code for an object with copies and for a request that is wrong.
        observed = self.observe(arn)
        if observed is None or not (observed.replicas or observed.cross_account_copies):
            raise refusal
        copies = f"it has copies in {', '.join(sorted(observed.replicas))}"
        raise RemoteChangedError(
            f"{refusal.message}: {copies if observed.replicas else describe_copies(observed)}",
            code=refusal.code,
            request_id=refusal.request_id,
        )

    # --- metadata and copies

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
            self._client.call("UpdateSecret", write=True, SecretId=arn, Description=description)
        if kms_key is not None:
            # An empty key id goes back to the AWS-managed key (API reference, UpdateSecret).
            self._set_key(arn, "" if kms_key == AWS_MANAGED_KEY else kms_key)
        if tags:
            self._client.call("TagResource", write=True, SecretId=arn, Tags=_tag_list(tags))
        if untag:
            self._client.call("UntagResource", write=True, SecretId=arn, TagKeys=sorted(untag))

    def _set_key(self, arn: str, key_id: str) -> None:
        try:
            self._client.call("UpdateSecret", write=True, SecretId=arn, KmsKeyId=key_id)
        except DestinationRejectedError as error:
            refusal = error
        else:
            return
        raise suspect_key(refusal, key_id)

    def replicate(self, arn: str, regions: Mapping[str, str]) -> None:
        """
        Start copying it to other Regions, without waiting for the copies. No call is made without a Region.

        If its name is taken in a Region, that copy fails later, and nothing there is overwritten.
        """
        if not regions:
            return
        added = [
            {"Region": region} if key == AWS_MANAGED_KEY else {"Region": region, "KmsKeyId": key}
            for region, key in sorted(regions.items())
        ]
        self._client.call(
            "ReplicateSecretToRegions",
            write=True,
            SecretId=arn,
            AddReplicaRegions=added,
            ForceOverwriteReplicaSecret=False,
        )

    def remove_replicas(self, arn: str, regions: Sequence[str]) -> None:
        """Delete the copies in these Regions, at once and for good. No call is made without a Region."""
        if not regions:
            return
        # Never StopReplicationToReplica: that makes the copy an object of its own (User Guide, promote).
        self._client.call(
            "RemoveRegionsFromReplication", write=True, SecretId=arn, RemoveReplicaRegions=sorted(regions)
        )

    # --- the resource policy
    #
    # No call has a policy name, so that each is about the policy called `default`, the only one that can be changed.
    # Other policies that AWS keeps are never read or touched (API reference, ListResourcePolicies and
    # GetResourcePolicy, PolicyName).

    def resource_policy(self, arn: str) -> str | None:
        """
        Return the resource policy as canonical JSON, None if it has none.

        Raises:
            RemoteChangedError: the object is gone or scheduled for deletion; AWS does not show its policy then.
        """
        return policy_of(_of_known_object(lambda: self._client.call("GetResourcePolicy", SecretId=arn)))

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """
        Replace the whole resource policy, after AWS has checked it. Broad access is always refused.

        Raises:
            DestinationRejectedError: too long, malformed, or failed checks of AWS, which it names.
            RemoteChangedError: the object is gone, scheduled for deletion, or a copy.
        """
        check_policy_length(policy)
        request: dict[str, Any] = {"SecretId": arn, "ResourcePolicy": policy}
        try:
            check_policy_validation(_of_known_object(lambda: self._client.call("ValidateResourcePolicy", **request)))
            self._client.call("PutResourcePolicy", write=True, BlockPublicPolicy=True, **request)
        except DestinationRejectedError as error:
            error.hint = error.hint or POLICY_HINTS.get(error.code)
            raise


def _value_argument(payload: Payload) -> dict[str, str | bytes]:
    """Return the value as the argument for its type."""
    if payload.value.type is ValueType.BINARY:
        return {"SecretBinary": payload.value.reveal()}
    try:
        return {"SecretString": payload.value.reveal_text()}
    except UnicodeDecodeError:
        error = DestinationRejectedError("the payload is not UTF-8 text")
    # Raised here, because the decoder's error has the bytes and would become the context of ours.
    raise error


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of AWS, by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _of_known_object(read: Callable[[], Response]) -> Response:
    """
    Read about an object that existed a moment ago.

    Raises:
        RemoteChangedError: it is gone or scheduled for deletion by now.
    """
    try:
        return read()
    except DestinationRejectedError as error:
        if error.code not in (NOT_FOUND, INVALID_REQUEST):
            raise
        changed = RemoteChangedError(
            f"{error.message}: the object is gone or scheduled for deletion",
            code=error.code,
            request_id=error.request_id,
        )
    raise changed


def _is_marked(observed: Observed, instance_id: str | None) -> bool:
    marked = observed.tags.get(TAG_INSTANCE)
    return marked is not None and instance_id in (None, marked)


def open_destination(
    clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str
) -> Destination:
    """Make a destination; makes no call yet."""
    return AwsSecretsManager(clients, credential, region, instance_id=instance_id, tenant=tenant)


SPEC: Final = DestinationSpec(
    kind=KIND,
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
