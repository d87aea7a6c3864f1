"""
Apps and environments: adding, listing, renaming, removing, protecting.

Names are unique regardless of case. A rename or a new name requests runs of the syncs with references that it may
change.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from phasesync.core.model import App, Environment
from phasesync.core.names import check_name, parse_environment_label
from phasesync.core.pages import PAGE_SIZE, Page, bad_cursor, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
)
from phasesync.store.app_windows import decrypt_windows, encrypt_windows
from phasesync.store.base import (
    BaseStore,
    Names,
    has_live_leases,
    lookup_error,
    name_of_cursor,
    new_id,
    no_such,
    renaming,
)
from phasesync.store.database import row_lock
from phasesync.store.db_time import now
from phasesync.store.environment_mac import (
    authentic_environments,
    authentic_pointers,
    columns_of_app,
    environment_mac,
    find_environments,
    update_app_names,
    update_environment_row,
)
from phasesync.store.instance import lock_registry
from phasesync.store.key_ring import ENVIRONMENT_KEY, KeyRing, insert_key
from phasesync.store.projects import note_edit, refuse_if_strict
from phasesync.store.protection import require_approval
from phasesync.store.run_requests import request_runs_of_readers, retry_unresolved, retry_waiting_for_window
from phasesync.store.tables import (
    LEASE_IS_LIVE,
    apps,
    data_keys,
    dynamic_secrets,
    environments,
    leases,
    notifications,
    secrets,
    syncs,
)

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


class AppStore(BaseStore):
    """Apps and environments."""

    def add_app(self, name: str, *, description: str = "", windows: Sequence[str] = ()) -> App:
        """Add an app. AlreadyExistsError: names are unique regardless of case."""
        check_name(name, "app")
        with self._database.write() as connection:
            _refuse_taken_app(connection, name)
            app_id = new_id()
            connection.execute(
                apps.insert().values(
                    id=app_id,
                    name=name,
                    name_key=name.lower(),
                    description=description,
                    created_at=now(),
                    windows=encrypt_windows(self._keys, app_id, windows),
                )
            )
            row = find_app(connection, name)
            self._audit(connection, "app.add", row.name, after=_configuration(self._keys, row))
            return self._to_app(row)

    def page_apps(self, *, after: str | None = None, limit: int = PAGE_SIZE) -> Page[App]:
        """Return apps by name. InvalidInputError for the cursor."""
        statement = sa.select(apps).order_by(apps.c.name_key).limit(limit + 1)
        if after is not None:
            statement = statement.where(apps.c.name_key > name_of_cursor(after))
        with self._database.read() as connection:
            return page_of(connection.execute(statement).all(), limit, self._to_app, lambda row: row.name_key)

    def list_apps(self) -> list[App]:
        """Return all apps by name, where there are few."""
        pages = each_page(lambda after, limit: self.page_apps(after=after, limit=limit))
        return [app for page in pages for app in page.items]

    def get_app(self, name: str) -> App:
        """Return one app. NotFoundError."""
        with self._database.read() as connection:
            return self._to_app(find_app(connection, name))

    def update_app(
        self,
        name: str,
        *,
        new_name: str | None = None,
        description: str | None = None,
        windows: Sequence[str] | None = None,
    ) -> App:
        """
        Change an app; None leaves a member as it is. NotFoundError, AlreadyExistsError.

        With other `windows` (canonical texts), the syncs that wait for a window are reconciled at once.
        """
        with self._database.write() as connection:
            app = find_app(connection, name, lock=True)
            note_edit(connection, self._keys, ObjectKind.APP, app.id)
            renamed = None if new_name == app.name else new_name
            if renamed is not None:
                check_name(renamed, "app")
                if renamed.lower() != app.name_key:
                    _refuse_taken_app(connection, renamed)
            before = self._to_app(app)
            configuration = _configuration(self._keys, app)
            if renamed is not None or (windows is not None and tuple(windows) != before.windows):
                owned = authentic_environments(connection, self._keys, environments.c.app_id == app.id)
                update = {"new_name": new_name, "description": description, "windows": windows}
                require_approval(self._keys, owned, partial(_updated_app, app, owned, before.windows, update))
            if renamed is not None and new_name is not None:
                update_app_names(
                    connection,
                    self._keys,
                    _locked_environments(connection, app.id),
                    name=new_name,
                    name_key=new_name.lower(),
                )
                connection.execute(_update_row(apps, app.id).values(name=new_name, name_key=new_name.lower()))
                retry_unresolved(connection)
            if description is not None:
                connection.execute(_update_row(apps, app.id).values(description=description))
            if windows is not None:
                encrypted = encrypt_windows(self._keys, app.id, windows)
                connection.execute(_update_row(apps, app.id).values(windows=encrypted))
                retry_waiting_for_window(connection, app.id)
            row = find_app(connection, new_name or name)
            after = self._to_app(row)
            if after != before:
                self._audit(
                    connection,
                    "app.update",
                    before.name,
                    details=renaming(before.name, after.name),
                    before=configuration,
                    after=_configuration(self._keys, row),
                )
            return after

    def remove_app(self, name: str) -> None:
        """Remove an app. NotFoundError; IllegalTransitionError while it has environments."""
        with self._database.write() as connection:
            app = find_app(connection, name, lock=True)
            names = Names.of(connection, environments, environments.c.app_id == app.id)
            if names:
                raise IllegalTransitionError(
                    f"the app {app.name} still has environments: {names}",
                    hint=f"phasesync envs remove {app.name}/{names.first[0]}",
                )
            if told := Names.of(connection, notifications, notifications.c.app_id == app.id):
                raise IllegalTransitionError(
                    f"the app {app.name} is the subject of notifications: {told}",
                    hint=f"phasesync notifications remove {told.first[0]}",
                )
            note_edit(connection, self._keys, ObjectKind.APP, app.id, removed=True)
            connection.execute(apps.delete().where(apps.c.id == app.id))
            self._audit(connection, "app.remove", app.name, before=_configuration(self._keys, app))

    def _to_app(self, row: sa.Row[Any]) -> App:
        return App(
            id=row.id,
            name=row.name,
            description=row.description,
            created_at=row.created_at,
            windows=decrypt_windows(self._keys, row.id, row.windows),
        )

    def add_environment(self, app: str, name: str) -> Environment:
        """Add an environment. NotFoundError for the app; AlreadyExistsError: names are unique regardless of case."""
        with self._database.write() as connection:
            mac = insert_environment(connection, self._keys, find_app(connection, app, lock=True), name)
            added = to_environment(find_environment(connection, app, name))
            self._audit(connection, "environment.add", added.label, after=mac)
            return added

    def page_environments(
        self, app: str | None = None, *, after: str | None = None, limit: int = PAGE_SIZE
    ) -> Page[Environment]:
        """
        Return environments by app and name, of one app or of all.

        Raises:
            NotFoundError: the app.
            InvalidInputError: the cursor.
        """
        statement = select_environments().order_by(apps.c.name_key, environments.c.name_key).limit(limit + 1)
        with self._database.read() as connection:
            if app is not None:
                statement = statement.where(environments.c.app_id == find_app(connection, app).id)
            if after is not None:
                statement = statement.where(_after_environment(after))
            rows = connection.execute(statement).all()
        return page_of(rows, limit, to_environment, lambda row: f"{row.app_key}/{row.name_key}")

    def list_environments(self, app: str | None = None) -> list[Environment]:
        """Return all environments, where there are few. NotFoundError for an unknown app."""
        pages = each_page(lambda after, limit: self.page_environments(app, after=after, limit=limit))
        return [environment for page in pages for environment in page.items]

    def get_environment(self, app: str, name: str) -> Environment:
        """Return one environment. NotFoundError names what exists instead."""
        with self._database.read() as connection:
            return to_environment(find_environment(connection, app, name))

    def update_environment(self, app: str, name: str, *, new_name: str) -> Environment:
        """Rename an environment; syncs that refer to it become pending. NotFoundError, AlreadyExistsError."""
        check_name(new_name, "environment")
        with self._database.write() as connection:
            environment = find_environment(connection, app, name, lock=True)
            note_edit(connection, self._keys, ObjectKind.ENVIRONMENT, environment.id)
            if new_name != environment.name:
                if new_name.lower() != environment.name_key:
                    _refuse_taken_environment(connection, environment.app_id, environment.app, new_name)
                pointers = authentic_pointers(connection, self._keys, environment)
                require_approval(self._keys, [environment], partial(_renamed_environment, environment, new_name))
                mac = update_environment_row(
                    connection,
                    self._keys,
                    environment,
                    pointers,
                    name=new_name,
                    name_key=new_name.lower(),
                    revision=environment.revision + 1,
                )
                retry_unresolved(connection)
                self._audit(
                    connection,
                    "environment.update",
                    f"{environment.app}/{environment.name}",
                    details=renaming(environment.name, new_name),
                    before=environment.mac,
                    after=mac,
                )
            return to_environment(find_environment(connection, app, new_name))

    def protect_environment(self, app: str, name: str, *, approvers: int | None) -> Environment:
        """
        Set how many others have to approve a change of an environment; None ends the protection. NotFoundError.

        Makes a new revision, so that the MAC from before the change authenticates nothing any more.
        """
        with self._database.write() as connection:
            environment = find_environment(connection, app, name, lock=True)
            pointers = authentic_pointers(connection, self._keys, environment)
            if approvers != environment.approvers:
                note_edit(connection, self._keys, ObjectKind.ENVIRONMENT, environment.id)
                require_approval(self._keys, [environment], partial(_protected_otherwise, environment, approvers))
                mac = update_environment_row(
                    connection,
                    self._keys,
                    environment,
                    pointers,
                    approvers=approvers,
                    revision=environment.revision + 1,
                )
                self._audit(
                    connection,
                    "environment.unprotect" if approvers is None else "environment.protect",
                    f"{environment.app}/{environment.name}",
                    details={"approvers": approvers, "approvers_before": environment.approvers},
                    before=environment.mac,
                    after=mac,
                )
            return to_environment(find_environment(connection, app, name))

    def check_change(
        self, environment_id: str, propose: "Callable[[], Proposal]", *, authenticate: bool = True
    ) -> None:
        """
        Raise ApprovalNeededError if a change of an environment needs an approval, before anything is done for it.

        Args:
            environment_id: of the environment.
            propose: describes the change.
            authenticate: False where an altered environment must not keep something from being removed.

        Raises:
            CiphertextError: the environment was altered.
        """
        which = environments.c.id == environment_id
        with self._database.read() as connection:
            rows: Sequence[sa.Row[Any]] = find_environments(connection, which)
            if authenticate:
                rows = authentic_environments(connection, self._keys, which)
            require_approval(self._keys, rows, propose)

    def find_environment_by_id(self, environment_id: str) -> Environment | None:
        """Return one environment by id; None if there is no such environment."""
        with self._database.read() as connection:
            row = connection.execute(select_environments().where(environments.c.id == environment_id)).first()
        return None if row is None else to_environment(row)

    def find_app_by_id(self, app_id: str) -> App | None:
        """Return one app by id; None if there is no such app."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(apps).where(apps.c.id == app_id)).first()
        return None if row is None else self._to_app(row)

    def check_removal(self, app: str, name: str) -> None:
        """
        Raise an error if an environment cannot be removed, before leases are revoked for it.

        Raises:
            NotFoundError: the environment.
            IllegalTransitionError: a document manages it, or a dynamic secret of it, strictly.
            ApprovalNeededError: it is protected.
        """
        with self._database.read() as connection:
            environment = find_environment(connection, app, name)
            refuse_if_strict(connection, self._keys, ObjectKind.ENVIRONMENT, environment.id)
            of_environment = dynamic_secrets.c.environment_id == environment.id
            for dynamic in connection.scalars(sa.select(dynamic_secrets.c.id).where(of_environment)).all():
                refuse_if_strict(connection, self._keys, ObjectKind.DYNAMIC, dynamic)
            require_approval(self._keys, [environment], partial(_removed_environment, environment))

    def remove_environment(self, app: str, name: str) -> None:
        """
        Remove an environment with its secrets and dynamic secrets.

        NotFoundError; IllegalTransitionError while syncs use it, or while one of its leases is live.
        """
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            environment = find_environment(connection, app, name, lock=True)
            users = Names.of(connection, syncs, syncs.c.environment_id == environment.id)
            if users:
                raise IllegalTransitionError(
                    f"{environment.app}/{environment.name} is used by syncs: {users}",
                    hint=f"phasesync syncs remove {users.first[0]} --remote keep",
                )
            require_approval(self._keys, [environment], partial(_removed_environment, environment))
            # Locked, so that no lease of theirs is issued meanwhile and deleted with the environment.
            dynamics = connection.scalars(
                row_lock(
                    sa.select(dynamic_secrets.c.id)
                    .where(dynamic_secrets.c.environment_id == environment.id)
                    .order_by(dynamic_secrets.c.id),
                    dynamic_secrets,
                )
            ).all()
            live = connection.scalar(
                sa.select(sa.func.count())
                .select_from(leases.join(dynamic_secrets))
                .where(dynamic_secrets.c.environment_id == environment.id, LEASE_IS_LIVE)
            )
            if live:
                label = f"{environment.app}/{environment.name}"
                raise has_live_leases(label, live, f"phasesync envs remove {label} --revoke")
            note_edit(connection, self._keys, ObjectKind.ENVIRONMENT, environment.id, removed=True)
            note_edit(connection, self._keys, ObjectKind.VALUES, environment.id, removed=True)
            request_runs_of_readers(connection, environment.id)
            connection.execute(environments.delete().where(environments.c.id == environment.id))
            for dynamic in dynamics:
                note_edit(connection, self._keys, ObjectKind.DYNAMIC, dynamic, removed=True)
                registry.forget(dynamic_secrets, dynamic)
            registry.store()
            # Without the key, copies of the rows in backups and on the disk cannot be decrypted.
            connection.execute(data_keys.delete().where(data_keys.c.id == environment.data_key_id))
            self._keys.forget_used(environment.data_key_id)
            label = f"{environment.app}/{environment.name}"
            self._audit(connection, "environment.remove", label, before=environment.mac)


