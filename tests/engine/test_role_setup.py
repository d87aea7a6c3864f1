"""What an operator needs to create the role of a new credential."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from phasesync.core.credential import Credential, CredentialStatus, CredentialType, Principal
from phasesync.engine.iam_policies import role_setup
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


def lines_of(credential: Credential, *, refused: bool = False, role: str | None = None) -> list[str]:
    def principal(_credential: Credential) -> Principal:
        if refused:
            raise CredentialRejectedError("nobody")
        return Principal(arn=WHO, role=role)

    tester: Any = SimpleNamespace(principal=principal)
    setup = role_setup(tester, credential)
    return [json.dumps(setup.trust), json.dumps(setup.policy), *setup.commands, *setup.notes]


def test_a_role_that_is_to_be_made_gets_its_commands() -> None:
    commands = [line for line in lines_of(NEW) if line.startswith("aws iam ")]
    assert [line.split()[2] for line in commands] == ["create-policy", "create-role", "attach-role-policy"]


def test_the_policy_to_begin_with_is_not_the_last_word() -> None:
    assert any(line.endswith("phasesync aws policy --all --credential aws") for line in lines_of(NEW))


def test_a_role_that_exists_gets_no_second_one() -> None:
    """But its trust policy does not have the External ID that was made a moment ago."""
    (command,) = (line for line in lines_of(replace(NEW, role_arn=ROLE)) if line.startswith("aws iam "))
    assert command.startswith("aws iam update-assume-role-policy --role-name writer ")
    assert "the-external-id" in command


def test_it_says_that_the_role_trusts_who_typed_the_command() -> None:
    """The daemon is often someone else."""
    assert lines_of(NEW)[-1].endswith("phasesync aws trust-policy aws --principal ARN")


@pytest.mark.parametrize(("credential", "refused"), [(replace(NEW, source_name="keys"), False), (NEW, True)])
def test_it_does_not_where_a_source_or_nobody_assumes_the_role(credential: Credential, refused: bool) -> None:
    assert not any("identity of this shell" in line for line in lines_of(credential, refused=refused))


def test_a_role_whose_path_nobody_tells_is_named_with_the_command_that_tells_it() -> None:
    lines = lines_of(NEW, role="host")
    assert any("aws iam get-role --role-name host --query Role.Arn" in line for line in lines)
    assert lines[-1].endswith("phasesync aws trust-policy aws --principal ARN")


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc")]
)
def test_what_stands_for_an_unknown_principal_is_of_the_right_partition(region: str, partition: str) -> None:
    lines = lines_of(replace(NEW, region=region), refused=True)
    assert any(f"in the place of arn:{partition}:iam::" in line for line in lines)
    assert not any("arn:aws:" in line for line in lines)
