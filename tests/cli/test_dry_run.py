"""
`--dry-run`: every command that writes has it, changes nothing with it, here or at AWS, and says what it would do.

One installation serves all commands, since none of them changes it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from _pytest.mark import ParameterSet

from phasesync.cli.main import cli
from phasesync.core.lease_users import TAG_LEASE
from phasesync.emulator import Answer, AwsEmulator, Operation
from tests.cli.conftest import LIVES, POLICY, CommandLine
from tests.cli.test_help import leaves
from tests.support.aws import REGION, Aws, environ_of, move_to
from tests.support.stores import write_root_key

PROGRAMS = {"demo", "sandbox", "daemon"}
"""They run until they are stopped."""

READING = {
    *(
        "status",
        "metrics",
        "diff",
        "dump",
        "schema",
        "apps list",
        "envs list",
        "envs requests",
        "runs list",
        "runs show",
    ),
    *("audit list", "audit verify", "audit export"),
    *("secrets list", "secrets get", "secrets history", "secrets export"),
    *("credentials list", "credentials show", "dynamic list", "dynamic show", "leases list", "leases show"),
    *("notifications list", "notifications show"),
    *("syncs list", "syncs show", "syncs plan", "syncs wait", "syncs why", "syncs verify"),
    "keys status",
    *("aws policy", "aws trust-policy", "aws list-secrets", "db status", "db verify", "db drill", "completion"),
}
"""They change nothing, in the store or at AWS."""

COMMANDS = {" ".join(path): context.command for path, context in leaves(cli, click.Context(cli), ())}


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - READING - PROGRAMS))
def test_every_command_that_writes_has_a_dry_run(name: str) -> None:
    """One that only reads is on the list above."""
    assert "--dry-run" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


def test_the_lists_name_commands_that_exist_and_have_no_dry_run() -> None:
    assert COMMANDS.keys() >= PROGRAMS | READING
    with_one = {name for name, command in COMMANDS.items() if "dry_run" in {one.name for one in command.params}}
    assert not with_one & (PROGRAMS | READING)


# --- nothing is changed

SECRET = "postgres://hidden"
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
"""A public key from the documentation of age."""
POLICY_ARN = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


@dataclass(frozen=True)
class Filled:
    """An installation with something of everything, and the AWS that it writes to."""

    phasesync: CommandLine
    aws: Aws
    words: dict[str, str]

    @property
    def folder(self) -> Path:
        """The data directory."""
        return self.phasesync.directory / "data"

    def rows(self) -> dict[str, list[Any]]:
        """Return table -> its rows, of all but daemons, and of the audit log all but that somebody was shown values."""
        with closing(sqlite3.connect(self.folder / "phasesync.db")) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            connection.row_factory = sqlite3.Row
            tables = {
                name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')]
                for name in names
                if name not in ("daemons", "audit_head")
            }
        tables["audit"] = [row for row in tables["audit"] if row["kind"] != "reveal"]
        return {name: sorted(map(repr, rows)) for name, rows in tables.items()}

    def can_be_written(self) -> bool:
        """Return whether another process could write to the database now."""
        with closing(sqlite3.connect(self.folder / "phasesync.db", timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    def files(self) -> set[str]:
        """Return the names of what is in the data directory, without SQLite's own logs."""
        return {file.name for file in self.folder.iterdir() if not file.name.endswith(("-wal", "-shm"))}


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite_template: Path) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("filled")
    (folder / "data").mkdir(mode=0o700)
    shutil.copyfile(migrated_sqlite_template, folder / "data" / "phasesync.db")
    (folder / "data" / "phasesync.db").chmod(0o600)
    write_root_key(folder / "root.key")
    with AwsEmulator(throttling=False) as server:
        server.reset()  # moto's accounts are those of the whole process.
        keys = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "x" * 40}
        aws, phasesync = Aws(server=server, environ=environ_of(server.url) | keys), CommandLine(folder)
        with pytest.MonkeyPatch.context() as patch:
            _move_to(folder, aws, patch)
            words = _fill(phasesync, aws)
        yield Filled(phasesync, aws, words)


