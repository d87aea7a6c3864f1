"""Which Region a starter policy is for. What exact policies cover: tests/cli/test_aws_policy.py, tests/leases."""

from dataclasses import replace

import pytest

from phasesync.core.credential import Credential
from phasesync.core.iam.starter_region import starter_region
from phasesync.errors import InvalidInputError
from tests.engine.test_role_setup import NEW

KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ENVIRON = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}


def region(
    named: str | None = None,
    *,
    credential: Credential | None = None,
    kms_key: str | None = None,
    environ: dict[str, str] | None = None,
) -> str | None:
    return starter_region(named, credential=credential, kms_key=kms_key, environ=environ or {}).region


def test_the_named_region_counts_first_then_credential_key_and_environment() -> None:
    assert region("eu-north-1", credential=NEW, kms_key=KEY, environ=ENVIRON) == "eu-north-1"
    assert region(credential=NEW, kms_key=KEY, environ=ENVIRON) == NEW.region
    assert region(kms_key=KEY, environ=ENVIRON) == "us-east-1"
    assert region(environ=ENVIRON) == "eu-west-1"
    assert region(environ={"AWS_DEFAULT_REGION": "eu-west-2"}) == "eu-west-2"
    assert region() is None


def test_a_note_says_where_it_was_found_unless_somebody_named_it() -> None:
    assert starter_region("eu-north-1", credential=None, kms_key=None, environ=ENVIRON).note is None
    found = starter_region(None, credential=None, kms_key=None, environ=ENVIRON)
    assert found.note == "it is for eu-west-1, as AWS_REGION says; --region names another"


def test_a_variable_without_a_region_is_named() -> None:
    with pytest.raises(InvalidInputError, match="AWS_REGION"):
        region(environ={"AWS_REGION": "nowhere"})


def test_a_region_of_another_partition_than_the_credential_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        region("cn-north-1", credential=replace(NEW, region="eu-west-1"))
