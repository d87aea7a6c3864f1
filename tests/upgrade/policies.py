"""Which IAM actions the policies of a release can ask for, and which ones it needs for its own calls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

_REGION = "eu-west-1"
_KEY = f"arn:aws:kms:{_REGION}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_COPY_KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_KEY_OF_OTHERS = f"arn:aws:kms:{_REGION}:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_BOUNDARY = "arn:aws:iam::111122223333:policy/boundary"
_STATEMENT = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}


def printed_actions(run: Callable[..., str], folder: Path) -> set[str]:
    """
    Return the actions of all policies that `phasesync aws policy` prints where every setting is in use.

    Args:
        run: carries out a command of an initialised, empty installation, and returns its stdout.
        folder: for files that commands read.
    """
    policy = folder / "policy.json"
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [_STATEMENT]}))
    run("apps", "add", "shop")
    run("envs", "add", "shop/production")
    run("credentials", "add", "aws", "--type", "ambient", "--region", _REGION)
    of_shop = ("--env", "shop/production", "--credential", "aws")
    run("syncs", "add", "plain", *of_shop, "--secret-name", "plain", "--no-verify")
    everything: tuple[str, ...] = (
        "--kms-key",
        _KEY,
        "--replica",
        f"eu-central-1={_COPY_KEY}",
        "--description",
        "all of it",
    )
    everything += ("--tag", "team=shop", "--tag-mode", "replace-own", "--on-remove", "delete")
    template = ("--name-template", "{app}/{env}/{key}")
    run("syncs", "add", "all", *of_shop, *template, *everything, "--resource-policy", str(policy), "--no-verify")
    lives = ("--default-ttl", "1h", "--max-ttl", "1h")
    user: tuple[str, ...] = ("--inline-policy", str(policy), "--policy-arn", "arn:aws:iam::aws:policy/ReadOnlyAccess")
    user += ("--group", "deployers", "--permission-boundary", _BOUNDARY, "--tag", "team=shop")
    run("dynamic", "add", "user", *of_shop, *user, *lives)
    role = ("--issuer", "aws-assume-role", "--role-arn", "arn:aws:iam::111122223333:role/deployers")
    run("dynamic", "add", "session", *of_shop, "--path", "/session", *role, *lives)
    asked: tuple[tuple[str, ...], ...] = (
        ("plain",),
        ("all",),
        ("--dynamic", "user"),
        ("--dynamic", "session"),
        ("--all", "--with-import", "--kms-key", _KEY, "--copy-key", _KEY_OF_OTHERS),
        ("--starter", "sync", "--kms-key", _KEY, "--with-import"),
        ("--starter", "dynamic", "--permission-boundary", _BOUNDARY),
        ("--starter", "dynamic"),
    )
    known = run("aws", "policy", "--help")  # Release 0.1.0 had no root key at AWS KMS, and no backups in S3.
    for option, value in (("--root-key", ()), ("--backups", ("s3://backups/phasesync",))):
        if option in known:
            asked += ((option, *value, "--kms-key", _KEY),)
    return {action for options in asked for action in _actions_of(json.loads(run("aws", "policy", *options)))}


def _actions_of(policy: dict[str, Any]) -> set[str]:
    listed = [statement["Action"] for statement in policy["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}


_CALLED: Final = """\
import json, re
from pathlib import Path
import phasesync
from phasesync.adapters.aws import rate_limits
groups = [group for value in vars(rate_limits).values() if isinstance(value, tuple) for group in value]
called = {action for group in groups for action in getattr(group, "actions", ())}
of_root_keys = Path(phasesync.__file__).parent / "adapters" / "root_keys" / "kms.py"
if of_root_keys.exists():  # Before there is a database, there is no account whose rate could be kept.
    called |= {f"kms:{name}" for name in re.findall(r'_call\\(\\s*"(\\w+)"', of_root_keys.read_text())}
print(json.dumps(sorted(called)))
"""
"""A program that prints the actions of all calls that a phasesync can make: each is in a group of the rate limiter."""


def called_actions(environ: Mapping[str, str]) -> set[str]:
    """Return the actions of all calls that the phasesync of an environment can make at AWS."""
    # Not from here: Python would look into the working directory first.
    program = [sys.executable, "-c", _CALLED]
    asked = subprocess.run(program, cwd="/", env=dict(environ), capture_output=True, text=True, check=True)
    return set(json.loads(asked.stdout))
