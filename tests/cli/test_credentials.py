"""`phasesync credentials`, typed in."""

from __future__ import annotations

import pytest

from tests.cli.conftest import CommandLine


@pytest.mark.parametrize("wrong", ["AKIA...", "AKIA SHORT", "x" * 129])
def test_a_mistyped_access_key_id_is_refused_and_not_repeated(phasesync: CommandLine, wrong: str) -> None:
    """It may be the secret key, in the wrong place."""
    given = ("--type", "access-key", "--region", "eu-west-1", "--access-key-id", wrong)
    refused = phasesync("credentials", "add", "keys", *given, stdin="secret")
    assert refused.exit_code == 2
    assert "that is not an access key id" in refused.stderr
    assert wrong not in refused.stderr
    assert phasesync.items("credentials", "list") == []


def test_a_key_that_is_not_given_is_asked_for_by_name(phasesync: CommandLine) -> None:
    """The hint is the option that is missing."""
    refused = phasesync("credentials", "add", "keys", "--type", "access-key", "--region", "eu-west-1")
    assert refused.exit_code == 2
    assert "hint: add --access-key-id ID" in refused.stderr
