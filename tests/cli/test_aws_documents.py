"""What an operator is told when a credential that assumes a role is added."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from phasesync.cli.aws_documents import setup_of
from phasesync.core.credential import Credential, CredentialStatus, CredentialType, Principal
from phasesync.errors import CredentialRejectedError

WHO = "arn:aws:iam::123456789012:user/operator"
ROLE = "arn:aws:iam::210987654321:role/teams/writer"
NEW = Credential(
    id="1",
    name="aws",
    type=CredentialType.ASSUME_ROLE,
    region="eu-central-1",
    version=1,
    status=CredentialStatus.INCOMPLETE,
    account=None,
    role_arn=None,
    external_id="the-external-id",
    source_id=None,
    access_key_id=None,
    secret_access_key=None,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    verified_at=None,
)


def told(credential: Credential, *, refused: bool = False, role: str | None = None) -> list[str]:
    def principal(_credential: Credential) -> Principal:
        if refused:
            raise CredentialRejectedError("nobody")
        return Principal(arn=WHO, role=role)

    application: Any = SimpleNamespace(tester=SimpleNamespace(principal=principal))
    return setup_of(application, credential).lines()


def test_a_role_that_is_to_be_made_gets_its_commands() -> None:
    commands = [line for line in told(NEW) if line.startswith("aws iam ")]
    assert [line.split()[2] for line in commands] == ["create-policy", "create-role", "attach-role-policy"]


def test_the_policy_to_begin_with_is_not_the_last_word() -> None:
    assert any(line.endswith("phasesync aws policy --all --credential aws") for line in told(NEW))


def test_a_role_that_exists_gets_no_second_one() -> None:
    """But its trust policy does not have the External ID that was made a moment ago."""
    (command,) = (line for line in told(replace(NEW, role_arn=ROLE)) if line.startswith("aws iam "))
    assert command.startswith("aws iam update-assume-role-policy --role-name writer ")
    assert "the-external-id" in command


def test_it_says_that_the_role_trusts_who_typed_the_command() -> None:
    """The daemon is often somebody else."""
    assert told(NEW)[-1].endswith("phasesync aws trust-policy aws --principal ARN")


@pytest.mark.parametrize(("credential", "refused"), [(replace(NEW, source_name="keys"), False), (NEW, True)])
def test_it_does_not_where_a_source_or_nobody_assumes_the_role(credential: Credential, refused: bool) -> None:
    assert not any("identity of this shell" in line for line in told(credential, refused=refused))


def test_a_role_whose_path_nobody_tells_is_named_with_the_command_that_tells_it() -> None:
    lines = told(NEW, role="host")
    assert any("aws iam get-role --role-name host --query Role.Arn" in line for line in lines)
    assert lines[-1].endswith("phasesync aws trust-policy aws --principal ARN")


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc")]
)
def test_what_stands_for_an_unknown_principal_is_of_the_right_partition(region: str, partition: str) -> None:
    lines = told(replace(NEW, region=region), refused=True)
    assert any(f"in the place of arn:{partition}:iam::" in line for line in lines)
    assert not any("arn:aws:" in line for line in lines)
