"""kill -9 before and after every kind of write to AWS: the next daemon finishes, and no write happens twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from phasesync.core.run import Outcome
from phasesync.emulator import DROP, Answer, Operation, When
from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"
KEY_ID = "12345678-1234-1234-1234-123456789012"


@dataclass(frozen=True)
class Write:
    """
    One kind of write.

    Attributes:
        operation: what AWS calls it.
        prepare: makes it necessary.
        new_versions: how many versions it makes, however often the daemon dies on the way.
        first: whether nothing is there before it.
    """

    operation: str
    prepare: Callable[[Installation, Aws], None]
    new_versions: int
    first: bool = False


def nothing(_installation: Installation, _aws: Aws) -> None:
    """The sync was just added."""


def edited(installation: Installation, _aws: Aws) -> None:
    """Someone has changed a key."""
    installation.edit("web", URL="postgres://new")


def rekeyed(installation: Installation, aws: Aws) -> None:
    """The operator has set another KMS key: it is set first, and a version under it follows."""
    installation.configure_sync("web", kms_key=aws.server.outside.create_key(KEY_ID))


def deleted(installation: Installation, aws: Aws) -> None:
    """Someone has scheduled the secret for deletion, and a check is due."""
    aws.server.outside.delete(NAME, recovery_days=7)
    installation.configure_sync("web", interval=timedelta(minutes=10))


def tagged(installation: Installation, _aws: Aws) -> None:
    """The operator wants one more tag."""
    installation.configure_sync("web", tags={"team": "shop"})


WRITES = [
    Write("CreateSecret", nothing, new_versions=1, first=True),
    Write("PutSecretValue", edited, new_versions=1),
    Write("UpdateSecret", rekeyed, new_versions=1),
    Write("RestoreSecret", deleted, new_versions=0),
    Write("TagResource", tagged, new_versions=0),
]
CASES = [("sqlite" if number else "postgresql", write) for number, write in enumerate(WRITES)]
"""What a daemon does at a write is the same on both databases; all steps are killed in tests/durability/, on both."""


def kill_at(aws: Aws, operation: str, when: When, daemon: list[Daemon]) -> None:
    """Kill the newest daemon as soon as its request is there: before AWS acts on it, or before it hears of that."""

    def kill(_operation: Operation) -> Answer | None:
        daemon[-1].kill()
        return DROP if when == "before" else None

    aws.server.do(operation, kill, when=when)


@pytest.mark.parametrize(
    ("database_backend", "write"),
    CASES,
    indirect=["database_backend"],
    ids=[f"{write.operation} on {backend}" for backend, write in CASES],
)
def test_killed_before_and_again_after_a_write_it_is_made_once(
    write: Write, installation: Installation, aws: Aws
) -> None:
    installation.add_syncs("web")
    if not write.first:
        installation.reconcile("web")
    versions = 0 if write.first else len(versions_of(aws, NAME))
    write.prepare(installation, aws)
    moments: tuple[When, When] = ("before", "after")
    # The first daemon's request never reaches AWS; the second one's is carried out, and it does not live to hear so.
    for when in moments:
        kill_at(aws, write.operation, when, installation.daemons)
        daemon = installation.start_daemon(ready=False)
        assert daemon.ends(within_s=HANG_GUARD_S) == -signal.SIGKILL
        installation.let_time_pass_for(daemon)

    survivor = installation.start_daemon()
    installation.wait_for("web")

    wanted = {"URL": "postgres://new" if write.prepare is edited else "postgres://db", "USER": "shop"}
    assert values_of(aws, NAME) == wanted
    assert len(versions_of(aws, NAME)) == versions + write.new_versions
    described = aws.server.outside.describe(NAME)
    assert "DeletedDate" not in described
    if write.prepare is rekeyed:
        assert described["KmsKeyId"].endswith(KEY_ID)
    if write.prepare is tagged:
        assert {"Key": "team", "Value": "shop"} in described["Tags"]
    assert survivor.stop() == 0
    with installation.application() as application:
        (entry,) = application.store.sync_states.state_of("web").journal
        assert entry.intent is None
        outcomes = [run.outcome for run in application.store.runs.list_runs(sync="web")]
        assert outcomes.count(Outcome.INTERRUPTED) == 2
        assert application.operations.run("web", actor="test").outcome is Outcome.UNCHANGED
    assert len(versions_of(aws, NAME)) == versions + write.new_versions
