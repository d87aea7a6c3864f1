"""
The audit log: writing what changes nothing here.

What a write does is written by the write itself, in its own transaction: see `BaseStore._audit`.
"""

from collections.abc import Mapping
from typing import Any

from phasesync.core.audit import AuditKind, AuditOutcome
from phasesync.store.base import BaseStore


class AuditStore(BaseStore):
    """The audit log."""

    def add(
        self,
        action: str,
        object: str,
        *,
        kind: AuditKind,
        outcome: AuditOutcome = AuditOutcome.DONE,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Write what somebody did that changes nothing here: a reveal, an export, an attempt that was refused.

        A reveal is written before the plaintext is shown. For the arguments see `BaseStore._audit`.
        """
        with self._database.write() as connection:
            self._audit(connection, action, object, kind=kind, outcome=outcome, details=details)