@pytest.fixture
def filled(filled_once: Filled, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """The one installation of this module, in the environment of a test."""
    _move_to(filled_once.phasesync.directory, filled_once.aws, monkeypatch)
    return filled_once


def _move_to(folder: Path, aws: Aws, patch: pytest.MonkeyPatch) -> None:
    move_to(aws.environ, patch)
    patch.setenv("HOME", str(folder))
    patch.setenv("PHASESYNC_DATA_DIR", str(folder / "data"))
    patch.setenv("PHASESYNC_ROOT_KEY_FILE", str(folder / "root.key"))
    patch.setenv("EDITOR", "sed -i s/KEY_1=1/KEY_1=2/")
    patch.delenv("VISUAL", raising=False)


def _fill(phasesync: CommandLine, aws: Aws) -> dict[str, str]:
    """Make something of everything; return the words that commands need."""
    do, folder = phasesync.done, phasesync.directory
    do("init")
    for app in ("shop", "empty"):
        do("apps", "add", app)
    for environment in ("prod", "stage", "old"):
        do("envs", "add", f"shop/{environment}")
    do("credentials", "add", "host", "--type", "ambient", "--region", REGION)
    do("credentials", "add", "spare", "--type", "ambient", "--region", REGION)
    do("secrets", "import", "shop/prod", "-", "--yes", stdin=f"URL={SECRET}\nUSER=shop\n")
    do("secrets", "set", "shop/prod", "USER", "-", stdin="web")
    do("secrets", "import", "shop/stage", "-", "--yes", stdin="\n".join(f"KEY_{n}={n}" for n in range(10)))

    boto = aws.boto("secretsmanager")
    boto.create_secret(Name="shop/theirs", SecretString=json.dumps({"URL": "theirs", "PORT": "1"}))
    boto.create_secret(Name="shop/USER", SecretString="theirs", Tags=[{"Key": "team", "Value": "other"}])
    for name, environment, *names in (
        ("web", "shop/prod", "--name-template", "shop/{key}", "--adopt", "overwrite", "--tag", "team=shop"),
        ("stage", "shop/stage", "--secret-name", "shop/stage"),
        ("idle", "shop/prod", "--secret-name", "shop/idle"),
        ("theirs", "shop/prod", "--secret-name", "shop/theirs"),
    ):
        do("syncs", "add", name, "--env", environment, "--credential", "host", *names)
    for name in ("web", "stage", "idle"):
        do("syncs", "run", name)
    do("syncs", "pause", "idle")
    do("secrets", "import", "shop/stage", "-", "--prune", "--yes", stdin="KEY_1=1\n")
    held = phasesync.json("syncs", "plan", "stage")["digest"]
    assert held is not None

    (folder / "policy.json").write_text(POLICY)
    recipe = (
        "--credential",
        "host",
        *LIVES,
        "--policy-arn",
        POLICY_ARN,
        "--inline-policy",
        str(folder / "policy.json"),
    )
    do("dynamic", "add", "ci", "--env", "shop/prod", *recipe)
    others = "username=OLD_USER,access_key_id=OLD_ID,secret_access_key=OLD_KEY"
    do("dynamic", "add", "old", "--env", "shop/old", "--credential", "spare", *LIVES, "--key-map", others)
    do("notifications", "add", "ops", "--to", "mailto:ops@example.com")
    lease = phasesync.json("leases", "issue", "ci", "--no-probe")["id"]
    do("leases", "issue", "old", "--no-probe")
    _leave_a_user(phasesync, aws)

    (folder / "new.env").write_text(f"URL={SECRET}/2\nPORT=5432\n")
    (folder / "project.yaml").write_text("apiVersion: phasesync/v1\nkind: Project\nname: more\napps:\n  - name: more\n")
    do("db", "backup", str(folder / "backup.db"))
    do("db", "backup", str(folder / "used.db"))
    do("secrets", "generate", "shop/old", "LATER")
    do("envs", "add", "shop/guarded")
    do("envs", "update", "shop/guarded", "--protect")
    asked = phasesync("--actor", "ada", "secrets", "set", "shop/guarded", "KEY", "-", "-o", "json", stdin=SECRET)
    request = json.loads(asked.stdout)["digest"]
    return {"LEASE": lease, "DIGEST": held, "FOLDER": str(folder), "REQUEST": request}


def _leave_a_user(phasesync: CommandLine, aws: Aws) -> None:
    """Have a user at AWS whose lease is over."""
    iam = aws.boto("iam")
    issued = phasesync.json("leases", "issue", "ci", "--no-probe")
    name = issued["principal"].rpartition("/")[2]
    user = iam.get_user(UserName=name)["User"]
    phasesync.done("leases", "revoke", issued["id"])
    iam.create_user(UserName="left", Path=user["Path"], Tags=user["Tags"])
    assert TAG_LEASE in {tag["Key"] for tag in user["Tags"]}


ADD_SYNC = ("--env", "shop/prod", "--credential", "host", "--secret-name")

CASES: list[tuple[str, str, int]] = [
    # (command, what it says, exit code)
    ("init", "everything is there already", 0),
    ("apps add new", "added the app new", 0),
    ("apps update shop --name store", "nothing was changed", 0),
    ("apps remove empty", "removed the app empty", 0),
    ("apps remove shop", "environments", 4),
    ("envs add shop/new", "shop/new", 0),
    ("envs update shop/prod --name live", "nothing was changed", 0),
    ("envs clone shop/stage copy", "shop/copy", 0),
    ("envs remove shop/old --revoke", "iam:DeleteUser", 0),
    ("envs update shop/guarded --no-protect", "somebody else has to approve it first", 0),
    ("envs remove shop/guarded", "somebody else has to approve it first", 0),
    ("envs approve shop/guarded --plan REQUEST", "carried out: add KEY (text)", 0),
    ("envs reject shop/guarded --plan REQUEST", "rejected REQUEST", 0),
    ("secrets set shop/prod URL -", "~ URL = ***", 0),
    ("secrets set shop/prod NEW -", "create          shop/NEW", 0),
    ("secrets set shop/prod URL - NEW -", "create          shop/NEW", 0),
    ("secrets edit shop/stage", "~ KEY_1 = ***", 0),
    ("secrets unset shop/prod URL", "nothing was changed", 0),
    ("secrets generate shop/prod TOKEN", "create          shop/TOKEN", 0),
    ("secrets rollback shop/prod USER --to 1", "put             shop/USER", 0),
    ("secrets import shop/prod FOLDER/new.env --prune", "- USER", 0),
    ("secrets import shop/prod --from-aws shop/theirs --credential host", "+ PORT", 0),
    ("credentials add aws --type assume-role --region eu-west-1", "its External ID would be a new random one", 0),
    ("credentials update host --region eu-west-2", "updated the credential host", 0),
    ("credentials remove spare --revoke", "it would ask first: remove the credential spare and the dynamic", 0),
    ("credentials remove spare --revoke --yes", "iam:DeleteAccessKey", 0),
    ("credentials remove spare", "old", 4),
    ("credentials rename host aws", "aws", 0),
    ("credentials test host", "AWS accepts the credential host", 0),
    (f"dynamic add more --env shop/stage --credential host {' '.join(LIVES)}", "added the dynamic secret more", 0),
    ("dynamic update ci --max-leases 3", "updated the dynamic secret ci", 0),
    ("dynamic rename ci cd", "cd", 0),
    ("dynamic remove ci --revoke", "iam:DetachUserPolicy", 0),
    ("dynamic remove ci", "live", 4),
    ("notifications add more --to mailto:ops@example.com", "added the notification more", 0),
    ("notifications add hook --to https://hooks.example.com/secret", "added the notification hook", 0),
    ("notifications update ops --after 30m", "updated the notification ops", 0),
    ("notifications test ops", "one message would be sent to mailto:ops@example.com", 0),
    ("notifications remove ops", "it would ask first: remove the notification ops", 0),
    ("leases issue ci", "iam:CreateUser", 0),
    ("leases issue ci --keep", "would issue a lease of ci", 0),
    ("leases issue ci --ttl 9h", "longer than leases of ci may live", 2),
    ("leases renew LEASE --ttl 2h", "iam:TagUser", 0),
    ("leases renew LEASE --ttl 9h", "at the latest", 4),
    ("leases revoke LEASE", "iam:DetachUserPolicy", 0),
    ("leases reap", "would remove 1 of 1", 0),
    ("run --env shop/prod --dynamic ci -- true", "AWS_SECRET_ACCESS_KEY", 0),
    ("run --env shop/prod -- touch FOLDER/data/started", "URL", 0),
    ("aws force-delete shop/URL --credential host", "would delete shop/URL for good", 0),
    ("aws force-delete shop/theirs --credential host", "is not deleted", 4),
    (f"syncs add more {' '.join(ADD_SYNC)} shop/more", "create          shop/more", 0),
    (f"syncs add more {' '.join(ADD_SYNC)} shop/theirs --adopt prefer-aws", "", 4),
    ("syncs update web --description text", "set-description shop/URL", 0),
    ("syncs rename web site", "site", 0),
    ("syncs rename web stage", "stage", 4),
    ("syncs remove web", "retag", 0),
    ("syncs remove web --remote delete", "would schedule the deletion of 2 AWS secrets", 0),
    ("syncs adopt theirs", "shop/theirs", 0),
    ("syncs adopt theirs --import prefer-aws", "imported into shop/prod", 0),
    ("syncs release web", "would give back 2 AWS secrets", 0),
    ("syncs run web", "nothing would change at AWS", 0),
    ("syncs run idle", "is paused", 4),
    ("syncs run --all", "would run", 4),
    ("syncs trigger web --wait", "nothing would change at AWS", 0),
    ("syncs pause web", "paused web", 0),
    ("syncs resume idle", "resumed idle", 0),
    ("syncs approve stage --plan DIGEST", "approved DIGEST", 0),
    ("syncs approve stage --plan 0123456789abcdef", "have the digest DIGEST", 4),
    ("apply -f FOLDER/project.yaml", "more", 0),
    ("keys rotate-root", "would put the next root key (file) in the place of", 0),
    ("keys rotate-root --to aws-kms", "nothing says which KMS key is to encrypt the next root key", 6),
    (f"keys escrow --recipient {RECIPIENT}", "encrypted to 1 recipient", 0),
    ("keys escrow --recipient age1", "recipient 1 is not a public key", 2),
    ("keys rotate-data", "would replace 6 data keys (audit, credentials, shop/guarded, shop/old", 0),
    ("keys rotate-data shop/prod", "would replace 1 data key (shop/prod)", 0),
    ("db migrate", "is at schema", 0),
    ("db backup FOLDER/another.db", "would copy about", 0),
    ("db backup FOLDER/backup.db", "exists already", 4),
    ("db backup --every 6h --to FOLDER/backups", "a backup is made every 6h to FOLDER/backups", 0),
    ("db backup --every off", "there is no schedule of backups", 5),
    ("db restore FOLDER/backup.db", "would replace the database", 0),
    ("db restore FOLDER/new.env", "is not a database", 6),
    ("db copy --to sqlite:///FOLDER/data/copy.db", "would copy the database to", 0),
    ("db copy --to sqlite:///FOLDER/used.db", "in use", 4),
    ("db unretire", "is not retired", 4),
    ("db accept-restore", "accepted: 4 syncs", 0),
    ("rebuild --from-aws --credential host", "this database is in use", 4),
    ("apps add shop", "exists already", 4),
    ("apps remove nothing", "nothing", 5),
]


def test_every_command_with_a_dry_run_is_tried() -> None:
    untried = COMMANDS.keys() - READING - PROGRAMS
    untried -= {name for name in untried if any(f"{line} ".startswith(f"{name} ") for line, *_ in CASES)}
    assert untried == set()


FORMS = [(*case, "table") for case in CASES] + [(*case, "json") for case in CASES[::4]]


def _form(line: str, *more: object) -> ParameterSet:
    """Return the arguments of a test; commands that read values may do so in it."""
    reads = [words for words in ("secrets import --from-aws", "syncs adopt --import") if words.split()[-1] in line]
    return pytest.param(line, *more, id=f"{line} {more[-1]}", marks=[pytest.mark.reads_values(one) for one in reads])


@pytest.mark.parametrize(("line", "said", "exit_code", "form"), [_form(*one) for one in FORMS])
def test_a_dry_run_changes_nothing_here_or_at_aws(
    filled: Filled, line: str, said: str, exit_code: int, form: str
) -> None:
    """And nobody has to wait for it: while AWS answers, others can write to the database."""
    words, rest = _words(filled, line)
    before, files, seen = filled.rows(), filled.files(), len(filled.aws.server.operations)
    locked: list[str] = []
    one_at_a_time = threading.Lock()

    def look(_when: str, operation: Operation) -> Answer | None:
        with one_at_a_time:
            if not filled.can_be_written():
                locked.append(operation.name)
        return None

    filled.aws.server.on_request = look
    try:
        done = filled.phasesync(*words, "--dry-run", "-o", form, *rest, stdin=f"{SECRET}/3\nnew\n")
    finally:
        filled.aws.server.on_request = None

    assert filled.rows() == before
    assert filled.files() == files
    called = {operation.name for operation in filled.aws.server.operations[seen:]}
    assert {name for name in called if not name.startswith(("Describe", "List", "Get"))} == set()
    assert locked == []
    assert done.exit_code == exit_code, done.stderr
    for name, word in filled.words.items():
        said = said.replace(name, word)
    if form == "table":
        assert said in done.stdout + done.stderr
    elif done.stdout:
        assert json.loads(done.stdout)["dry_run"] is True
    assert SECRET not in done.stdout + done.stderr


def _words(filled: Filled, line: str) -> tuple[list[str], list[str]]:
    """Return the words of a command up to where options may stand, and the rest."""
    for name, word in filled.words.items():
        line = line.replace(name, word)
    first, separator, rest = line.partition(" -- ")
    return first.split(), ["--", *rest.split()] if separator else []


def test_a_command_with_several_leases_is_said_to_get_all_of_them(filled: Filled) -> None:
    command = ("run", "--env", "shop/stage", "--dynamic", "ci,old", "--dry-run", "-o", "json", "true")
    said = json.loads(filled.phasesync.done(*command).stdout)["would"]

    assert [lease["dynamic"] for lease in said["leases"]] == ["ci", "old"]
    assert {"KEY_1", "AWS_ACCESS_KEY_ID", "OLD_ID"} <= set(said["variables"])
