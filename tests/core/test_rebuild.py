"""What objects at AWS tell of a lost installation: layout, app, environment and folder, by names and values."""

import json
from dataclasses import replace

import pytest

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.rebuild import FoundObject, RebuildPlan, RebuiltSync, Said, plan_rebuild
from phasesync.core.sync import Layout, SyncConfig
from phasesync.errors import InvalidInputError
from tests.support.digests import FixedDigests

INSTANCE, DIGESTS = "1" * 32, FixedDigests()


A, B, C = "a" * 32, "b" * 32, "c" * 32


def found(name: str, value: str = "text", *, sync: str = A, region: str = "eu-west-1") -> FoundObject:
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
    """The plan; `a` and `b` are what is said of these syncs."""
    known = {letter * 32: one for letter, one in said.items()}
    return plan_rebuild(INSTANCE, objects, known, DIGESTS, check=lambda sync: sync.config)


def problem(planned: RebuildPlan) -> str:
    """The only problem, as a line for the operator."""
    (one,) = planned.problems
    return f"{one.subject}: {one.reason}; {one.hint}"


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

    assert planned.problems == ()
    (sync,) = planned.syncs
    assert (sync.app, sync.environment, sync.path, sync.config.layout, sync.config.names) == shape
    assert (sync.left_behind, sync.writes) == ((), ())


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([("legacy", '{"URL":"db"}')], "its names do not tell the app and the environment"),
        ([("legacy", "text")], "its value cannot be one of layout json: the value is not valid JSON at line 1"),
        ([("shop/production/db", '{"URL":"db"}')], "its name and its value fit both layouts"),
        ([("shop/production/A", "1"), ("other/production/B", "2")], "not all of their names have the form APP/ENV/KEY"),
        ([("sh op/production", '{"URL":"db"}')], "its names do not tell the app and the environment"),
        ([("shop/production", "text")], "its value cannot be one of layout json: the value is not valid JSON"),
        ([("shop/production", '["a"]')], "the value is JSON, but not an object with keys"),
        ([("shop/production", '{"A":"1","A":"2"}')], "an object has the same key twice"),
        ([("shop/production", '{"A":NaN}')], "NaN and Infinity are not numbers there"),
        ([("shop/production", '{"A":"\\ud800"}')], "an escaped character has no UTF-8 form"),
        ([("shop/production", '{"":"1"}')], "a secret key has 1 to 255 characters, this one has 0"),
        ([("shop/production", '{"A\\u200b":"1"}')], "is not a valid secret key"),
        ([("shop/production/.d/KEY", "1")], "'/.d' is not a valid path"),
    ],
)
def test_what_is_not_clear_is_a_problem_and_no_guess(objects, reason) -> None:
    planned = plan(*(found(*item) for item in objects))

    assert planned.syncs == ()
    assert reason in problem(planned)
    assert all(f"{item[0]} in eu-west-1" in problem(planned) for item in objects)


def test_what_is_said_counts_more_than_names() -> None:
    said = Said(app="shop", environment="production", path="/db", layout=Layout.PER_KEY, names="legacy-{key}-x")

    (sync,) = plan(found("legacy-URL-x"), found("legacy-USER-x"), found("elsewhere"), a=said).syncs

    assert [item.remote_name for item in sync.objects] == ["legacy-URL-x", "legacy-USER-x"]
    assert [item.remote_name for item in sync.left_behind] == ["elsewhere"]


def test_a_name_template_may_begin_with_the_key() -> None:
    said = Said(app="shop", environment="production", layout=Layout.PER_KEY, names="{key}.shop")

    planned = plan(found("URL.shop"), found("USER.shop"), a=said)

    assert list(planned.folders["shop", "production", "/"]) == ["URL", "USER"]


