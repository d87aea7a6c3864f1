"""
Secrets, written: one edit = one transaction = one revision.

Two edits of an environment wait for each other on its row, so that none is lost and revisions follow commits. Nothing
is ever overwritten: an edit adds versions, and unsetting adds one without a value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from phasesync.adapters.store.environment_macs import Pointer, authenticated, store_mac
from phasesync.adapters.store.environments import EnvironmentsPart, find_app, find_environment, to_environment
from phasesync.adapters.store.instants import from_microseconds
from phasesync.adapters.store.part import new_id
from phasesync.adapters.store.secret_reads import (
    current_rows,
    lookup_of,
    name_context,
    not_set,
    open_comment,
    open_value,
    plain_value,
    select_current,
    to_version,
    version_context,
)
from phasesync.adapters.store.tables import dynamic_secrets, secret_versions, secrets
from phasesync.core.model import Environment, SecretValue
from phasesync.core.names import check_key, check_stored_key, normalise_path
from phasesync.errors import AlreadyExistsError, InvalidInputError
from phasesync.ports import SecretWrite

_NAMED: Final = 500
"""From so many keys on, all of an environment are read in place of naming each."""

Place = tuple[str, str]
"""Path and key."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What happens to one key. `value` None = it is unset; `row` None = it is new."""

    place: Place
    lookup: bytes
    row: sa.Row[Any] | None
    value: SecretValue | None
    comment: str


