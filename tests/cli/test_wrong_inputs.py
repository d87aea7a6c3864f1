"""
What somebody types by mistake, over all commands: the exit code, the message, and the hint that helps.

Each line was read aloud; what needed a second reading was written again. A hint that names a command names one that is
there, with the options that stand behind it, and nothing is changed by any of this.
"""

# ruff: noqa: E501 - the lines stand as they are printed

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import Aws
from tests.support.commands import commands_in, wrong_with
from tests.support.raw_http import port_that_refuses

PORT = "PORT"
"""Stands in the table for a port where nothing listens."""


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One wrong command line; `stdin` None means nothing is piped in, `hint` None means the message says it all."""

    line: str
    code: int
    message: str
    hint: str | None = None
    stdin: str | None = None


INPUTS = [
    Wrong(
        line="secrets get shop/prod KEY --actor ada",
        code=2,
        message="--actor stands before the command",
        hint="phasesync --actor NAME secrets get ...",
    ),
    Wrong(line="sincs list", code=2, message="no such command 'sincs'. Did you mean 'syncs'?", hint="phasesync --help"),
    Wrong(
        line="syncs lst", code=2, message="no such command 'lst'. Did you mean 'list'?", hint="phasesync syncs --help"
    ),
    Wrong(line="apps add", code=2, message="missing argument 'NAME'", hint="phasesync apps add --help"),
    Wrong(
        line="apps add shop",
        code=4,
        message="the app shop exists already",
        hint="phasesync envs list --app shop shows what is in it",
    ),
    Wrong(
        line="apps add 'a b'",
        code=2,
        message="'a b' is not a valid app name",
        hint="1 to 64 letters, digits, - and _, beginning with a letter or a digit",
    ),
    Wrong(
        line="apps remove shop --yes",
        code=4,
        message="the app shop still has environments: prod",
        hint="phasesync envs remove shop/prod",
    ),
    Wrong(
        line="apps remove nope --yes",
        code=5,
        message="there is no app nope; there is: shop",
        hint="phasesync apps list; to make it: phasesync apps add nope",
    ),
    Wrong(line="apps update shop", code=2, message="there is nothing to change", hint="phasesync apps update --help"),
    Wrong(
        line="envs add shop",
        code=2,
        message="'shop' does not name an environment",
        hint="write APP/ENV, such as shop/production",
    ),
    Wrong(
        line="envs add nope/prod",
        code=5,
        message="there is no app nope; there is: shop",
        hint="phasesync apps list; to make it: phasesync apps add nope",
    ),
    Wrong(
        line="envs add shop/prod",
        code=4,
        message="the environment shop/prod exists already",
        hint="phasesync secrets list shop/prod",
    ),
    Wrong(
        line="envs remove shop/prod --yes",
        code=4,
        message="shop/prod is used by syncs: off, soon, web",
        hint="phasesync syncs remove off --remote keep",
    ),
    Wrong(
        line="envs remove shop/prod",
        code=2,
        message="this needs a confirmation: remove shop/prod with 2 secrets and their history, and its dynamic secrets (ci)",
        hint="add --yes",
    ),
    Wrong(
        line="envs clone shop/prod shop/dev",
        code=2,
        message="'shop/dev' names the app too",
        hint="give the name alone: dev",
    ),
    Wrong(
        line="secrets set shop/prod URL hunter2",
        code=2,
        message="a value is never taken from an argument: arguments are seen by everyone on this machine",
        hint="name the key alone to be asked for the value, or give - to read stdin, or --from-file FILE; "
        "and change this value",
    ),
    Wrong(
        line="secrets set shop/prod URL -",
        code=2,
        message="nothing arrived on stdin: URL would become empty",
        hint="an empty value needs --allow-empty",
        stdin="",
    ),
    Wrong(
        line="secrets set shop/prod URL",
        code=2,
        message="there is no terminal to ask for URL",
        hint="give - after the key to read stdin, or --from-file FILE",
    ),
    Wrong(
        line="secrets set shop/prod URL --from-file nope.txt",
        code=2,
        message="nope.txt cannot be read: No such file or directory",
    ),
    Wrong(
        line="secrets set shop/prod J - --type json",
        code=2,
        message="the value is not valid JSON at line 1, column 2",
        stdin="{not json",
    ),
    Wrong(
        line="secrets set shop/stage URL -",
        code=5,
        message="there is no environment shop/stage; shop has: prod",
        hint="phasesync envs list; to make it: phasesync envs add shop/stage",
        stdin="x",
    ),
    Wrong(
        line="secrets get shop/prod NOPE",
        code=5,
        message="NOPE is not set in shop/prod at /",
        hint="phasesync secrets list shop/prod shows what is",
    ),
    Wrong(
        line="secrets get shop/prod URL --resolve",
        code=2,
        message="--resolve needs --reveal: it shows a value",
        hint="add --reveal",
    ),
    Wrong(
        line="secrets unset shop/prod NOPE",
        code=5,
        message="NOPE is not set in shop/prod at /",
        hint="phasesync secrets list shop/prod shows what is",
    ),
    Wrong(
        line="secrets rollback shop/prod URL --to 9",
        code=5,
        message="URL has no value in version 9; versions with one: 1",
        hint="phasesync secrets history shop/prod URL shows them",
    ),
    Wrong(
        line="secrets generate shop/prod K --length 3",
        code=2,
        message="invalid value for '--length': 3 is not between 8 and 1024",
        hint="phasesync secrets generate --help",
    ),
    Wrong(
        line="secrets import shop/prod nope.env --yes",
        code=2,
        message="nope.env cannot be read: No such file or directory",
    ),
    Wrong(
        line="credentials add aws --type assume --region eu-west-1",
        code=2,
        message="invalid value for '--type': 'assume' is not one of 'assume-role', 'access-key', 'ambient'",
        hint="phasesync credentials add --help",
    ),
    Wrong(
        line="credentials add aws --region eu-west-1",
        code=2,
        message="missing option '--type': one of assume-role, access-key, ambient",
        hint="phasesync credentials add --help",
    ),
    Wrong(
        line="credentials add aws --type ambient --region mars-1",
        code=2,
        message="'mars-1' is not an AWS Region",
        hint="a Region looks like us-west-2; aws ec2 describe-regions prints those of an account",
    ),
    Wrong(
        line="credentials add aws --type access-key --region eu-west-1",
        code=2,
        message="an access-key credential needs an access key id and a secret access key",
        hint="add --access-key-id ID; the secret access key is asked for, or read from stdin",
    ),
    Wrong(
        line="credentials update host",
        code=2,
        message="there is nothing to change",
        hint="phasesync credentials update --help",
    ),
    Wrong(
        line="credentials test nope", code=5, message="there is no credential nope", hint="phasesync credentials list"
    ),
    Wrong(
        line="credentials test later",
        code=7,
        message="the credential later is incomplete: it has no role yet",
        hint="phasesync credentials update later --role-arn ARN",
    ),
    Wrong(
        line="credentials remove host --yes",
        code=4,
        message="the credential host is used by syncs: off, web",
        hint="phasesync syncs update off --credential OTHER, or phasesync syncs remove off",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host",
        code=2,
        message="say which AWS secret it writes",
        hint="--secret-name NAME for one secret with all keys, --name-template '{app}/{env}/{key}' for one a key",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential nope --secret-name x",
        code=5,
        message="there is no credential nope",
        hint="phasesync credentials list",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name x --name-template '{key}'",
        code=2,
        message="--secret-name and --name-template exclude each other",
        hint="--secret-name for one secret with all keys, --name-template for one secret a key",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name web",
        code=4,
        message="the sync web already writes to web in this account and Region",
        hint="choose another name; phasesync syncs show web shows the other sync",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name 'a b'",
        code=2,
        message="the name of an AWS secret may not contain ' '",
        hint="allowed are letters, digits and / _ + = . @ -",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name x --interval 5",
        code=2,
        message="invalid value for '--interval': '5' is not a duration, such as 90s, 15m, 1h or 7d",
        hint="phasesync syncs add --help",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name x --tag team",
        code=2,
        message="invalid value for '--tag': 'team' is not KEY=VALUE",
        hint="phasesync syncs add --help",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name x --recovery-days 3",
        code=2,
        message="invalid value for '--recovery-days': 3 is not between 7 and 30",
        hint="phasesync syncs add --help",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --secret-name x --destination vault",
        code=5,
        message="'vault' is not a destination kind",
        hint="destination kinds: aws-secrets-manager",
    ),
    Wrong(
        line="syncs add x --env shop/prod --credential host --name-template '{kye}'",
        code=2,
        message="the name template '{kye}' has a placeholder that does not exist",
        hint="placeholders: {app}, {env}, {path}, {key}",
    ),
    Wrong(line="syncs update web", code=2, message="there is nothing to change", hint="phasesync syncs update --help"),
    Wrong(line="syncs run off", code=4, message="the sync off is paused", hint="phasesync syncs resume off"),
    Wrong(
        line="syncs run soon",
        code=4,
        message="the credential later has no role yet",
        hint="phasesync credentials update later --role-arn ARN",
    ),
    Wrong(line="syncs trigger off", code=4, message="the sync off is paused", hint="phasesync syncs resume off"),
    Wrong(
        line="syncs wait web --for synced",
        code=2,
        message="invalid value for '--for': 'synced' is not one of 'pending', 'running', 'in-sync', 'held', 'halted', 'failing', 'paused', 'incomplete'",
        hint="phasesync syncs wait --help",
    ),
    Wrong(
        line="syncs pause",
        code=2,
        message="name a sync, or give --all",
        hint="either names, or --all, or --app, --credential and --status",
    ),
    Wrong(
        line="syncs pause web --until yesterday",
        code=2,
        message="invalid value for '--until': 'yesterday' is neither a duration, such as 90s, 15m, 1h or 7d, nor an instant with an offset, such as 2026-01-31T09:00:00Z",
        hint="phasesync syncs pause --help",
    ),
    Wrong(
        line="syncs pause web --until 2020-01-01T00:00:00Z",
        code=2,
        message="the end of the pause is in the past",
        hint="a time from now: --until 2h",
    ),
    Wrong(
        line="syncs approve web --plan 0123456789abcdef",
        code=4,
        message="nothing of the sync web is held",
        hint="phasesync syncs plan web shows what would change",
    ),
    *(
        Wrong(
            line=f"{line} --plan {shlex.quote(digest)}",
            code=2,
            message=f"--plan takes a digest of 16 hexadecimal digits, not '{digest}'" if digest else "--plan is empty",
            hint="the digest is printed with what is to be approved, and looks like 0123456789abcdef",
        )
        for line in ("syncs approve web", "envs approve shop/prod", "envs reject shop/prod", "apply -f x.yaml")
        for digest in ("", "--no-input", "0123456789ABCDEF")
    ),
    *(
        Wrong(line=line, code=2, message=f"{said}, and takes one value", hint=hint)
        for line, said, hint in (
            (
                "syncs pause --app shop --app other",
                "--app is given twice",
                "give it once: phasesync syncs pause --help",
            ),
            (
                "syncs list --credential aws --credential other --credential aws",
                "--credential is given 3 times",
                "give it once: phasesync syncs list --help",
            ),
            (
                "envs update shop/prod --protect --no-protect",
                "--protect / --no-protect is given twice",
                "give it once: phasesync envs update --help",
            ),
            ("--actor ada --actor bob apps list", "--actor is given twice", "give it once: phasesync --help"),
        )
    ),
    Wrong(line="syncs approve web", code=2, message="missing option '--plan'", hint="phasesync syncs approve --help"),
    Wrong(
        line="syncs show nope",
        code=5,
        message="there is no sync nope; there is: off, soon, web",
        hint="phasesync syncs list",
    ),
    Wrong(
        line="syncs remove web",
        code=2,
        message="this needs a confirmation: remove the sync web and its log; the AWS secrets stay",
        hint="add --yes",
    ),
    Wrong(
        line="syncs plan nope",
        code=5,
        message="there is no sync nope; there is: off, soon, web",
        hint="phasesync syncs list",
    ),
    Wrong(line="runs show 0123", code=5, message="there is no run 0123", hint="phasesync runs list"),
    Wrong(
        line="runs list --outcome good",
        code=2,
        message="'good' is not an outcome",
        hint="outcomes: unchanged, applied, held, refused, failed, unknown, interrupted",
    ),
    Wrong(
        line="runs list --since 1w",
        code=2,
        message="invalid value for '--since': '1w' is neither a duration, such as 90s, 15m, 1h or 7d, nor an instant with an offset, such as 2026-01-31T09:00:00Z",
        hint="phasesync runs list --help",
    ),
    Wrong(
        line="runs list --limit=-1",
        code=2,
        message="invalid value for '--limit': -1 is less than 0",
        hint="phasesync runs list --help",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 1h",
        code=2,
        message="missing option '--max-ttl'",
        hint="phasesync dynamic add --help",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 8h --max-ttl 1h",
        code=2,
        message="--default-ttl 8h is longer than --max-ttl 1h",
        hint="--default-ttl 1h or shorter, or --max-ttl 8h or longer",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 1s --max-ttl 1h",
        code=2,
        message="--default-ttl 1s is too short: the shortest life is 1m",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 1h --max-ttl 8h --issuer gcp",
        code=2,
        message="'gcp' is not an issuer",
        hint="issuers: aws-iam-user, aws-assume-role",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 1h --max-ttl 8h --inline-policy nope.json",
        code=2,
        message="nope.json cannot be read: No such file or directory",
    ),
    Wrong(
        line="dynamic add d --env shop/prod --credential host --default-ttl 1h --max-ttl 8h --key-map user=X",
        code=2,
        message="there is no output 'user' to rename",
        hint="outputs: username, access_key_id, secret_access_key",
    ),
    Wrong(
        line="dynamic update ci", code=2, message="there is nothing to change", hint="phasesync dynamic update --help"
    ),
    Wrong(
        line="leases issue nope",
        code=5,
        message="there is no dynamic secret nope; there is: ci",
        hint="phasesync dynamic list",
    ),
    Wrong(line="leases issue ci --ttl 1s", code=2, message="1s is too short: leases of aws-iam-user live 1m at least"),
    Wrong(
        line="leases issue ci --ttl 9d",
        code=2,
        message="9d is longer than leases of ci may live: 8h",
        hint="a shorter --ttl, or phasesync dynamic update ci --max-ttl 9d",
    ),
    Wrong(line="leases show nope", code=5, message="there is no lease nope", hint="phasesync leases list --all"),
    Wrong(
        line="leases renew nope --ttl 1h", code=5, message="there is no lease nope", hint="phasesync leases list --all"
    ),
    Wrong(line="leases revoke nope", code=5, message="there is no lease nope", hint="phasesync leases list --all"),
    Wrong(line="run --env shop/prod", code=2, message="missing argument 'COMMAND...'", hint="phasesync run --help"),
    Wrong(
        line="run --env shop/prod -- no-such-program", code=127, message="no-such-program: No such file or directory"
    ),
    Wrong(
        line="run --env shop/nope -- true",
        code=5,
        message="there is no environment shop/nope; shop has: prod",
        hint="phasesync envs list; to make it: phasesync envs add shop/nope",
    ),
    Wrong(
        line="aws policy",
        code=2,
        message="say what the policy is for, with exactly one of: a sync, --dynamic NAME, --all, --starter sync|dynamic, "
        "--root-key, --backups s3://BUCKET/PREFIX",
        hint="phasesync syncs list; phasesync dynamic list",
    ),
    Wrong(
        line="aws policy nope",
        code=5,
        message="there is no sync nope; there is: off, soon, web",
        hint="phasesync syncs list",
    ),
    Wrong(
        line="aws policy web --starter sync",
        code=2,
        message="say what the policy is for, with exactly one of: a sync, --dynamic NAME, --all, --starter sync|dynamic, "
        "--root-key, --backups s3://BUCKET/PREFIX",
        hint="phasesync syncs list; phasesync dynamic list",
    ),
    Wrong(line="aws trust-policy host", code=2, message="the credential host is ambient and assumes no role"),
    Wrong(
        line="aws list-secrets --credential nope",
        code=5,
        message="there is no credential nope",
        hint="phasesync credentials list",
    ),
    Wrong(
        line="aws force-delete web --credential host",
        code=5,
        message="there is no secret web in eu-west-1",
        hint="phasesync aws list-secrets --credential host",
    ),
    Wrong(
        line="db restore nope.db",
        code=5,
        message="there is no backup at nope.db",
        hint="phasesync db backup FILE makes one",
    ),
    Wrong(
        line="db backup /nope/x.db",
        code=6,
        message="the backup cannot be written to /nope/x.db: No such file or directory",
        hint="name a file in a folder that exists and that you may write to",
    ),
    Wrong(
        line="db accept-restore",
        code=2,
        message="this needs a confirmation: write what this database holds over what is at AWS, newer or not",
        hint="add --yes",
    ),
    Wrong(
        line="status --probe",
        code=7,
        message=f"the daemon at 127.0.0.1:{PORT} cannot be reached: nothing listens there",
        hint="phasesync daemon starts one; http.listen in the settings says where it listens",
    ),
    Wrong(
        line="apps list -o yaml",
        code=2,
        message="invalid value for '-o' / '--output': 'yaml' is not one of 'table', 'json'",
        hint="phasesync apps list --help",
    ),
    Wrong(line="apps list extra", code=2, message="there are too many arguments", hint="phasesync apps list --help"),
    Wrong(
        line="--config nope.toml apps list",
        code=6,
        message="the settings file nope.toml cannot be read: No such file or directory",
        hint="--config or PHASESYNC_CONFIG names it; without both, usual places are looked at",
    ),
]


def test_each_wrong_input_ends_as_the_table_says_and_changes_nothing(
    ci: CommandLine, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(ci)
    before = state(ci)

    with port_that_refuses() as port:
        monkeypatch.setenv("PHASESYNC_HTTP__LISTEN", f"127.0.0.1:{port}")
        found = [told(ci, one, port=port) for one in INPUTS]

    assert [one for one, wanted in zip(found, INPUTS, strict=True) if one != wanted] == []
    assert state(ci) == before


def test_the_table_is_long_enough_and_covers_every_group() -> None:
    assert len(INPUTS) >= 60
    groups = {
        "apps",
        "envs",
        "secrets",
        "credentials",
        "syncs",
        "runs",
        "dynamic",
        "leases",
        "run",
        "aws",
        "db",
        "status",
    }
    assert {one.line.split()[0] for one in INPUTS} >= groups


def test_every_command_that_a_hint_names_exists() -> None:
    named = [(one.line, line) for one in INPUTS if one.hint for line in commands_in(one.hint)]
    assert len(named) > 40
    assert [f"{typed}: {line}" for typed, line in named if wrong_with(line) is not None] == []


def told(ci: CommandLine, one: Wrong, *, port: int) -> Wrong:
    """Type a line; return it with what came of it."""
    done = ci(*shlex.split(one.line), stdin=one.stdin)
    said = {name: text for name, _, text in (line.partition(": ") for line in done.stderr.splitlines())}
    assert done.stdout == "", "what is wrong is on stderr"
    return Wrong(
        line=one.line,
        stdin=one.stdin,
        code=done.exit_code,
        message=said.get("error", "").replace(f"127.0.0.1:{port} ", f"127.0.0.1:{PORT} "),
        hint=said.get("hint"),
    )


def prepare(ci: CommandLine) -> None:
    """Have something of everything: keys, a paused sync, and one with a credential that has no role yet."""
    ci.done("secrets", "import", "shop/prod", "-", "--yes", stdin="URL=postgres://db\nUSER=shop\n")
    ci.done("credentials", "add", "later", "--type", "assume-role", "--region", "eu-central-1")
    for name, credential, *more in (("web", "host"), ("off", "host"), ("soon", "later", "--no-verify")):
        where = ("--env", "shop/prod", "--credential", credential, "--secret-name", name)
        ci.done("syncs", "add", name, *where, *more)
    ci.done("syncs", "pause", "off", "--reason", "a migration")


def state(ci: CommandLine) -> list[list[dict[str, object]]]:
    """Everything that could have been changed, as the lists print it."""
    nouns = (
        ("apps",),
        ("envs",),
        ("secrets", "shop/prod"),
        ("credentials",),
        ("syncs",),
        ("dynamic",),
        ("leases",),
        ("runs",),
    )
    listed = [ci.items(noun, "list", *more) for noun, *more in nouns]
    for one in listed[3]:
        del one["verified_at"]  # A credential that was asked for AWS's answer may have a newer one.
    return listed
