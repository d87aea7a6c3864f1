"""
Valid projects, made at random: every section, every option, defaults, and several syncs of one entry.

Nothing in them needs AWS: keys are ARNs, and no two syncs share a remote name.
"""

from __future__ import annotations

import string
from typing import Any, Final

from hypothesis import strategies as st

from phasesync.adapters.project_files.write import write_yaml
from phasesync.core.notification import WORDS
from phasesync.core.sync import Adopt, OnDrift, OnRemove, TagMode

Document = dict[str, Any]

SECRET_VARIABLE: Final = "TEST_SECRET_ACCESS_KEY"
"""Environment variable that generated credentials take their secret access keys from."""
ACCOUNT: Final = "111122223333"
REGIONS: Final = ("eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
KEY_ID: Final = "00000000-0000-4000-8000-000000000000"
WINDOWS: Final = ("deny: 08:00-18:00 Mon-Fri Europe/Berlin", "allow: 02:00-04:00 Europe/Berlin")

letters = st.text(string.ascii_letters + string.digits + "-_", min_size=0, max_size=6)
"""What a name may have after its first characters, which make it unique."""
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda text: text.strip() != ""
)
tags = st.dictionaries(
    st.text("abcXYZ:/=", min_size=1, max_size=5).map(lambda text: f"k{text}"),
    st.text("abc 019", max_size=5),
    max_size=3,
)
durations = st.sampled_from(["1s", "90s", "15m", "90m", "1h", "1d", "1000001s"])
policies = st.fixed_dictionaries(
    {
        "Version": st.just("2012-10-17"),
        "Statement": st.lists(
            st.fixed_dictionaries(
                {"Effect": st.sampled_from(["Allow", "Deny"]), "Action": st.just("s3:*"), "Resource": st.just("*")},
                optional={"Condition": st.just({"Bool": {"aws:SecureTransport": False}, "NumericLessThan": {"x": 5}})},
            ),
            max_size=2,
        ),
    }
)


def words(kind: Any) -> st.SearchStrategy[str]:
    """The words of an enum."""
    return st.sampled_from([str(word) for word in kind])


