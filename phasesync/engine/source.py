"""
Reads the source of a sync: one folder with its references resolved, in one snapshot of all environments involved.

All or nothing: a row that does not decrypt, or a reference that does not resolve, means no plan.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from phasesync.core.model import EnvironmentSnapshot, SecretValue
from phasesync.core.references import Problem, resolve, unresolved
from phasesync.core.sync import Sync
from phasesync.core.sync_claim import SyncState
from phasesync.errors import (
    CiphertextError,
    KeyUnavailableError,
    NotFoundError,
    PhasesyncError,
    StalePlanError,
    UnresolvedReferenceError,
)
from phasesync.store.secrets import SecretStore, SnapshotReader


@dataclass(frozen=True, kw_only=True)
class Source:
    """
    The resolved values of one folder, and what was read for them.

    Attributes:
        values: key -> value, references resolved.
        reads: environment id -> revision.
        labels: environment id -> `app/environment`.
        problems: references that did not resolve; if there are any, `values` must not be used.
        referring: keys that have references in their values.
        environment_id: of the environment of the folder.
        label: `app/environment` of that environment.
    """

    values: Mapping[str, SecretValue] = field(repr=False)
    reads: Mapping[str, int]
    labels: Mapping[str, str]
    problems: tuple[Problem, ...]
    environment_id: str
    label: str
    referring: frozenset[str] = frozenset()

    def error(self) -> UnresolvedReferenceError | None:
        """Return the error for the problems; None if there are none."""
        return unresolved(self.problems) if self.problems else None


def read_source(secrets: SecretStore, sync: Sync) -> Source:
    """
    Read and resolve the environment and path of a sync; see `read_folder`.

    Raises:
        StalePlanError: the name by which the sync was read now leads to another environment.
    """
    try:
        source = read_folder(secrets, sync.app, sync.environment, sync.path)
    except NotFoundError:
        raise _renamed(sync) from None  # It exists: an environment that a sync uses is not removed.
    return _checked(source, sync)


def read_sources(secrets: SecretStore, syncs: Sequence[Sync]) -> dict[str, Source]:
    """
    Read and resolve what several syncs read, together: each environment is decrypted once, each folder resolved once.

    Leaves out what cannot be read: `read_source` says what is wrong with it.

    Returns:
        Id of the sync -> its source.
    """
    sources: dict[str, Source] = {}
    resolved: dict[tuple[str, str, str], Source] = {}
    loaded: dict[EnvironmentName, EnvironmentSnapshot | None] = {}
    with secrets.snapshot() as reader:
        with suppress(CiphertextError, KeyUnavailableError):  # One altered environment: each is read by itself.
            names = {_name_of(sync.app, sync.environment) for sync in syncs}
            loaded |= dict.fromkeys(names) | dict(reader.load(names))
        for sync in syncs:
            folder = (*_name_of(sync.app, sync.environment), sync.path)
            with suppress(PhasesyncError):
                if folder not in resolved:
                    resolved[folder] = _resolve(reader, sync.app, sync.environment, sync.path, loaded)
                sources[sync.id] = _checked(resolved[folder], sync)
    return sources


def read_folder(secrets: SecretStore, app: str, environment_name: str, path: str, *, only: str | None = None) -> Source:
    """
    Read and resolve one folder of an environment, or `only` one key of it.

    Loads one environment, then all that its references reach, with one statement per hop.

    Raises:
        CiphertextError, KeyUnavailableError, StoreUnavailableError: nothing may be planned.
        NotFoundError: the environment is gone.
    """
    with secrets.snapshot() as reader:
        return _resolve(reader, app, environment_name, path, {}, only=only)


EnvironmentName = tuple[str, str]
"""App and environment in lower case."""


def _name_of(app: str, environment: str) -> EnvironmentName:
    return app.lower(), environment.lower()


def _resolve(
    reader: SnapshotReader,
    app: str,
    environment_name: str,
    path: str,
    loaded: dict[EnvironmentName, EnvironmentSnapshot | None],
    *,
    only: str | None = None,
) -> Source:
    """Resolve a folder; `loaded` has what was read of this snapshot, and gets what is read for it."""
    home = _name_of(app, environment_name)
    needs = frozenset() if home in loaded else frozenset({home})
    while True:
        if needs:
            environments = reader.load(needs)
            loaded |= {name: environments.get(name) for name in needs}
        environment = loaded[home]
        if environment is None:
            raise NotFoundError(f"the environment {app}/{environment_name} does not exist")
        resolution = resolve(environment, path, loaded, only=only)
        if not resolution.needs:
            break
        needs = resolution.needs
    labels = {read.environment_id: f"{read.app}/{read.name}" for read in loaded.values() if read is not None}
    return Source(
        values=resolution.values,
        reads=resolution.reads,
        labels={environment_id: labels[environment_id] for environment_id in resolution.reads},
        problems=resolution.problems,
        referring=resolution.referring,
        environment_id=environment.environment_id,
        label=f"{environment.app}/{environment.name}",
    )


def _checked(source: Source, sync: Sync) -> Source:
    # A sync is bound to an id. Its names come from rows that are not authenticated until they are read here.
    if (source.environment_id, source.label) != (sync.environment_id, f"{sync.app}/{sync.environment}"):
        raise _renamed(sync)
    return source


def _renamed(sync: Sync) -> StalePlanError:
    return StalePlanError(f"the environment of the sync {sync.name} was renamed while it was read")


def check_not_rolled_back(state: SyncState, source: Source) -> None:
    """
    Refuse rows that are authentic but older than what a run has already written from: an older copy was put in place.

    Every row is bound to its place by its MAC, and so is an older copy of it. The journal therefore holds, encrypted,
    from which revisions and which version of the sync its writes were made. If the journal was rolled back as well,
    the versions at AWS show it (`stale_database.py`).

    Raises:
        CiphertextError: an environment, or the sync itself, is older than what was written from it.
    """
    sync = state.sync
    for entry in state.journal:
        if (entry.sync_version or 0) > sync.version:
            raise _rolled_back(f"the sync {sync.name}", "version", sync.version, entry.sync_version or 0)
        for environment_id, revision in entry.revisions.items():
            stored = source.reads.get(environment_id)
            if stored is not None and stored < revision:
                raise _rolled_back(f"the environment {source.labels[environment_id]}", "revision", stored, revision)


def _rolled_back(subject: str, counter: str, stored: int, written: int) -> CiphertextError:
    return CiphertextError(
        f"{subject} is at {counter} {stored}, and {counter} {written} of it was written to AWS: older rows were put "
        "back outside phasesync; nothing is planned or written",
        hint="restore a backup of the whole database: phasesync db restore FILE; or go on with what is there: "
        "phasesync db accept-restore",
    )
