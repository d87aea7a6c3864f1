"""Warnings about syncs that would work and bite somebody else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phasesync.core.lint import LintCode, LintWarning, lint
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.sync import Layout, SyncConfig
from phasesync.demo.canary import CANARY_SECRET_ACCESS_KEY, CANARY_VALUE, assert_absent

PLAIN = "an ordinary value"


def values(**texts: str) -> dict[str, SecretValue]:
    return {key: SecretValue(text) for key, text in texts.items()}


def lint_json(
    secrets: dict[str, SecretValue] | None = None, *, name: str = "shop/production", others: tuple[str, ...] = ()
) -> tuple[LintWarning, ...]:
    """One object with all keys."""
    return lint(
        SyncConfig(remote_name=name),
        app="shop",
        environment="production",
        path="/",
        secrets=values(URL=PLAIN) if secrets is None else secrets,
        others=others,
    )


def lint_per_key(
    secrets: dict[str, SecretValue], *, template: str = "{app}/{key}", others: tuple[str, ...] = ()
) -> tuple[LintWarning, ...]:
    """One object a key."""
    config = SyncConfig(layout=Layout.PER_KEY, name_template=template)
    return lint(config, app="shop", environment="production", path="/", secrets=secrets, others=others)


def codes(found: tuple[LintWarning, ...]) -> list[str]:
    return [str(one.code) for one in found]


def only(found: tuple[LintWarning, ...]) -> LintWarning:
    (one,) = found
    return one


def test_an_ordinary_sync_gets_no_warning():
    assert lint_json(values(DATABASE_URL="postgres://db/shop", LOG_LEVEL="info")) == ()
    assert lint_per_key(values(DATABASE_URL="postgres://db/shop", LOG_LEVEL="info")) == ()


# --- names


@pytest.mark.parametrize(
    ("name", "bites"),
    [
        ("shop-abc123", True),
        ("shop-ABCDEF", True),
        ("shop-a_b.cd", True),
        ("shop-abc12", False),
        ("shop-abc1234", False),
        ("shop/abc123", False),
        ("-abc123", True),
        ("abc123", False),
    ],
)
def test_a_name_that_ends_like_an_arn(name: str, bites: bool):
    assert ("name-like-arn" in codes(lint_json(name=name))) is bites


@pytest.mark.parametrize("name", ["rds!db-1", "AwsGlueDataBrew-key", "awsgluedatabrew", "redshiftqueryeditor-me"])
def test_a_name_that_belongs_to_a_service(name: str):
    assert codes(lint_json(name=name)) == ["name-of-a-service"]
    assert name in only(lint_json(name=name)).text


def test_a_prefix_in_the_middle_is_no_prefix():
    assert lint_json(name="shop/redshiftqueryeditor") == ()


# --- the GitHub action


@pytest.mark.parametrize(
    ("name", "other", "collide"),
    [
        ("shop/web", "shop_web", True),
        ("shop/web", "Shop.Web", True),
        ("1shop", "_1shop", True),
        ("shop/web", "shop/web2", False),
        ("shop/web", "shopweb", False),
        ("1shop", "shop", False),
    ],
)
def test_a_secret_and_that_of_another_sync_that_are_one_variable_in_a_github_job(name: str, other: str, collide: bool):
    found = [one for one in lint_json(name=name, others=(other,)) if one.code is LintCode.GITHUB_NAME]
    assert bool(found) is collide
    for one in found:
        assert name in one.subject
        assert f"{other} (of another sync)" in one.subject


def test_the_own_name_among_the_others_is_no_collision():
    assert lint_json(name="shop/web", others=("shop/web",)) == ()


def test_others_that_collide_among_themselves_are_not_this_sync_s_business():
    assert lint_json(name="shop/web", others=("a/b", "a_b")) == ()


def test_names_of_one_sync_that_are_one_variable():
    found = lint_per_key(values(**{"A.B": PLAIN, "A_B": PLAIN}))
    assert codes(found) == ["github-name"]
    assert found[0].subject == "shop/A.B, shop/A_B"


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param(values(**{"api-key": PLAIN, "api_key": PLAIN}), id="a hyphen and an underscore"),
        pytest.param(values(**{"1A": PLAIN, "_1A": PLAIN}), id="a leading digit"),
        pytest.param(values(DB_HOST=PLAIN, DB='{"host": "h"}'), id="a text that is a JSON object"),
        pytest.param(
            {"DB_HOST": SecretValue(PLAIN), "DB": SecretValue('{"host": "h"}', ValueType.JSON)}, id="a JSON value"
        ),
        pytest.param(values(A='{"b": {"c": 1}, "b_c": 2}'), id="members of one value"),
        pytest.param(values(A='{"b": "{\\"c\\": 1}", "b_c": 2}'), id="JSON in JSON"),
    ],
)
def test_keys_that_are_one_variable_with_parse_json_secrets(secrets: dict[str, SecretValue]):
    found = [one for one in lint_json(secrets) if one.code is LintCode.GITHUB_JSON_NAME]
    assert only(tuple(found)).subject == ", ".join(sorted(secrets))


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param(values(DB_HOST=PLAIN, DB='["host"]'), id="an array stays whole"),
        pytest.param(values(DB_HOST=PLAIN, DB='{"host": '), id="broken JSON stays whole"),
        pytest.param(values(DB="{}", DB_HOST=PLAIN), id="an empty object makes no variable"),
        pytest.param({"DB": SecretValue(b'{"host": 1}', ValueType.BINARY), "DB_HOST": SecretValue(PLAIN)}, id="bytes"),
    ],
)
def test_what_stays_whole_collides_with_nothing(secrets: dict[str, SecretValue]):
    assert lint_json(secrets) == ()


def test_a_key_of_a_secret_and_the_secret_of_another_sync():
    """The guide's example: `Secret_keyname` beside `Secret` with a key `keyname`."""
    found = lint_json(values(keyname=PLAIN), name="Secret", others=("Secret_keyname",))
    assert codes(found) == ["github-json-name"]
    assert found[0].subject == "keyname, Secret_keyname (of another sync)"


