"""
An AWS account as its administrator sees it, and the programs that read its secrets.

Everything that the tour says about AWS is read here, by clients with their own keys and not by phasesync.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from phasesync.demo.isolation import REGION

if TYPE_CHECKING:
    from phasesync.emulator import AwsEmulator

HOST_ACCOUNT: Final = "123456789012"
"""moto's account for keys that it does not know."""
OTHER_ACCOUNT: Final = "210987654321"

_READER_KEY: Final = {"aws_access_key_id": "AKIADEMOREADER000000", "aws_secret_access_key": "demo"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A secret as a program reads it: a value and its version."""

    value: str
    version_id: str

    @property
    def keys(self) -> dict[str, str]:
        """The keys in it."""
        keys: dict[str, str] = json.loads(self.value)
        return keys


class Account:
    """One account of the emulator."""

    def __init__(self, emulator: "AwsEmulator", number: str) -> None:
        """
        Args:
            emulator: has the account.
            number: 12 digits.
        """
        self.number = number
        self._url = emulator.url

    @property
    def access_key_ids(self) -> tuple[str, ...]:
        """Keys of this class: all other calls are phasesync's."""
        return (_READER_KEY["aws_access_key_id"], self._keys["aws_access_key_id"])

    def make_role(self, name: str, *, trust: dict[str, Any], policy: dict[str, Any]) -> str:
        """Make a role; return its ARN."""
        iam = self._client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
        return str(role["Role"]["Arn"])

    def make_user(self, name: str, *, policy: dict[str, Any]) -> tuple[str, str]:
        """Make a user with an access key; return its id and its secret."""
        iam = self._client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return str(key["AccessKeyId"]), str(key["SecretAccessKey"])

    def make_kms_key(self) -> str:
        """Make a customer-managed key; return its ARN."""
        return str(self._client("kms").create_key(Description="phasesync demo")["KeyMetadata"]["Arn"])

    def users(self) -> list[str]:
        """Return the names of all users."""
        return [user["UserName"] for user in self._client("iam").list_users()["Users"]]

    def holder_of(self, access_key_id: str, secret_access_key: str) -> str | None:
        """Return the ARN that an access key belongs to, None if AWS does not know the key."""
        keys = {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
        sts = self._new_client("sts", keys)
        try:
            return str(sts.get_caller_identity()["Arn"])
        except sts.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "InvalidClientTokenId":
                raise
            return None

    def read(self, name: str) -> Stored | None:
        """Read a secret; return None if there is none."""
        try:
            answer = self._secrets.get_secret_value(SecretId=name)
        except self._secrets.exceptions.ResourceNotFoundException:
            return None
        return Stored(value=answer["SecretString"], version_id=answer["VersionId"])

    def kms_key_of(self, name: str) -> str | None:
        """Return the key that a secret is encrypted with, None for the AWS-managed one."""
        key: str | None = self._secrets.describe_secret(SecretId=name).get("KmsKeyId")
        return key

    def versions(self, name: str) -> int:
        """Return how many versions of a secret there are."""
        return len(self._secrets.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"])

    def names(self) -> list[str]:
        """Return the names of all secrets."""
        return [secret["Name"] for secret in self._secrets.list_secrets()["SecretList"]]

    def write(self, name: str, value: str) -> str:
        """Write a value out of band; return the version's id."""
        return str(self._secrets.put_secret_value(SecretId=name, SecretString=value)["VersionId"])

    def close(self) -> None:
        """Close the connections."""
        if "_secrets" in self.__dict__:
            self._secrets.close()

    @cached_property
    def _keys(self) -> dict[str, str]:
        """Keys of its administrator."""
        if self.number == HOST_ACCOUNT:
            return _READER_KEY
        # moto takes the account from the role of a session.
        role = f"arn:aws:iam::{self.number}:role/administrator"
        session = self._new_client("sts", _READER_KEY).assume_role(RoleArn=role, RoleSessionName="demo")["Credentials"]
        return {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }

    @cached_property
    def _secrets(self) -> Any:
        return self._client("secretsmanager")

    def _client(self, service: str) -> Any:
        return self._new_client(service, self._keys)

    def _new_client(self, service: str, keys: dict[str, str]) -> Any:
        import boto3.session
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
        make: Any = boto3.session.Session().client
        return make(service, region_name=REGION, endpoint_url=self._url, config=config, **keys)
