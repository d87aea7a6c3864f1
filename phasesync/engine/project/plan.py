"""Plans the application of documents: what differs from the store, what needs an approval, and the digest of all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from phasesync.core.model import SecretValue
from phasesync.core.project.compare import (
    Present,
    ProjectDiff,
    Wanted,
    compare,
    digest_of,
    prune_held,
    with_new_names,
)
from phasesync.core.project.desired import (
    DesiredApp,
    DesiredCredential,
    DesiredEnvironment,
    DesiredProject,
    SecretOrigin,
)
from phasesync.core.project.expand import check_references
from phasesync.core.project.kinds import KINDS
from phasesync.core.project.ownership import ObjectKind
from phasesync.engine.context import Context
from phasesync.engine.project.objects import Work, describe_all, key_text, want
from phasesync.engine.project.values import (
    ValueFiles,
    Values,
    describe_values,
    environments_of,
    values_held,
    want_values,
)
from phasesync.errors import DocumentError

_AFTER: Mapping[str, str] = {DesiredEnvironment.kind: ObjectKind.VALUES}
"""Kind of `KINDS` -> kind that is added right after it."""

ORDER = tuple(str(each) for kind in KINDS for each in (kind.kind, _AFTER.get(kind.kind)) if each is not None)
"""Every kind, in the order in which objects are added; in the opposite one they are removed."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """
    What was read, and what reads the files that it names.

    Attributes:
        prune: objects that a document owns and no longer has are removed.
    """

    projects: tuple[DesiredProject, ...]
    files: ValueFiles
    resolve_secret: Callable[[SecretOrigin], SecretValue | None]
    prune: bool = False

    @classmethod
    def of(
        cls,
        projects: Sequence[DesiredProject],
        *,
        decrypt: Callable[[str], Values],
        resolve_secret: Callable[[SecretOrigin], SecretValue | None],
        prune: bool = False,
    ) -> "Documents":
        """Return documents with what reads the files that they name."""
        return cls(
            projects=tuple(projects), files=ValueFiles(decrypt=decrypt), resolve_secret=resolve_secret, prune=prune
        )


@dataclass(frozen=True, kw_only=True)
class ProjectPlan:
    """
    What the application of documents would do.

    Attributes:
        digest: of all changes.
        held: why it needs an approval by its digest; empty = it does not.
        missing_keys: `app/environment` -> keys that must exist and do not.
        wanted: the objects of each document, by its name.
    """

    diffs: tuple[ProjectDiff, ...]
    digest: str
    held: tuple[str, ...]
    missing_keys: Mapping[str, tuple[str, ...]]
    wanted: Mapping[str, tuple[Wanted, ...]] = field(repr=False)

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
    _check(documents, present)
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
    labels = [each.name for items in wanted.values() for each in items if each.kind == ObjectKind.VALUES]
    values = describe_values(work, applied, labels)
    renamed = with_new_names([*present, *values], wanted, _REFERENCES)
    diffs = compare(wanted, renamed, order=ORDER, prune=documents.prune)
    plan = ProjectPlan(
        diffs=diffs,
        digest=digest_of(diffs),
        held=tuple(_held(diffs, wanted, values)),
        missing_keys=_missing_keys(work, documents, present),
        wanted=wanted,
    )
    return plan, work


_CREDENTIAL = DesiredCredential.kind
_REFERENCES = {"env": DesiredEnvironment.kind, "credential": _CREDENTIAL, "source": _CREDENTIAL}
"""Member of a spec -> kind of what it names."""


def _check(documents: Documents, present: Sequence[Present]) -> None:
    """Refuse documents that refer to what does not exist, or that would remove everything for lack of content."""
    if documents.prune:
        for project in documents.projects:
            if project.empty:
                raise DocumentError(
                    [
                        f"{project.place}: the project {project.name} has no objects: --prune does not remove all "
                        "that a document owned because it is empty; remove the objects one by one"
                    ]
                )
    kinds = (DesiredApp.kind, DesiredEnvironment.kind, DesiredCredential.kind)
    existing = {kind: [each.name for each in present if each.kind == kind] for kind in kinds}
    check_references(documents.projects, existing=existing)


def _held(diffs: Sequence[ProjectDiff], wanted: Mapping[str, Sequence[Wanted]], values: Sequence[Present]) -> list[str]:
    reasons = [reason for diff in diffs if (reason := prune_held(diff)) is not None]
    known = {each.key: each for each in values}
    for items in wanted.values():
        for each in items:
            if each.key in known and (reason := values_held(each, known[each.key])) is not None:
                reasons.append(reason)
    return reasons


def _missing_keys(work: Work, documents: Documents, present: Sequence[Present]) -> dict[str, tuple[str, ...]]:
    """Return the keys that must exist and do not, of the environments that name any."""
    there = {each.name.lower() for each in present if each.kind == DesiredEnvironment.kind}
    missing = {}
    for project in documents.projects:
        for environment in environments_of(project):
            if not environment.keys:
                continue
            required = {key_text(folder, key) for folder, key in environment.keys}
            if (values := documents.files.values_of(environment)) is not None:
                known = {key_text(folder, key) for folder, key in values}
            elif environment.key in there:
                listed = work.context.store.secrets.list_secrets(environment.app, environment.environment)
                known = {key_text(secret.path, secret.key) for secret in listed}
            else:
                known = set()
            if lacking := tuple(sorted(required - known)):
                missing[environment.name] = lacking
    return missing
