"""What `syncs why` says, and from what it says so."""

from dataclasses import replace
from datetime import timedelta

import pytest

from phasesync.core.change import PlanContext
from phasesync.core.planning.explain import ObjectExplanation, explain_object, explain_undecided, worth_showing
from phasesync.core.planning.guard import apply_guard
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.planning.plan import make_plan
from phasesync.core.planning.version_budget import BURST, REFILL
from phasesync.core.remote import CURRENT, TAG_INSTANCE, CrossAccountStatus, Desired, JournalEntry, Observed
from phasesync.core.sync import OnDrift, OnRemove, SyncConfig
from tests.support.values import (
    ACCOUNT,
    ARN,
    INSTANCE,
    LINK,
    NAME,
    NOW,
    REGION,
    SYNC,
    TOKEN,
    config,
    desired,
    entry,
    intent,
    new_entry,
    observed,
    payload,
)

OTHER = "44444444-4444-4444-8444-444444444444"


def why(
    journal: JournalEntry,
    seen: Observed | None,
    wanted: Desired | None = None,
    settings: SyncConfig | None = None,
    **policy: object,
) -> ObjectExplanation:
    """Plan, judge and explain one object that is wanted."""
    wanted = wanted or desired()
    rules = replace(PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW), **policy)  # type: ignore[arg-type]
    plan = make_plan([wanted], {NAME: seen}, {NAME: journal}, [], rules)
    guarded = apply_guard(plan, settings or config(), None, now=NOW)
    return explain_object(
        journal,
        wanted=wanted,
        observed=seen,
        changes=plan.changes,
        held=guarded.held,
        delayed=guarded.delayed,
        sync="web",
        instance_id=INSTANCE,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("journal", "seen", "ownership", "row", "decision"),
    [
        (new_entry(), None, "absent", "absent, never written", "create"),
        (entry(), None, "absent", "absent, written before", "create"),
        (new_entry(), observed(tags={}), "foreign", "not proven ours", "conflict"),
        (new_entry(), observed(), "unproven", "not proven ours", "conflict"),
        (entry(), observed(tags={}), "unmarked", "not proven ours", "conflict"),
        (entry(), observed(tags=owner_tags(INSTANCE, "b" * 32)), "other-sync", "not proven ours", "conflict"),
        (entry(), observed(owning_service="rds"), "ours", "not to be written: managed by rds", "refuse"),
        (
            entry(),
            observed(external_type="DatadogApiKey"),
            "ours",
            "not to be written: a managed external secret (DatadogApiKey): AWS rotates it together with that partner",
            "refuse",
        ),
        (
            new_entry(),
            observed(tags={}, cross_account_primary=LINK),
            "foreign",
            f"not to be written: a copy of another account's secret; its primary is {LINK.arn}",
            "refuse",
        ),
        (entry(), observed(rotation_enabled=True), "ours", "not to be written: AWS rotates it", "refuse"),
        (entry(), observed(deleted_at=NOW), "ours", "ours, scheduled for deletion", "restore"),
        (entry(intent=intent()), observed(), "ours", "ours, an earlier write may still land", "put"),
        (entry(), observed(versions={}), "ours", "ours, no current version", "put"),
        (
            entry(),
            observed(versions={OTHER: frozenset({CURRENT})}),
            "ours",
            "ours, current version is not the one that was written last",
            "put",
        ),
        (entry(fingerprint="v1:test:00"), observed(), "ours", "ours, the wanted value is another one", "put"),
        (entry(), observed(), "ours", "ours, value as wanted", "noop"),
    ],
)
def test_the_row_and_the_decision_are_told(
    journal: JournalEntry, seen: Observed | None, ownership: str, row: str, decision: str
) -> None:
    """Every row of the decision table."""
    found = why(journal, seen)

    assert (found.ownership, found.row, found.decision) == (ownership, row, decision)


def test_the_evidence_names_tags_arn_and_version() -> None:
    """Each piece on its own, so that a forged one shows."""
    assert why(entry(), observed()).evidence == (
        f"the tag {TAG_INSTANCE} is ours",
        "the tag phasesync:sync is ours",
        "the journal has this ARN",
        "the current version is the one that was written last",
    )
    forged = why(entry(arn=f"{ARN}x", version_id=OTHER), observed(tags={TAG_INSTANCE: "a" * 32}))
    assert forged.evidence == (
        f"the tag {TAG_INSTANCE} is another one's: {'a' * 32}",
        "the tag phasesync:sync is missing",
        f"the journal has another ARN: {ARN}x",
        "no labelled version is one that this database wrote last",
    )
    lost = why(replace(new_entry(), intent=intent()), observed(versions={TOKEN: frozenset({CURRENT})}))
    assert lost.evidence[2:] == (
        "the journal has no ARN",
        "a version carries the token of a write that got no answer",
    )


