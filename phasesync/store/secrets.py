"""
Secrets: reading the current versions, the history and whole environments; and edits.

A read decrypts only what it returns. Rows are found by keyed digests, so the database holds no key names. Before
anything is returned, the environment's MAC is checked over all its rows, and every key that is set must have its value.

One edit is one transaction and one revision. Two edits of an environment wait for each other on its row, so none is
lost and revisions follow commits. Nothing is ever overwritten: an edit adds versions, and unsetting adds a version
without a value.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.core.audit import NAMES_IN_LOG
from phasesync.core.model import Environment, EnvironmentSnapshot, SecretValue, SecretVersion, SecretWrite, ValueType
from phasesync.core.names import check_key, check_stored_key, normalise_path, without_value
from phasesync.core.pages import PAGE_SIZE, Page, bad_cursor, page_of
from phasesync.errors import AlreadyExistsError, CiphertextError, InvalidInputError, NotFoundError, StalePlanError
from phasesync.store.apps import find_app, find_environment, insert_environment, select_environments, to_environment
from phasesync.store.base import BaseStore, new_id
from phasesync.store.db_time import from_microseconds
from phasesync.store.environment_mac import Pointer, authentic_pointers, check_environment_mac, update_environment_row
from phasesync.store.key_ring import KeyRing
from phasesync.store.projects import refuse_values_of_file
from phasesync.store.protection import require_approval
from phasesync.store.tables import apps, dynamic_secrets, environments, secret_versions, secrets

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal

_OF_SECRET: Final = (
    secrets.c.id,
    secrets.c.environment_id,
    secrets.c.lookup,
    secrets.c.name,
    secrets.c.is_set,
    secrets.c.version.label("current_version"),
)
_MARKS = {ValueType.TEXT: b"t", ValueType.JSON: b"j", ValueType.BINARY: b"b"}
_TYPES = {mark: type_ for type_, mark in _MARKS.items()}


class SnapshotReader:
    """Reads environments in one database snapshot."""

    def __init__(self, connection: sa.Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys

    def load(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], EnvironmentSnapshot]:
        """
        Decrypt whole environments.

        Args:
            names: (app, environment); compared without regard to case.

        Returns:
            The environments that exist, by (app, environment) in lower case. The number of SQL statements does not
            depend on the number of environments or secrets.

        Raises:
            CiphertextError: a row does not authenticate.
            StoreUnavailableError: the database is locked or down.
        """
        wanted = sorted({(app.lower(), environment.lower()) for app, environment in names})
        if not wanted:
            return {}
        rows = self._connection.execute(
            select_environments().where(sa.tuple_(apps.c.name_key, environments.c.name_key).in_(wanted))
        ).all()
        values: dict[str, dict[tuple[str, str], SecretValue]] = {row.id: {} for row in rows}
        for environment_id, secret_rows in current_rows(self._connection, self._keys, rows).items():
            for row in secret_rows:
                version = to_version(row, self._keys)
                if version.value is not None:
                    values[environment_id][version.path, version.key] = version.value
        return {
            (row.app_key, row.name_key): EnvironmentSnapshot(
                environment_id=row.id, app=row.app, name=row.name, revision=row.revision, secrets=values[row.id]
            )
            for row in rows
        }


def lookup_of(keys: KeyRing, environment_id: str, path: str, key: str) -> bytes:
    """Return the keyed digest that finds a key's row without naming it."""
    return keys.digests.digest("secret-lookup", environment_id.encode(), path.encode(), key.encode())


@cache
def select_versions() -> sa.Select[Any]:
    """Return the select of all versions of all secrets."""
    return sa.select(*_OF_SECRET, secret_versions).join_from(secrets, secret_versions)


@cache
def select_current() -> sa.Select[Any]:
    """Return the select of the current version of all secrets, unset ones included."""
    return select_versions().where(secret_versions.c.version == secrets.c.version)


@cache
def _select_contents() -> sa.Select[Any]:
    """Return the select of all secrets with their current version; NULLs if it is unset or missing."""
    current = (
        (secret_versions.c.secret_id == secrets.c.id)
        & (secret_versions.c.version == secrets.c.version)
        & secrets.c.is_set
    )
    return sa.select(*_OF_SECRET, secret_versions).outerjoin_from(secrets, secret_versions, current)


