"""What a list raises a suspicion about, and what it does not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.planning.listing_check import (
    LAG,
    ExpectedListing,
    NotComparable,
    expectation,
    is_as_expected,
    pages,
    shown_by_lists,
    traits_of,
    worth_a_list,
)
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import CURRENT, PENDING, TAG_INSTANCE, TAG_SYNC, Action, JournalEntry, Observed
from phasesync.core.sync import AWS_MANAGED_KEY, OnRemove, SyncConfig, TagMode
from phasesync.core.tags import desired_tags, unwanted_tags
from tests.support.values import (
    ACCOUNT,
    ARN,
    INSTANCE,
    LINK,
    NOW,
    REGION,
    SYNC,
    VERSION,
    config,
    desired,
    entry,
    intent,
    new_entry,
    observed,
    plan,
)

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
OTHER_KEY = KEY.replace("1234-", "4321-", 1)
MARKS = owner_tags(INSTANCE, SYNC)
FULL = config(description="of the shop", kms_key=KEY, tags={"team": "web"}, tag_mode=TagMode.REPLACE_OWN)
"""A configuration with every dimension that lists show."""
WRITTEN = entry(tags_written={**MARKS, "team": "web", "former": "x"})
LISTED = observed(description="of the shop", kms_key=KEY, tags={**MARKS, "team": "web", "theirs": "y"})
"""What a list shows of it when all is well."""


def expected(
    rules: SyncConfig = FULL, journal: JournalEntry = WRITTEN, *, wanted: bool = True
) -> ExpectedListing | NotComparable:
    traits = traits_of(SYNC, rules, region=REGION, instance_id=INSTANCE)
    return expectation(traits, rules, journal, wanted=wanted, now=NOW)


def is_suspect(
    seen: Observed | None, rules: SyncConfig = FULL, journal: JournalEntry = WRITTEN, *, wanted: bool = True
) -> bool:
    """Return whether a list with this entry makes the object suspect."""
    one = expected(rules, journal, wanted=wanted)
    assert isinstance(one, ExpectedListing)
    return seen is None or not is_as_expected(one, seen)


def test_what_is_listed_as_journalled_is_no_suspect() -> None:
    assert not is_suspect(LISTED)
    assert not is_suspect(observed(), config(), entry())


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"theirs": frozenset({CURRENT}), VERSION: frozenset({"AWSPREVIOUS"})}},
        {"versions": {}},
        {"description": "theirs"},
        {"kms_key": OTHER_KEY},
        {"kms_key": None},
        {"tags": {**MARKS, "team": "other"}},
        {"tags": MARKS},
        {"tags": {**LISTED.tags, "former": "x"}},
        {"tags": {**LISTED.tags, TAG_SYNC: "another"}},
        {"tags": {"team": "web", TAG_INSTANCE: INSTANCE}},
        {"deleted_at": NOW},
        {"arn": ARN.replace("AbCdEf", "GhIjKl")},
        {"rotation_enabled": True},
        {"versions": {**LISTED.versions, "rotating": frozenset({PENDING})}},
        {"owning_service": "rds"},
        {"primary_region": "us-east-1"},
        {"external_type": "SalesforceClientSecret"},
        {"cross_account_primary": LINK},
    ],
)
def test_every_change_outside_is_suspected(change: dict[str, Any]) -> None:
    assert is_suspect(replace(LISTED, **change))


def test_what_is_not_listed_is_suspected() -> None:
    """It may have been deleted, may have lost our tag, or the list may be late."""
    assert is_suspect(None)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "theirs"},
        {"kms_key": OTHER_KEY},
        {"tags": {**MARKS, "team": "other"}},
        {"primary_region": REGION},
        {"cross_account_copies": (LINK,)},
        {"last_read_on": NOW.date()},
    ],
)
def test_what_a_sync_leaves_alone_is_no_drift(change: dict[str, Any]) -> None:
    assert not is_suspect(observed(**change), config(), entry())


def test_a_key_is_the_same_by_arn_or_by_id() -> None:
    assert not is_suspect(replace(LISTED, kms_key=KEY.rpartition("/")[2]))
    managed = replace(FULL, kms_key=AWS_MANAGED_KEY)
    assert not is_suspect(replace(LISTED, kms_key=None), managed)
    assert is_suspect(LISTED, managed)


@pytest.mark.parametrize(
    ("age", "skipped"), [(timedelta(0), True), (LAG - timedelta(seconds=1), True), (-LAG / 2, True), (LAG, False)]
)
def test_nothing_is_said_of_what_we_changed_lately(age: timedelta, skipped: bool) -> None:
    """A list may lag 5 minutes; clocks may differ a little."""
    assert (expected(journal=replace(WRITTEN, touched_at=NOW - age)) is NotComparable.RECENT) is skipped


@pytest.mark.parametrize(
    "journal",
    [
        replace(WRITTEN, intent=intent()),
        replace(WRITTEN, unwanted_since=NOW),
        replace(WRITTEN, deletion_at=NOW),
        new_entry(),
    ],
    ids=["open intent", "grace", "deletion", "never written"],
)
def test_a_sync_with_something_under_way_is_left_to_a_run(journal: JournalEntry) -> None:
    assert expected(journal=journal) is NotComparable.SYNC


def test_what_is_retained_is_none_of_our_business() -> None:
    """A person may delete or change it; that is no drift, and no run of any use."""
    assert expected(wanted=False) is NotComparable.OBJECT
    assert expected(journal=replace(WRITTEN, intent=intent()), wanted=False) is NotComparable.OBJECT


def test_what_waits_for_its_deletion_is_left_to_a_run() -> None:
    deletes = replace(FULL, on_remove=OnRemove.DELETE)
    assert expected(deletes, replace(WRITTEN, unwanted_since=NOW), wanted=False) is NotComparable.SYNC
    assert expected(deletes, WRITTEN, wanted=False) is NotComparable.SYNC
    assert expected(deletes, new_entry(), wanted=False) is NotComparable.OBJECT


@pytest.mark.parametrize(
    ("seen", "suspect"),
    [
        (replace(LISTED, deleted_at=NOW), False),
        (replace(LISTED, deleted_at=NOW, description="theirs"), False),
        (LISTED, True),
        (None, True),
    ],
    ids=["scheduled", "scheduled and changed", "restored", "gone for good"],
)
def test_a_deletion_that_we_had_scheduled_is_watched(seen: Observed | None, suspect: bool) -> None:
    gone = replace(WRITTEN, unwanted_since=NOW - timedelta(days=2), deletion_at=NOW - timedelta(days=1))
    assert is_suspect(seen, replace(FULL, on_remove=OnRemove.DELETE), gone, wanted=False) is suspect


def test_lists_do_not_show_copies_and_resource_policies() -> None:
    assert shown_by_lists(FULL)
    assert not shown_by_lists(replace(FULL, replicas={}))
    assert not shown_by_lists(replace(FULL, resource_policy="{}"))


@pytest.mark.parametrize(("objects", "calls"), [(0, 1), (1, 1), (100, 1), (101, 2), (10_000, 100)])
def test_a_call_lists_a_hundred(objects: int, calls: int) -> None:
    assert pages(objects) == calls


@pytest.mark.parametrize(
    ("due", "objects", "worth"), [(1, 1, False), (2, 2, True), (2, 100, True), (2, 10_000, False), (101, 10_000, True)]
)
def test_a_list_is_made_where_it_takes_fewer_calls(due: int, objects: int, worth: bool) -> None:
    assert worth_a_list(due, objects) is worth


# --- for every configuration and every change


words = st.text("ab", min_size=1, max_size=2)
tags = st.dictionaries(words, words, max_size=2)
configs = st.builds(
    config,
    description=st.none() | words,
    kms_key=st.sampled_from([None, AWS_MANAGED_KEY, KEY]),
    tags=tags,
    tag_mode=st.sampled_from(TagMode),
)


def as_wanted(rules: SyncConfig, journal: JournalEntry, others: dict[str, str]) -> Observed:
    """An object that is as its sync wants it, with what others may have set in dimensions that are left alone."""
    wanted = desired_tags(rules, MARKS)
    unwanted = unwanted_tags(rules, wanted, journal.tags_written)
    return observed(
        description=rules.description or "theirs",
        kms_key={None: "theirs", AWS_MANAGED_KEY: None}.get(rules.kms_key, rules.kms_key),
        tags={**{key: value for key, value in others.items() if key not in unwanted}, **wanted},
    )


CHANGES: list[Callable[[Observed], Observed | None]] = [
    lambda seen: None,
    lambda seen: replace(seen, versions={"theirs": frozenset({CURRENT})}),
    lambda seen: replace(seen, deleted_at=NOW),
    lambda seen: replace(seen, tags={key: value for key, value in seen.tags.items() if key != TAG_SYNC}),
    lambda seen: replace(seen, rotation_enabled=True),
    lambda seen: replace(seen, arn=f"{seen.arn}2"),
]
ANYTHING = st.builds(
    replace,
    st.builds(observed),
    description=words,
    kms_key=st.sampled_from([None, KEY, OTHER_KEY]),
    tags=st.builds(lambda marks, more: {**more, **marks}, st.sampled_from([MARKS, {}, {TAG_INSTANCE: INSTANCE}]), tags),
    versions=st.dictionaries(
        st.sampled_from([VERSION, "theirs"]), st.sampled_from([frozenset({CURRENT}), frozenset({PENDING})]), max_size=1
    ),
    deleted_at=st.sampled_from([None, None, NOW]),
    rotation_enabled=st.sampled_from([False, False, True]),
    owning_service=st.sampled_from([None, None, "rds"]),
    external_type=st.sampled_from([None, None, "DatadogApiKey"]),
)


@given(rules=configs, written=tags, others=tags)
def test_a_list_that_equals_the_journal_has_no_suspect(
    rules: SyncConfig, written: dict[str, str], others: dict[str, str]
) -> None:
    journal = entry(tags_written=written)
    assert not is_suspect(as_wanted(rules, journal, others), rules, journal)


@given(rules=configs, written=tags, others=tags, change=st.sampled_from(CHANGES))
def test_any_single_change_is_suspected(
    rules: SyncConfig, written: dict[str, str], others: dict[str, str], change: Callable[[Observed], Observed | None]
) -> None:
    journal = entry(tags_written=written)
    assert is_suspect(change(as_wanted(rules, journal, others)), rules, journal)


@given(rules=configs, written=tags, seen=st.none() | ANYTHING)
def test_where_a_list_suspects_nothing_a_run_would_do_nothing(
    rules: SyncConfig, written: dict[str, str], seen: Observed | None
) -> None:
    """So putting a check off never puts a repair off; and what a run would do is suspected."""
    journal = entry(tags_written=written)
    wanted_tags = desired_tags(rules, MARKS)
    wanted = desired(
        description=rules.description,
        kms_key=rules.kms_key,
        tags=wanted_tags,
        unwanted_tags=unwanted_tags(rules, wanted_tags, written),
    )
    actions = {change.action for change in plan(wanted, seen, journal).changes}

    assert is_suspect(seen, rules, journal) is (actions != {Action.NOOP})
