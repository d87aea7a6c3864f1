"""
A whole phasesync on the AWS emulator: the real store, engine and adapter, one sync `web` of shop/production.

    world.edit(URL="postgres://new"); world.run()     as in `world.py`
    world.enforce(policy_of)                          AWS allows what the policy says at each request, and nothing else
    world.aws.deny("secretsmanager:PutSecretValue")   AWS allows all but this
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.clock import SystemClock
from phasesync.adapters.destinations import RegisteredDestinations
from phasesync.emulator import Answer, AwsEmulator, EmulatorClock, Operation
from phasesync.ports.destination import Destination
from phasesync.store import Store
from tests.fakes.remote import REGION
from tests.support.iam import allows
from tests.support.stores import open_test_store
from tests.support.world import World

ACCOUNT = "123456789012"
"""The account of moto for keys that it does not know."""
OTHER_REGION = "us-east-1"
KIND = "aws-secrets-manager"

Policy = Callable[[], dict[str, Any]]


class AwsWorld(World):
    """One sync that writes to the emulator; `config` as in `World`."""

    def __init__(self, store: Store, aws: AwsEmulator, **config: Any) -> None:
        super().__init__(store, **config)
        self.aws = aws
        self.outside = aws.outside.at(account=ACCOUNT, region=REGION)
        self.clients = AwsClients(
            source_of=store.credentials.get_by_id,
            clock=SystemClock(),
            instance_id=store.instance_id,
            endpoint_url=aws.url,
        )
        self.destinations = RegisteredDestinations(self.clients, instance_id=store.instance_id)  # type: ignore[assignment]
        self.context = replace(self.context, make_destinations=lambda: self.destinations)

    def open(self) -> Destination:
        """The destination of the sync."""
        return self.destinations.open(KIND, self.store.credentials.get("aws"), REGION)

    def make_key(self, region: str = REGION) -> str:
        """Make a KMS key; return its ARN."""
        return self.aws.outside.at(account=ACCOUNT, region=region).create_key()

    def enforce(self, policy: Policy) -> None:
        """From now on every request to Secrets Manager and KMS needs a policy's leave."""
        self.aws.on_request = lambda when, operation: self._judge(policy(), operation) if when == "before" else None

    def key_uses_allowed_by(self, policy: dict[str, Any]) -> list[str]:
        """Return what was asked of customer-managed keys so far and the policy does not allow."""
        refused = []
        for use in self.aws.keys.uses:
            if use.key_arn is None:
                continue
            context = {"kms:ViaService": f"secretsmanager.{use.key_arn.split(':')[3]}.amazonaws.com"}
            # The check of a key that is being set is about the secret as well (User Guide, encryption context).
            context["kms:EncryptionContext:SecretARN"] = use.secret_arn or self.arn
            if not allows(policy, use.action, use.key_arn, context):
                refused.append(f"{use.action} {use.key_arn}")
        return refused

    @property
    def arn(self) -> str:
        """An ARN that the sync's secret has, or might get."""
        secret = self.aws.state.find(ACCOUNT, REGION, self.name)
        return str(secret.arn) if secret else f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{self.name}-Ab12Cd"

    def _judge(self, policy: dict[str, Any], operation: Operation) -> Answer | None:
        if operation.service not in ("secretsmanager", "kms"):
            return None
        for action, resource, context in _asks(self.aws, operation):
            if not allows(policy, action, resource, context):
                text = f"User: somebody is not authorized to perform: {action} on resource: {resource}"
                return Answer(
                    "AccessDeniedException", f"{text} because no identity-based policy allows the {action} action"
                )
        return None


def _asks(aws: AwsEmulator, operation: Operation) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield (action, resource, context) of all that a request needs (API reference, Required permissions)."""
    arguments = operation.arguments
    if operation.service == "kms":
        yield f"kms:{operation.name}", str(arguments.get("KeyId", "*")), {}
        return
    context = {"aws:RequestedRegion": operation.region}
    context |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in arguments.get("Tags") or []}
    resource, tags = "*", {}
    if operation.secret_id is not None:
        secret = aws.state.find(operation.account, operation.region, operation.secret_id)
        # For a name that does not exist yet, AWS matches patterns of six characters as well (User Guide, permissions).
        made_up = f"arn:aws:secretsmanager:{operation.region}:{operation.account}:secret:{operation.secret_id}-Ab12Cd"
        resource = str(secret.arn) if secret else made_up
        tags = {tag["Key"]: tag["Value"] for tag in (secret.tags or [])} if secret else {}
    before = context | {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
    yield f"secretsmanager:{operation.name}", resource, before
    if operation.name == "CreateSecret" and arguments.get("Tags"):
        yield "secretsmanager:TagResource", resource, before
    if operation.name == "ValidateResourcePolicy":
        yield "secretsmanager:PutResourcePolicy", resource, before
    if operation.name == "UntagResource":
        # Who would lose the right by it may not do it (API reference, UntagResource).
        left = {key: value for key, value in tags.items() if key not in arguments["TagKeys"]}
        yield (
            "secretsmanager:UntagResource",
            resource,
            context | {f"aws:ResourceTag/{key}": value for key, value in left.items()},
        )


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[AwsEmulator]:
    """One emulator for the tests of this process; its clock stands still unless a test moves it."""
    with AwsEmulator(clock=EmulatorClock(frozen=True), throttling=False) as aws:
        yield aws


@pytest.fixture
def make_world(migrated_database_url: str, running_emulator: AwsEmulator) -> Iterator[Callable[..., AwsWorld]]:
    """Makes the world of a test; its arguments are set on the sync."""
    running_emulator.reset()
    store = open_test_store(migrated_database_url)
    worlds: list[AwsWorld] = []

    def make(**config: Any) -> AwsWorld:
        worlds.append(AwsWorld(store, running_emulator, **config))
        return worlds[-1]

    yield make
    for world in worlds:
        world.clients.close()
    store.close()