def insert_environment(connection: sa.Connection, keys: KeyRing, app: sa.Row[Any], name: str) -> bytes:
    """Add an environment, and return its MAC. The caller has locked the app's row, since it covers the app's names."""
    check_name(name, "environment")
    _refuse_taken_environment(connection, app.id, app.name, name)
    key = keys.new_data_key(ENVIRONMENT_KEY)
    insert_key(connection, key)
    values = {
        "id": new_id(),
        "app_id": app.id,
        "name": name,
        "name_key": name.lower(),
        "revision": 0,
        "data_key_id": key.id,
    }
    mac = environment_mac(keys, {**values, "app": app.name, "app_key": app.name_key}, ())
    connection.execute(environments.insert().values(**values, mac=mac, created_at=now()))
    retry_unresolved(connection)
    return mac


def _configuration(keys: KeyRing, app: sa.Row[Any]) -> dict[str, Any]:
    """Return what an app is, for the digests of the audit log. Altered windows must not keep it from being removed."""
    try:
        windows: Sequence[str] | None = decrypt_windows(keys, app.id, app.windows)
    except CiphertextError:
        windows = None
    return {"id": app.id, "name": app.name, "description": app.description, "windows": windows}


def find_app(connection: sa.Connection, name: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return an app's row. NotFoundError names what exists instead."""
    statement = sa.select(apps).where(apps.c.name_key == name.lower())
    row = connection.execute(row_lock(statement) if lock else statement).first()
    if row is None:
        names = Names.of(connection, apps)
        error = no_such("app", name, names, "apps")
        error.hint = f"{error.hint}; to make it: phasesync apps add {name}" if names else f"phasesync apps add {name}"
        raise lookup_error(connection, apps, name, error)
    return row


def find_environment(connection: sa.Connection, app: str, name: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return an environment's row with `app`, `key_count` and `clock`. NotFoundError names what exists instead."""
    statement = select_environments().where(apps.c.name_key == app.lower(), environments.c.name_key == name.lower())
    if lock:
        _lock_environments(connection, statement)
    row = connection.execute(statement).first()
    if row is None:
        owner = find_app(connection, app)
        error = NotFoundError(
            f"there is no environment {owner.name}/{name}; {owner.name} has: "
            f"{Names.of(connection, environments, environments.c.app_id == owner.id)}",
            hint=f"phasesync envs list; to make it: phasesync envs add {owner.name}/{name}",
        )
        raise lookup_error(connection, environments, name, error, environments.c.app_id == owner.id)
    return row


def find_locked_environment(connection: sa.Connection, environment_id: str) -> sa.Row[Any] | None:
    """Lock an environment and return its row as `find_environment` does; None if there is no such environment."""
    statement = select_environments().where(environments.c.id == environment_id)
    _lock_environments(connection, statement)
    return connection.execute(statement).first()


def _locked_environments(connection: sa.Connection, app_id: str) -> list[sa.Row[Any]]:
    """Return all environments of an app, locked in the order of their ids."""
    statement = select_environments().where(environments.c.app_id == app_id).order_by(environments.c.id)
    _lock_environments(connection, statement)
    return list(connection.execute(statement))


def _lock_environments(connection: sa.Connection, statement: sa.Select[Any]) -> None:
    """
    Lock the environments of a select; the caller sends the select afterwards.

    A select that waits for a lock reads the locked row anew, but not the joined rows: it would miss a new name of the
    app, which the MAC covers. On SQLite the transaction has locked everything already.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(row_lock(statement.with_only_columns(environments.c.id), environments)).all()


@cache
def select_environments() -> sa.Select[Any]:
    """Return the select behind `to_environment`. `clock` is the database's time in microseconds."""
    key_count = (
        sa.select(sa.func.count())
        .select_from(secrets)
        .where(secrets.c.environment_id == environments.c.id, secrets.c.is_set)
        .scalar_subquery()
    )
    return sa.select(environments, *columns_of_app(), key_count.label("key_count"), now().label("clock")).join_from(
        environments, apps
    )


def to_environment(row: sa.Row[Any]) -> Environment:
    """Return the environment of a row of `select_environments`."""
    return Environment(
        id=row.id,
        app_id=row.app_id,
        app=row.app,
        name=row.name,
        revision=row.revision,
        keys=row.key_count,
        approvers=row.approvers,
        created_at=row.created_at,
    )


def _after_environment(cursor: str) -> sa.ColumnElement[bool]:
    """Return the condition that an environment follows the one that a cursor is. InvalidInputError."""
    try:
        app, name = parse_environment_label(cursor.lower())
    except InvalidInputError:
        raise bad_cursor() from None
    # The first condition follows from the second; it is there for the index on the names of apps.
    return (apps.c.name_key >= app) & ((apps.c.name_key > app) | (environments.c.name_key > name))


def _refuse_taken_app(connection: sa.Connection, name: str) -> None:
    taken = connection.scalar(sa.select(apps.c.name).where(apps.c.name_key == name.lower()))
    if taken is not None:
        raise AlreadyExistsError(
            f"the app {taken} exists already", hint=f"phasesync envs list --app {taken} shows what is in it"
        )


def _refuse_taken_environment(connection: sa.Connection, app_id: str, app: str, name: str) -> None:
    taken = connection.scalar(
        sa.select(environments.c.name).where(environments.c.app_id == app_id, environments.c.name_key == name.lower())
    )
    if taken is not None:
        raise AlreadyExistsError(
            f"the environment {app}/{taken} exists already", hint=f"phasesync secrets list {app}/{taken}"
        )


def _update_row(table: sa.Table, row_id: str) -> sa.Update:
    return table.update().where(table.c.id == row_id)


# --- changes of protected environments


def _updated_app(
    app: sa.Row[Any], owned: Sequence[sa.Row[Any]], former: Sequence[str], update: Mapping[str, Any]
) -> "Proposal":
    from phasesync.core.change_request import Proposal, Seen, UpdateApp

    new_name, description, windows = update["new_name"], update["description"], update["windows"]
    before = "; ".join(former) or "none"
    # New windows concern no value: edits meanwhile do not matter.
    revisions = {row.id: 0 if new_name is None else row.revision for row in owned}
    changes = [] if new_name is None else [f"rename the app {app.name} to {new_name}"]
    if description is not None:
        changes.append(f"description of the app {app.name}: {app.description or '-'} -> {description or '-'}")
    if windows is not None:
        changes.append(f"maintenance windows of the app {app.name}: {before} -> {'; '.join(windows) or 'none'}")
    return Proposal(
        arguments=UpdateApp(
            app_id=app.id,
            new_name=new_name,
            description=description,
            windows=None if windows is None else tuple(windows),
        ),
        changes=tuple(changes),
        seen={
            f"the windows {before} of the app {app.name}": Seen(id=app.id),
            **{f"the environment {row.app}/{row.name}": Seen(id=row.id, version=revisions[row.id]) for row in owned},
        },
    )


def _renamed_environment(environment: sa.Row[Any], new_name: str) -> "Proposal":
    from phasesync.core.change_request import Proposal, RenameEnvironment, Seen

    label = f"{environment.app}/{environment.name}"
    return Proposal(
        arguments=RenameEnvironment(environment_id=environment.id, new_name=new_name),
        changes=(f"rename the environment {label} to {environment.app}/{new_name}",),
        seen={f"the environment {label}": Seen(id=environment.id, version=environment.revision)},
    )


def _protected_otherwise(environment: sa.Row[Any], approvers: int | None) -> "Proposal":
    from phasesync.core.change_request import Proposal, ProtectEnvironment, Seen

    label = f"{environment.app}/{environment.name}"
    change = f"end the protection of {label}"
    if approvers is not None:
        change = f"approvers of {label}: {environment.approvers} -> {approvers}"
    return Proposal(
        arguments=ProtectEnvironment(environment_id=environment.id, approvers=approvers),
        changes=(change,),
        seen={f"the approvers of {label}": Seen(id=environment.id, version=environment.approvers or 0)},
    )


def _removed_environment(environment: sa.Row[Any]) -> "Proposal":
    from phasesync.core.change_request import Proposal, RemoveEnvironment, Seen

    label = f"{environment.app}/{environment.name}"
    return Proposal(
        arguments=RemoveEnvironment(environment_id=environment.id),
        changes=(f"remove the environment {label} with {environment.key_count} secrets and their history",),
        seen={f"the environment {label}": Seen(id=environment.id, version=environment.revision)},
        command=f"phasesync envs remove {label} --revoke",
    )
