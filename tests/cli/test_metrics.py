"""`phasesync metrics`: what the daemon says, or that there is none; a file is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from phasesync.cli.main import cli
from phasesync.daemon.http import HealthServer, Page, ProbeResult
from tests.support.metrics import Scrape
from tests.support.raw_http import RawServer, page, port_that_refuses
from tests.support.stores import open_test_store, write_root_key

DAEMON = """\
# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 20.0
# HELP phasesync_build_info The release that runs.
# TYPE phasesync_build_info gauge
phasesync_build_info{python="3.13.0",version="1.2.3"} 1.0
# HELP phasesync_runs_total Runs that ended.
# TYPE phasesync_runs_total counter
phasesync_runs_total{outcome="applied",trigger="change"} 7.0
"""


@pytest.fixture
def listen() -> Iterator[str]:
    """A daemon with metrics; its address."""
    server = HealthServer(
        host="127.0.0.1",
        port=0,
        health=lambda: ProbeResult(ok=True),
        ready=lambda: ProbeResult(ok=True),
        metrics=lambda _accept, _encoding: Page(content_type="text/plain", content=DAEMON.encode()),
    )
    server.start()
    yield server.address
    server.stop()


@pytest.fixture
def nobody() -> Iterator[str]:
    with port_that_refuses() as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def metrics(tmp_path: Path, migrated_sqlite_template: Path) -> Callable[..., Result]:
    """The command, with a database of its own."""
    (tmp_path / "data").mkdir(mode=0o700)
    database = tmp_path / "data" / "phasesync.db"
    database.write_bytes(migrated_sqlite_template.read_bytes())
    database.chmod(0o600)
    write_root_key(tmp_path / "root.key")
    open_test_store(f"sqlite:///{database}").close()
    environ = {
        "PHASESYNC_DATA_DIR": str(database.parent),
        "PHASESYNC_ROOT_KEY_FILE": str(tmp_path / "root.key"),
        "HOME": str(tmp_path),
    }

    def run(listen: str, *options: str, **more: str) -> Result:
        return CliRunner().invoke(cli, ["metrics", *options], env={**environ, "PHASESYNC_HTTP__LISTEN": listen, **more})

    return run


def test_it_prints_what_the_daemon_says_and_that_it_is_up(metrics, listen) -> None:
    done = metrics(listen)

    assert (done.exit_code, done.stderr) == (0, "")
    seen = Scrape(done.stdout)
    assert seen.value("phasesync_runs_total", outcome="applied", trigger="change") == 7
    assert seen.value("phasesync_daemon_up") == 1


def test_what_node_exporter_has_itself_is_left_out(metrics, listen) -> None:
    assert "process_" not in metrics(listen).stdout


def test_json_is_one_document(metrics, listen) -> None:
    document = json.loads(metrics(listen, "-o", "json").stdout)

    assert document["source"] == "daemon"
    runs = next(family for family in document["metrics"] if family["name"] == "phasesync_runs")
    assert runs["samples"] == [
        {"name": "phasesync_runs_total", "labels": {"outcome": "applied", "trigger": "change"}, "value": 7.0}
    ]


def test_without_a_daemon_it_says_so_and_what_the_database_says(metrics, nobody) -> None:
    done = metrics(nobody)

    assert done.exit_code == 0
    assert "nothing listens there" in done.stderr
    seen = Scrape(done.stdout)
    assert (seen.value("phasesync_daemon_up"), seen.value("phasesync_database_up")) == (0, 1)
    assert seen.value("phasesync_syncs", status="in-sync") == 0
    assert "phasesync_build" not in seen.families


def test_without_a_database_the_file_says_so_and_the_command_fails(metrics, nobody, tmp_path) -> None:
    file = tmp_path / "phasesync.prom"

    done = metrics(nobody, "--textfile", str(file), PHASESYNC_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")

    assert done.exit_code == 6 and "phasesync init" in done.stderr
    seen = Scrape(file.read_text())
    assert (seen.value("phasesync_daemon_up"), seen.value("phasesync_database_up")) == (0, 0)
    assert "phasesync_syncs" not in seen.families


def test_a_program_that_is_no_daemon_of_ours_counts_as_none(metrics) -> None:
    with RawServer(page(200, "node_load1 0.5\n")) as other:
        done = metrics(other.url.removeprefix("http://"))

    assert "has no metrics of phasesync" in done.stderr
    assert Scrape(done.stdout).value("phasesync_daemon_up") == 0


def test_a_daemon_that_many_others_scrape_is_asked_again(metrics) -> None:
    answers = iter([page(503), page(200, DAEMON)])
    with RawServer(lambda: next(answers)()) as daemon:
        done = metrics(daemon.url.removeprefix("http://"))

    assert Scrape(done.stdout).value("phasesync_daemon_up") == 1
    assert daemon.requests == 2


def test_a_free_port_is_known_to_the_daemon_alone(metrics) -> None:
    done = metrics("127.0.0.1:0")

    assert done.exit_code == 6 and "PHASESYNC_HTTP__LISTEN" in done.stderr


# --- the file


def test_a_file_is_replaced_and_readable_by_others(metrics, listen, tmp_path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "phasesync.prom"
    file.write_text("former\n")
    former = file.stat().st_ino
    umask = os.umask(0o077)
    try:
        done = metrics(listen, "--textfile", str(file))
    finally:
        os.umask(umask)

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"wrote {file}: metrics of the daemon\n"
    assert Scrape(file.read_text()).value("phasesync_daemon_up") == 1
    assert file.stat().st_ino != former, "a reader that has the former file open reads all of it"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [entry.name for entry in folder.iterdir()] == ["phasesync.prom"]


def test_a_write_that_fails_leaves_the_former_file_and_nothing_beside_it(
    metrics, listen, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "phasesync.prom"
    file.write_text("former\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phasesync.cli.metrics.os.fchmod", full)
    done = metrics(listen, "--textfile", str(file))

    assert done.exit_code == 1 and "No space left on device" in done.stderr and "hint: " in done.stderr
    assert file.read_text() == "former\n"
    assert [entry.name for entry in folder.iterdir()] == ["phasesync.prom"]


def test_a_place_that_cannot_be_is_named_with_its_fix(metrics, listen, tmp_path) -> None:
    done = metrics(listen, "--textfile", str(tmp_path / "none" / "phasesync.prom"))
    assert done.exit_code == 2 and f"hint: make it: mkdir -p {tmp_path / 'none'}" in done.stderr

    assert metrics(listen, "--textfile", str(tmp_path)).exit_code == 2, "a directory is no file"


@pytest.mark.parametrize("make", [lambda file: os.mkfifo(file), lambda file: file.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_not_replaced(metrics, listen, tmp_path, make) -> None:
    file = tmp_path / "phasesync.prom"
    make(file)
    mode = file.lstat().st_mode
    done = metrics(listen, "--textfile", str(file))
    assert done.exit_code == 2
    assert "is not a regular file" in done.stderr
    assert file.lstat().st_mode == mode


def test_a_name_that_node_exporter_does_not_read_is_a_note(metrics, listen, tmp_path) -> None:
    done = metrics(listen, "--textfile", str(tmp_path / "phasesync.txt"))

    assert done.exit_code == 0 and "names end with .prom" in done.stderr
