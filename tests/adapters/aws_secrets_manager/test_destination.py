"""The real adapter on AWS's own answers, where the emulator gives others; lost answers; and what goes over the wire."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.aws_secrets_manager.destination import AwsSecretsManager
from phasesync.core.credential import Credential
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import TAG_INSTANCE, Payload, ResourceExists, WriteResult
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.demo.canary import CANARY_VALUE, assert_absent
from phasesync.emulator import DROP, Answer
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    Disposition,
    OutcomeUnknownError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PhasesyncError,
)
from tests.support.aws import REGION, Aws
from tests.support.aws_builders import (
    INSTANCE,
    HandClock,
    access_key_credential,
    no_sources,
    payload,
    role_credential,
    token,
)

NAME = "shop/production"
ARN = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{NAME}-AbCdEf"
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(autouse=True)
def hurried_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not wait between its attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def clock() -> HandClock:
    return HandClock(datetime.now(UTC))


@pytest.fixture
def clients(aws: Aws, clock: HandClock) -> Iterator[AwsClients]:
    shared = AwsClients(source_of=no_sources, clock=clock, instance_id=INSTANCE, endpoint_url=aws.server.url)
    yield shared
    shared.close()


def destination_of(clients: AwsClients, credential: Credential | None = None) -> AwsSecretsManager:
    return AwsSecretsManager(clients, credential or access_key_credential(), REGION, instance_id=INSTANCE)


@pytest.fixture
def destination(clients: AwsClients) -> AwsSecretsManager:
    return destination_of(clients)


def create(destination: AwsSecretsManager, value: str = "one", **changes: Any) -> WriteResult | ResourceExists:
    arguments: dict[str, Any] = {"token": token(1), "description": None, "kms_key": None, "tags": {}, **changes}
    return destination.create(NAME, payload(value), **arguments)


def sent(aws: Aws, operation: str) -> dict[str, Any]:
    """The arguments of the newest request for an operation."""
    bodies = [call.body for call in aws.server.operations if call.name == operation]
    arguments: dict[str, Any] = json.loads(bodies[-1])
    return arguments


# --- refusals of AWS; those that all calls have in common are in test_aws_refusals.py


@pytest.mark.parametrize(
    "key",
    [KEY_ARN, KEY_ARN.replace(REGION, "us-east-1"), "alias/nowhere", "asymmetric"],
    ids=["unknown", "of another Region", "no such alias", "asymmetric"],
)
def test_a_key_that_cannot_be_is_named_as_the_likely_cause(aws: Aws, destination: AwsSecretsManager, key: str):
    """AWS answers as to any wrong argument: when an object is made, and when its key is set."""
    if key == "asymmetric":
        key = aws.server.outside.create_key(spec="RSA_2048")
    with pytest.raises(
        DestinationRejectedError, match=r"CreateSecret \(InvalidParameterException\).*KMS key"
    ) as created:
        create(destination, kms_key=key)
    written = create(destination)
    assert isinstance(written, WriteResult)
    with pytest.raises(
        DestinationRejectedError, match=r"UpdateSecret \(InvalidParameterException\).*KMS key"
    ) as updated:
        destination.update_metadata(written.arn, kms_key=key)
    for caught in (created, updated):
        assert "--kms-key ARN" in str(caught.value.hint)
        assert caught.value.request_id
        assert caught.value.__context__ is None


def test_where_no_key_is_set_none_is_blamed(aws: Aws, destination: AwsSecretsManager):
    aws.server.fail("CreateSecret", Answer("InvalidParameterException"), times=2)
    for kms_key in (None, AWS_MANAGED_KEY):
        with pytest.raises(DestinationRejectedError) as caught:
            create(destination, kms_key=kms_key)
        assert "KMS" not in f"{caught.value.message} {caught.value.hint}"
    create(destination)
    aws.server.fail("UpdateSecret", Answer("InvalidParameterException"), times=2)
    changes: list[dict[str, str]] = [{"description": "new"}, {"kms_key": AWS_MANAGED_KEY}]
    for change in changes:
        with pytest.raises(DestinationRejectedError) as caught:
            destination.update_metadata(NAME, **change)  # type: ignore[arg-type]
        assert "KMS" not in f"{caught.value.message} {caught.value.hint}"


def test_nothing_found_while_creating_is_no_change_of_the_object(aws: Aws, destination: AwsSecretsManager):
    """A new plan would do the same again."""
    aws.server.fail("CreateSecret", Answer("ResourceNotFoundException"))
    with pytest.raises(DestinationRejectedError, match="KMS key"):
        create(destination, kms_key=KEY_ARN)


# --- what AWS would answer with ValidationException


@pytest.mark.parametrize("name", ["", "x" * 513, "shop/größe", "shop!production"])
def test_a_name_that_aws_would_refuse_is_not_sent(aws: Aws, destination: AwsSecretsManager, name: str):
    with pytest.raises(DestinationRejectedError, match="name of an AWS secret"):
        destination.create(name, payload(), token=token(1), description=None, kms_key=None, tags={})
    assert aws.server.operations == []


def test_a_name_of_the_greatest_length_is_sent(destination: AwsSecretsManager):
    name = "x" * 512
    assert isinstance(
        destination.create(name, payload(), token=token(1), description=None, kms_key=None, tags={}), WriteResult
    )


def test_a_value_that_aws_would_refuse_is_not_sent(aws: Aws, destination: AwsSecretsManager):
    """The limit counts bytes: AWS refuses this text although it has half as many characters."""
    written = create(destination, "ü" * 32_768)
    assert isinstance(written, WriteResult)
    calls = len(aws.server.operations)
    for text in ("ü" * 32_769, "x" * 65_537):
        with pytest.raises(PayloadTooLargeError):
            destination.put_value(written.arn, payload(text), token=token(2))
    assert len(aws.server.operations) == calls


def test_what_aws_finds_too_long_is_rejected_and_waits_for_a_person(aws: Aws, destination: AwsSecretsManager):
    written = create(destination)
    assert isinstance(written, WriteResult)
    with pytest.raises(DestinationRejectedError) as caught:
        destination.update_metadata(written.arn, description="x" * 2_049)
    assert (caught.value.code, caught.value.disposition) == ("ValidationException", Disposition.HALT)
    assert "xxx" not in str(caught.value)
    assert aws.server.outside.describe(NAME).get("Description") is None


def test_a_key_that_may_not_be_used_is_named_as_such(aws: Aws, destination: AwsSecretsManager):
    aws.server.fail("CreateSecret", Answer("AccessDeniedException", "Access to KMS is not allowed"))
    with pytest.raises(PermissionDeniedError) as caught:
        create(destination, kms_key=KEY_ARN)
    assert caught.value.action == "kms:GenerateDataKey"
    assert caught.value.request_id


# --- lost answers, and what the SDK repeats by itself


def test_a_refusal_after_a_lost_answer_does_not_hide_that_the_write_landed(aws: Aws, destination: AwsSecretsManager):
    aws.server.fail("CreateSecret", DROP, when="after")
    aws.server.fail("CreateSecret", Answer("AccessDeniedException"), nth=2)
    with pytest.raises(OutcomeUnknownError):
        create(destination, "one")
    assert aws.secret_text(NAME) == "one"


def test_throttling_before_a_refusal_hides_nothing(aws: Aws, destination: AwsSecretsManager):
    aws.server.fail("CreateSecret", Answer("ThrottlingException"), times=2)
    aws.server.fail("CreateSecret", Answer("AccessDeniedException"), nth=3)
    with pytest.raises(PermissionDeniedError):
        create(destination)


def test_a_lost_answer_that_the_sdk_repeats_leaves_one_version(aws: Aws, destination: AwsSecretsManager):
    arn = create(destination, "one")
    assert isinstance(arn, WriteResult)
    aws.server.fail("PutSecretValue", DROP, when="after")
    written = destination.put_value(arn.arn, payload("two"), token=token(2))
    assert isinstance(written, WriteResult)
    observed = destination.observe(NAME)
    assert observed is not None
    assert set(observed.versions) == {token(1), token(2)}
    assert aws.server.count("PutSecretValue") == 2


def test_a_connection_that_is_refused_sent_nothing(clock: HandClock):
    clients = AwsClients(source_of=no_sources, clock=clock, instance_id=INSTANCE, endpoint_url="http://127.0.0.1:1")
    with pytest.raises(DestinationUnavailableError):
        create(destination_of(clients))
    clients.close()


@pytest.mark.parametrize("body", ["{}", '{"ARN": 7}', "not json", '"text"', "[]"])
def test_a_garbled_answer_to_a_write_leaves_open_what_happened(
    aws: Aws, clients: AwsClients, destination: AwsSecretsManager, body: str
):
    client = clients.client(access_key_credential(), "secretsmanager", REGION)
    garble(client, body)
    with pytest.raises(OutcomeUnknownError):
        create(destination)
    assert aws.secret_text(NAME) == "one"


@pytest.mark.parametrize("body", ["{}", "not json", "[]"])
def test_a_garbled_answer_to_a_read_is_not_absence(clients: AwsClients, destination: AwsSecretsManager, body: str):
    create(destination)
    garble(clients.client(access_key_credential(), "secretsmanager", REGION), body)
    with pytest.raises(DestinationUnavailableError):
        destination.observe(NAME)


def garble(client: Any, body: str) -> None:
    """Have a client see another body than the one that came."""

    def replace_body(response_dict: dict[str, Any], **_: Any) -> None:
        response_dict["body"] = body.encode()

    client.meta.events.register("before-parse", replace_body)


# --- what is sent, and what is not


def test_what_is_not_set_is_not_sent(aws: Aws, destination: AwsSecretsManager):
    create(destination)
    assert set(sent(aws, "CreateSecret")) == {"Name", "ClientRequestToken", "SecretString"}


def test_the_aws_managed_key_is_not_named_when_creating(aws: Aws, destination: AwsSecretsManager):
    create(destination, kms_key=AWS_MANAGED_KEY)
    assert "KmsKeyId" not in sent(aws, "CreateSecret")


def test_a_put_sends_the_token_and_no_labels(aws: Aws, destination: AwsSecretsManager):
    create(destination)
    destination.put_value(NAME, payload("two"), token=token(2))
    assert sent(aws, "PutSecretValue") == {
        "SecretId": NAME,
        "ClientRequestToken": token(2),
        "SecretString": "two",
    }


def test_values_never_go_out_with_update_secret(aws: Aws, destination: AwsSecretsManager):
    create(destination)
    destination.update_metadata(NAME, description="new", kms_key=AWS_MANAGED_KEY)
    bodies = [json.loads(operation.body) for operation in aws.server.operations if operation.name == "UpdateSecret"]
    for body in bodies:
        del body["ClientRequestToken"]  # the SDK always adds one
    assert bodies == [{"SecretId": NAME, "Description": "new"}, {"SecretId": NAME, "KmsKeyId": ""}]


def test_each_thing_that_is_given_is_one_call(aws: Aws, destination: AwsSecretsManager):
    create(destination)
    calls = destination.calls
    key = aws.server.outside.create_key()
    destination.update_metadata(NAME, description="new", kms_key=key, tags={"a": "1"}, untag=["b"])
    assert aws.server.names()[1:] == ["UpdateSecret", "UpdateSecret", "TagResource", "UntagResource"]
    assert destination.calls - calls == 4


def test_looking_and_writing_read_no_value(aws: Aws, destination: AwsSecretsManager):
    written = create(destination)
    assert isinstance(written, WriteResult)
    destination.observe(NAME)
    destination.put_value(written.arn, payload("two"), token=token(2))
    destination.list_names()
    assert aws.server.count("GetSecretValue") == aws.server.count("BatchGetSecretValue") == 0


def test_the_key_is_reported_as_aws_names_it(aws: Aws, destination: AwsSecretsManager):
    aws.boto("kms").create_alias(AliasName="alias/mine", TargetKeyId=aws.server.outside.create_key())
    aws.server.outside.create(NAME, KmsKeyId="alias/mine")
    observed = destination.observe(NAME)
    assert observed is not None
    assert observed.kms_key == f"arn:aws:kms:{REGION}:123456789012:alias/mine"


def test_reports_who_else_manages_an_object(aws: Aws, clients: AwsClients, destination: AwsSecretsManager):
    create(destination)
    answer = {
        "ARN": ARN,
        "Name": NAME,
        "OwningService": "rds",
        "RotationEnabled": True,
        "PrimaryRegion": "us-east-1",
        "DeletedDate": 1_900_000_000,
        "VersionIdsToStages": {"v1": ["AWSCURRENT", "mine"], "v2": []},
        "Tags": [{"Key": TAG_INSTANCE, "Value": INSTANCE}, {"Key": "bare"}],
    }
    garble(clients.client(access_key_credential(), "secretsmanager", REGION), json.dumps(answer))
    observed = destination.observe(NAME)
    assert observed is not None
    assert (observed.owning_service, observed.rotation_enabled, observed.primary_region) == ("rds", True, "us-east-1")
    assert observed.versions == {"v1": frozenset({"AWSCURRENT", "mine"})}
    assert observed.tags == {TAG_INSTANCE: INSTANCE, "bare": ""}
    assert observed.deleted_at == datetime.fromtimestamp(1_900_000_000, UTC)


def test_an_answer_about_another_object_is_not_believed(aws: Aws, clients: AwsClients, destination: AwsSecretsManager):
    create(destination)
    garble(clients.client(access_key_credential(), "secretsmanager", REGION), json.dumps({"ARN": ARN, "Name": "other"}))
    with pytest.raises(DestinationRejectedError, match="another object"):
        destination.observe(NAME)


# --- sessions


def test_a_long_run_outlives_its_session(aws: Aws, clients: AwsClients, clock: HandClock):
    destination = destination_of(clients, role_credential(aws.role()))
    create(destination)
    clock.turn(timedelta(minutes=58))
    aws.server.clock.advance(minutes=58)
    destination.observe(NAME)
    assert aws.server.count("AssumeRole") == 2
    first, second = (
        operation.access_key_id for operation in aws.server.operations if operation.service == "secretsmanager"
    )
    assert first != second


def test_a_session_that_aws_has_ended_is_opened_anew_once(aws: Aws, clients: AwsClients):
    destination = destination_of(clients, role_credential(aws.role()))
    aws.server.fail("CreateSecret", Answer("ExpiredTokenException"))
    assert isinstance(create(destination), WriteResult)
    assert aws.server.count("AssumeRole") == 2
    aws.server.fail("DescribeSecret", Answer("ExpiredTokenException"), times=10)
    with pytest.raises(CredentialRejectedError):
        destination.observe(NAME)
    assert aws.server.count("AssumeRole") == 3


# --- values in errors


def canary_payload(value: SecretValue) -> Payload:
    return Payload(value=value, fingerprint="f", keys={"KEY": "d"}, sizes={"KEY": 1})


@pytest.mark.parametrize(
    "answer",
    [DROP, Answer("ValidationException", CANARY_VALUE), Answer(CANARY_VALUE, CANARY_VALUE), Answer("X", status=500)],
    ids=["dropped", "message", "code", "failure"],
)
@pytest.mark.parametrize("operation", ["CreateSecret", "PutSecretValue"])
def test_a_failed_write_does_not_show_its_value(
    aws: Aws, destination: AwsSecretsManager, operation: str, answer: Answer
):
    aws.server.fail(operation, answer, times=10)
    value = canary_payload(SecretValue(CANARY_VALUE))
    acts: dict[str, Any] = {
        "CreateSecret": lambda: destination.create(
            NAME, value, token=token(1), description=None, kms_key=None, tags={}
        ),
        "PutSecretValue": lambda: destination.put_value(ARN, value, token=token(1)),
    }
    with pytest.raises(PhasesyncError) as caught:
        acts[operation]()
    assert_shows_nothing(caught.value)


def test_a_request_that_the_sdk_finds_malformed_does_not_show_its_value(destination: AwsSecretsManager):
    wrong: Any = 7
    with pytest.raises(DestinationRejectedError) as caught:
        destination.create(
            NAME,
            canary_payload(SecretValue(CANARY_VALUE)),
            token=wrong,
            description=wrong,
            kms_key=None,
            tags={"key": wrong},
        )
    assert_shows_nothing(caught.value)


def test_text_that_is_none_does_not_show_its_bytes(destination: AwsSecretsManager):
    value = canary_payload(SecretValue(CANARY_VALUE.encode() + b"\xff", ValueType.TEXT))
    with pytest.raises(DestinationRejectedError) as caught:
        destination.put_value(ARN, value, token=token(1))
    assert_shows_nothing(caught.value)


def assert_shows_nothing(error: PhasesyncError) -> None:
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [*traceback.format_exception(error), repr(vars(error)), repr(error)]
    assert_absent("".join(shown), [CANARY_VALUE])


# --- start-up


def test_boto3_is_not_imported_before_it_is_needed():
    code = (
        "import sys\n"
        "from phasesync.adapters.aws import credential_tester, session\n"
        "from phasesync.adapters.destinations import RegisteredDestinations, spec_of\n"
        "spec_of('aws-secrets-manager').validate_name('shop')\n"
        "session.AwsClients(source_of=None, clock=None, instance_id='i')\n"
        "assert 'boto3' not in sys.modules and 'botocore' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
