"""The policy for exactly what a sync does: what it allows, on what, and what it leaves out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.adapters.aws_secrets_manager.destination import SPEC
from phasesync.core.iam.sync_policy import SYNC_ACTIONS, grant_of, policy_of_grants
from phasesync.core.remote import JournalEntry
from phasesync.core.remote_names import render_name
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnRemove, Sync, SyncConfig, SyncStatus
from tests.support.aws import Aws
from tests.support.iam import allows, like

ACCOUNT = "111122223333"
INSTANCE = "0f3c5a7e-1b2d-4c6f-8a90-aabbccddeeff"
REGION = "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KEY_THERE = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/mrk-1234abcd12ab34cd56ef1234567890ab"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/production-Ab12Cd"
OURS = {"aws:ResourceTag/phasesync:instance": INSTANCE}
THEIRS = {"aws:ResourceTag/phasesync:instance": "another instance"}
AT = datetime(2030, 1, 1, tzinfo=UTC)

BARE: dict[str, Any] = {}
OPTIONS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "description": ({"description": "text"}, {"UpdateSecret"}),
    "key": ({"kms_key": KEY}, {"UpdateSecret"}),
    "AWS-managed key": ({"kms_key": AWS_MANAGED_KEY}, {"UpdateSecret"}),
    "deletion": ({"on_remove": OnRemove.DELETE}, {"DeleteSecret", "RemoveRegionsFromReplication"}),
    "copies": (
        {"replicas": {"us-east-1": AWS_MANAGED_KEY}},
        {"ReplicateSecretToRegions", "RemoveRegionsFromReplication"},
    ),
    "no copies": ({"replicas": {}}, {"RemoveRegionsFromReplication"}),
    "resource policy": (
        {"resource_policy": "{}"},
        {"GetResourcePolicy", "PutResourcePolicy", "ValidateResourcePolicy"},
    ),
}
"""What an operator may set -> the operations that it adds."""


def a_sync(*, path: str = "/", region: str = REGION, **config: Any) -> Sync:
    """A sync of shop/production."""
    return Sync(
        id="sync-1",
        name="web",
        environment_id="environment-1",
        app="shop",
        environment="production",
        path=path,
        credential_id="credential-1",
        credential="aws",
        destination_kind="aws-secrets-manager",
        region=region,
        version=1,
        config=replace(SyncConfig(remote_name="shop/production"), **config),
        account=ACCOUNT,
        adopt=None,
        approved_digest=None,
        paused=None,
        reads={},
        source_revision=1,
        applied_revision=None,
        settled_status=SyncStatus.PENDING,
        status_reason=None,
        failures=0,
        retry_at=None,
        next_due_at=None,
        requested=None,
        running=False,
        pending=True,
        last_run_id=None,
        created_at=AT,
    )


def policy(*syncs: Sync, account: str | None = ACCOUNT, **options: Any) -> dict[str, Any]:
    """The policy of some syncs of one credential."""
    grants = [grant_of(sync, SPEC.actions, account=account, **options) for sync in syncs]
    return policy_of_grants(grants, instance_id=INSTANCE)


def actions(document: dict[str, Any], service: str = "secretsmanager") -> set[str]:
    every = {action for statement in document["Statement"] for action in statement["Action"]}
    return {action.partition(":")[2] for action in every if action.startswith(f"{service}:")}


def resources(document: dict[str, Any], sid: str) -> list[str]:
    return [
        one for statement in document["Statement"] if statement["Sid"].startswith(sid) for one in statement["Resource"]
    ]


def may(document: dict[str, Any], operation: str, resource: str = SECRET, **context: str) -> bool:
    return allows(document, f"secretsmanager:{operation}", resource, context)


# --- actions


def test_a_bare_sync_creates_writes_marks_and_lists_and_nothing_else():
    assert actions(policy(a_sync())) == {
        "CreateSecret",
        "DescribeSecret",
        "ListSecrets",
        "PutSecretValue",
        "RestoreSecret",
        "TagResource",
        "UntagResource",
    }
    assert actions(policy(a_sync()), "kms") == set()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_adds_exactly_what_it_calls(option: str):
    config, more = OPTIONS[option]
    assert actions(policy(a_sync(**config))) - actions(policy(a_sync())) == more


def test_reading_is_allowed_to_who_asks_for_it():
    assert actions(policy(a_sync(), with_import=True)) - actions(policy(a_sync())) == {"GetSecretValue"}


def test_listing_can_be_left_out():
    assert actions(policy(a_sync())) - actions(policy(a_sync(), sweep=False)) == {"ListSecrets"}


def test_everything_set_is_the_main_job_and_all_options():
    everything = {name: value for config, _ in OPTIONS.values() for name, value in config.items()}
    assert actions(policy(a_sync(**everything))) >= {action.partition(":")[2] for action in SYNC_ACTIONS}


# --- names


def test_a_name_matches_itself_and_no_longer_name():
    document = policy(a_sync())
    assert may(document, "DescribeSecret")
    assert not may(document, "DescribeSecret", SECRET.replace("production-", "production-internal-"))
    assert not may(document, "DescribeSecret", SECRET.replace("shop/", "other/"))
    assert not may(document, "DescribeSecret", SECRET.replace(REGION, "us-east-1"))
    assert not may(document, "DescribeSecret", SECRET.replace(ACCOUNT, "999999999999"))


@pytest.mark.parametrize(
    ("template", "path", "pattern"),
    [
        ("{app}/{env}/{key}", "/", "shop/production/*"),
        ("{path}/{key}", "/db/replica", "db/replica/*"),
        ("{app}/{path}/{key}", "/", "shop/*"),
        ("{key}.{env}", "/", "*.production"),
    ],
)
def test_a_template_is_filled_in_up_to_the_key(template: str, path: str, pattern: str):
    sync = a_sync(path=path, layout=Layout.PER_KEY, remote_name=None, name_template=template)
    expected = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{pattern}"
    assert resources(policy(sync), "LookAtAndMark") == [expected, f"{expected}-??????"]
    assert resources(policy(sync), "ChangeWhereOurTagIs") == [f"{expected}-??????"]


def test_an_account_that_is_not_known_yet_is_any_account():
    assert resources(policy(a_sync(), account=None), "Change") == [
        f"arn:aws:secretsmanager:{REGION}:*:secret:shop/production-??????"
    ]


BEFORE_IT_EXISTS = SECRET.removesuffix("-Ab12Cd")


def test_a_secret_that_does_not_exist_yet_has_no_six_characters():
    document = policy(a_sync(**EVERYTHING), with_import=True)
    assert may(document, "DescribeSecret", BEFORE_IT_EXISTS)
    assert may(document, "TagResource", BEFORE_IT_EXISTS)
    assert may(document, "CreateSecret", BEFORE_IT_EXISTS, **{"aws:RequestTag/phasesync:instance": INSTANCE})
    assert not may(document, "CreateSecret", BEFORE_IT_EXISTS)
    for statement in document["Statement"]:
        of_names = statement["Sid"] in {"LookAtAndMark", "CreateWithOurTag"}
        assert (BEFORE_IT_EXISTS in statement["Resource"]) is of_names, statement["Sid"]
        if any(one.startswith("arn:aws:secretsmanager") for one in statement["Resource"]):
            assert f"{BEFORE_IT_EXISTS}-??????" in statement["Resource"], statement["Sid"]


@pytest.mark.parametrize("name", ["shop/production-abc123", "production-ABCDEF", "a-000000"])
def test_a_name_that_ends_like_an_arn_is_not_the_secret_whose_arn_it_would_be(name: str):
    document = policy(a_sync(remote_name=name))
    every = {one for statement in document["Statement"] for one in statement["Resource"]} - {"*"}
    assert every == {f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-??????"}
    assert not may(document, "UntagResource", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}")


@pytest.mark.parametrize(
    ("template", "theirs"),
    [
        ("shop-{key}", "shop-Ab12Cd"),
        ("shop-Ab{key}", "shop-Ab12Cd"),
        ("{key}b1", "jobs-AAAAb1"),
        ("{key}-Ab12Cd", "jobs-Ab12Cd"),
        ("{key}x{key}", "axb-AAxBBB"),
    ],
)
def test_a_template_that_ends_like_an_arn_is_not_the_secret_whose_arn_it_would_be(template: str, theirs: str):
    document = policy(a_sync(layout=Layout.PER_KEY, remote_name=None, name_template=template))
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{theirs}"
    ours = like(template.replace("{key}", "*"), theirs[:-7])
    assert may(document, "UntagResource", arn) is ours
    assert len(resources(document, "LookAtAndMark")) == 1


PIECES = st.sampled_from(["{key}", "a", "-", "/", "_", "b1", "c23d", "e4f5g6", "x.y"])
NAMES = st.text("ab1-/_", min_size=1, max_size=12)


@given(
    template=st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda template: "{key}" in template),
    name=NAMES,
    key=NAMES,
    suffix=st.text("aB1", min_size=6, max_size=6),
    append=st.booleans(),
)
def test_no_template_matches_a_secret_whose_name_it_does_not_make(
    template: str, name: str, key: str, suffix: str, append: bool
):
    """Whatever someone else's ARN ends in; names that look like it are tried above all."""
    whole = render_name(template, app="", environment="", path="", key=key)
    name = name if append else whole[:-7] or name
    document = policy(a_sync(layout=Layout.PER_KEY, remote_name=None, name_template=template))
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-{suffix}"
    assert may(document, "UntagResource", arn) is like(template.replace("{key}", "*"), name)


