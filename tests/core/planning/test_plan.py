"""The decision table: every row, and what holds whatever the row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.change import VALUE_WRITES, PlanContext
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.planning.plan import make_plan
from phasesync.core.remote import CURRENT, PENDING, Action, JournalEntry, Observed
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt
from tests.support.values import (
    ACCOUNT,
    ARN,
    INSTANCE,
    LINK,
    NAME,
    NOW,
    OLDER,
    REGION,
    SYNC,
    TOKEN,
    VERSION,
    desired,
    entry,
    intent,
    new_entry,
    observed,
    payload,
    plan,
)

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
OTHER = "44444444-4444-4444-8444-444444444444"

ROWS = [
    ("name of a service", observed(name="rds!db-1"), entry(), {}, [Action.REFUSE]),
    ("owning service", observed(owning_service="rds"), entry(), {}, [Action.REFUSE]),
    ("replica", observed(primary_region="us-east-1"), entry(), {}, [Action.REFUSE]),
    ("managed external secret", observed(external_type="SalesforceClientSecret"), entry(), {}, [Action.REFUSE]),
    (
        "managed external secret, foreign, adopted",
        observed(external_type="SalesforceClientSecret", tags={}),
        new_entry(),
        {"adopt": Adopt.OVERWRITE},
        [Action.REFUSE],
    ),
    ("copy of another account's", observed(cross_account_primary=LINK), entry(), {}, [Action.REFUSE]),
    (
        "copy of another account's, adopted",
        observed(cross_account_primary=LINK, tags={}, versions={}),
        new_entry(),
        {"adopt": Adopt.PREFER_AWS},
        [Action.REFUSE],
    ),
    ("primary with a copy in another account", observed(cross_account_copies=(LINK,)), entry(), {}, [Action.NOOP]),
    ("primary with replicas", observed(primary_region=REGION), entry(), {}, [Action.NOOP]),
    ("rotation on", observed(rotation_enabled=True), entry(), {}, [Action.REFUSE]),
    (
        "rotation under way",
        observed(versions={VERSION: frozenset({CURRENT}), OLDER: frozenset({PENDING})}),
        entry(),
        {},
        [Action.REFUSE],
    ),
    (
        "rotation done",
        observed(versions={VERSION: frozenset({CURRENT, PENDING})}),
        entry(),
        {},
        [Action.NOOP],
    ),
    ("absent, never written", None, new_entry(), {}, [Action.CREATE]),
    ("absent, written before", None, entry(), {}, [Action.CREATE]),
    ("scheduled for deletion", observed(deleted_at=NOW), entry(), {}, [Action.RESTORE]),
    ("foreign", observed(tags={}), new_entry(), {}, [Action.CONFLICT]),
    ("foreign, scheduled for deletion", observed(tags={}, deleted_at=NOW), new_entry(), {}, [Action.CONFLICT]),
    ("ours by tag alone", observed(), new_entry(), {}, [Action.CONFLICT]),
    ("another sync's", observed(tags=owner_tags(INSTANCE, "b" * 32)), entry(), {}, [Action.CONFLICT]),
    ("another instance's", observed(tags=owner_tags("a" * 32, SYNC)), new_entry(), {}, [Action.CONFLICT]),
    ("our tags taken off", observed(tags={}), entry(), {}, [Action.CONFLICT]),
    ("foreign, adopted", observed(tags={}), new_entry(), {"adopt": Adopt.OVERWRITE}, [Action.RETAG, Action.PUT]),
    (
        "foreign, scheduled for deletion, adopted",
        observed(tags={}, deleted_at=NOW),
        new_entry(),
        {"adopt": Adopt.OVERWRITE},
        [Action.CONFLICT],
    ),
    ("no current value", observed(versions={}), entry(), {}, [Action.PUT]),
    ("as journalled", observed(), entry(), {}, [Action.NOOP]),
    ("the environment changed", observed(), entry(fingerprint="v1:test:00"), {}, [Action.PUT]),
    ("payload not known", observed(), entry(fingerprint=None), {}, [Action.PUT]),
    ("changed outside", observed(versions={OTHER: frozenset({CURRENT})}), entry(), {}, [Action.PUT]),
    ("open put", observed(), entry(intent=intent()), {}, [Action.PUT]),
    ("open re-key", observed(), entry(intent=intent(action=Action.REKEY)), {}, [Action.REKEY]),
    (
        "open create that landed",
        observed(versions={TOKEN: frozenset({CURRENT})}),
        replace(new_entry(), intent=intent(action=Action.CREATE, generation=1, payloads=2)),
        {},
        [Action.PUT],
    ),
]


@pytest.mark.parametrize(("case", "seen", "journal", "policy", "actions"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_leads_to_its_actions(
    case: str, seen: Observed | None, journal: JournalEntry, policy: dict[str, object], actions: list[Action]
) -> None:
    """One row of the table."""
    assert [change.action for change in plan(desired(), seen, journal, **policy).changes] == actions, case


@pytest.mark.parametrize(
    ("case", "drifted"),
    [
        (observed(versions={OTHER: frozenset({CURRENT})}), True),
        (None, True),
        (observed(versions={}), True),
        (observed(deleted_at=NOW), True),
        (observed(), False),
    ],
)
def test_drift_is_told_from_a_change_of_ours(case: Observed | None, drifted: bool) -> None:
    """Only what someone else did counts as drift."""
    assert plan(desired(), case, entry(fingerprint="v1:test:00")).drifted is drifted


def test_an_empty_source_is_marked_on_the_first_write_only() -> None:
    """A first write without keys is probably a mistyped path; a later one is the guard's business."""
    empty = desired(payload=payload({}))

    assert plan(empty, None, new_entry()).changes[0].source_empty
    assert not plan(empty, observed(), entry()).changes[0].source_empty


