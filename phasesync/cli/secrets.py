"""
`phasesync secrets`: the secrets of an environment, and their former versions.

Setting values is in `secret_set.py`, the editor in `secret_edit.py`, and files of whole folders in `secret_files.py`.
"""

import secrets as randomness
import string
import sys
from typing import TYPE_CHECKING

import click

from phasesync.cli.documents import secret_document, value_document
from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import (
    KEY,
    PATH,
    environment_argument,
    key_argument,
    path_option,
    written_key_argument,
)
from phasesync.cli.reveals import note_reveal
from phasesync.cli.secret_edit import edit
from phasesync.cli.secret_files import export, import_
from phasesync.cli.secret_set import check_new_key, place_of, set_, write_secret
from phasesync.cli.streams import write_values
from phasesync.core.model import SecretValue, ValueType
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
    write_secret(
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


for command in (history, rollback, import_, export, set_, edit):
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
    check_new_key(application, environment, path, key, out)
    value = SecretValue("".join(randomness.choice(_ALPHABET) for _ in range(length)))
    write_secret(
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
    note_reveal(application, "secret.reveal", environment, path, [key])
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
@click.argument("keys", type=KEY, nargs=-1, required=True, metavar="KEY...")
@path_option
@output_option
@with_application
@dry_run_option
def unset(
    application: "Application", environment: tuple[str, str], keys: tuple[str, ...], path: str, out: Output
) -> None:
    """
    Remove keys from an environment, in one revision. Their history stays: rollback brings one back.

    \b
    Examples:
      phasesync secrets unset shop/production OLD_TOKEN
      phasesync secrets unset shop/production OLD_USER OLD_PASSWORD
    """
    distinct = tuple(dict.fromkeys(keys))
    edited = application.store.secrets.edit(
        *environment, actor=invocation().actor, origin="unset", unsets=[(path, key) for key in distinct]
    )
    document: dict[str, object] = {"env": edited.label, "path": path}
    if len(distinct) == 1:
        document["key"] = distinct[0]
    else:
        document |= {"items": [{"key": key} for key in distinct], "next": None}
    out.done(
        f"{place_of(edited.label, path)}: unset {', '.join(distinct)} (revision {edited.revision})",
        document | {"revision": edited.revision},
    )
