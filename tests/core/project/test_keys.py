"""Names of keys in documents, with their folders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasesync.core.project.fields import key_text, key_with_folder

keys = st.text("ab/\\\\ .", min_size=1, max_size=8)
folders = st.sampled_from(["/", "/db", "/db/a"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("KEY", ("/", "KEY")),
        ("/db/KEY", ("/db", "KEY")),
        ("/db/a/KEY", ("/db/a", "KEY")),
        ("/KEY", ("/", "KEY")),
        ("/db/a\\/b", ("/db", "a/b")),
        ("/\\/db\\/KEY", ("/", "/db/KEY")),
    ],
)
def test_a_key_is_read_with_its_folder(text: str, named: tuple[str, str]) -> None:
    assert key_with_folder(text) == named


@given(folder=folders, key=keys)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_no_two_keys_are_written_alike(folder: str, key: str) -> None:
    assert key_with_folder(key_text(folder, key)) == (folder, key)
