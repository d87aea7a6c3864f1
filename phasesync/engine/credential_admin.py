"""What an operator does with a credential: add, update, test. Generates External IDs; never shows a secret again."""

import secrets
from dataclasses import replace

from phasesync.core.arns import check_partition, check_role_arn
from phasesync.core.credential import (
    Credential,
    CredentialDraft,
    CredentialReport,
    CredentialStatus,
    CredentialType,
    check_access_key_id,
    check_account,
    check_external_id,
    check_secret_access_key,
)
from phasesync.core.regions import check_region, check_same_partition, known_partition_of
from phasesync.engine.context import Context
from phasesync.errors import AccountMismatchError, CredentialRejectedError, InvalidInputError

EXTERNAL_ID_BYTES = 32
"""Random bytes, written as 64 hex digits: within STS's 2 to 1,224 characters (AssumeRole, ExternalId)."""


class CredentialAdmin:
    """The operator's commands on credentials."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def add(self, name: str, draft: CredentialDraft, *, generate_external_id: bool) -> Credential:
        """
        Add a credential. An assume-role credential without a role ARN is incomplete: the normal first step, since the
        role's trust policy needs the External ID.

        Raises:
            InvalidInputError: a field has the wrong form, or does not belong to the type.
            AlreadyExistsError, NotFoundError: the name; the source.
        """
        if generate_external_id and draft.external_id is None and draft.type is CredentialType.ASSUME_ROLE:
            draft = replace(draft, external_id=secrets.token_hex(EXTERNAL_ID_BYTES))
        draft = _checked(draft)
        self._check_source(draft)
        return self._context.store.credentials.add(name, draft)

    def update(self, name: str, draft: CredentialDraft, *, account: str | None) -> Credential:
        """
        Replace a credential. Syncs that use it are due at once.

        Args:
            name: of the credential.
            draft: the whole new credential.
            account: the account to pin; None keeps the pinned one.

        Raises:
            InvalidInputError: AWS would reject it; or the new Region is in another partition than what uses it.
            AccountMismatchError: the new role is in another account than the pinned one.
        """
        draft = _checked(draft)
        self._check_source(draft)
        self._check_users(self._context.store.credentials.get(name), draft.region)
        if account is not None:
            check_account(account)
        pinned = account or self._context.store.credentials.get(name).account
        if draft.role_arn is not None and pinned is not None:
            leads_to = check_role_arn(draft.role_arn)
            if leads_to != pinned:
                raise AccountMismatchError(
                    f"the role is in account {leads_to}, pinned is {pinned}",
                    hint=f"if the move is meant: phasesync credentials update {name} --role-arn … --account {leads_to}",
                )
        return self._context.store.credentials.update(name, draft, account=pinned)

    def test(self, name: str) -> CredentialReport:
        """
        Ask AWS for the identity of a credential, with the identity of this shell, and store the result.

        Raises:
            CredentialRejectedError: it was rejected; stored. DestinationUnavailableError: nothing is known.
            AccountMismatchError: it leads to another account than the pinned one.
        """
        credential = self._context.store.credentials.get(name)
        try:
            report = self._context.tester.test(credential)
        except CredentialRejectedError:
            if credential.status is not CredentialStatus.INCOMPLETE:
                self._context.store.credentials.mark(credential.id, CredentialStatus.REJECTED)
            raise
        self._context.store.credentials.mark(credential.id, CredentialStatus.VERIFIED, account=report.identity.account)
        return report

    def _check_source(self, draft: CredentialDraft) -> None:
        """Refuse a source in another partition: it cannot reach the role. InvalidInputError."""
        if draft.source_name is not None:
            source = self._context.store.credentials.get(draft.source_name)
            check_same_partition(draft.region, source.region, of=f"the source {source.name}")

    def _check_users(self, credential: Credential, region: str) -> None:
        """Refuse a Region in another partition than what uses a credential: that would fail from then on."""
        old, new = known_partition_of(credential.region), known_partition_of(region)
        if old == new or old is None or new is None:
            return
        sourced = [
            other.name for other in self._context.store.credentials.list_all() if other.source_id == credential.id
        ]
        if users := sorted({*credential.used_by, *sourced}):
            more = credential.used_by_count - len(credential.used_by)
            raise InvalidInputError(
                f"the Region {region} is in the partition {new}, and what uses the credential {credential.name} is "
                f"in {old}: {', '.join(users)}{f' and {more} more' if more else ''}",
                hint=f"add another credential for {new}: phasesync credentials add NAME --type {credential.type} "
                f"--region {region}",
            )


def _checked(draft: CredentialDraft) -> CredentialDraft:
    """Return a draft without white space around pasted values. InvalidInputError for what AWS would reject."""
    check_region(draft.region)
    if draft.role_arn is not None:
        check_role_arn(draft.role_arn)
        check_partition(draft.role_arn, draft.region)
    role_only = (draft.role_arn, draft.external_id, draft.source_name)
    if draft.type is not CredentialType.ASSUME_ROLE and any(value is not None for value in role_only):
        raise InvalidInputError(f"a role, an External ID and a source belong to assume-role, not to {draft.type}")
    if draft.external_id is not None:
        check_external_id(draft.external_id)
    key_id, secret = draft.access_key_id, draft.secret_access_key
    if draft.type is not CredentialType.ACCESS_KEY and (key_id is not None or secret is not None):
        raise InvalidInputError(f"access keys belong to access-key, not to {draft.type}")
    if draft.type is CredentialType.ACCESS_KEY:
        if key_id is None or secret is None:
            raise InvalidInputError(
                "an access-key credential needs an access key id and a secret access key",
                hint="add --access-key-id ID; the secret access key is asked for, or read from stdin",
            )
        key_id, secret = check_access_key_id(key_id), check_secret_access_key(secret)
    return replace(draft, access_key_id=key_id, secret_access_key=secret)
