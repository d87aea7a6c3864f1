"""
Replacing data keys: a new key for an environment or a purpose, its rows encrypted anew, the former key removed.

    replace    one transaction for each key: the new key encrypts from now on; the former one is retired, and decrypts
    encrypt    one transaction for each batch of rows that name a former key, while others read and write
    remove     one transaction: every former key that no row names any more

The state is in the rows alone: a key is a former one if no environment has it and it is not the newest of its purpose.
So what was interrupted anywhere goes on with the next call. `retired_at` says only when it was replaced. The key of
digests is never replaced: fingerprints and tokens at AWS come from it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from phasesync.errors import CiphertextError
from phasesync.store.apps import find_environment, find_locked_environment
from phasesync.store.base import BaseStore
from phasesync.store.daemons import is_alive
from phasesync.store.db_time import from_microseconds
from phasesync.store.encrypted_columns import ENCRYPTED, EncryptedTable
from phasesync.store.environment_mac import authentic_pointers, update_environment_row
from phasesync.store.key_ring import DIGEST_KEY, ENVIRONMENT_KEY, insert_key, key_id_of
from phasesync.store.sqlite import reading_any_text
from phasesync.store.tables import apps, daemons, data_keys, environments

ROTATE_DATA: Final = "key.rotate-data"
"""The action in the audit log."""


@dataclass(frozen=True, kw_only=True)
class KeyInUse:
    """
    A data key that encrypts.

    Attributes:
        id: of the key.
        purpose: what it is for.
        environment_id: of its environment; None if it is shared.
        label: of that environment, as app/environment, or else the purpose.
        created_at: when it was made.
    """

    id: str
    purpose: str
    environment_id: str | None
    label: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class FormerKey:
    """A data key that another has replaced; `retired_at` is None if nobody noted when."""

    id: str
    retired_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class EncryptedBatch:
    """
    What one batch did.

    Attributes:
        rows: how many were encrypted anew.
        next: where the next batch begins; None: this was the last one of the table.
        unread: table and former key of each row that does not authenticate; it was left as it is.
    """

    rows: int
    next: tuple[Any, ...] | None
    unread: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RemovedKeys:
    """
    What became of the former keys.

    Attributes:
        removed: how many are gone.
        kept: ids of those that rows still name.
        held_by: daemons of a release that does not look whether a key is still there, so that none was removed.
    """

    removed: int
    kept: frozenset[str] = frozenset()
    held_by: tuple[str, ...] = ()


class DataKeyStore(BaseStore):
    """The data keys of this database."""

    def in_use(self, environment: tuple[str, str] | None = None) -> list[KeyInUse]:
        """
        Return the keys that encrypt and can be replaced, shared ones first.

        Args:
            environment: app and name; None means every key.

        Raises:
            NotFoundError: there is no such environment.
        """
        of_environments = (
            sa.select(data_keys, environments.c.id.label("environment_id"), apps.c.name.label("app"))
            .add_columns(environments.c.name)
            .join_from(data_keys, environments, environments.c.data_key_id == data_keys.c.id)
            .join(apps, apps.c.id == environments.c.app_id)
            .order_by(apps.c.name_key, environments.c.name_key)
        )
        with self._database.read() as connection:
            if environment is not None:
                row = find_environment(connection, *environment)
                of_environments = of_environments.where(environments.c.id == row.id)
            rows = connection.execute(of_environments).all()
            shared = [] if environment is not None else connection.execute(_SHARED).all()
        return [
            KeyInUse(id=row.id, purpose=row.purpose, environment_id=None, label=row.purpose, created_at=row.created_at)
            for row in shared
        ] + [
            KeyInUse(
                id=row.id,
                purpose=row.purpose,
                environment_id=row.environment_id,
                label=f"{row.app}/{row.name}",
                created_at=row.created_at,
            )
            for row in rows
        ]

    def former(self) -> list[FormerKey]:
        """Return the keys that were replaced and are still there."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(data_keys.c.id, data_keys.c.retired_at).where(_is_former())).all()
        return [FormerKey(id=row.id, retired_at=row.retired_at) for row in rows]

    def count_rows(self, keys: Sequence[KeyInUse]) -> int:
        """Return how many rows have ciphertexts under some keys: those of environments, or shared ones, or all."""
        purposes = {key.purpose for key in keys if key.environment_id is None}
        ids = [key.environment_id for key in keys if key.environment_id is not None]
        count = 0
        with self._database.read() as connection:
            for part in ENCRYPTED:
                statement = sa.select(sa.func.count()).select_from(part.source)
                statement = statement.where(sa.or_(*(part.table.c[name].is_not(None) for name in part.columns)))
                if part.purpose is None and len(ids) == 1:
                    statement = statement.where(environments.c.id == ids[0])
                if part.purpose in purposes or (part.purpose is None and ids):
                    count += connection.scalar(statement) or 0
        return count

    def replace(self, key: KeyInUse, *, made_at: Collection[datetime] = ()) -> bool:
        """
        Make a new data key, which encrypts from now on, and retire the former one.

        Args:
            key: that is replaced.
            made_at: when an interrupted call made keys; those stay. A key is told by the instant at which its former
                one was retired, and not by the clock of today, which may have been set back since.

        Returns:
            Whether there is a new one; False also if somebody else has replaced or removed it.

        Raises:
            CiphertextError: the environment was altered, and a new MAC would vouch for it.
        """
        with self._database.write() as connection:
            if key.environment_id is None:
                replaced = self._replace_shared(connection, key, made_at)
            else:
                replaced = self._replace_of_environment(connection, key, key.environment_id, made_at)
        self._keys.expect_newer()
        return replaced

    def _replace_shared(self, connection: sa.Connection, key: KeyInUse, made_at: Collection[datetime]) -> bool:
        newest = _SHARED.where(data_keys.c.purpose == key.purpose)
        # Two commands at once: the second finds what the first has made.
        row = connection.execute(newest.with_for_update(key_share=True)).first()
        if row is None or row.id != key.id or (new_id := self._new_key(connection, row.id, made_at)) is None:
            return False
        self._audit(connection, ROTATE_DATA, f"the key of {key.purpose}", details={"from": row.id, "to": new_id})
        return True

    def _replace_of_environment(
        self, connection: sa.Connection, key: KeyInUse, environment_id: str, made_at: Collection[datetime]
    ) -> bool:
        row = find_locked_environment(connection, environment_id)
        if row is None or row.data_key_id != key.id:
            return False
        pointers = authentic_pointers(connection, self._keys, row)
        if (new_id := self._new_key(connection, row.data_key_id, made_at)) is None:
            return False
        mac = update_environment_row(connection, self._keys, row, pointers, data_key_id=new_id)
        self._audit(
            connection,
            ROTATE_DATA,
            f"{row.app}/{row.name}",
            details={"from": row.data_key_id, "to": new_id},
            before=row.mac,
            after=mac,
        )
        return True

    def _new_key(self, connection: sa.Connection, former_id: str, kept: Collection[datetime]) -> str | None:
        """Store a key that follows another one; return its id, or None if the other was made at one of these times."""
        former = connection.execute(sa.select(data_keys).where(data_keys.c.id == former_id)).one()
        if former.created_at in kept:
            return None
        key = self._keys.new_data_key(former.purpose)
        insert_key(connection, key)
        made_at = connection.execute(sa.select(data_keys.c.created_at).where(data_keys.c.id == key.id)).scalar_one()
        if made_at <= former.created_at:
            # The clock was set back. The newest key of a purpose is the one that encrypts.
            made_at = former.created_at + _TICK
            connection.execute(data_keys.update().where(data_keys.c.id == key.id).values(created_at=made_at))
        connection.execute(data_keys.update().where(data_keys.c.id == former_id).values(retired_at=made_at))
        return key.id

    def encrypt_anew(self, table: str, *, after: tuple[Any, ...] | None, limit: int) -> EncryptedBatch:
        """
        Encrypt rows of a table that name a former key under the key that has taken its place.

        A row that somebody else is writing is left out, to be found by the next pass.

        Args:
            table: its name, one of `encrypted_tables`.
            after: where the former batch ended; None begins with the first row.
            limit: how many rows at most.
        """
        part = _BY_NAME[table]
        # Looked for without a lock: there may be many rows, and few or none of them name a former key.
        with self._database.read() as connection, reading_any_text(connection):
            found = [tuple(row) for row in connection.execute(_find(part, after, limit))]
        if not found:
            return EncryptedBatch(rows=0, next=None)
        with self._database.write() as connection:
            targets = dict(connection.execute(_SHARED.with_only_columns(data_keys.c.purpose, data_keys.c.id)).all())
            with reading_any_text(connection):
                rows = connection.execute(_lock(part, found)).all()
            changed, unread = [], []
            for row in rows:
                target = row.data_key_id if part.purpose is None else targets.get(part.purpose)
                try:
                    changes = self._under(part, row, target)
                except (CiphertextError, AttributeError, TypeError):  # SQLite stores a value of any type in any column.
                    named = {key_id_of(getattr(row, name)) for name in part.columns}
                    unread += [(table, key) for key in named if key is not None and key != target]
                    continue
                if changes:
                    changed.append((row, changes))
            for names in {tuple(sorted(changes)) for _, changes in changed}:
                connection.execute(
                    _update(part, names),
                    [
                        {f"new_{name}": changes[name] for name in names}
                        | {f"old_{column.name}": getattr(row, column.name) for column in part.primary_key}
                        for row, changes in changed
                        if tuple(sorted(changes)) == names
                    ],
                )
        return EncryptedBatch(rows=len(changed), next=found[-1] if len(found) == limit else None, unread=tuple(unread))

    def _under(self, part: EncryptedTable, row: sa.Row[Any], target: str | None) -> dict[str, Any]:
        """Return the columns of a row under another key, with the MACs that cover them; empty if they are already."""
        changes: dict[str, Any] = {}
        for name, context_of in part.columns.items():
            sealed = getattr(row, name)
            if key_id_of(sealed) in (None, target):
                continue
            if target is None:
                raise CiphertextError(f"a row of table {part.table.name} belongs to no environment")
            context = context_of(row)
            changes[name] = self._keys.encrypt(target, context, self._keys.decrypt(context, sealed))
        return changes | part.remake(self._keys, row, changes) if changes else {}

    def remove_former(self) -> RemovedKeys:
        """
        Remove every former key that no row names; none while a daemon works that does not look for removed keys.

        What a write encrypts at this moment under such a key is either found here, or refused there.
        """
        with self._database.write() as connection:
            former = list(
                connection.scalars(
                    sa.select(data_keys.c.id).where(_is_former()).order_by(data_keys.c.id).with_for_update()
                )
            )
            of_former_release = connection.scalars(
                sa.select(daemons.c.host).where(is_alive(), daemons.c.release.is_(None)).order_by(daemons.c.host)
            ).all()
            if not former or of_former_release:
                return RemovedKeys(removed=0, kept=frozenset(former), held_by=tuple(of_former_release))
            named = self._named(connection, former)
            gone = [key_id for key_id in former if key_id not in named]
            for begin in range(0, len(gone), _AT_ONCE):
                connection.execute(data_keys.delete().where(data_keys.c.id.in_(gone[begin : begin + _AT_ONCE])))
            if gone:
                self._audit(connection, ROTATE_DATA, "former keys", details={"removed": gone})
        return RemovedKeys(removed=len(gone), kept=frozenset(named))

    def _named(self, connection: sa.Connection, former: Sequence[str]) -> set[str]:
        """Return which former keys a ciphertext names."""
        named: set[str] = set()
        for part in ENCRYPTED:
            for name in part.columns:
                key = _KeyOf(part.table.c[name])
                named.update(connection.scalars(sa.select(key).where(_is_former_id(key)).distinct()))
        return named & set(former)


