"""A dynamic secret, which is the definition of short-lived credentials, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phasesync.core.lease import LeaseSpec


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """
    The configuration of a dynamic secret. Fields that its issuer does not use are None or empty.

    Attributes:
        user_template: template of the name of the IAM user, or of the session; see `iam_users.py`.
        iam_path: IAM path of its users, with a slash at both ends. Kept as it was when the secret was added: renaming
            the app or the environment moves no user and changes no policy.
        policy_arns: managed policies to attach; of a session, its managed session policies.
        groups: names of IAM groups.
        permission_boundary: ARN of the policy that bounds the users.
        inline_policy: canonical JSON of a policy that every user gets inline.
        tags: further tags of the users.
        role_arn: role to issue sessions of.
        session_policy: canonical JSON of a policy that restricts the sessions.
        default_ttl: time to live of a lease that is requested without one.
        max_ttl: longest time to live of a lease, however often it is renewed.
        max_leases: how many may be live at once.
        keys: output of the issuer (`username`, `access_key_id`, ...) -> key under which it is issued.
    """

    user_template: str
    iam_path: str | None = None
    policy_arns: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    permission_boundary: str | None = None
    inline_policy: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    role_arn: str | None = None
    session_policy: str | None = None
    default_ttl: timedelta
    max_ttl: timedelta
    max_leases: int = 50
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DynamicSecret:
    """
    A definition of short-lived credentials, in one folder of an environment.

    Attributes:
        issuer: kind of the issuer.
        version: grows with every change.
        live: how many of its leases have not ended.
        error: why `config` cannot be trusted, None if it can; set in lists only.
    """

    id: str
    name: str
    environment_id: str
    app: str
    environment: str
    path: str
    credential_id: str
    credential: str
    issuer: str
    version: int
    config: DynamicConfig
    live: int
    created_at: datetime
    error: str | None = None

    @property
    def environment_label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.environment}"


def lease_spec_of(config: DynamicConfig, *, name: str, ttl: timedelta, marks: Mapping[str, str]) -> LeaseSpec:
    """
    Return the spec of a lease, from the definition as it is now.

    Args:
        config: of the dynamic secret.
        name: of the user or session.
        ttl: the requested time to live.
        marks: our owner tags.
    """
    return LeaseSpec(
        name=name,
        ttl=ttl,
        iam_path=config.iam_path,
        policy_arns=config.policy_arns,
        groups=config.groups,
        permission_boundary=config.permission_boundary,
        inline_policy=config.inline_policy,
        tags={**config.tags, **marks},
        role_arn=config.role_arn,
        session_policy=config.session_policy,
    )


@dataclass(frozen=True, kw_only=True)
class DynamicDraft:
    """What an operator says of a new dynamic secret."""

    name: str
    app: str
    environment: str
    path: str
    credential: str
    issuer: str
    config: DynamicConfig
