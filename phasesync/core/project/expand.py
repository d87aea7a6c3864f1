"""
From documents to projects: checks their form, puts documents of one project together, and resolves every item.

Raises one DocumentError with everything that is wrong. Reads no file and asks no store.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from phasesync.core.project.desired import Desired, DesiredApp, DesiredEnvironment, DesiredProject
from phasesync.core.project.fields import nearest
from phasesync.core.project.kinds import BY_KIND, KINDS, Project, items_of
from phasesync.core.project.nodes import Document, Part, Problems
from phasesync.core.project.resolve import ReadText, Said, Scope
from phasesync.core.project.translate import note
from phasesync.errors import DocumentError


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A document and its model."""

    document: Document
    project: Project


def expand(documents: Iterable[Document], *, read_text: ReadText) -> tuple[DesiredProject, ...]:
    """
    Return the projects of some documents, in the order of their first documents.

    Args:
        documents: all documents that belong together.
        read_text: reads a file that a document names, such as a policy.

    Raises:
        DocumentError: with everything that is wrong.
    """
    problems = Problems()
    groups: dict[str, list[_Read]] = {}
    for document in documents:
        project = _model_of(document, problems)
        if project is not None:
            groups.setdefault(project.name.lower(), []).append(_Read(document=document, project=project))
    _raise(problems)
    projects = tuple(_project_of(group, read_text, problems) for group in groups.values())
    _find_twice(projects, problems)
    _raise(problems)
    return projects


def check_references(projects: Sequence[DesiredProject], *, existing: Mapping[str, Collection[str]]) -> None:
    """
    Make sure that everything exists that the projects refer to.

    Args:
        projects: all of them: one may refer to what another wants.
        existing: kind -> names of the objects in the store (environments as `app/env`); kinds may be left out.

    Raises:
        DocumentError: with every name that is unknown.
    """
    problems = Problems()
    known: dict[str, dict[str, str]] = {kind.kind: {} for kind in KINDS}
    for kind, names in existing.items():
        known[kind] |= {name.lower(): name for name in names}
    for project in projects:
        for wanted in project:
            known[wanted.kind][wanted.key] = wanted.name
    for project in projects:
        for wanted in project:
            for reference in wanted.references:
                names_of_kind = known[reference.kind]
                if reference.name.lower() in names_of_kind:
                    continue
                kind_of = BY_KIND[reference.kind]
                near = nearest(reference.name, list(names_of_kind.values()))
                problems.add(
                    reference.place,
                    f"there is no {kind_of.noun} {reference.name}",
                    f"did you mean {near}?" if near else f"add it under {kind_of.section}:",
                )
    _raise(problems)


def _raise(problems: Problems) -> None:
    if problems:
        raise DocumentError(problems.lines)


def _model_of(document: Document, problems: Problems) -> Project | None:
    try:
        return Project.model_validate(document.root.data)
    except ValidationError as error:
        note(error, document, Project, problems)
        return None


def _project_of(group: Sequence[_Read], read_text: ReadText, problems: Problems) -> DesiredProject:
    first = group[0]
    saying = [read for read in group if "manage" in read.project.model_fields_set] or [first]
    for other in saying[1:]:
        if other.project.manage is not saying[0].project.manage:
            problems.add(
                other.document.place("manage"),
                f"the project {first.project.name} is managed as {other.project.manage} here, and as "
                f"{saying[0].project.manage} in {saying[0].document.place('manage')}",
                "write it in one of its documents, or the same in all",
            )
    scope = _scope_of(group, read_text, problems)
    return DesiredProject(
        name=first.project.name,
        manage=saying[0].project.manage,
        documents=tuple(read.document for read in group),
        objects={
            kind.kind: tuple(
                wanted
                for read in group
                for number, item in enumerate(items_of(read.project, kind))
                for wanted in kind.resolve(item, Part(document=read.document, loc=(kind.section, number)), scope)
            )
            for kind in KINDS
        },
    )


def _scope_of(group: Sequence[_Read], read_text: ReadText, problems: Problems) -> Scope:
    names: dict[str, list[str]] = {
        kind: [item.name for read in group for item in items_of(read.project, BY_KIND[kind])]
        for kind in (DesiredApp.kind, DesiredEnvironment.kind)
    }
    apps = {name.lower(): name for name in reversed(names[DesiredApp.kind])}
    said = _defaults_of(group, problems)
    app = said.pop("app", None)
    return Scope(
        apps=apps,
        environments={name.lower(): name for name in reversed(names[DesiredEnvironment.kind])},
        app=app.value if app is not None else next(iter(apps.values())) if len(apps) == 1 else None,
        defaults=said,
        read_text=read_text,
        problems=problems,
    )


def _defaults_of(group: Sequence[_Read], problems: Problems) -> dict[str, Said]:
    """Return what all documents of a project say for all of its syncs, and the app; each may be said once."""
    found: dict[str, Said] = {}
    for read in group:
        defaults: Any = read.project.defaults
        if defaults is None:
            continue
        parts = [(defaults, Part(document=read.document, loc=("defaults",)))]
        if defaults.syncs is not None:
            parts.append((defaults.syncs, Part(document=read.document, loc=("defaults", "syncs"))))
        for model, part in parts:
            for word in sorted(model.model_fields_set - {"syncs"}):
                value = getattr(model, word)
                former = found.setdefault(word, Said(value=value, word=word, part=part))
                if former.value != value:
                    problems.add(
                        part.place(word), f"the default of {word} is another one in {former.place}", "write it once"
                    )
    return {word: said for word, said in found.items() if said.value is not None}


def _find_twice(projects: Sequence[DesiredProject], problems: Problems) -> None:
    """Note objects that are wanted twice."""
    found: dict[tuple[str, str], tuple[str, Desired]] = {}
    for project in projects:
        for wanted in project:
            owner, former = found.setdefault((wanted.kind, wanted.key), (project.name, wanted))
            if former is wanted:
                continue
            what = f"the {BY_KIND[wanted.kind].noun} {wanted.name} is also in {former.place}"
            if owner != project.name:
                what += f", in the project {owner}"
            problems.add(wanted.place, what, "write it in one place of one project")