def key_arn(region: str) -> str:
    """The ARN of a KMS key in a Region."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{KEY_ID}"


def settings(region: str, *, adopt: bool = True) -> st.SearchStrategy[Document]:
    """Any settings of a sync whose secrets are in a Region, but for its names."""
    others = [other for other in REGIONS if other != region]
    replicas = st.lists(st.sampled_from(others), unique=True, max_size=2) | st.dictionaries(
        st.sampled_from(others), st.just("default"), max_size=2
    )
    keyed = st.sampled_from(others).map(lambda other: {other: key_arn(other)})
    optional: dict[str, st.SearchStrategy[Any]] = {
        "kms_key": st.sampled_from(["default", key_arn(region)]),
        "description": texts,
        "tags": tags,
        "tag_mode": words(TagMode),
        "replicas": replicas | keyed,
        "resource_policy": policies,
        "on_drift": words(OnDrift),
        "on_remove": words(OnRemove),
        "grace": durations,
        "recovery_days": st.integers(7, 30),
        "interval": durations,
        "shrink_limit_percent": st.integers(0, 100),
        "shrink_limit_keys": st.integers(1, 1_000),
        "delete_limit_percent": st.integers(0, 100),
        "delete_limit_objects": st.integers(1, 1_000),
        "guard_window": st.sampled_from(["1h", "36h", "7d"]),
        "windows": st.lists(st.sampled_from(WINDOWS), unique=True, min_size=1, max_size=2),
        "destination": st.just("aws-secrets-manager"),
    }
    if adopt:
        optional["adopt"] = words(Adopt)
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def projects(draw: st.DrawFn, *, keys: bool = True, protected: bool = True, adopt: bool = True) -> Document:
    """
    A project.

    Args:
        draw: of hypothesis.
        keys: environments may name keys that must have values.
        protected: environments may be protected.
        adopt: syncs may take over what exists.
    """
    apps = [f"a{number}{draw(letters)}" for number in range(draw(st.integers(1, 3)))]
    environments = [
        (app, f"e{number}{draw(letters)}")
        for app in apps
        for number in range(draw(st.integers(0 if len(apps) > 1 else 1, 3)))
    ] or [(apps[0], "e0")]
    region = draw(st.sampled_from(REGIONS))
    credentials = [draw(_credential(number, region)) for number in range(draw(st.integers(1, 4)))]
    names = [str(credential["name"]) for credential in credentials]
    for number, credential in enumerate(credentials):
        if number and credential["type"] == "assume-role" and draw(st.booleans()):
            credential["source"] = draw(st.sampled_from(names[:number]))
    document: Document = {
        "apiVersion": "phasesync/v1",
        "kind": "Project",
        "name": f"p{draw(letters)}",
        "apps": [draw(_app(app)) for app in apps],
        "environments": [
            draw(_environment(f"{app}/{environment}", keys=keys, protected=protected))
            for app, environment in environments
        ],
        "credentials": credentials,
    }
    if draw(st.booleans()):
        document["manage"] = draw(st.sampled_from(["track", "strict"]))
    if draw(st.booleans()):
        document["defaults"] = {"app": apps[0], "syncs": draw(_defaults(names, region, adopt=adopt))}
    document["syncs"] = [
        draw(_sync(number, environments, names, region, document, adopt=adopt))
        for number in range(draw(st.integers(0, 5)))
    ]
    document["notifications"] = [draw(_notification(number, apps)) for number in range(draw(st.integers(0, 3)))]
    document["dynamic"] = [draw(_dynamic(number, environments, names)) for number in range(draw(st.integers(0, 3)))]
    return document


def as_yaml(document: Document) -> bytes:
    """The document as block YAML."""
    return write_yaml([document]).encode()


def in_parts(document: Document) -> list[Document]:
    """The same project in several documents, one for each section."""
    head = {name: document[name] for name in ("apiVersion", "kind", "name", "manage") if name in document}
    return [head | {name: document[name]} for name in document if name not in head]


def _app(name: str) -> st.SearchStrategy[Any]:
    return st.just(name) | st.fixed_dictionaries(
        {"name": st.just(name)},
        optional={
            "description": texts,
            "windows": st.lists(st.sampled_from(WINDOWS), unique=True, min_size=1, max_size=2),
        },
    )


def _environment(name: str, *, keys: bool, protected: bool) -> st.SearchStrategy[Any]:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "folders": st.lists(st.sampled_from(["/db", "/mail", "/a/b"]), unique=True, max_size=2)
    }
    if keys:
        optional["keys"] = st.lists(st.sampled_from(["API_TOKEN", "/db/PASSWORD", "a b"]), unique=True, max_size=2)
    if protected:
        optional["approvers"] = st.integers(1, 3)
    return st.just(name) | st.fixed_dictionaries({"name": st.just(name)}, optional=optional)


@st.composite
def _credential(draw: st.DrawFn, number: int, region: str) -> Document:
    credential: Document = {"name": f"c{number}{draw(letters)}", "region": region}
    credential["type"] = draw(st.sampled_from(["assume-role", "access-key", "ambient"]))
    if credential["type"] == "access-key":
        credential |= {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": {"env": SECRET_VARIABLE}}
    if credential["type"] == "assume-role":
        optional = {
            "role_arn": st.just(f"arn:aws:iam::{ACCOUNT}:role/phasesync"),
            "external_id": st.sampled_from(["none", "an-external-id"]),
        }
        credential |= draw(st.fixed_dictionaries({}, optional=optional))
    if draw(st.booleans()):
        credential["account"] = ACCOUNT
    return credential


@st.composite
def _sync(
    draw: st.DrawFn,
    number: int,
    environments: list[tuple[str, str]],
    credentials: list[str],
    region: str,
    document: Document,
    *,
    adopt: bool,
) -> Document:
    sync: Document = draw(settings(region, adopt=adopt))
    defaults = document.get("defaults", {}).get("syncs", {})
    # Only one sync may take its names from the defaults: two would have the same.
    unnamed = number == 0 and draw(st.booleans())
    kept = {"credential", *(("name", "secret_name") if unnamed else ())}
    if undoable := sorted(set(defaults) - kept):
        # Back to what a new sync has.
        sync |= dict.fromkeys(draw(st.lists(st.sampled_from(undoable), unique=True, max_size=2)))
    if not defaults or draw(st.booleans()):
        sync["credential"] = draw(st.sampled_from(credentials))
    if draw(st.booleans()):
        sync["region"] = region
    if draw(st.booleans()):
        sync["path"] = draw(st.sampled_from(["/", "/db", "/a/b", "/{app}/{env}"]))
    several = draw(st.lists(st.sampled_from(environments), unique=True, min_size=1, max_size=3))
    labels = [f"{app}/{environment}" for app, environment in several]
    if len({app for app, _ in several}) == 1 and draw(st.booleans()):
        sync["app"] = several[0][0]
        labels = [environment for _, environment in several]
    one = len(several) == 1 and draw(st.booleans())
    sync |= {"env": labels[0]} if one else {"for": labels}
    if not (unnamed and "name" in defaults):
        sync["name"] = f"s{number}{draw(letters)}" if one else f"s{number}-{{app}}-{{env}}"
    if unnamed and "secret_name" in defaults:
        return sync
    if draw(st.booleans()):
        sync |= {"secret_name": f"n{number}/{{app}}/{{env}}"} | ({"layout": "json"} if draw(st.booleans()) else {})
    else:
        sync |= {"name_template": f"n{number}/{{app}}/{{env}}/{{path}}/{{key}}"}
        sync |= {"layout": "per-key"} if draw(st.booleans()) else {}
    return sync


@st.composite
def _defaults(draw: st.DrawFn, credentials: list[str], region: str, *, adopt: bool) -> Document:
    optional = {
        "name": st.just("default-{app}-{env}"),
        "secret_name": st.just("default/{app}/{env}"),
        "layout": st.just("json"),
        "region": st.just(region),
        "path": st.sampled_from(["/", "/db", "/{env}"]),
    }
    defaults: Document = draw(settings(region, adopt=adopt)) | draw(st.fixed_dictionaries({}, optional=optional))
    return defaults | {"credential": draw(st.sampled_from(credentials))}


@st.composite
def _notification(draw: st.DrawFn, number: int, apps: list[str]) -> Document:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "conditions": st.lists(st.sampled_from(WORDS[:-1]), unique=True, min_size=1, max_size=3),
        "after": durations,
        "remind_after": st.sampled_from(["0s", "1m", "1h", "36h"]),
        "quiet": st.lists(st.sampled_from(["22:00-07:00 Mon-Fri Europe/Berlin", "2030-12-24 UTC"]), unique=True),
        "app": st.sampled_from(apps),
    }
    channel = draw(st.sampled_from(["mailto:ops@example.com", f"sns:arn:aws:sns:eu-west-1:{ACCOUNT}:ops"]))
    required = {"name": f"n{number}{draw(letters)}", "to": channel}
    return draw(st.fixed_dictionaries({name: st.just(value) for name, value in required.items()}, optional=optional))


@st.composite
def _dynamic(draw: st.DrawFn, number: int, environments: list[tuple[str, str]], credentials: list[str]) -> Document:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "user_template": st.sampled_from(["u-{{random}}", "{{app}}-{{random}}"]),
        "policy_arns": st.just(["arn:aws:iam::aws:policy/ReadOnlyAccess"]),
        "max_leases": st.integers(1, 100),
        "key_map": st.just({"username": "CI_USER"}),
    }
    required: Document = {
        "name": f"d{number}{draw(letters)}",
        "env": "/".join(draw(st.sampled_from(environments))),
        # A folder of its own: two dynamic secrets of one folder would have the same keys.
        "path": f"/d{number}",
        "credential": draw(st.sampled_from(credentials)),
        "default_ttl": "15m",
        "max_ttl": "1h",
    }
    if draw(st.booleans()):
        required |= {"issuer": "aws-assume-role", "role_arn": f"arn:aws:iam::{ACCOUNT}:role/ops"}
        optional["session_policy"] = policies
    else:
        optional |= {
            "issuer": st.just("aws-iam-user"),
            "iam_path": st.just("/ci/shop/"),
            "groups": st.just(["deployers"]),
            "permission_boundary": st.just(f"arn:aws:iam::{ACCOUNT}:policy/boundary"),
            "inline_policy": policies,
            "tags": st.dictionaries(st.sampled_from(["team", "cost"]), st.text("abc 019", max_size=5), max_size=2),
        }
    return required | draw(st.fixed_dictionaries({}, optional=optional))
