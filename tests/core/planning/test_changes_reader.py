"""Which part of a list that comes newest first is taken, and where the next one ends."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.planning.listing_check import BEGINNING, LAG, ChangesReader, UnorderedListError, next_since
from phasesync.core.remote import ChangesPage
from tests.support.values import NOW, observed

seconds = st.integers(0, 2000)


def page(*ages_s: int | None, answered_at: datetime | None = NOW) -> ChangesPage:
    """A page with entries that were changed so many seconds ago."""
    return ChangesPage(
        entries=tuple(
            observed(name=str(age), last_changed_at=None if age is None else NOW - timedelta(seconds=age))
            for age in ages_s
        ),
        answered_at=answered_at,
    )


def ago(age_s: int) -> datetime:
    return NOW - timedelta(seconds=age_s)


def test_what_is_as_old_as_the_end_is_taken_and_what_is_older_ends_the_list() -> None:
    reader = ChangesReader(ago(20))
    taken, ended = [], []
    for part in (page(5, 20, 20), page(20, 21, 30)):
        taken.append([entry.name for entry in reader.take(part)])
        ended.append(reader.done)
    assert taken == [["5", "20", "20"], ["20"]]
    assert ended == [False, True]
    assert (reader.newest, reader.answered_at) == (ago(5), NOW)


def test_without_an_end_only_the_newest_is_learnt() -> None:
    reader = ChangesReader(None)
    ended = []
    for part in (page(), page(5, 7)):
        assert reader.take(part) == []
        ended.append(reader.done)
    assert ended == [False, True]
    assert reader.newest == ago(5)


@pytest.mark.parametrize("ages", [(5, 4), (5, 5, 4), (9, 8, 8, 7)])
def test_a_first_page_in_another_order_is_refused(ages: tuple[int, ...]) -> None:
    with pytest.raises(UnorderedListError, match="unordered"):
        ChangesReader(BEGINNING).take(page(*ages))


def test_an_entry_without_a_date_is_refused() -> None:
    with pytest.raises(UnorderedListError, match="undated"):
        ChangesReader(BEGINNING).take(page(5, None))


def test_on_a_later_page_only_what_changed_after_the_first_one_may_be_newer() -> None:
    reader = ChangesReader(BEGINNING)
    reader.take(page(10, 20))
    assert [taken.name for taken in reader.take(page(25, 5, 30))] == ["25", "5", "30"]
    with pytest.raises(UnorderedListError, match="unordered"):
        reader.take(page(29))


@given(st.lists(seconds, max_size=30), seconds, st.integers(1, 7))
def test_exactly_what_changed_since_is_taken(ages: list[int], since: int, size: int) -> None:
    ordered = sorted(ages)
    reader, taken = ChangesReader(ago(since)), []
    for start in range(0, len(ordered), size):
        taken += [int(entry.name) for entry in reader.take(page(*ordered[start : start + size]))]
        if reader.done:
            break
    assert taken == [age for age in ordered if age <= since]


@given(
    former=st.none() | seconds.map(ago),
    newest=st.none() | seconds.map(ago),
    listed_at=st.none() | seconds.map(ago),
    unsettled=st.none() | seconds.map(ago),
)
def test_nothing_that_a_list_need_not_show_yet_is_passed_over(
    former: datetime | None, newest: datetime | None, listed_at: datetime | None, unsettled: datetime | None
) -> None:
    since = next_since(former, newest=newest, listed_at=listed_at, unsettled=unsettled)

    made_at = max(at for at in (newest, listed_at, BEGINNING) if at is not None)
    assert since <= max(made_at - LAG, former or BEGINNING)
    assert unsettled is None or since <= unsettled
    if unsettled is None:
        assert since >= (former or BEGINNING)
