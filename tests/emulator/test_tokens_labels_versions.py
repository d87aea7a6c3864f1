"""Tokens make writes harmless, labels wander, versions run out."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import code_of, passes, refuses

FIRST, SECOND, THIRD = ("first" * 7, "second" * 6, "third" * 7)


@pytest.fixture
def shop(sm: Any) -> str:
    """A secret with a first version."""
    return str(sm.create_secret(Name="shop", SecretString="one", ClientRequestToken=FIRST)["ARN"])


def put(sm: Any, value: str, token: str, *labels: str) -> Any:
    more = {"VersionStages": list(labels)} if labels else {}
    return sm.put_secret_value(SecretId="shop", SecretString=value, ClientRequestToken=token, **more)


def labels(sm: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = sm.describe_secret(SecretId="shop")["VersionIdsToStages"]
    return {version: sorted(stages) for version, stages in found.items()}


def current(sm: Any) -> str:
    return str(sm.get_secret_value(SecretId="shop")["SecretString"])


# --- tokens


@refuses("API model")
@pytest.mark.parametrize("token", ["x" * 31, "x" * 65])
def test_refuses_a_token_of_another_length(shop: str, sm: Any, token: str):
    assert code_of(lambda: put(sm, "two", token)) == "ValidationException"


@passes("API model")
@pytest.mark.parametrize("token", ["x" * 32, "x" * 64])
def test_lets_a_token_pass(shop: str, sm: Any, token: str):
    assert put(sm, "two", token)["VersionId"] == token


@passes("tokens of writes")
def test_the_same_put_again_answers_with_its_version_and_its_labels(shop: str, sm: Any):
    put(sm, "two", SECOND)
    put(sm, "three", THIRD)
    again = put(sm, "two", SECOND)
    assert (again["VersionId"], again["VersionStages"]) == (SECOND, ["AWSPREVIOUS"])
    assert current(sm) == "three"


@passes("tokens of writes")
def test_the_same_put_again_says_when_its_version_has_no_labels_any_more(shop: str, sm: Any):
    put(sm, "two", SECOND)
    put(sm, "three", THIRD)
    again = put(sm, "one", FIRST)
    assert (again["VersionId"], again.get("VersionStages", [])) == (FIRST, [])


@passes("tokens of writes")
def test_the_same_create_again_answers_with_its_own_version(shop: str, sm: Any):
    put(sm, "two", SECOND)
    again = sm.create_secret(Name="shop", SecretString="one", ClientRequestToken=FIRST)
    assert (again["ARN"], again["VersionId"]) == (shop, FIRST)
    assert current(sm) == "two"


@refuses("tokens of writes")
def test_refuses_a_put_whose_token_holds_another_value(shop: str, sm: Any):
    assert code_of(lambda: put(sm, "two", FIRST)) == "ResourceExistsException"
    assert current(sm) == "one"


@refuses("tokens of writes")
@pytest.mark.parametrize("arguments", [("two", FIRST), ("one", SECOND)])
def test_refuses_a_create_that_is_not_the_same(shop: str, sm: Any, arguments: tuple[str, str]):
    value, token = arguments
    create = {"Name": "shop", "SecretString": value, "ClientRequestToken": token}
    assert code_of(lambda: sm.create_secret(**create)) == "ResourceExistsException"


@refuses("tokens of UpdateSecret")
def test_refuses_an_update_with_a_known_token_even_for_the_same_value(shop: str, sm: Any):
    update = {"SecretId": "shop", "SecretString": "one", "ClientRequestToken": FIRST}
    assert code_of(lambda: sm.update_secret(**update)) == "ResourceExistsException"


@passes("tokens of UpdateSecret")
def test_lets_an_update_with_a_new_token_pass_and_tells_its_version(shop: str, sm: Any):
    update = {"SecretId": "shop", "SecretString": "two", "ClientRequestToken": SECOND}
    assert sm.update_secret(**update)["VersionId"] == SECOND
    assert "VersionId" not in sm.update_secret(SecretId="shop", Description="ours")
    assert current(sm) == "two"


# --- labels


@passes("labels")
def test_current_moves_with_a_put_and_previous_follows(shop: str, sm: Any):
    put(sm, "two", SECOND)
    put(sm, "three", THIRD)
    assert labels(sm) == {SECOND: ["AWSPREVIOUS"], THIRD: ["AWSCURRENT"]}


@passes("labels")
def test_a_label_of_ours_stays_when_current_moves_on(shop: str, sm: Any):
    sm.update_secret_version_stage(SecretId="shop", VersionStage="release-1", MoveToVersionId=FIRST)
    put(sm, "two", SECOND)
    assert labels(sm)[FIRST] == ["AWSPREVIOUS", "release-1"]


@passes("labels")
def test_a_put_with_another_label_leaves_current_where_it_is(shop: str, sm: Any):
    assert put(sm, "two", SECOND, "blue")["VersionStages"] == ["blue"]
    put(sm, "three", THIRD, "blue")
    assert labels(sm) == {FIRST: ["AWSCURRENT"], THIRD: ["blue"]}
    assert current(sm) == "one"


@passes("labels")
def test_the_first_version_becomes_current_whatever_its_label(sm: Any):
    sm.create_secret(Name="shop")
    assert sorted(put(sm, "one", FIRST, "blue")["VersionStages"]) == ["AWSCURRENT", "blue"]


@passes("labels")
def test_readers_follow_a_label_that_was_moved_back(shop: str, sm: Any):
    put(sm, "two", SECOND)
    sm.update_secret_version_stage(
        SecretId="shop", VersionStage="AWSCURRENT", RemoveFromVersionId=SECOND, MoveToVersionId=FIRST
    )
    assert current(sm) == "one"
    assert labels(sm) == {FIRST: ["AWSCURRENT"], SECOND: ["AWSPREVIOUS"]}


@refuses("labels")
def test_refuses_to_move_a_label_from_where_it_is_not(shop: str, sm: Any):
    put(sm, "two", SECOND)
    move = {"SecretId": "shop", "VersionStage": "AWSCURRENT", "MoveToVersionId": FIRST}
    assert code_of(lambda: sm.update_secret_version_stage(**move)) == "InvalidParameterException"
    move["RemoveFromVersionId"] = FIRST
    assert code_of(lambda: sm.update_secret_version_stage(**move)) == "InvalidParameterException"
    assert current(sm) == "two"


@refuses("labels")
def test_refuses_to_leave_a_secret_without_a_current_version(shop: str, sm: Any):
    remove = {"SecretId": "shop", "VersionStage": "AWSCURRENT", "RemoveFromVersionId": FIRST}
    assert code_of(lambda: sm.update_secret_version_stage(**remove)) == "InvalidParameterException"


@passes("label quota")
@refuses("label quota")
def test_lets_twenty_labels_pass_and_refuses_one_more(shop: str, sm: Any):
    put(sm, "two", SECOND, *(f"label-{number}" for number in range(19)))
    more = {"SecretId": "shop", "VersionStage": "one-more", "MoveToVersionId": SECOND}
    assert code_of(lambda: sm.update_secret_version_stage(**more)) == "LimitExceededException"
    assert code_of(lambda: put(sm, "three", THIRD)) == "LimitExceededException"  # it would add AWSPREVIOUS


@passes("labels")
def test_only_labelled_versions_are_described(shop: str, sm: Any):
    put(sm, "two", SECOND)
    put(sm, "three", THIRD)
    assert FIRST not in labels(sm)
    told = sm.list_secret_version_ids(SecretId="shop", IncludeDeprecated=True)["Versions"]
    assert {version["VersionId"] for version in told} == {FIRST, SECOND, THIRD}
    told = sm.list_secret_version_ids(SecretId="shop")["Versions"]
    assert {version["VersionId"] for version in told} == {SECOND, THIRD}


# --- versions


@refuses("version quota")
def test_refuses_the_version_after_the_hundredth_of_a_day(aws: AwsEmulator, shop: str, sm: Any):
    for number in range(2, 101):
        aws.outside.put("shop", f"value {number}")
    assert code_of(lambda: put(sm, "one more", SECOND)) == "LimitExceededException"
    assert current(sm) == "value 100"


@passes("version quota")
def test_versions_without_a_label_make_room_when_they_are_a_day_old(aws: AwsEmulator, shop: str, sm: Any):
    for number in range(2, 101):
        aws.outside.put("shop", f"value {number}")
    aws.clock.advance(hours=24, seconds=1)
    put(sm, "one more", SECOND)
    assert current(sm) == "one more"
    told = sm.list_secret_version_ids(SecretId="shop", IncludeDeprecated=True)["Versions"]
    assert len(told) == 100
    assert FIRST not in {version["VersionId"] for version in told}


@passes("version quota")
def test_a_labelled_version_never_goes(aws: AwsEmulator, shop: str, sm: Any):
    aws.limits.versions = 4
    sm.update_secret_version_stage(SecretId="shop", VersionStage="keep", MoveToVersionId=FIRST)
    for number in range(5):
        aws.clock.advance(days=2)
        aws.outside.put("shop", f"value {number}")
    assert labels(sm)[FIRST] == ["keep"]
    assert sm.get_secret_value(SecretId="shop", VersionStage="keep")["SecretString"] == "one"


def test_a_repeated_put_needs_no_room(aws: AwsEmulator, shop: str, sm: Any):
    aws.limits.versions = 1
    assert put(sm, "one", FIRST)["VersionStages"] == ["AWSCURRENT"]


@refuses("secret quota")
@passes("secret quota")
def test_refuses_more_secrets_than_the_quota(aws: AwsEmulator, sm: Any):
    aws.limits.secrets = 1
    sm.create_secret(Name="one")
    assert code_of(lambda: sm.create_secret(Name="two")) == "LimitExceededException"
    aws.outside.delete("one", recovery_days=None)
    sm.create_secret(Name="two")


def test_dates_go_by_the_clock_and_access_has_no_time(aws: AwsEmulator, shop: str, sm: Any):
    made = aws.clock.now()
    aws.clock.advance(days=3)
    sm.tag_resource(SecretId="shop", Tags=[{"Key": "team", "Value": "shop"}])
    changed = aws.clock.now()
    aws.clock.advance(days=3)
    assert "LastAccessedDate" not in sm.describe_secret(SecretId="shop")
    current(sm)
    told = sm.describe_secret(SecretId="shop")
    assert abs(told["CreatedDate"] - made).total_seconds() < 0.01
    assert abs(told["LastChangedDate"] - changed).total_seconds() < 0.01
    midnight = aws.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert told["LastAccessedDate"] == midnight
