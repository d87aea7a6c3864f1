"""A dynamic secret: what an operator sets on a recipe for short-lived credentials, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phasesync.core.lease import LeaseSpec


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """
    What an operator set on a dynamic secret. What its issuer does not have stays None or empty.

    Attributes:
        user_template: name of the IAM user, or of the session; see `user_names.py`.
        iam_path: IAM path of its users, with a slash at both ends. Kept as it was when the secret was added: renaming
            the app or the environment moves no user and changes no policy.
        policy_arns: managed policies to attach; of a session, its managed session policies.
        groups: names of IAM groups.
        permission_boundary: ARN of the policy that bounds the users.
        inline_policy: canonical JSON of a policy that every user gets inline.
        tags: further tags of the users.
        role_arn: role whose sessions are handed out.
        session_policy: canonical JSON that narrows the sessions down.
        default_ttl: life of a lease that is issued without one.
        max_ttl: no lease lives longer, however often it is renewed.
        max_leases: how many may be live at once.
        keys: output of the issuer (`username`, `access_key_id`, ...) -> key under which it is handed out.
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
    A recipe for short-lived credentials, in one folder of an environment.

    Attributes:
        issuer: kind of who hands the credentials out.
        version: grows with every change.
        live: how many of its leases have not ended.
        error: why nothing of `config` can be believed, None where it can; only in lists.
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
    Return what a lease is made of: the recipe as it is now.

    Args:
        config: what is set.
        name: of the user or session.
        ttl: how long it was asked for.
        marks: our tags.
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
