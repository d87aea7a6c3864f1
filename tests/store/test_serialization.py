"""Dataclasses to JSON and back."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.model import SecretValue
from phasesync.core.remote import Intent, JournalEntry
from phasesync.core.sync import SyncConfig
from phasesync.store.serialization import from_json, to_json
from tests.support.values import NOW, entry


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Inner:
    at: datetime | None
    colour: Colour = Colour.RED


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: tuple[Inner, ...]
    pause: timedelta
    by_name: dict[str, Inner] = field(default_factory=dict)
    later: int = 7


instants = st.datetimes(timezones=st.just(UTC))
inners = st.builds(Inner, at=st.none() | instants, colour=st.sampled_from(Colour))
outers = st.builds(
    Outer,
    inner=st.lists(inners, max_size=3).map(tuple),
    pause=st.timedeltas(),
    by_name=st.dictionaries(st.text(max_size=5), inners, max_size=3),
    later=st.integers(),
)


@given(outers)
def test_what_goes_in_comes_out(value):
    assert from_json(Outer, to_json(value)) == value


@given(outers)
def test_the_same_value_has_one_text(value):
    assert to_json(from_json(Outer, to_json(value))) == to_json(value)


def test_a_text_without_a_newer_field_gives_its_default():
    assert from_json(Outer, '{"inner": [], "pause": 5, "gone": 1}') == Outer(inner=(), pause=timedelta(microseconds=5))


def test_a_secret_value_has_no_plain_form():
    with pytest.raises(TypeError, match="SecretValue has no plain form"):
        to_json({"a": [SecretValue("x")]})
    with pytest.raises(TypeError):
        to_json(1.5)


def test_the_cores_own_values_come_back(subtests):
    intent = Intent(action="put", generation=2, token="t", fingerprint=None, payloads=1, made_at=NOW)  # type: ignore[arg-type]
    for value in (SyncConfig(remote_name="x", tags={"a": "b"}), entry(former_tags={"a": "b"}, intent=intent)):
        with subtests.test(type(value).__name__):
            assert from_json(SyncConfig if isinstance(value, SyncConfig) else JournalEntry, to_json(value)) == value


def test_configurations_of_former_releases_have_no_windows() -> None:
    """The MAC covers the text as it is stored."""
    former = to_json(SyncConfig(remote_name="web")).replace(',"windows":[]', "")

    assert "windows" not in former
    assert from_json(SyncConfig, former) == SyncConfig(remote_name="web")
