"""What objects at AWS tell of a lost installation: layout, app, environment and folder, by names and values."""

import json
from dataclasses import replace

import pytest

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.rebuild import FoundObject, RebuildPlan, Said, plan_rebuild
from phasesync.core.sync import Layout, SyncConfig
from tests.support.digests import FixedDigests

INSTANCE, DIGESTS = "1" * 32, FixedDigests()


def found(name: str, value: str = "text", *, sync: str = "a", region: str = "eu-west-1") -> FoundObject:
    """An object of a sync."""
    return FoundObject(
        sync_id=sync,
        remote_name=name,
        account="111122223333",
        region=region,
        arn=f"arn:aws:secretsmanager:{region}:111122223333:secret:{name}-AbCdEf",
        version_id="v" * 36,
        value=SecretValue(value),
    )


def plan(*objects: FoundObject, **said: Said) -> RebuildPlan:
    return plan_rebuild(INSTANCE, objects, said, DIGESTS)


@pytest.mark.parametrize(
    ("objects", "shape"),
    [
        ([("shop/production", '{"URL":"db"}')], ("shop", "production", "/", Layout.JSON, "shop/production")),
        ([("shop/production", "{}")], ("shop", "production", "/", Layout.JSON, "shop/production")),
        ([("shop/production/URL", "db")], ("shop", "production", "/", Layout.PER_KEY, "{app}/{env}/{key}")),
        (
            [("shop/production/URL", "db"), ("shop/production/KEY", '{"a":"b"}')],
            ("shop", "production", "/", Layout.PER_KEY, "{app}/{env}/{key}"),
        ),
        (
            [("shop/production/db/x/URL", "db"), ("shop/production/db/x/USER", "me")],
            ("shop", "production", "/db/x", Layout.PER_KEY, "{app}/{env}/{path}/{key}"),
        ),
    ],
)
def test_names_of_the_usual_form_tell_everything(objects, shape) -> None:
    planned = plan(*(found(*item) for item in objects))

    assert planned.problems == {}
    (sync,) = planned.syncs
    assert (sync.app, sync.environment, sync.path, sync.config.layout, sync.config.names) == shape
    assert (sync.left_behind, sync.writes) == ((), ())


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([("legacy", '{"URL":"db"}')], "its names do not tell the app and the environment"),
        ([("legacy", "text")], "do not tell whether one object has all keys"),
        ([("shop/production/db", '{"URL":"db"}')], "do not tell whether one object has all keys"),
        ([("shop/production/A", "1"), ("other/production/B", "2")], "do not tell whether one object has all keys"),
        ([("sh op/production", '{"URL":"db"}')], "its names do not tell the app and the environment"),
    ],
)
def test_what_is_not_clear_is_a_problem_and_no_guess(objects, reason) -> None:
    planned = plan(*(found(*item) for item in objects))

    assert planned.syncs == ()
    assert reason in planned.problems["a"]


def test_what_is_said_counts_more_than_names() -> None:
    said = Said(app="shop", environment="production", path="/db", layout=Layout.PER_KEY, names="legacy-{key}-x")

    (sync,) = plan(found("legacy-URL-x"), found("legacy-USER-x"), found("elsewhere"), a=said).syncs

    assert [item.remote_name for item in sync.objects] == ["legacy-URL-x", "legacy-USER-x"]
    assert sync.left_behind == ("elsewhere",)


def test_a_name_template_may_begin_with_the_key() -> None:
    said = Said(app="shop", environment="production", layout=Layout.PER_KEY, names="{key}.shop")

    planned = plan(found("URL.shop"), found("USER.shop"), a=said)

    assert list(planned.folders["shop", "production", "/"]) == ["URL", "USER"]


def test_one_environment_in_two_regions() -> None:
    """Two syncs of one folder, with names of their own."""
    planned = plan(
        found("shop/production", '{"URL":"db"}'),
        found("shop/production", '{"URL":"db"}', sync="b", region="us-east-1"),
    )

    assert [(sync.name, sync.region) for sync in planned.syncs] == [
        ("shop-production", "eu-west-1"),
        ("shop-production-us-east-1", "us-east-1"),
    ]
    assert planned.environments == [("shop", "production")]


def test_syncs_that_disagree_are_a_problem() -> None:
    """One value cannot be both; no value is in the message."""
    planned = plan(
        found("shop/production", '{"URL":"hidden-1"}'),
        found("shop/production", '{"URL":"hidden-2"}', sync="b", region="us-east-1"),
    )

    (reason,) = planned.problems.values()
    assert "other values of 1 key" in reason
    assert "hidden" not in reason


def test_what_another_sync_has_more_is_written_by_the_first_run_and_said() -> None:
    planned = plan(
        found("shop/production", '{"URL":"db","USER":"me"}'),
        found("shop/production", '{"URL":"db"}', sync="b", region="us-east-1"),
    )

    assert [sync.writes for sync in planned.syncs] == [(), ("shop/production",)]


def test_a_value_that_we_would_write_otherwise_is_said() -> None:
    """Somebody wrote it by hand, with spaces."""
    (sync,) = plan(found("shop/production", '{ "URL": "db" }')).syncs

    assert sync.writes == ("shop/production",)


@pytest.mark.parametrize("text", ["5 ${US}", "$${X}", "ü", "line\nline", "", '{"a": 1}'])
def test_values_of_one_object_come_back_as_they_are(text: str) -> None:

    (sync,) = plan(found("shop/production", json.dumps({"KEY": text}, ensure_ascii=False, separators=(",", ":")))).syncs

    assert sync.writes == ()


def test_binary_and_a_key_of_kms_come_back() -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/k"
    binary = replace(found("shop/production/BLOB"), value=SecretValue(b"\x00\xff", ValueType.BINARY), kms_key=key)

    planned = plan(binary)

    assert planned.folders["shop", "production", "/"]["BLOB"] == binary.value
    assert planned.syncs[0].config.kms_key == key
    assert planned.syncs[0].writes == ()


def test_objects_of_one_sync_in_two_regions_are_a_problem() -> None:
    """The sync was moved: only one of them is where it writes."""
    planned = plan(found("shop/production/A"), found("shop/production/A", region="us-east-1"))

    assert "its objects are in several places" in planned.problems["a"]


def test_the_digest_is_of_what_is_made() -> None:
    """Another version, another name: another plan. The same objects: the same."""
    one = found("shop/production", '{"URL":"db"}')
    digests = [
        plan(one).digest,
        plan(replace(one, version_id="w" * 36)).digest,
        plan(one, a=Said(name="web")).digest,
        plan(one, a=Said(config=SyncConfig(remote_name="shop/production"), app="shop", environment="p")).digest,
    ]

    assert len(set(digests)) == len(digests)
    assert plan(one).digest == digests[0]
