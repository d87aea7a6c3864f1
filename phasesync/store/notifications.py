"""
Notifications: whom to tell about what.

Channel, signing secret and rules are one ciphertext, bound to the rest of the row, and the registry knows which
notifications there are. So an attacker who can write to the database but has no key can neither send messages elsewhere
nor silence a notification unnoticed: a row that was altered is used for nothing, and reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa

from phasesync.core.channels import Channel, Webhook, parse_channel
from phasesync.core.model import SecretValue
from phasesync.core.names import check_name
from phasesync.core.notification import Notification, NotificationDraft, Rules, Sent
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import AlreadyExistsError, CiphertextError, InvalidInputError
from phasesync.store.apps import find_app
from phasesync.store.base import (
    BaseStore,
    Names,
    check_name_key,
    lookup_error,
    name_of_cursor,
    new_id,
    no_such,
    refuse_taken_name,
    renaming,
)
from phasesync.store.database import row_lock
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.instance import Registry, lock_registry, read_registry
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.projects import note_edit
from phasesync.store.tables import OPEN_ALERT, alerts, apps, messages, notifications

_MENDED_BY = "remove it, and add it again: phasesync notifications remove NAME"


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """The members that are stored encrypted."""

    url: str = field(repr=False)
    signing_secret: str | None = field(repr=False)
    rules: Rules


class NotificationStore(BaseStore):
    """Notifications, encrypted at rest."""

    def add(self, name: str, draft: NotificationDraft) -> Notification:
        """Add a notification; what is wrong already is reported, too. AlreadyExistsError; NotFoundError for the app."""
        check_name(name, "notification")
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            taken = connection.scalar(sa.select(notifications.c.name).where(notifications.c.name_key == name.lower()))
            if taken is not None:
                raise AlreadyExistsError(
                    f"the notification {taken} exists already", hint=f"phasesync notifications update {taken}"
                )
            values: dict[str, Any] = {"id": new_id(), "name": name, "name_key": name.lower(), "version": 1}
            values |= self._drafted(connection, draft)
            values["sealed"] = self._seal(values, draft)
            connection.execute(notifications.insert().values(**values, created_at=now()))
            registry.note(notifications, values["id"], 1)
            registry.store()
            self._audit(connection, "notification.add", name, after=_configuration(values, _sealed_of(draft)))
            _look_again(connection)
            return self._get(connection, name)

    def page(self, *, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Notification]:
        """
        Return notifications by name; one whose row does not authenticate is listed with the reason.

        InvalidInputError for the cursor.
        """
        statement = select_notifications().order_by(notifications.c.name_key).limit(limit + 1)
        if after is not None:
            statement = statement.where(notifications.c.name_key > name_of_cursor(after))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            registry = read_registry(connection, self._keys)
        return page_of(
            rows, limit, lambda row: to_listed_notification(row, self._keys, registry), lambda row: str(row.name_key)
        )

    def list_all(self) -> list[Notification]:
        """Return all notifications by name, as `page` does."""
        pages = each_page(lambda after, limit: self.page(after=after, limit=limit))
        return [notification for page in pages for notification in page.items]

    def get(self, name: str) -> Notification:
        """Return one notification. NotFoundError names what exists instead; CiphertextError."""
        with self._database.read() as connection:
            return self._get(connection, name)

    def find_by_id(self, notification_id: str) -> Notification | None:
        """Return one notification by id; None if there is none. CiphertextError."""
        with self._database.read() as connection:
            row = connection.execute(select_notifications().where(notifications.c.id == notification_id)).first()
            if row is None:
                return None
            return to_notification(row, self._keys, read_registry(connection, self._keys))

    def update(self, name: str, draft: NotificationDraft, *, new_name: str | None = None) -> Notification:
        """
        Replace a notification; one that was altered, too. What is wrong now is looked at anew, and what waits to be
        sent is tried at once.

        Args:
            name: of the notification.
            draft: the whole notification.
            new_name: what it is called from now on; None: it keeps its name.

        Raises:
            NotFoundError: the notification, or the app.
            AlreadyExistsError: another one has the name.
        """
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_notification(connection, name, lock=True)
            note_edit(connection, self._keys, ObjectKind.NOTIFICATION, row.id)
            called = check_name(row.name if new_name is None else new_name, "notification")
            refuse_taken_name(connection, notifications, "notification", called, but=row.id)
            values: dict[str, Any] = {
                "id": row.id,
                "name": called,
                "name_key": called.lower(),
                "version": registry.next_version(notifications, row),
                **self._drafted(connection, draft),
            }
            values["sealed"] = self._seal(values, draft)
            connection.execute(notifications.update().where(notifications.c.id == row.id).values(**values))
            registry.note(notifications, row.id, values["version"])
            registry.store()
            self._audit(
                connection,
                "notification.update",
                row.name,
                details=renaming(row.name, called),
                before=self._stored_configuration(row),
                after=_configuration(values, _sealed_of(draft)),
            )
            # What waits for another try may be taken now, and other quiet hours may be in force.
            waits = (messages.c.notification_id == row.id) & (messages.c.next_at > now())
            connection.execute(messages.update().where(waits).values(next_at=now()))
            _look_again(connection)
            return self._get(connection, called)

    def remove(self, name: str) -> int:
        """Remove a notification, altered or not; return how many messages it does not send any more. NotFoundError."""
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_notification(connection, name, lock=True)
            note_edit(connection, self._keys, ObjectKind.NOTIFICATION, row.id, removed=True)
            waiting = messages.c.next_at.is_not(None) & (messages.c.notification_id == row.id)
            dropped = connection.scalar(sa.select(sa.func.count()).select_from(messages).where(waiting))
            connection.execute(notifications.delete().where(notifications.c.id == row.id))
            registry.forget(notifications, row.id)
            registry.store()
            self._audit(connection, "notification.remove", row.name, before=self._stored_configuration(row))
            return dropped or 0

    def sent(self, ids: Sequence[str]) -> dict[str, Sent]:
        """Return notification id -> what it has sent, and what waits; in two statements."""
        of_those = messages.c.notification_id.in_(ids)
        number = sa.BigInteger()
        newest = sa.func.max(sa.type_coerce(messages.c.sent_at, number)).label("sent_at")
        waits = messages.c.next_at.is_not(None)
        done = sa.select(messages.c.notification_id, newest).where(of_those).group_by(messages.c.notification_id)
        waiting = sa.select(
            messages.c.notification_id, messages.c.error_class, messages.c.error_code, messages.c.next_at
        )
        with self._database.read() as connection:
            sent_at = {row.notification_id: row.sent_at for row in connection.execute(done)}
            pending: dict[str, list[Any]] = {}
            for row in connection.execute(waiting.where(of_those, waits).order_by(messages.c.next_at)):
                pending.setdefault(row.notification_id, []).append(row)
        failed = {
            notification_id: next((row for row in rows if row.error_class), None)
            for notification_id, rows in pending.items()
        }
        return {
            notification_id: Sent(
                sent_at=_instant(sent_at.get(notification_id)),
                pending=len(rows := pending.get(notification_id, [])),
                error=None if (failure := failed.get(notification_id)) is None else failure.error_class,
                code=None if failure is None else failure.error_code,
                next_at=rows[0].next_at if rows else None,
            )
            for notification_id in ids
        }

    def _drafted(self, connection: sa.Connection, draft: NotificationDraft) -> dict[str, Any]:
        return {"app_id": None if draft.app is None else find_app(connection, draft.app).id}

    def _seal(self, values: Mapping[str, Any], draft: NotificationDraft) -> bytes:
        return self._keys.encrypt_json(
            self._keys.data_key(CREDENTIALS_KEY), notification_context(values), _sealed_of(draft)
        )

    def _stored_configuration(self, row: sa.Row[Any]) -> Mapping[str, Any] | None:
        """Return what a row is, for the digests of the audit log; None if it was altered, which stops nobody."""
        try:
            return _configuration(row._asdict(), open_notification(row, self._keys))
        except CiphertextError:
            return None

    def _get(self, connection: sa.Connection, name: str) -> Notification:
        row = find_notification(connection, name)
        return to_notification(row, self._keys, read_registry(connection, self._keys))


def _sealed_of(draft: NotificationDraft) -> _Sealed:
    channel = draft.channel
    secret = channel.signing_secret if isinstance(channel, Webhook) else None
    return _Sealed(
        url=channel.url.reveal_text(),
        signing_secret=None if secret is None else secret.reveal_text(),
        rules=draft.rules,
    )


def _configuration(values: Mapping[str, Any], sealed: _Sealed) -> Mapping[str, Any]:
    return {name: values[name] for name in ("id", "name", "app_id")} | vars(sealed)


@cache
def select_notifications() -> sa.Select[Any]:
    """Return the select behind `to_notification`."""
    return sa.select(notifications, apps.c.name.label("app")).outerjoin_from(
        notifications, apps, apps.c.id == notifications.c.app_id
    )


def find_notification(connection: sa.Connection, name: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return a notification's row. NotFoundError names what exists instead."""
    statement = select_notifications().where(notifications.c.name_key == name.lower())
    row = connection.execute(row_lock(statement, notifications) if lock else statement).first()
    if row is None:
        error = no_such("notification", name, Names.of(connection, notifications), "notifications")
        raise lookup_error(connection, notifications, name, error)
    check_name_key(notifications, row)
    return row