def entry(name: str, *, account: str = ACCOUNT, region: str = REGION, version: str | None = "v1") -> JournalEntry:
    return JournalEntry(
        id="1", sync_id="sync-1", remote_name=name, account=account, region=region, arn="arn", version_id=version
    )


def test_what_was_written_under_a_former_name_is_still_its_own_to_give_back_or_delete():
    journal = (
        entry("shop/former"),
        entry("shop/production"),
        entry("shop/elsewhere", region="us-east-1"),
        entry("shop/of-another-account", account="999999999999"),
        entry("shop/never-written", version=None),
    )
    document = policy(a_sync(on_remove=OnRemove.DELETE), journal=journal)
    here, there = (
        SECRET.replace("production", "former"),
        SECRET.replace(REGION, "us-east-1").replace("production", "elsewhere"),
    )
    for secret in (here, there):
        assert may(document, "DescribeSecret", secret)
        assert may(document, "UntagResource", secret)
        assert not may(document, "PutSecretValue", secret, **OURS)
    assert may(document, "DeleteSecret", here, **OURS)
    assert not may(document, "DeleteSecret", there, **OURS)
    assert not may(policy(a_sync(), journal=journal), "DeleteSecret", here, **OURS)
    for name in ("of-another-account", "never-written"):
        assert not may(document, "DescribeSecret", SECRET.replace("production", name))


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_every_partition_gets_its_own_names(region: str, partition: str):
    key = KEY.replace("arn:aws:", f"arn:{partition}:").replace(REGION, region)
    document = policy(a_sync(region=region, kms_key=key))
    text = json.dumps(document)
    assert "arn:aws:" not in text
    assert f"secretsmanager.{region}.amazonaws.com" + (".cn" if partition == "aws-cn" else "") in text


