"""Copies, deletion, resource policies and sweeps: what is sent, and what is made of AWS's odder answers."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import botocore.session
import pytest

from phasesync.adapters.aws_secrets_manager.destination import SPEC, AwsSecretsManager
from phasesync.adapters.aws_secrets_manager.responses import listing_of, observed_of
from phasesync.core.remote import CrossAccountLink, CrossAccountStatus, Replica, ReplicaStatus
from phasesync.demo.canary import CANARY_VALUE, assert_absent
from phasesync.emulator import Answer, AwsEmulator, garbled
from phasesync.errors import DestinationRejectedError, DestinationUnavailableError, PhasesyncError, RemoteChangedError
from tests.support.aws import REGION
from tests.support.aws_builders import INSTANCE

NAME = "shop/production"
ARN = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{NAME}-AbCdEf"
KEY_ARN = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
POLICY = (
    '{"Statement":[{"Action":"secretsmanager:GetSecretValue","Effect":"Allow",'
    '"Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Resource":"*"}],"Version":"2012-10-17"}'
)


def sent(emulator: AwsEmulator, operation: str) -> list[dict[str, Any]]:
    """The arguments of all requests for an operation."""
    return [json.loads(call.body) for call in emulator.operations if call.name == operation]


def answering(**fields: Any) -> Answer:
    """An answer of AWS, of our making."""
    return garbled(json.dumps(fields).encode())


@pytest.fixture
def arn(emulator: AwsEmulator) -> str:
    """An object."""
    return emulator.outside.create(NAME)


# --- what is sent


def test_a_copy_is_never_written_over_something(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str):
    on_emulator.replicate(arn, {"us-east-1": KEY_ARN, "ap-south-1": "default"})
    assert sent(emulator, "ReplicateSecretToRegions") == [
        {
            "SecretId": arn,
            "AddReplicaRegions": [{"Region": "ap-south-1"}, {"Region": "us-east-1", "KmsKeyId": KEY_ARN}],
            "ForceOverwriteReplicaSecret": False,
        }
    ]


def test_a_copy_is_removed_and_not_made_an_object_of_its_own(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str
):
    on_emulator.replicate(arn, {"us-east-1": "default"})
    on_emulator.remove_replicas(arn, ["us-east-1"])
    assert emulator.names()[-1] == "RemoveRegionsFromReplication"
    assert emulator.outside.at(region="us-east-1").names() == []


@pytest.mark.parametrize(
    ("recovery_days", "how"),
    [(7, {"RecoveryWindowInDays": 7}), (None, {"ForceDeleteWithoutRecovery": True})],
)
def test_a_deletion_sends_its_window_or_force(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str, recovery_days: int | None, how: dict[str, Any]
):
    on_emulator.delete(arn, recovery_days=recovery_days)
    assert sent(emulator, "DeleteSecret") == [{"SecretId": arn, **how}]


def test_a_window_that_aws_does_not_have_is_not_sent(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str):
    with pytest.raises(DestinationRejectedError, match="7 to 30 days, not 31"):
        on_emulator.delete(arn, recovery_days=31)
    assert on_emulator.calls == 0


def test_a_policy_is_checked_first_and_public_access_blocked(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str
):
    on_emulator.put_resource_policy(arn, POLICY)
    assert emulator.names() == ["ValidateResourcePolicy", "PutResourcePolicy"]
    assert sent(emulator, "PutResourcePolicy") == [
        {"SecretId": arn, "ResourcePolicy": POLICY, "BlockPublicPolicy": True}
    ]


def test_a_policy_that_is_too_long_is_not_sent(on_emulator: AwsSecretsManager, arn: str):
    with pytest.raises(DestinationRejectedError, match="20,481 characters, the limit is 20,480"):
        on_emulator.put_resource_policy(arn, "x" * 20_481)
    assert on_emulator.calls == 0


def test_a_sweep_asks_for_our_tag_and_for_what_is_going(emulator: AwsEmulator, on_emulator: AwsSecretsManager):
    assert list(on_emulator.sweep(INSTANCE)) == []
    assert sent(emulator, "ListSecrets") == [
        {
            "IncludePlannedDeletion": True,
            "MaxResults": 100,
            "Filters": [
                {"Key": "tag-key", "Values": ["phasesync:instance"]},
                {"Key": "tag-value", "Values": [INSTANCE]},
            ],
        }
    ]


@pytest.mark.parametrize("what_for", ["replicate", "resource-policy", "sweep", "delete"])
def test_every_call_that_is_made_is_among_the_actions_of_what_it_is_for(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str, what_for: str
):
    match what_for:
        case "replicate":
            on_emulator.replicate(arn, {"us-east-1": "default"})
            on_emulator.remove_replicas(arn, ["us-east-1"])
        case "resource-policy":
            on_emulator.resource_policy(arn)
            on_emulator.put_resource_policy(arn, POLICY)
        case "sweep":
            list(on_emulator.sweep(INSTANCE))
        case "delete":
            on_emulator.delete(arn, recovery_days=7)
    called = {f"{operation.service}:{operation.name}" for operation in emulator.operations}
    assert called
    assert called <= set(SPEC.actions[what_for])


# --- deletion


def test_copies_in_the_way_of_a_deletion_are_named(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str):
    on_emulator.replicate(arn, {"us-east-1": "default", "ap-south-1": "default"})
    with pytest.raises(RemoteChangedError, match="copies in ap-south-1, us-east-1") as caught:
        on_emulator.delete(arn, recovery_days=30)
    assert caught.value.code == "InvalidParameterException"


def test_a_deletion_that_is_refused_for_another_reason_is_rejected(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str
):
    emulator.fail("DeleteSecret", Answer("InvalidParameterException"))
    with pytest.raises(DestinationRejectedError):
        on_emulator.delete(arn, recovery_days=30)


# --- policies


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([{"CheckName": "B"}, {"CheckName": "A", "ErrorMessage": CANARY_VALUE}], "check: A, B$"),
        ([{"CheckName": f"<{CANARY_VALUE}>"}], "a check without a name"),
        ([{}], "a check without a name"),
        ([], "a check without a name"),
    ],
)
def test_a_failed_check_is_named_and_its_text_is_not_repeated(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str, errors: list[dict[str, str]], said: str
):
    emulator.fail("ValidateResourcePolicy", answering(PolicyValidationPassed=False, ValidationErrors=errors))
    with pytest.raises(DestinationRejectedError, match=said) as caught:
        on_emulator.put_resource_policy(arn, POLICY)
    assert_absent(repr(vars(caught.value)), [CANARY_VALUE])
    assert emulator.count("PutResourcePolicy") == 0


@pytest.mark.parametrize(
    ("operation", "code", "hint"),
    [
        ("PutResourcePolicy", "PublicPolicyException", "Principal"),
        ("PutResourcePolicy", "MalformedPolicyDocumentException", "Statement"),
        ("ValidateResourcePolicy", "MalformedPolicyDocumentException", "Statement"),
    ],
)
def test_a_refused_policy_comes_with_a_way_out(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str, operation: str, code: str, hint: str
):
    emulator.fail(operation, Answer(code, CANARY_VALUE))
    with pytest.raises(DestinationRejectedError) as caught:
        on_emulator.put_resource_policy(arn, POLICY)
    assert caught.value.code == code
    assert hint in str(caught.value.hint)
    assert_absent(repr(vars(caught.value)), [CANARY_VALUE])


@pytest.mark.parametrize("answer", [garbled(b"{}"), garbled(b"not json"), garbled(b'{"PolicyValidationPassed": "no"}')])
def test_a_garbled_check_is_not_passed(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str, answer: Answer):
    emulator.fail("ValidateResourcePolicy", answer, times=3)
    with pytest.raises(PhasesyncError) as caught:
        on_emulator.put_resource_policy(arn, POLICY)
    assert type(caught.value) is DestinationUnavailableError
    assert emulator.count("PutResourcePolicy") == 0


def test_a_policy_that_is_no_json_is_a_garbled_answer(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str):
    emulator.fail("GetResourcePolicy", answering(ARN=arn, ResourcePolicy="not json"))
    with pytest.raises(DestinationUnavailableError):
        on_emulator.resource_policy(arn)


# --- sweeps


def test_a_sweep_goes_on_after_an_empty_page_and_believes_no_filter(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager
):
    def entry(name: str, owner: str) -> dict[str, Any]:
        return {"ARN": f"{ARN}{name}", "Name": name, "Tags": [{"Key": "phasesync:instance", "Value": owner}]}

    emulator.fail("ListSecrets", answering(SecretList=[], NextToken="more"))
    emulator.fail(
        "ListSecrets", answering(SecretList=[entry("theirs", f"{INSTANCE}0"), entry("ours", INSTANCE)]), nth=2
    )
    assert [observed.name for observed in on_emulator.sweep(INSTANCE)] == ["ours"]
    assert sent(emulator, "ListSecrets")[1]["NextToken"] == "more"


def test_an_entry_that_cannot_be_read_does_not_vanish(emulator: AwsEmulator, on_emulator: AwsSecretsManager):
    emulator.fail("ListSecrets", answering(SecretList=[{"Name": "nameless"}]))
    with pytest.raises(DestinationUnavailableError, match="ListSecrets"):
        list(on_emulator.sweep(INSTANCE))


# --- answers


def described(**fields: Any) -> dict[str, Any]:
    """An answer of DescribeSecret."""
    return {"ARN": ARN, "Name": NAME, **fields}


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("InSync", "Replication succeeded", Replica(status=ReplicaStatus.IN_SYNC, kms_key=None)),
        ("InSync", "already exists", Replica(status=ReplicaStatus.IN_SYNC, kms_key=None)),
        ("InProgress", None, Replica(status=ReplicaStatus.IN_PROGRESS, kms_key=None)),
        ("Pending", None, Replica(status=ReplicaStatus.IN_PROGRESS, kms_key=None)),
        ("Failed", "Access to the key is denied", Replica(status=ReplicaStatus.FAILED, kms_key=None)),
        (
            "Failed",
            "Secret with this name already exists in this region",
            Replica(status=ReplicaStatus.FAILED, kms_key=None, name_taken=True),
        ),
        ("Failed", None, Replica(status=ReplicaStatus.FAILED, kms_key=None)),
        ("BrandNew", None, Replica(status=ReplicaStatus.FAILED, kms_key=None)),
        (None, None, Replica(status=ReplicaStatus.FAILED, kms_key=None)),
    ],
)
def test_reads_how_a_copy_stands(status: str | None, text: str | None, expected: Replica):
    entry = {"Region": "us-east-1", "KmsKeyId": "alias/aws/secretsmanager", "Status": status, "StatusMessage": text}
    assert observed_of(described(ReplicationStatus=[entry])).replicas == {"us-east-1": expected}


def test_the_text_of_a_failed_copy_goes_nowhere():
    entry = {"Region": "us-east-1", "Status": "Failed", "StatusMessage": CANARY_VALUE}
    assert_absent(repr(observed_of(described(ReplicationStatus=[entry]))), [CANARY_VALUE])


def test_policies_beside_the_default_one_are_never_read_or_touched(
    emulator: AwsEmulator, on_emulator: AwsSecretsManager
):
    """Secrets Manager keeps one of its own on copies between accounts."""
    other_account = emulator.outside.at(account="222222222222")
    other_account.create("shop/copy")
    copied = other_account.copy_to("123456789012", "shop/copy")
    kept = {"SecretId": copied, "PolicyName": "cross-account-replication"}
    before = emulator.outside.call("GetResourcePolicy", **kept)

    assert on_emulator.resource_policy(copied) is None
    on_emulator.put_resource_policy(copied, POLICY)

    assert on_emulator.resource_policy(copied) == POLICY
    assert emulator.outside.call("GetResourcePolicy", **kept) == before
    assert all("PolicyName" not in arguments for arguments in sent(emulator, "PutResourcePolicy"))
    assert emulator.count("DeleteResourcePolicy") == 0


OTHER_ARN = "arn:aws:secretsmanager:eu-west-1:222222222222:secret:shop-GhIjKl"


def test_reads_both_ends_of_a_replication_between_accounts():
    role = "arn:aws:iam::111122223333:role/replication"
    entry = {"ReplicaSecretARN": OTHER_ARN, "ReplicationRoleARN": role, "ReplicationStatus": "Failed"}
    observed = observed_of(described(CrossAccountReplicas=[entry]))
    assert observed.cross_account_copies == (
        CrossAccountLink(arn=OTHER_ARN, status=CrossAccountStatus.FAILED, role_arn=role),
    )
    assert observed.cross_account_primary is None
    copied = observed_of(described(CrossAccountPrimary={"PrimarySecretARN": OTHER_ARN, "ReplicationStatus": "Pending"}))
    assert copied.cross_account_primary == CrossAccountLink(arn=OTHER_ARN, status=CrossAccountStatus.PENDING)
    assert copied.cross_account_copies == ()


@pytest.mark.parametrize("status", [*CrossAccountStatus, "BrandNew", None])
@pytest.mark.parametrize("arn", [OTHER_ARN, None, "arn:aws:secretsmanager:x; rm -rf ~", 7])
def test_a_replication_that_is_not_understood_counts_all_the_same(status: str | None, arn: object):
    """That the field is there is what matters. No text goes into a command unless it is an ARN."""
    for link in ({"ReplicationStatus": status, "ReplicaSecretARN": arn, "PrimarySecretARN": arn}, {}, "new form"):
        observed = observed_of(described(CrossAccountPrimary=link, CrossAccountReplicas=[link]))
        assert observed.cross_account_primary is not None
        assert len(observed.cross_account_copies) == 1
        assert observed.cross_account_primary.arn in (None, OTHER_ARN)


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({}, None),
        ({"Type": ""}, None),
        ({"Type": None}, None),
        ({"Type": "SalesforceClientSecret"}, "SalesforceClientSecret"),
        ({"Type": "a partner of tomorrow"}, "a partner of tomorrow"),
        ({"Type": "x\x1b[2Jy"}, r"'x\x1b[2Jy'"),
    ],
)
def test_reads_who_holds_a_managed_external_secret(fields: dict[str, Any], read: str | None):
    assert observed_of(described(**fields)).external_type == read
    assert listing_of(described(**fields), INSTANCE).external_type == read


def test_fields_that_nobody_knows_yet_change_nothing():
    new = {"QuantumReplicas": [{"ARN": OTHER_ARN}], "CrossPlanetPrimary": {}, "ExternalSecretRotationMetadata": []}
    assert observed_of(described(**new)) == observed_of(described())
    assert listing_of(described(**new), INSTANCE) == listing_of(described(), INSTANCE)


def test_the_sdk_knows_the_fields_that_say_whose_a_secret_is():
    """It drops what its model does not have: a target would look like any other."""
    model = botocore.session.get_session().get_service_model("secretsmanager")
    shape: Any = model.operation_model("DescribeSecret").output_shape
    assert {"Type", "OwningService", "PrimaryRegion", "CrossAccountPrimary", "CrossAccountReplicas"} <= set(
        shape.members
    )


def test_a_copy_has_no_copies_of_its_own():
    entry = {"Region": "us-east-1", "Status": "InSync"}
    assert observed_of(described(PrimaryRegion=REGION, ReplicationStatus=[entry])).replicas
    assert not observed_of(described(PrimaryRegion="us-east-1", ReplicationStatus=[entry])).replicas


@pytest.mark.parametrize(
    "key", [None, "alias/aws/secretsmanager", "arn:aws:kms:eu-west-1:123456789012:alias/aws/secretsmanager"]
)
def test_the_aws_managed_key_is_told_as_none(key: str | None):
    assert observed_of(described(KmsKeyId=key)).kms_key is None


def test_the_last_read_is_a_day(emulator: AwsEmulator, on_emulator: AwsSecretsManager, arn: str):
    emulator.fail("DescribeSecret", answering(ARN=arn, Name=NAME, LastAccessedDate=1_900_022_400))
    observed = on_emulator.observe(NAME)
    assert observed is not None
    assert observed.last_read_on == date(2030, 3, 18)
