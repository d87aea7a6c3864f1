"""The keys of leases are found nowhere but where they were shown; tables are searched in tests/store/."""

from __future__ import annotations

import json
import sys

import pytest

from phasesync.demo.canary import find, find_in_tree
from phasesync.emulator import Answer, Operation
from tests.support.aws import Aws
from tests.support.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_no_key_of_a_lease_leaks(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.configure(log__level="debug")
    installation.add_dynamic()
    daemon = installation.start_daemon()
    handed_out = [
        installation.json("leases", "issue", "ci", "--no-probe"),
        installation.json("leases", "issue", "ci", "--keep"),
    ]
    secrets = [one["credentials"]["AWS_SECRET_ACCESS_KEY"] for one in handed_out]
    key_ids = [one["credentials"]["AWS_ACCESS_KEY_ID"] for one in handed_out]
    first, second = (one["id"] for one in handed_out)

    # A removal that AWS refuses with a text that repeats the key, at the command and at the daemon.
    refusal = Answer("AccessDenied", f"not allowed for {secrets[0]}", status=403)
    aws.server.fail("DeleteAccessKey", refusal, times=2)
    outputs = [installation.run("leases", "revoke", first)]
    installation.ends_in(second, seconds=0)
    daemon.wait_for_line("lease not taken back", error="PermissionDeniedError")

    # The answer was lost after AWS had made the key of this lease.
    made: list[str] = []

    def spoil(operation: Operation) -> Answer:
        user = operation.form["UserName"]
        made.extend(key["AccessKeyId"] for key in aws.boto("iam").list_access_keys(UserName=user)["AccessKeyMetadata"])
        return Answer("ServiceFailure", f"it broke: {secrets[1]}", status=500)

    aws.server.do("CreateAccessKey", spoil, when="after", times=9)
    outputs.append(installation.run("leases", "issue", "ci"))
    assert [one.exit_code for one in outputs] == [7, 1]
    assert made, "otherwise there is nothing to find"
    installation.in_process = False
    code = "import os; raise SystemExit(len(os.environ['AWS_SECRET_ACCESS_KEY']) != 40)"
    outputs.append(
        installation.done("run", "--env", "shop/production", "--dynamic", "ci", "--", sys.executable, "-c", code)
    )
    installation.in_process = True
    outputs += [
        installation.done("leases", "list", "--all", "-o", "json"),
        installation.done("leases", "show", first, "-o", "json"),
        installation.done("leases", "show", second),
        installation.done("status", "-o", "json"),
        installation.done("dynamic", "show", "ci"),
        installation.done("leases", "reap", "--yes"),
    ]
    assert json.loads(outputs[4].stdout)["log"], "a lease has a log"

    everything = [*secrets, *key_ids, *made]
    for moment in ("at work", "stopped"):
        assert find_in_tree(installation.folder, everything) == [], moment
        if not daemon.ended:
            assert daemon.stop() == 0
    for number, one in enumerate(outputs):
        assert find(one.stdout + one.stderr, everything, where=f"command {number}") == []
    arrived = b"".join(one.body for one in aws.server.operations)
    assert find(arrived, key_ids) != [], "the search works"
