"""Reads documents from text, as stdin."""

from __future__ import annotations

import io

from phasesync.adapters.project_files.read import read_projects
from phasesync.core.project.desired import DesiredProject
from phasesync.core.project.expand import check_references
from phasesync.errors import DocumentError


def read_text(data: bytes | str) -> tuple[DesiredProject, ...]:
    """The projects of a text. Everything that they refer to has to be in them, if they have apps."""
    data = data.encode() if isinstance(data, str) else data
    projects = read_projects(["-"], stdin=io.BytesIO(data))
    if any(project.objects["app"] for project in projects):
        check_references(projects, existing={})
    return projects


def problems_of(data: bytes | str) -> tuple[str, ...]:
    """What is wrong with a text, one line each; nothing else may come of it."""
    try:
        read_text(data)
    except DocumentError as error:
        return error.problems
    return ()
