"""
The root keys of a database: the one that wraps its data keys, the one that comes next, and those that were replaced.

Replacing one takes three steps, each of which can be repeated:

    begin    the next one is registered; daemons load it, and report with their heartbeat that they have it
    switch   it becomes the current one: from then on no data key is wrapped under the former one
    rewrap   the data keys are wrapped anew, some in each transaction, while everybody works

A root key itself is here only where AWS KMS has encrypted it. Every row has a keyed MAC, so that nobody without a root
key can have one of theirs become the next.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.counted import counted
from phasesync.core.fingerprint import Digests
from phasesync.errors import CiphertextError, IllegalTransitionError, KeyUnavailableError
from phasesync.store.base import BaseStore
from phasesync.store.daemons import is_alive
from phasesync.store.database import Database, row_lock
from phasesync.store.db_time import now
from phasesync.store.key_ring import (
    CURRENT,
    DIGEST_KEY,
    FORMER,
    NEW_KEY_COMMAND,
    NEXT,
    KeyRing,
    WrappedKey,
    same_mac,
)
from phasesync.store.sqlite import Installation
from phasesync.store.tables import daemons, data_keys, instance, root_keys

ROTATE_ROOT: Final = "key.rotate-root"
"""The action in the audit log."""

_MAC_PURPOSE: Final = "root-key"


@dataclass(frozen=True, kw_only=True)
class NewRootKey:
    """
    A root key to register.

    Attributes:
        kind: where it is kept: file, age, environment, systemd-credential or aws-kms.
        wrapped: what AWS KMS made of it; None if it is kept elsewhere.
        wrapped_by: ARN of the KMS key; None if it is kept elsewhere.
        recipients: the public keys of age that open it, for the audit log; none if it was not made just now.
    """

    id: str
    kind: str
    wrapped: bytes | None = field(default=None, repr=False)
    wrapped_by: str | None = None
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RegisteredRootKey:
    """
    A root key as the database knows it.

    Attributes:
        kind: where it is kept: file, age, environment, systemd-credential or aws-kms; None: nobody has said yet.
        status: next, current or former.
        since: when it got its status; None if it was never registered, as in a database that had only this one.
        wrapped: what AWS KMS made of it; None if it is kept elsewhere.
        wrapped_by: ARN of the KMS key; None if it is kept elsewhere.
        data_keys: how many data keys it wraps.
        authentic: whether the row is as it was written.
    """

    id: str
    kind: str | None
    status: str
    since: datetime | None
    wrapped: bytes | None = field(default=None, repr=False)
    wrapped_by: str | None = None
    data_keys: int
    authentic: bool = True


@dataclass(frozen=True, kw_only=True)
class DaemonWithKeys:
    """
    A live daemon, and which root keys it has.

    Attributes:
        root_keys: their ids; None if its release does not say.
    """

    owner: str
    host: str
    pid: int
    release: str | None
    root_keys: frozenset[str] | None


@dataclass(frozen=True, kw_only=True)
class DataKeyCount:
    """How many data keys there are for a purpose, and since when the oldest exists."""

    purpose: str
    count: int
    oldest_at: datetime


class RootKeyStore(BaseStore):
    """The root keys of a database."""

    def list_all(self) -> list[RegisteredRootKey]:
        """Return all that are known: the next one, the current one, then former ones, the newest first."""
        with self._database.read() as connection:
            return self._read(connection)

    def data_keys(self) -> list[DataKeyCount]:
        """Return what the data keys are for, by purpose."""
        statement = (
            sa.select(data_keys.c.purpose, _HOW_MANY, sa.func.min(data_keys.c.created_at).label("oldest_at"))
            .group_by(data_keys.c.purpose)
            .order_by(data_keys.c.purpose)
        )
        with self._database.read() as connection:
            return [
                DataKeyCount(purpose=row.purpose, count=row.how_many, oldest_at=row.oldest_at)
                for row in connection.execute(statement)
            ]

    def daemons(self) -> list[DaemonWithKeys]:
        """Return the daemons that are alive, and which root keys each of them has."""
        with self._database.read() as connection:
            return _live_daemons(connection)

    def begin(self, new: NewRootKey, *, kind_of_current: str) -> None:
        """
        Register the root key that is to become the current one; safe to repeat. Another next one is forgotten.

        Args:
            new: the next root key.
            kind_of_current: where the current one is kept; registered if it is not yet.

        Raises:
            IllegalTransitionError: the key is the current one, or was replaced; or data keys are still wrapped under a
                former one.
        """
        with self._database.write() as connection:
            _lock(connection)
            known = {root.id: root for root in self._trusted(connection)}
            current = _current(known.values())
            same = known.get(new.id)
            if same is not None and same.status != NEXT:
                raise used_already(same)
            _refuse_unfinished(known.values())
            if same is not None and not same.authentic:
                same = None
            others = root_keys.c.id != new.id if same is not None else sa.true()
            connection.execute(root_keys.delete().where(root_keys.c.status == NEXT, others))
            if current.since is None:
                self._insert(connection, id=current.id, source=kind_of_current, status=CURRENT)
            if same is None:
                wrapped = {"wrapped": new.wrapped, "wrapped_by": new.wrapped_by}
                self._insert(connection, id=new.id, source=new.kind, status=NEXT, **wrapped)
                what = f"{new.id} registered as the next one after {current.id}"
                details: dict[str, Any] = {"step": "registered", "in_place_of": current.id}
                if new.recipients:
                    details |= {"recipients": list(new.recipients)}
                self._audit(connection, ROTATE_ROOT, what, details=details)

    def switch(self, root_key_id: str) -> str:
        """
        Make the next root key the current one, and return the id of the one that it replaced.

        From the end of this on no data key is wrapped under the former one.

        Raises:
            IllegalTransitionError: it is not the next one, or a live daemon does not have it.
            CiphertextError: its row was altered.
        """
        with self._database.write() as connection:
            _lock(connection)
            known = {root.id: root for root in self._trusted(connection)}
            new = known.get(root_key_id)
            if new is None or new.status != NEXT:
                raise IllegalTransitionError(
                    f"the root key {root_key_id} is not the next one any more", hint="phasesync keys status"
                )
            current = _current(known.values())
            if not new.authentic:
                raise altered(new.id)
            if lacking := [one for one in _live_daemons(connection) if root_key_id not in (one.root_keys or ())]:
                raise IllegalTransitionError(
                    f"the daemon {lacking[0].owner} does not have the root key {root_key_id}",
                    hint="repeat the command once it has",
                )
            self._set_status(connection, current, FORMER)
            self._set_status(connection, new, CURRENT)
            self._audit(
                connection,
                ROTATE_ROOT,
                f"{new.id} in place of {current.id}",
                details={"step": "in use", "data_keys": current.data_keys},
                before={"root_key": current.id, "kind": current.kind},
                after={"root_key": new.id, "kind": new.kind},
            )
        return current.id

    def rewrap(self, *, most: int) -> int:
        """
        Wrap some data keys under the current root key that are wrapped under another one; return how many.

        Raises:
            KeyUnavailableError: the other one is not at hand.
            CiphertextError: what says which one is current was altered.
        """
        with self._database.write() as connection:
            current = _current(self._trusted(connection)).id
            other = sa.select(*_KEY).where(data_keys.c.root_key_id != current)
            rows = connection.execute(row_lock(other.order_by(data_keys.c.id).limit(most))).all()
            for row in rows:
                new = self._keys.rewrap(WrappedKey(**row._asdict()), current)
                changed = data_keys.update().where(data_keys.c.id == new.id)
                connection.execute(changed.values(root_key_id=new.root_key_id, wrapped=new.wrapped))
            if rows:
                what = f"{len(rows)} data keys wrapped anew under {current}"
                self._audit(connection, ROTATE_ROOT, what, details={"step": "wrapped anew", "data_keys": len(rows)})
            return len(rows)

    def follow(self, owner: str) -> None:
        """
        Load the root key that is to become the current one, or has become it, if this daemon lacks it.

        What is loaded is reported at once; a heartbeat repeats that.

        Raises:
            KeyUnavailableError: it is not where the settings look for it.
            PhasesyncError: its source cannot be reached.
        """
        wanted = sa.select(root_keys.c.id, root_keys.c.status).where(root_keys.c.status.in_((NEXT, CURRENT)))
        with self._database.read_once() as connection:
            statuses = {row.id: row.status for row in connection.execute(wanted)}
        self._keys.note_statuses(statuses)
        lacking = statuses.keys() - set(self._keys.root_key_ids)
        if not lacking:
            return
        self._keys.reload_roots()
        with self._database.write() as connection:
            reported = daemons.update().where(daemons.c.owner == owner)
            connection.execute(reported.values(root_keys=" ".join(sorted(self._keys.root_key_ids))))
        self._expect()
        if still := sorted(lacking - set(self._keys.root_key_ids)):
            raise KeyUnavailableError(
                f"the root key {still[0]}, to which this installation changes, is not at hand here",
                hint="put it where docs/keys.md says, beside the present one: phasesync keys status shows who lacks it",
            )

    def _expect(self) -> None:
        """Accept a database file that takes the place of this one if it is under any of the root keys at hand."""
        with self._database.read_once() as connection:
            instance_id = connection.scalar(sa.select(instance.c.instance_id)) or ""
        ids = frozenset(self._keys.root_key_ids)
        self._database.expect(Installation(instance_id=instance_id, root_key_ids=ids))

    def _read(self, connection: sa.Connection) -> list[RegisteredRootKey]:
        return _read_roots(connection, self._keys.digests)

    def _trusted(self, connection: sa.Connection) -> list[RegisteredRootKey]:
        """Return all that are known. CiphertextError if something says falsely which of them wraps."""
        roots = self._read(connection)
        _refuse_altered(roots)
        return roots

    def _insert(self, connection: sa.Connection, **values: Any) -> None:
        insert_root_key(connection, self._keys.digests, values)

    def _set_status(self, connection: sa.Connection, root: RegisteredRootKey, status: str) -> None:
        values: dict[str, Any] = {"id": root.id, "source": root.kind, "status": status}
        values |= {"wrapped": root.wrapped, "wrapped_by": root.wrapped_by}
        mac = root_key_mac(self._keys.digests, values)
        changed = root_keys.update().where(root_keys.c.id == root.id)
        connection.execute(changed.values(status=status, changed_at=now(), mac=mac))


_HOW_MANY: Final = sa.func.count().label("how_many")
_ORDER: Final = {NEXT: 0, CURRENT: 1, FORMER: 2}
_KEY: Final = (data_keys.c.id, data_keys.c.purpose, data_keys.c.root_key_id, data_keys.c.wrapped)


def insert_root_key(connection: sa.Connection, digests: Digests, values: dict[str, Any]) -> None:
    """Register a root key: its columns, without the instants and the MAC."""
    mac = root_key_mac(digests, values)
    connection.execute(root_keys.insert().values(**values, created_at=now(), changed_at=now(), mac=mac))


def root_key_mac(digests: Digests, values: dict[str, Any]) -> bytes:
    """Return the MAC of a row: over all but the instants, which are only shown."""
    texts = [str(values[name]).encode("utf-8", "replace") for name in ("id", "source", "status")]
    wrapped, wrapped_by = values.get("wrapped"), values.get("wrapped_by")
    # SQLite stores a value of any type in any column.
    sealed = wrapped if isinstance(wrapped, bytes) else b"" if wrapped is None else repr(wrapped).encode()
    return digests.digest(_MAC_PURPOSE, *texts, sealed, str(wrapped_by or "").encode("utf-8", "replace"))


def check_root_key(row: sa.Row[Any], keys: KeyRing) -> None:
    """Raise CiphertextError if the row of a root key was altered."""
    if not _is_authentic(row, keys):
        raise altered(row.id)


def _is_authentic(row: sa.Row[Any], keys: KeyRing) -> bool:
    return same_mac(row.mac, root_key_mac(keys.digests, row._asdict()))


def used_already(root: RegisteredRootKey) -> IllegalTransitionError:
    """Return the error for a root key that is to be the next one, and is or was in use."""
    return IllegalTransitionError(
        f"the root key {root.id} cannot be the next one: it is {root.status} already",
        hint=f"give another one, which was never used as a root key: {NEW_KEY_COMMAND} prints one",
    )


def altered(root_key_id: str) -> CiphertextError:
    """Return the error for a row that was altered."""
    return CiphertextError(f"the root key {root_key_id} in table root_keys was altered outside phasesync")


def _read_roots(connection: sa.Connection, digests: Digests) -> list[RegisteredRootKey]:
    counts: dict[str, int] = {
        row.root_key_id: row.how_many
        for row in connection.execute(sa.select(data_keys.c.root_key_id, _HOW_MANY).group_by(data_keys.c.root_key_id))
    }
    found = [
        RegisteredRootKey(
            id=row.id,
            kind=row.source,
            status=row.status,
            since=row.changed_at,
            wrapped=row.wrapped,
            wrapped_by=row.wrapped_by,
            data_keys=counts.pop(row.id, 0),
            authentic=same_mac(row.mac, root_key_mac(digests, row._asdict())),
        )
        for row in connection.execute(sa.select(root_keys).order_by(root_keys.c.changed_at.desc(), root_keys.c.id))
    ]
    # A root key that nobody has registered: the only one of a database that never had another.
    found += [
        RegisteredRootKey(id=root, kind=None, status=CURRENT, since=None, data_keys=count)
        for root, count in counts.items()
    ]
    return sorted(found, key=lambda root: _ORDER.get(root.status, len(_ORDER)))


def _refuse_altered(roots: Iterable[RegisteredRootKey]) -> None:
    """
    Raise CiphertextError if something says falsely which root key wraps: somebody may have a former one.

    Rows of an older copy authenticate by themselves, so what they say together counts too: one is current, the next one
    wraps nothing, and all that wrap are registered. A next one that does not authenticate is replaced by `begin`.
    """
    registered: list[RegisteredRootKey] = []
    others: list[RegisteredRootKey] = []
    for root in roots:
        (others if root.since is None else registered).append(root)
    for root in registered:
        if (root.status != NEXT and not root.authentic) or (root.status == NEXT and root.data_keys):
            raise altered(root.id)
    current = [root for root in registered if root.status == CURRENT]
    if len(current) > 1 or len(others) > 1 or (others and registered):
        suspect = (others or current)[-1].id
        raise CiphertextError(
            f"the table root_keys was altered outside phasesync: it does not say that the root key {suspect} is in use"
        )


def read_current_root(database: Database, digests: Callable[[], Digests]) -> str | None:
    """
    Return the id of the root key that the database names as the current one; None if none was ever registered.

    Raises:
        CiphertextError: what says so was altered.
    """
    with database.read() as connection:
        if not sa.inspect(connection).has_table(root_keys.name):
            return None  # A database that is not migrated yet.
        if connection.scalar(sa.select(sa.func.count()).select_from(root_keys)) == 0:
            return None
        roots = _read_roots(connection, digests())
    _refuse_altered(roots)
    return _current(roots).id


@dataclass(frozen=True, kw_only=True)
class KmsRootKey:
    """
    A root key that AWS KMS has encrypted, as it has to be opened before anything of the database can be.

    Attributes:
        in_use: it wraps data keys; otherwise it is to do so.
    """

    id: str
    wrapped: bytes = field(repr=False)
    wrapped_by: str
    in_use: bool


def read_kms_root_keys(database: Database) -> list[KmsRootKey]:
    """Return the root keys encrypted by AWS KMS that wrap data keys or are to do so, also of an unfinished database."""
    in_use = sa.select(data_keys.c.root_key_id)
    needed = root_keys.c.status.in_((NEXT, CURRENT)) | root_keys.c.id.in_(in_use)
    statement = sa.select(root_keys).where(needed, root_keys.c.wrapped.is_not(None)).order_by(root_keys.c.status)
    with database.read() as connection:
        if not sa.inspect(connection).has_table(root_keys.name):
            return []  # A database that is not migrated yet.
        used = set(connection.scalars(in_use.distinct()))
        return [
            KmsRootKey(id=row.id, wrapped=row.wrapped, wrapped_by=str(row.wrapped_by), in_use=row.id in used)
            for row in connection.execute(statement)
            if isinstance(row.wrapped, bytes)
        ]


def _lock(connection: sa.Connection) -> None:
    """Wait for whoever stores a data key, or replaces a root key; see `insert_key`."""
    connection.execute(row_lock(sa.select(data_keys.c.id).where(data_keys.c.purpose == DIGEST_KEY))).all()


def _current(roots: Iterable[RegisteredRootKey]) -> RegisteredRootKey:
    current = [root for root in roots if root.status == CURRENT]
    if not current:
        raise KeyUnavailableError("this database has no keys yet", hint="phasesync init")
    registered = [root for root in current if root.since is not None]
    return (registered or current)[0]


def _refuse_unfinished(roots: Iterable[RegisteredRootKey]) -> None:
    for root in roots:
        if root.status == FORMER and root.data_keys:
            raise IllegalTransitionError(
                f"{counted(root.data_keys, 'data key')} still wrapped under the former root key {root.id}",
                hint="finish that first: phasesync keys rotate-root",
            )


def _live_daemons(connection: sa.Connection) -> list[DaemonWithKeys]:
    columns = [daemons.c[name] for name in ("owner", "host", "pid", "release", "root_keys")]
    rows = connection.execute(sa.select(*columns).where(is_alive()).order_by(daemons.c.started_at, daemons.c.owner))
    return [
        DaemonWithKeys(
            owner=row.owner,
            host=row.host,
            pid=row.pid,
            release=row.release,
            root_keys=None if row.root_keys is None else frozenset(str(row.root_keys).split()),
        )
        for row in rows
    ]
