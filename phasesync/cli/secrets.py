"""
`phasesync secrets`: the secrets of an environment, one at a time, and their former versions.

Import and export of whole folders are in `secret_files.py`.
"""

import secrets as randomness
import string
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.documents import secret_document, value_document
from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.input import no_input_option, read_value, to_value
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import (
    DURATION,
    PATH,
    Word,
    environment_argument,
    key_argument,
    path_option,
    value_as_argument,
    written_key_argument,
)
from phasesync.cli.secret_files import export, import_
from phasesync.cli.streams import write_values
from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.names import check_key
from phasesync.core.reference_syntax import malformed_references
from phasesync.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


@click.command()
@environment_argument
@key_argument
@path_option
@output_option
@with_application
def history(application: "Application", environment: tuple[str, str], key: str, path: str, out: Output) -> None:
    """
    List every version of a key, newest first. Values stay hidden.

    \b
    Example:
      phasesync secrets history shop/production DB_PASSWORD
    """
    versions = application.store.secrets.history(*environment, path, key)
    out.items(
        map(secret_document, versions),
        ["version", "type", "changed_at", "changed_by", "approved_by", "origin", "comment"],
    )


@click.command()
@environment_argument
@key_argument
@path_option
@click.option(
    "--to",
    "version",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Number of the version, as secrets history shows it.",
)
@output_option
@with_application
@dry_run_option
def rollback(
    application: "Application", environment: tuple[str, str], key: str, path: str, version: int, out: Output
) -> None:
    """
    Set a key to what an earlier version was. This makes a new version.

    \b
    Example:
      phasesync secrets rollback shop/production DB_PASSWORD --to 3
    """
    versions = {secret.version: secret for secret in application.store.secrets.history(*environment, path, key)}
    wanted = versions.get(version)
    if wanted is None or wanted.value is None:
        usable = ", ".join(str(number) for number, secret in sorted(versions.items()) if secret.value is not None)
        raise NotFoundError(
            f"{key} has no value in version {version}; versions with one: {usable}",
            hint=f"phasesync secrets history {'/'.join(environment)} {key} shows them",
        )
    _write_secret(
        application,
        environment,
        path,
        key,
        wanted.value,
        comment=wanted.comment,
        origin="rollback",
        done=f"rolled back to version {version}",
        out=out,
    )


_ALPHABET = string.ascii_letters + string.digits
"""Letters and digits only: they need no quoting anywhere. 32 of them hold 190 bits."""


@click.group()
def secrets() -> None:
    """
    Secrets of an environment.

    \b
    A value may refer to others; a literal ${ is written $${ :
      ${KEY}  ${/path/KEY}  ${env.KEY}  ${env./path/KEY}  ${app::env.KEY}  ${app::env./path/KEY}
    """


for command in (history, rollback, import_, export):
    secrets.add_command(command)


@secrets.command("list")
@environment_argument
@click.option("--path", type=PATH, help="This folder only, exactly. Default: all folders.")
@paging_options("secrets")
@output_option
@with_application
def list_(
    application: "Application", environment: tuple[str, str], path: str | None, paging: Paging, out: Output
) -> None:
    """
    List keys, their versions, who set them and when. Values stay hidden.

    \b
    Example:
      phasesync secrets list shop/production --path /db
    """
    show_list(
        out,
        paging,
        lambda after, limit: application.store.secrets.page_secrets(*environment, path=path, after=after, limit=limit),
        secret_document,
        ["path", "key", "type", "version", "changed_at", "changed_by", "approved_by", "comment"],
        empty=f"there are no secrets: phasesync secrets set {'/'.join(environment)} KEY",
    )


