"""Rates hold per account, Region and group of operations, by the emulator's clock."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import OTHER_ACCOUNT, OTHER_REGION, Boto, code_of, passes, refuses


@pytest.fixture
def throttled(aws: AwsEmulator) -> AwsEmulator:
    """A emulator that throttles, with a secret."""
    aws.outside.create("shop")
    aws.throttling.enabled = True
    return aws


def until_throttled(call: Any, most: int) -> int:
    """Return how many calls pass before one is throttled."""
    for number in range(most):
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] != "ThrottlingException":
                raise
            return number
    return most


@refuses("request rates")
def test_tags_pass_fifty_times_at_once(throttled: AwsEmulator, sm: Any):
    assert until_throttled(lambda: sm.untag_resource(SecretId="shop", TagKeys=["k"]), 60) == 50
    assert until_throttled(lambda: sm.tag_resource(SecretId="shop", Tags=[{"Key": "k", "Value": "v"}]), 1) == 0


@passes("request rates")
def test_a_second_later_as_many_pass_again(throttled: AwsEmulator, sm: Any):
    throttled.throttling.rates["tag"] = 3
    assert until_throttled(lambda: sm.untag_resource(SecretId="shop", TagKeys=["k"]), 10) == 3
    throttled.clock.advance(seconds=1)
    assert until_throttled(lambda: sm.untag_resource(SecretId="shop", TagKeys=["k"]), 10) == 3


@refuses("request rates")
def test_puts_and_updates_share_a_rate(throttled: AwsEmulator, sm: Any):
    throttled.throttling.rates["write"] = 2
    sm.put_secret_value(SecretId="shop", SecretString="two")
    sm.update_secret(SecretId="shop", Description="two")
    assert code_of(lambda: sm.put_secret_value(SecretId="shop", SecretString="three")) == "ThrottlingException"
    assert throttled.outside.text("shop") == "two"


@passes("request rates")
def test_other_operations_regions_and_accounts_have_rates_of_their_own(throttled: AwsEmulator, boto: Boto):
    throttled.throttling.rates["describe"] = 1
    sm = boto()
    sm.describe_secret(SecretId="shop")
    assert code_of(lambda: sm.describe_secret(SecretId="shop")) == "ThrottlingException"
    sm.get_secret_value(SecretId="shop")
    throttled.outside.at(region=OTHER_REGION).create("shop")
    boto(region=OTHER_REGION).describe_secret(SecretId="shop")
    others = throttled.outside.at(account=OTHER_ACCOUNT)
    others.create("shop")
    key, secret = others.create_user()
    boto(aws_access_key_id=key, aws_secret_access_key=secret).describe_secret(SecretId="shop")


@passes("request rates")
def test_nothing_is_throttled_when_that_is_switched_off_and_the_outsider_never(throttled: AwsEmulator, sm: Any):
    throttled.throttling.rates["write"] = 1
    for number in range(5):
        throttled.outside.put("shop", str(number))
    throttled.throttling.enabled = False
    for number in range(5):
        sm.put_secret_value(SecretId="shop", SecretString=str(number))
