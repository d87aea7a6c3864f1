"""
Tests a credential: who it is, and what the trust policy of its role lacks. Implements the port `CredentialTester`.

AWS reports a refused AssumeRole without a reason. Two attempts, with and without the External ID, show the reason:

    with      without   meaning
    allowed   refused   as it should be
    allowed   allowed   the trust policy requires no External ID: anyone who gets us to use the role's ARN is let in
    refused   allowed   the trust policy lets us in, but not with this External ID
    refused   refused   there is no such role, it does not trust us, it requires another External ID, or we lack
                        sts:AssumeRole on it

Must not change anything at AWS, and must not repeat AWS's messages.
"""

from phasesync.adapters.aws.errors import is_about_other_policy
from phasesync.adapters.aws.roles import ASSUME_ROLE, GET_CALLER_IDENTITY, AssumedRole, incomplete
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialReport, CredentialType, Principal
from phasesync.core.iam.role_setup import (
    path_note,
    principal_of,
    role_name,
    role_of_session,
    trust_policy,
    update_trust_command,
)
from phasesync.core.remote import CallerIdentity
from phasesync.errors import AccountMismatchError, CredentialRejectedError, DestinationError


class AwsCredentialTester:
    """Asks STS. Every test makes new calls: nothing that is cached for syncs is used for the credential itself."""

    def __init__(self, clients: AwsClients) -> None:
        """
        Args:
            clients: shared clients.
        """
        self._clients = clients

    def test(self, credential: Credential) -> CredentialReport:
        """
        Ask AWS who the credential is.

        Raises:
            CredentialRejectedError: AWS refuses it; for a role it says what the trust policy lacks, and the hint is the
                command that corrects it.
            AccountMismatchError: it does not lead to the pinned account.
            DestinationUnavailableError, ThrottledError: AWS could not be asked.
        """
        try:
            report = self._report(credential)
        except CredentialRejectedError as error:
            if error.hint == CredentialRejectedError.default_hint:  # That hint names this very test.
                error.hint = _hint_for_source(credential)
            raise
        if credential.account is not None and credential.account != report.identity.account:
            raise AccountMismatchError(
                f"the credential {credential.name} leads to account {report.identity.account}, pinned is "
                f"{credential.account}",
                hint=f"correct the credential: phasesync credentials update {credential.name}",
            )
        return report

    def _report(self, credential: Credential) -> CredentialReport:
        self._clients.forget(credential)
        if credential.type is CredentialType.ASSUME_ROLE:
            return self._test_role(credential)
        identity = self._clients.fetch_identity(credential)
        return CredentialReport(
            identity=identity, base=None, findings=(), open_without_external_id=None, tried=(GET_CALLER_IDENTITY,)
        )

    def base_identity(self, credential: Credential) -> CallerIdentity:
        """Return who would assume the credential's role: its source, or the default chain. CredentialRejectedError."""
        return self._clients.fetch_base_identity(credential)

    def principal(self, credential: Credential) -> Principal:
        """
        Return who the trust policy of the credential's role should name.

        Raises:
            CredentialRejectedError: AWS refuses the identity that would assume it.
        """
        return self._principal(credential, self.base_identity(credential))

    def _principal(self, credential: Credential, base: CallerIdentity) -> Principal:
        role = role_of_session(base.arn)
        if role is not None:
            try:
                return Principal(arn=self._clients.fetch_base_role_arn(credential, role), role=None)
            except DestinationError:  # Most identities may not call iam:GetRole; then the path is not known.
                return Principal(arn=principal_of(base.arn), role=role)
        return Principal(arn=principal_of(base.arn), role=None)

    def _test_role(self, credential: Credential) -> CredentialReport:
        role_arn = credential.role_arn
        if role_arn is None:
            raise incomplete(credential)
        base = self.base_identity(credential)
        session, refusal = self._try_to_assume(credential, with_external_id=True)
        if credential.external_id is None:
            if session is None:
                raise self._rejected(_NO_ID_REFUSED, credential, role_arn, base, refusal)
            return CredentialReport(
                identity=session.identity, base=base, findings=(), open_without_external_id=None, tried=_CALLS_FOR_ROLE
            )
        bare_session, _ = self._try_to_assume(credential, with_external_id=False)
        if session is None:
            reason = _BOTH_REFUSED if bare_session is None else _ID_REFUSED
            raise self._rejected(reason, credential, role_arn, base, refusal)
        findings: tuple[str, ...] = ()
        if bare_session is not None:
            findings = (
                f"the role {role_name(role_arn)} can also be assumed without the External ID: its trust policy has no "
                f"condition on sts:ExternalId. Correct it with: {self._correction(credential, role_arn, base)}",
            )
        return CredentialReport(
            identity=session.identity,
            base=base,
            findings=findings,
            open_without_external_id=bare_session is not None,
            tried=_CALLS_FOR_ROLE,
        )

    def _rejected(
        self,
        reason: str,
        credential: Credential,
        role_arn: str,
        base: CallerIdentity,
        refusal: CredentialRejectedError | None,
    ) -> CredentialRejectedError:
        """Return the error that says what the trust policy lacks, with the command that corrects it as hint."""
        details = "" if refusal is None else f" ({refusal.message})"
        if refusal is not None and is_about_other_policy(refusal.hint):  # Then another trust policy does not help.
            hint = refusal.hint
        else:
            hint = self._correction(credential, role_arn, base)
        return CredentialRejectedError(
            f"{base.arn} cannot assume {role_arn} as the credential {credential.name} wants it: {reason}{details}",
            hint=hint,
            code=None if refusal is None else refusal.code,
            request_id=None if refusal is None else refusal.request_id,
        )

    def _correction(self, credential: Credential, role_arn: str, base: CallerIdentity) -> str:
        """Return the command that gives the role the trust policy that it should have."""
        principal = self._principal(credential, base)
        trust = trust_policy(principal_arn=principal.arn, external_id=credential.external_id)
        command = update_trust_command(role_arn=role_arn, trust=trust)
        text = f"{command} (this replaces the role's whole trust policy)"
        return text if principal.role is None else f"{text}; {path_note(principal.role)}"

    def _try_to_assume(
        self, credential: Credential, *, with_external_id: bool
    ) -> tuple[AssumedRole | None, CredentialRejectedError | None]:
        """Assume the role. Return the error if AWS denies it; any other error is raised."""
        try:
            return self._clients.assume(credential, with_external_id=with_external_id), None
        except CredentialRejectedError as error:
            if error.code not in _DENIED:
                raise
            return None, error


_CALLS_FOR_ROLE = (GET_CALLER_IDENTITY, ASSUME_ROLE)
"""The first as the identity that assumes the role; the response to the second says who the session is."""

_DENIED = ("AccessDenied", "AccessDeniedException")

_ID_REFUSED = (
    "the role lets us in without an External ID but not with the one of this credential: its trust policy does not "
    "have our External ID"
)
_BOTH_REFUSED = (
    "neither with the External ID nor without: the role does not exist, its trust policy does not name this identity "
    "or waits for another External ID, or the identity itself lacks sts:AssumeRole on the role"
)
_NO_ID_REFUSED = (
    "the role does not exist, its trust policy does not name this identity, the identity itself lacks sts:AssumeRole "
    "on the role, or the trust policy asks for an External ID, which this credential does not have"
)


def _hint_for_source(credential: Credential) -> str:
    """Return how to correct keys that AWS does not know or refuses."""
    if credential.type is CredentialType.ACCESS_KEY:
        return f"enter the key anew: phasesync credentials update {credential.name} --access-key-id ID"
    if credential.source_name is not None:
        return f"phasesync credentials test {credential.source_name}"
    return (
        "the identity of this shell is asked: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
        "the host a role; aws sts get-caller-identity shows it"
    )
