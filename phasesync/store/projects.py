"""
Project documents: which objects each one owns, how it was applied last, and what somebody changed by hand since.

The spec of an object as it was applied is one ciphertext, bound to the object and its document. An object whose row
here was removed or altered counts as owned by nobody: a document then adopts it again, which a person sees in the plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.names import check_name
from phasesync.core.project.compare import Applied, Spec
from phasesync.core.project.ownership import Manage, ObjectKind
from phasesync.errors import CiphertextError, IllegalTransitionError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.db_time import now
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.serialization import to_member
from phasesync.store.tables import owned_objects, projects


@dataclass(frozen=True, kw_only=True)
class AppliedProject:
    """A document as it was applied last. `source`: its files, for messages."""

    name: str
    manage: Manage
    source: str
    applied_at: datetime
    applied_by: str


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """
    What an application of a document leaves: its objects, and those that it owns no longer.

    Attributes:
        objects: (kind, id) -> name, spec and file, as applied; of all objects that the document has.
        dropped: (kind, id) of removed objects.
    """

    name: str
    manage: Manage
    source: str
    objects: Mapping[tuple[str, str], tuple[str, Spec, str]] = field(default_factory=dict)
    dropped: Sequence[tuple[str, str]] = ()


_APPLYING: Final = ContextVar("_APPLYING", default=False)


@contextmanager
def applying() -> Iterator[None]:
    """Let the changes of a block pass as those of a document: they are neither refused nor drift."""
    token = _APPLYING.set(True)
    try:
        yield
    finally:
        _APPLYING.reset(token)


class ProjectStore(BaseStore):
    """Project documents and what they own."""

    def list_projects(self) -> list[AppliedProject]:
        """Return the documents by name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(projects).order_by(projects.c.name_key)).all()
        return [
            AppliedProject(
                name=row.name,
                manage=to_member(Manage, row.manage, "manage in table projects"),
                source=row.source,
                applied_at=row.applied_at,
                applied_by=row.applied_by,
            )
            for row in rows
        ]

    def applied(self, *, edited_only: bool = False) -> dict[tuple[str, str], Applied]:
        """Return (kind, id) -> how the object was applied; of all owned objects, or of those changed by hand."""
        statement = _SELECT_OWNED
        if edited_only:
            statement = statement.where(owned_objects.c.edited_at.is_not(None))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        applied = {}
        for row in rows:
            with suppress(CiphertextError):
                applied[row.kind, row.object_id] = _to_applied(row, self._keys)
        return applied

    def owner_of(self, kind: ObjectKind, object_id: str) -> Applied | None:
        """Return how an object was applied by the document that owns it; None if no document does."""
        with self._database.read() as connection:
            row = connection.execute(_SELECT_OWNED.where(*_is(kind, object_id))).first()
        return None if row is None else _to_applied(row, self._keys)

    def check_by_hand(self, kind: ObjectKind, object_id: str) -> None:
        """
        Refuse a change by hand before anything is done for it, at AWS for example.

        Raises:
            IllegalTransitionError: the document that owns the object is managed strictly.
        """
        with self._database.read() as connection:
            refuse_if_strict(connection, self._keys, kind, object_id)

    def save(self, ownership: Ownership, *, actor: str) -> None:
        """Remember how a document was applied. The caller holds the transaction of the application."""
        check_name(ownership.name, "project")
        values = {
            "name": ownership.name,
            "manage": ownership.manage,
            "source": ownership.source,
            "applied_at": now(),
            "applied_by": actor,
        }
        with self._database.write() as connection:
            project_id = connection.scalar(
                sa.select(projects.c.id).where(projects.c.name_key == ownership.name.lower())
            )
            if project_id is None:
                project_id = new_id()
                connection.execute(projects.insert().values(id=project_id, name_key=ownership.name.lower(), **values))
            else:
                connection.execute(projects.update().where(projects.c.id == project_id).values(**values))
            gone = [*ownership.dropped, *ownership.objects]
            if gone:
                connection.execute(
                    owned_objects.delete().where(
                        owned_objects.c.kind == sa.bindparam("gone_kind"),
                        owned_objects.c.object_id == sa.bindparam("gone_id"),
                    ),
                    [{"gone_kind": kind, "gone_id": object_id} for kind, object_id in gone],
                )
            if ownership.objects:
                key_id = self._keys.data_key(CREDENTIALS_KEY)
                connection.execute(
                    owned_objects.insert(),
                    [
                        {
                            "kind": kind,
                            "object_id": object_id,
                            "project_id": project_id,
                            "spec": self._keys.encrypt_json(
                                key_id, owned_context(kind, object_id, project_id), [name, dict(spec), file]
                            ),
                        }
                        for (kind, object_id), (name, spec, file) in ownership.objects.items()
                    ],
                )
            counts = {"objects": len(ownership.objects), "dropped": len(ownership.dropped)}
            self._audit(connection, "project.apply", ownership.name, details={"source": ownership.source, **counts})


