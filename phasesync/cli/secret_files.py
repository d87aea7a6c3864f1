"""`phasesync secrets import` and `export`: whole folders as files."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.formats import Format, format_of, read, write
from phasesync.cli.input import confirm, confirmation_options, read_file, read_stdin
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import KEY, Name, Word, environment_argument, path_option
from phasesync.core.foreign_values import members_of, whole_of
from phasesync.core.model import SecretValue, ValueType
from phasesync.errors import InvalidInputError
from phasesync.ports import SecretWrite

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


@click.command("import")
@environment_argument
@click.argument("file", metavar="FILE|-", required=False)
@path_option
@click.option("--from-aws", metavar="ID", help="Name or ARN of an AWS secret, in place of a file.")
@click.option("--credential", type=Name("credential"), help="With --from-aws: how to reach AWS.")
@click.option("--region", help="With --from-aws: AWS Region. Default: the credential's.")
@click.option("--key", type=KEY, help="With --from-aws: name for a value that is no JSON object.")
@click.option(
    "--format",
    "format_",
    type=Word(Format),
    help="Default: json for names that end in .json, else dotenv.",
)
@click.option("--prune", is_flag=True, help="Remove keys of the folder that the file does not have.")
@confirmation_options
@output_option
@with_application
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
    prune: bool,
    yes: bool,
    no_input: bool,
    out: Output,
) -> None:
    """
    Set every key of a file, in one revision; other keys stay. A ${ in the file is literal.

    \b
    Examples:
      phasesync secrets import shop/production .env
      phasesync secrets import shop/production secrets.json --path /db --prune
      vault kv get -format=json kv/shop | jq .data.data | phasesync secrets import shop/production - --format json --yes
      phasesync secrets import shop/production --from-aws shop/production --credential aws
    """
    store = application.environments
    before = {secret.key: secret for secret in store.list_secrets(*environment, path=path)}
    if from_aws is not None and file is not None:
        raise InvalidInputError("a file and --from-aws exclude each other")
    if from_aws is not None:
        values = _from_aws(application, from_aws, credential, region, key, out)
    elif file is not None:
        # Stdin may be the file: then nobody can answer, and --yes is needed for what asks.
        values = read(read_stdin() if file == "-" else read_file(Path(file)), format_ or format_of(file))
    else:
        raise InvalidInputError("name a file, or give --from-aws", hint="phasesync secrets import --help")

    added = sorted(values.keys() - before.keys())
    changed = sorted(key for key in values.keys() & before.keys() if before[key].value != values[key])
    removed = sorted(before.keys() - values.keys()) if prune else []
    if added or changed or removed:
        question = f"import into {'/'.join(environment)} {path}: {len(added)} new keys, {len(changed)} changed"
        if removed:
            question += f", {len(removed)} removed ({', '.join(removed)})"
        confirm(question, yes=yes, no_input=no_input)

    edited = store.edit(
        *environment,
        actor=invocation().actor,
        origin="import",
        writes=[SecretWrite(path=path, key=key, value=values[key]) for key in [*added, *changed]],
        unsets=[(path, key) for key in removed],
    )
    unchanged = len(values) - len(added) - len(changed)
    out.done(
        f"{edited.label} {path}: {len(added)} added, {len(changed)} changed, {len(removed)} removed, "
        f"{unchanged} unchanged (revision {edited.revision})",
        {
            "env": edited.label,
            "path": path,
            "revision": edited.revision,
            "added": added,
            "changed": changed,
            "removed": removed,
            "unchanged": unchanged,
        },
    )


def _from_aws(
    application: "Application",
    remote_name: str,
    credential: str | None,
    region: str | None,
    key: str | None,
    out: Output,
) -> dict[str, SecretValue]:
    """Read an AWS secret: the members of a JSON object, or the whole value under a key."""
    from phasesync.cli.identity import tell_identity
    from phasesync.cli.syncs import AWS_SECRETS_MANAGER
    from phasesync.engine.importing import read_remote

    if credential is None:
        raise InvalidInputError("--from-aws needs --credential", hint="phasesync credentials list")
    value = read_remote(
        application.destinations,
        application.credentials,
        kind=AWS_SECRETS_MANAGER,
        credential=credential,
        region=region,
        remote_name=remote_name,
    )
    tell_identity(application, application.credentials.get(credential), out)
    return members_of(value) if key is None else {key: whole_of(value)}


@click.command()
@environment_argument
@path_option
@click.option("--format", "format_", type=Word(Format), help="Default: dotenv; json with -o json.")
@output_option
@with_application
def export(
    application: "Application", environment: tuple[str, str], path: str, format_: Format | None, out: Output
) -> None:
    """
    Print the values of a folder as they were entered. References are not resolved, and an import takes them literally.

    \b
    Example:
      phasesync secrets export shop/production > production.env
    """
    found = application.environments.list_secrets(*environment, path=path)
    values = {secret.key: secret.value for secret in found if secret.value is not None}
    for key, value in sorted(values.items()):
        if value.type is ValueType.BINARY:
            out.warn(f"{key} is binary and is exported as base64")
        elif "${" in value.reveal_text():
            out.warn(f"{key} has ${{ in it: secrets import would take that literally")
    click.echo(write(values, format_ or (Format.JSON if out.as_json else Format.DOTENV)), nl=False)