def test_a_member_of_one_secret_and_another_secret_of_the_same_sync():
    found = lint_per_key(values(DB='{"host": 1}', DB_HOST=PLAIN))
    assert codes(found) == ["github-json-name"]
    assert found[0].subject == "shop/DB, shop/DB_HOST"


def test_a_member_of_a_value_is_never_named():
    hidden = json.dumps({"hunter2": {"x": 1}, "hunter2_x": 2, "HUNTER2_X": 3})
    for found in (lint_json(values(A=hidden)), lint_per_key(values(A=hidden))):
        assert codes(found) == ["github-json-name"]
        assert "hunter2" not in found[0].text.lower() + found[0].subject.lower()


# --- CloudFormation, EKS, case


@pytest.mark.parametrize("key", ["a:b", ":", "ends in\\"])
def test_keys_that_no_dynamic_reference_of_cloudformation_can_name(key: str):
    found = [one for one in lint_json(values(**{key: PLAIN})) if one.code is LintCode.CLOUDFORMATION_KEY]
    assert only(tuple(found)).subject == key


@pytest.mark.parametrize("key", ["a\\b", "a.b", "a-b"])
def test_keys_that_cloudformation_can_name(key: str):
    assert "cloudformation-key" not in codes(lint_json(values(**{key: PLAIN})))


@pytest.mark.parametrize(
    ("key", "odd"), [("a-b", True), ("a.b", True), ("1a", True), ("ключ", True), ("A_1", False), ("_a", False)]
)
def test_keys_that_need_quotes_in_a_jmespath(key: str, odd: bool):
    assert codes(lint_json(values(**{key: PLAIN}))) == (["eks-jmespath"] if odd else [])


def test_names_that_are_one_file_in_a_pod():
    found = [one for one in lint_json(name="a/b", others=("a_b",)) if one.code is LintCode.EKS_FILE_NAME]
    assert only(tuple(found)).subject == "a/b, a_b (of another sync)"
    own = lint_per_key(values(**{"a/b": PLAIN, "a_b": PLAIN}))
    assert codes(own) == ["github-name", "eks-file-name"]