def current_rows(
    connection: sa.Connection, keys: KeyRing, environment_rows: Sequence[sa.Row[Any]]
) -> dict[str, list[sa.Row[Any]]]:
    """
    Return environment id -> rows of `select_current` of the keys that are set, in one statement.

    `environment_rows`: rows of `select_environments`. CiphertextError if one, or the set of its secrets, was altered.
    """
    rows: dict[str, list[sa.Row[Any]]] = {environment.id: [] for environment in environment_rows}
    for row in connection.execute(_select_contents().where(secrets.c.environment_id.in_(rows))):
        rows[row.environment_id].append(row)
    for environment in environment_rows:
        pointers = [Pointer(row.id, row.lookup, row.current_version, row.is_set) for row in rows[environment.id]]
        check_environment_mac(keys, environment, pointers)
    return {environment_id: [row for row in own if row.is_set] for environment_id, own in rows.items()}


def _current_row(newest: Pointer, rows: Sequence[sa.Row[Any]]) -> sa.Row[Any]:
    """Return the row of the current version. CiphertextError if it is missing."""
    for row in rows:
        if row.version == newest.version:
            return row
    raise _missing()


def _missing() -> CiphertextError:
    return CiphertextError("a stored value in table secret_versions is missing: it was removed outside phasesync")


def to_version(row: sa.Row[Any], keys: KeyRing) -> SecretVersion:
    """Decrypt a row of `select_versions`. CiphertextError."""
    if row.version is None:
        raise _missing()
    path, key = keys.decrypt_json(tuple[str, ...], name_context(row.environment_id, row.id), row.name)
    return SecretVersion(
        path=path,
        key=key,
        version=row.version,
        value=open_value(row, keys),
        comment=open_comment(row, keys),
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        origin=row.origin,
        approved_by=row.approved_by,
    )


def open_value(row: sa.Row[Any], keys: KeyRing) -> SecretValue | None:
    """Decrypt the value of a version; None if the version unset the key. CiphertextError."""
    if row.version == row.current_version and (row.value is None) == row.is_set:
        raise _missing()
    if row.value is None:
        if row.origin != "unset":
            raise _missing()
        return None
    plain = keys.decrypt(version_context(row.environment_id, row.id, "value", row.version), row.value)
    return SecretValue(plain[1:], _TYPES[plain[:1]])


def open_comment(row: sa.Row[Any], keys: KeyRing) -> str:
    """Decrypt the comment of a version; empty if there is no comment. CiphertextError."""
    return keys.decrypt_text(version_context(row.environment_id, row.id, "comment", row.version), row.comment) or ""


def plain_value(value: SecretValue) -> bytes:
    """Return the plaintext of a value's ciphertext: a mark of the type, then the bytes."""
    return _MARKS[value.type] + value.reveal()


def name_context(environment_id: str, secret_id: str) -> tuple[str, ...]:
    """Return what the ciphertext of a key's name is bound to."""
    return ("secrets", f"{environment_id}/{secret_id}", "name", "1")


def version_context(environment_id: str, secret_id: str, column: str, version: int) -> tuple[str, ...]:
    """Return what the ciphertexts of a version are bound to."""
    return ("secret_versions", f"{environment_id}/{secret_id}", column, str(version))


def not_set_error(app: str, environment: str, path: str, key: str) -> NotFoundError:
    """Return the error for a key that is not set."""
    return NotFoundError(
        f"{without_value(key)} is not set in {app}/{environment} at {path}",
        hint=f"phasesync secrets list {app}/{environment} shows what is",
    )


_READ_ALL_FROM: Final = 500
"""An edit of this many keys or more reads all secrets of the environment instead of naming each key."""

KeyPath = tuple[str, str]
"""Path and key."""


@dataclass(frozen=True, kw_only=True)
class _KeyEdit:
    """The edit of one key. `value` None unsets the key; `row` None means that the key is new."""

    key_path: KeyPath
    lookup: bytes
    row: sa.Row[Any] | None
    value: SecretValue | None
    comment: str


