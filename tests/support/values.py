"""Valid values of the core that a test changes in one place."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from phasesync.core.change import Plan, PlanContext
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease import Lease, LeaseSpec, LeaseStatus
from phasesync.core.lease_users import user_owner_tags
from phasesync.core.model import SecretValue
from phasesync.core.payloads import build_json_payload
from phasesync.core.planning.ownership import owner_tags
from phasesync.core.planning.plan import make_plan
from phasesync.core.remote import (
    CURRENT,
    PREVIOUS,
    Action,
    CrossAccountLink,
    CrossAccountStatus,
    Desired,
    Intent,
    JournalEntry,
    Observed,
    Payload,
)
from phasesync.core.sync import SyncConfig
from tests.support.digests import FixedDigests

INSTANCE = "0f" * 16
SYNC = "5a" * 16
NAME = "shop/production"
REGION = "eu-central-1"
ACCOUNT = "111122223333"
ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{NAME}-AbCdEf"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OTHER_ACCOUNT = "222222222222"
OTHER_ARN = f"arn:aws:secretsmanager:{REGION}:{OTHER_ACCOUNT}:secret:{NAME}-GhIjKl"
LINK = CrossAccountLink(arn=OTHER_ARN, status=CrossAccountStatus.IN_SYNC)
VERSION = "11111111-1111-4111-8111-111111111111"
OLDER = "22222222-2222-4222-8222-222222222222"
TOKEN = "33333333-3333-4333-8333-333333333333"
LEASE = "1ea5e" * 3 + "0"
DYNAMIC = "d1" * 16
CREDENTIAL = "c7" * 16
HOUR = timedelta(hours=1)


def payload(values: Mapping[str, str] | None = None) -> Payload:
    """A payload of these values; two keys where none are given."""
    values = {"URL": "postgres://db", "USER": "shop"} if values is None else values
    return build_json_payload(NAME, {key: SecretValue(value) for key, value in values.items()}, FixedDigests())


def config(**changes: object) -> SyncConfig:
    """A configuration that sets nothing but the name."""
    return replace(SyncConfig(remote_name=NAME), **changes)  # type: ignore[arg-type]


def desired(**changes: object) -> Desired:
    """A wanted object with our marks and nothing else."""
    wanted = Desired(
        remote_name=NAME, payload=payload(), description=None, kms_key=None, tags=owner_tags(INSTANCE, SYNC)
    )
    return replace(wanted, **changes)  # type: ignore[arg-type]


def observed(**changes: object) -> Observed:
    """What AWS reports of an object of ours with a current version that we wrote."""
    as_written = Observed(
        arn=ARN,
        name=NAME,
        versions={VERSION: frozenset({CURRENT}), OLDER: frozenset({PREVIOUS})},
        description="",
        kms_key=None,
        tags=owner_tags(INSTANCE, SYNC),
        deleted_at=None,
        rotation_enabled=False,
        owning_service=None,
        primary_region=None,
    )
    return replace(as_written, **changes)  # type: ignore[arg-type]


def entry(**changes: object) -> JournalEntry:
    """The journal of an object with a present payload that was written as generation 1."""
    written = JournalEntry(
        id="j1",
        sync_id=SYNC,
        remote_name=NAME,
        account=ACCOUNT,
        region=REGION,
        arn=ARN,
        version_id=VERSION,
        generation=1,
        fingerprint=payload().fingerprint,
        keys=payload().keys,
    )
    return replace(written, **changes)  # type: ignore[arg-type]


def new_entry() -> JournalEntry:
    """The journal of an object that was never written."""
    return JournalEntry(id=None, sync_id=SYNC, remote_name=NAME, account=ACCOUNT, region=REGION)


def intent(**changes: object) -> Intent:
    """An open intent to put the present payload as generation 2."""
    open_intent = Intent(
        action=Action.PUT,
        generation=2,
        token=TOKEN,
        fingerprint=payload().fingerprint,
        payloads=1,
        made_at=NOW - timedelta(minutes=1),
        keys=payload().keys,
    )
    return replace(open_intent, **changes)  # type: ignore[arg-type]


def plan(wanted: Desired, seen: Observed | None, journal: JournalEntry, **policy: object) -> Plan:
    """Plan for one object."""
    rules = replace(PlanContext(instance_id=INSTANCE, account=ACCOUNT, region=REGION, now=NOW), **policy)  # type: ignore[arg-type]
    return make_plan([wanted], {NAME: seen}, {NAME: journal}, [], rules)


def lease_spec(**changes: object) -> LeaseSpec:
    """What a lease of one managed policy is made of."""
    spec = LeaseSpec(
        name="ci-k3v9",
        ttl=HOUR,
        iam_path="/phasesync/shop/production/",
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        tags=user_owner_tags(INSTANCE, dynamic_id=DYNAMIC, lease_id=LEASE, max_expires_at=NOW + 4 * HOUR),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def lease(**changes: object) -> Lease:
    """A lease that was just asked for, of one hour and four at most."""
    wanted = Lease(
        id=LEASE,
        dynamic_id=DYNAMIC,
        dynamic="ci",
        issuer="aws-iam-user",
        credential_id=CREDENTIAL,
        status=LeaseStatus.REQUESTED,
        spec=lease_spec(),
        requested_at=NOW,
        expires_at=NOW + HOUR,
        max_expires_at=NOW + 4 * HOUR,
    )
    return replace(wanted, **changes)  # type: ignore[arg-type]


def dynamic_config(**changes: object) -> DynamicConfig:
    """A recipe of IAM users with one managed policy."""
    recipe = DynamicConfig(
        user_template="{{name}}-{{random}}",
        iam_path="/phasesync/shop/production/",
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        default_ttl=HOUR,
        max_ttl=4 * HOUR,
        keys={"access_key_id": "CI_ACCESS_KEY_ID", "secret_access_key": "CI_SECRET_ACCESS_KEY"},
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]
