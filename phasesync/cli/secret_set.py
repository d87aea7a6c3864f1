"""
`phasesync secrets set`: one key or several, in one revision. No value is taken from an argument.

A word after the first key may be a value that was typed by mistake. Without a `-` it is a key only if the key is set
already, or if it is in capitals with an underscore, as names of variables are and values hardly ever.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from phasesync.cli.documents import secret_document
from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.input import no_input_option, read_value, read_values, to_value
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DURATION, WRITTEN_KEY, Word, environment_argument, path_option, value_as_argument
from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.names import check_key, normalise_path
from phasesync.core.reference_syntax import malformed_references
from phasesync.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
STDIN: Final = "-"


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """The keys of a command line, and whether their values come from stdin."""

    keys: tuple[str, ...]
    from_stdin: bool


def _keys(_context: click.Context, _parameter: click.Parameter, words: tuple[str, ...]) -> _Keys:
    """
    Read `KEY`, `KEY -`, `KEY - KEY -` or `KEY KEY`.

    Raises:
        InvalidInputError: a value was typed; it is not repeated.
    """
    from_stdin = STDIN in words
    if from_stdin and (len(words) % 2 or set(words[1::2]) != {STDIN} or STDIN in words[::2]):
        raise value_as_argument()
    typed = words[::2] if from_stdin else words
    keys = tuple(WRITTEN_KEY.convert(word, None, None) for word in typed)
    if len(set(keys)) < len(keys):
        raise InvalidInputError("a key is named twice", hint="give each key once")
    return _Keys(keys=keys, from_stdin=from_stdin)


@click.command("set")
@environment_argument
@click.argument("words", nargs=-1, required=True, metavar="KEY [-]...", callback=_keys)
@path_option
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the value from a file, byte for byte: a final newline is kept, CR too. Of stdin one newline is dropped. "
    "Default: a prompt, or stdin with -.",
)
@click.option(
    "--null",
    is_flag=True,
    help="Values on stdin end with a NUL character instead of a line end, so that they may have several lines.",
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
    words: _Keys,
    path: str,
    from_file: Path | None,
    null: bool,
    allow_empty: bool,
    type_: ValueType,
    comment: str | None,
    wait: bool,
    timeout: timedelta,
    no_input: bool,
    out: Output,
) -> None:
    """
    Set a secret, or several in one revision. Values come from prompts, from stdin (-) or from a file, never from
    arguments.

    Of stdin one final newline is dropped: of CR LF the CR stays. A file is read byte for byte. At the prompt you
    can paste several lines. Several keys with - take one line of stdin each, in their order.

    \b
    Examples:
      phasesync secrets set shop/production DB_PASSWORD
      pass show db | phasesync secrets set shop/production DB_PASSWORD -
      phasesync secrets set shop/production TLS_KEY --from-file key.pem
      phasesync secrets set shop/production DB_USER DB_PASSWORD
      printf '%s\\n' "$user" "$password" | phasesync secrets set shop/production DB_USER - DB_PASSWORD -
    """
    keys, several = words.keys, len(words.keys) > 1
    if several and from_file is not None:
        raise InvalidInputError(
            "--from-file is for one key", hint="one command a key, or a file of all: secrets import APP/ENV FILE"
        )
    if null and not words.from_stdin:
        raise InvalidInputError("--null is for values from stdin", hint="give - after each key")
    # First what can be refused: an operator should not type a value for an environment that does not exist.
    application.store.secrets.check_editable(*environment)
    if several and not words.from_stdin:
        _refuse_typed_values(application, environment, path, keys[1:])
    for key in keys:
        check_new_key(application, environment, path, key, out)
    if words.from_stdin and (several or null):
        if from_file is not None:
            raise InvalidInputError("take the value from stdin or from a file, not from both")
        data = read_values(keys, null=null, allow_empty=allow_empty)
    else:
        data = [
            read_value(
                key=key,
                from_stdin=words.from_stdin,
                from_file=from_file,
                no_input=no_input,
                allow_empty=allow_empty,
            )
            for key in keys
        ]
    values = [_value_of(key, each, type_, named=several) for key, each in zip(keys, data, strict=True)]
    for key, value in zip(keys, values, strict=True):
        _warn_of(key, value, out)
    write_secrets(application, environment, path, keys, values, comment=comment, origin="set", done="set", out=out)
    if wait and not is_dry_run():
        _wait_for_readers(application, environment, timeout, out)


def _refuse_typed_values(
    application: "Application", environment: tuple[str, str], path: str, words: Sequence[str]
) -> None:
    """Refuse words that are probably values. InvalidInputError; it does not repeat them."""
    unlike = {word for word in words if not _VARIABLE.fullmatch(word)}
    if unlike and unlike - {each.key for each in application.store.secrets.list_secrets(*environment, path=path)}:
        raise value_as_argument()


def _value_of(key: str, data: bytes, type_: ValueType, *, named: bool) -> SecretValue:
    """Return the value of some bytes. InvalidInputError, which names the key if there are several."""
    try:
        return to_value(data, type_)
    except InvalidInputError as error:
        if not named:
            raise
        raise InvalidInputError(f"{key}: {error.message}", hint=error.hint) from None


def _warn_of(key: str, value: SecretValue, out: Output) -> None:
    if value.type is not ValueType.TEXT:
        return
    data = value.reveal()
    if data.endswith((b"\r", b"\n")) and b"\n" not in data.rstrip(b"\r\n"):
        out.warn(f"{key} is one line, and the line end after it is kept")
    for reference in malformed_references(value.reveal_text()):
        out.warn(f"{reference} is not a reference that resolves; write $${{ if a literal ${{ is meant")


def check_new_key(application: "Application", environment: tuple[str, str], path: str, key: str, out: Output) -> None:
    """
    Refuse a key that the rule for names forbids, and warn of one that looks like a folder, unless it was set before.

    Raises:
        InvalidInputError: of the name.
    """
    with suppress(NotFoundError):
        application.store.secrets.get_secret(*environment, path, key)
        return
    check_key(key)
    warn_of_slash("/".join(environment), path, key, out)


def warn_of_slash(label: str, path: str, key: str, out: Output) -> None:
    """Warn of a new key with a slash in its name: probably its folder was meant, which a sync of that folder reads."""
    folder, _, name = key.rpartition("/")
    if not folder and not key.startswith("/"):
        return
    said = f"{key} is the name of a key in the folder {path}, with the slash in it"
    with suppress(InvalidInputError):
        meant = normalise_path(f"{'' if path == '/' else path}/{folder.strip('/')}")
        if name and meant != path:
            said += (
                f"; for the key {name} in the folder {meant}: secrets set {label} {shlex.quote(name)} --path {meant}"
            )
    out.warn(said)


def write_secret(
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
    write_secrets(application, environment, path, [key], [value], comment=comment, origin=origin, done=done, out=out)


def write_secrets(
    application: "Application",
    environment: tuple[str, str],
    path: str,
    keys: Sequence[str],
    values: Sequence[SecretValue],
    *,
    comment: str | None,
    origin: str,
    done: str,
    out: Output,
) -> None:
    """Commit keys as one revision and print their new versions."""
    writes = [
        SecretWrite(path=path, key=key, value=value, comment=comment) for key, value in zip(keys, values, strict=True)
    ]
    edited = application.store.secrets.edit(*environment, actor=invocation().actor, origin=origin, writes=writes)
    place = place_of(edited.label, path)
    if len(keys) == 1:
        now = application.store.secrets.get_secret(*environment, path, keys[0])
        out.done(
            f"{place}: {keys[0]} {done} (version {now.version}, revision {edited.revision})",
            {"env": edited.label, "revision": edited.revision} | secret_document(now),
        )
        return
    listed = {each.key: each for each in application.store.secrets.list_secrets(*environment, path=path)}
    items = [secret_document(listed[key]) for key in keys if key in listed]
    out.done(
        f"{place}: {', '.join(keys)} {done} (revision {edited.revision})",
        {"env": edited.label, "revision": edited.revision, "items": items, "next": None},
    )


def place_of(label: str, path: str) -> str:
    """Return an environment, with the folder if it is not the usual one."""
    return label if path == "/" else f"{label} {path}"


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
