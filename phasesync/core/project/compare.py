"""
Compares what a project document wants with what the store has: the changes, what they are called, and their digest.

Pure, and the same for every kind of object: each is a name and a spec, which is a plain dictionary. A member that a
wanted spec lacks is left alone.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import IllegalTransitionError

Spec = Mapping[str, Any]
"""Members of an object as JSON shows them; no secret value among them."""

HIDDEN: Final = "(hidden)"
"""Stands for a secret in a spec."""


class ChangeAction(StrEnum):
    """What happens to an object of the store."""

    ADD = "add"
    UPDATE = "update"
    REMOVE = "remove"
    ADOPT_OWNERSHIP = "adopt-ownership"
    """It exists, and from now on this document owns it. Members that differ are updated too."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """
    An object of a document.

    Attributes:
        kind: kind of the object, as the table of kinds has it.
        name: as the command line writes it, `app/environment` for an environment.
        place: where the document has it, as `file:line:column`.
        hidden: members that are not shown -> keyed digest of what they are to be.
        on_add: members that count only when the object is added.
    """

    kind: str
    name: str
    spec: Spec
    place: str
    hidden: Mapping[str, str] = field(default_factory=dict)
    on_add: Spec = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name, regardless of case."""
        return self.kind, self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Applied:
    """
    What is remembered of an object that a document owns.

    Attributes:
        project: name of the document that owns it.
        source: where that document was read from, as `apply -f` takes it.
        file: the file that has the object.
        name: the object's name, as it was applied.
        spec: as it was applied.
        removed: somebody removed it by hand since.
    """

    project: str
    source: str
    file: str
    name: str
    spec: Spec
    removed: bool = False


