"""
The issuer of sessions of a role. They expire by themselves.

A session cannot be revoked, and AWS has no list of sessions: only its expiry is known.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.errors import is_about_other_policy
from phasesync.adapters.aws.roles import assumed_role
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.issuers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, USERNAME, IssuerSpec
from phasesync.adapters.issuers.config_checks import check_policy_document, check_ttls, require_no
from phasesync.core.arns import check_policy_arn, check_role_arn
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease import LeaseSpec
from phasesync.core.lease_users import MarkedUser
from phasesync.core.model import SecretValue
from phasesync.core.planned_call import PlannedCall
from phasesync.errors import CredentialRejectedError, IllegalTransitionError, InvalidInputError
from phasesync.ports.issuer import Checkpoint, IssuedCredentials, IssuerTraits, LeaseIssuer, PartialIssue, RevokeOutcome

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef

KIND: Final = "aws-assume-role"
SHORTEST_TTL: Final = timedelta(minutes=15)
LONGEST_TTL: Final = timedelta(hours=12)
LONGEST_CHAINED_TTL: Final = timedelta(hours=1)
"""TTLs of sessions; one hour if a role assumes a role (STS, AssumeRole, DurationSeconds)."""
MAX_POLICIES: Final = 10
MAX_POLICY_CHARACTERS: Final = 2_048
"""Managed session policies, and characters of a session policy (STS, AssumeRole, PolicyArns and Policy)."""


class AwsAssumeRole:
    """Issues sessions of a role (port `LeaseIssuer`)."""

    def __init__(self, clients: AwsClients, credential: Credential, *, tenant: str) -> None:
        """
        Args:
            clients: shared clients.
            credential: who assumes the role.
            tenant: for whom.
        """
        self._clients = clients
        self._credential = credential
        self._client = AwsClient(clients, credential, "sts", credential.region, tenant=tenant)

    @property
    def calls(self) -> int:
        """How many calls of STS were made through this object."""
        return self._client.calls

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._client.account_id()

    def account_now(self) -> str:
        """Ask AWS which account the credential leads to at this moment. CredentialRejectedError."""
        return self._clients.fetch_identity(self._credential).account

    def issue(self, spec: LeaseSpec, *, checkpoint: Checkpoint, partial: PartialIssue) -> IssuedCredentials:
        """Open a session. If the response is lost, no one has its keys, and it expires by itself. DestinationError."""
        role_arn = spec.role_arn or ""
        request: AssumeRoleRequestTypeDef = {
            "RoleArn": role_arn,
            "RoleSessionName": spec.name,
            "DurationSeconds": int(spec.ttl.total_seconds()),
        }
        if spec.session_policy is not None:
            request["Policy"] = spec.session_policy
        if spec.policy_arns:
            request["PolicyArns"] = [{"arn": arn} for arn in spec.policy_arns]
        checkpoint()
        try:
            response = self._client.call("AssumeRole", **request)
        except CredentialRejectedError as error:
            if error.code not in ("AccessDenied", "AccessDeniedException"):
                raise
            hint = f"phasesync credentials test {self._credential.name} says who it is"
            if is_about_other_policy(error.hint):
                hint = error.hint or hint
            raise CredentialRejectedError(
                f"the credential {self._credential.name} may not assume {role_arn}: the role does not exist, its trust "
                f"policy does not name the credential's identity, or that identity lacks the right ({error.message})",
                hint=hint,
                code=error.code,
                request_id=error.request_id,
            ) from None
        session = assumed_role(response)
        return IssuedCredentials(
            principal=session.identity.arn,
            access_key_id=session.access_key_id,
            ends_at=session.expires_at,
            outputs={
                USERNAME: SecretValue(spec.name),
                ACCESS_KEY_ID: SecretValue(session.access_key_id),
                SECRET_ACCESS_KEY: SecretValue(session.secret_access_key),
                SESSION_TOKEN: SecretValue(session.session_token),
            },
        )

    def calls_to_issue(self, spec: LeaseSpec) -> list[PlannedCall]:
        """Return the call that `issue` would make; makes none."""
        details: dict[str, object] = {"session": spec.name, "ttl_s": int(spec.ttl.total_seconds())}
        if spec.policy_arns:
            details["policy_arns"] = list(spec.policy_arns)
        if spec.session_policy is not None:
            details["session_policy"] = True
        return [PlannedCall(action="sts:AssumeRole", target=spec.role_arn or "", details=details)]

    def calls_to_revoke(self, spec: LeaseSpec, *, access_key_id: str | None) -> list[PlannedCall]:
        """Return nothing: a session expires by itself."""
        return []

    def calls_to_renew(self, spec: LeaseSpec, end: datetime, *, number: int) -> list[PlannedCall]:
        """Return nothing: AWS cannot prolong a session."""
        return []

    def is_known(self, outputs: Mapping[str, SecretValue]) -> bool:
        """Return True: AWS knows a session from its beginning until it expires."""
        return True

    def has_key(self, spec: LeaseSpec, access_key_id: str) -> bool:
        """Return True: the key of a session cannot be deleted."""
        return True

    def tags_of(self, spec: LeaseSpec) -> None:
        """Return None: a session has no tags that can be read."""
        return

    def find(self, spec: LeaseSpec, *, access_key_id: str | None, known: Callable[[str], bool]) -> None:
        """Return None: AWS has no list of sessions."""
        return

    def renew(self, spec: LeaseSpec, end: datetime, *, number: int, checkpoint: Checkpoint) -> int:
        """Refuse: AWS cannot prolong a session. IllegalTransitionError."""
        raise IllegalTransitionError(f"the session {spec.name} of a role cannot be prolonged")

    def revoke(
        self,
        spec: LeaseSpec,
        *,
        access_key_id: str | None,
        proven: bool,
        checkpoint: Checkpoint,
        ending: Checkpoint | None = None,
    ) -> RevokeOutcome:
        """Do nothing: a session expires by itself."""
        return RevokeOutcome.MISSING

    def marked(self, paths: Sequence[str], known: Callable[[str], bool]) -> Iterator[MarkedUser]:
        """Yield nothing: AWS has no list of sessions."""
        return iter(())


def check(config: DynamicConfig, credential: CredentialType) -> None:
    """Raise InvalidInputError if STS would refuse a configuration."""
    require_no(
        KIND,
        iam_path=config.iam_path,
        group=config.groups,
        permission_boundary=config.permission_boundary,
        inline_policy=config.inline_policy,
        tag=config.tags,
    )
    if config.role_arn is None:
        raise InvalidInputError(f"the issuer {KIND} needs a role to issue sessions of", hint="--role-arn ARN")
    check_role_arn(config.role_arn)
    chained = credential is CredentialType.ASSUME_ROLE
    check_ttls(
        config,
        shortest=SHORTEST_TTL,
        longest=LONGEST_CHAINED_TTL if chained else LONGEST_TTL,
        why="the credential is a role itself, and a role that a role assumes is assumed for an hour at most"
        if chained
        else "no session is longer (STS, AssumeRole)",
    )
    for arn in config.policy_arns:
        check_policy_arn(arn)
    if len(config.policy_arns) > MAX_POLICIES:
        raise InvalidInputError(f"a session takes {MAX_POLICIES} managed policies, not {len(config.policy_arns)}")
    if config.session_policy is not None:
        check_policy_document(config.session_policy, MAX_POLICY_CHARACTERS, name="the session policy")


def _open(clients: AwsClients, credential: Credential, *, tenant: str) -> LeaseIssuer:
    return AwsAssumeRole(clients, credential, tenant=tenant)


SPEC: Final = IssuerSpec(
    kind=KIND,
    traits=IssuerTraits(
        outputs=(USERNAME, ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN),
        revocable=False,
        has_path=False,
        shortest_ttl=SHORTEST_TTL,
    ),
    check=check,
    open=_open,
)
