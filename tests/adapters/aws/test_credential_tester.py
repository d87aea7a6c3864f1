"""What a test of a credential finds out, told from AssumeRole with and without the External ID."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from phasesync.adapters.aws.credential_tester import AwsCredentialTester
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential
from phasesync.core.iam.role_setup import trust_policy
from phasesync.emulator import Answer, Operation
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationUnavailableError,
)
from tests.support.aws import ACCOUNT, OTHER_ACCOUNT, Aws
from tests.support.aws_builders import (
    EXTERNAL_ID,
    INSTANCE,
    HandClock,
    access_key_credential,
    ambient_credential,
    role_credential,
)

DENIED = Answer("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole on resource: y", status=403)


@pytest.fixture
def sources() -> dict[str, Credential]:
    return {}


@pytest.fixture
def tester(aws: Aws, sources: dict[str, Credential]) -> Iterator[AwsCredentialTester]:
    clients = AwsClients(
        source_of=sources.__getitem__,
        clock=HandClock(datetime.now(UTC)),
        instance_id=INSTANCE,
        endpoint_url=aws.server.url,
    )
    yield AwsCredentialTester(clients)
    clients.close()


def trust(aws: Aws, *, with_id: bool, without_id: bool, denial: Answer = DENIED) -> None:
    """Have STS decide as a trust policy would; moto lets everyone in."""

    def decide(operation: Operation) -> Answer | None:
        allowed = with_id if "ExternalId" in operation.form else without_id
        return None if allowed else denial

    aws.server.do("AssumeRole", decide, times=1000)


def policy_in(hint: str | None) -> Any:
    """The trust policy in a line that corrects one."""
    assert hint is not None
    words = shlex.split(hint.partition(" (this replaces")[0])
    assert words[:3] == ["aws", "iam", "update-assume-role-policy"]
    assert words[4] == "phasesync"
    return json.loads(words[6])


def test_a_role_that_asks_for_the_external_id_is_as_it_should_be(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=False)
    report = tester.test(role_credential(aws.role()))
    assert report.identity.account == OTHER_ACCOUNT
    assert report.identity.arn.startswith(f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/phasesync/phasesync-0f3c5a7e-")
    assert report.base is not None
    assert report.base.account == ACCOUNT
    assert (report.findings, report.open_without_external_id) == ((), False)


def test_a_role_that_also_opens_without_the_external_id_is_a_finding(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=True)
    report = tester.test(role_credential(aws.role()))
    assert report.open_without_external_id is True
    (finding,) = report.findings
    policy = policy_in(finding.partition("Correct it with: ")[2])
    assert policy["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}


def test_a_role_that_opens_only_without_the_external_id_lacks_ours(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=False, without_id=True)
    with pytest.raises(CredentialRejectedError, match="does not have our External ID") as caught:
        tester.test(role_credential(aws.role()))
    assert policy_in(caught.value.hint)["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"] == EXTERNAL_ID
    assert caught.value.code == "AccessDenied"


def test_a_role_that_does_not_open_at_all_may_have_several_reasons(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=False, without_id=False)
    with pytest.raises(CredentialRejectedError, match="another External ID") as caught:
        tester.test(role_credential(aws.role()))
    for reason in ("does not exist", "does not name this identity", "lacks sts:AssumeRole"):
        assert reason in caught.value.message
    statement, tagging = policy_in(caught.value.hint)["Statement"]
    assert (tagging["Action"], tagging["Principal"]) == ("sts:TagSession", statement["Principal"])
    assert statement["Principal"] == {"AWS": tester.base_identity(role_credential(aws.role())).arn}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}


def test_the_reason_that_aws_gives_is_passed_on(aws: Aws, tester: AwsCredentialTester):
    text = f"{DENIED.message} because no identity-based policy allows the sts:AssumeRole action"
    trust(aws, with_id=False, without_id=False, denial=Answer("AccessDenied", text, status=403))
    with pytest.raises(CredentialRejectedError, match="no identity-based policy allows it"):
        tester.test(role_credential(aws.role()))


def test_without_an_external_id_the_role_is_asked_once(aws: Aws, tester: AwsCredentialTester):
    report = tester.test(role_credential(aws.role(), external_id=None))
    assert (report.findings, report.open_without_external_id) == ((), None)
    assert aws.server.count("AssumeRole") == 1


def test_a_refused_role_may_ask_for_an_external_id_that_the_credential_lacks(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=False)
    with pytest.raises(CredentialRejectedError, match="which this credential does not have"):
        tester.test(role_credential(aws.role(), external_id=None))


def test_a_base_identity_that_aws_does_not_know_is_no_fault_of_the_role(aws: Aws, tester: AwsCredentialTester):
    aws.server.fail("GetCallerIdentity", Answer("InvalidClientTokenId", status=403))
    with pytest.raises(CredentialRejectedError) as caught:
        tester.test(role_credential(aws.role()))
    assert caught.value.code == "InvalidClientTokenId"
    assert aws.server.count("AssumeRole") == 0


def test_a_region_that_is_switched_off_is_no_fault_of_the_trust_policy(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=False, without_id=False, denial=Answer("RegionDisabledException", status=403))
    with pytest.raises(CredentialRejectedError) as caught:
        tester.test(role_credential(aws.role()))
    assert caught.value.hint is not None
    assert "enable the Region" in caught.value.hint


def test_a_service_that_fails_says_nothing_of_the_role(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=False, without_id=False, denial=Answer("InternalFailure", status=500))
    with pytest.raises(DestinationUnavailableError):
        tester.test(role_credential(aws.role()))


def test_another_account_than_the_pinned_one_is_refused(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=False)
    with pytest.raises(AccountMismatchError, match=f"{OTHER_ACCOUNT}.*999999999999"):
        tester.test(role_credential(aws.role(), account="999999999999"))


def test_the_pinned_account_is_fine(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=False)
    assert tester.test(role_credential(aws.role(), account=OTHER_ACCOUNT)).identity.account == OTHER_ACCOUNT


@pytest.mark.parametrize("credential", [access_key_credential(), ambient_credential()], ids=["key", "ambient"])
def test_keys_and_the_default_chain_have_an_identity_alone(
    aws: Aws, tester: AwsCredentialTester, credential: Credential
):
    report = tester.test(credential)
    assert report.identity.account == ACCOUNT
    assert (report.base, report.findings, report.open_without_external_id) == (None, (), None)


def test_the_source_credential_is_the_base(aws: Aws, tester: AwsCredentialTester, sources: dict[str, Credential]):
    sources["middle"] = role_credential(aws.role("middle"), id="middle")
    base = tester.base_identity(role_credential(aws.role("last"), source_id="middle"))
    assert base.account == OTHER_ACCOUNT
    assert ":assumed-role/middle/" in base.arn


def test_an_incomplete_credential_has_no_role_to_test(aws: Aws, tester: AwsCredentialTester):
    with pytest.raises(CredentialRejectedError, match="incomplete"):
        tester.test(role_credential(None))
    assert aws.server.operations == []


def test_every_test_asks_anew(aws: Aws, tester: AwsCredentialTester):
    trust(aws, with_id=True, without_id=False)
    credential = role_credential(aws.role())
    tester.test(credential)
    tester.test(credential)
    assert aws.server.count("AssumeRole") == 4


@pytest.mark.parametrize(
    ("credential", "hint"),
    [
        (access_key_credential(), "credentials update production --access-key-id ID"),
        (ambient_credential(), "set AWS_PROFILE, or AWS_ACCESS_KEY_ID"),
        (role_credential("arn:aws:iam::123456789012:role/phasesync"), "set AWS_PROFILE, or AWS_ACCESS_KEY_ID"),
    ],
    ids=["access-key", "ambient", "assume-role"],
)
def test_a_refused_identity_is_not_sent_back_to_this_very_test(
    aws: Aws, tester: AwsCredentialTester, credential: Credential, hint: str
):
    aws.server.fail("GetCallerIdentity", Answer("MissingAuthenticationToken", "no", status=403), times=None)
    with pytest.raises(CredentialRejectedError) as refused:
        tester.test(credential)
    assert hint in (refused.value.hint or "")


# --- who a trust policy names


def session_of(aws: Aws, sources: dict[str, Credential], role_arn: str) -> Credential:
    """Return a credential for a role that a session of another role assumes."""
    sources["host"] = role_credential(role_arn, id="host", external_id=None)
    return role_credential(aws.role(), source_id="host")


def test_a_role_with_a_path_is_named_with_its_path(aws: Aws, tester: AwsCredentialTester, sources: Any) -> None:
    document = json.dumps(trust_policy(principal_arn=f"arn:aws:iam::{ACCOUNT}:root", external_id=None))
    created = aws.boto("iam").create_role(RoleName="host", Path="/teams/ops/", AssumeRolePolicyDocument=document)
    principal = tester.principal(session_of(aws, sources, created["Role"]["Arn"]))
    assert (principal.arn, principal.role) == (f"arn:aws:iam::{ACCOUNT}:role/teams/ops/host", None)


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchEntity", "InternalFailure"])
def test_where_iam_does_not_tell_the_path_it_is_said_that_it_is_not_known(
    aws: Aws, tester: AwsCredentialTester, sources: Any, code: str
) -> None:
    credential = session_of(aws, sources, aws.role("host", account=ACCOUNT))
    aws.server.fail("GetRole", Answer(code, status=500 if code == "InternalFailure" else 403), times=9)
    principal = tester.principal(credential)
    assert (principal.arn, principal.role) == (f"arn:aws:iam::{ACCOUNT}:role/host", "host")


def test_the_line_for_such_a_role_says_how_to_find_the_path(
    aws: Aws, tester: AwsCredentialTester, sources: Any
) -> None:
    credential = session_of(aws, sources, aws.role("host", account=ACCOUNT))

    def decide(operation: Operation) -> Answer | None:
        return DENIED if operation.form["RoleArn"] == credential.role_arn else None

    aws.server.do("AssumeRole", decide, times=1000)
    aws.server.fail("GetRole", Answer("AccessDenied", status=403), times=9)
    with pytest.raises(CredentialRejectedError) as caught:
        tester.test(credential)
    assert "aws iam get-role --role-name host --query Role.Arn" in str(caught.value.hint)


# --- which policy is in the way


def test_tags_of_a_session_need_the_trust_policy(aws: Aws, tester: AwsCredentialTester) -> None:
    text = "User: x is not authorized to perform: sts:TagSession on resource: y"
    trust(aws, with_id=False, without_id=False, denial=Answer("AccessDenied", text, status=403))
    with pytest.raises(CredentialRejectedError, match="sts:TagSession") as caught:
        tester.test(role_credential(aws.role()))
    assert [statement["Action"] for statement in policy_in(caught.value.hint)["Statement"]] == [
        "sts:AssumeRole",
        "sts:TagSession",
    ]
    assert "--dynamic" not in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["service control policy", "permissions boundary", "VPC endpoint policy"])
def test_where_another_policy_denies_the_trust_policy_is_not_touched(
    aws: Aws, tester: AwsCredentialTester, kind: str
) -> None:
    text = f"{DENIED.message} with an explicit deny in a {kind}"
    trust(aws, with_id=False, without_id=False, denial=Answer("AccessDenied", text, status=403))
    with pytest.raises(CredentialRejectedError, match=kind) as caught:
        tester.test(role_credential(aws.role()))
    assert "update-assume-role-policy" not in str(caught.value.hint)