def test_a_file_name_differs_by_case():
    assert "eks-file-name" not in codes(lint_json(name="A/b", others=("a_b",)))


def test_keys_that_differ_in_case_only():
    found = lint_json(values(Url=PLAIN, URL=PLAIN, Other=PLAIN))
    assert codes(found) == ["github-json-name", "key-case"]
    assert {one.subject for one in found} == {"URL, Url"}


def test_what_matters_to_json_keys_does_not_matter_where_each_key_is_a_secret():
    assert lint_per_key(values(**{"a-b": PLAIN})) == ()


# --- key material

PEM = "-----BEGIN {}-----\nMIIB\n-----END {}-----\n"
RSA = PEM.format("RSA PRIVATE KEY", "RSA PRIVATE KEY")
OPENSSH = PEM.format("OPENSSH PRIVATE KEY", "OPENSSH PRIVATE KEY")
HEX_32 = "0f" * 32
BASE64_32 = base64.b64encode(bytes(range(200, 232))).decode()


@pytest.mark.parametrize(
    ("key", "text", "code"),
    [
        ("ANY", "AKIAIOSFODNN7EXAMPLE", "aws-credential"),
        ("ANY", "id=ASIAIOSFODNN7EXAMPLE;x", "aws-credential"),
        ("ANY", '{"nested": {"id": "AKIAIOSFODNN7EXAMPLE"}}', "aws-credential"),
        ("AWS_SECRET_ACCESS_KEY", PLAIN, "aws-credential"),
        ("PROD_AWS_SECRET_ACCESS_KEY", PLAIN, "aws-credential"),
        ("awsAccessKeyId", PLAIN, "aws-credential"),
        ("ANY", '{"aws_session_token": "x"}', "aws-credential"),
        ("ANY", OPENSSH, "ssh-key"),
        ("DEPLOY_SSH_KEY", RSA, "ssh-key"),
        ("id_rsa", RSA, "ssh-key"),
        ("ANY", "PuTTY-User-Key-File-3: ssh-ed25519\n", "ssh-key"),
        ("ANY", RSA, "certificate"),
        ("ANY", RSA.replace("\n", "\\n"), "certificate"),
        ("ANY", PEM.format("CERTIFICATE", "CERTIFICATE"), "certificate"),
        ("ANY", PEM.format("EC PRIVATE KEY", "EC PRIVATE KEY"), "certificate"),
        ("ANY", base64.b64encode(RSA.encode()).decode(), "certificate"),
        ("ANY", base64.b64encode(OPENSSH.encode()).decode(), "ssh-key"),
        ("ENCRYPTION_KEY", HEX_32, "encryption-key"),
        ("ENCRYPTION_KEY", BASE64_32, "encryption-key"),
        ("ENCRYPTION_KEY", BASE64_32.rstrip("="), "encryption-key"),
        ("fernetKey", base64.urlsafe_b64encode(bytes(range(230, 256)) + b"abcdef").decode(), "encryption-key"),
        ("AES_256_KEY", HEX_32, "encryption-key"),
        ("DB_MASTER_KEY", HEX_32, "encryption-key"),
    ],
)
def test_key_material_with_a_home_of_its_own_at_aws(key: str, text: str, code: str):
    for found in (lint_json(values(**{key: text})), lint_per_key(values(**{key: text}))):
        assert only(found).code == code
        assert only(found).text.startswith(key)
        assert "AWS advises" in only(found).text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("ANY", "AKIA"),
        ("ANY", "XAKIAIOSFODNN7EXAMPLEX"),
        ("ANY", HEX_32),
        ("ENCRYPTION_KEY", "arn:aws:kms:eu-west-1:111122223333:key/x"),
        ("ENCRYPTION_KEY", PLAIN),
        ("ENCRYPTION_KEY", ""),
        ("API_KEY", HEX_32),
        ("PUBLIC", PEM.format("PUBLIC KEY", "PUBLIC KEY")),
        ("ANY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"),
        ("METADATA_KEY_NAME", HEX_32),
        ("MONKEY_KEK_X", "short"),
    ],
)
def test_what_only_looks_a_little_like_key_material(key: str, text: str):
    assert lint_json(values(**{key: text})) == ()


