"""
The peers' ways: the AWS calls that other products make for the same, in their order, in our own code.

Calls alone, on one worker, without database, queue, decryption or log, which flatters them. Sources: their code at the
versions of docs/performance.md, read and, for Phase, run.

    Phase               for each change of a sync: a new session, AssumeRole, another session, GetSecretValue as a
                        probe, UpdateSecret. It writes whether or not anything differs, and checks nothing in between.
    External Secrets    PushSecret, for each object and interval (an hour by default): DescribeSecret, GetSecretValue,
                        PutSecretValue where they differ, DeleteResourcePolicy. One reconcile at a time by default.
    Infisical           a secret for each key: ListSecrets of the whole account, BatchGetSecretValue of all, a
                        DescribeSecret for each, then a write for each that differs. One secret for all keys:
                        DescribeSecret, GetSecretValue, UpdateSecret. Only after a change.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import boto3

from bench.fast_aws import FastAws
from bench.fast_secrets import REGION
from bench.figures import MODEL

EXTERNAL_SECRETS: Final = "External Secrets"
INFISICAL: Final = "Infisical"

_ROLE: Final = "arn:aws:iam::123456789012:role/peer"


class Peers:
    """What each product does, on one endpoint."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept = self._client(_session(), "secretsmanager")
        self.push: dict[str, Callable[[str, str], None]] = {
            MODEL: self._phase,
            EXTERNAL_SECRETS: self._external_secrets,
            INFISICAL: self._infisical,
        }
        """Peer -> brings one object to a value that differs from the one that is there."""

    def create(self, names: Sequence[str], value: str) -> None:
        """Make the objects, before anything is measured."""
        for name in names:
            self._kept.create_secret(Name=name, SecretString=value)

    def _client(self, session: boto3.Session, service: str) -> Any:
        return session.client(service, region_name=REGION, endpoint_url=self._url)  # type: ignore[call-overload]

    def _phase(self, name: str, value: str) -> None:
        base = _session()
        sts = self._client(base, "sts")
        assumed = sts.assume_role(RoleArn=_ROLE, RoleSessionName="peer")["Credentials"]
        session = boto3.Session(
            aws_access_key_id=assumed["AccessKeyId"],
            aws_secret_access_key=assumed["SecretAccessKey"],
            aws_session_token=assumed["SessionToken"],
            region_name=REGION,
        )
        client = self._client(session, "secretsmanager")
        client.get_secret_value(SecretId=name)
        client.update_secret(SecretId=name, SecretString=value)

    def _external_secrets(self, name: str, value: str) -> None:
        self._kept.describe_secret(SecretId=name)
        if self._kept.get_secret_value(SecretId=name)["SecretString"] != value:
            self._kept.put_secret_value(SecretId=name, SecretString=value)
        self._kept.delete_resource_policy(SecretId=name)

    def _infisical(self, name: str, value: str) -> None:
        self._kept.describe_secret(SecretId=name)
        if self._kept.get_secret_value(SecretId=name)["SecretString"] != value:
            self._kept.update_secret(SecretId=name, SecretString=value)

    # --- checks of objects that are as they should be

    def check_as_external_secrets(self, names: Sequence[str]) -> None:
        """Check objects one by one."""
        for name in names:
            self._kept.describe_secret(SecretId=name)
            self._kept.get_secret_value(SecretId=name)
            self._kept.delete_resource_policy(SecretId=name)

    def check_as_infisical(self, names: Sequence[str]) -> None:
        """Run a sync with a secret for each key, of which none differs."""
        arguments: dict[str, Any] = {"MaxResults": 100}
        while True:
            page = self._kept.list_secrets(**arguments)
            if "NextToken" not in page:
                break
            arguments["NextToken"] = page["NextToken"]
        for some in _in_twenties(names):
            self._kept.batch_get_secret_value(SecretIdList=list(some))
        for name in names:
            self._kept.describe_secret(SecretId=name)


def _session() -> boto3.Session:
    return boto3.Session(
        aws_access_key_id="AKIABENCHBENCHBENCH1",
        aws_secret_access_key="not-a-real-secret-access-key",
        region_name=REGION,
    )


def pushes_per_second(peers: Peers, peer: str, names: Sequence[str]) -> float:
    """Change objects one after the other, as one worker does."""
    push = peers.push[peer]
    push(names[0], "the first one")
    began = time.perf_counter()
    for number, name in enumerate(names):
        push(name, f"value {peer} {number}")
    return len(names) / (time.perf_counter() - began)


def pushes_ms(peers: Peers, peer: str, names: Sequence[str], aws: FastAws) -> list[float]:
    """Change objects one after the other; return the milliseconds from each begin to the write at the endpoint."""
    push = peers.push[peer]
    push(names[0], "the first one")
    aws.forget_arrivals()
    begins = {}
    for number, name in enumerate(names):
        begins[name] = time.monotonic()
        push(name, f"value of latency {peer} {number}")
    writes = {
        name: at for at, operation, name in aws.seen().arrivals if operation in ("UpdateSecret", "PutSecretValue")
    }
    return [(writes[name] - began) * 1000 for name, began in begins.items()]


def _in_twenties(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(names)
    while some := tuple(islice(rest, 20)):
        yield some