@secrets.command("set")
@environment_argument
@written_key_argument
@click.argument("source", required=False, metavar="[-]")
@click.argument("surplus", nargs=-1, metavar="")
@path_option
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the value from a file, byte for byte: a final newline is kept, CR too. Of stdin one newline is dropped. "
    "Default: a prompt, or stdin with -.",
)
@click.option("--allow-empty", is_flag=True, help="Accept an empty value; AWS accepts none in layout per-key.")
@click.option(
    "--type",
    "type_",
    type=Word(ValueType),
    default=ValueType.TEXT.value,
    show_default=True,
    help="What the value is. A json value is checked, and embedded as JSON in AWS.",
)
@click.option("--comment", metavar="TEXT", help="What it is for. Default: the comment it has.")
@click.option("--wait", is_flag=True, help="Wait until every sync that reads the environment is in sync.")
@click.option(
    "--timeout",
    type=DURATION,
    default="2m",
    show_default=True,
    help="How long to wait for each sync, such as 30s or 5m.",
)
@no_input_option
@output_option
@with_application
@dry_run_option
def set_(
    application: "Application",
    environment: tuple[str, str],
    key: str,
    source: str | None,
    surplus: tuple[str, ...],
    path: str,
    from_file: Path | None,
    allow_empty: bool,
    type_: ValueType,
    comment: str | None,
    wait: bool,
    timeout: timedelta,
    no_input: bool,
    out: Output,
) -> None:
    """
    Set a secret. The value comes from a prompt, from stdin (-) or from a file, never from an argument.

    Of stdin one final newline is dropped: of CR LF the CR stays. A file is read byte for byte. At the prompt you
    can paste several lines.

    \b
    Examples:
      phasesync secrets set shop/production DB_PASSWORD
      pass show db | phasesync secrets set shop/production DB_PASSWORD -
      phasesync secrets set shop/production TLS_KEY --from-file key.pem
    """
    if surplus or source not in {None, "-"}:
        raise value_as_argument()
    # First what can be refused: an operator should not type a value for an environment that does not exist.
    application.store.apps.get_environment(*environment)
    _check_key_to_write(application, environment, path, key)
    data = read_value(
        key=key, from_stdin=source == "-", from_file=from_file, no_input=no_input, allow_empty=allow_empty
    )
    value = to_value(data, type_)
    if type_ is ValueType.TEXT:
        if data.endswith((b"\r", b"\n")) and b"\n" not in data.rstrip(b"\r\n"):
            out.warn(f"{key} is one line, and the line end after it is kept")
        for reference in malformed_references(value.reveal_text()):
            out.warn(f"{reference} is not a reference that resolves; write $${{ if a literal ${{ is meant")
    _write_secret(application, environment, path, key, value, comment=comment, origin="set", done="set", out=out)
    if wait and not is_dry_run():
        _wait_for_readers(application, environment, timeout, out)


@secrets.command()
@environment_argument
@written_key_argument
@path_option
@click.option(
    "--length",
    type=click.IntRange(8, 1024),
    default=32,
    show_default=True,
    help="How many characters, all letters and digits.",
)
@click.option("--comment", metavar="TEXT", help="What it is for. Default: the comment it has.")
@output_option
@with_application
@dry_run_option
def generate(
    application: "Application",
    environment: tuple[str, str],
    key: str,
    path: str,
    length: int,
    comment: str | None,
    out: Output,
) -> None:
    """
    Set a secret to random letters and digits. The value is not shown.

    \b
    Example:
      phasesync secrets generate shop/production SESSION_KEY --length 64
    """
    value = SecretValue("".join(randomness.choice(_ALPHABET) for _ in range(length)))
    _write_secret(
        application, environment, path, key, value, comment=comment, origin="generate", done="generated", out=out
    )


