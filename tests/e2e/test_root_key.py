"""The root key is replaced while daemons work, and AWS KMS goes away under them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.installation import Installation, edit
from tests.support.stores import ROOT_KEY
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


def reaches_aws(installation: Installation, aws: Aws, name: str, value: str) -> None:
    """Edit an environment; return when readers at AWS get the value."""
    installation.edit(name, URL=value)
    wait_until(lambda: values_of(aws, f"shop/{name}")["URL"] == value, what=f"{value} at AWS")


def statuses(installation: Installation) -> dict[str, str]:
    """Return root key id -> status."""
    with installation.application() as application:
        return {root.id: root.status for root in application.store.root_keys.list_all()}


DIE_AFTER = """
import os, signal, sys
from phasesync.cli.main import main
from phasesync.store.root_keys import RootKeyStore

step = getattr(RootKeyStore, sys.argv[1])

def die(*args, **options):
    step(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(RootKeyStore, sys.argv[1], die)
sys.argv = ["phasesync", "keys", "rotate-root"]
main()
"""


def kill_after(installation: Installation, step: str) -> None:
    """Run `keys rotate-root`, which dies by signal 9 as soon as a step of it is committed."""
    died = subprocess.run(
        [sys.executable, "-c", DIE_AFTER, step], env=installation.environ, capture_output=True, check=False, timeout=120
    )
    assert died.returncode == -signal.SIGKILL, died.stderr


def test_daemons_go_on_while_the_root_key_is_replaced_by_a_command_that_is_killed(
    installation: Installation, aws: Aws
) -> None:
    installation.add_syncs("web")
    daemons = [installation.start_daemon()]
    if not installation.database_url.startswith("sqlite"):
        daemons.append(installation.start_daemon())
    installation.wait_for("web")

    kill_after(installation, "begin")
    assert sorted(statuses(installation).values()) == ["current", "next"]
    reaches_aws(installation, aws, "web", "with-both")
    kill_after(installation, "switch")
    assert sorted(statuses(installation).values()) == ["current", "former"]
    reaches_aws(installation, aws, "web", "half-way")
    done: dict[str, Any] = installation.json("keys", "rotate-root")
    assert done["former_id"] == ROOT_KEY.id

    reaches_aws(installation, aws, "web", "with-the-new-one")
    installation.add_syncs("api")
    installation.wait_for("api")
    assert values_of(aws, "shop/api")["USER"] == "shop"
    for daemon in daemons:
        assert daemon.stop() == 0

    installation.start_daemon()
    reaches_aws(installation, aws, "web", "after-a-restart")
    former = installation.start_daemon(ready=False, PHASESYNC_ROOT_KEY_FILE=done["former_kept"])
    assert former.ends() == 6
    assert f"{ROOT_KEY.id} was replaced by {done['root_key_id']}" in former.log.read_text()


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_an_outage_of_kms_stops_a_start_and_no_daemon_that_runs(
    tmp_path: Path, migrated_database_url: str, aws: Aws
) -> None:
    arn = aws.boto("kms").create_key(Description="root keys")["KeyMetadata"]["Arn"]
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/data/kms.db", aws.environ)
    installation.environ |= {"PHASESYNC_ROOT_KEY_KMS_KEY": arn, "AWS_MAX_ATTEMPTS": "1"}
    try:
        installation.done("init")
        installation.add_syncs("web")
        installation.start_daemon()
        installation.wait_for("web")
        with installation.application() as application:
            aws.server.faults.fail("Decrypt", times=None)
            edit(application, "web", {"URL": "during-the-outage"})
            wait_until(lambda: values_of(aws, "shop/web")["URL"] == "during-the-outage")
            second = installation.start_daemon(ready=False)
            line = second.wait_for_line("chore failed", chore="start")
            assert "the root key cannot be opened now" in line["message"]
            assert not second.ended
            wait_until(lambda: "waiting for AWS KMS" in str(second.get("/readyz")), what="/readyz names KMS")
            aws.server.faults.clear()
            second.wait_until_ready()
        assert installation.run("keys", "status").exit_code == 0
    finally:
        installation.close()
