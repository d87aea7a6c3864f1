"""Where backups go, what they are called, and which of them are no longer needed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.backup_schedule import (
    Bucket,
    Folder,
    backup_name,
    check_every,
    check_keep,
    made_at_of,
    parse_place,
    superfluous,
)
from phasesync.errors import InvalidInputError

INSTANCE = "0123456789abcdef0123456789abcdef"
AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
END = ".manifest.json"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/var/backups/", Folder(path="/var/backups")),
        ("/", Folder(path="/")),
        ("//var/./backups//x/", Folder(path="/var/backups/x")),
        ("s3://acme-backups", Bucket(name="acme-backups", prefix="")),
        ("s3://acme.backups/a/b/", Bucket(name="acme.backups", prefix="a/b")),
    ],
)
def test_a_place_is_a_folder_or_a_prefix(text: str, place: object) -> None:
    assert parse_place(text) == place
    assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        *("backups", "", "~/backups", "/a\0b", "/a/../b", "https://x/y"),
        *("s3://A", "s3://a..b/x", "s3://bucket/a//b", "s3://bucket/ä"),
    ],
)
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_place(text)


@pytest.mark.parametrize("every", [timedelta(minutes=4), timedelta(days=32)])
def test_backups_are_not_made_all_the_time_and_not_never(every: timedelta) -> None:
    with pytest.raises(InvalidInputError):
        check_every(every)


@pytest.mark.parametrize("keep", [0, -1, 10_001])
def test_at_least_one_is_kept(keep: int) -> None:
    with pytest.raises(InvalidInputError):
        check_keep(keep)


@given(st.integers(0, 200 * 366 * 86_400))
def test_a_name_says_when_and_of_which_installation(seconds: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    name = backup_name(INSTANCE, at)
    assert made_at_of(name, INSTANCE) == at
    assert made_at_of(name, "f" * 32) is None


@pytest.mark.parametrize(
    "name",
    [
        *("phasesync-0123456789ab-.db", "phasesync-0123456789ab-20300132T000000Z.db", "phasesync.db", "x", "", "a.txt"),
        *("phasesync-0123456789ab-20300102T030405Z.db.manifest.json", "phasesync-0123456789ab-2030012T030405Z.db"),
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert made_at_of(name, INSTANCE) is None


def names(*days: int) -> list[str]:
    return [backup_name(INSTANCE, AT + timedelta(days=day)) for day in days]


def complete(*days: int) -> list[str]:
    return [each for name in names(*days) for each in (name, name + END)]


def old(present: list[str], keep: int, *, newest: int = 60, forged: Collection[str] = ()) -> list[str]:
    return superfluous(
        present,
        instance_id=INSTANCE,
        newest=names(newest)[0],
        keep=keep,
        suffix=END,
        is_proven=lambda name: name not in forged,
    )


def test_the_newest_are_kept() -> None:
    assert old(complete(0, 1, 2, 3), keep=2) == names(0, 1)
    assert old(complete(0, 1), keep=2) == []


def test_what_is_not_complete_does_not_count_and_goes_once_enough_is_newer() -> None:
    interrupted = [names(1)[0] + END, *names(4)]
    assert old([*complete(0, 2, 3), *interrupted], keep=2) == names(0, 1)
    assert old([*complete(2), names(1)[0] + END], keep=2) == names(1), "older than all that is complete"
    assert old(interrupted, keep=1) == [], "without a complete one, nothing goes"


DAYS = st.sets(st.integers(0, 60))


@given(DAYS, DAYS, DAYS, DAYS, st.integers(0, 60), st.integers(1, 5))
def test_enough_proven_ones_are_always_left_and_nothing_of_others_goes(
    whole: set[int], files: set[int], manifests: set[int], forged: set[int], newest: int, keep: int
) -> None:
    theirs = ["notes.txt", "phasesync.db", backup_name("f" * 32, AT), backup_name("f" * 32, AT) + END]
    present = {*complete(*whole), *names(*files), *(name + END for name in names(*manifests)), *theirs}
    made = names(newest)[0]
    false = set(names(*forged)) - {made}
    are_whole = {
        name for name in present - false if name + END in present and made_at_of(name, INSTANCE) and name <= made
    }
    removed = set(old(sorted(present), keep, newest=newest, forged=false))

    left = are_whole - removed
    assert len(left) == min(keep, len(are_whole))
    assert all(name > max(removed & are_whole) for name in left) if removed & are_whole else True
    assert not removed & set(theirs)
    assert not {name for name in removed if left and name > max(left)}, "what is being made is left alone"
    assert all(name < made for name in removed), "later names are left alone, and what was just made"
