"""What happens to an object that is no longer wanted: every row of the table, and what holds whatever the row."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.change import Change, PlanContext
from phasesync.core.planning.deletion import decide_unwanted
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import (
    CURRENT,
    PENDING,
    TAG_INSTANCE,
    Action,
    CrossAccountStatus,
    JournalEntry,
    Observed,
    Replica,
    ReplicaStatus,
)
from phasesync.core.sync import OnRemove
from tests.support.values import ACCOUNT, ARN, INSTANCE, LINK, NAME, NOW, OLDER, REGION, SYNC, VERSION, entry, observed

HOUR = timedelta(hours=1)
LONG_GONE = NOW - timedelta(days=2)
COPY = Replica(status=ReplicaStatus.IN_SYNC, kms_key=None)


def decide(
    journal: JournalEntry,
    seen: Observed | str | None,
    *,
    on_remove: OnRemove = OnRemove.DELETE,
    account: str = ACCOUNT,
    region: str = REGION,
    grace: timedelta = HOUR,
) -> Change:
    """Decide; `seen` as text: AWS was not asked."""
    answers: Mapping[str, Observed | None] = {} if isinstance(seen, str) else {NAME: seen}
    policy = PlanContext(
        instance_id=INSTANCE, account=account, region=region, now=NOW, on_remove=on_remove, grace=grace
    )
    return decide_unwanted(journal, answers, policy)


def unwanted(**changes: object) -> JournalEntry:
    """The entry of an object with a key that has been gone for two days."""
    return entry(**{"unwanted_since": LONG_GONE, **changes})


NOT_ASKED = "not asked"
THERE = f"left behind in account {ACCOUNT}, {REGION}: retained"
ROWS = {
    "retain": (unwanted(), observed(), {"on_remove": OnRemove.RETAIN}, "retained"),
    "not asked for": (unwanted(), NOT_ASKED, {}, "retained"),
    "in another account": (
        unwanted(),
        observed(),
        {"account": "999999999999"},
        THERE,
    ),
    "in another Region": (unwanted(), observed(), {"region": "us-east-1"}, THERE),
    "absent": (unwanted(), None, {}, "gone"),
    "foreign": (unwanted(arn=None, version_id=None), observed(tags={}), {}, "was not made by phasesync"),
    "our tags alone": (unwanted(arn=None, version_id=None), observed(), {}, "this database never wrote it"),
    "our tags taken off": (unwanted(), observed(tags={}), {}, "our owner tags are gone, or one of them"),
    "one of our tags taken off": (
        unwanted(),
        observed(tags={TAG_INSTANCE: INSTANCE}),
        {},
        "our owner tags are gone, or one of them",
    ),
    "another installation's": (
        unwanted(),
        observed(tags=owner_tags("b" * 32, "another")),
        {},
        "carries the tags of another phasesync",
    ),
    "another sync's": (unwanted(), observed(tags=owner_tags(INSTANCE, "another")), {}, "belongs to another sync"),
    "made anew by others": (unwanted(), observed(arn=ARN[:-6] + "ZyXwVu"), {}, "another object has its name"),
    "of a service": (unwanted(), observed(owning_service="rds"), {}, "managed by rds"),
    "of a partner": (
        unwanted(),
        observed(external_type="DatadogApiKey"),
        {},
        "managed external secret (DatadogApiKey)",
    ),
    "a copy of another account's": (unwanted(), observed(cross_account_primary=LINK), {}, f"its primary is {LINK.arn}"),
    "rotated": (unwanted(), observed(rotation_enabled=True), {}, "AWS rotates it"),
    "rotation under way": (
        unwanted(),
        observed(versions={VERSION: frozenset({CURRENT}), OLDER: frozenset({PENDING})}),
        {},
        "AWS rotates it",
    ),
    "a replica": (unwanted(), observed(primary_region="us-east-1"), {}, "its primary is in us-east-1"),
    "scheduled for deletion": (unwanted(), observed(deleted_at=NOW), {}, "scheduled for deletion"),
    "within the grace": (unwanted(unwanted_since=NOW - HOUR / 2), observed(), {}, "deleted after 2026-01-02 03:34:05"),
    "found gone just now": (unwanted(unwanted_since=None), observed(), {}, "deleted after 2026-01-02 04:04:05"),
}
"""Row of the table -> journal, what AWS reports, policy, and what the reason says: nothing is done."""


@pytest.mark.parametrize("row", ROWS)
def test_nothing_is_done_and_the_reason_says_why(row: str) -> None:
    journal, seen, policy, said = ROWS[row]
    change = decide(journal, seen, **policy)  # type: ignore[arg-type]
    assert change.action is Action.NOOP
    assert said in change.reason
    assert not change.deletes


def test_what_waits_for_its_grace_says_when() -> None:
    since = NOW - HOUR / 2
    assert decide(unwanted(unwanted_since=since), observed()).due_at == since + HOUR
    assert decide(unwanted(unwanted_since=None), observed()).due_at == NOW + HOUR
    assert decide(unwanted(), observed()).due_at is None


@pytest.mark.parametrize(
    ("gone_for", "action"),
    [(HOUR - timedelta(microseconds=1), Action.NOOP), (HOUR, Action.DELETE), (HOUR * 2, Action.DELETE)],
)
def test_it_is_deleted_as_soon_as_the_grace_is_over(gone_for: timedelta, action: Action) -> None:
    assert decide(unwanted(unwanted_since=NOW - gone_for), observed()).action is action


def test_without_a_grace_it_is_deleted_at_once() -> None:
    assert decide(unwanted(unwanted_since=None), observed(), grace=timedelta(0)).action is Action.DELETE


def test_a_deletion_counts_as_one_and_carries_what_was_seen() -> None:
    journal, seen = unwanted(), observed()
    change = decide(journal, seen)
    assert (change.action, change.deletes, change.observed, change.entry) == (Action.DELETE, True, seen, journal)


def test_copies_that_we_made_go_first() -> None:
    seen = observed(primary_region=REGION, replicas={"us-west-2": COPY, "eu-west-1": COPY})
    change = decide(unwanted(replicas_written=("eu-west-1", "us-west-2", "us-east-1")), seen)
    assert (change.action, change.deletes) == (Action.REPLICATE, True)
    assert change.remove_replicas == ("eu-west-1", "us-west-2")
    assert not change.add_replicas


def test_copies_that_others_made_keep_it() -> None:
    seen = observed(primary_region=REGION, replicas={"us-west-2": COPY, "eu-west-1": COPY, "us-east-1": COPY})
    change = decide(unwanted(replicas_written=("eu-west-1",)), seen)
    assert (change.action, change.deletes) == (Action.REFUSE, False)
    assert "us-east-1, us-west-2" in change.reason
    assert change.hint is not None and change.hint.endswith("--remove-replica-regions us-east-1 us-west-2")


@pytest.mark.parametrize("status", CrossAccountStatus)
def test_a_copy_in_another_account_keeps_it_and_the_command_that_ends_it_is_named(status: CrossAccountStatus) -> None:
    """Whatever its state: AWS refuses also where the other account has ended it. Copies in Regions stay until then."""
    link = replace(LINK, status=status)
    seen = observed(primary_region=REGION, replicas={"us-west-2": COPY}, cross_account_copies=(link,))
    change = decide(unwanted(replicas_written=("us-west-2",)), seen)
    assert (change.action, change.deletes, change.remove_replicas) == (Action.REFUSE, False, ())
    assert str(link.arn) in change.reason
    assert change.hint == (
        f"aws secretsmanager disassociate-cross-account-replica --secret-id {NAME} "
        f"--cross-account-replica-arn {link.arn} --region {REGION}"
    )


@pytest.mark.parametrize(
    ("read_on", "told"),
    [(None, False), (LONG_GONE.date(), False), (LONG_GONE.date() + timedelta(days=1), True)],
)
@pytest.mark.parametrize("deleted_at", [None, NOW])
def test_a_read_on_a_later_day_is_told_with_how_to_keep_it(
    read_on: object, told: bool, deleted_at: datetime | None
) -> None:
    """Before the deletion and while it is scheduled. On the very day it may have been read before."""
    reason = decide(unwanted(), observed(last_read_on=read_on, deleted_at=deleted_at)).reason
    assert ("someone still read it on 2026-01-01" in reason) is told
    assert (f"restore-secret --secret-id {NAME}" in reason) is told


@given(
    on_remove=st.sampled_from(OnRemove),
    arn=st.sampled_from([ARN, ARN[:-6] + "ZyXwVu", None]),
    tags=st.sampled_from([{}, owner_tags(INSTANCE, SYNC), owner_tags(INSTANCE, "another"), owner_tags("x", SYNC)]),
    since=st.none() | st.integers(-200, 200).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    deleted=st.booleans(),
    rotated=st.booleans(),
    copies=st.sets(st.sampled_from(["us-east-1", "us-west-2"])),
    ours=st.sets(st.sampled_from(["us-east-1", "us-west-2"])),
)
def test_only_what_is_proven_ours_and_long_gone_is_ever_touched(
    on_remove: OnRemove,
    arn: str | None,
    tags: dict[str, str],
    since: datetime | None,
    deleted: bool,
    rotated: bool,
    copies: set[str],
    ours: set[str],
) -> None:
    seen = observed(
        tags=tags,
        deleted_at=NOW if deleted else None,
        rotation_enabled=rotated,
        replicas=dict.fromkeys(copies, COPY),
    )
    journal = unwanted(arn=arn, unwanted_since=since, replicas_written=tuple(sorted(ours)))
    change = decide(journal, seen, on_remove=on_remove)
    proven = arn == ARN and tags == owner_tags(INSTANCE, SYNC)
    over = since is not None and since + HOUR <= NOW
    may = on_remove is OnRemove.DELETE and proven and over and not deleted and not rotated
    assert change.deletes == (may and copies <= ours)
    assert (change.action is Action.DELETE) == (may and not copies)
    assert set(change.remove_replicas) <= ours & copies
