"""Writes to the audit log that somebody is given plaintext: before it is shown, so that nothing is shown unseen."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from phasesync.core.audit import NAMES_IN_LOG, AuditKind

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


def note_reveal(
    application: "Application", action: str, environment: tuple[str, str], path: str, keys: Iterable[str]
) -> None:
    """Write which keys of a folder are revealed, in a dry run too. If that fails, its error ends the command."""
    names = sorted(keys)
    details = {"path": path, "keys": names[:NAMES_IN_LOG], "count": len(names)}
    with application.store.database.apart_from_rehearsal():
        application.store.audit.add(action, "/".join(environment), kind=AuditKind.REVEAL, details=details)