def test_raw_bytes_under_the_name_of_an_encryption_key():
    assert codes(lint_json({"AES_KEY": SecretValue(bytes(32), ValueType.BINARY)})) == ["encryption-key"]
    assert lint_json({"AES_KEY": SecretValue(bytes(33), ValueType.BINARY)}) == ()


# --- all of them


def test_a_long_list_is_cut():
    found = only(lint_json(values(**{f"key-{number}": PLAIN for number in range(9)})))
    assert found.subject == "key-0, key-1, key-2, key-3, key-4 and 4 more"
    assert found.text.startswith(found.subject)


def test_a_long_key_is_cut():
    assert len(only(lint_json(values(**{"-" * 255: PLAIN}))).subject) == 80


def test_every_warning_says_what_to_do():
    found = [
        *lint_json(
            values(**{"a:b": PLAIN, "A:B": PLAIN, "c\\": RSA, "d": OPENSSH, "AES_KEY": HEX_32}), name="x!-abcdef"
        ),
        *lint_json(values(id="AKIAIOSFODNN7EXAMPLE"), name="a/b", others=("a_b", "a.b.id")),
    ]
    assert {one.code for one in found} == set(LintCode)
    for one in found:
        assert any(
            word in one.text for word in ("Choose", "Rename", "alias", "Set objectAlias", "AWS advises", "has to stand")
        ), one.code


KEYS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
MEMBERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(CANARY_VALUE),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=3),
    max_leaves=8,
)
SECRETS = st.dictionaries(
    KEYS,
    st.builds(SecretValue, st.text(max_size=30))
    | st.builds(lambda data: SecretValue(data, ValueType.BINARY), st.binary(max_size=40))
    | st.builds(lambda data: SecretValue(data), st.binary(max_size=40))
    | st.builds(lambda document: SecretValue(json.dumps(document), ValueType.JSON), MEMBERS),
    max_size=5,
)


@given(secrets=SECRETS, others=st.lists(st.text(max_size=10), max_size=3), name=st.text(min_size=1, max_size=12))
@example(secrets={"A": SecretValue('{"a":' * 100_000)}, others=[], name="n")
@example(secrets={"A": SecretValue('{"a":' * 900 + "1" + "}" * 900)}, others=[], name="n")
@example(secrets={"A": SecretValue("9" * 5_000), "B": SecretValue('{"n": ' + "9" * 5_000 + "}")}, others=[], name="n")
def test_it_never_raises_and_its_order_is_fixed(secrets: dict[str, SecretValue], others: list[str], name: str):
    for found in (
        lint_json(secrets, name=name, others=tuple(others)),
        lint_per_key(secrets, others=tuple(others)),
    ):
        positions = [list(LintCode).index(one.code) for one in found]
        assert positions == sorted(positions)


WRAPPED = st.sampled_from(
    [
        CANARY_VALUE,
        CANARY_SECRET_ACCESS_KEY,
        json.dumps({CANARY_VALUE: {CANARY_VALUE: 1}, f"{CANARY_VALUE}_{CANARY_VALUE}": "AKIAIOSFODNN7EXAMPLE"}),
        json.dumps({"a": CANARY_VALUE, "A": CANARY_VALUE}),
        f"-----BEGIN PRIVATE KEY-----\n{CANARY_VALUE}",
        f"AKIAIOSFODNN7EXAMPLE {CANARY_VALUE}",
    ]
)


@given(
    secrets=st.dictionaries(
        KEYS | st.sampled_from(["AWS_SECRET_ACCESS_KEY", "MASTER_KEY", "a", "A"]), WRAPPED, max_size=5
    )
)
def test_no_value_is_ever_in_a_warning(secrets: dict[str, str]):
    for found in (lint_json(values(**secrets)), lint_per_key(values(**secrets))):
        said = repr(found)
        assert_absent(said, [CANARY_VALUE, CANARY_SECRET_ACCESS_KEY], where="the warnings")
        assert "IOSFODNN7" not in said
