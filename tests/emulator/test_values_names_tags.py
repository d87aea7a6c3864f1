"""What may be written: values, names, tags, descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import code_of, passes, refuses, text_of

LIMIT = 65_536
VALIDATION = "ValidationException"


@passes("value size")
@pytest.mark.parametrize("value", ["x" * LIMIT, "€" * (LIMIT // 3)])
def test_lets_the_largest_value_pass(sm: Any, value: str):
    sm.create_secret(Name="shop", SecretString=value)
    assert sm.get_secret_value(SecretId="shop")["SecretString"] == value


@passes("value kinds")
@refuses("value size")
@pytest.mark.parametrize("value", ["x" * (LIMIT + 1), "€" * (LIMIT // 3) + "xx"])
def test_refuses_a_value_of_one_byte_more(sm: Any, value: str):
    sm.create_secret(Name="shop", SecretString="one")
    assert code_of(lambda: sm.put_secret_value(SecretId="shop", SecretString=value)) == VALIDATION
    assert sm.get_secret_value(SecretId="shop")["SecretString"] == "one"


def test_counts_bytes_of_a_binary_value_not_its_base64(sm: Any):
    sm.create_secret(Name="shop", SecretBinary=b"\xff" * LIMIT)
    assert sm.get_secret_value(SecretId="shop")["SecretBinary"] == b"\xff" * LIMIT
    assert code_of(lambda: sm.create_secret(Name="more", SecretBinary=b"\xff" * (LIMIT + 1))) == VALIDATION


@refuses("value kinds")
def test_does_not_repeat_a_refused_value(sm: Any):
    assert "sesame" not in text_of(lambda: sm.create_secret(Name="shop", SecretString="sesame" * LIMIT))


def test_refuses_both_kinds_of_value_at_once(sm: Any):
    both = {"SecretString": "one", "SecretBinary": b"one"}
    assert code_of(lambda: sm.create_secret(Name="shop", **both)) == "InvalidParameterException"


def test_refuses_a_put_without_a_value(sm: Any):
    sm.create_secret(Name="shop", SecretString="one")
    assert code_of(lambda: sm.put_secret_value(SecretId="shop")) == "InvalidRequestException"


@passes("names")
@pytest.mark.parametrize("name", ["a", "x" * 512, "Shop/prod_+=.@-1"])
def test_lets_a_name_pass(sm: Any, name: str):
    assert sm.create_secret(Name=name, SecretString="one")["Name"] == name


@refuses("tag count")
@passes("tag count")
@refuses("names")
@pytest.mark.parametrize("name", ["x" * 513, "two words", "rds!db", "ünder", "a:b", "a\n"])
def test_refuses_a_name(sm: Any, name: str):
    assert code_of(lambda: sm.create_secret(Name=name, SecretString="one")) == VALIDATION


def test_lets_fifty_tags_pass_and_refuses_one_more(aws: AwsEmulator, sm: Any):
    aws.outside.create("shop", tags={f"k{number}": "v" for number in range(50)})
    sm.tag_resource(SecretId="shop", Tags=[{"Key": "k1", "Value": "changed"}])
    more = [{"Key": "one-more", "Value": "v"}]
    assert code_of(lambda: sm.tag_resource(SecretId="shop", Tags=more)) == "InvalidParameterException"


def test_refuses_fifty_one_tags_at_creation(sm: Any):
    tags = [{"Key": f"k{number}", "Value": "v"} for number in range(51)]
    assert code_of(lambda: sm.create_secret(Name="shop", Tags=tags)) == "InvalidParameterException"


@passes("tag form")
@pytest.mark.parametrize("tag", [("k" * 128, "v" * 256), ("phasesync:owner", "a b/c=d+e-f@g_h.i"), ("größe", "")])
def test_lets_a_tag_pass(aws: AwsEmulator, sm: Any, tag: tuple[str, str]):
    aws.outside.create("shop")
    sm.tag_resource(SecretId="shop", Tags=[{"Key": tag[0], "Value": tag[1]}])
    assert sm.describe_secret(SecretId="shop")["Tags"] == [{"Key": tag[0], "Value": tag[1]}]


@refuses("tag form")
@pytest.mark.parametrize(
    "tag", [("k" * 129, "v"), ("k", "v" * 257), ("aws:own", "v"), ("AWS:own", "v"), ("a{b}", "v"), ("k", "v;w")]
)
def test_refuses_a_tag(aws: AwsEmulator, sm: Any, tag: tuple[str, str]):
    aws.outside.create("shop")
    tags = [{"Key": tag[0], "Value": tag[1]}]
    assert code_of(lambda: sm.tag_resource(SecretId="shop", Tags=tags)) in (VALIDATION, "InvalidParameterException")
    assert "Tags" not in sm.describe_secret(SecretId="shop")


@passes("descriptions")
@refuses("descriptions")
@refuses("API model")
@passes("API model")
def test_refuses_to_remove_tags_of_aws(aws: AwsEmulator, sm: Any):
    aws.outside.create("shop", tags={"team": "shop"})
    assert code_of(lambda: sm.untag_resource(SecretId="shop", TagKeys=["aws:x"])) == "InvalidParameterException"
    sm.untag_resource(SecretId="shop", TagKeys=["team", "never-was"])
    assert "Tags" not in sm.describe_secret(SecretId="shop")


def test_lets_the_longest_description_pass_and_refuses_one_more(sm: Any):
    sm.create_secret(Name="shop", Description="d" * 2048)
    assert code_of(lambda: sm.update_secret(SecretId="shop", Description="d" * 2049)) == VALIDATION


def test_clears_a_description(sm: Any):
    sm.create_secret(Name="shop", Description="ours")
    sm.update_secret(SecretId="shop", Description="")
    assert "Description" not in sm.describe_secret(SecretId="shop")


def test_leaves_a_description_alone_that_is_not_given(aws: AwsEmulator, sm: Any):
    sm.create_secret(Name="shop", Description="ours", KmsKeyId=aws.outside.create_key())
    sm.update_secret(SecretId="shop", KmsKeyId="")
    assert sm.describe_secret(SecretId="shop")["Description"] == "ours"
