"""Many command lines at once that want a kept lease, as AWS's command line starts `credential_process`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.aws import Aws
from tests.support.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ASKING = 5
"""More than there are processors: some wait for the database, some for the lease."""


def test_processes_that_ask_at_once_get_one_lease(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.add_dynamic("ci", "--max-leases", "2")
    command = ("leases", "issue", "ci", "--keep", "--format", "credential-process")

    installation.in_process = False
    with ThreadPoolExecutor(ASKING) as waiting:
        said = list(waiting.map(lambda _: installation.run(*command), range(ASKING)))

    assert [one.exit_code for one in said] == [0] * ASKING, said
    keys = {json.loads(one.stdout)["AccessKeyId"] for one in said}
    users = aws.boto("iam").list_users(PathPrefix="/phasesync/")["Users"]
    assert (len(keys), len(users), aws.server.count("CreateUser")) == (1, 1, 1)
