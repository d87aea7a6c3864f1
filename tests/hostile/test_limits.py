"""A process without a file descriptor left, and one without memory for anything new."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.relay import Relay
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]


@contextmanager
def limited(daemon: Daemon, kind: int, to: int) -> Iterator[None]:
    """Give a process that runs a limit of its own during the block."""
    soft, hard = resource.prlimit(daemon.pid, kind)
    resource.prlimit(daemon.pid, kind, (to, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # It has ended, and what follows says so.
            resource.prlimit(daemon.pid, kind, (soft, hard))


def descriptors(daemon: Daemon) -> set[int]:
    """Return the file descriptors that a process has open."""
    return {int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd")}


def open_files(daemon: Daemon) -> dict[int, str]:
    """Return what the file descriptors of a process lead to."""
    found = {}
    for number in descriptors(daemon):
        with suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/{daemon.pid}/fd/{number}")
    return found


def first_free(daemon: Daemon) -> int:
    """Return the lowest number that no file descriptor has: with it as the limit, none can be opened."""
    used = descriptors(daemon)
    return next(number for number in range(len(used) + 1) if number not in used)


def address_space(daemon: Daemon) -> int:
    """Return the bytes of address space that a process has."""
    return int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0]) * resource.getpagesize()


def answers(daemon: Daemon, path: str) -> bool:
    """Return whether a probe or a scrape is answered with 200. One that meets the shortage itself is cut."""
    assert not daemon.ended, (daemon.process.returncode, daemon.log.read_text()[-4000:])
    connection = HTTPConnection(daemon.address, timeout=HANG_GUARD_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except ConnectionError:  # RemoteDisconnected is one.
        return False
    finally:
        connection.close()


def test_without_a_descriptor_left_it_says_so_and_goes_on_when_there_are_some(
    installation: Installation, aws: Aws
) -> None:
    """Its connections to AWS have ended, and it can open no other one."""
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    with Relay(aws.server.url) as relay:
        daemon = installation.start_daemon(AWS_ENDPOINT_URL=relay.url)
        installation.wait_for("web")
        relay.pass_on()
        before = open_files(daemon)

        with limited(daemon, resource.RLIMIT_NOFILE, first_free(daemon)):
            installation.edit("web", URL="postgres://during")
            says(daemon, "no file descriptor is left")
            assert daemon.get("/healthz")[1]["state"].startswith("no file descriptor is left")
            measures(daemon, "phasesync_ready", 0)

        assert daemon.wait_until_ready() == "active"
        arrives(aws, "shop/web", "postgres://during")
        installation.wait_for("web")
        assert_versions(aws, "shop/web", 2)
        # Some more connections are no leak: one that a round or a call left open each time would be many.
        try:
            wait_until(lambda: len(open_files(daemon)) <= len(before) + 12, what="no descriptor that is left over")
        except AssertionError as error:
            raise AssertionError(f"{error}: {before} before, {open_files(daemon)} now") from None
        assert daemon.stop() == 0


def test_without_memory_for_anything_new_it_answers_probes_and_goes_on(installation: Installation, aws: Aws) -> None:
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    names = [f"s{number}" for number in range(12)]
    daemon.lacks_memory = True

    with limited(daemon, resource.RLIMIT_AS, address_space(daemon)):
        installation.add_syncs(*names, values={f"KEY{number}": "x" * 3000 for number in range(20)})
        installation.edit("web", URL="postgres://during")
        for path in ("/readyz", "/healthz", "/metrics"):
            wait_until(partial(answers, daemon, path), what=f"{path} = 200")
    arrives(aws, "shop/web", "postgres://during")
    installation.wait_for("web", *names)
    assert daemon.wait_until_ready() == "active"
    assert_versions(aws, "shop/web", 2)
    for name in names:
        assert_versions(aws, f"shop/{name}", 1)
    assert daemon.stop() == 0
