"""Lists lag, come in pages, and are filtered as AWS filters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import OTHER_REGION, Boto, code_of, passes, refuses


def listed(sm: Any, **arguments: Any) -> list[str]:
    return sorted(entry["Name"] for entry in sm.list_secrets(**arguments)["SecretList"])


def found(sm: Any, key: str, *values: str) -> list[str]:
    return listed(sm, Filters=[{"Key": key, "Values": list(values)}])


@refuses("list lag")
def test_a_list_does_not_show_what_has_just_changed(aws: AwsEmulator, sm: Any):
    aws.outside.create("old", tags={"team": "shop"})
    aws.timing.list_lag = timedelta(minutes=5)
    sm.create_secret(Name="new", SecretString="one")
    sm.tag_resource(SecretId="old", Tags=[{"Key": "team", "Value": "cart"}])
    assert listed(sm) == ["old"]
    assert found(sm, "tag-value", "shop") == ["old"]
    sm.delete_secret(SecretId="old", ForceDeleteWithoutRecovery=True)
    assert listed(sm) == ["old"]
    assert sm.describe_secret(SecretId="new")["Name"] == "new"


@passes("list lag")
def test_a_list_catches_up(aws: AwsEmulator, sm: Any):
    aws.outside.create("old")
    aws.timing.list_lag = timedelta(minutes=5)
    sm.create_secret(Name="new", SecretString="one")
    sm.delete_secret(SecretId="old", ForceDeleteWithoutRecovery=True)
    aws.clock.advance(minutes=5)
    assert listed(sm) == ["new"]


@passes("list lag")
def test_a_list_is_up_to_date_unless_told_otherwise(sm: Any):
    sm.create_secret(Name="new", SecretString="one")
    assert listed(sm) == ["new"]


@refuses("scheduled deletions in lists")
@passes("scheduled deletions in lists")
def test_scheduled_deletions_are_listed_only_when_asked_for(aws: AwsEmulator, sm: Any):
    aws.outside.create("shop")
    aws.outside.delete("shop")
    assert listed(sm) == []
    assert listed(sm, IncludePlannedDeletion=True) == ["shop"]


@passes("pages")
def test_a_list_comes_in_pages(aws: AwsEmulator, sm: Any):
    for number in range(5):
        aws.outside.create(f"s{number}")
    pages = [page["SecretList"] for page in sm.get_paginator("list_secrets").paginate(MaxResults=2)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(entry["Name"] for page in pages for entry in page) == [f"s{number}" for number in range(5)]


@refuses("pages")
def test_pages_go_on_in_what_the_first_one_found(aws: AwsEmulator, sm: Any):
    """What is new does not push anything off its page, and what is gone is not listed any more."""
    for number in range(6):
        aws.clock.advance(seconds=1)
        aws.outside.create(f"shop-{number}")
    asked = {"MaxResults": 2, "SortBy": "name"}
    first = sm.list_secrets(**asked)
    aws.outside.create("a-shop")
    aws.outside.delete("shop-2", recovery_days=None)
    aws.outside.delete("shop-4")
    second = sm.list_secrets(**asked, NextToken=first["NextToken"])
    third = sm.list_secrets(**asked, NextToken=second["NextToken"])
    names = [entry["Name"] for page in (first, second, third) for entry in page["SecretList"]]
    assert names == ["shop-0", "shop-1", "shop-3", "shop-5"]
    assert "NextToken" not in third
    assert [entry["Name"] for entry in sm.list_secrets(**asked)["SecretList"]] == ["a-shop", "shop-0"]


# --- order

DELETE_AND_RESTORE = ("DeleteSecret", "RestoreSecret")
EVERY_CHANGE: dict[str, Callable[[AwsEmulator], object]] = {
    "value": lambda aws: aws.outside.put("old", "new"),
    "description": lambda aws: aws.outside.call("UpdateSecret", SecretId="old", Description="new"),
    "key": lambda aws: aws.outside.call("UpdateSecret", SecretId="old", KmsKeyId=aws.outside.create_key()),
    "tag": lambda aws: aws.outside.tag("old", {"team": "other"}),
    "no tag": lambda aws: aws.outside.untag("old", "team"),
    "scheduled deletion": lambda aws: aws.outside.delete("old"),
    "cancelled deletion": lambda aws: [aws.outside.call(name, SecretId="old") for name in DELETE_AND_RESTORE],
    "rotation": lambda aws: aws.outside.begin_rotation("old"),
    "resource policy": lambda aws: aws.outside.call("PutResourcePolicy", SecretId="old", ResourcePolicy=POLICY),
    "copy": lambda aws: aws.outside.call(
        "ReplicateSecretToRegions", SecretId="old", AddReplicaRegions=[{"Region": "us-east-1"}]
    ),
    "label": lambda aws: aws.outside.call(
        "UpdateSecretVersionStage",
        SecretId="old",
        VersionStage="live",
        MoveToVersionId=next(iter(aws.outside.describe("old")["VersionIdsToStages"])),
    ),
}
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},'
    '"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}'
)


def newest_first(sm: Any, **arguments: Any) -> list[str]:
    listed = sm.list_secrets(SortBy="last-changed-date", SortOrder="desc", IncludePlannedDeletion=True, **arguments)
    return [entry["Name"] for entry in listed["SecretList"]]


@passes("sorted lists")
@pytest.mark.parametrize("change", EVERY_CHANGE.values(), ids=EVERY_CHANGE.keys())
def test_every_kind_of_change_comes_first(aws: AwsEmulator, sm: Any, change: Callable[[AwsEmulator], object]):
    for name in ("old", "middle", "new"):
        aws.outside.create(name, tags={"team": "web"})
        aws.clock.advance(minutes=1)
    assert newest_first(sm) == ["new", "middle", "old"]
    change(aws)
    assert newest_first(sm) == ["old", "new", "middle"]


@passes("sorted lists")
def test_reading_moves_nothing(aws: AwsEmulator, sm: Any):
    for name in ("old", "new"):
        aws.outside.create(name)
        aws.clock.advance(minutes=1)
    aws.outside.text("old")
    aws.outside.describe("old")
    assert newest_first(sm) == ["new", "old"]


@passes("sorted lists")
def test_a_list_that_lags_is_sorted_by_the_dates_that_it_shows(aws: AwsEmulator, sm: Any):
    aws.timing.list_lag = timedelta(minutes=5)
    for name in ("old", "new"):
        aws.outside.create(name)
        aws.clock.advance(minutes=6)
    aws.outside.put("old", "changed")
    assert newest_first(sm) == ["new", "old"]
    aws.clock.advance(minutes=5, seconds=1)
    assert newest_first(sm) == ["old", "new"]


@refuses("list lag")
def test_secrets_may_lag_by_different_times(aws: AwsEmulator, sm: Any):
    aws.timing.list_lag = timedelta(minutes=5)
    aws.timing.lags_evenly = False
    for number in range(20):
        sm.create_secret(Name=f"s{number}", SecretString="one")
    shown = []
    for _ in range(5):
        aws.clock.advance(minutes=1)
        shown.append(len(listed(sm)))
    assert shown == sorted(shown)
    assert len(set(shown)) > 2
    assert shown[-1] == 20


@passes("sorted lists")
def test_dates_may_be_the_same(aws: AwsEmulator, sm: Any):
    aws.timing.dates_every = timedelta(hours=1)
    for number in range(5):
        aws.outside.create(f"s{number}")
    entries = sm.list_secrets(SortBy="last-changed-date", SortOrder="desc")["SecretList"]
    assert len(entries) == 5
    assert len({entry["LastChangedDate"] for entry in entries}) <= 2


@refuses("sorted lists")
def test_an_endpoint_may_refuse_an_order_or_ignore_it(aws: AwsEmulator, sm: Any):
    assert code_of(lambda: sm.list_secrets(SortBy="size")) == "ValidationException"
    for name in ("old", "new"):
        aws.outside.create(name)
        aws.clock.advance(minutes=1)
    aws.context.sorting = "ignored"
    assert newest_first(sm) == ["old", "new"]
    aws.context.sorting = "refused"
    assert code_of(lambda: newest_first(sm)) == "ValidationException"
    assert len(sm.list_secrets()["SecretList"]) == 2


@pytest.mark.parametrize("token", ["2", "bm90aGluZw==", "nonsense!"])
def test_refuses_a_token_that_it_did_not_give(sm: Any, token: str):
    assert code_of(lambda: sm.list_secrets(NextToken=token)) == "InvalidNextTokenException"


@refuses("API model")
@pytest.mark.parametrize(
    "arguments",
    [
        {"MaxResults": 101},
        {"Filters": [{"Key": "name", "Values": ["x"]}] * 11},
        {"Filters": [{"Key": "name", "Values": [str(number) for number in range(11)]}]},
        {"Filters": [{"Key": "nonsense", "Values": ["x"]}]},
    ],
)
def test_refuses_a_list_beyond_the_model(sm: Any, arguments: dict[str, Any]):
    assert code_of(lambda: sm.list_secrets(**arguments)) == "ValidationException"


@pytest.fixture
def three(aws: AwsEmulator) -> None:
    aws.outside.create("shop/Prod", tags={"team": "shop", "stage": "prod"}, Description="The shop's keys")
    aws.outside.create("shop/test", tags={"team": "Shop"}, Description="for tests")
    aws.outside.create("cart")


@passes("filters")
@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("name", ["shop/"], ["shop/Prod", "shop/test"]),
        ("name", ["cart", "shop/t"], ["cart", "shop/test"]),
        ("tag-key", ["sta"], ["shop/Prod"]),
        ("tag-value", ["shop"], ["shop/Prod"]),
        ("tag-key", ["!stage"], ["cart", "shop/test"]),
        ("name", ["shop", "!shop/t"], ["shop/Prod"]),
        ("description", ["KEYS"], ["shop/Prod"]),
        ("all", ["PROD"], ["shop/Prod"]),
    ],
)
def test_finds(three: None, sm: Any, key: str, values: list[str], names: list[str]):
    assert found(sm, key, *values) == names


@refuses("filters")
@pytest.mark.parametrize(
    ("key", "value"), [("name", "hop"), ("name", "SHOP"), ("tag-value", "rod"), ("tag-key", "TEAM"), ("all", "rod")]
)
def test_does_not_find(three: None, sm: Any, key: str, value: str):
    assert found(sm, key, value) == []


@passes("filters")
def test_a_key_and_a_value_are_not_asked_of_one_tag(three: None, sm: Any):
    filters = [{"Key": "tag-key", "Values": ["team"]}, {"Key": "tag-value", "Values": ["prod"]}]
    assert listed(sm, Filters=filters) == ["shop/Prod"]


def test_lists_only_its_own_region(aws: AwsEmulator, sm: Any, boto: Boto):
    aws.outside.create("here")
    aws.outside.at(region=OTHER_REGION).create("there")
    assert listed(sm) == ["here"]
    assert listed(boto(region=OTHER_REGION)) == ["there"]


# --- batches


@passes("batches")
def test_a_batch_tells_values_and_what_could_not_be_read(aws: AwsEmulator, sm: Any):
    aws.outside.create("one", "1")
    aws.outside.create("two", "2")
    aws.outside.delete("two")
    told = sm.batch_get_secret_value(SecretIdList=["one", "two", "none"])
    assert [value["SecretString"] for value in told["SecretValues"]] == ["1"]
    assert {error["SecretId"]: error["ErrorCode"] for error in told["Errors"]} == {
        "two": "InvalidRequestException",
        "none": "ResourceNotFoundException",
    }


@passes("batches")
def test_a_batch_by_filters_comes_in_pages(aws: AwsEmulator, sm: Any):
    for number in range(3):
        aws.outside.create(f"s{number}", str(number))
    filters = [{"Key": "name", "Values": ["s"]}]
    first = sm.batch_get_secret_value(Filters=filters, MaxResults=2)
    second = sm.batch_get_secret_value(Filters=filters, MaxResults=2, NextToken=first["NextToken"])
    assert [len(page["SecretValues"]) for page in (first, second)] == [2, 1]
    assert "NextToken" not in second


@refuses("batches")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"SecretIdList": [f"s{number}" for number in range(21)]}, "ValidationException"),
        ({"SecretIdList": ["one"], "Filters": [{"Key": "name", "Values": ["s"]}]}, "InvalidParameterException"),
        ({"SecretIdList": ["one"], "MaxResults": 2}, "InvalidParameterException"),
        ({"Filters": [{"Key": "name", "Values": ["s"]}], "MaxResults": 21}, "ValidationException"),
        ({}, "InvalidParameterException"),
    ],
)
def test_refuses_a_batch(sm: Any, arguments: dict[str, Any], code: str):
    assert code_of(lambda: sm.batch_get_secret_value(**arguments)) == code


@pytest.mark.parametrize("name", ["shop", "shop-abc123"])
def test_finds_by_name_and_by_arn_but_a_part_of_an_arn_must_not_look_whole(aws: AwsEmulator, sm: Any, name: str):
    arn = aws.outside.create(name)
    assert sm.describe_secret(SecretId=arn)["Name"] == name
    assert sm.describe_secret(SecretId=name)["ARN"] == arn
    part = arn[:-7]
    if name == "shop":
        assert sm.describe_secret(SecretId=part)["ARN"] == arn
    else:
        assert code_of(lambda: sm.describe_secret(SecretId=part)) == "ResourceNotFoundException"
