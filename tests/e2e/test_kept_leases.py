"""Many command lines at once that want a kept lease, as AWS's command line starts `credential_process`."""

from __future__ import annotations

import json

import pytest

from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ASKING = 5
"""More than there are processors: some wait for the database, some for the lease."""


def test_processes_that_ask_at_once_get_one_lease(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.add_dynamic("ci", "--max-leases", "2")
    command = ("leases", "issue", "ci", "--keep", "--format", "credential-process")

    processes = [installation.popen(*command) for _ in range(ASKING)]
    said = [process.communicate(timeout=HANG_GUARD_S) for process in processes]

    assert [process.returncode for process in processes] == [0] * ASKING, said
    keys = {json.loads(stdout)["AccessKeyId"] for stdout, _ in said}
    users = aws.boto("iam").list_users(PathPrefix="/phasesync/")["Users"]
    assert (len(keys), len(users), aws.server.count("CreateUser")) == (1, 1, 1)