# --- our tag


CHANGES = (
    "PutSecretValue",
    "UpdateSecret",
    "RestoreSecret",
    "DeleteSecret",
    "ReplicateSecretToRegions",
    "RemoveRegionsFromReplication",
    "PutResourcePolicy",
)
EVERYTHING = {name: value for config, _ in OPTIONS.values() for name, value in config.items() if value != {}} | {
    "kms_key": KEY,
    "replicas": {"us-east-1": KEY_THERE},
}


@pytest.mark.parametrize("operation", CHANGES)
def test_only_what_carries_our_tag_may_be_changed(operation: str):
    document = policy(a_sync(**EVERYTHING))
    assert may(document, operation, **OURS)
    assert not may(document, operation, **THEIRS)
    assert not may(document, operation)


def test_only_what_gets_our_tag_may_be_created():
    document = policy(a_sync())
    assert may(document, "CreateSecret", **{"aws:RequestTag/phasesync:instance": INSTANCE})
    assert not may(document, "CreateSecret", **{"aws:RequestTag/phasesync:instance": "another"})
    assert not may(document, "CreateSecret")


@pytest.mark.parametrize("operation", ["DescribeSecret", "TagResource", "UntagResource"])
def test_looking_adopting_and_giving_back_ask_for_no_tag(operation: str):
    """A secret to adopt has no tag of ours; AWS refuses an untag that takes away the right to untag."""
    assert may(policy(a_sync()), operation)
    assert not may(policy(a_sync()), operation, SECRET.replace("shop/", "other/"))


