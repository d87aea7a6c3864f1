"""
The pod of an overlay, as processes: its commands with its variables, and folders in place of its volumes.

What no volume is mounted over cannot be written, as in the pod.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from phasesync.store.database_url import parse_database_url
from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.daemon import PHASESYNC
from tests.support.installation import ACCESS_KEY_ID, REGION, Installation
from tests.support.kubernetes import DEPLOY, Object, Rendered, containers, overlay, variables
from tests.support.postgres import program_folder
from tests.support.stores import write_root_key
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@dataclass(frozen=True)
class Volumes:
    """Folders in place of volumes."""

    folder: Path
    database_url: str

    def at(self, text: str, container: Object) -> str:
        """Return a text with the places of a container's volumes as they are called here."""
        for mount in container["volumeMounts"]:
            here = self.folder / mount["name"]
            here.mkdir(mode=0o700, exist_ok=True)
            text = re.sub(rf"{mount['mountPath']}(?=/|$)", str(here), text)
        return re.sub(r"^/(?=var/lib/)", f"{self.folder}/read-only/", text)

    def environ(self, container: Object) -> dict[str, str]:
        """Return the variables of the image and of a container; what a Secret holds is the URL."""
        (self.folder / "read-only").touch()  # a file: nobody makes a folder in it, not even root
        image = dict(re.findall(r"(PHASESYNC_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
        given = {name: each.get("value", self.database_url) for name, each in variables(container).items()}
        merged = {"HOME": "/var/lib/phasesync", **image, **given}
        return {name: self.at(value, container) for name, value in merged.items()}


@dataclass(frozen=True)
class Pod:
    rendered: Rendered
    volumes: Volumes
    installation: Installation
    aws: Aws

    def run(self, container: Object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        words = [*container.get("command", [str(PHASESYNC)]), *container["args"]]
        return subprocess.run(
            words,
            env={
                "PATH": f"{PHASESYNC.parent}:{program_folder()}:/usr/bin:/bin",
                **self.volumes.environ(container),
                **more,
            },
            capture_output=True,
            text=True,
            timeout=HANG_GUARD_S,
            check=False,
        )


@pytest.fixture
def pod(tmp_path: Path, database_url: str, aws: Aws) -> Iterator[Pod]:
    """A pod that nothing has run in yet, with the database of the test and the root key in its volume."""
    kind = "sqlite" if database_url.startswith("sqlite") else "postgresql"
    rendered = overlay(kind, components=(f"backup-{kind}",))
    volumes = Volumes(tmp_path, database_url)
    installation = Installation(tmp_path, database_url, {})
    (daemon,) = rendered.daemon["spec"]["containers"]
    environ = aws.environ | volumes.environ(daemon)
    # Port 8787 of this machine may be in use, as it never is in a pod.
    assert environ["PHASESYNC_HTTP__LISTEN"] == "0.0.0.0:8787"
    installation.environ = environ | {"PATH": "/usr/bin:/bin", "PHASESYNC_HTTP__LISTEN": "127.0.0.1:0"}
    write_root_key(Path(environ["PHASESYNC_ROOT_KEY_FILE"]))
    yield Pod(rendered, volumes, installation, aws)
    installation.close()


def test_it_starts_answers_its_probes_syncs_what_is_typed_into_it_and_ends_in_time(pod: Pod) -> None:
    first, container = containers(pod.rendered.daemon)

    assert pod.run(first).returncode == 0
    again = pod.run(first)
    assert (again.returncode, "ready" in again.stderr) == (0, True)

    assert container["args"] == ["daemon"]
    daemon = pod.installation.start_daemon(ready=False)
    for probe in ("startupProbe", "livenessProbe"):
        assert daemon.get(container[probe]["httpGet"]["path"])[0] == 200
    wait_until(lambda: daemon.get(container["readinessProbe"]["httpGet"]["path"])[0] == 200, what="readiness")

    pod.installation.in_process = True
    done = pod.installation.done
    done("apps", "add", "shop")
    done("envs", "add", "shop/production")
    done("secrets", "set", "shop/production", "DATABASE_URL", "-", stdin="typed into a pod\n")
    key = ("--access-key-id", ACCESS_KEY_ID, "--region", REGION)
    done("credentials", "add", "aws", "--type", "access-key", *key, stdin="not-a-real-secret-access-key\n")
    done("syncs", "add", "shop", "--env", "shop/production", "--credential", "aws", "--secret-name", "shop")
    daemon.wait_for_line("run finished", outcome="applied")
    assert values_of(pod.aws, "shop") == {"DATABASE_URL": "typed into a pod"}

    (endpoint,) = overlay("sqlite", components=("service-monitor",)).only("ServiceMonitor")["spec"]["endpoints"]
    assert b"phasesync_runs_total{" in _scrape(daemon.address, endpoint["path"])

    newest = _back_up(pod)

    assert daemon.stop(within_s=pod.rendered.daemon["spec"]["terminationGracePeriodSeconds"]) == 0
    if not pod.rendered.has_postgresql:
        done("db", "restore", str(newest), "--without-manifest", "--dry-run")


def _scrape(address: str, path: str) -> bytes:
    connection = HTTPConnection(address, timeout=HANG_GUARD_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _back_up(pod: Pod) -> Path:
    """The CronJob's command, while the daemon works: the newest files stay, a half one is removed."""
    (backup,) = pod.rendered.templates[1:]
    (container,) = backup["spec"]["containers"]
    folder = pod.volumes.folder / "backup"
    folder.mkdir()
    suffix = "dump" if pod.rendered.has_postgresql else "db"
    for day in ("20250101", "20250102", "20250103"):
        (folder / f"phasesync-{day}T031700Z.{suffix}").touch()
    if pod.rendered.has_postgresql:
        (folder / "phasesync-20250104T031700Z.dump.partial").touch()
    else:
        (folder / ".phasesync-20250104T031700Z.db.partial").touch()
        (folder / "phasesync-20250101T031700Z.db.manifest.json").touch()
    more = {"BACKUP_KEEP": "2"}
    if pod.rendered.has_postgresql:
        _write_service_file(pod, Path(pod.volumes.environ(container)["PGSERVICEFILE"]))

    done = pod.run(container, **more)

    assert done.returncode == 0, done.stderr
    newest, kept = sorted((each.name for each in folder.iterdir() if each.suffix != ".json"), reverse=True)
    manifests = [each.name for each in folder.glob("*.json")]
    assert manifests == ([] if pod.rendered.has_postgresql else [f"{newest}.manifest.json"])
    assert kept == f"phasesync-20250103T031700Z.{suffix}"
    assert re.fullmatch(rf"phasesync-{time.strftime('%Y', time.gmtime())}\d{{4}}T\d{{6}}Z\.{suffix}", newest)
    assert (folder / newest).stat().st_mode & 0o077 == 0
    return folder / newest


def _write_service_file(pod: Pod, path: Path) -> None:
    """What docs/kubernetes.md says stands in it, for the server of the tests."""
    url = parse_database_url(pod.volumes.database_url)
    lines = {"host": url.query["host"], "dbname": url.database, "user": url.username}
    path.write_text("[phasesync]\n" + "".join(f"{name}={value}\n" for name, value in lines.items()))
