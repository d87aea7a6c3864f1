"""
Credentials: how phasesync authenticates to AWS.

Role ARN, External ID and access key are one ciphertext, bound to the other columns. An incomplete credential (a role
that does not exist yet) is stored like any other; its syncs are not claimed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from phasesync.core.counted import counted
from phasesync.core.credential import USERS_SHOWN, Credential, CredentialDraft, CredentialStatus, CredentialType
from phasesync.core.model import SecretValue
from phasesync.core.names import check_name
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.core.times import duration_text
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
)
from phasesync.store.base import (
    NO_NAMES,
    BaseStore,
    Names,
    check_name_key,
    lookup_error,
    name_of_cursor,
    new_id,
    no_such,
    refuse_taken_name,
)
from phasesync.store.database import row_lock
from phasesync.store.db_time import now
from phasesync.store.environment_mac import authentic_environments
from phasesync.store.instance import lock_registry, read_registry
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.projects import note_edit
from phasesync.store.protection import require_approval
from phasesync.store.run_requests import request_runs_of_credential, retry_leases, retry_refused
from phasesync.store.serialization import to_member
from phasesync.store.sync_rows import pin_account
from phasesync.store.tables import LEASE_IS_LIVE, credentials, dynamic_secrets, environments, leases, syncs

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """The members that are stored encrypted."""

    role_arn: str | None
    external_id: str | None = field(repr=False)
    access_key_id: str | None = field(repr=False)
    secret_access_key: str | None = field(repr=False)


class CredentialStore(BaseStore):
    """Credentials, encrypted at rest."""

    def add(self, name: str, draft: CredentialDraft) -> Credential:
        """Add a credential. AlreadyExistsError; NotFoundError for its source."""
        check_name(name, "credential")
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            taken = connection.scalar(sa.select(credentials.c.name).where(credentials.c.name_key == name.lower()))
            if taken is not None:
                raise AlreadyExistsError(f"the credential {taken} exists already")
            values = {
                "id": new_id(),
                "name": name,
                "name_key": name.lower(),
                "version": 1,
                "account": None,
                **self._drafted(connection, draft),
            }
            values["sealed"] = self._seal(values, _sealed_of(draft))
            connection.execute(credentials.insert().values(**values, created_at=now()))
            registry.note(credentials, values["id"], 1)
            registry.store()
            self._audit(connection, "credential.add", name, after=_configuration(values, _sealed_of(draft)))
            return self._get(connection, credentials.c.id == values["id"], name)

    def page(self, *, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Credential]:
        """Return credentials by name. InvalidInputError for the cursor."""
        statement = select_credentials().order_by(credentials.c.name_key).limit(limit + 1)
        if after is not None:
            statement = statement.where(credentials.c.name_key > name_of_cursor(after))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            users = _users(connection, [row.id for row in rows])
            registry = read_registry(connection, self._keys)
        page = page_of(
            rows, limit, lambda row: to_credential(row, self._keys, users[row.id]), lambda row: str(row.name_key)
        )
        for row in rows:
            registry.check(credentials, row)
        return page

    def list_all(self) -> list[Credential]:
        """Return all credentials by name."""
        pages = each_page(lambda after, limit: self.page(after=after, limit=limit))
        return [credential for page in pages for credential in page.items]

    def statuses(self) -> dict[str, CredentialStatus]:
        """Return id -> status of all credentials; the column alone, which nothing authenticates."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(credentials.c.id, credentials.c.status)).all()
        return {row.id: to_member(CredentialStatus, row.status, "status in table credentials") for row in rows}

    def get(self, name: str) -> Credential:
        """Return a credential by name. NotFoundError."""
        with self._database.read() as connection:
            return self._get(connection, credentials.c.name_key == name.lower(), name)

    def get_by_id(self, credential_id: str) -> Credential:
        """Return a credential by id. NotFoundError."""
        with self._database.read() as connection:
            return self._get(connection, credentials.c.id == credential_id, credential_id)

    def update(self, name: str, draft: CredentialDraft, *, account: str | None) -> Credential:
        """
        Replace a credential; the syncs that use it are due at once.

        If the pinned account changes, its syncs are pinned to the new one.

        Raises:
            NotFoundError: the credential, or its source.
            AlreadyExistsError: in the new account another sync writes to the same remote object.
            InvalidInputError: its sources would form a circle.
        """
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_credential(connection, name, lock=True)
            note_edit(connection, self._keys, ObjectKind.CREDENTIAL, row.id)
            drafted = self._drafted(connection, draft)
            _refuse_circle(connection, row.id, drafted["source_id"])
            require_approval(
                self._keys,
                self._environments(connection, row.id),
                partial(self._updated, connection, row, draft, account),
            )
            values = {
                "id": row.id,
                "name": row.name,
                "version": registry.next_version(credentials, row),
                "account": account,
                **drafted,
                "verified_at": None,
            }
            values["sealed"] = self._seal(values, _sealed_of(draft))
            connection.execute(credentials.update().where(credentials.c.id == row.id).values(**values))
            registry.note(credentials, row.id, values["version"])
            registry.store()
            self._audit(
                connection,
                "credential.update",
                row.name,
                before=self._stored_configuration(row),
                after=_configuration(values, _sealed_of(draft)),
            )
            if account != row.account:
                pin_account(connection, self._keys, syncs.c.credential_id == row.id, account)
            request_runs_of_credential(connection, row.id)
            return self._get(connection, credentials.c.id == row.id, name)

    def rename(self, name: str, new_name: str) -> Credential:
        """
        Give a credential another name; nothing else changes, and no run follows. A change of case alone is possible.

        Raises:
            NotFoundError: there is no such credential.
            AlreadyExistsError: another credential has the name.
            IllegalTransitionError: the channel of a notification names it.
            CiphertextError: the row was altered.
        """
        check_name(new_name, "credential")
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_credential(connection, name, lock=True)
            registry.check(credentials, row)
            refuse_taken_name(connection, credentials, "credential", new_name, but=row.id)
            if new_name.lower() != row.name_key:
                _refuse_publishing(connection, self._keys, row.name)
            # The ciphertext is bound to the name and the version.
            version = registry.next_version(credentials, row)
            values: dict[str, Any] = {"name": new_name, "name_key": new_name.lower(), "version": version}
            values["sealed"] = self._seal({**row._asdict(), **values}, _open(row, self._keys))
            connection.execute(credentials.update().where(credentials.c.id == row.id).values(**values))
            registry.note(credentials, row.id, version)
            registry.store()
            self._audit(
                connection,
                "credential.rename",
                row.name,
                details={"renamed_to": new_name},
                before=self._stored_configuration(row),
                after=_configuration({**row._asdict(), **values}, _open(row, self._keys)),
            )
            note_edit(connection, self._keys, ObjectKind.CREDENTIAL, row.id)
            return self._get(connection, credentials.c.id == row.id, new_name)

    def mark(self, credential_id: str, status: CredentialStatus, *, account: str | None = None) -> None:
        """
        Store the result of a test; `account` is pinned if no account is pinned yet. The version stays. NotFoundError.

        If AWS accepts the credential, syncs that were refused and leases that could not be revoked are tried again at
        once: the cause, such as a policy at AWS, may be corrected.
        """
        with self._database.write() as connection:
            row = connection.execute(
                row_lock(select_credentials().where(credentials.c.id == credential_id), credentials)
            ).first()
            if row is None:
                raise NotFoundError("the credential was removed")
            read_registry(connection, self._keys).check(credentials, row)
            values: dict[str, Any] = {"status": status}
            if status is CredentialStatus.VERIFIED:
                values["verified_at"] = now()
            if row.account is None and account is not None:
                pinned = {**row._asdict(), "account": account}
                values |= {"account": account, "sealed": self._seal(pinned, _open(row, self._keys))}
                pin_account(
                    connection,
                    self._keys,
                    (syncs.c.credential_id == row.id) & syncs.c.account.is_(None),
                    account,
                    lenient=True,
                )
            connection.execute(credentials.update().where(credentials.c.id == row.id).values(**values))
            if status != row.status or "account" in values:
                details = {"status": status, "account": values.get("account", row.account)}
                self._audit(connection, "credential.test", row.name, details=details)
            if status is CredentialStatus.VERIFIED:
                retry_refused(connection, row.id)
                retry_leases(connection, row.id)

    def remove(self, name: str) -> None:
        """Remove a credential. NotFoundError; IllegalTransitionError while anything uses it."""
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            row = find_credential(connection, name, lock=True)
            if used_by := Names.of(connection, syncs, syncs.c.credential_id == row.id):
                raise IllegalTransitionError(
                    f"the credential {row.name} is used by syncs: {used_by}",
                    hint=f"phasesync syncs update {used_by.first[0]} --credential OTHER, or "
                    f"phasesync syncs remove {used_by.first[0]}",
                )
            if used_by := Names.of(connection, dynamic_secrets, dynamic_secrets.c.credential_id == row.id):
                raise IllegalTransitionError(
                    f"the credential {row.name} is used by dynamic secrets: {used_by}",
                    hint=f"phasesync dynamic remove {used_by.first[0]}; all of them with their leases: "
                    f"phasesync credentials remove {row.name} --revoke",
                )
            live = connection.scalar(sa.select(sa.func.count()).where(leases.c.credential_id == row.id, LEASE_IS_LIVE))
            if live:
                issued = f"{counted(live, 'live lease')} {'was' if live == 1 else 'were'} issued"
                raise IllegalTransitionError(
                    f"{issued} with the credential {row.name}, which is needed to revoke them",
                    hint=f"phasesync credentials remove {row.name} --revoke",
                )
            if others := Names.of(connection, credentials, credentials.c.source_id == row.id):
                raise IllegalTransitionError(f"the credential {row.name} is the source of: {others}")
            _refuse_publishing(connection, self._keys, row.name)
            _refuse_keeping_backups(connection, self._keys, row)
            note_edit(connection, self._keys, ObjectKind.CREDENTIAL, row.id, removed=True)
            connection.execute(credentials.delete().where(credentials.c.id == row.id))
            registry.forget(credentials, row.id)
            registry.store()
            self._audit(connection, "credential.remove", row.name, before=self._stored_configuration(row))

    def _stored_configuration(self, row: sa.Row[Any]) -> Mapping[str, Any] | None:
        """Return what a row is, for the digests of the audit log; None if it was altered, which stops nobody."""
        try:
            return _configuration(row._asdict(), _open(row, self._keys))
        except CiphertextError:
            return None

    def _drafted(self, connection: sa.Connection, draft: CredentialDraft) -> dict[str, Any]:
        """Return the columns of a draft."""
        source = None if draft.source_name is None else find_credential(connection, draft.source_name)
        incomplete = draft.type is CredentialType.ASSUME_ROLE and draft.role_arn is None
        return {
            "type": draft.type,
            "region": draft.region,
            "status": CredentialStatus.INCOMPLETE if incomplete else CredentialStatus.UNVERIFIED,
            "source_id": None if source is None else source.id,
        }

    def _environments(self, connection: sa.Connection, credential_id: str) -> list[sa.Row[Any]]:
        """Return the environments with syncs or dynamic secrets that use a credential, also as a source of another."""
        chain = sa.select(credentials.c.id).where(credentials.c.id == credential_id).cte(recursive=True)
        chain = chain.union(sa.select(credentials.c.id).where(credentials.c.source_id == chain.c.id))
        users = [
            sa.select(table.c.environment_id).where(table.c.credential_id.in_(sa.select(chain.c.id)))
            for table in (syncs, dynamic_secrets)
        ]
        return authentic_environments(connection, self._keys, environments.c.id.in_(sa.union(*users)))

    def _updated(
        self, connection: sa.Connection, row: sa.Row[Any], draft: CredentialDraft, account: str | None
    ) -> "Proposal":
        from phasesync.core.change_request import (
            Proposal,
            Seen,
            UpdateCredential,
            differences,
            reach_of,
            seen_credentials,
        )

        try:
            former = _open(row, self._keys)
        except CiphertextError:  # What was altered can be replaced, as without protection.
            former = _Sealed(role_arn="?", external_id="?", access_key_id="?", secret_access_key="?")
        source = sa.select(credentials.c.name).where(credentials.c.id == row.source_id)
        sources = []
        if draft.source_name is not None:
            sources = credential_chain(connection, self._keys, find_credential(connection, draft.source_name).id)
        before = CredentialDraft(
            type=row.type,
            region=row.region,
            role_arn=former.role_arn,
            external_id=former.external_id,
            source_name=connection.scalar(source),
            access_key_id=former.access_key_id,
        )
        after = replace(draft, secret_access_key=None)
        lines = [line for line in differences(before, after) if not line.startswith(("external_id", "access_key_id"))]
        if before.external_id != after.external_id:
            lines.append("another External ID")
            if after.external_id is None:
                lines[-1] = "no External ID any more"
            elif before.external_id is None:
                lines[-1] = "an External ID, which it did not have"
        if (before.access_key_id, former.secret_access_key) != (
            after.access_key_id,
            None if draft.secret_access_key is None else draft.secret_access_key.reveal_text(),
        ):
            lines.append(f"another access key, which ends in {(after.access_key_id or '-')[-4:]}")
        if account != row.account:
            lines.append(f"account: {row.account or '-'} -> {account or '-'}")
        return Proposal(
            arguments=UpdateCredential.of(row.id, draft, account),
            changes=(
                f"update the credential {row.name}",
                *lines,
                *(reach_of(sources) if before.source_name != after.source_name else ()),
            ),
            seen={
                f"the credential {row.name}": Seen(id=row.id, version=row.version),
                **seen_credentials(sources),
            },
        )

    def _seal(self, values: Mapping[str, Any], sealed: _Sealed) -> bytes:
        return self._keys.encrypt_json(self._keys.data_key(CREDENTIALS_KEY), credential_context(values), sealed)

    def _get(self, connection: sa.Connection, which: sa.ColumnElement[bool], shown: str) -> Credential:
        row = connection.execute(select_credentials().where(which)).first()
        if row is None:
            raise NotFoundError(f"there is no credential {shown}", hint="phasesync credentials list")
        credential = to_credential(row, self._keys, _users(connection, [row.id])[row.id])
        read_registry(connection, self._keys).check(credentials, row)
        return credential