def test_one_environment_in_two_regions() -> None:
    """Two syncs of one folder, with names of their own."""
    planned = plan(
        found("shop/production", '{"URL":"db"}'),
        found("shop/production", '{"URL":"db"}', sync=B, region="us-east-1"),
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
        found("shop/production", '{"URL":"hidden-2"}', sync=B, region="us-east-1"),
    )

    told = problem(planned)
    assert f"the sync {B} (shop/production in us-east-1)" in told
    assert f"the sync {A} (shop/production in eu-west-1) has other values of 1 key" in told
    assert "hidden" not in told


def test_what_another_sync_has_more_is_written_by_the_first_run_and_said() -> None:
    planned = plan(
        found("shop/production", '{"URL":"db","USER":"me"}'),
        found("shop/production", '{"URL":"db"}', sync=B, region="us-east-1"),
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

    assert "it has AWS secrets in several Regions: eu-west-1, us-east-1" in problem(planned)


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


def test_a_binary_value_cannot_be_that_of_a_whole_environment() -> None:
    one = replace(found("shop/production"), value=SecretValue(b"\x00\xff", ValueType.BINARY))

    assert "the value is binary, and not JSON" in problem(plan(one))


@pytest.mark.parametrize("sync", ["", "e" * 256, "A" * 32, "a" * 31])
def test_a_tag_that_no_sync_has_is_a_problem_that_names_the_aws_secret(sync: str) -> None:
    """Somebody altered it: no database could store the id, or no command would find it."""
    told = problem(plan(found("shop/production", "{}", sync=sync)))

    assert "(shop/production in eu-west-1): its tag phasesync:sync was altered" in told
    assert 'under "skip"' in told
    assert len(told) < 300


def test_a_problem_of_many_aws_secrets_names_the_first() -> None:
    told = problem(plan(*(found(f"legacy-{number}") for number in range(9))))

    assert "legacy-0 in eu-west-1, legacy-1 in eu-west-1, legacy-2 in eu-west-1 and 6 more" in told


# --- one value in both layouts


@pytest.mark.parametrize(
    ("member", "text", "type_"),
    [
        ("12", "12", ValueType.JSON),
        ("1.10", "1.10", ValueType.JSON),
        ("true", "true", ValueType.JSON),
        ("null", "null", ValueType.JSON),
        ('{"a":["${b}"]}', '{"a":["${b}"]}', ValueType.JSON),
        ('{"${a}":1}', '{"${a}":1}', ValueType.JSON),
        ('"text"', '"text"', ValueType.JSON),
        ('"text"', "text", ValueType.TEXT),
        ('"12"', "12", ValueType.TEXT),
        ('"5 ${US}"', "5 ${US}", ValueType.TEXT),
    ],
)
@pytest.mark.parametrize("json_first", [True, False])
def test_one_value_in_both_layouts_is_one_value(member: str, text: str, type_: ValueType, json_first: bool) -> None:
    """The two together tell the type, which no layout shows alone; neither sync writes anything."""
    ids = (A, B) if json_first else (B, A)
    planned = plan(
        found("shop/production", f'{{"KEY":{member}}}', sync=ids[0]),
        found("shop/production/KEY", text, sync=ids[1]),
        **{ids[1][0]: Said(layout=Layout.PER_KEY)},
    )

    assert planned.problems == ()
    assert planned.folders["shop", "production", "/"]["KEY"].type is type_
    assert [sync.writes for sync in planned.syncs] == [(), ()]


def test_one_binary_value_in_both_layouts_is_binary() -> None:
    """In layout json it is base64 text."""
    data = SecretValue(b"\x00\xff", ValueType.BINARY)
    planned = plan(
        found("shop/production", '{"KEY":"AP8="}'), replace(found("shop/production/KEY", sync=B), value=data)
    )

    assert planned.problems == ()
    assert planned.folders["shop", "production", "/"]["KEY"] == data
    assert [sync.writes for sync in planned.syncs] == [(), ()]


@pytest.mark.parametrize(
    ("member", "text"),
    [("12", "13"), ('"12"', '"12" '), ('"\\"text\\""', "text"), ('{"a":1}', '{"a": 1}'), ('"AP8="', "\0")],
)
def test_values_that_no_one_value_gives_are_told_with_the_keys(member: str, text: str) -> None:
    planned = plan(
        found("shop/production", f'{{"KEY":{member},"SAME":"1"}}'),
        found("shop/production/KEY", text, sync=B),
        found("shop/production/SAME", "1", sync=B),
    )

    assert "has other values of 1 key of shop/production /: KEY;" in problem(planned)


def test_three_syncs_of_one_folder_have_to_agree_on_one_value() -> None:
    """Two of them do in pairs, by different values."""
    planned = plan(
        found("shop/production", '{"KEY":"text"}'),
        found("shop/production/KEY", '"text"', sync=B),
        found("shop/production/KEY", "text", sync=C, region="us-east-1"),
    )

    assert [one.sync_id for one in planned.problems] == [C]


# --- what the store would refuse


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("Shop/production", "shop/production"), "writes to the same names, or they differ in case only"),
        (("Shop/production", "shop/other"), "its app shop is Shop in the sync"),
        (("shop/Production", "shop/production/db-1/KEY"), "its environment production is Production in the sync"),
    ],
)
def test_names_that_differ_in_case_only_are_a_problem(names: tuple[str, str], reason: str) -> None:
    """They are one name in the store."""
    planned = plan(
        found(names[0], '{"URL":"db"}'), found(names[1], '{"URL":"db"}' if names[1][-3:] != "KEY" else "1", sync=B)
    )

    assert reason in problem(planned)
    assert f"the sync {A} ({names[0]} in eu-west-1)" in problem(planned)
    assert f"the sync {B} ({names[1]} in eu-west-1)" in problem(planned)