def to_notification(row: sa.Row[Any], keys: KeyRing, registry: Registry) -> Notification:
    """Decrypt a row of `select_notifications`. CiphertextError, also if an older row was put in its place."""
    check_name_key(notifications, row)
    sealed = open_notification(row, keys)
    registry.check(notifications, row)
    return Notification(
        id=row.id,
        name=row.name,
        version=row.version,
        channel=_channel(sealed),
        rules=sealed.rules,
        app_id=row.app_id,
        app=row.app,
        created_at=row.created_at,
    )


def to_listed_notification(row: sa.Row[Any], keys: KeyRing, registry: Registry) -> Notification:
    """Return the same for a list: one that cannot be used stands there with the reason."""
    try:
        return to_notification(row, keys, registry)
    except (CiphertextError, InvalidInputError) as error:
        return Notification(
            id=row.id,
            name=row.name,
            version=row.version,
            channel=None,
            rules=None,
            app_id=row.app_id,
            app=row.app,
            created_at=row.created_at,
            error=error.message,
        )


def open_notification(row: sa.Row[Any], keys: KeyRing) -> _Sealed:
    """Decrypt the ciphertext of a row. CiphertextError."""
    try:
        return keys.decrypt_json_once(_Sealed, notification_context(row._asdict()), row.sealed)
    except (CiphertextError, TypeError) as error:  # SQLite stores a value of any type in any column.
        message = error.message if isinstance(error, CiphertextError) else "does not authenticate"
        raise CiphertextError(
            f"the notification {row.name}: {message}", hint=_MENDED_BY.replace("NAME", str(row.name))
        ) from None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """
    All notifications, as one transaction reads them.

    Attributes:
        usable: id -> notification.
        refused: what is wrong with the others, one line each, with those that are registered and missing.
    """

    usable: Mapping[str, Notification]
    refused: tuple[str, ...]


