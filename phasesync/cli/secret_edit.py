"""`phasesync secrets edit`: a folder of secrets in the operator's editor."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.input import MAX_BYTES, ask_yes, confirm, confirmation_options, is_terminal
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import environment_argument, path_option
from phasesync.cli.reveals import note_reveal
from phasesync.core.counted import counted
from phasesync.errors import IllegalTransitionError, InvalidInputError, OperatorError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.folder_changes import Entries
    from phasesync.engine.folder_edits import Folder, StoredEdit

_FILE: Final = "secrets.env"
_MAX_FILE_BYTES: Final = 64 * MAX_BYTES
_SHOWN: Final = 20


@click.command(short_help="Edit the secrets of a folder in an editor.")
@environment_argument
@path_option
@confirmation_options
@output_option
@with_application
@dry_run_option
def edit(
    application: "Application", environment: tuple[str, str], path: str, yes: bool, no_input: bool, out: Output
) -> None:
    """
    Edit all secrets of a folder in $VISUAL or $EDITOR, and store what changed as one revision.

    The values stand as they were entered, KEY=value on each line, in a file that exists in memory only and is wiped at
    the end. A removed line unsets its key. If many keys lose their values, that is asked first. Edits of others
    meanwhile are kept; if they changed the same keys, nothing is stored.

    An editor with a window has to wait until the file is closed: EDITOR='code --wait'. It may keep copies on the disk.

    \b
    Examples:
      phasesync secrets edit shop/production
      EDITOR=nano phasesync secrets edit shop/production --path /db
    """
    from phasesync.cli.private_file import private_file
    from phasesync.core.folder_text import text_of_entries
    from phasesync.daemon.hardening import harden
    from phasesync.engine.folder_edits import read_for_edit

    application.store.secrets.check_editable(*environment)
    for problem in harden():
        out.warn(problem)
    before = read_for_edit(application.store, *environment, path)
    text = text_of_entries(before.entries, _head(before))
    note_reveal(application, "secret.reveal", environment, path, before.entries)
    with private_file(_FILE, text.encode()) as file:
        stored = _edit_until_stored(application, before, file, yes=yes, no_input=no_input, out=out)
    changes, edited = stored.changes, stored.environment
    counts = f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed"
    out.done(
        f"{edited.label} {path}: {counts}, {changes.unchanged} unchanged (revision {edited.revision})"
        if changes
        else f"{edited.label} {path}: nothing was changed",
        {
            "env": edited.label,
            "path": path,
            "revision": edited.revision,
            "added": list(changes.added),
            "changed": list(changes.changed),
            "removed": list(changes.removed),
            "unchanged": changes.unchanged,
        },
    )


def _head(folder: "Folder", *more: str) -> list[str]:
    return [
        f"{folder.environment.label} {folder.path}, revision {folder.revision}. Lines that begin with # are ignored.",
        "KEY=value on each line; a removed line unsets its key. What changed is stored when you save and leave.",
        "With a comment: KEY='value'  # what it is for. Its type comes first, if it is not text: # [json] what for.",
        "${OTHER_KEY} is a reference; a literal ${ is $${ .",
        *more,
    ]


def _edit_until_stored(
    application: "Application", before: "Folder", file: Path, *, yes: bool, no_input: bool, out: Output
) -> "StoredEdit":
    """Run the editor, again if somebody at the terminal wants to correct what was wrong. What was typed stays."""
    from phasesync.cli.editor import run_editor
    from phasesync.core.folder_text import text_of_entries
    from phasesync.engine.folder_edits import StoredEdit, store_edit

    while True:
        run_editor(file)
        rebased: tuple[Folder, str] | None = None
        try:
            after = _read(file, before)
            _confirm_losses(before, after, yes=yes, no_input=no_input)
            edited = store_edit(application.store, before, after, actor=invocation().actor)
            if isinstance(edited, StoredEdit):
                _warn_of(before, after, out)
                return edited
            conflicts = ", ".join(edited.merged.conflicts[:_SHOWN])
            more = len(edited.merged.conflicts) - _SHOWN
            both = f"{conflicts} and {more} more" if more > 0 else conflicts
            note = f"Somebody else changed these keys meanwhile: {both}. Here they are as you typed them."
            rebased = edited.now, text_of_entries(edited.merged.entries, _head(edited.now, "", note))
            raise IllegalTransitionError(
                f"somebody else changed the same keys meanwhile: {both}; nothing was stored",
                hint=f"look at them: phasesync secrets history {before.environment.label} KEY",
            )
        except PhasesyncError as error:
            if no_input or not is_terminal():
                raise
            out.say(f"error: {error.message}")
            if error.hint:
                out.say(f"hint: {error.hint}")
        if not ask_yes("edit again, with what you typed"):
            raise OperatorError("discarded; nothing was changed")
        if rebased is not None:
            before = rebased[0]
            file.write_bytes(rebased[1].encode())


def _read(file: Path, before: "Folder") -> "Entries":
    """Return what the operator left in the file. InvalidInputError."""
    from phasesync.cli.private_file import read_private
    from phasesync.core.folder_text import entries_of_text

    data = read_private(file, _MAX_FILE_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInputError(f"line {line} is not UTF-8 text", hint="have the editor save as UTF-8") from None
    return entries_of_text(text, before.entries)


def _confirm_losses(before: "Folder", after: "Entries", *, yes: bool, no_input: bool) -> None:
    """Ask before an edit that is probably a mistake. ConfirmationRequiredError, OperatorError."""
    from phasesync.core.folder_changes import losses_to_confirm

    if lost := losses_to_confirm(before.entries, after):
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        of = counted(len(before.entries), "key")
        what = f"{len(lost)} of {of} lose their values: {', '.join(lost[:_SHOWN])}{more}"
        confirm(f"store it although {what}", yes=yes, no_input=no_input)


def _warn_of(folder: "Folder", after: "Entries", out: Output) -> None:
    """Warn of new values with what looks like a reference and is none, and of new keys that look like a folder."""
    from phasesync.cli.secret_set import warn_of_slash
    from phasesync.core.model import ValueType
    from phasesync.core.reference_syntax import malformed_references

    before = folder.entries
    for key, entry in after.items():
        if key not in before:
            warn_of_slash(folder.environment.label, folder.path, key, out)
        if entry.value.type is not ValueType.TEXT or (key in before and before[key].value == entry.value):
            continue
        for reference in malformed_references(entry.value.reveal_text()):
            out.warn(f"{key}: {reference} is not a reference that resolves; write $${{ if a literal ${{ is meant")