def encrypted_tables() -> tuple[str, ...]:
    """Return the names of the tables with ciphertexts, in the order in which they are encrypted anew."""
    return tuple(_BY_NAME)


_BY_NAME: Final = {part.table.name: part for part in ENCRYPTED}
_TICK: Final = from_microseconds(1) - from_microseconds(0)
_AT_ONCE: Final = 500

_newer: Final = data_keys.alias("newer")
_is_newest: Final = ~sa.exists().where(
    _newer.c.purpose == data_keys.c.purpose,
    sa.tuple_(_newer.c.created_at, _newer.c.id) > sa.tuple_(data_keys.c.created_at, data_keys.c.id),
)
_is_shared: Final = data_keys.c.purpose.not_in((ENVIRONMENT_KEY, DIGEST_KEY))
_SHARED: Final = sa.select(data_keys).where(_is_shared, _is_newest).order_by(data_keys.c.purpose)


def _is_former() -> sa.ColumnElement[bool]:
    of_an_environment = sa.select(environments.c.data_key_id)
    return sa.or_(
        (data_keys.c.purpose == ENVIRONMENT_KEY) & data_keys.c.id.not_in(of_an_environment),
        _is_shared & ~_is_newest,
    )


def _is_former_id(key_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return key_id.in_(sa.select(data_keys.c.id).where(_is_former()))


def _find(part: EncryptedTable, after: tuple[Any, ...] | None, limit: int) -> sa.Select[Any]:
    """Return the select of the primary keys of rows that name a former key."""
    statement = sa.select(*part.primary_key).where(
        sa.or_(*(_is_former_id(_KeyOf(part.table.c[name])) for name in part.columns))
    )
    if after is not None:
        place = [sa.literal(value, column.type) for value, column in zip(after, part.primary_key, strict=True)]
        statement = statement.where(sa.tuple_(*part.primary_key) > sa.tuple_(*place))
    return statement.order_by(*part.primary_key).limit(limit)


def _lock(part: EncryptedTable, primary_keys: Sequence[tuple[Any, ...]]) -> sa.Select[Any]:
    """Return the select of rows with all that is needed of them; it skips those that others have locked."""
    columns = [*part.table.c, *part.extra]
    if part.purpose is None:
        columns.append(environments.c.data_key_id)
    statement = sa.select(*columns).select_from(part.source)
    ordered = statement.where(sa.tuple_(*part.primary_key).in_(primary_keys)).order_by(*part.primary_key)
    return ordered.with_for_update(key_share=True, skip_locked=True, of=part.table)


def _update(part: EncryptedTable, names: Sequence[str]) -> sa.Update:
    this = [column == sa.bindparam(f"old_{column.name}", type_=column.type) for column in part.primary_key]
    new: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=part.table.c[name].type) for name in names}
    return part.table.update().where(*this).values(new)


class _KeyOf(sa.sql.functions.FunctionElement[str]):
    """The id of the data key that a ciphertext names, as an SQL expression; any text for what is no ciphertext."""

    type = sa.String()
    inherit_cache = True
    name = "phasesync_key_of"


@compiles(_KeyOf, "postgresql")
def _key_of_postgresql(element: _KeyOf, compiler: Any, **options: Any) -> str:
    return f"encode(substr({compiler.process(element.clauses, **options)}, 2, 6), 'hex')"


@compiles(_KeyOf, "sqlite")
def _key_of_sqlite(element: _KeyOf, compiler: Any, **options: Any) -> str:
    return f"lower(hex(substr({compiler.process(element.clauses, **options)}, 2, 6)))"
