"""
Reads one folder with its references resolved: its environment and every one that it refers to, in one snapshot.

Whole or not at all: any row that does not decrypt and any reference that does not resolve means no plan.

Tells rows that are authentic but older than what a run has already gone by: somebody put them back.

Every row is bound to its place and its MAC, which an older copy of it is too. The journal has noted, encrypted, which
revisions and which version of the sync its writes were made from. Whoever puts back the journal as well meets the
versions at AWS, which tell that (`restored.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasesync.core.model import EnvironmentSnapshot, SecretValue
from phasesync.core.references import Problem, resolve, unresolved
from phasesync.core.sync import Sync
from phasesync.core.sync_state import SyncState
from phasesync.errors import CiphertextError, NotFoundError, StalePlanError, UnresolvedReferenceError
from phasesync.store.secrets import SecretStore


@dataclass(frozen=True, kw_only=True)
class Source:
    """
    Resolved values of one folder, and what was read for them.

    Attributes:
        values: key -> value, references resolved.
        reads: environment id -> revision.
        labels: environment id -> `app/environment`.
        problems: references that did not resolve; not empty = `values` must not be used.
        referring: keys whose values have references.
        environment_id: of the environment that the folder is in.
        label: `app/environment` of that.
    """

    values: Mapping[str, SecretValue] = field(repr=False)
    reads: Mapping[str, int]
    labels: Mapping[str, str]
    problems: tuple[Problem, ...]
    environment_id: str
    label: str
    referring: frozenset[str] = frozenset()

    def error(self) -> UnresolvedReferenceError | None:
        """Return the error that the problems make, None where there is none."""
        return unresolved(self.problems) if self.problems else None


def read_source(secrets: SecretStore, sync: Sync) -> Source:
    """
    Read and resolve the environment and path of a sync; see `read_folder`.

    Raises:
        StalePlanError: the name by which the sync was read leads to another environment by now.
    """
    renamed = StalePlanError(f"the environment of the sync {sync.name} was renamed while it was read")
    try:
        source = read_folder(secrets, sync.app, sync.environment, sync.path)
    except NotFoundError:
        raise renamed from None  # It is there: an environment that a sync uses is not removed.
    # The sync is bound to an id, and its names come from rows that are not authenticated until they are read here.
    if (source.environment_id, source.label) != (sync.environment_id, f"{sync.app}/{sync.environment}"):
        raise renamed
    return source


def read_folder(secrets: SecretStore, app: str, environment_name: str, path: str, *, only: str | None = None) -> Source:
    """
    Read and resolve one folder of an environment, or `only` one key of it.

    Loads one environment, then all those that its references reach, one statement a hop.

    Raises:
        CiphertextError, KeyUnavailableError, StoreUnavailableError: nothing may be planned.
        NotFoundError: the environment is gone.
    """
    home = (app.lower(), environment_name.lower())
    loaded: dict[tuple[str, str], EnvironmentSnapshot | None] = {}
    needs = frozenset({home})
    with secrets.snapshot() as reader:
        while True:
            found = reader.load(needs)
            loaded |= {name: found.get(name) for name in needs}
            environment = loaded[home]
            if environment is None:
                raise NotFoundError(f"the environment {app}/{environment_name} does not exist")
            resolution = resolve(environment, path, loaded, only=only)
            if not resolution.needs:
                break
            needs = resolution.needs
    known = {one.environment_id: f"{one.app}/{one.name}" for one in loaded.values() if one is not None}
    return Source(
        values=resolution.values,
        reads=resolution.reads,
        labels={environment_id: known[environment_id] for environment_id in resolution.reads},
        problems=resolution.problems,
        referring=resolution.referring,
        environment_id=environment.environment_id,
        label=f"{environment.app}/{environment.name}",
    )


def check_not_put_back(state: SyncState, source: Source) -> None:
    """Raise CiphertextError where an environment, or the sync itself, is older than what was written from it."""
    sync = state.sync
    for entry in state.journal:
        if (entry.sync_version or 0) > sync.version:
            raise _put_back(f"the sync {sync.name}", "version", sync.version, entry.sync_version or 0)
        for environment_id, revision in entry.revisions.items():
            found = source.reads.get(environment_id)
            if found is not None and found < revision:
                raise _put_back(f"the environment {source.labels[environment_id]}", "revision", found, revision)


def _put_back(what: str, word: str, found: int, known: int) -> CiphertextError:
    return CiphertextError(
        f"{what} is at {word} {found}, and {word} {known} of it was written to AWS: older rows were put back outside "
        "phasesync; nothing is planned or written",
        hint="restore a backup of the whole database: phasesync db restore FILE; or go on with what is there: "
        "phasesync db accept-restore",
    )