class SecretStore(BaseStore):
    """Secrets of environments: reading, editing, and cloning an environment."""

    @contextmanager
    def snapshot(self) -> Iterator[SnapshotReader]:
        """Open a reader with one snapshot: all its answers are of the same moment."""
        with self._database.read() as connection:
            yield SnapshotReader(connection, self._keys)

    def list_secrets(self, app: str, environment: str, *, path: str | None = None) -> list[SecretVersion]:
        """Return the current version of every key, sorted by path and key; of one folder or of all."""
        folder = None if path is None else normalise_path(path)
        with self._database.read() as connection:
            environment_row = find_environment(connection, app, environment)
            rows = current_rows(connection, self._keys, [environment_row])[environment_row.id]
        versions = [to_version(row, self._keys) for row in rows]
        return sorted(
            (version for version in versions if folder in (None, version.path)),
            key=lambda version: (version.path, version.key),
        )

    def page_secrets(
        self, app: str, environment: str, *, path: str | None = None, after: str | None = None, limit: int = PAGE_SIZE
    ) -> Page[SecretVersion]:
        """
        Return what `list_secrets` returns, page by page.

        Names of keys are encrypted, and the MAC of an environment covers all of them: each page reads the environment.

        Raises:
            InvalidInputError: the cursor.
        """
        listed = self.list_secrets(app, environment, path=path)
        if after is not None:
            place = _from_cursor(after)
            listed = [version for version in listed if (version.path, version.key) > place]
        return page_of(listed, limit, lambda version: version, _to_cursor)

    def get_secret(self, app: str, environment: str, path: str, key: str) -> SecretVersion:
        """Return the current version of a key. NotFoundError if it is not set."""
        newest, rows = self._versions(app, environment, path, key, select_current())
        if newest is None or not newest.is_set:
            raise not_set_error(app, environment, path, key)
        return to_version(_current_row(newest, rows), self._keys)

    def history(self, app: str, environment: str, path: str, key: str) -> list[SecretVersion]:
        """Return all versions of a key, newest first. NotFoundError if it was never set."""
        newest, rows = self._versions(
            app, environment, path, key, select_versions().order_by(secret_versions.c.version.desc())
        )
        if newest is None:
            raise not_set_error(app, environment, path, key)
        _current_row(newest, rows)
        return [to_version(row, self._keys) for row in rows if row.version <= newest.version]

    def _versions(
        self, app: str, environment: str, path: str, key: str, statement: sa.Select[Any]
    ) -> tuple[Pointer | None, list[sa.Row[Any]]]:
        """Return the pointer of a key (None if it was never set) and its rows of a select."""
        path, key = normalise_path(path), check_stored_key(key)
        with self._database.read() as connection:
            environment_row = find_environment(connection, app, environment)
            pointers = authentic_pointers(connection, self._keys, environment_row)
            wanted = lookup_of(self._keys, environment_row.id, path, key)
            newest = next((pointer for pointer in pointers if pointer.lookup == wanted), None)
            if newest is None:
                return None, []
            return newest, list(connection.execute(statement.where(secrets.c.id == newest.id)).all())

    def edit(
        self,
        app: str,
        environment: str,
        *,
        actor: str,
        origin: str,
        writes: Sequence[SecretWrite] = (),
        unsets: Sequence[tuple[str, str]] = (),
        since: int | None = None,
    ) -> Environment:
        """
        Commit edits as one revision.

        A key that has this value, type and comment already is left alone; an edit that changes nothing makes no
        revision. Folders are created as needed.

        Args:
            app: name of the app.
            environment: name of the environment.
            actor: who, for the history.
            origin: set, unset, import, edit, rollback or generate.
            writes: keys to set.
            unsets: (path, key) to remove; NotFoundError if one is not set.
            since: the revision that the edits were made from; None means any.

        Returns:
            The environment after the edit.

        Raises:
            AlreadyExistsError: a dynamic secret of the same folder issues values under one of the new keys.
            ApprovalNeededError: the environment is protected, and nobody has approved the edit.
            StalePlanError: the environment has a newer revision than `since`.
        """
        wanted = _edits_by_key(writes, unsets)
        with self._database.write() as connection:
            environment_row = find_environment(connection, app, environment, lock=True)
            if since is not None and environment_row.revision != since:
                raise StalePlanError(f"{app}/{environment} was edited meanwhile")
            refuse_values_of_file(connection, self._keys, environment_row.id)
            pointers = authentic_pointers(connection, self._keys, environment_row)
            edits = self._key_edits(connection, environment_row, wanted)
            if not edits:
                return to_environment(environment_row)
            for edit in edits:
                if edit.row is None:
                    check_key(edit.key_path[1])
            self._refuse_issued_keys(connection, environment_row, edits)
            approved_by = require_approval(
                self._keys, [environment_row], partial(_proposal, environment_row, edits, origin)
            )
            mac = self._commit(connection, environment_row, pointers, edits, actor, origin, approved_by)
            self._audit(
                connection,
                f"secret.{origin}",
                f"{environment_row.app}/{environment_row.name}",
                details=_edited(environment_row, edits) | ({} if approved_by is None else {"approved_by": approved_by}),
                before=environment_row.mac,
                after=mac,
            )
            return to_environment(find_environment(connection, app, environment))

    def check_editable(self, app: str, environment: str) -> None:
        """
        Make sure that an edit would be accepted, before somebody types values.

        Raises:
            NotFoundError: there is no such environment.
            IllegalTransitionError: its values come from a file.
        """
        with self._database.read() as connection:
            refuse_values_of_file(connection, self._keys, find_environment(connection, app, environment).id)

    def clone_environment(self, app: str, name: str, target: str, *, actor: str) -> Environment:
        """Copy the current secrets into a new environment of the same app, which has its own data key."""
        with self._database.write() as connection:
            owner = find_app(connection, app, lock=True)
            source = find_environment(connection, app, name, lock=True)
            mac = insert_environment(connection, self._keys, owner, target)
            rows = current_rows(connection, self._keys, [source])[source.id]
            copies = [to_version(row, self._keys) for row in rows]
            wanted: dict[KeyPath, SecretWrite | None] = {
                (copy.path, copy.key): SecretWrite(path=copy.path, key=copy.key, value=copy.value, comment=copy.comment)
                for copy in copies
                if copy.value is not None
            }
            created = find_environment(connection, app, target, lock=True)
            if wanted:
                edits = self._key_edits(connection, created, wanted)
                mac = self._commit(connection, created, (), edits, actor, "clone")
            label = f"{source.app}/{source.name}"
            self._audit(connection, "environment.clone", label, details={"to": created.name}, after=mac)
            return to_environment(find_environment(connection, app, target))

    def _key_edits(
        self, connection: sa.Connection, environment: sa.Row[Any], wanted: Mapping[KeyPath, SecretWrite | None]
    ) -> list[_KeyEdit]:
        """Return the edits that change something. NotFoundError if a key to unset is not set."""
        lookups = {key_path: lookup_of(self._keys, environment.id, *key_path) for key_path in wanted}
        statement = select_current().where(secrets.c.environment_id == environment.id)
        if len(lookups) < _READ_ALL_FROM:
            statement = statement.where(secrets.c.lookup.in_(list(lookups.values())))
        rows = {row.lookup: row for row in connection.execute(statement)}
        edits = []
        for key_path, write in wanted.items():
            row = rows.get(lookups[key_path])
            former = open_value(row, self._keys) if row is not None else None
            comment = open_comment(row, self._keys) if row is not None and former is not None else ""
            if write is None:
                if former is None:
                    raise not_set_error(environment.app, environment.name, *key_path)
                edits.append(_KeyEdit(key_path=key_path, lookup=lookups[key_path], row=row, value=None, comment=""))
                continue
            new_comment = comment if write.comment is None else write.comment
            if former is None or former != write.value or comment != new_comment:
                edits.append(
                    _KeyEdit(
                        key_path=key_path, lookup=lookups[key_path], row=row, value=write.value, comment=new_comment
                    )
                )
        return edits

    def _refuse_issued_keys(
        self, connection: sa.Connection, environment: sa.Row[Any], edits: Sequence[_KeyEdit]
    ) -> None:
        """Raise AlreadyExistsError if a dynamic secret of the same folder issues values under one of the new keys."""
        new = [edit.key_path for edit in edits if edit.value is not None and (edit.row is None or not edit.row.is_set)]
        any_dynamic = sa.select(dynamic_secrets.c.id).where(dynamic_secrets.c.environment_id == environment.id).limit(1)
        if not new or connection.scalar(any_dynamic) is None:
            return
        from phasesync.store.dynamic import issued_keys  # Most environments have no dynamic secrets.

        issued = issued_keys(connection, environment.id, self._keys)
        for path, key in new:
            if (name := issued.get((path, key))) is not None:
                raise AlreadyExistsError(
                    f"{key} of {environment.app}/{environment.name} {path} is issued by the dynamic secret {name}",
                    hint=f"choose another key, or: phasesync dynamic update {name} --key-map OUTPUT=NAME",
                )

    def _commit(
        self,
        connection: sa.Connection,
        environment: sa.Row[Any],
        pointers: Iterable[Pointer],
        edits: Sequence[_KeyEdit],
        actor: str,
        origin: str,
        approved_by: str | None = None,
    ) -> bytes:
        """
        Store versions and the new revision; the number of statements does not depend on the number of keys.

        Returns the new MAC of the environment.

        `pointers`: the authenticated secrets of the environment before the edit.
        """
        added, moved, versions = [], [], []
        current = {pointer.id: pointer for pointer in pointers}
        for edit in edits:
            secret_id = new_id() if edit.row is None else edit.row.id
            version = 1 if edit.row is None else edit.row.version + 1
            current[secret_id] = Pointer(
                id=secret_id, lookup=edit.lookup, version=version, is_set=edit.value is not None
            )
            if edit.row is None:
                added.append(
                    {
                        "id": secret_id,
                        "environment_id": environment.id,
                        "lookup": edit.lookup,
                        "name": self._keys.encrypt_json(
                            environment.data_key_id, name_context(environment.id, secret_id), edit.key_path
                        ),
                        "version": version,
                        "is_set": True,
                    }
                )
            else:
                moved.append({"secret": secret_id, "new_version": version, "new_is_set": edit.value is not None})
            versions.append(
                {
                    "secret_id": secret_id,
                    "version": version,
                    "value": self._seal_value(environment, secret_id, version, edit.value),
                    "comment": self._keys.encrypt_text(
                        environment.data_key_id,
                        version_context(environment.id, secret_id, "comment", version),
                        edit.comment or None,
                    ),
                    "revision": environment.revision + 1,
                    "changed_at": from_microseconds(environment.clock),
                    "changed_by": actor,
                    "origin": "unset" if edit.value is None else origin,
                    "approved_by": approved_by,
                }
            )
        if added:
            connection.execute(secrets.insert(), added)
        if moved:
            connection.execute(
                secrets.update()
                .where(secrets.c.id == sa.bindparam("secret"))
                .values(version=sa.bindparam("new_version"), is_set=sa.bindparam("new_is_set")),
                moved,
            )
        connection.execute(secret_versions.insert(), versions)
        return update_environment_row(
            connection, self._keys, environment, current.values(), revision=environment.revision + 1
        )

    def _seal_value(
        self, environment: sa.Row[Any], secret_id: str, version: int, value: SecretValue | None
    ) -> bytes | None:
        if value is None:
            return None
        context = version_context(environment.id, secret_id, "value", version)
        return self._keys.encrypt(environment.data_key_id, context, plain_value(value))


