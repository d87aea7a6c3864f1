"""What differs besides the value: each dimension on its own, who changed it, and whose copies are touched."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.planning.metadata import (
    Dimension,
    changed_outside,
    differing,
    is_other_key,
    replica_diff,
    text_digest,
    wanted_metadata,
)
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import Replica, ReplicaStatus
from phasesync.core.sync import AWS_MANAGED_KEY
from tests.support.values import ACCOUNT, INSTANCE, REGION, SYNC, desired, entry, observed

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
OTHER_KEY = KEY.replace("/1234", "/ffff")
MARKS = owner_tags(INSTANCE, SYNC)
IN_SYNC = Replica(status=ReplicaStatus.IN_SYNC, kms_key=None)
IN_PROGRESS = Replica(status=ReplicaStatus.IN_PROGRESS, kms_key=None)
FAILED = Replica(status=ReplicaStatus.FAILED, kms_key=None)
TAKEN = Replica(status=ReplicaStatus.FAILED, kms_key=None, name_taken=True)

# what is wanted, what is there as wanted, what is there otherwise
DIMENSIONS: dict[Dimension, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    Dimension.DESCRIPTION: ({"description": "text"}, {"description": "text"}, {"description": "theirs"}),
    Dimension.KEY: ({"kms_key": KEY}, {"kms_key": KEY}, {"kms_key": OTHER_KEY}),
    Dimension.TAGS: (
        {"tags": MARKS | {"team": "web"}},
        {"tags": MARKS | {"team": "web", "theirs": "too"}},
        {"tags": MARKS | {"team": "jobs"}},
    ),
    Dimension.REPLICAS: (
        {"replicas": {"us-east-1": AWS_MANAGED_KEY}},
        {"replicas": {"us-east-1": IN_SYNC}},
        {"replicas": {}},
    ),
    Dimension.POLICY: ({"resource_policy": "{}"}, {"resource_policy": "{}"}, {"resource_policy": '{"a":1}'}),
}


def off(wanted: dict[str, Any], seen: dict[str, Any], **journal: Any) -> set[Dimension]:
    """The dimensions that differ."""
    return set(differing(desired(**wanted), observed(**seen), entry(**journal)))


@pytest.mark.parametrize("dimension", Dimension)
def test_a_dimension_that_is_as_wanted_does_not_differ(dimension: Dimension) -> None:
    wanted, same, _ = DIMENSIONS[dimension]
    assert off(wanted, same) == set()


@pytest.mark.parametrize("dimension", Dimension)
def test_a_dimension_that_is_otherwise_differs_and_no_other_does(dimension: Dimension) -> None:
    wanted, _, other = DIMENSIONS[dimension]
    assert off(wanted, other) == {dimension}


@pytest.mark.parametrize("dimension", [one for one in Dimension if one is not Dimension.TAGS])
def test_a_dimension_that_is_not_set_is_left_alone(dimension: Dimension) -> None:
    _, same, other = DIMENSIONS[dimension]
    assert off({}, same) == off({}, other) == set()
    assert dimension not in wanted_metadata(desired())


def test_all_dimensions_are_compared_at_once() -> None:
    wanted = {name: value for part, _, _ in DIMENSIONS.values() for name, value in part.items()}
    other = {name: value for _, _, part in DIMENSIONS.values() for name, value in part.items()}
    assert off(wanted, other) == set(Dimension)
    assert set(wanted_metadata(desired(**wanted))) == set(Dimension)


# --- tags


@pytest.mark.parametrize(
    ("tags", "unwanted", "differs"),
    [
        (MARKS, (), False),
        (MARKS | {"theirs": "x"}, (), False),
        ({}, (), True),
        (MARKS | {"phasesync:sync": "another"}, (), True),
        (MARKS | {"former": "x"}, ("former",), True),
        (MARKS, ("former",), False),
    ],
)
def test_our_tags_are_there_those_we_took_back_are_not_and_others_do_not_matter(
    tags: dict[str, str], unwanted: tuple[str, ...], differs: bool
) -> None:
    assert (Dimension.TAGS in off({"unwanted_tags": unwanted}, {"tags": tags})) is differs


# --- keys


@pytest.mark.parametrize(
    ("wanted", "seen", "other"),
    [
        (AWS_MANAGED_KEY, None, False),
        (AWS_MANAGED_KEY, KEY, True),
        (KEY, None, True),
        (KEY, KEY, False),
        (KEY, KEY.rpartition("/")[2], False),
        (KEY, OTHER_KEY, True),
        (KEY, OTHER_KEY.rpartition("/")[2], True),
    ],
)
def test_no_key_is_the_aws_managed_one_and_an_id_is_its_arn(wanted: str, seen: str | None, other: bool) -> None:
    assert is_other_key(wanted, seen) is other


# --- the resource policy


def test_a_policy_that_aws_words_anew_is_as_it_was_written() -> None:
    wanted, given_back = {"resource_policy": '{"a":["b"]}'}, {"resource_policy": '{"a":"b"}'}
    journal = {
        "metadata": wanted_metadata(desired(**wanted)),
        "policy_as_stored": text_digest('{"a":"b"}'),
    }
    assert off(wanted, given_back, **journal) == set()
    assert off(wanted, {"resource_policy": '{"a":"c"}'}, **journal) == {Dimension.POLICY}
    assert off(wanted, {"resource_policy": None}, **journal) == {Dimension.POLICY}
    assert off({"resource_policy": '{"a":["c"]}'}, given_back, **journal) == {Dimension.POLICY}
    assert off(wanted, given_back) == {Dimension.POLICY}


def test_no_policy_has_a_digest_of_its_own() -> None:
    assert text_digest(None) not in {text_digest(""), text_digest("null"), text_digest("{}")}


# --- who changed it


@pytest.mark.parametrize("dimension", Dimension)
def test_what_was_in_step_with_what_is_wanted_now_was_changed_outside(dimension: Dimension) -> None:
    wanted = desired(**DIMENSIONS[dimension][0])
    in_step = entry(metadata=wanted_metadata(wanted))
    assert changed_outside(dimension, wanted, in_step)


@pytest.mark.parametrize("dimension", Dimension)
def test_what_the_sync_wants_otherwise_than_before_was_not(dimension: Dimension) -> None:
    name, value = next(iter(DIMENSIONS[dimension][0].items()))
    before = {
        "description": "before",
        "kms_key": OTHER_KEY,
        "tags": MARKS,
        "replicas": {},
        "resource_policy": '{"before":1}',
    }[name]
    wanted = desired(**{name: value})
    assert not changed_outside(dimension, wanted, entry(metadata=wanted_metadata(desired(**{name: before}))))
    assert not changed_outside(dimension, wanted, entry(metadata={})), "never found in step"


def test_digests_depend_on_what_is_wanted_and_not_on_its_order() -> None:
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert wanted_metadata(desired(tags=one)) == wanted_metadata(desired(tags=other))
    assert wanted_metadata(desired(replicas=one)) == wanted_metadata(desired(replicas=other))
    assert wanted_metadata(desired(tags=one)) != wanted_metadata(desired(tags=one | {"a": "2"}))
    assert wanted_metadata(desired(replicas={})) != wanted_metadata(desired())


# --- copies


@pytest.mark.parametrize(
    ("there", "ours", "add", "remove", "blocked", "failed"),
    [
        ({}, (), {"us-east-1"}, (), (), ()),
        ({"us-east-1": IN_SYNC}, ("us-east-1",), set(), (), (), ()),
        ({"us-east-1": IN_PROGRESS}, ("us-east-1",), set(), (), (), ()),
        ({"us-east-1": FAILED}, ("us-east-1",), {"us-east-1"}, (), (), ("us-east-1",)),
        ({"us-east-1": TAKEN}, ("us-east-1",), set(), (), ("us-east-1",), ()),
        ({"us-east-1": IN_SYNC, "us-west-2": IN_SYNC}, ("us-west-2",), set(), ("us-west-2",), (), ()),
        ({"us-east-1": IN_SYNC, "us-west-2": FAILED}, ("us-west-2",), set(), ("us-west-2",), (), ()),
        ({"us-east-1": IN_SYNC, "us-west-2": IN_SYNC}, (), set(), (), (), ()),
        ({"us-east-1": replace(IN_SYNC, kms_key=KEY)}, (), set(), (), (), ()),
    ],
)
def test_copies(
    there: dict[str, Replica],
    ours: tuple[str, ...],
    add: set[str],
    remove: tuple[str, ...],
    blocked: tuple[str, ...],
    failed: tuple[str, ...],
) -> None:
    """One copy is wanted, in us-east-1."""
    wanted = desired(replicas={"us-east-1": AWS_MANAGED_KEY})
    diff = replica_diff(wanted, observed(replicas=there), entry(replicas_written=ours))
    assert (set(diff.add), diff.remove, diff.blocked, diff.failed) == (add, remove, blocked, failed)
    assert diff.any is bool(add or remove)


regions = st.sampled_from(["us-east-1", "us-west-2", "eu-west-1", "ap-south-1"])
copies = st.dictionaries(regions, st.sampled_from([IN_SYNC, IN_PROGRESS, FAILED, TAKEN]))


@given(
    wanted=st.none() | st.dictionaries(regions, st.sampled_from([AWS_MANAGED_KEY, KEY])),
    there=copies,
    ours=st.sets(regions),
)
def test_a_copy_that_is_not_ours_is_never_removed_and_one_that_stands_is_never_made_anew(
    wanted: dict[str, str] | None, there: dict[str, Replica], ours: set[str]
) -> None:
    diff = replica_diff(desired(replicas=wanted), observed(replicas=there), entry(replicas_written=tuple(sorted(ours))))
    unwanted = there.keys() - (wanted or {}).keys()
    assert set(diff.remove) == (unwanted & ours if wanted is not None else set())
    assert diff.add.items() <= (wanted or {}).items()
    standing = {region for region, copy in there.items() if copy.status is not ReplicaStatus.FAILED}
    assert not diff.add.keys() & standing
    assert not diff.add.keys() & set(diff.blocked)
    assert set(diff.failed) <= diff.add.keys()