@secrets.command()
@environment_argument
@key_argument
@path_option
@click.option("--reveal", is_flag=True, help="Show the value, as it was entered: references are not resolved.")
@click.option("--resolve", is_flag=True, help="With --reveal: what AWS gets, references resolved, $${ as ${.")
@output_option
@with_application
def get(
    application: "Application",
    environment: tuple[str, str],
    key: str,
    path: str,
    reveal: bool,
    resolve: bool,
    out: Output,
) -> None:
    """
    Show a secret; with --reveal its value and nothing else, byte for byte.

    \b
    Examples:
      phasesync secrets get shop/production DB_PASSWORD --reveal
      phasesync secrets get shop/production DATABASE_URL --reveal --resolve
    """
    if resolve and not reveal:
        raise InvalidInputError("--resolve needs --reveal: it shows a value", hint="add --reveal")
    secret = application.store.secrets.get_secret(*environment, path, key)
    value = secret.value
    if not reveal or value is None:
        out.item(secret_document(secret) | {"value": None if out.as_json else "(hidden; --reveal shows it)"})
        return
    if resolve:
        value = _resolved(application, environment, path, key)
    if out.as_json:
        out.item(secret_document(secret) | value_document(value))
    elif value.type is ValueType.BINARY and sys.stdout.isatty():
        raise InvalidInputError(
            "the value is binary and would disturb the terminal", hint="redirect it, or add -o json"
        )
    else:
        write_values(value.reveal(), hint="redirect it, or add -o json")


def _resolved(application: "Application", environment: tuple[str, str], path: str, key: str) -> SecretValue:
    """Return what a sync would write for one key. UnresolvedReferenceError names the key."""
    from phasesync.core.payloads import canonical_value
    from phasesync.engine.source import read_folder

    source = read_folder(application.store.secrets, *environment, path, only=key)
    if (unresolved := source.error()) is not None:
        raise unresolved
    return canonical_value(key, source.values[key])


@secrets.command()
@environment_argument
@key_argument
@path_option
@output_option
@with_application
@dry_run_option
def unset(application: "Application", environment: tuple[str, str], key: str, path: str, out: Output) -> None:
    """
    Remove a key from an environment. Its history stays: rollback brings it back.

    \b
    Example:
      phasesync secrets unset shop/production OLD_TOKEN
    """
    edited = application.store.secrets.edit(
        *environment, actor=invocation().actor, origin="unset", unsets=[(path, key)]
    )
    out.done(
        f"{edited.label}: unset {key} (revision {edited.revision})",
        {"env": edited.label, "path": path, "key": key, "revision": edited.revision},
    )


def _check_key_to_write(application: "Application", environment: tuple[str, str], path: str, key: str) -> None:
    """Refuse a key that the rule for names forbids, unless it is set already. InvalidInputError."""
    try:
        check_key(key)
    except InvalidInputError as error:
        with suppress(NotFoundError):
            application.store.secrets.get_secret(*environment, path, key)
            return
        raise error from None


def _write_secret(
    application: "Application",
    environment: tuple[str, str],
    path: str,
    key: str,
    value: SecretValue,
    *,
    comment: str | None,
    origin: str,
    done: str,
    out: Output,
) -> None:
    """Commit one key and print its new version."""
    write = SecretWrite(path=path, key=key, value=value, comment=comment)
    edited = application.store.secrets.edit(*environment, actor=invocation().actor, origin=origin, writes=[write])
    now = application.store.secrets.get_secret(*environment, path, key)
    out.done(
        f"{edited.label}: {key} {done} (version {now.version}, revision {edited.revision})",
        {"env": edited.label, "revision": edited.revision} | secret_document(now),
    )


def _wait_for_readers(
    application: "Application", environment: tuple[str, str], timeout: timedelta, out: Output
) -> None:
    """
    Wait until every sync that reads an environment, directly or by a reference, is in sync; paused ones are skipped.

    Raises:
        IllegalTransitionError: one of them is not when the time is over, or waits for a person before.
    """
    from phasesync.core.sync import SyncFilter, SyncStatus

    edited = application.store.apps.get_environment(*environment)
    for sync in application.store.syncs.list_syncs(SyncFilter(environment_id=edited.id)):
        if sync.paused is not None:
            out.say(f"the sync {sync.name} is paused: not waited for")
            continue
        application.operations.wait(sync.name, wanted=SyncStatus.IN_SYNC, timeout=timeout)
        out.say(f"the sync {sync.name} is in sync")
