"""`phasesync leases issue` where nobody gets what it prints: a key that nobody has seen does not stay valid."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import CommandLine, users
from tests.support.aws import Aws

ISSUE = ("leases", "issue", "ci", "--no-probe")


def issue_to_nobody(*options: str, how: str) -> subprocess.CompletedProcess[bytes]:
    """Issue a lease with a stdout that takes nothing."""
    if how == "full":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    command = [sys.executable, "-m", "phasesync", *ISSUE, *options]
    try:
        return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(stdout)


@pytest.mark.parametrize("how", ["full", "broken pipe"])
def test_a_lease_that_could_not_be_printed_is_revoked(ci: CommandLine, aws: Aws, how: str) -> None:
    lost = issue_to_nobody(how=how)

    (lease,) = ci.items("leases", "list", "--all")
    assert (lost.returncode, lease["status"], users(aws)) == (1, "revoked", set()), lost.stderr
    assert f"revoked the lease {lease['id']}".encode() in lost.stderr


def test_a_kept_lease_that_others_have_is_not_revoked(ci: CommandLine, aws: Aws) -> None:
    ci.done(*ISSUE, "--keep")

    lost = issue_to_nobody("--keep", how="full")

    (lease,) = ci.items("leases", "list", "--all")
    assert (lost.returncode, lease["status"], len(users(aws))) == (1, "active", 1), lost.stderr


def test_keys_that_a_format_cannot_have_are_refused_before_anything_is_issued(ci: CommandLine) -> None:
    ci.done("dynamic", "update", "ci", "--key-map", "access_key_id=A=B")

    refused = ci(*ISSUE, "--format", "dotenv")

    assert refused.exit_code == 2
    assert "phasesync dynamic update ci --key-map access_key_id=NAME" in refused.stderr
    assert ci.items("leases", "list", "--all") == []
    assert "A=B" in ci.json(*ISSUE)["credentials"], "JSON can have them"


def test_what_fails_after_the_issue_takes_the_lease_back(
    ci: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("phasesync.cli.leases.show_issued", interrupted)

    assert ci(*ISSUE).exit_code == 130
    assert users(aws) == set()