def _configuration(values: Mapping[str, Any], sealed: _Sealed) -> Mapping[str, Any]:
    return {name: values[name] for name in ("id", "name", "type", "region", "account", "source_id")} | vars(sealed)


def find_credential(connection: sa.Connection, name: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return a credential's row. NotFoundError names what exists instead."""
    statement = sa.select(credentials).where(credentials.c.name_key == name.lower())
    row = connection.execute(row_lock(statement) if lock else statement).first()
    if row is None:
        names = Names.of(connection, credentials)
        raise lookup_error(connection, credentials, name, no_such("credential", name, names, "credentials"))
    check_name_key(credentials, row)
    return row


@cache
def select_credentials() -> sa.Select[Any]:
    """Return the select that `to_credential` reads."""
    sources = credentials.alias("sources")
    return sa.select(credentials, sources.c.name.label("source_name")).outerjoin_from(
        credentials, sources, sources.c.id == credentials.c.source_id
    )


def credential_chain(connection: sa.Connection, keys: KeyRing, credential_id: str) -> list[Credential]:
    """
    Return a credential, its source, and so on: all that decides where it leads.

    Raises:
        CiphertextError, StaleDatabaseError: one of them was altered, or is an older one.
    """
    registry, chain = read_registry(connection, keys), dict[str, Credential]()
    following: str | None = credential_id
    while following is not None and following not in chain:
        row = connection.execute(select_credentials().where(credentials.c.id == following)).one()
        chain[following] = to_credential(row, keys)
        registry.check(credentials, row)
        following = row.source_id
    return list(chain.values())


def to_credential(row: sa.Row[Any], keys: KeyRing, users: Names = NO_NAMES) -> Credential:
    """Decrypt a row of `select_credentials`. CiphertextError also if a plain column was altered."""
    check_name_key(credentials, row)
    sealed = _open(row, keys)
    return Credential(
        id=row.id,
        name=row.name,
        type=to_member(CredentialType, row.type, "type in table credentials"),
        region=row.region,
        version=row.version,
        status=to_member(CredentialStatus, row.status, "status in table credentials"),
        account=row.account,
        role_arn=sealed.role_arn,
        external_id=sealed.external_id,
        source_id=row.source_id,
        source_name=row.source_name,
        access_key_id=sealed.access_key_id,
        secret_access_key=None if sealed.secret_access_key is None else SecretValue(sealed.secret_access_key),
        created_at=row.created_at,
        verified_at=row.verified_at,
        used_by=users.first,
        used_by_count=users.count,
    )


def _open(row: sa.Row[Any], keys: KeyRing) -> _Sealed:
    try:
        return keys.decrypt_json(_Sealed, credential_context(row._asdict()), row.sealed)
    except CiphertextError as error:
        raise CiphertextError(f"the credential {row.name}: {error.message}", hint=error.hint) from None


def credential_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the context of the ciphertext: it binds the secrets to type, Region, source and account."""
    bound = ("name", "type", "region", "source_id", "account")
    return (
        "credentials",
        values["id"],
        "sealed",
        str(values["version"]),
        *("" if values[name] is None else str(values[name]) for name in bound),
    )


def _sealed_of(draft: CredentialDraft) -> _Sealed:
    secret = draft.secret_access_key
    return _Sealed(
        role_arn=draft.role_arn,
        external_id=draft.external_id,
        access_key_id=draft.access_key_id,
        secret_access_key=None if secret is None else secret.reveal_text(),
    )


def _users(connection: sa.Connection, credential_ids: Sequence[str]) -> dict[str, Names]:
    """Return credential id -> names of the first syncs and dynamic secrets that use it, and their number."""
    counts = dict.fromkeys(credential_ids, 0)
    for table in (syncs, dynamic_secrets):
        counted = sa.select(table.c.credential_id, sa.func.count()).where(table.c.credential_id.in_(credential_ids))
        for credential_id, count in connection.execute(counted.group_by(table.c.credential_id)):
            counts[credential_id] += count
    names: dict[str, list[str]] = {credential_id: [] for credential_id in credential_ids}
    # One statement for all that have few users, one for each of the others.
    few = [credential_id for credential_id, count in counts.items() if 0 < count <= USERS_SHOWN]
    many = [[credential_id] for credential_id, count in counts.items() if count > USERS_SHOWN]
    for ids in [few, *many] if few else many:
        using = sa.union_all(*(_first_users(table, ids, len(ids)) for table in (syncs, dynamic_secrets))).subquery()
        for user in connection.execute(sa.select(using).order_by(using.c.name_key)):
            names[user.credential_id].append(user.name)
    return {
        credential_id: Names(first=tuple(names[credential_id][:USERS_SHOWN]), count=counts[credential_id])
        for credential_id in credential_ids
    }


def _first_users(table: sa.Table, ids: list[str], count: int) -> sa.Select[Any]:
    first = (
        sa.select(table.c.credential_id, table.c.name, table.c.name_key)
        .where(table.c.credential_id.in_(ids))
        .order_by(table.c.name_key)
        .limit(USERS_SHOWN * count)
        .subquery()
    )
    return sa.select(first)


def _refuse_keeping_backups(connection: sa.Connection, keys: KeyRing, row: sa.Row[Any]) -> None:
    """Refuse to remove a credential that backups are written with."""
    # Imported here, so that other commands do not pay for it.
    from phasesync.store.backup_schedules import load_schedules

    for schedule in load_schedules(connection, keys).usable:
        if schedule.credential_id == row.id:
            raise IllegalTransitionError(
                f"backups to {schedule.place} are made with the credential {row.name}",
                hint=f"phasesync db backup --every {duration_text(schedule.every)} --to {schedule.place} "
                f"--credential OTHER, or phasesync db backup --every off --to {schedule.place}",
            )


def _refuse_publishing(connection: sa.Connection, keys: KeyRing, name: str) -> None:
    """Refuse to do away with the name of a credential that stands in the channel of a notification."""
    from phasesync.core.channels import Topic
    from phasesync.store.notifications import load_notifications

    for notification in load_notifications(connection, keys).usable.values():
        channel = notification.channel
        if isinstance(channel, Topic) and (channel.credential or "").lower() == name.lower():
            raise IllegalTransitionError(
                f"the credential {name} is in the channel of the notification {notification.name}",
                hint=f"phasesync notifications update {notification.name} --to sns:ARN, or "
                f"phasesync notifications remove {notification.name}",
            )


def _refuse_circle(connection: sa.Connection, credential_id: str, source_id: str | None) -> None:
    chain = source_id
    while chain is not None:
        if chain == credential_id:
            raise InvalidInputError("a credential cannot be its own source, not even through others")
        chain = connection.scalar(sa.select(credentials.c.source_id).where(credentials.c.id == chain))