def test_adoption_of_an_empty_source_holds_the_tags_with_the_value() -> None:
    """What waits for an approval must not have marked someone else's object already."""
    changes = plan(desired(payload=payload({})), observed(tags={}), new_entry(), adopt=Adopt.OVERWRITE).changes

    assert [(change.action, change.source_empty) for change in changes] == [(Action.RETAG, True), (Action.PUT, True)]


@pytest.mark.parametrize(
    ("wanted", "seen", "differs"),
    [
        (None, KEY, False),
        (KEY, KEY, False),
        (KEY, KEY.rpartition("/")[2], False),
        (KEY, None, True),
        (KEY, "alias/other", True),
        (AWS_MANAGED_KEY, None, False),
        (AWS_MANAGED_KEY, KEY, True),
    ],
)
def test_keys_are_compared_as_aws_reports_them(wanted: str | None, seen: str | None, differs: bool) -> None:
    """Absent is the AWS-managed key; not set is left alone."""
    actions = [change.action for change in plan(desired(kms_key=wanted), observed(kms_key=seen), entry()).changes]

    assert actions == [Action.REKEY if differs else Action.NOOP]


def test_a_new_key_and_a_new_value_are_one_write() -> None:
    """The fresh version after a re-key carries the new value."""
    wanted = desired(kms_key=KEY, payload=payload({"URL": "other"}))

    assert [change.action for change in plan(wanted, observed(), entry()).changes] == [Action.REKEY]


def test_metadata_is_compared_apart_from_the_value() -> None:
    """Each dimension is a change of its own; the value stays as it is."""
    wanted = desired(description="new", tags={**owner_tags(INSTANCE, SYNC), "team": "shop"})

    actions = [change.action for change in plan(wanted, observed(description="old"), entry()).changes]

    assert actions == [Action.RETAG, Action.SET_DESCRIPTION]


def test_foreign_tags_stay_and_unwanted_ones_of_ours_go() -> None:
    """Tags of others are no difference; ours that are no longer wanted are."""
    tagged = observed(tags={**owner_tags(INSTANCE, SYNC), "cost-centre": "42"})

    assert [change.action for change in plan(desired(), tagged, entry()).changes] == [Action.NOOP]
    unwanted = desired(unwanted_tags=("cost-centre",))
    assert [change.action for change in plan(unwanted, tagged, entry()).changes] == [Action.RETAG]


