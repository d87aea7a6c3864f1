"""A daemon whose own identity hangs: everything else goes on, and nothing is left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.installation import REGION, Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def processes_of(folder: Path) -> list[str]:
    """Return the processes that name a folder in their arguments."""
    shown = subprocess.run(["ps", "-ww", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if f"{folder}/helper" in line]


# What hangs has nothing to do with the database.
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_credential_process_that_hangs_stops_one_sync_and_ends_with_the_daemon(
    installation: Installation, aws: Aws, tmp_path: Path
) -> None:
    installation.add_syncs("web")
    with_environment = ("--env", "shop/web", "--credential", "host", "--secret-name", "hanging")
    installation.in_process = True
    installation.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)
    installation.done("syncs", "add", "hanging", *with_environment)
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\nsleep 600 &\nwait\n")
    helper.chmod(0o700)
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\ncredential_process = {helper}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del installation.environ[name]
    daemon = installation.start_daemon(AWS_CONFIG_FILE=str(config))
    wait_until(lambda: processes_of(tmp_path) != [], within_s=15, what="the process that hangs")

    installation.wait_for("web")
    installation.edit("web", URL="new")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "new", what="the edit")

    assert processes_of(tmp_path) != []
    assert installation.sync("hanging").settled_status != "in-sync"
    assert daemon.stop() == 0
    assert processes_of(tmp_path) == []
