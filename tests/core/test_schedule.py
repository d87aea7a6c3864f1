"""When a sync runs next."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.run import Outcome
from phasesync.core.schedule import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SLOW_PAUSE,
    after_error,
    after_success,
    backoff,
    pause_of_lease,
)
from phasesync.errors import (
    AccountMismatchError,
    CiphertextError,
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    InterruptedRunError,
    OwnershipConflictError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PhasesyncError,
    PlanHeldError,
    SchemaMismatchError,
    SettingsError,
    ThrottledError,
    UnresolvedReferenceError,
)

INTERVAL = timedelta(minutes=5)
COALESCE = timedelta(milliseconds=500)
chance = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(failures=st.integers(min_value=1, max_value=100_000), spread=chance)
def test_pauses_grow_within_their_bounds(failures: int, spread: float) -> None:
    """Two seconds to ten minutes, however long it goes on."""
    assert FIRST_PAUSE <= backoff(failures, spread) <= LONGEST_PAUSE


@given(failures=st.integers(min_value=1, max_value=1000), spread=chance)
def test_a_later_failure_never_waits_less(failures: int, spread: float) -> None:
    """At equal chance."""
    assert backoff(failures, spread) <= backoff(failures + 1, spread)


@given(spread=chance)
def test_checks_are_spread_around_the_interval(spread: float) -> None:
    """So that syncs added together do not stay together."""
    due_in = after_success(Outcome.UNCHANGED, interval=INTERVAL, coalesce=COALESCE, spread=spread).due_in

    assert due_in is not None
    assert abs(due_in - INTERVAL) <= INTERVAL / 20


def test_only_a_write_lets_the_next_edits_gather() -> None:
    """The first edit after a quiet time goes out at once."""
    applied = after_success(Outcome.APPLIED, interval=INTERVAL, coalesce=COALESCE, spread=0)
    unchanged = after_success(Outcome.UNCHANGED, interval=INTERVAL, coalesce=COALESCE, spread=0)

    assert (applied.retry_in, unchanged.retry_in) == (COALESCE, None)


@pytest.mark.parametrize(
    ("error", "retry_in", "due_in"),
    [
        (CredentialRejectedError(), FIRST_PAUSE, FIRST_PAUSE),
        (CredentialRejectedError(code="ExpiredToken"), FIRST_PAUSE, FIRST_PAUSE),
        (CredentialRejectedError(code="RequestTimeTooSkewed"), FIRST_PAUSE, FIRST_PAUSE),
        (CredentialRejectedError(code="InvalidClientTokenId"), SLOW_PAUSE, SLOW_PAUSE),
        (DestinationRejectedError(code="BrandNewException"), None, SLOW_PAUSE),
        (AccountMismatchError(), None, SLOW_PAUSE),
        (SettingsError(), None, SLOW_PAUSE),
        (SchemaMismatchError(), None, SLOW_PAUSE),
        (PayloadTooLargeError(size_bytes=2, limit_bytes=1, largest=()), None, None),
        (PermissionDeniedError(), SLOW_PAUSE, SLOW_PAUSE),
        (CiphertextError(), SLOW_PAUSE, SLOW_PAUSE),
        (UnresolvedReferenceError(), None, SLOW_PAUSE),
        (OwnershipConflictError(), None, SLOW_PAUSE),
        (InterruptedRunError(), None, None),
        (PlanHeldError(digest="0" * 16), None, INTERVAL),
        (DestinationUnavailableError(), FIRST_PAUSE, FIRST_PAUSE),
        (ThrottledError(retry_after=timedelta(seconds=30)), timedelta(seconds=30), timedelta(seconds=30)),
    ],
)
def test_what_follows_an_error(error: PhasesyncError, retry_in: timedelta | None, due_in: timedelta | None) -> None:
    """Retried, retried slowly, or left to a person."""
    following = after_error(error, failures=1, interval=INTERVAL, spread=0.0)

    assert (following.retry_in, following.due_in) == (retry_in, due_in)


# --- leases


@given(failures=st.integers(min_value=1, max_value=100_000), spread=chance)
def test_a_lease_is_always_tried_again_within_ten_minutes(failures: int, spread: float) -> None:
    """Whatever went wrong, and however often: it is someone's key that is still good."""
    errors = (CredentialRejectedError(), PermissionDeniedError(), CiphertextError(), DestinationUnavailableError())
    pauses = {pause_of_lease(error, failures=failures, spread=spread) for error in (*errors, ThrottledError())}

    assert pauses == {backoff(failures, spread)}
    assert FIRST_PAUSE <= min(pauses) <= LONGEST_PAUSE


@given(failures=st.integers(min_value=1, max_value=1000), spread=chance)
def test_the_pauses_of_a_lease_grow(failures: int, spread: float) -> None:
    error = PermissionDeniedError()

    first = pause_of_lease(error, failures=failures, spread=spread)
    assert first <= pause_of_lease(error, failures=failures + 1, spread=spread)
    assert pause_of_lease(error, failures=20, spread=0.999) > LONGEST_PAUSE * 0.99


@given(seconds=st.integers(min_value=0, max_value=3600), failures=st.integers(1, 100), spread=chance)
def test_a_pause_that_aws_asks_for_is_heeded_and_our_own_where_it_is_longer(
    seconds: int, failures: int, spread: float
) -> None:
    asked = timedelta(seconds=seconds)

    pause = pause_of_lease(ThrottledError(retry_after=asked), failures=failures, spread=spread)

    assert pause == max(asked, backoff(failures, spread))