def test_one_spelling_that_is_said_for_both_solves_it() -> None:
    """The names stay as they are at AWS."""
    planned = plan(
        found("Shop/production", '{"URL":"db"}'),
        found("shop/jobs/KEY", "1", sync=B),
        b=Said(app="Shop", environment="jobs"),
    )

    assert planned.problems == ()
    assert [sync.config.names for sync in planned.syncs] == ["shop/jobs/{key}", "Shop/production"]
    assert [sync.writes for sync in planned.syncs] == [(), ()]


def test_two_syncs_of_one_template_are_a_problem() -> None:
    """One was removed, and its AWS secrets stayed."""
    told = problem(plan(found("shop/production/A"), found("shop/production/B", sync=B)))

    assert f"the sync {A} (shop/production/A in eu-west-1) writes to the same names" in told
    assert 'under "skip"' in told


def test_a_name_that_is_said_is_not_given_to_another_sync() -> None:
    planned = plan(
        found("shop/production", '{"URL":"db"}'),
        found("web", '{"URL":"db"}', sync=B),
        b=Said(app="x", environment="y", name="Shop-Production"),
    )

    assert [sync.name for sync in planned.syncs] == ["Shop-Production", "shop-production-eu-west-1"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said(name="a name"), "'a name' is not a valid sync name"),
        (Said(name="n" * 65), "is not a valid sync name"),
        (Said(app="a" * 65, environment="p"), "is not a valid app name"),
        (Said(app="shop", environment="p.q"), "'p.q' is not a valid environment name"),
        (Said(path="/a b"), "'/a b' is not a valid path"),
        (Said(path="/" + "/".join(["f" * 60] * 5)), "is not a valid path"),
        (Said(layout=Layout.PER_KEY, names="{kee}"), "has a placeholder that does not exist"),
        (Said(layout=Layout.PER_KEY, names="shop"), "has no {key}"),
        (Said(region="us-east-1"), "none of its AWS secrets is in us-east-1"),
        (
            Said(app="a", environment="b", layout=Layout.PER_KEY, names="jobs-{key}"),
            "none of its AWS secrets has a name that jobs-{key} gives",
        ),
    ],
)
def test_what_is_said_has_to_be_what_the_store_takes(said: Said, reason: str) -> None:
    told = problem(plan(found("shop/production", '{"URL":"db"}'), a=said))

    assert reason in told
    assert "--mapping" in told


