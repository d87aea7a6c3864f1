"""
What a run costs that finds nothing to do, beside the peers' way of doing the same on the same endpoint.

    python -m bench.unchanged [--runs 1000] [--few 50]

Each run is a whole reconcile in this process: claim, read and decrypt, one look at AWS, record. The figures of Phase,
the model product, were measured on its own code: 3 AWS calls with a role (one of them AssumeRole), 1 new version, a
statement more for each secret. The peers' loops are what they do to AWS, and nothing else: no database, no decryption,
no log. AWS's limit of 100 versions is off at the endpoint, or the second loop would soon end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.fast_aws import FastAws
from bench.ground import databases_option, installed, table
from phasesync.bootstrap import Application
from phasesync.core.run import Outcome
from tests.support.installation import REGION
from tests.support.sql import counted

SIZES = (1, 10, 50, 200)
MODEL_STATEMENTS = {1: 10, 10: 19, 50: 59, 200: 209}
READS = ("GetSecretValue", "BatchGetSecretValue", "ListSecrets")


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where an unchanged run wrote or read a value."""
    parser = argparse.ArgumentParser(prog="python -m bench.unchanged")
    parser.add_argument("--runs", type=int, default=1000, help="of the largest sync, and of the peers")
    parser.add_argument("--few", type=int, default=50, help="of the smaller ones")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        return _print(aws, options.databases, options.runs, options.few)


def _print(aws: FastAws, databases: Sequence[str], most: int, few: int) -> int:
    rows, bad = [], False
    for database in databases:
        for size in SIZES:
            runs = most if size == SIZES[-1] else few
            with installed(database, aws.empty().url) as installation:
                installation.add_syncs("web", values={f"KEY_{number}": f"value {number}" for number in range(size)})
                installation.reconcile("web")
                with installation.application() as application:
                    before = _look(aws)
                    statements, seconds = _run(application, runs)
                    after = _look(aws)
            calls, written, reads = _difference(before, after)
            bad |= written > 0 or reads > 0 or len(statements) != 1
            counts = "/".join(map(str, sorted(statements)))
            rows.append(
                (f"{database}, {size} secrets", runs, calls / runs, written, reads, counts, seconds / runs * 1000)
            )
    model = [(f"Phase, {size} secrets", "-", 3.0, "1 a run", "1 a run", MODEL_STATEMENTS[size], "-") for size in SIZES]
    head = ["unchanged", "runs", "AWS calls a run", "new versions", "values read", "SQL statements a run", "ms a run"]
    table(head, [*rows, *model])
    print()
    table(
        ["the peers' way, AWS calls alone", "runs", "AWS calls a run", "new versions", "values read", "ms a run"],
        [
            _peer(aws, "read and compare", _compare, most),
            _peer(aws, "read and update", _update, most),
        ],
    )
    return int(bad)


def _run(application: Application, runs: int) -> tuple[set[int], float]:
    """Reconcile an unchanged sync; return the numbers of SQL statements that a run had, and the seconds in all."""
    numbers: set[int] = set()
    operations = application.operations
    application.clients  # noqa: B018  Made once for a process, with a statement that counts the daemons that call AWS.
    with counted(application.store.database.engine) as statements:
        began = time.perf_counter()
        for _ in range(runs):
            statements.clear()
            if operations.run("web", actor="bench").outcome is not Outcome.UNCHANGED:
                raise AssertionError("there was something to do")
            numbers.add(len(statements))
        return numbers, time.perf_counter() - began


def _look(aws: FastAws) -> tuple[int, int, int]:
    """Return the calls, the versions and the reads of values so far."""
    counts = aws.counts()
    calls = sum(number for name, number in counts.items() if name != "GetCallerIdentity")
    versions = sum(number for _, number, _ in aws.written().values())
    return calls, versions, sum(counts.get(name, 0) for name in READS)


def _difference(before: tuple[int, int, int], after: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the calls, the new versions and the reads of values between two looks."""
    calls, versions, reads = (late - early for early, late in zip(before, after, strict=True))
    return calls, versions, reads


def _peer(aws: FastAws, name: str, way: Callable[[Any, str], None], runs: int) -> tuple[object, ...]:
    """Go a peer's way with a value of 200 keys."""
    import boto3

    value = json.dumps({f"KEY_{number}": f"value {number}" for number in range(SIZES[-1])})
    client = boto3.client(
        "secretsmanager",
        region_name=REGION,
        endpoint_url=aws.empty().url,
        aws_access_key_id="AKIABENCHBENCHBENCH1",
        aws_secret_access_key="not-a-real-secret-access-key",
    )
    client.create_secret(Name="peer", SecretString=value)
    before = _look(aws)
    began = time.perf_counter()
    for _ in range(runs):
        way(client, value)
    seconds = time.perf_counter() - began
    calls, written, reads = _difference(before, _look(aws))
    return name, runs, calls / runs, written, reads, seconds / runs * 1000


def _compare(client: Any, value: str) -> None:
    """As operators do that push only what differs: each check brings the value back."""
    if client.get_secret_value(SecretId="peer")["SecretString"] != value:
        client.put_secret_value(SecretId="peer", SecretString=value)


def _update(client: Any, value: str) -> None:
    """As the model product does, without its AssumeRole: the read shows whether to create or to update."""
    client.get_secret_value(SecretId="peer")
    client.update_secret(SecretId="peer", SecretString=value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
