"""Names of AWS secrets: what is wrong with one."""

from __future__ import annotations

import pytest

from phasesync.adapters.aws_secrets_manager.limits import validate_name
from phasesync.adapters.destinations import REGISTRY, spec_of
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


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_registered_kind_ends_in_its_spec(kind: str):
    spec = spec_of(kind)
    assert spec.kind == kind
    assert spec.actions["sync"]