def test_two_syncs_of_one_name_that_is_said_are_a_problem() -> None:
    said = Said(name="web"), Said(name="Web")
    planned = plan(found("shop/a", "{}"), found("shop/b", "{}", sync=B), a=said[0], b=said[1])

    assert f"the sync {A} (shop/a in eu-west-1) has the name web too" in problem(planned)


def test_paths_that_are_written_otherwise_are_one_folder() -> None:
    """Both syncs have a say in its values."""
    planned = plan(
        found("legacy-a", '{"URL":"1"}'),
        found("legacy-b", '{"URL":"2"}', sync=B),
        a=Said(app="shop", environment="p", path="db/"),
        b=Said(app="shop", environment="p", path="/db"),
    )

    assert "has other values of 1 key of shop/p /db: URL" in problem(planned)


def test_settings_that_no_sync_may_have_are_a_problem() -> None:
    def check(sync: RebuiltSync) -> SyncConfig:
        raise InvalidInputError("the interval is shorter than a second", hint="--interval 5m")

    planned = plan_rebuild(INSTANCE, [found("shop/production", "{}")], {}, DIGESTS, check=check)

    assert "the interval is shorter than a second; leave --former-database out" in problem(planned)
    assert "--interval" not in problem(planned)


def test_a_sync_that_was_moved_is_where_it_is_said_to_be() -> None:
    """What it left in the other Region stays there."""
    planned = plan(
        found("shop/production/A"), found("shop/production/A", region="us-east-1"), a=Said(region="us-east-1")
    )

    (sync,) = planned.syncs
    assert (sync.region, [item.region for item in sync.objects]) == ("us-east-1", ["us-east-1"])
    assert [(item.remote_name, item.region) for item in sync.left_behind] == [("shop/production/A", "eu-west-1")]


# --- what the first run cannot do, which is no reason to rebuild nothing


def test_what_aws_does_not_take_is_told_and_rebuilt() -> None:
    """An empty value of layout json is none in layout per-key: so it was before."""
    planned = plan(found("shop/production", '{"EMPTY":"","KEY":"1"}'), found("shop/production/KEY", "1", sync=B))

    assert planned.problems == ()
    (unwritable,) = [sync.unwritable for sync in planned.syncs if sync.config.layout is Layout.PER_KEY]
    assert list(unwritable) == ["shop/production/EMPTY"]
    assert "AWS does not take an empty value" in unwritable["shop/production/EMPTY"]


def test_what_becomes_too_large_is_told() -> None:
    """Two syncs of one folder with large values that only one of them has."""
    large = "x" * 40_000
    planned = plan(
        found("shop/production", f'{{"A":"{large}"}}'),
        found("shop/production", f'{{"B":"{large}"}}', sync=B, region="us-east-1"),
    )

    assert planned.problems == ()
    assert [list(sync.unwritable) for sync in planned.syncs] == [["shop/production"], ["shop/production"]]


def test_a_name_of_another_sync_is_told() -> None:
    planned = plan(
        found("shop/production", '{"KEY":"1","MORE":"2"}'),
        found("shop/production/KEY", "1", sync=B),
        found("shop/production/MORE", '{"X":"1"}', sync=C),
        c=Said(app="other", environment="p", layout=Layout.JSON, name="other"),
    )

    assert planned.problems == ()
    (unwritable,) = [sync.unwritable for sync in planned.syncs if sync.id == B]
    assert unwritable == {"shop/production/MORE": "it belongs to the sync other"}


def test_a_key_of_kms_that_is_an_alias_is_left_alone() -> None:
    """Only the ARN of a key can be a setting of a sync."""
    one = replace(found("shop/production", "{}"), kms_key="arn:aws:kms:eu-west-1:111122223333:alias/mine")

    assert plan(one).syncs[0].config.kms_key is None