def note_edit(
    connection: sa.Connection, keys: KeyRing, kind: ObjectKind, object_id: str, *, removed: bool = False
) -> None:
    """
    Note in the transaction of a change that it was made by hand, if a document owns the object.

    Raises:
        IllegalTransitionError: the document is managed strictly.
    """
    if _APPLYING.get() or not refuse_if_strict(connection, keys, kind, object_id):
        return
    changes: dict[str, Any] = {"edited_at": sa.func.coalesce(owned_objects.c.edited_at, now())}
    if removed:
        changes["removed_at"] = now()
    connection.execute(owned_objects.update().where(*_is(kind, object_id)).values(**changes))


def refuse_values_of_file(connection: sa.Connection, keys: KeyRing, environment_id: str) -> None:
    """Raise IllegalTransitionError if the values of an environment come from a file: then nobody types them."""
    if _APPLYING.get():
        return
    row = connection.execute(_SELECT_OWNED.where(*_is(ObjectKind.VALUES, environment_id))).first()
    if row is None:
        return
    owner = _to_applied(row, keys)
    raise IllegalTransitionError(
        f"the values of {owner.name} come from the file {owner.spec.get('sops')}, by the project {owner.project} "
        f"({owner.file})",
        hint=f"sops edit {owner.spec.get('sops')}; then: phasesync apply -f {owner.source}",
    )


_SELECT_OWNED: Final = sa.select(owned_objects, projects.c.name, projects.c.source, projects.c.manage).join_from(
    owned_objects, projects
)


def _is(kind: ObjectKind, object_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return owned_objects.c.kind == kind, owned_objects.c.object_id == object_id


def refuse_if_strict(connection: sa.Connection, keys: KeyRing, kind: ObjectKind, object_id: str) -> bool:
    """Return whether a document owns an object. IllegalTransitionError if that document is managed strictly."""
    row = connection.execute(_SELECT_OWNED.where(*_is(kind, object_id))).first()
    if row is None:
        return False
    if row.manage == Manage.STRICT and not _APPLYING.get():
        owner = _to_applied(row, keys)
        noun = "dynamic secret" if kind is ObjectKind.DYNAMIC else str(kind)
        raise IllegalTransitionError(
            f"the {noun} {owner.name} is managed strictly by the project {owner.project} ({owner.file}): it is not "
            "changed by hand",
            hint=f"change {owner.file}, then: phasesync apply -f {owner.source}",
        )
    return True


def _to_applied(row: sa.Row[Any], keys: KeyRing) -> Applied:
    """Return a row of `_SELECT_OWNED`. CiphertextError."""
    name, spec, file = open_owned(row, keys)
    return Applied(
        project=row.name,
        source=row.source,
        file=file,
        name=name,
        spec=spec,
        removed=row.removed_at is not None,
    )


def open_owned(row: sa.Row[Any], keys: KeyRing) -> tuple[str, Spec, str]:
    """Return name, spec and file of an owned object, as they were applied. CiphertextError."""
    name, spec, file = keys.decrypt_json(list[Any], owned_context(row.kind, row.object_id, row.project_id), row.spec)
    return name, spec, file


def owned_context(kind: str, object_id: str, project_id: str) -> tuple[str, ...]:
    """Return what the spec of an owned object is bound to."""
    return ("owned_objects", f"{kind}/{object_id}", "spec", "1", project_id)
