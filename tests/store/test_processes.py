"""Several processes on one database: edits that lose nothing, claims that exclude, holders that die."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from phasesync.core.run import Outcome
from phasesync.errors import ClaimLostError
from tests.support.stores import TTL, add_sync, claim_due, claim_one, put, run_of, settle
from tests.support.stores import after as left
from tests.support.values import entry
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PREAMBLE = """
import sys, time
from datetime import timedelta
from tests.support.stores import *
store = open_test_store(sys.argv[1])
name = sys.argv[2]
"""

EDIT = """
for step in range(25):
    put(store, write(f"KEY_{name}_{step}", "x"), write("SHARED", f"{name}-{step}"))
"""

CLAIM = """
print("ready", flush=True)
sys.stdin.readline()  # all begin at once
while claims := store.claims.claim_due(name, limit=3, ttl=TTL):
    for claim in claims:
        print(claim.sync_id, claim.fence, flush=True)
        settle(store, claim)
"""

HOLD = """
(claim,) = store.claims.claim_due(name, limit=1, ttl=timedelta(seconds=float(sys.argv[3])))
print(claim.sync_id, claim.fence, flush=True)
time.sleep(600)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), [errors for _, errors in ended]
    return [output for output, _ in ended]


@pytest.fixture
def url(store, migrated_database_url):
    return migrated_database_url


def test_edits_of_several_processes_lose_nothing(store, url):
    put(store)
    finish(*(start(EDIT, url, str(number)) for number in range(3)))
    environment = store.apps.get_environment("shop", "production")
    assert (environment.revision, environment.keys) == (75, 76)
    shared = store.secrets.history("shop", "production", "/", "SHARED")
    assert [version.version for version in shared] == list(range(75, 0, -1))
    assert len({version.value.reveal_text() for version in shared if version.value is not None}) == 75


def test_two_claimers_never_get_one_sync(store, url):
    for number in range(60):
        add_sync(store, f"s{number}")
    claimers = [start(CLAIM, url, f"claimer-{number}") for number in range(3)]
    for claimer in claimers:
        assert claimer.stdout is not None and claimer.stdout.readline() == "ready\n"
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("now\n")
        claimer.stdin.flush()
    outputs = finish(*claimers)
    claimed = Counter(line.split()[0] for output in outputs for line in output.splitlines())
    assert len(claimed) == 60
    assert set(claimed.values()) == {1}
    assert {run.outcome for run in store.runs.list_runs(limit=100)} == {Outcome.UNCHANGED}


def test_the_claim_of_a_killed_holder_is_taken_over_when_it_has_expired(store, url):
    sync = add_sync(store)
    holder = start(HOLD, url, "holder", "2")
    assert holder.stdout is not None
    sync_id, fence = holder.stdout.readline().split()
    holder.kill()
    holder.communicate()
    assert sync_id == sync.id
    assert claim_due(store, "successor") == []
    assert store.syncs.get_sync("web").running

    wait_until(lambda: store.claims.release_expired() == ["web"], what="the end of the claim")
    assert claim_one(store, "successor").fence == int(fence) + 1
    assert [run.outcome for run in store.runs.list_runs()] == [Outcome.INTERRUPTED]


def test_a_frozen_holder_that_wakes_up_can_write_nothing(store, url):
    sync = add_sync(store)
    frozen = claim_one(store, "frozen", ttl=timedelta(seconds=-1))
    finish(start("settle(store, claim_one(store, name))", url, "successor"))
    with pytest.raises(ClaimLostError):
        store.journal.save_entry(frozen, entry(id=None, sync_id=sync.id))
    with pytest.raises(ClaimLostError):
        store.runs.finish(frozen, run_of(frozen), left())
    assert store.sync_states.state_of("web").journal == ()
    assert store.claims.renew([frozen], ttl=TTL) == set()
    assert store.syncs.get_sync("web").reads == {sync.environment_id: 0}


def test_a_killed_process_in_the_middle_of_a_write_leaves_nothing_of_it(store, url):
    put(store)
    code = """
from phasesync.store import tables
with store.database.write() as connection:
    connection.execute(tables.environments.update().values(revision=99))
    print("written", flush=True)
    time.sleep(600)
"""
    writer = start(code, url, "writer")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    assert store.apps.get_environment("shop", "production").revision == 0
    writer.kill()
    writer.communicate()
    assert put(store) == 0
    add_sync(store)
    settle(store, claim_one(store))


CLOSED_WHILE_THE_LOG_IS_SAVED = """
import sqlite3, sys, threading
from pathlib import Path
from phasesync.store.sqlite import SqliteFile

path = Path(sys.argv[1])
away = path.with_name("away.db")
sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
file = SqliteFile(path, synchronous="OFF")
for _ in range(30):
    connections = [file.connect() for _ in range(12)]
    connections[0].execute("INSERT INTO t VALUES (1)")
    path.rename(away)
    threads = [threading.Thread(target=file.abandon) for _ in range(2)]
    for thread in threads:
        thread.start()
    for connection in connections:
        connection.close()
    for thread in threads:
        thread.join()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    away.rename(path)
"""


def test_a_connection_is_not_closed_while_another_thread_saves_the_log_through_it(tmp_path: Path) -> None:
    """That ends the whole process: a daemon died of SIGSEGV after its file was moved."""
    command = [sys.executable, "-c", CLOSED_WHILE_THE_LOG_IS_SAVED, str(tmp_path / "phasesync.db")]

    done = subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
