"""What an edit of a folder changes and loses, and where it collides with another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.folder_changes import changes_between, losses_to_confirm, merge
from phasesync.core.model import SecretValue
from phasesync.core.secret_json import FileEntry

folders = st.dictionaries(st.sampled_from("ABCD"), st.sampled_from(["", "1", "2"]), max_size=4)


def entries(values: dict[str, str]) -> dict[str, FileEntry]:
    return {key: FileEntry(value=SecretValue(value), comment="") for key, value in values.items()}


def test_changes_are_named_by_key() -> None:
    found = changes_between(entries({"A": "1", "B": "1", "C": "1"}), entries({"A": "1", "B": "2", "D": "1"}))
    assert (found.added, found.changed, found.removed, found.unchanged) == (("D",), ("B",), ("C",), 1)
    assert not changes_between(entries({"A": "1"}), entries({"A": "1"}))


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ({"A": "1", "B": "1", "C": "1", "D": "1"}, {"A": "1", "B": "1"}, ()),
        ({"A": "1", "B": "1", "C": "1", "D": "1"}, {"A": "1"}, ("B", "C", "D")),
        ({"A": "1", "B": "1", "C": "1"}, {"A": "1", "B": "", "N": "1"}, ("B", "C")),
        ({"A": "1", "B": "1"}, {"A": "1"}, ()),
        ({"A": "1"}, {}, ("A",)),
        ({"A": ""}, {}, ()),
        ({}, {}, ()),
    ],
)
def test_losing_more_than_half_or_all_has_to_be_confirmed(
    before: dict[str, str], after: dict[str, str], lost: tuple[str, ...]
) -> None:
    assert losses_to_confirm(entries(before), entries(after)) == lost


@given(folders, folders, folders)
def test_two_edits_are_both_kept_unless_they_change_one_key_in_two_ways(
    before: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    merged = merge(entries(before), entries(ours), entries(theirs))
    result = {key: entry.value.reveal_text() for key, entry in merged.entries.items()}
    for key in "ABCD":
        was, our, their = before.get(key), ours.get(key), theirs.get(key)
        assert (key in merged.conflicts) == (len({was, our, their}) == 3)
        assert result.get(key) == (their if our == was else our)