class SecretEditsPart(EnvironmentsPart):
    """The writing half of secrets of the port `EnvironmentStore`."""

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
        Commit edits as one revision; one that changes nothing makes none.

        NotFoundError, InvalidInputError; AlreadyExistsError for a key that a dynamic secret issues. The rule for
        names of keys holds for new ones: what is set already can be set again and removed, whatever its name.
        """
        wanted = _wanted(writes, unsets)
        with self._database.write() as connection:
            found = find_environment(connection, app, environment, lock=True)
            pointers = authenticated(connection, self._keys, found)
            steps = self._steps(connection, found, wanted)
            if not steps:
                return to_environment(found)
            for step in steps:
                if step.row is None:
                    check_key(step.place[1])
            self._refuse_handed_out(connection, found, steps)
            self._commit(connection, found, pointers, steps, actor, origin)
            return to_environment(find_environment(connection, app, environment))

    def clone_environment(self, app: str, name: str, target: str, *, actor: str) -> Environment:
        """Copy the current secrets into a new environment of the same app, under a key of its own."""
        with self._database.write() as connection:
            owner = find_app(connection, app, lock=True)
            source = find_environment(connection, app, name, lock=True)
            self._insert_environment(connection, owner, target)
            rows = current_rows(connection, self._keys, [source])[source.id]
            copies = [to_version(row, self._sealer) for row in rows]
            wanted: dict[Place, SecretWrite | None] = {
                (one.path, one.key): SecretWrite(path=one.path, key=one.key, value=one.value, comment=one.comment)
                for one in copies
                if one.value is not None
            }
            created = find_environment(connection, app, target, lock=True)
            if wanted:
                self._commit(connection, created, (), self._steps(connection, created, wanted), actor, "clone")
            return to_environment(find_environment(connection, app, target))

    def _steps(
        self, connection: sa.Connection, environment: sa.Row[Any], wanted: Mapping[Place, SecretWrite | None]
    ) -> list[_Step]:
        """Return what differs from what is there. NotFoundError where a key to unset is not set."""
        lookups = {place: lookup_of(self._keys, environment.id, *place) for place in wanted}
        statement = select_current().where(secrets.c.environment_id == environment.id)
        if len(lookups) < _NAMED:
            statement = statement.where(secrets.c.lookup.in_(list(lookups.values())))
        rows = {row.lookup: row for row in connection.execute(statement)}
        steps = []
        for place, write in wanted.items():
            row = rows.get(lookups[place])
            former = open_value(row, self._sealer) if row is not None else None
            comment = open_comment(row, self._sealer) if row is not None and former is not None else ""
            if write is None:
                if former is None:
                    raise not_set(environment.app, environment.name, *place)
                steps.append(_Step(place=place, lookup=lookups[place], row=row, value=None, comment=""))
                continue
            new_comment = comment if write.comment is None else write.comment
            if former is None or former != write.value or comment != new_comment:
                steps.append(_Step(place=place, lookup=lookups[place], row=row, value=write.value, comment=new_comment))
        return steps

    def _refuse_handed_out(self, connection: sa.Connection, environment: sa.Row[Any], steps: Sequence[_Step]) -> None:
        """Refuse new keys under which a dynamic secret of the same folder hands something out. AlreadyExistsError."""
        new = [step.place for step in steps if step.value is not None and (step.row is None or not step.row.is_set)]
        some = sa.select(dynamic_secrets.c.id).where(dynamic_secrets.c.environment_id == environment.id).limit(1)
        if not new or connection.scalar(some) is None:
            return
        from phasesync.adapters.store.dynamic import keys_handed_out  # Most environments have no dynamic secrets.

        handed_out = keys_handed_out(connection, environment.id, self._sealer)
        for path, key in new:
            if (name := handed_out.get((path, key))) is not None:
                raise AlreadyExistsError(
                    f"{key} of {environment.app}/{environment.name} {path} is issued by the dynamic secret {name}",
                    hint=f"choose another key, or: phasesync dynamic update {name} --key-map OUTPUT=NAME",
                )

    def _commit(
        self,
        connection: sa.Connection,
        environment: sa.Row[Any],
        pointers: Iterable[Pointer],
        steps: Sequence[_Step],
        actor: str,
        origin: str,
    ) -> None:
        """
        Store versions and the new revision, in a number of statements that does not depend on how many they are.

        `pointers`: the secrets that the environment has until now, authenticated.
        """
        added, moved, versions = [], [], []
        current = {one.id: one for one in pointers}
        for step in steps:
            secret_id = new_id() if step.row is None else step.row.id
            version = 1 if step.row is None else step.row.version + 1
            current[secret_id] = Pointer(
                id=secret_id, lookup=step.lookup, version=version, is_set=step.value is not None
            )
            if step.row is None:
                added.append(
                    {
                        "id": secret_id,
                        "environment_id": environment.id,
                        "lookup": step.lookup,
                        "name": self._sealer.json(
                            environment.data_key_id, name_context(environment.id, secret_id), step.place
                        ),
                        "version": version,
                        "is_set": True,
                    }
                )
            else:
                moved.append({"secret": secret_id, "new_version": version, "new_is_set": step.value is not None})
            versions.append(
                {
                    "secret_id": secret_id,
                    "version": version,
                    "value": self._seal_value(environment, secret_id, version, step.value),
                    "comment": self._sealer.text(
                        environment.data_key_id,
                        version_context(environment.id, secret_id, "comment", version),
                        step.comment or None,
                    ),
                    "revision": environment.revision + 1,
                    "changed_at": from_microseconds(environment.clock),
                    "changed_by": actor,
                    "origin": "unset" if step.value is None else origin,
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
        store_mac(connection, self._keys, environment, current.values(), revision=environment.revision + 1)

    def _seal_value(
        self, environment: sa.Row[Any], secret_id: str, version: int, value: SecretValue | None
    ) -> bytes | None:
        if value is None:
            return None
        context = version_context(environment.id, secret_id, "value", version)
        return self._keys.encrypt(environment.data_key_id, context, plain_value(value))


def _wanted(writes: Sequence[SecretWrite], unsets: Sequence[tuple[str, str]]) -> dict[Place, SecretWrite | None]:
    """Return what is asked for each key, None = unset. Of two writes of a key the later holds."""
    wanted: dict[Place, SecretWrite | None] = {
        (normalise_path(write.path), check_stored_key(write.key)): write for write in writes
    }
    for path, key in unsets:
        place = (normalise_path(path), check_stored_key(key))
        if wanted.get(place) is not None:
            raise InvalidInputError(f"{key} cannot be set and unset in one edit")
        wanted[place] = None
    return wanted
