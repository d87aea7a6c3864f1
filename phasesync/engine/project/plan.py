"""Plans the application of documents: what differs from the store, what needs an approval, and the digest of all."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from phasesync.core.model import SecretValue
from phasesync.core.project.compare import (
    ChangeAction,
    ObjectChange,
    Present,
    ProjectDiff,
    Renames,
    Wanted,
    compare,
    digest_of,
    names_given_back,
    prune_held,
    with_new_names,
)
from phasesync.core.project.desired import (
    DesiredApp,
    DesiredCredential,
    DesiredEnvironment,
    DesiredProject,
    DesiredSync,
    SecretOrigin,
)
from phasesync.core.project.expand import check_references
from phasesync.core.project.fields import KeyName
from phasesync.core.project.kinds import KINDS
from phasesync.core.project.ownership import ObjectKind
from phasesync.engine.context import Context
from phasesync.engine.project.objects import Work, describe_all, want
from phasesync.engine.project.values import (
    ValueFiles,
    Values,
    describe_values,
    environments_of,
    values_held,
    want_values,
)
from phasesync.engine.removal import deletable_objects
from phasesync.errors import DocumentError
from phasesync.store.projects import AppliedProject

_AFTER: Mapping[str, str] = {DesiredEnvironment.kind: ObjectKind.VALUES}
"""Kind of `KINDS` -> kind that is added right after it."""

ORDER = tuple(str(each) for kind in KINDS for each in (kind.kind, _AFTER.get(kind.kind)) if each is not None)
"""Every kind, in the order in which objects are added; in the opposite one they are removed."""


StoredProjects = Mapping[str, AppliedProject]
"""Name in lower case -> the document as it was applied last."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """
    What was read, and what reads the files that it names.

    Attributes:
        source: where they were read from, as `-f` takes it.
        prune: objects that a document owns and no longer has are removed.
        delete: the AWS secrets of removed syncs are deleted.
    """

    projects: tuple[DesiredProject, ...]
    files: ValueFiles
    resolve_secret: Callable[[SecretOrigin], SecretValue | None]
    source: str
    prune: bool = False
    delete: bool = False

    @property
    def options(self) -> str:
        """The options of a command that means the same, without `--plan`."""
        options = f"-f {shlex.quote(self.source)}"
        return options + (" --prune" if self.prune else "") + (" --remote delete" if self.delete else "")

    @classmethod
    def of(
        cls,
        projects: Sequence[DesiredProject],
        *,
        decrypt: Callable[[str], Values],
        resolve_secret: Callable[[SecretOrigin], SecretValue | None],
        source: str,
        prune: bool = False,
        delete: bool = False,
    ) -> "Documents":
        """Return documents with what reads the files that they name."""
        return cls(
            projects=tuple(projects),
            files=ValueFiles(decrypt=decrypt),
            resolve_secret=resolve_secret,
            source=source,
            prune=prune,
            delete=delete,
        )


@dataclass(frozen=True, kw_only=True)
class ProjectPlan:
    """
    What the application of documents would do.

    Attributes:
        digest: of all changes.
        held: why it needs an approval by its digest; empty = it does not.
        missing_keys: `app/environment` -> folder and key of what must exist and does not.
        wanted: the objects of each document, by its name.
        deletions: name of a removed sync -> its AWS secrets whose deletion is scheduled.
        options: what the command line has to say to mean the same, without `--plan`.
    """

    diffs: tuple[ProjectDiff, ...]
    digest: str
    held: tuple[str, ...]
    missing_keys: Mapping[str, tuple[KeyName, ...]]
    wanted: Mapping[str, tuple[Wanted, ...]] = field(repr=False)
    deletions: Mapping[str, tuple[str, ...]]
    options: str

    @property
    def changes_anything(self) -> bool:
        """Whether there is a change, be it of an ownership only."""
        return any(diff.changes for diff in self.diffs)


def plan_projects(context: Context, documents: Documents, *, actor: str) -> tuple[ProjectPlan, Work]:
    """
    Compare documents with the store.

    Returns:
        The plan, and what `apply_projects` works with.

    Raises:
        DocumentError: the documents contradict each other or the store, or refer to what does not exist.
        InvalidInputError: there is nothing in a document, and it would remove all that it owned.
        IllegalTransitionError: another document owns an object.
    """
    work = Work(context=context, resolve_secret=documents.resolve_secret, actor=actor)
    applied = context.store.projects.applied()
    present = describe_all(work, applied)
    stored = {each.name.lower(): each for each in context.store.projects.list_projects()}
    _check(documents, present, stored)
    work.regions.update({each.name.lower(): each.spec["region"] for each in present if each.kind == _CREDENTIAL})
    for project in documents.projects:
        work.regions.update({each.key: each.region for each in project if isinstance(each, DesiredCredential)})
    wanted: dict[str, tuple[Wanted, ...]] = {}
    problems: list[str] = []
    for project in documents.projects:
        items = []
        for each in project:
            try:
                items.append(want(work, each))
            except DocumentError as error:
                problems += error.problems
        wanted[project.name] = (*items, *want_values(work, documents.files, project))
    if problems:
        raise DocumentError(problems)
    renamed = names_given_back(present, wanted)
    names = _environment_names(present, wanted, renamed)
    values = describe_values(work, applied, names)
    diffs = compare(
        wanted,
        with_new_names([*present, *values], renamed, _REFERENCES),
        order=ORDER,
        prune=documents.prune,
        removed={(kind, each.name.lower()): each.project for (kind, _), each in applied.items() if each.removed},
    )
    diffs = tuple(map(partial(_with_manage, documents, stored), diffs))
    deletions = _deletions(context, diffs) if documents.delete else {}
    plan = ProjectPlan(
        diffs=diffs,
        digest=digest_of(diffs, deletions),
        held=tuple(_held(diffs, wanted, values)),
        missing_keys=_missing_keys(work, documents, {wanted: label for label, wanted in names.items()}),
        wanted=wanted,
        deletions=deletions,
        options=documents.options,
    )
    return plan, work


def _environment_names(
    present: Sequence[Present], wanted: Mapping[str, Sequence[Wanted]], renamed: Renames
) -> dict[str, str]:
    """Return the environments that documents have: `app/environment` in the store -> as they name it."""
    named = {each.name.lower(): each.name for items in wanted.values() for each in items if each.kind == _ENVIRONMENT}
    return {
        each.name: named[back.lower()]
        for each in present
        if each.kind == _ENVIRONMENT and (back := renamed.get((each.kind, each.name), each.name)).lower() in named
    }


def _with_manage(documents: Documents, stored: StoredProjects, diff: ProjectDiff) -> ProjectDiff:
    """Return a comparison with the change of how a document is managed, if it is managed in another way."""
    project = next(each for each in documents.projects if each.name == diff.project)
    former = stored.get(project.name.lower())
    if former is None or former.manage is project.manage:
        return diff
    change = ObjectChange(
        kind=PROJECT_KIND,
        name=project.name,
        action=ChangeAction.UPDATE,
        id=None,
        before={"manage": str(former.manage)},
        after={"manage": str(project.manage)},
        place=str(project.place),
    )
    return replace(diff, changes=(change, *diff.changes))


def _deletions(context: Context, diffs: Sequence[ProjectDiff]) -> dict[str, tuple[str, ...]]:
    return {
        change.name: deletable_objects(context, change.name)
        for diff in diffs
        for change in diff.removals
        if change.kind == DesiredSync.kind
    }


PROJECT_KIND: Final = "project"
"""Kind of a change of the document itself."""
_ENVIRONMENT: Final = DesiredEnvironment.kind
_CREDENTIAL: Final = DesiredCredential.kind


_GROUPS = {
    ObjectKind.NOTIFICATION: "notifications",
    ObjectKind.DYNAMIC: "dynamic",
    ObjectKind.SYNC: "syncs",
    ObjectKind.CREDENTIAL: "credentials",
    ObjectKind.ENVIRONMENT: "envs",
    ObjectKind.APP: "apps",
}
"""Kind -> the group of commands that removes its objects, in the order in which they can be removed."""

_REFERENCES = {
    "env": DesiredEnvironment.kind,
    "app": DesiredApp.kind,
    "credential": _CREDENTIAL,
    "source": _CREDENTIAL,
}
"""Member of a spec -> kind of what it names."""


def _check(documents: Documents, present: Sequence[Present], stored: StoredProjects) -> None:
    """Refuse documents that refer to what does not exist, or that would remove everything for lack of content."""
    for project in documents.projects:
        known = stored.get(project.name.lower())
        if known is not None and known.name != project.name:
            raise DocumentError(
                [f"{project.place}: the project is {known.name} in the store; write name: {known.name}"]
            )
    if documents.prune:
        for project in documents.projects:
            if project.empty:
                owned = {each.kind for each in present if each.applied and each.applied.project == project.name}
                commands = [f"phasesync {_GROUPS[kind]} remove NAME" for kind in _GROUPS if kind in owned]
                raise DocumentError(
                    [
                        f"{project.place}: the project {project.name} has no objects: --prune does not remove all "
                        "that a document owned because it is empty; remove the objects one by one"
                        + (f": {', '.join(commands)}" if commands else "")
                    ]
                )
    kinds = (DesiredApp.kind, DesiredEnvironment.kind, DesiredCredential.kind)
    existing = {kind: [each.name for each in present if each.kind == kind] for kind in kinds}
    check_references(documents.projects, existing=existing)
    source_depths(documents, {each.name.lower(): each.spec["source"] for each in present if each.kind == _CREDENTIAL})


def source_depths(documents: Documents, stored: Mapping[str, str | None]) -> dict[str, int]:
    """
    Return credential in lower case -> how many others it needs to assume its role, of all documents and the store.

    `stored`: credential in lower case -> its source in the store. DocumentError for a circle.
    """
    wanted = {each.key: each for project in documents.projects for each in project if each.kind == _CREDENTIAL}
    sources = dict(stored) | {key: each.source for key, each in wanted.items() if isinstance(each, DesiredCredential)}
    depths = {}
    for key in sources:
        chain = [key]
        while (source := sources.get(chain[-1])) is not None:
            if source.lower() in chain:
                place = wanted[key].place if key in wanted else documents.projects[0].place
                raise DocumentError(
                    [f"{place}: the sources of the credentials {' and '.join(chain)} form a circle; one needs none"]
                )
            chain.append(source.lower())
        depths[key] = len(chain)
    return depths


def _held(diffs: Sequence[ProjectDiff], wanted: Mapping[str, Sequence[Wanted]], values: Sequence[Present]) -> list[str]:
    reasons = [reason for diff in diffs if (reason := prune_held(diff)) is not None]
    known = {each.key: each for each in values}
    for items in wanted.values():
        for each in items:
            if each.key in known and (reason := values_held(each, known[each.key])) is not None:
                reasons.append(reason)
    return reasons


def _missing_keys(work: Work, documents: Documents, labels: Mapping[str, str]) -> dict[str, tuple[KeyName, ...]]:
    """
    Return the keys that must exist and do not, of the environments that name any.

    `labels`: environment as a document names it -> its name in the store; without those that do not exist.
    """
    missing = {}
    for project in documents.projects:
        for environment in environments_of(project):
            if not environment.keys:
                continue
            known: set[KeyName] = set()
            if (values := documents.files.values_of(environment)) is not None:
                known = set(values)
            elif (label := labels.get(environment.name)) is not None:
                app, _, name = label.partition("/")
                listed = work.context.store.secrets.list_secrets(app, name)
                known = {(secret.path, secret.key) for secret in listed}
            if lacking := tuple(sorted(set(environment.keys) - known)):
                missing[environment.name] = lacking
    return missing