def load_notifications(connection: sa.Connection, keys: KeyRing) -> Loaded:
    """Return all notifications that authenticate."""
    registry = read_registry(connection, keys)
    rows = connection.execute(select_notifications().order_by(notifications.c.name_key)).all()
    listed = [to_listed_notification(row, keys, registry) for row in rows]
    refused = [f"{notification.name}: {notification.error}" for notification in listed if notification.error]
    if missing := registry.count(notifications) - len(rows):
        refused.append(
            f"{abs(missing)} row(s) of table notifications are "
            f"{'missing' if missing > 0 else 'not registered'}: it was altered outside phasesync"
        )
    usable = {notification.id: notification for notification in listed if not notification.error}
    return Loaded(usable=usable, refused=tuple(refused))


def _channel(sealed: _Sealed) -> Channel:
    secret = None if sealed.signing_secret is None else SecretValue(sealed.signing_secret)
    return parse_channel(sealed.url, signing_secret=secret)


def notification_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the context of the ciphertext: it binds channel and rules to the name and the app."""
    app = "" if values["app_id"] is None else str(values["app_id"])
    return ("notifications", values["id"], "sealed", str(values["version"]), str(values["name"]), app)


def _look_again(connection: sa.Connection) -> None:
    """Have every open alert looked at anew, since the notifications are other ones now."""
    connection.execute(alerts.update().where(sa.text(OPEN_ALERT)).values(news_at=now()))


def _instant(count: Any) -> Any:
    return from_microseconds(count) if isinstance(count, int) else None
