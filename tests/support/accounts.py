"""
AWS accounts of ministack: who lives there, what they may do, and what their administrator sees.

    home, target = Account(ministack, "111122223333"), Account(ministack, "444455556666")
    key = home.add_user("host", allow("sts:AssumeRole"))
    role = target.add_role("phasesync", trust_policy(principal_arn=key.arn, external_id="e"), document)
    target.secret("shop/web")
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from phasesync.core.iam.document import Document
from tests.support.ministack import ROOT_SECRET, Ministack

REGION = "eu-west-1"


@dataclass(frozen=True, kw_only=True)
class Key:
    """An access key of a user, or of a session where it has a token."""

    arn: str
    id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to be this one."""
        variables = {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return variables | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})


class Account:
    """One account. Its administrator may do everything; a new user or role nothing."""

    def __init__(self, ministack: Ministack, number: str) -> None:
        """`number` has 12 digits; the account is there, and empty, the first time it is named."""
        self.ministack = ministack
        self.number = number

    def client(self, service: str, *, key: Key | None = None, region: str = REGION) -> Any:
        """Return a client of boto3: the administrator's, or someone's with a key."""
        if key is None:
            return self.ministack.client(service, region=region, key_id=self.number, secret=ROOT_SECRET)
        return self.ministack.client(service, region=region, key_id=key.id, secret=key.secret, token=key.token)

    # --- who lives there

    def add_user(self, name: str, *policies: Document) -> Key:
        """Add a user with a key."""
        user = self.client("iam").create_user(UserName=name)["User"]
        if policies:
            self.set_user_policies(name, *policies)
        key = self.client("iam").create_access_key(UserName=name)["AccessKey"]
        return Key(arn=user["Arn"], id=key["AccessKeyId"], secret=key["SecretAccessKey"])

    def add_role(self, name: str, trust: Document, *policies: Document) -> str:
        """Add a role; return its ARN."""
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        if policies:
            self.set_role_policies(name, *policies)
        return str(role["Arn"])

    def set_user_policies(self, name: str, *policies: Document) -> None:
        """Replace what a user may do: one inline policy with the statements of all."""
        self.client("iam").put_user_policy(UserName=name, PolicyName="inline", PolicyDocument=_merged(policies))

    def set_role_policies(self, name: str, *policies: Document) -> None:
        """Replace what a role may do: one inline policy with the statements of all."""
        self.client("iam").put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=_merged(policies))

    def type_line(self, line: str) -> None:
        """Do what a line of the AWS command line does when this account's administrator types it."""
        words = shlex.split(line.replace("$(aws sts get-caller-identity --query Account --output text)", self.number))
        assert words[:2] == ["aws", "iam"], line
        options = dict(zip(words[3::2], words[4::2], strict=True))
        arguments = {"".join(part.title() for part in name[2:].split("-")): value for name, value in options.items()}
        getattr(self.client("iam"), words[2].replace("-", "_"))(**arguments)

    def assume(self, role_arn: str, *, by: Key, external_id: str | None = None, lifetime_s: int = 3600) -> Key:
        """Return a session of a role, opened by a user. AWS allows no lifetime below 900; ministack does."""
        extra = {} if external_id is None else {"ExternalId": external_id}
        answer = self.client("sts", key=by).assume_role(
            RoleArn=role_arn, RoleSessionName="test", DurationSeconds=lifetime_s, **extra
        )
        keys = answer["Credentials"]
        return Key(
            arn=answer["AssumedRoleUser"]["Arn"],
            id=keys["AccessKeyId"],
            secret=keys["SecretAccessKey"],
            token=keys["SessionToken"],
        )

    # --- what is there

    def add_secret(self, name: str, text: str = '{"KEY":"theirs"}', *, region: str = REGION) -> str:
        """Have the administrator make a secret; return its ARN."""
        secret = self.client("secretsmanager", region=region).create_secret(Name=name, SecretString=text)
        return str(secret["ARN"])

    def secret(self, name: str) -> Any:
        """Describe a secret."""
        return self.client("secretsmanager").describe_secret(SecretId=name)

    def secret_values(self, name: str) -> Any:
        """Return what readers of a secret get, as a document."""
        return json.loads(self.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])

    def secret_names(self, *, region: str = REGION) -> list[str]:
        """Return the names of all secrets in a Region."""
        answer = self.client("secretsmanager", region=region).list_secrets(MaxResults=100)
        return sorted(entry["Name"] for entry in answer["SecretList"])


def allow(*actions: str, resources: tuple[str, ...] = ("*",)) -> Document:
    """A policy that allows actions."""
    return _policy("Allow", actions, resources)


def deny(*actions: str, resources: tuple[str, ...] = ("*",)) -> Document:
    """A policy that denies actions."""
    return _policy("Deny", actions, resources)


def _policy(effect: str, actions: tuple[str, ...], resources: tuple[str, ...]) -> Document:
    statement = {"Effect": effect, "Action": list(actions), "Resource": list(resources)}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _merged(policies: tuple[Document, ...]) -> str:
    statements = [statement for policy in policies for statement in policy["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
