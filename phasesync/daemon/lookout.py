"""Looks at the database and its schema, notes what it saw, and tells changes once."""

from collections.abc import Callable

from phasesync.core.events import ChoreFailed, SchemaWaiting
from phasesync.daemon.condition import Condition, command_for
from phasesync.daemon.parts import Schema
from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, PhasesyncError, StoreUnavailableError
from phasesync.ports import EventSink


class Lookout:
    """Keeps the facts about the database in a condition. For one thread at a time."""

    def __init__(self, look: Callable[[], Schema], condition: Condition, events: EventSink) -> None:
        """
        Args:
            look: asks the database.
            condition: gets what was seen.
            events: takes what changed.
        """
        self._look = look
        self._condition = condition
        self._events = events
        self._told: str | None = None
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: the database is now one that it has no business with."""

    def see_at_start(self) -> bool:
        """Return whether the schema is right; False where the database is down. PhasesyncError: waiting is no use."""
        try:
            self._note(self._look())
        except StoreUnavailableError as error:
            self._unreachable("start", error)
        return self._condition.can_work and self._condition.database_reachable is True

    def see(self) -> None:
        """Look again while the daemon works; what went wrong may pass, but for another installation's database."""
        try:
            self._note(self._look())
        except PhasesyncError as error:
            if isinstance(error, (AnotherDatabaseError, KeyUnavailableError)):
                self.fatal = error
            self._unreachable("schema", error)

    def tell(self, chore: str, error: PhasesyncError) -> None:
        """Tell a failure, once until something else is told."""
        name = type(error).__name__
        if self._told != name:
            self._told = name
            self._events.emit(ChoreFailed(chore=chore, error=name, message=error.message))

    def _unreachable(self, chore: str, error: PhasesyncError) -> None:
        self._condition.database_reachable = False
        self._condition.database_problem = error.message
        self.tell(chore, error)

    def _note(self, schema: Schema) -> None:
        self._condition.schema = schema
        self._condition.database_reachable = True
        if schema.is_current:
            self._told = None
            return
        command = command_for(schema)
        if self._told != (told := f"{schema.current} {command}"):
            self._told = told
            self._events.emit(SchemaWaiting(found=schema.current, expected=schema.expected, command=command))
