"""The life of a write: one token a generation, spent by whoever comes after a crash."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.change import VALUE_WRITES
from phasesync.core.planning.journal import (
    accept_restore,
    clamp_to_clock,
    forget_object,
    intend_deletion,
    intend_restore,
    intend_write,
    next_generation,
    record_unwanted,
    record_wanted,
    release_object,
    settle_by_evidence,
    settle_restore,
    settle_used_token,
    settle_write,
)
from phasesync.core.planning.metadata import wanted_metadata
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.remote import CURRENT, PREVIOUS, Action
from tests.support.values import (
    ARN,
    INSTANCE,
    NOW,
    SYNC,
    TOKEN,
    VERSION,
    desired,
    entry,
    intent,
    new_entry,
    observed,
    payload,
)

OTHER = payload({"URL": "other"})


def test_a_write_takes_the_next_generation_and_keeps_it_until_settled() -> None:
    """A successor meets the same number."""
    intended = intend_write(entry(), Action.PUT, payload(), TOKEN, NOW)

    assert next_generation(entry()) == 2
    assert next_generation(intended) == 2
    assert next_generation(settle_write(intended, payload(), arn=ARN, version_id=TOKEN)) == 3


def test_a_token_counts_the_payloads_it_was_sent_with() -> None:
    """The same payload again does not count, another does."""
    first = intend_write(entry(), Action.PUT, payload(), TOKEN, NOW)
    again = intend_write(first, Action.PUT, payload(), TOKEN, NOW)
    other = intend_write(again, Action.PUT, OTHER, TOKEN, NOW)

    assert [one.intent.payloads for one in (first, again, other) if one.intent] == [1, 1, 2]


def test_evidence_settles_a_token_that_carried_one_payload() -> None:
    """The labelled version proves the write."""
    seen = observed(versions={TOKEN: frozenset({CURRENT}), VERSION: frozenset({PREVIOUS})})

    settled = settle_by_evidence(entry(intent=intent()), seen)

    assert settled.intent is None
    assert (settled.version_id, settled.generation, settled.fingerprint) == (TOKEN, 2, payload().fingerprint)


def test_evidence_does_not_settle_a_token_that_carried_two() -> None:
    """Either may have landed; only a put that AWS accepts decides it."""
    seen = observed(versions={TOKEN: frozenset({CURRENT})})
    unsettled = entry(intent=intent(payloads=2))

    assert settle_by_evidence(unsettled, seen) is unsettled


def test_no_evidence_leaves_the_intent_open() -> None:
    """It may still land."""
    unsettled = entry(intent=intent())

    assert settle_by_evidence(unsettled, observed()) is unsettled
    assert settle_by_evidence(unsettled, None) is unsettled


def test_a_spent_token_tells_what_landed_only_when_it_carried_one_payload() -> None:
    """Of two it is not known which."""
    once = settle_used_token(entry(intent=intent()), intent(), arn=ARN)
    twice = settle_used_token(entry(intent=intent()), intent(payloads=2), arn=ARN)

    assert once.fingerprint == payload().fingerprint
    assert twice.fingerprint is None
    assert once.generation == twice.generation == 2


def test_a_landed_create_makes_the_object_known() -> None:
    """The journal learns its ARN from looking."""
    created = replace(new_entry(), intent=intent(action=Action.CREATE, generation=1))

    settled = settle_by_evidence(created, observed(versions={TOKEN: frozenset({CURRENT})}))

    assert settled.arn == ARN
    assert settled.written_before


def test_a_restore_does_not_hide_an_open_write() -> None:
    """The write is still to be settled after the restore."""
    with_write = entry(intent=intent())

    assert intend_restore(with_write, TOKEN, NOW) is with_write
    assert settle_restore(with_write) is with_write


def test_a_restore_is_settled_by_looking() -> None:
    """It carries no token: an object that is not scheduled for deletion was restored."""
    intended = intend_restore(entry(), TOKEN, NOW)

    assert intended.intent is not None
    assert settle_by_evidence(intended, observed(deleted_at=NOW)) is intended
    assert settle_by_evidence(intended, observed()).intent is None
    assert settle_by_evidence(intended, observed()).generation == entry().generation


# --- what an observation shows of a wanted object


LATER = NOW + timedelta(hours=1)
AGO = NOW - timedelta(days=2)


def test_dimensions_that_are_as_wanted_are_noted_and_others_are_not() -> None:
    wanted = desired(description="text", tags=owner_tags(INSTANCE, SYNC) | {"team": "web"})
    seen = observed(description="text")

    noted = record_wanted(entry(), wanted, seen, INSTANCE)

    assert noted.metadata == {"description": wanted_metadata(wanted)["description"]}


def test_a_dimension_that_differs_keeps_what_was_in_step_before() -> None:
    """So that the next plan sees that someone else changed it."""
    wanted = desired(description="text")
    in_step = entry(metadata=wanted_metadata(wanted))

    assert record_wanted(in_step, wanted, observed(description="theirs"), INSTANCE).metadata == in_step.metadata


def test_a_dimension_that_is_no_longer_set_is_forgotten() -> None:
    in_step = entry(metadata=wanted_metadata(desired(description="text")))
    assert set(record_wanted(in_step, desired(), observed(), INSTANCE).metadata) == {"tags"}


def test_looking_again_changes_nothing() -> None:
    """Whatever is unchanged need not be stored."""
    noted = record_wanted(entry(), desired(), observed(), INSTANCE)
    assert record_wanted(noted, desired(), observed(), INSTANCE) is noted


@pytest.mark.parametrize("tags", [{}, owner_tags(INSTANCE, "another"), owner_tags("another", SYNC)])
def test_nothing_is_noted_of_an_object_that_is_not_ours(tags: dict[str, str]) -> None:
    unnoted = entry()
    assert record_wanted(unnoted, desired(description=""), observed(tags=tags), INSTANCE) is unnoted


def test_what_is_wanted_again_is_not_unwanted_any_more_unless_it_has_to_be_restored_first() -> None:
    """The day counts for who still read it, until the restore is settled."""
    gone = entry(unwanted_since=AGO)

    assert record_wanted(gone, desired(), observed(), INSTANCE).unwanted_since is None
    assert record_wanted(gone, desired(), None, INSTANCE).unwanted_since is None
    scheduled = entry(unwanted_since=AGO, deletion_at=LATER)
    assert record_wanted(scheduled, desired(), observed(deleted_at=NOW), INSTANCE).unwanted_since == AGO


def test_what_somebody_else_restored_is_not_on_its_way_out() -> None:
    noted = record_wanted(entry(deletion_at=LATER), desired(), observed(), INSTANCE)
    assert noted.deletion_at is None
    assert noted.written_before


def test_an_object_whose_deletion_we_asked_for_and_that_is_gone_is_made_anew() -> None:
    """One that someone else removed is drift: it stays known."""
    assert record_wanted(entry(deletion_at=LATER), desired(), None, INSTANCE) == forget_object(entry())
    removed_by_others = entry()
    assert record_wanted(removed_by_others, desired(), None, INSTANCE) is removed_by_others


# --- and of one that is not


def test_a_clock_that_is_set_back_does_not_prolong_the_grace() -> None:
    ahead = entry(unwanted_since=NOW + timedelta(days=365))
    assert record_unwanted(ahead, observed(), asked=True, now=NOW).unwanted_since == NOW


def test_the_grace_begins_when_it_is_first_found_unwanted() -> None:
    first = record_unwanted(entry(), observed(), asked=True, now=NOW)
    assert first.unwanted_since == NOW
    assert record_unwanted(first, observed(), asked=True, now=LATER) is first


def test_where_aws_was_not_asked_nothing_begins() -> None:
    untouched = entry()
    assert record_unwanted(untouched, None, asked=False, now=NOW) is untouched
    assert record_unwanted(untouched, observed(), asked=False, now=NOW) is untouched


def test_a_restore_by_somebody_else_begins_the_grace_anew() -> None:
    scheduled = entry(unwanted_since=AGO, deletion_at=LATER)

    assert record_unwanted(scheduled, observed(deleted_at=NOW), asked=True, now=NOW) is scheduled
    restored = record_unwanted(scheduled, observed(), asked=True, now=NOW)
    assert (restored.unwanted_since, restored.deletion_at) == (NOW, None)


def test_what_is_gone_is_forgotten_but_not_while_a_write_may_still_land() -> None:
    assert record_unwanted(entry(unwanted_since=AGO), None, asked=True, now=NOW) == forget_object(entry())
    creating = replace(new_entry(), intent=intent(action=Action.CREATE, generation=1))
    assert record_unwanted(creating, None, asked=True, now=NOW) is creating


# --- the end of an object, and of a restored database


def test_a_forgotten_object_leaves_its_place_and_its_generation() -> None:
    """Nothing of what was written is known any more, and no token comes twice."""
    forgotten = forget_object(entry(generation=7, unwanted_since=AGO, deletion_at=LATER, replicas_written=("x",)))

    assert forgotten == replace(new_entry(), id="j1", generation=7)
    assert forget_object(forgotten) == forgotten


@pytest.mark.parametrize(("settled", "open_one", "kept"), [(1, 2, 2), (1, 1, 1), (5, 2, 5)])
def test_the_generation_of_an_open_intent_counts_as_spent(settled: int, open_one: int, kept: int) -> None:
    forgotten = forget_object(entry(generation=settled, intent=intent(generation=open_one)))
    assert (forgotten.generation, forgotten.intent) == (kept, None)
    assert next_generation(forgotten) > open_one


@pytest.mark.parametrize(("settled", "open_one", "taken"), [(1, None, 2), (1, 2, 3), (5, 2, 6)])
def test_a_deletion_takes_a_generation_that_no_write_gets(settled: int, open_one: int | None, taken: int) -> None:
    """Also if a write was open then and is found to have landed afterwards."""
    before = entry(generation=settled, intent=None if open_one is None else intent(generation=open_one))

    deleted = intend_deletion(before, NOW)

    assert (deleted.generation, deleted.intent) == (taken, before.intent)
    if deleted.intent is not None:
        landed = settle_used_token(deleted, deleted.intent, arn=ARN)
        written = settle_write(deleted, payload(), arn=ARN, version_id=TOKEN)
        assert (landed.generation, written.generation) == (taken, taken)


def test_what_is_given_back_keeps_its_budget_since_aws_keeps_counting() -> None:
    known = entry(versions_at=(NOW,))
    given = release_object(known)
    assert given.versions_at == (NOW,)
    assert replace(given, versions_at=()) == forget_object(known)


def test_an_accepted_restore_moves_generations_past_what_may_be_spent() -> None:
    accepted = accept_restore(entry(generation=3), 1000)
    assert (accepted.generation, next_generation(accepted)) == (1003, 1004)
    assert accepted.fingerprint == entry().fingerprint, "what was written last is still what was written last"


def test_an_accepted_restore_does_not_know_what_became_of_an_open_write() -> None:
    accepted = accept_restore(entry(intent=intent(generation=9)), 1000)
    assert (accepted.generation, accepted.fingerprint, accepted.intent) == (1009, None, None)


def test_an_accepted_restore_drops_an_open_restore_and_knows_the_payload_still() -> None:
    restoring = intend_restore(entry(), TOKEN, NOW)
    accepted = accept_restore(restoring, 1000)
    assert (accepted.intent, accepted.fingerprint) == (None, entry().fingerprint)


@given(
    settled=st.integers(0, 10_000),
    ahead=st.integers(1, 1000),
    action=st.sampled_from([None, Action.CREATE, Action.PUT, Action.REKEY, Action.RESTORE]),
)
def test_no_generation_ever_comes_back(settled: int, ahead: int, action: Action | None) -> None:
    """Whichever end it takes, the next write has a later one than any that may be spent."""
    open_one = None if action is None else intent(action=action, generation=settled + (action in VALUE_WRITES))
    known = entry(generation=settled, intent=open_one)
    spent = open_one.generation if open_one is not None else settled
    assert next_generation(forget_object(known)) > spent
    assert next_generation(release_object(known)) > spent
    assert next_generation(accept_restore(known, ahead)) > spent + ahead


# --- the clock


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("back", [timedelta(minutes=30), timedelta(days=30), timedelta(days=3650)])
def test_what_a_clock_noted_that_was_set_back_since_is_as_of_now(back: timedelta) -> None:
    ahead = NOW + back
    known = entry(
        versions_at=(ahead - timedelta(minutes=20), ahead),
        enforced_at=(ahead,),
        touched_at=ahead,
        unwanted_since=ahead,
    )

    noted = clamp_to_clock(known, NOW)

    assert noted.versions_at == (NOW - timedelta(minutes=20), NOW)
    assert noted.enforced_at == (NOW,)
    assert (noted.touched_at, noted.unwanted_since) == (NOW, NOW)
    assert clamp_to_clock(noted, NOW) is noted


def test_what_is_not_ahead_stays_as_it_is() -> None:
    second = timedelta(seconds=1)
    known = entry(versions_at=(NOW - HOUR, NOW + second), touched_at=NOW + second, unwanted_since=NOW - HOUR)
    assert clamp_to_clock(known, NOW) is known
    assert clamp_to_clock(entry(), NOW) == entry()


def test_versions_of_the_right_time_stay_beside_one_of_a_clock_that_was_years_ahead() -> None:
    before = (NOW - 2 * HOUR, NOW - HOUR)
    assert clamp_to_clock(entry(versions_at=(*before, NOW + timedelta(days=3650))), NOW).versions_at == (*before, NOW)