@dataclass(frozen=True, kw_only=True)
class Present:
    """
    An object of the store.

    Attributes:
        spec: all its members.
        hidden: as in `Wanted`.
        applied: None if no document owns it.
    """

    kind: str
    id: str
    name: str
    spec: Spec
    hidden: Mapping[str, str] = field(default_factory=dict)
    applied: Applied | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name, regardless of case."""
        return self.kind, self.name.lower()

    @property
    def drift(self) -> tuple[str, ...]:
        """The members that are not as the document that owns the object was applied: somebody changed them by hand."""
        if self.applied is None:
            return ()
        changed = [name for name, value in self.applied.spec.items() if self.spec.get(name) != value]
        return tuple(sorted([*changed, *(["name"] if self.name != self.applied.name else [])]))


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """
    One change of an object.

    Attributes:
        id: of the object in the store; None if it is added.
        before: members that change, as they are; all members of an object that is removed; None if it is added.
        after: members that change, as they will be; all members of an object that is added; None if it is removed.
        place: where the document has it; None if it is removed.
        hidden: as in `Wanted`, of the members that change.
        drift: members that somebody changed by hand since the document was applied; `removed` for the whole object.
    """

    kind: str
    name: str
    action: ChangeAction
    id: str | None
    before: Spec | None
    after: Spec | None
    place: str | None
    hidden: Mapping[str, str] = field(default_factory=dict)
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProjectDiff:
    """
    How the store differs from a document.

    Attributes:
        project: name of the document.
        changes: in the order in which they are carried out.
        unlisted: objects that the document owns and no longer has, and that are kept.
        owned: how many objects the document owns now.
    """

    project: str
    changes: tuple[ObjectChange, ...]
    unlisted: tuple[Present, ...]
    owned: int

    @property
    def removals(self) -> tuple[ObjectChange, ...]:
        """The objects that are removed."""
        return tuple(change for change in self.changes if change.action is ChangeAction.REMOVE)


Documents = Mapping[str, Sequence[Wanted]]
"""Name of a document -> its objects, each once."""


def compare(
    documents: Documents,
    present: Iterable[Present],
    *,
    order: Sequence[str],
    prune: bool,
    removed: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> tuple[ProjectDiff, ...]:
    """
    Return what has to change so that the store has what documents want, for each document by name.

    Args:
        documents: what was read.
        present: all objects of the store, those of other documents too.
        order: the kinds, in the order in which they are added; they are removed in the opposite one.
        prune: objects that a document owns and no longer has are removed.
        removed: kind and name in lower case of objects that somebody removed by hand -> the document that owned them.

    Raises:
        IllegalTransitionError: an object belongs to another document. It moves to this one if that one is among
            `documents` and does not have it any more.
    """
    listed = {project: frozenset(each.key for each in wanted) for project, wanted in documents.items()}
    known = {each.key: each for each in present}
    rank = {kind: n for n, kind in enumerate(order)}
    diffs = []
    for project, wanted in sorted(documents.items()):
        owned = [each for each in known.values() if each.applied is not None and each.applied.project == project]
        by_applied_name = {(each.kind, each.applied.name.lower()): each for each in owned if each.applied is not None}
        changes: list[ObjectChange] = []
        kept: set[tuple[str, str]] = set()
        for each in wanted:
            # An object that was renamed by hand is still the one that the document means.
            found = known.get(each.key) or by_applied_name.get(each.key)
            if found is None:
                changes.append(_added(each, by_hand=removed.get(each.key) == project))
                continue
            kept.add(found.key)
            moves = _moves(each, found, project, listed)
            if (change := _changed(each, found, moves=moves)) is not None:
                changes.append(change)
        elsewhere = frozenset().union(*(keys for other, keys in listed.items() if other != project))
        left = [each for each in owned if each.key not in kept and each.key not in elsewhere]
        changes += [_removed(each) for each in left if prune]
        changes.sort(key=lambda change: _turn(change, rank))
        left.sort(key=lambda each: (rank[each.kind], each.name.lower()))
        diffs.append(
            ProjectDiff(
                project=project, changes=tuple(changes), unlisted=() if prune else tuple(left), owned=len(owned)
            )
        )
    return tuple(diffs)


Renames = Mapping[tuple[str, str], str]
"""Kind and name of an object of the store -> the name that it gets back."""


def names_given_back(present: Sequence[Present], documents: Documents) -> Renames:
    """Return the objects that were renamed by hand and that the documents name as they were."""
    names = {each.key: each.name for each in present}
    wanted = {each.key: each.name for items in documents.values() for each in items}
    renamed: dict[tuple[str, str], str] = {}
    for each in present:
        if each.applied is not None and each.applied.project in documents and each.key not in wanted:
            key = (each.kind, each.applied.name.lower())
            if key in wanted and key not in names:
                renamed[each.kind, each.name] = wanted[key]
    return renamed


def with_new_names(present: Sequence[Present], renamed: Renames, references: Mapping[str, str]) -> list[Present]:
    """
    Return objects of the store that refer to others by the names that these get back; they change in no other way.

    `references`: member of a spec -> kind of the objects that it names.
    """
    if not renamed:
        return list(present)
    return [
        replace(
            each,
            spec={
                member: renamed.get((references[member], value), value) if member in references else value
                for member, value in each.spec.items()
            },
        )
        for each in present
    ]


def _moves(wanted: Wanted, present: Present, project: str, listed: Mapping[str, frozenset[tuple[str, str]]]) -> bool:
    """Return whether an object comes from another document. IllegalTransitionError if that one still has it."""
    applied = present.applied
    if applied is None or applied.project == project:
        return False
    if applied.project in listed and wanted.key not in listed[applied.project]:
        return True
    raise IllegalTransitionError(
        f"{wanted.place}: the {wanted.kind} {wanted.name} belongs to the project {applied.project} "
        f"({applied.file}) already",
        hint="list it in one of the two documents only; to move it, give both documents in one command",
    )


def _turn(change: ObjectChange, rank: Mapping[str, int]) -> tuple[int, int, str]:
    """Return the place of a change in the order: what is removed comes last, dependents first."""
    if change.action is ChangeAction.REMOVE:
        return 1, -rank[change.kind], change.name.lower()
    return 0, rank[change.kind], change.name.lower()


def _added(wanted: Wanted, *, by_hand: bool) -> ObjectChange:
    """Return the change of an object that is not there. `by_hand`: somebody removed it."""
    return ObjectChange(
        kind=wanted.kind,
        name=wanted.name,
        action=ChangeAction.ADD,
        id=None,
        before=None,
        after={**wanted.spec, **wanted.on_add},
        place=wanted.place,
        hidden=wanted.hidden,
        drift=("removed",) if by_hand else (),
    )


def _changed(wanted: Wanted, present: Present, *, moves: bool) -> ObjectChange | None:
    """Return the change of an object that exists, None if there is none. `moves`: from another document."""
    differing = [name for name, value in wanted.spec.items() if present.spec.get(name) != value]
    hidden = {name: digest for name, digest in wanted.hidden.items() if present.hidden.get(name) != digest}
    before = {name: present.spec.get(name) for name in differing} | {
        name: HIDDEN if name in present.hidden else None for name in hidden
    }
    after = {name: wanted.spec[name] for name in differing} | dict.fromkeys(hidden, HIDDEN)
    if present.name != wanted.name:
        before, after = {"name": present.name} | before, {"name": wanted.name} | after
    stays = present.applied is not None and not moves
    if stays and not after:
        return None
    return ObjectChange(
        kind=wanted.kind,
        name=wanted.name,
        action=ChangeAction.UPDATE if stays else ChangeAction.ADOPT_OWNERSHIP,
        id=present.id,
        before=before,
        after=after,
        place=wanted.place,
        hidden=hidden,
        drift=tuple(name for name in present.drift if name in after),
    )


def _removed(present: Present) -> ObjectChange:
    return ObjectChange(
        kind=present.kind,
        name=present.name,
        action=ChangeAction.REMOVE,
        id=present.id,
        before=present.spec,
        after=None,
        place=None,
        drift=present.drift,
    )


def digest_of(diffs: Collection[ProjectDiff], deletions: Mapping[str, Sequence[str]]) -> str:
    """
    Return the digest of changes: 16 hex digits that any other change would not have.

    `deletions`: name of a removed sync -> its AWS secrets whose deletion is scheduled.
    """
    content = [
        {name: sorted(secrets) for name, secrets in deletions.items()},
        *(
            [diff.project, [_content_of(change) for change in diff.changes]]
            for diff in sorted(diffs, key=lambda diff: diff.project)
        ),
    ]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content_of(change: ObjectChange) -> list[Any]:
    names = [change.kind, change.name, str(change.action)]
    if change.kind == ObjectKind.VALUES:
        return [*names, change.before, change.after, dict(change.hidden)]
    # Without secrets: that of a credential may be there only when a plan is applied.
    shown = [
        None if spec is None else {name: value for name, value in spec.items() if name not in change.hidden}
        for spec in (change.before, change.after)
    ]
    return [*names, *shown]


MOST_REMOVED_PERCENT: Final = 20
FEWEST_REMOVED: Final = 3


def prune_held(diff: ProjectDiff) -> str | None:
    """
    Return why the removals of a document need an approval by their digest, None if they do not.

    An environment with secrets does: its values are nowhere else. The other limits are those of the deletions of a
    sync: at least 3 objects and more than 20 % of what the document owns, or all of 2 or more.
    """
    removed = len(diff.removals)
    with_secrets = [
        change for change in diff.removals if change.kind == ObjectKind.ENVIRONMENT and (change.before or {})["secrets"]
    ]
    if with_secrets:
        first = with_secrets[0]
        more = f" and {len(with_secrets) - 1} more" if len(with_secrets) > 1 else ""
        return (
            f"would remove the environment {first.name} with its {(first.before or {})['secrets']} secrets and their "
            f"history{more}"
        )
    if removed < 2:
        return None
    everything = removed >= diff.owned
    if everything or (removed >= FEWEST_REMOVED and removed * 100 > diff.owned * MOST_REMOVED_PERCENT):
        return (
            f"would remove {removed} of the {diff.owned} objects of the project {diff.project}; the limit is "
            f"{FEWEST_REMOVED} objects and {MOST_REMOVED_PERCENT} %"
        )
    return None
