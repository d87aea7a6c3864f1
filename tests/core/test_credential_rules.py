"""What an operator types of a credential, by AWS's rules."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.credential import (
    check_access_key_id,
    check_account,
    check_external_id,
    check_secret_access_key,
)
from phasesync.core.model import SecretValue
from phasesync.demo.canary import CANARY_VALUE
from phasesync.errors import InvalidInputError

STS: Any = Loader().load_service_model("sts", "service-2")["shapes"]


def test_the_rule_of_external_ids_is_that_of_sts() -> None:
    rule = STS["externalIdType"]
    assert (rule["min"], rule["max"], rule["pattern"]) == (2, 1224, r"[\w+=,.@:\/-]*")


@given(st.from_regex(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", fullmatch=True))
def test_every_external_id_of_sts_is_taken(external_id: str) -> None:
    assert check_external_id(external_id) == external_id


@pytest.mark.parametrize("external_id", ["x", "x" * 1225, "a b", "ab\r", "ä1", "a&b", "a\nb", "a*b", " ab"])
def test_other_external_ids_are_refused(external_id: str) -> None:
    with pytest.raises(InvalidInputError, match="an External ID has"):
        check_external_id(external_id)


def test_an_empty_external_id_names_the_option_for_none() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_external_id("")
    assert "--no-external-id" in str(caught.value.hint)


@pytest.mark.parametrize("around", ["{}", " {}", "{}\r", "{}\r\n", "\t{} ", "\u00a0{}"])
def test_white_space_around_a_pasted_key_is_dropped(around: str) -> None:
    key_id, secret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    assert check_access_key_id(around.format(key_id)) == key_id
    if around.isascii():
        assert check_secret_access_key(SecretValue(around.format(secret).encode())).reveal_text() == secret


@pytest.mark.parametrize("beginning", ["AIDA", "AROA", "ANPA", "AGPA", "APKA", "ABIA"])
def test_the_id_of_something_else_is_named_as_such(beginning: str) -> None:
    with pytest.raises(InvalidInputError, match=r"that is the id of an? "):
        check_access_key_id(f"{beginning}IOSFODNN7EXAMPLE")


def test_temporary_keys_say_what_to_use_in_their_place() -> None:
    with pytest.raises(InvalidInputError, match="session token") as caught:
        check_access_key_id("ASIAIOSFODNN7EXAMPLE")
    assert "--type ambient" in str(caught.value.hint)


@pytest.mark.parametrize(
    "secret",
    [
        *("", " ", "a b", "a\rb", "aws_secret_access_key = x", "ключ", "\ufeffabc", "a\x00b", f"{CANARY_VALUE} x"),
        *(f"AWS_SECRET_ACCESS_KEY={CANARY_VALUE}", f"aws_secret_access_key:{CANARY_VALUE}", f"Secret={CANARY_VALUE}"),
        *(f'"{CANARY_VALUE}"', f"'{CANARY_VALUE}'", f"`{CANARY_VALUE}`"),
    ],
)
def test_what_is_no_secret_key_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidInputError, match="secret access key") as caught:
        check_secret_access_key(SecretValue(secret.encode()))
    assert CANARY_VALUE not in str(vars(caught.value))


@pytest.mark.parametrize("account", ["", "1234", "12345678901a", "1234-5678-9012", "١" * 12, "123456789012\n"])
def test_an_account_has_twelve_digits(account: str) -> None:
    assert check_account("123456789012") == "123456789012"
    with pytest.raises(InvalidInputError, match="not the id of an AWS account"):
        check_account(account)
