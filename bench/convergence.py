"""
Whether AWS holds what the store holds, and how it got there. AWS is read by a client of our own.

What was committed is known from the workload, which kept it beside the store; the store is compared with it as well.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import boto3
import sqlalchemy as sa
from botocore.config import Config
from botocore.exceptions import ClientError

from bench.endpoint import Written
from bench.workload import APP, Watched, Workload
from phasesync.bootstrap import Application
from tests.support.installation import REGION, Installation


def differing(workload: Workload) -> list[str]:
    """Return the remote names that do not hold what was committed last."""
    client = client_of("secretsmanager")
    return [name for sync in workload.syncs.values() for name in _differing(client, sync)]


def _differing(client: Any, sync: Watched) -> Iterable[str]:
    for name, wanted in sync.objects.items():
        try:
            if sync.read(client.get_secret_value(SecretId=name)["SecretString"], name) != wanted:
                yield name
        except ClientError:
            yield name


def lost_edits(application: Application, workload: Workload) -> list[str]:
    """Return the syncs whose environment in the store is not what was committed last."""
    lost = []
    for sync in workload.syncs.values():
        stored = {
            version.key: version.value.reveal_text()
            for version in application.store.secrets.list_secrets(APP, sync.name)
            if version.value is not None
        }
        if stored != sync.content:
            lost.append(sync.name)
    return lost


def wrong_versions(workload: Workload, written: Mapping[str, list[Written]]) -> list[str]:
    """
    Return what is wrong with the versions that were written, as lines.

    Each of ours holds a content that was committed, none older than the one before it, and none twice, unless somebody
    else wrote in between.
    """
    wrong = []
    for sync in workload.syncs.values():
        contents = [sync.objects_of(content) for _, content in sync.history]
        for name in dict.fromkeys(name for content in contents for name in content):
            order: list[dict[str, str]] = []
            for content in contents:
                if name in content and content[name] not in order:
                    order.append(content[name])
            newest, before_is_ours = -1, False
            for version in written.get(name, ()):
                if version.by_others:
                    before_is_ours = False
                    continue
                value = sync.read(version.text, name)
                if value not in order:
                    wrong.append(f"{name}: a version that was never committed")
                    continue
                at = order.index(value)
                if at < newest:
                    wrong.append(f"{name}: an older value after a newer one")
                elif at == newest and before_is_ours:
                    wrong.append(f"{name}: the same value twice")
                newest, before_is_ours = max(newest, at), True
    return wrong


def journal_differences(installation: Installation, written: Mapping[str, list[Written]]) -> list[str]:
    """Return the remote names that have more or fewer versions of ours than the journal counts."""
    with installation.database() as connection:
        found = connection.execute(sa.text("SELECT remote_name, generation FROM journal"))
        generations = {row.remote_name: row.generation for row in found}
    ours = {name: sum(not version.by_others for version in versions) for name, versions in written.items()}
    return [
        f"{name}: {ours.get(name, 0)} versions, {generation} in the journal"
        for name, generation in generations.items()
        if ours.get(name, 0) != generation
    ]


def leaked_users() -> list[str]:
    """Return the IAM users that there are; leases have made them all."""
    pages = client_of("iam").get_paginator("list_users").paginate()
    return [user["UserName"] for page in pages for user in page["Users"]]


def client_of(service: str) -> Any:
    """Return a client that is not phasesync's."""
    return boto3.client(service, region_name=REGION, config=Config(retries={"max_attempts": 5}))
