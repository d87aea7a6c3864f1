"""
Makes an installation anew from what is at AWS, in one transaction: the id of the lost one is taken over, and its apps,
environments, secrets, syncs and journal are made. `core/rebuild.py` decides what they are.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import NAMES_IN_LOG
from phasesync.core.model import SecretWrite
from phasesync.core.rebuild import RebuildPlan, Said, draft_of
from phasesync.core.sync import SyncConfig
from phasesync.errors import (
    IllegalTransitionError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store.apps import AppStore
from phasesync.store.base import BaseStore
from phasesync.store.daemons import DaemonRegistry
from phasesync.store.database import open_database
from phasesync.store.instance import lock_registry
from phasesync.store.journal import store_entries, with_id
from phasesync.store.secrets import SecretStore
from phasesync.store.serialization import from_json, to_json
from phasesync.store.syncs import SyncStore
from phasesync.store.tables import apps, dynamic_secrets, environments, instance, root_keys, syncs

_USED: Final = (apps, syncs, dynamic_secrets)


class RebuildStore(BaseStore):
    """Makes an installation anew."""

    def check_fresh(self) -> None:
        """
        Refuse a database that is in use.

        Raises:
            IllegalTransitionError: it has apps, syncs or dynamic secrets, a daemon is at work on it, or AWS KMS has
                encrypted its root key for the id that it has now.
        """
        with self._database.read() as connection:
            if connection.scalar(sa.select(root_keys.c.id).where(root_keys.c.wrapped.is_not(None)).limit(1)):
                raise IllegalTransitionError(
                    "AWS KMS has encrypted the root key for the id of this new installation, and would not open it for "
                    "that of the lost one",
                    hint="make another new database without root_key_kms_key: phasesync init; afterwards move the root "
                    "key there: phasesync keys rotate-root --to aws-kms",
                )
            for table in _USED:
                if connection.scalar(sa.select(table.c.name).limit(1)) is not None:
                    raise IllegalTransitionError(
                        "this database is in use: an installation is rebuilt into a new one",
                        hint="move database and root key away, then phasesync init, phasesync credentials add, and "
                        "repeat it",
                    )
        if alive := DaemonRegistry(self._database).alive():
            raise IllegalTransitionError(
                f"a daemon is at work on this database: pid {alive[0]['pid']} on {alive[0]['host']}",
                hint="stop it first: systemctl stop phasesync",
            )

    def make(self, plan: RebuildPlan, *, credential: str, kind: str, actor: str) -> None:
        """
        Take over the installation of a plan, and make what it says.

        Args:
            plan: without problems.
            credential: name of the one that the syncs use.
            kind: their destination kind.
            actor: who rebuilds, for the history.

        Raises:
            IllegalTransitionError: the database is in use.
        """
        app_store = AppStore(self._database, self._keys)
        secret_store = SecretStore(self._database, self._keys)
        sync_store = SyncStore(self._database, self._keys)
        with self._database.transaction() as connection:
            registry = lock_registry(connection, self._keys)
            self.check_fresh()
            registry.store(instance_id=plan.instance_id)
            for app in sorted({app for app, _ in plan.environments}):
                app_store.add_app(app)
            for app, environment in plan.environments:
                app_store.add_environment(app, environment)
            for (app, environment, path), values in sorted(plan.folders.items()):
                writes = [SecretWrite(path=path, key=key, value=value) for key, value in sorted(values.items())]
                secret_store.edit(app, environment, actor=actor, origin="import", writes=writes)
            for sync in plan.syncs:
                draft = draft_of(sync, credential, kind)
                sync_store.add_sync(draft, sync_id=sync.id)
                data_key_id = connection.scalar(
                    sa.select(environments.c.data_key_id)
                    .join(syncs, syncs.c.environment_id == environments.c.id)
                    .where(syncs.c.id == sync.id)
                )
                store_entries(connection, self._keys, str(data_key_id), [with_id(entry) for entry in sync.entries])
            self._audit(
                connection,
                "installation.rebuild",
                plan.instance_id,
                details={
                    "syncs": [sync.name for sync in plan.syncs[:NAMES_IN_LOG]],
                    "count": len(plan.syncs),
                    "environments": len(plan.environments),
                },
            )


def read_former(database_url: str) -> tuple[str, dict[str, Said]]:
    """
    Return what a database whose root key is lost has in the clear: its instance id, and sync id -> what it was.

    Nothing of it is verified, since the key for that is lost: an operator looks at the plan.

    Raises:
        SettingsError, StoreUnavailableError: it cannot be opened, is no database of phasesync, or has no syncs.
    """
    statement = (
        sa.select(
            *(syncs.c.id, syncs.c.name, syncs.c.path, syncs.c.region, syncs.c.config),
            apps.c.name.label("app"),
            environments.c.name.label("environment"),
        )
        .join_from(syncs, environments, environments.c.id == syncs.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
    )
    try:
        with closing(open_database(database_url)) as database, database.read() as connection:
            instance_id = connection.scalar(sa.select(instance.c.instance_id))
            rows = connection.execute(statement).all()
    except SchemaMismatchError:
        raise _no_former("it is no database of phasesync") from None
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"the former database: {error.message}", hint=_FORMER_HINT, code=error.code
        ) from None
    except PhasesyncError as error:  # Its hint is about the database in use.
        raise _no_former(error.message) from None
    if instance_id is None or not rows:
        raise _no_former("it has no syncs")
    return str(instance_id), dict(_said(rows))


_FORMER_HINT: Final = "correct the URL of --former-database; without that option, the names of the AWS secrets tell"


def _no_former(why: str) -> SettingsError:
    return SettingsError(f"the former database: {why}", hint=_FORMER_HINT)


def _said(rows: Iterable[Any]) -> Iterator[tuple[str, Said]]:
    for row in rows:
        try:
            config = from_json(SyncConfig, row.config)
            to_json(config).encode()
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            continue  # It was altered: the names tell, or the mapping does.
        if not _is_sound(config) or not all(isinstance(member, str) for member in row):
            continue
        yield (
            row.id,
            Said(
                name=row.name,
                app=row.app,
                environment=row.environment,
                path=row.path,
                region=row.region,
                layout=config.layout,
                names=config.names,
                config=config,
            ),
        )


def _is_sound(config: SyncConfig) -> bool:
    """Return whether each member of a configuration has its type; nobody vouches for a row that was read unverified."""
    texts = (config.remote_name, config.name_template, config.kms_key, config.description, config.resource_policy)
    pairs = (*config.tags.items(), *(config.replicas or {}).items())
    numbers = (
        config.recovery_days,
        config.shrink_limit_percent,
        config.shrink_limit_keys,
        config.delete_limit_percent,
        config.delete_limit_objects,
    )
    return (
        all(text is None or isinstance(text, str) for text in texts)
        and all(isinstance(text, str) for pair in pairs for text in pair)
        and all(type(number) is int for number in numbers)
        and all(isinstance(window, str) for window in config.windows)
    )