def test_a_held_change_names_its_rule_and_its_numbers() -> None:
    keys = {f"K{number}": "x" for number in range(10)}
    had = payload(keys)
    journal = entry(fingerprint=had.fingerprint, keys=had.keys)

    found = why(journal, observed(), desired(payload=payload({"K0": "x"})))

    assert found.held == "shrinking"
    assert "9 of 10 keys" in (found.held_reason or "")
    assert "50 %" in (found.held_reason or "")


def test_who_changed_a_dimension_is_told() -> None:
    """In step before with what is wanted now: someone else; else the sync's own settings."""
    wanted = desired(description="of the shop", tags=owner_tags(INSTANCE, SYNC) | {"team": "shop"})
    noted = {"description": wanted_metadata(wanted)["description"]}

    found = why(entry(metadata=noted), observed(), wanted, config(on_drift=OnDrift.HOLD))

    assert found.differs == {"description": "outside", "tags": "sync"}
    assert found.held == "drift"


def test_the_version_budget_says_how_much_is_left_and_until_when() -> None:
    used = entry(
        fingerprint="v1:test:00",
        versions_at=(NOW - timedelta(hours=25), *[NOW] * BURST),
    )

    found = why(used, observed())

    assert (found.budget.used_24h, found.budget.left, found.budget.next_at) == (BURST, 0, NOW + REFILL)
    assert found.delayed_until == NOW + REFILL
    assert why(entry(), observed()).budget.next_at is None


def test_repeated_repairs_are_counted_and_contested() -> None:
    repaired = entry(enforced_at=(NOW,) * 3)

    found = why(repaired, observed(versions={OTHER: frozenset({CURRENT})}))

    assert (found.repaired_24h, found.contested, found.held) == (3, True, "contested")
    assert not why(entry(enforced_at=(NOW,) * 2), observed()).contested


def test_an_object_on_its_way_out_says_until_when() -> None:
    journal = entry(unwanted_since=NOW)
    rules = PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW, on_remove=OnRemove.DELETE)
    plan = make_plan([], {NAME: observed()}, {}, [journal], rules)

    found = explain_object(
        journal,
        wanted=None,
        observed=observed(),
        changes=plan.changes,
        held=(),
        delayed=(),
        sync="web",
        instance_id=INSTANCE,
        now=NOW,
    )

    assert (found.row, found.decision, found.grace_until) == ("no longer wanted", "noop", NOW + timedelta(hours=1))


def test_what_aws_did_not_say_is_unknown() -> None:
    found = explain_undecided(entry(), "not looked at: no network", now=NOW)

    assert (found.ownership, found.decision, found.row) == ("unknown", None, None)
    assert found.reason == "not looked at: no network"


def test_what_aws_reports_is_told_without_a_value() -> None:
    seen = observed(deleted_at=NOW, rotation_enabled=True, owning_service="rds", versions={})

    assert why(entry(), seen).reported == (
        "no current version, scheduled for deletion (AWS's date: 2026-01-02), managed by rds, rotation is on"
    )


def test_replication_between_accounts_is_told_from_both_ends() -> None:
    """The rights that AWS uses matter for the reason of a failed copy."""
    role = "arn:aws:iam::111122223333:role/replication"
    by_role = replace(LINK, role_arn=role, status=CrossAccountStatus.FAILED)

    assert why(entry(), observed(versions={}, cross_account_copies=(LINK, by_role))).reported == (
        "no current version, copy in 222222222222: InSync, replicated with the rights of the writer, "
        f"copy in 222222222222: Failed, replicated by {role}"
    )
    copied = observed(versions={}, cross_account_primary=replace(LINK, status=CrossAccountStatus.DETACHED))
    assert why(entry(), copied).reported == "no current version, copy of another account's secret: Detached"


def test_a_copy_in_another_account_that_stays_behind_is_told_although_nothing_is_to_be_done() -> None:
    """The write has succeeded; only the state of the copy shows that AWS was not allowed to go on."""
    role = "arn:aws:iam::111122223333:role/replication"
    failed = replace(LINK, status=CrossAccountStatus.FAILED)
    found = why(entry(), observed(cross_account_copies=(failed,)))
    by_role = why(entry(), observed(cross_account_copies=(replace(failed, role_arn=role),)))

    assert (found.decision, worth_showing(found)) == ("noop", True)
    assert "phasesync aws policy web --copy-key ARN" in (found.warning or "")
    assert f"{role} needs kms:Decrypt" in (by_role.warning or "")
    in_step = why(entry(), observed(cross_account_copies=(LINK,)))
    assert (in_step.warning, worth_showing(in_step)) == (None, False)
