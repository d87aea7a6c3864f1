"""The encrypted store as the engine needs it: apps, environments, secrets and their versions."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from phasesync.core.model import App, Environment, EnvironmentSnapshot, SecretValue, SecretVersion


@dataclass(frozen=True, kw_only=True)
class SecretWrite:
    """One key to set in an edit."""

    path: str
    key: str
    value: SecretValue
    comment: str | None = None
    """None keeps the comment it has."""


class EnvironmentReader(Protocol):
    """Reads environments in one database snapshot."""

    def load(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], EnvironmentSnapshot]:
        """
        Decrypt whole environments.

        Args:
            names: (app, environment); compared without regard to case.

        Returns:
            The ones that exist, under (app, environment) in lower case. The number of SQL statements does not depend
            on the number of environments or secrets.

        Raises:
            CiphertextError: a row does not authenticate.
            StoreUnavailableError: the database is locked or down.
        """
        ...


class EnvironmentStore(Protocol):
    """Apps, environments, secrets and their versions: the only source of desired state."""

    def snapshot(self) -> AbstractContextManager[EnvironmentReader]:
        """Open a reader whose every answer is of one moment."""
        ...

    def add_app(self, name: str, *, description: str = "") -> App:
        """Add an app. AlreadyExistsError also where a name differs in case only."""
        ...

    def list_apps(self) -> list[App]:
        """Return all apps by name."""
        ...

    def update_app(self, name: str, *, new_name: str | None = None, description: str | None = None) -> App:
        """Change an app; None leaves alone. NotFoundError, AlreadyExistsError."""
        ...

    def remove_app(self, name: str) -> None:
        """Remove an app. NotFoundError; IllegalTransitionError while it has environments."""
        ...

    def add_environment(self, app: str, name: str) -> Environment:
        """Add an environment. NotFoundError for the app; AlreadyExistsError also for another case."""
        ...

    def list_environments(self, app: str | None = None) -> list[Environment]:
        """Return environments by app and name, of one app or of all. NotFoundError for an unknown app."""
        ...

    def get_environment(self, app: str, name: str) -> Environment:
        """Return one environment. NotFoundError names what exists instead."""
        ...

    def update_environment(self, app: str, name: str, *, new_name: str) -> Environment:
        """Rename an environment; syncs whose references name it become pending. NotFoundError, AlreadyExistsError."""
        ...

    def remove_environment(self, app: str, name: str) -> None:
        """
        Remove an environment with its secrets, dynamic ones too.

        NotFoundError; IllegalTransitionError while syncs use it, or while one of its leases is live.
        """
        ...

    def clone_environment(self, app: str, name: str, target: str, *, actor: str) -> Environment:
        """Copy the current secrets into a new environment of the same app."""
        ...

    def edit(
        self,
        app: str,
        environment: str,
        *,
        actor: str,
        origin: str,
        writes: Sequence[SecretWrite] = (),
        unsets: Sequence[tuple[str, str]] = (),
    ) -> Environment:
        """
        Commit edits as one revision.

        Keys whose value, type and comment are already so are left alone; an edit that changes nothing makes no
        revision. Folders are made as needed.

        Args:
            app: name of the app.
            environment: name of the environment.
            actor: who, for the history.
            origin: set, unset, import, rollback or generate.
            writes: keys to set.
            unsets: (path, key) to remove; NotFoundError when one is not there.

        Returns:
            The environment after the edit.

        Raises:
            AlreadyExistsError: a dynamic secret of the same folder hands something out under a key that is new.
        """
        ...

    def list_secrets(self, app: str, environment: str, *, path: str | None = None) -> list[SecretVersion]:
        """Return the current version of every key, by path and key; of one folder or of all."""
        ...

    def get_secret(self, app: str, environment: str, path: str, key: str) -> SecretVersion:
        """Return the current version of a key. NotFoundError when it is not set."""
        ...

    def history(self, app: str, environment: str, path: str, key: str) -> list[SecretVersion]:
        """Return every version of a key, newest first. NotFoundError when it was never set."""
        ...
