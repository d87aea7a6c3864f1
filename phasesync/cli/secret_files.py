"""`phasesync secrets import` and `export`: whole folders as files."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.formats import (
    Format,
    WrittenFormat,
    format_of,
    misreaders,
    note_lines,
    read_entries,
    write,
)
from phasesync.cli.input import MAX_BYTES, confirm, confirmation_options, read_file, read_stdin
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import NEW_KEY, REGION, Name, Word, environment_argument, path_option
from phasesync.cli.reveals import note_reveal
from phasesync.cli.streams import json_text, write_values
from phasesync.core.counted import counted
from phasesync.core.dotenv import BASH, PYTHON, READERS, runs_in_shells
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.secret_json import FileEntry, as_literal, export_json, literal_value, split_json
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.engine.import_values import ImportPlan

MAX_JSON_BYTES = 64 * MAX_BYTES
"""Enough to import the export of any folder."""
_SHOWN = 10


@click.command("import")
@environment_argument
@click.argument("file", metavar="FILE|-", required=False)
@path_option
@click.option("--from-aws", metavar="ID", help="Name or ARN of an AWS secret, in place of a file. Default: none.")
@click.option(
    "--credential",
    type=Name("credential"),
    help="With --from-aws, which needs it: credential that reads the AWS secret. No default.",
)
@click.option("--region", type=REGION, help="With --from-aws: AWS Region. Default: the credential's.")
@click.option(
    "--key", type=NEW_KEY, help="With --from-aws: key for a value that is no JSON object, which needs one. No default."
)
@click.option(
    "--format",
    "format_",
    type=Word(Format),
    help="Format of the file. Default: json for names that end in .json, else dotenv.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse a dotenv file with duplicates, cut values, or forms on which its readers disagree.",
)
@click.option("--prune", is_flag=True, help="Remove keys of the folder that the file does not have.")
@click.option("--allow-empty", is_flag=True, help="Accept a file without keys, with --prune too, and a null in JSON.")
@confirmation_options
@output_option
@with_application
@dry_run_option
def import_(
    application: "Application",
    environment: tuple[str, str],
    file: str | None,
    path: str,
    from_aws: str | None,
    credential: str | None,
    region: str | None,
    key: str | None,
    format_: Format | None,
    strict: bool,
    prune: bool,
    allow_empty: bool,
    yes: bool,
    no_input: bool,
    out: Output,
) -> None:
    """
    Set every key of a file, in one revision. Other keys stay; a key without a comment in the file keeps its comment.

    A ${ in the file is literal, except in objects that secrets export --format json wrote: these keep references, types
    and comments exactly. dotenv is read as python-dotenv reads it. A note says if a comment cut a value, if a key
    occurs twice, or if bash, node, npm dotenv or docker compose would read something else.

    \b
    Examples:
      phasesync secrets import shop/production .env
      phasesync secrets import shop/production secrets.json --path /db --prune
      vault kv get -format=json kv/shop | jq .data.data | phasesync secrets import shop/production - --format json --yes
      phasesync secrets import shop/production --from-aws shop/production --credential aws
    """
    from phasesync.engine.import_values import apply_import, check_not_emptied, plan_import

    folder = {secret.key: secret for secret in application.store.secrets.list_secrets(*environment, path=path)}
    if from_aws is not None and file is not None:
        raise InvalidInputError("a file and --from-aws exclude each other")
    if from_aws is not None:
        entries = _from_aws(application, from_aws, credential, region, key, out)
    elif file is not None:
        # Stdin may be the file. Then it cannot hold the answer to a question, and --yes is needed.
        entries = _read_file(file, format_ or format_of(file), allow_null=allow_empty, strict=strict, out=out)
    else:
        raise InvalidInputError("name a file, or give --from-aws", hint="phasesync secrets import --help")
    plan = plan_import(entries, folder, prune=prune)
    label, source = f"{'/'.join(environment)} {path}", from_aws or ("stdin" if file == "-" else str(file))
    if not allow_empty:
        check_not_emptied(plan, source=source, folder=label)
    if not plan.entries:
        out.warn(f"{source} has no keys: nothing is imported")
    if plan.emptied:
        more = f" and {len(plan.emptied) - _SHOWN} more" if len(plan.emptied) > _SHOWN else ""
        out.warn(f"empty in the file, and so in the store: {', '.join(plan.emptied[:_SHOWN])}{more}")
    if plan.changes_anything:
        confirm(_question(plan, label), yes=yes, no_input=no_input)
    if is_dry_run() and not out.as_json:
        for sign, keys in (("+", plan.added), ("~", plan.changed), ("-", plan.removed)):
            for name in keys:
                click.echo(f"{sign} {name}")
    edited = apply_import(application.store.secrets, environment, path, plan, actor=invocation().actor)
    out.done(
        f"{edited.label} {path}: {len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed, "
        f"{plan.unchanged} unchanged (revision {edited.revision})",
        {
            "env": edited.label,
            "path": path,
            "revision": edited.revision,
            "added": list(plan.added),
            "changed": list(plan.changed),
            "removed": list(plan.removed),
            "unchanged": plan.unchanged,
        },
    )


def _question(plan: "ImportPlan", folder: str) -> str:
    question = f"import into {folder}: {len(plan.added)} new keys, {len(plan.changed)} changed"
    if plan.removed:
        question += f", {len(plan.removed)} removed ({', '.join(plan.removed)})"
    return question


def _from_aws(
    application: "Application",
    remote_name: str,
    credential: str | None,
    region: str | None,
    key: str | None,
    out: Output,
) -> dict[str, FileEntry]:
    """Read an AWS secret: the members of a JSON object, or the whole value under a key."""
    from phasesync.cli.output import show_identity
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER
    from phasesync.engine.error_hints import hints_about
    from phasesync.engine.import_values import read_remote

    if credential is None:
        raise InvalidInputError("--from-aws needs --credential", hint="phasesync credentials list")
    with hints_about(credential):
        read = read_remote(
            application.context,
            kind=AWS_SECRETS_MANAGER,
            credential=credential,
            region=region,
            remote_name=remote_name,
        )
    show_identity(application, application.store.credentials.get(credential), out)
    if read.warning is not None:
        out.warn(read.warning)
    values = split_json(read.value) if key is None else {key: as_literal(read.value)}
    return {name: FileEntry(value=value) for name, value in values.items()}


def _read_file(file: str, format_: Format, *, allow_null: bool, strict: bool, out: Output) -> dict[str, FileEntry]:
    limit = MAX_JSON_BYTES if format_ is Format.JSON else MAX_BYTES
    data = read_stdin(limit) if file == "-" else read_file(Path(file), limit)
    entries = read_entries(data, format_, allow_null=allow_null)
    for line in note_lines(entries.notes):
        out.note(line)
    if strict and entries.notes:
        raise InvalidInputError(
            f"--strict: {counted(len(entries.notes), 'place')} of the file can be read in more than one way, so "
            "nothing is imported",
            hint="write them as secrets export does, or leave --strict out: the notes say what is read",
        )
    return entries.by_key


@click.command()
@environment_argument
@path_option
@click.option(
    "--format",
    "format_",
    type=Word(WrittenFormat),
    help="Format to write. Default: dotenv; json with -o json. shell: lines export KEY='value', exact for sh and bash.",
)
@click.option("--resolve", is_flag=True, help="What AWS gets: references resolved, $${ as ${. Without types, comments.")
@output_option
@with_application
def export(
    application: "Application",
    environment: tuple[str, str],
    path: str,
    format_: WrittenFormat | None,
    resolve: bool,
    out: Output,
) -> None:
    """
    Print the values of a folder, byte for byte.

    JSON keeps types, comments and references, and import restores them exactly. A value that a plain member cannot hold
    is an object with "phasesync:type", "value" and "comment". dotenv and shell hold literal text; a warning names what
    they cannot hold. dotenv is quoted so that python-dotenv, bash, node, npm dotenv and docker compose read the same
    value. If no quoting does that, a warning names the key and the readers that read it.

    \b
    Examples:
      phasesync secrets export shop/production --format json > production.json
      phasesync secrets export shop/production --resolve > .env
      eval "$(phasesync secrets export shop/production --resolve --format shell)"
    """
    format_ = format_ or (WrittenFormat.JSON if out.as_json else WrittenFormat.DOTENV)
    secrets = application.store.secrets.list_secrets(*environment, path=path)
    entries = {
        secret.key: FileEntry(value=secret.value, comment=secret.comment)
        for secret in secrets
        if secret.value is not None
    }
    if format_ is WrittenFormat.JSON and not resolve:
        text = export_json(entries)
    else:
        values = _resolved(application, environment, path, format_, out) if resolve else _literal_values(entries, out)
        text = write(values, format_)
        if format_ is WrittenFormat.DOTENV:
            _warn_of_misreaders(values, out)
    if format_ is WrittenFormat.JSON and sys.stdout.isatty():
        text = json_text(text)
    note_reveal(application, "secret.export", environment, path, entries)
    write_values(text, hint="redirect it, or add --format json")


def _resolved(
    application: "Application", environment: tuple[str, str], path: str, format_: WrittenFormat, out: Output
) -> Mapping[str, SecretValue]:
    """Return what a sync of the folder would write. UnresolvedReferenceError names the key."""
    from phasesync.engine.source import read_folder

    source = read_folder(application.store.secrets, *environment, path)
    if (unresolved := source.error()) is not None:
        raise unresolved
    for key, value in sorted(source.values.items()):
        if value.type is ValueType.BINARY and format_ is not WrittenFormat.JSON:
            out.warn(f"{key} is binary and is exported as base64")
    return source.values


def _literal_values(entries: Mapping[str, FileEntry], out: Output) -> dict[str, SecretValue]:
    """Return values as dotenv can hold them, and warn of what it cannot hold."""
    values, lost = {}, []
    for key, entry in sorted(entries.items()):
        value = literal_value(entry.value)
        if value is None:
            lost.append(f"{key} has ${{ in it: secrets import would take that literally")
        if entry.value.type is ValueType.BINARY:
            lost.append(f"{key} is binary and is exported as base64")
        elif entry.value.type is ValueType.JSON:
            lost.append(f"{key} is of type json and is exported as text")
        if entry.comment:
            lost.append(f"{key} has a comment, which is left out")
        values[key] = entry.value if value is None else value
    for line in lost:
        out.warn(line)
    if lost:
        out.say("hint: --format json keeps references, types and comments; --resolve prints what AWS gets")
    return values


def _warn_of_misreaders(values: Mapping[str, SecretValue], out: Output) -> None:
    """Warn of keys for which no quoting suits every reader of dotenv, and say which readers are right."""
    misread = misreaders(values)
    # Every reader but python-dotenv takes what is in single quotes as it is.
    replaced = [key for key, readers in misread.items() if readers == (PYTHON,)]
    for key, readers in misread.items():
        if key in replaced:
            continue
        rest = [reader for reader in READERS if reader not in readers]
        exact = (
            f"{', '.join(rest)} read{'s' if len(rest) == 1 else ''} it exactly" if rest else "nothing reads it exactly"
        )
        out.warn(f"{key}: no quoting serves all who read dotenv; as it is written, {exact}, {', '.join(readers)} not")
    if running := [
        key for key, readers in misread.items() if BASH in readers and runs_in_shells(values[key].reveal_text())
    ]:
        out.warn(f"{', '.join(running)}: a shell that sources this file would run a part of the value")
    if replaced:
        out.note(f"{', '.join(replaced)}: python-dotenv replaces ${{…}} in any quotes, unless with interpolate=False")
    if len(misread) > len(replaced):
        out.say(
            "hint: they come last, since a reader that misreads one may misread the next; --format shell is exact for "
            "sh and bash, and --format json for all"
        )