# --- keys


def kms(document: dict[str, Any], action: str, key: str, *, region: str = REGION, secret: str = SECRET) -> bool:
    context = {
        "kms:ViaService": f"secretsmanager.{region}.amazonaws.com",
        "kms:EncryptionContext:SecretARN": secret,
    }
    return allows(document, f"kms:{action}", key, context)


@pytest.mark.parametrize("action", ["GenerateDataKey", "Decrypt", "Encrypt"])
def test_a_key_may_be_used_through_secrets_manager_for_these_secrets_alone(action: str):
    document = policy(a_sync(kms_key=KEY))
    assert kms(document, action, KEY)
    assert not kms(document, action, KEY, region="us-east-1")
    assert not kms(document, action, KEY, secret=SECRET.replace("shop/", "other/"))
    assert not allows(document, f"kms:{action}", KEY, {"kms:EncryptionContext:SecretARN": SECRET})
    assert not kms(document, action, KEY.replace("1234abcd", "ffffffff"))


def test_the_key_of_a_copy_may_be_used_in_its_region():
    document = policy(a_sync(replicas={"us-east-1": KEY_THERE, "us-west-2": AWS_MANAGED_KEY}))
    copy = SECRET.replace(REGION, "us-east-1")
    for secret in (SECRET, copy):
        assert kms(document, "GenerateDataKey", KEY_THERE, region="us-east-1", secret=secret)
        assert kms(document, "Encrypt", KEY_THERE, region="us-east-1", secret=secret)
    assert not kms(document, "Encrypt", KEY_THERE, region="us-west-2")
    assert not kms(document, "Encrypt", KEY_THERE, region=REGION)


def test_asking_kms_what_a_key_is_goes_through_nobody():
    document = policy(a_sync(kms_key=KEY, replicas={"us-east-1": KEY_THERE}))
    for key in (KEY, KEY_THERE):
        assert allows(document, "kms:DescribeKey", key, {})


@pytest.mark.parametrize("config", [BARE, {"kms_key": AWS_MANAGED_KEY}, {"replicas": {"us-east-1": AWS_MANAGED_KEY}}])
def test_without_a_key_of_the_customer_there_is_no_right_on_keys(config: dict[str, Any]):
    assert actions(policy(a_sync(**config)), "kms") == set()


def test_a_key_that_the_sync_leaves_alone_can_be_named():
    assert kms(policy(a_sync(), kms_key=KEY), "GenerateDataKey", KEY)


# --- the document


def test_the_sweep_says_that_it_is_optional_and_stays_in_its_regions():
    (sweep,) = (one for one in policy(a_sync())["Statement"] if "secretsmanager:ListSecrets" in one["Action"])
    assert sweep["Sid"].startswith("Optional")
    assert sweep["Resource"] == ["*"]
    assert sweep["Condition"] == {"StringEquals": {"aws:RequestedRegion": [REGION]}}


def test_syncs_are_merged_by_what_they_need():
    one, other = a_sync(), a_sync(remote_name="shop/staging")
    document = policy(one, other)
    assert len(document["Statement"]) == len(policy(one)["Statement"])
    for name in ("production", "staging"):
        assert may(document, "PutSecretValue", SECRET.replace("production", name), **OURS)


