"""Lists of names, sweeps, and reading for an import."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.core.model import SecretValue
from phasesync.core.remote import TAG_INSTANCE
from phasesync.errors import DestinationRejectedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import (
    ELSEWHERE,
    NAME,
    OURS,
    World,
    create,
    open_in,
    put,
)
from tests.support.aws_builders import INSTANCE, token


def test_lists_what_is_ours_and_what_is_not_and_what_is_going(destination: Destination, world: World):
    create(destination, name="ours", description="of ours")
    world.outside_create("theirs", "x")
    create(destination, name="going")
    world.outside_delete("going")
    listed = {entry.name: entry for entry in destination.list_names()}
    assert {name: entry.ours for name, entry in listed.items()} == {"ours": True, "theirs": False, "going": True}
    assert {name for name, entry in listed.items() if entry.deleted_at} == {"going"}
    assert listed["ours"].description == "of ours"


def test_lists_more_than_one_page(destination: Destination, world: World):
    names = {f"name-{number:03}" for number in range(103)}
    for name in names:
        world.outside_create(name, "x")
    assert {entry.name for entry in destination.list_names()} == names


def test_lists_no_more_than_asked_for(destination: Destination, world: World):
    for number in range(5):
        world.outside_create(f"name-{number}", "x")
    assert len(destination.list_names(limit=3)) == 3
    assert destination.list_names(limit=0) == []


@pytest.mark.reads_values("port")
def test_reads_a_value_for_an_import(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    assert destination.read_value(NAME) == SecretValue("theirs")


@pytest.mark.reads_values("port")
def test_reads_none_where_nothing_is(destination: Destination):
    assert destination.read_value(NAME) is None


@pytest.mark.reads_values("port")
def test_does_not_read_what_is_going(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    world.outside_delete(NAME)
    with pytest.raises(DestinationRejectedError):
        destination.read_value(NAME)


# --- sweeping


def swept(destination: Destination, instance_id: str | None = INSTANCE) -> set[str]:
    """Names that a sweep yields."""
    return {seen.name for seen in destination.sweep(instance_id)}


def test_sweeps_what_carries_our_instance_and_nothing_else(destination: Destination, world: World):
    create(destination, name="ours")
    world.outside_create("bare", "x")
    world.outside_create("another", "x", tags={TAG_INSTANCE: "another-instance"})
    world.outside_create("value-elsewhere", "x", tags={"team": INSTANCE, TAG_INSTANCE: "another-instance"})
    world.outside_create("longer", "x", tags={TAG_INSTANCE: INSTANCE + "0", f"{TAG_INSTANCE}-old": INSTANCE})
    assert swept(destination) == {"ours"}
    assert swept(destination, "another-instance") == {"another", "value-elsewhere"}
    assert swept(destination, None) == {"ours", "another", "value-elsewhere", "longer"}
    assert swept(destination, "nobody") == set()


def test_a_sweep_tells_what_looking_tells(destination: Destination, world: World):
    arn = create(destination, description="ours", kms_key=world.key()).arn
    put(destination, arn, "two", 2)
    world.outside_describe(NAME, "theirs")
    (seen,) = destination.sweep(INSTANCE)
    assert seen == destination.observe(NAME)
    assert (seen.current_version, seen.description, seen.tags) == (token(2), "theirs", OURS)


def test_a_sweep_tells_what_is_going(destination: Destination, world: World):
    create(destination)
    world.outside_delete(NAME)
    (seen,) = destination.sweep(INSTANCE)
    assert seen.deleted_at is not None


def test_a_sweep_tells_a_copy_as_a_copy_and_nothing_of_copies(destination: Destination, world: World):
    arn = create(destination).arn
    destination.replicate(arn, {ELSEWHERE: "default"})
    world.settle_replication()
    (primary,), (copied,) = destination.sweep(INSTANCE), open_in(world, ELSEWHERE).sweep(INSTANCE)
    assert copied.primary_region is not None
    assert copied.primary_region != ELSEWHERE
    assert copied.replicas == {}
    assert primary.arn == arn


def test_a_sweep_makes_a_call_for_each_hundred(destination: Destination, world: World):
    for number in range(101):
        world.outside_create(f"name-{number:03}", "x", tags=OURS)
    calls = destination.calls
    assert len(swept(destination)) == 101
    assert destination.calls == calls + 2


def test_a_sweep_reads_no_further_than_it_is_asked(destination: Destination, world: World):
    for number in range(101):
        world.outside_create(f"name-{number:03}", "x", tags=OURS)
    calls = destination.calls
    assert next(iter(destination.sweep(INSTANCE))).tags == OURS
    assert destination.calls == calls + 1


def test_a_sweep_lags_and_looking_does_not(destination: Destination, world: World):
    world.let_lists_lag(timedelta(minutes=5))
    create(destination)
    assert swept(destination) == set()
    assert destination.observe(NAME) is not None
    world.pass_time(timedelta(minutes=5, seconds=1))
    assert swept(destination) == {NAME}
    world.outside_describe(NAME, "theirs")
    (seen,) = destination.sweep(INSTANCE)
    assert seen.description == ""
    world.pass_time(timedelta(minutes=5, seconds=1))
    (seen,) = destination.sweep(INSTANCE)
    assert seen.description == "theirs"


def test_what_is_gone_stays_in_a_list_for_a_while(destination: Destination, world: World):
    world.let_lists_lag(timedelta(minutes=5))
    create(destination)
    world.pass_time(timedelta(minutes=6))
    world.outside_delete(NAME, for_good=True)
    assert swept(destination) == {NAME}
    world.pass_time(timedelta(minutes=6))
    assert swept(destination) == set()


# --- newest first


def newest(destination: Destination) -> list[str]:
    """Names that a list of changes yields, in its order."""
    return [seen.name for page in destination.sweep_newest(INSTANCE) for seen in page.entries]


def make(destination: Destination, world: World, *names: str) -> None:
    """Make objects a minute after each other."""
    for name in names:
        create(destination, name=name)
        world.pass_time(timedelta(minutes=1))


def test_what_changed_last_comes_first(destination: Destination, world: World):
    make(destination, world, "a", "b", "c")
    world.outside_create("theirs", "x")
    assert newest(destination) == ["c", "b", "a"]
    world.outside_describe("a", "theirs")
    world.pass_time(timedelta(minutes=1))
    world.outside_delete("b")
    assert newest(destination) == ["b", "a", "c"]


def test_reading_is_no_change(destination: Destination, world: World):
    make(destination, world, "a", "b")
    world.outside_read("a")
    destination.observe("a")
    assert newest(destination) == ["b", "a"]


def test_every_entry_tells_when_it_changed_and_what_looking_tells(destination: Destination, world: World):
    make(destination, world, "a", "b")
    (page,) = destination.sweep_newest(INSTANCE)
    first, second = page.entries
    assert page.answered_at is not None
    assert abs(page.answered_at - world.now()) < timedelta(minutes=5)
    assert first.last_changed_at is not None
    assert second.last_changed_at is not None
    assert first.last_changed_at > second.last_changed_at
    assert first == destination.observe("b")


def test_a_list_of_changes_lags_in_its_order_too(destination: Destination, world: World):
    make(destination, world, "a", "b")
    world.pass_time(timedelta(minutes=6))
    world.let_lists_lag(timedelta(minutes=5))
    world.outside_describe("a", "theirs")
    assert newest(destination) in (["b", "a"], []), "the lag began after they were made"
    world.pass_time(timedelta(minutes=5, seconds=1))
    assert newest(destination)[0] == "a"


def test_a_list_of_changes_makes_a_call_for_each_page_that_is_read(destination: Destination, world: World):
    for number in range(101):
        world.outside_create(f"name-{number:03}", "x", tags=OURS)
    calls = destination.calls
    pages = destination.sweep_newest(INSTANCE)
    assert len(next(pages).entries) == 100
    assert destination.calls == calls + 1
    assert [len(page.entries) for page in pages] == [1]
    assert destination.calls == calls + 2


def test_where_no_order_is_known_it_is_refused(destination: Destination, world: World):
    make(destination, world, "a", "b")
    world.let_lists_be_sorted("refused")
    with pytest.raises(DestinationRejectedError):
        newest(destination)
    assert swept(destination) == {"a", "b"}


def test_where_the_order_is_ignored_another_one_comes(destination: Destination, world: World):
    make(destination, world, "a", "b")
    world.let_lists_be_sorted("ignored")
    assert newest(destination) == ["a", "b"]
