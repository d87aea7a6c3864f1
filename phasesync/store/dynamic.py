"""
Dynamic secrets: definitions of short-lived credentials.

The configuration is one ciphertext, bound to the rest of its row. So an attacker who can write to the database but has
no key cannot give the users of a dynamic secret another policy, nor another account.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from phasesync.core.dynamic import DynamicConfig, DynamicDraft, DynamicSecret
from phasesync.core.names import check_name
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import AlreadyExistsError, CiphertextError
from phasesync.store.apps import find_environment
from phasesync.store.base import (
    BaseStore,
    Names,
    has_live_leases,
    lookup_error,
    name_of_cursor,
    new_id,
    no_such,
    refuse_taken_name,
)
from phasesync.store.credentials import credential_chain, find_credential
from phasesync.store.database import row_lock
from phasesync.store.db_time import now
from phasesync.store.environment_mac import authentic_environments, authentic_pointers, find_environments
from phasesync.store.instance import Registry, lock_registry, read_registry
from phasesync.store.key_ring import KeyRing
from phasesync.store.lease_rows import check_live_leases_mac, live_leases_mac, load_live_leases
from phasesync.store.projects import note_edit, refuse_if_strict
from phasesync.store.protection import require_approval
from phasesync.store.secrets import lookup_of
from phasesync.store.tables import LEASE_IS_LIVE, apps, credentials, dynamic_secrets, environments, leases, secrets

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


class DynamicStore(BaseStore):
    """Dynamic secrets."""

    def add(self, draft: DynamicDraft) -> DynamicSecret:
        """
        Add a dynamic secret.

        Raises:
            NotFoundError: app, environment or credential.
            AlreadyExistsError: the name is taken, or a secret or another dynamic secret of the same folder has one of
                its keys.
        """
        check_name(draft.name, "dynamic secret")
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            taken = connection.scalar(
                sa.select(dynamic_secrets.c.name).where(dynamic_secrets.c.name_key == draft.name.lower())
            )
            if taken is not None:
                raise AlreadyExistsError(
                    f"the dynamic secret {taken} exists already", hint=f"phasesync dynamic update {taken}"
                )
            environment = find_environment(connection, draft.app, draft.environment, lock=True)
            authentic_pointers(connection, self._keys, environment)
            hint = f", or put it into a folder of its own: --path {draft.path.removesuffix('/')}/{draft.name}"
            self._refuse_taken_keys(connection, environment, draft.path, draft.config, but="", or_else=hint)
            credential = find_credential(connection, draft.credential)
            require_approval(
                self._keys, [environment], partial(self._added, connection, draft, environment, credential.id)
            )
            values = {
                "id": new_id(),
                "name": draft.name,
                "name_key": draft.name.lower(),
                "environment_id": environment.id,
                "path": draft.path,
                "credential_id": credential.id,
                "issuer": draft.issuer,
                "version": 1,
            }
            values["config"] = self._keys.encrypt_json(environment.data_key_id, config_context(values), draft.config)
            values["leases_mac"] = live_leases_mac(self._keys, values["id"], ())
            connection.execute(dynamic_secrets.insert().values(**values, created_at=now()))
            registry.note(dynamic_secrets, values["id"], 1)
            registry.store()
            self._audit(connection, "dynamic.add", draft.name, after=_configuration(values, draft.config))
            return self._to_dynamic(find_dynamic(connection, draft.name))

    def find_by_id(self, dynamic_id: str) -> DynamicSecret | None:
        """Return one dynamic secret by id; None if there is no such dynamic secret."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(dynamic_secrets.c.id == dynamic_id)).first()
            return None if row is None else self._to_dynamic(row, read_registry(connection, self._keys))

    def page(self, *, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DynamicSecret]:
        """
        Return dynamic secrets by name, in a fixed number of statements. InvalidInputError for the cursor.

        If a row does not authenticate, it is listed with the reason and an empty configuration, so that it hides no
        other.
        """
        statement = _select().order_by(dynamic_secrets.c.name_key).limit(limit + 1)
        if after is not None:
            statement = statement.where(dynamic_secrets.c.name_key > name_of_cursor(after))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            registry = read_registry(connection, self._keys)
            live = load_live_leases(connection, [row.id for row in rows])
        return page_of(
            rows, limit, lambda row: self._to_listed(row, registry, live[row.id]), lambda row: str(row.name_key)
        )

    def list_all(self) -> list[DynamicSecret]:
        """Return all dynamic secrets by name."""
        pages = each_page(lambda after, limit: self.page(after=after, limit=limit))
        return [dynamic for page in pages for dynamic in page.items]

    def get(self, name: str) -> DynamicSecret:
        """Return one dynamic secret. NotFoundError names what exists instead."""
        with self._database.read() as connection:
            row = find_dynamic(connection, name)
            return self._to_dynamic(row, read_registry(connection, self._keys))

    def update(self, name: str, *, credential: str, config: DynamicConfig) -> DynamicSecret:
        """Replace credential and configuration; issued leases stay as they are. Raises as `add` does."""
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_dynamic(connection, name)
            # Locks are taken in one order everywhere: the environment, then its dynamic secrets.
            environment = find_environment(connection, row.app, row.environment, lock=True)
            row = find_dynamic(connection, name, lock=True)
            self._to_dynamic(row, registry)  # An altered row must not get a new ciphertext.
            note_edit(connection, self._keys, ObjectKind.DYNAMIC, row.id)
            authentic_pointers(connection, self._keys, environment)
            self._refuse_taken_keys(connection, environment, row.path, config, but=row.id)
            used = find_credential(connection, credential)
            require_approval(self._keys, [environment], partial(self._updated, connection, row, config, used))
            values = {
                **row._asdict(),
                "credential_id": used.id,
                "version": row.version + 1,
            }
            connection.execute(
                dynamic_secrets.update()
                .where(dynamic_secrets.c.id == row.id)
                .values(
                    credential_id=values["credential_id"],
                    version=values["version"],
                    config=self._keys.encrypt_json(row.data_key_id, config_context(values), config),
                    # An update by an operator accepts the leases that exist now.
                    leases_mac=live_leases_mac(self._keys, row.id, load_live_leases(connection, [row.id])[row.id]),
                )
            )
            registry.note(dynamic_secrets, row.id, values["version"])
            registry.store()
            self._audit(
                connection,
                "dynamic.update",
                row.name,
                before=_configuration(row._asdict(), open_config(row, self._keys)),
                after=_configuration(values, config),
            )
            return self._to_dynamic(find_dynamic(connection, name))

    def rename(self, name: str, new_name: str) -> DynamicSecret:
        """
        Give a dynamic secret another name; its leases stay as they are. A change of case alone is possible.

        Raises:
            NotFoundError: there is no such dynamic secret.
            AlreadyExistsError: another one has the name.
            CiphertextError: the row was altered.
        """
        check_name(new_name, "dynamic secret")
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_dynamic(connection, name, lock=True)
            config = self._to_dynamic(row, registry).config
            refuse_taken_name(connection, dynamic_secrets, "dynamic secret", new_name, but=row.id)
            note_edit(connection, self._keys, ObjectKind.DYNAMIC, row.id)
            owner = authentic_environments(connection, self._keys, environments.c.id == row.environment_id)
            require_approval(self._keys, owner, partial(_renamed, row, new_name))
            # The ciphertext is bound to the name and the version.
            values = {"name": new_name, "name_key": new_name.lower(), "version": row.version + 1}
            sealed = self._keys.encrypt_json(row.data_key_id, config_context({**row._asdict(), **values}), config)
            connection.execute(
                dynamic_secrets.update().where(dynamic_secrets.c.id == row.id).values(**values, config=sealed)
            )
            registry.note(dynamic_secrets, row.id, values["version"])
            registry.store()
            self._audit(
                connection,
                "dynamic.rename",
                row.name,
                details={"renamed_to": new_name},
                before=_configuration(row._asdict(), config),
                after=_configuration({**row._asdict(), **values}, config),
            )
            return self._to_dynamic(find_dynamic(connection, new_name))

    def remove(self, name: str) -> None:
        """Remove a dynamic secret with its ended leases. NotFoundError; IllegalTransitionError while one is live."""
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_dynamic(connection, name, lock=True)
            self._require_removal(connection, row)
            if live := count_live(connection, row.id):
                command = f"phasesync dynamic remove {row.name} --revoke"
                raise has_live_leases(f"the dynamic secret {row.name}", live, command)
            note_edit(connection, self._keys, ObjectKind.DYNAMIC, row.id, removed=True)
            connection.execute(dynamic_secrets.delete().where(dynamic_secrets.c.id == row.id))
            registry.forget(dynamic_secrets, row.id)
            registry.store()
            try:
                before = _configuration(row._asdict(), open_config(row, self._keys))
            except CiphertextError:
                before = None  # What was altered must still be removable.
            self._audit(connection, "dynamic.remove", row.name, before=before)

    def check_removal(self, name: str) -> None:
        """
        Raise an error if a dynamic secret cannot be removed, before leases are revoked for it.

        Raises:
            NotFoundError: the dynamic secret.
            IllegalTransitionError: a document manages it strictly.
            ApprovalNeededError: its environment is protected.
        """
        with self._database.read() as connection:
            row = find_dynamic(connection, name)
            refuse_if_strict(connection, self._keys, ObjectKind.DYNAMIC, row.id)
            self._require_removal(connection, row)

    def _added(
        self, connection: sa.Connection, draft: DynamicDraft, environment: sa.Row[Any], credential_id: str
    ) -> "Proposal":
        from phasesync.core.change_request import AddDynamic, Proposal, Seen, reach_of, seen_credentials, settings_of

        reach = credential_chain(connection, self._keys, credential_id)
        label = f"{environment.app}/{environment.name}"
        return Proposal(
            arguments=AddDynamic(draft=draft),
            changes=(
                f"add the dynamic secret {draft.name} ({draft.issuer}) to {label} {draft.path} with the credential "
                f"{draft.credential}",
                *reach_of(reach),
                *settings_of(draft.config),
            ),
            seen={f"the environment {label}": Seen(id=environment.id), **seen_credentials(reach)},
        )

    def _updated(
        self, connection: sa.Connection, row: sa.Row[Any], config: DynamicConfig, credential: sa.Row[Any]
    ) -> "Proposal":
        from phasesync.core.change_request import (
            Proposal,
            Seen,
            UpdateDynamic,
            differences,
            reach_of,
            seen_credentials,
        )

        reach, another = credential_chain(connection, self._keys, credential.id), row.credential_id != credential.id
        moved = [f"credential: {row.credential} -> {credential.name}", *reach_of(reach)] if another else []
        return Proposal(
            arguments=UpdateDynamic(dynamic_id=row.id, credential=credential.name, config=config),
            changes=(
                f"update the dynamic secret {row.name}",
                *moved,
                *differences(open_config(row, self._keys), config),
            ),
            seen={
                f"the dynamic secret {row.name}": Seen(id=row.id, version=row.version),
                **seen_credentials(reach),
            },
        )

    def _require_removal(self, connection: sa.Connection, row: sa.Row[Any]) -> None:
        # Not authenticated: who can alter the row of the environment can as well delete that of the secret.
        owner = find_environments(connection, environments.c.id == row.environment_id)
        require_approval(self._keys, owner, partial(_removed, row))

    def _refuse_taken_keys(
        self,
        connection: sa.Connection,
        environment: sa.Row[Any],
        path: str,
        config: DynamicConfig,
        *,
        but: str,
        or_else: str = "",
    ) -> None:
        """
        Raise AlreadyExistsError if a secret or another dynamic secret of the same folder has one of the keys.

        Names all taken keys, and ends the hint with `or_else`. `but`: id of a dynamic secret to ignore.
        """
        lookups = {lookup_of(self._keys, environment.id, path, key): key for key in config.keys.values()}
        taken = connection.scalars(
            sa.select(secrets.c.lookup).where(
                secrets.c.environment_id == environment.id, secrets.c.is_set, secrets.c.lookup.in_(list(lookups))
            )
        )
        label = f"{environment.app}/{environment.name} {path}"
        as_secrets = {lookups[bytes(lookup)]: "" for lookup in taken}
        issued = issued_keys(connection, environment.id, self._keys, but=but)
        holders = as_secrets | {key: issued[path, key] for key in lookups.values() if (path, key) in issued}
        if not holders:
            return
        sentences = []
        for holder in sorted(set(holders.values())):
            keys = [key for key in config.keys.values() if holders.get(key) == holder]
            single = len(keys) == 1
            if holder:
                sentences.append(f"{_and(keys)} of {label} {'is' if single else 'are'} issued by {holder} already")
            else:
                sentences.append(f"{_and(keys)} {'is a secret' if single else 'are secrets'} of {label} already")
        renamed = ",".join(f"{output}=NAME" for output, key in config.keys.items() if key in holders)
        raise AlreadyExistsError("; ".join(sentences), hint=f"choose other names: --key-map {renamed}{or_else}")

    def _to_listed(self, row: sa.Row[Any], registry: Registry, live: Sequence[str]) -> DynamicSecret:
        try:
            dynamic = self._to_dynamic(row, registry)
            check_live_leases_mac(self._keys, row, live)
            return dynamic
        except CiphertextError as error:
            none = timedelta(0)
            return _dynamic_of(row, DynamicConfig(user_template="", default_ttl=none, max_ttl=none), error.message)

    def _to_dynamic(self, row: sa.Row[Any], registry: Registry | None = None) -> DynamicSecret:
        dynamic = _dynamic_of(row, open_config(row, self._keys))
        if registry is not None:
            registry.check(dynamic_secrets, row)
        return dynamic


