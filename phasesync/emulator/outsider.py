"""
An actor outside phasesync with all rights in the account: what a test changes at AWS out of band.

Its calls follow the same rules (limits, states, keys), but are never throttled, denied, counted or made to fail.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from phasesync.emulator.context import Context, Result
from phasesync.emulator.dispatch import carry_out
from phasesync.emulator.moto_state import CURRENT
from phasesync.emulator.request import Call, Principal
from phasesync.emulator.secret_rotation import begin_rotation, finish_rotation
from phasesync.emulator.secret_writes import PENDING

ACCOUNT: Final = "123456789012"
"""The account of moto for keys that it does not know."""
REGION: Final = "eu-west-1"
_LAMBDA: Final = "arn:aws:lambda:{region}:{account}:function:rotate"

Arguments = dict[str, Any]


class Outsider:
    """Acts on secrets of one account and Region."""

    def __init__(self, context: Context, account: str = ACCOUNT, region: str = REGION) -> None:
        """
        Args:
            context: what its operations work with.
            account: of the secrets.
            region: of the secrets.
        """
        self._context = context
        self._account = account
        self._region = region

    def at(self, *, account: str | None = None, region: str | None = None) -> "Outsider":
        """Return the same actor in another account or Region."""
        return Outsider(self._context, account or self._account, region or self._region)

    def call(self, operation: str, **arguments: Any) -> Result:
        """Carry out any operation of Secrets Manager; AwsError. Writes get a token of their own."""
        if operation in ("CreateSecret", "PutSecretValue", "UpdateSecret"):
            arguments.setdefault("ClientRequestToken", str(uuid4()))
        return carry_out(self._context, self._call(operation, arguments))

    def create(self, name: str, value: str = "theirs", *, tags: Mapping[str, str] | None = None, **more: Any) -> str:
        """Make a secret; return its ARN."""
        if tags:
            more["Tags"] = [{"Key": key, "Value": tag} for key, tag in tags.items()]
        return str(self.call("CreateSecret", Name=name, SecretString=value, **more)["ARN"])

    def put(self, name: str, value: str, **more: Any) -> str:
        """Write a value; return the id of the version."""
        return str(self.call("PutSecretValue", SecretId=name, SecretString=value, **more)["VersionId"])

    def delete(self, name: str, *, recovery_days: int | None = 30) -> None:
        """Delete a secret: scheduled, or for good where `recovery_days` is None."""
        how: Arguments = (
            {"ForceDeleteWithoutRecovery": True} if recovery_days is None else {"RecoveryWindowInDays": recovery_days}
        )
        self.call("DeleteSecret", SecretId=name, **how)

    def restore(self, name: str) -> None:
        """Cancel a scheduled deletion."""
        self.call("RestoreSecret", SecretId=name)

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.call("TagResource", SecretId=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])

    def untag(self, name: str, *keys: str) -> None:
        """Remove tags."""
        self.call("UntagResource", SecretId=name, TagKeys=list(keys))

    def text(self, name: str, *, label: str = CURRENT) -> str:
        """Return a value as text."""
        return str(self.call("GetSecretValue", SecretId=name, VersionStage=label)["SecretString"])

    def describe(self, name: str) -> Result:
        """Return the answer of DescribeSecret."""
        return self.call("DescribeSecret", SecretId=name)

    def names(self) -> list[str]:
        """Return the names of all secrets, without those that are scheduled for deletion, sorted."""
        state = self._context.state
        with state.lock:
            secrets = state.secrets(self._account, self._region)
            return sorted(str(secret.name) for secret in secrets if state.extras(secret).gone_at is None)

    def begin_rotation(self, name: str) -> str:
        """Have AWS begin a rotation: an empty version with AWSPENDING; return its id."""
        arn = _LAMBDA.format(region=self._region, account=self._account)
        token = str(uuid4())
        rules = {"AutomaticallyAfterDays": 30}
        secret = self._secret(name)
        if secret.owning_service is not None:
            with self._context.state.lock:
                begin_rotation(self._context, secret, self._call("RotateSecret", {}), token)
            return token
        self.call("RotateSecret", SecretId=name, ClientRequestToken=token, RotationLambdaARN=arn, RotationRules=rules)
        return token

    def finish_rotation(self, name: str, value: str) -> None:
        """Do what the rotation function does: fill the waiting version, and make it the current one."""
        secret = self._secret(name)
        pending = next(id_ for id_, version in secret.versions.items() if PENDING in version["version_stages"])
        self.put(name, value, ClientRequestToken=pending, VersionStages=[PENDING])
        with self._context.state.lock:
            finish_rotation(self._context, secret, self._call("RotateSecret", {}))

    def rotate(self, name: str, value: str) -> None:
        """Have AWS rotate a secret, from beginning to end."""
        self.begin_rotation(name)
        self.finish_rotation(name, value)

    def create_owned(self, service_id: str, name: str, value: str = "theirs") -> str:
        """Have an AWS service make a secret of its own, such as `rds!cluster`; return its ARN."""
        state = self._context.state
        call = self._call("CreateSecret", {})
        with state.lock:
            secret = state.create(self._account, self._region, name)
            secret.tags = [{"Key": "aws:secretsmanager:owningService", "Value": service_id}]
            version_id = str(uuid4())
            secret.versions[version_id] = {
                "version_id": version_id,
                "version_stages": [CURRENT],
                "createdate": call.now.timestamp(),
                "secret_string": value,
            }
            secret.set_default_version_id(version_id)
        return str(secret.arn)

    def create_external(self, name: str, kind: str = "SalesforceClientSecret", value: str = "theirs") -> str:
        """Make a managed external secret; return its ARN."""
        return self.create(name, value, Type=kind)

    def copy_to(self, account: str, name: str, *, role_arn: str | None = None) -> str:
        """
        Have a secret copied to another account, by both accounts; return the ARN of the copy.

        Args:
            account: of the copy.
            name: of the secret, and of the copy.
            role_arn: the role that replicates; None if each writer does.
        """
        other = self.at(account=account)
        copy = other.call(
            "CreateSecret", Name=name, CrossAccountPrimaryARN=self.describe(name)["ARN"], KmsKeyId=other.create_key()
        )
        role = {} if role_arn is None else {"ReplicationRoleARN": role_arn}
        self.call("AssociateCrossAccountReplica", SecretId=name, CrossAccountReplicaARN=copy["ARN"], **role)
        return str(copy["ARN"])

    def end_copies(self, name: str) -> None:
        """End the replication of a secret to other accounts, from its own side."""
        for link in self.describe(name).get("CrossAccountReplicas", []):
            arn = link["ReplicaSecretARN"]
            self.call("DisassociateCrossAccountReplica", SecretId=name, CrossAccountReplicaARN=arn)

    def create_key(
        self, key_id: str | None = None, *, spec: str = "SYMMETRIC_DEFAULT", usage: str = "ENCRYPT_DECRYPT"
    ) -> str:
        """Make a KMS key, with an id of your choice or any; return its ARN."""
        return str(self._context.state.make_key(self._account, self._region, key_id=key_id, spec=spec, usage=usage).arn)

    def create_user(self, name: str = "someone") -> tuple[str, str]:
        """Make an IAM user of this account; return access key id and secret access key."""
        return self._context.state.make_user(self._account, name)

    def _secret(self, name: str) -> Any:
        secret = self._context.state.find(self._account, self._region, name)
        if secret is None:
            raise KeyError(name)
        return secret

    def _call(self, operation: str, arguments: Arguments) -> Call:
        principal = Principal("outsider", self._account, f"arn:aws:iam::{self._account}:user/outsider")
        now = self._context.state.clock.now()
        return Call(operation, principal, self._region, arguments, now, trusted=True)