def test_what_one_sync_may_another_may_not():
    document = policy(a_sync(), a_sync(remote_name="shop/staging", on_remove=OnRemove.DELETE))
    assert may(document, "DeleteSecret", SECRET.replace("production", "staging"), **OURS)
    assert not may(document, "DeleteSecret", SECRET, **OURS)


def test_a_key_of_two_syncs_may_be_used_for_both():
    document = policy(a_sync(kms_key=KEY), a_sync(remote_name="shop/staging", kms_key=KEY), a_sync(remote_name="x"))
    assert kms(document, "Decrypt", KEY, secret=SECRET)
    assert kms(document, "Decrypt", KEY, secret=SECRET.replace("production", "staging"))
    assert not kms(document, "Decrypt", KEY, secret=SECRET.replace("shop/production", "x"))


def test_nothing_is_denied_and_the_statements_have_names_of_their_own():
    document = policy(a_sync(**EVERYTHING), a_sync(remote_name="b"), with_import=True)
    assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)
    for statement in document["Statement"]:
        if statement["Sid"] != "OptionalSweepByListing":
            assert "*" not in statement["Resource"]


def test_iam_takes_the_document(aws: Aws):
    document = policy(a_sync(**EVERYTHING), a_sync(remote_name="b"), with_import=True)
    made = aws.boto("iam").create_policy(PolicyName="phasesync", PolicyDocument=json.dumps(document))
    assert made["Policy"]["PolicyName"] == "phasesync"


def test_the_same_configuration_gives_the_same_document():
    syncs = [a_sync(**EVERYTHING), a_sync(remote_name="b"), a_sync(remote_name="c", kms_key=KEY)]
    assert policy(*syncs) == policy(*reversed(syncs))


# --- copies in other accounts

COPY_KEY = f"arn:aws:kms:{REGION}:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab"
COPY = f"arn:aws:secretsmanager:{REGION}:222222222222:secret:anything-Ab12Cd"


def may_encrypt(document: dict[str, Any], action: str = "kms:Encrypt", *, key: str = COPY_KEY, **changes: str) -> bool:
    context = {
        "kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com",
        "kms:EncryptionContext:SecretARN": COPY,
        **{name.replace("__", ":"): value for name, value in changes.items()},
    }
    return allows(document, action, key, context)


def test_whoever_writes_a_primary_may_encrypt_its_copy_in_the_other_account():
    """And nothing else there: not decrypt, not outside of Secrets Manager, not secrets of a third account."""
    document = policy(a_sync(kms_key=KEY), copy_keys=[COPY_KEY])
    assert may_encrypt(document)
    assert not may_encrypt(policy(a_sync(kms_key=KEY)))
    for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"):
        assert not may_encrypt(document, action)
    assert not may_encrypt(document, kms__ViaService="s3.eu-west-1.amazonaws.com")
    assert not may_encrypt(document, kms__EncryptionContext__SecretARN=COPY.replace("222222222222", "333333333333"))
    assert not may_encrypt(document, key=COPY_KEY.replace("222222222222", "333333333333"))
    assert may_encrypt(document, kms__EncryptionContext__SecretARN=SECRET)
    assert not may_encrypt(document, kms__EncryptionContext__SecretARN=SECRET.replace("shop/production", "another"))
    # Of the primary's own key the writer has what it has without copies, kms:Decrypt too.
    assert may_encrypt(document, "kms:Decrypt", key=KEY, kms__EncryptionContext__SecretARN=SECRET)


def test_a_key_of_a_copy_counts_for_syncs_of_its_region_alone():
    syncs = [a_sync(), a_sync(region="eu-central-1")]
    sids = [one["Sid"] for one in policy(*syncs, copy_keys=[COPY_KEY])["Statement"]]
    assert [sid for sid in sids if sid.startswith("EncryptCopies")] == ["EncryptCopiesInOtherAccounts"]
