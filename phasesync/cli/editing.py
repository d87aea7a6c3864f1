"""Committing one key, and waiting for what an edit sets off."""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from phasesync.cli.documents import secret_item
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.names import check_key
from phasesync.core.status import SyncStatus
from phasesync.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


def check_key_to_write(application: "Application", environment: tuple[str, str], path: str, key: str) -> None:
    """Refuse a key that the rule for names forbids, unless it is set already. InvalidInputError."""
    try:
        check_key(key)
    except InvalidInputError as error:
        with suppress(NotFoundError):
            application.store.secrets.get_secret(*environment, path, key)
            return
        raise error from None


def write_secret(
    application: "Application",
    environment: tuple[str, str],
    path: str,
    key: str,
    value: SecretValue,
    *,
    comment: str | None,
    origin: str,
    done: str,
    out: Output,
) -> None:
    """Commit one key and say what it is now."""
    write = SecretWrite(path=path, key=key, value=value, comment=comment)
    edited = application.store.secrets.edit(*environment, actor=invocation().actor, origin=origin, writes=[write])
    now = application.store.secrets.get_secret(*environment, path, key)
    out.done(
        f"{edited.label}: {key} {done} (version {now.version}, revision {edited.revision})",
        {"env": edited.label, "revision": edited.revision} | secret_item(now),
    )


def wait_for_readers(application: "Application", environment: tuple[str, str], timeout: timedelta, out: Output) -> None:
    """
    Wait until every sync that reads an environment, directly or by a reference, is in sync; paused ones are skipped.

    Raises:
        IllegalTransitionError: one of them is not when the time is over, or waits for a person before.
    """
    edited = application.store.apps.get_environment(*environment)
    for sync in application.store.syncs.list_syncs():
        if edited.id != sync.environment_id and edited.id not in sync.reads:
            continue
        if sync.paused is not None:
            out.say(f"the sync {sync.name} is paused: not waited for")
            continue
        application.operations.wait(sync.name, wanted=SyncStatus.IN_SYNC, timeout=timeout)
        out.say(f"the sync {sync.name} is in sync")