def test_keys_that_a_write_adds_changes_and_removes_are_named() -> None:
    """Against what we wrote last."""
    wanted = desired(payload=payload({"URL": "postgres://other", "PASSWORD": "x"}))

    diff = plan(wanted, observed(), entry()).changes[0].keys

    assert (diff.added, diff.changed, diff.removed) == (("PASSWORD",), ("URL",), ("USER",))


def test_an_object_that_is_no_longer_wanted_is_retained() -> None:
    """It is reported and nothing happens to it; the write of the new one says that the sync moves."""
    old = entry(remote_name="shop/old", arn=ARN.replace("production", "old"))
    changes = make_plan(
        [desired()],
        {NAME: None},
        {NAME: new_entry()},
        [old],
        PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW),
    ).changes

    assert [(change.remote_name, change.action, change.moves) for change in changes] == [
        ("shop/old", Action.NOOP, False),
        (NAME, Action.CREATE, True),
    ]


def test_an_object_that_may_have_been_created_elsewhere_counts_as_staying_behind() -> None:
    """The answer to its create was lost; nothing says that it is not there."""
    old = replace(new_entry(), remote_name="shop/old", intent=intent(action=Action.CREATE, generation=1))
    changes = make_plan(
        [desired()],
        {NAME: None},
        {NAME: new_entry()},
        [old],
        PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW),
    ).changes

    assert [change.moves for change in changes if change.remote_name == NAME] == [True]


some_observed = st.builds(
    observed,
    tags=st.sampled_from([owner_tags(INSTANCE, SYNC), {}, owner_tags("a" * 32, SYNC), owner_tags(INSTANCE, "b" * 32)]),
    versions=st.dictionaries(
        st.sampled_from([VERSION, OLDER, OTHER, TOKEN]),
        st.frozensets(st.sampled_from([CURRENT, PENDING, "custom"]), min_size=1),
        max_size=3,
    ),
    deleted_at=st.sampled_from([None, NOW]),
    owning_service=st.sampled_from([None, None, "rds"]),
    rotation_enabled=st.booleans(),
    primary_region=st.sampled_from([None, REGION, "us-east-1"]),
    external_type=st.sampled_from([None, None, "DatadogApiKey"]),
    cross_account_primary=st.sampled_from([None, None, LINK]),
    cross_account_copies=st.sampled_from([(), (LINK,)]),
    kms_key=st.sampled_from([None, KEY]),
)
some_entry = st.one_of(
    st.just(new_entry()),
    st.builds(entry, intent=st.sampled_from([None, intent(), intent(payloads=2), intent(action=Action.REKEY)])),
)
some_desired = st.builds(
    desired,
    payload=st.builds(payload, st.dictionaries(st.sampled_from("ABC"), st.sampled_from("xy"))),
    kms_key=st.sampled_from([None, KEY, AWS_MANAGED_KEY]),
    description=st.sampled_from([None, "", "text"]),
)


@given(wanted=some_desired, seen=st.none() | some_observed, journal=some_entry)
def test_what_is_not_proven_ours_is_never_written(wanted: object, seen: Observed | None, journal: JournalEntry) -> None:
    """Without a consent, no plan writes to an object that lacks our marks or that the journal does not know."""
    changes = plan(wanted, seen, journal).changes  # type: ignore[arg-type]

    assert changes
    ours = seen is None or seen.tags == owner_tags(INSTANCE, SYNC)
    known = seen is None or journal.arn == seen.arn or bool({journal.version_id} & set(seen.versions))
    if not (ours and known):
        assert {change.action for change in changes} <= {Action.CONFLICT, Action.REFUSE}


@given(wanted=some_desired, seen=st.none() | some_observed, journal=some_entry)
def test_a_plan_writes_one_value_at_most_and_is_stable(
    wanted: object, seen: Observed | None, journal: JournalEntry
) -> None:
    """At most one write of a value per object, and the same inputs make the same plan."""
    first = plan(wanted, seen, journal)  # type: ignore[arg-type]

    assert sum(change.action in VALUE_WRITES for change in first.changes) <= 1
    assert plan(wanted, seen, journal) == first  # type: ignore[arg-type]
