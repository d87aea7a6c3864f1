"""Names of AWS secrets: what is wrong with one, and what is only unwise."""

from __future__ import annotations

import pytest

from phasesync.adapters.destinations import REGISTRY, spec_of
from phasesync.adapters.destinations.secret_names import validate_name, warn_of_name
from phasesync.errors import InvalidInputError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "512"),
        ("a" * 513, "513"),
        ("rds!cluster", "manages"),
        ("with space", "' '"),
        ("größe:1", "':', 'ß', 'ö'"),
        ("line\n", "\\\\n"),
    ],
)
def test_says_what_is_wrong(name: str, said: str):
    with pytest.raises(InvalidInputError, match=said):
        validate_name(name)


def test_takes_the_whole_alphabet_of_aws():
    validate_name("azAZ09/_+=.@-")


@pytest.mark.parametrize(
    ("name", "lines"), [("shop-abc123", 1), ("shop-ABCDEF", 1), ("shop", 0), ("shop-abc12", 0), ("shop-abc-12", 0)]
)
def test_warns_of_names_that_look_like_the_end_of_an_arn(name: str, lines: int):
    validate_name(name)
    assert len(warn_of_name(name)) == lines


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_registered_kind_ends_in_its_spec(kind: str):
    spec = spec_of(kind)
    assert spec.kind == kind
    assert spec.payload_limit_bytes == 65_536
    assert spec.actions["sync"]