def _renamed(row: sa.Row[Any], new_name: str) -> "Proposal":
    from phasesync.core.change_request import Proposal, RenameDynamic, Seen

    return Proposal(
        arguments=RenameDynamic(dynamic_id=row.id, new_name=new_name),
        changes=(f"rename the dynamic secret {row.name} to {new_name}",),
        seen={f"the dynamic secret {row.name}": Seen(id=row.id, version=row.version)},
    )


def _removed(row: sa.Row[Any]) -> "Proposal":
    from phasesync.core.change_request import Proposal, RemoveDynamic, Seen

    return Proposal(
        arguments=RemoveDynamic(dynamic_id=row.id),
        changes=(f"remove the dynamic secret {row.name}",),
        seen={f"the dynamic secret {row.name}": Seen(id=row.id, version=row.version)},
        command=f"phasesync dynamic remove {row.name} --revoke",
    )


def _and(keys: list[str]) -> str:
    """Return keys as a list in a sentence."""
    return " and ".join(part for part in (", ".join(keys[:-1]), keys[-1]) if part)


def _dynamic_of(row: sa.Row[Any], config: DynamicConfig, error: str | None = None) -> DynamicSecret:
    return DynamicSecret(
        id=row.id,
        name=row.name,
        environment_id=row.environment_id,
        app=row.app or "?",
        environment=row.environment or "?",
        path=row.path,
        credential_id=row.credential_id,
        credential=row.credential or "?",
        issuer=row.issuer,
        version=row.version,
        config=config,
        live=row.live,
        created_at=row.created_at,
        error=error,
    )