def _edited(environment: sa.Row[Any], edits: Sequence[_KeyEdit]) -> dict[str, Any]:
    """Return which keys an edit adds, changes and removes, for the audit log."""
    details: dict[str, Any] = {"revision": environment.revision + 1}
    names: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    for edit in edits:
        was_set = edit.row is not None and edit.row.is_set
        kind = "removed" if edit.value is None else "changed" if was_set else "added"
        path, key = edit.key_path
        names[kind].append(f"{path.rstrip('/')}/{key}")
    for kind, listed in names.items():
        if listed:
            details[kind] = sorted(listed)[:NAMES_IN_LOG]
            if (more := len(listed) - NAMES_IN_LOG) > 0:
                details[f"{kind}_more"] = more
    return details


def _proposal(environment: sa.Row[Any], edits: Sequence[_KeyEdit], origin: str) -> "Proposal":
    """Return edits as a change that waits for an approval."""
    from phasesync.core.change_request import EditSecrets, Proposal, Seen, described_edits, key_edit

    ordered = sorted(edits, key=lambda edit: edit.key_path)
    proposed = tuple(key_edit(*edit.key_path, edit.value, edit.comment) for edit in ordered)
    return Proposal(
        arguments=EditSecrets(environment_id=environment.id, origin=origin, edits=proposed),
        changes=described_edits(
            proposed, frozenset(edit.key_path for edit in edits if edit.row is not None and edit.row.is_set)
        ),
        seen={
            f"{edit.key_path[1]} in {edit.key_path[0]}": Seen(id="")
            if edit.row is None
            else Seen(id=edit.row.id, version=edit.row.version)
            for edit in edits
        },
    )


def _edits_by_key(
    writes: Sequence[SecretWrite], unsets: Sequence[tuple[str, str]]
) -> dict[KeyPath, SecretWrite | None]:
    """Return the requested write of each key; None unsets it. The later of two writes of a key wins."""
    wanted: dict[KeyPath, SecretWrite | None] = {
        (normalise_path(write.path), check_stored_key(write.key)): write for write in writes
    }
    for path, key in unsets:
        key_path = (normalise_path(path), check_stored_key(key))
        if wanted.get(key_path) is not None:
            raise InvalidInputError(f"{key} cannot be set and unset in one edit")
        wanted[key_path] = None
    return wanted


def _to_cursor(version: SecretVersion) -> str:
    """Return the cursor of a secret: keys may have characters that a shell or a URL would not keep."""
    return urlsafe_b64encode(json.dumps([version.path, version.key]).encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> tuple[str, str]:
    """Return path and key of the secret that a cursor is. InvalidInputError."""
    try:
        path, key = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError):
        raise bad_cursor() from None
    if not isinstance(path, str) or not isinstance(key, str):
        raise bad_cursor()
    return path, key