def _configuration(values: Mapping[str, Any], config: DynamicConfig) -> dict[str, Any]:
    """Return what a dynamic secret is, for the digests of the audit log."""
    names = ("id", "name", "environment_id", "path", "credential_id", "issuer")
    return {name: values[name] for name in names} | {"config": config}


def find_dynamic(connection: sa.Connection, name: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return a dynamic secret's row, with `data_key_id` and `clock`. NotFoundError names what exists instead."""
    statement = _select().where(dynamic_secrets.c.name_key == name.lower())
    row = connection.execute(row_lock(statement, dynamic_secrets) if lock else statement).first()
    if row is None:
        names = Names.of(connection, dynamic_secrets)
        raise lookup_error(connection, dynamic_secrets, name, no_such("dynamic secret", name, names, "dynamic"))
    if row.name_key != row.name.lower():
        raise _unauthentic(row)
    return row


def issued_keys(
    connection: sa.Connection, environment_id: str, keys: KeyRing, *, but: str = ""
) -> dict[tuple[str, str], str]:
    """Return (path, key) -> name of the dynamic secret that issues it. `but`: id of a dynamic secret to ignore."""
    rows = connection.execute(
        _select().where(dynamic_secrets.c.environment_id == environment_id, dynamic_secrets.c.id != but)
    ).all()
    issued: dict[tuple[str, str], str] = {}
    for row in rows:
        try:
            config = open_config(row, keys)
        except CiphertextError:
            continue  # An altered row is not trusted, and must not block others.
        issued |= {(row.path, key): row.name for key in config.keys.values()}
    return issued


def open_config(row: sa.Row[Any], keys: KeyRing) -> DynamicConfig:
    """Return the configuration in a row of `dynamic_secrets`. CiphertextError also if a plain column was altered."""
    if row.name_key != row.name.lower():
        raise _unauthentic(row)
    try:
        return keys.decrypt_json(DynamicConfig, config_context(row._asdict()), row.config)
    except CiphertextError:
        raise _unauthentic(row) from None


def _unauthentic(row: sa.Row[Any]) -> CiphertextError:
    return CiphertextError(
        f"the dynamic secret {row.name} in table dynamic_secrets does not authenticate: it was altered outside "
        "phasesync",
        hint=f"restore a backup, or phasesync dynamic remove {row.name} and add it again",
    )


def count_live(connection: sa.Connection, dynamic_id: str) -> int:
    """Return how many leases of a dynamic secret have not ended."""
    count = sa.select(sa.func.count()).where(leases.c.dynamic_id == dynamic_id, LEASE_IS_LIVE)
    return connection.scalar(count) or 0


@cache
def _select() -> sa.Select[Any]:
    live = (
        sa.select(sa.func.count())
        .select_from(leases)
        .where(leases.c.dynamic_id == dynamic_secrets.c.id, LEASE_IS_LIVE)
        .scalar_subquery()
    )
    return (
        sa.select(
            dynamic_secrets,
            environments.c.name.label("environment"),
            environments.c.data_key_id,
            apps.c.name.label("app"),
            credentials.c.name.label("credential"),
            live.label("live"),
            now().label("clock"),
        )
        # A row with an altered reference is listed too, with the reason.
        .outerjoin_from(dynamic_secrets, environments, environments.c.id == dynamic_secrets.c.environment_id)
        .outerjoin(apps, apps.c.id == environments.c.app_id)
        .outerjoin(credentials, credentials.c.id == dynamic_secrets.c.credential_id)
    )


def config_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the context of a configuration: it is bound to name, environment, folder, credential and issuer."""
    bound = ("name", "environment_id", "path", "credential_id", "issuer")
    return ("dynamic_secrets", values["id"], "config", str(values["version"]), *(str(values[name]) for name in bound))
