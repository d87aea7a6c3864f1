"""`phasesync keys`: the root key, which wraps the keys that encrypt the store."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DURATION, comma_list
from phasesync.core.counted import counted
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.bootstrap.root_key_changes import RootKeyChange

_KINDS = ("file", "age", "environment", "systemd-credential", "aws-kms")


@click.command("status")
@output_option
@with_application
def status(application: "Application", out: Output) -> None:
    """
    Show which root key is in use and where it is kept, former ones, and how many data keys there are. While the root
    key is being replaced: how far it is, and which daemon lacks the next one. And whether data keys that were replaced
    are still there.

    \b
    Example:
      phasesync keys status
    """
    from phasesync.engine.root_key_rotation import daemons_without, root_keys_in_use

    known, store = root_keys_in_use(application.context), application.store
    roots = [root for root in (known.next, known.current, *known.former) if root is not None]
    for root in roots:
        if not root.authentic:
            out.warn(f"the row of the root key {root.id} was altered outside phasesync")
    lacking = [] if known.next is None else daemons_without(application.context, known.next.id)
    items = []
    for root in roots:
        kind, source = store.keys.place_of(root.id) or (root.kind, None)
        items.append(
            {
                "id": root.id,
                "status": root.status,
                "kind": kind,
                "source": source,
                "kms_key": root.wrapped_by,
                "since": root.since,
                "data_keys": root.data_keys,
            }
        )
    data_keys = [
        {"purpose": one.purpose, "count": one.count, "oldest_at": one.oldest_at} for one in store.root_keys.data_keys()
    ]
    former = len(store.data_keys.former())
    if former:
        keys = "1 data key that was replaced is" if former == 1 else f"{former:,} data keys that were replaced are"
        out.warn(
            f"{keys} still there: a rotation was interrupted, or somebody put a row back. To end that: phasesync "
            "keys rotate-data"
        )
    if out.as_json:
        out.document(
            {
                "root_keys": items,
                "replacing": known.next is not None or known.left > 0,
                "left_to_wrap": known.left,
                "lacking": [
                    {"host": one.host, "pid": one.pid, "release": one.release, "says": one.root_keys is not None}
                    for one in lacking
                ],
                "data_keys": data_keys,
                "former_data_keys": former,
            }
        )
        return
    out.items(items, ["id", "status", "kind", "source", "since", "data_keys"])
    out.items(data_keys, ["purpose", "count", "oldest_at"])
    if known.next is not None:
        if known.next.kind == "aws-kms":
            what = f"the rotation to the root key {known.next.id} was cut off; AWS KMS makes another one in its place"
        else:
            missing = ", ".join(f"{one.host} (process {one.pid})" for one in lacking)
            where = f"it is missing on {missing}" if lacking else "every daemon has it"
            what = f"the root key {known.next.id} is to take its place; {where}"
        out.note(f"{what}; to go on: phasesync keys rotate-root")
    elif known.left:
        out.note(f"{counted(known.left, 'data key')} still to be wrapped anew; to go on: phasesync keys rotate-root")


@click.command("rotate-root", short_help="Replace the root key, while daemons work.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(_KINDS),
    help="Where the next root key is kept. Default: as the present one, or at the KMS key that the settings name.",
)
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="age1…",
    callback=comma_list,
    help="Public key of age that opens the next root key too, beside the identities of age_identity_file, if it is an "
    "age file. Repeat it, or separate several with commas. Default: those identities alone; refused if the present "
    "file has other recipients.",
)
@click.option(
    "--wait",
    type=DURATION,
    default="1m",
    show_default=True,
    help="How long to wait for daemons that do not have the next root key yet.",
)
@output_option
@dry_run_flag
@with_application
def rotate_root(
    application: "Application",
    kind: str | None,
    recipients: Sequence[str],
    wait: timedelta,
    dry_run: bool,
    out: Output,
) -> None:
    """
    Replace the root key: the old and the new one work side by side until every data key is wrapped by the new one. From
    then on the old one is refused.

    Daemons and commands go on working. A new key file is made beside the present one, as FILE.next, and takes its place
    at the end; the former one is kept as FILE.former-ID, for backups from before. Interrupted, repeat it: it goes on.
    Values, data keys and AWS are not touched. Several hosts, and other places than files: docs/keys.md.

    \b
    Examples:
      phasesync keys rotate-root
      phasesync keys rotate-root --to aws-kms
    """
    from phasesync.bootstrap.root_key_changes import rotate_root as rotate

    if dry_run:
        _show_rotation(application, kind, recipients, out)
        return
    report = (lambda _: None) if out.as_json else out.say
    change = rotate(application, kind=kind, recipients=recipients, wait=wait, report=report)
    for line in change.to_do:
        out.note(line)
    rotated = change.rotated
    message = (
        f"the root key {change.current} was in use already, and is in its place now: {change.source}"
        if rotated is None
        else f"the root key is {change.current} now ({change.source}); {rotated.former} is refused from now on"
    )
    out.done(message, _change_document(change))


def _change_document(change: "RootKeyChange") -> dict[str, Any]:
    rotated = change.rotated
    return {
        "root_key_id": change.current,
        "source": change.source,
        "former_id": None if rotated is None else rotated.former,
        "former_kept": None if change.kept is None else str(change.kept),
        "data_keys": 0 if rotated is None else rotated.data_keys,
        "went_on": rotated is not None and rotated.went_on,
        "to_do": list(change.to_do),
    }


def _show_rotation(application: "Application", kind: str | None, recipients: Sequence[str], out: Output) -> None:
    from phasesync.bootstrap.root_key_changes import (
        check_next,
        next_kind,
        placed_by_hand,
        recipients_left_out,
        waits_for_its_place,
    )
    from phasesync.engine.root_key_rotation import daemons_without, root_keys_in_use

    known = root_keys_in_use(application.context)
    to = next_kind(application, known, kind)
    new = check_next(application, known, to, recipients)
    if waits_for_its_place(application, known):
        message = f"would put the file of the root key {known.current.id}, which is in use, in its place"
        show_dry_run(out, message, {"current": known.current.id, "next": None, "kind": None, "data_keys": 0})
        return
    count = known.left or known.current.data_keys
    if known.left:
        message = f"would go on: {counted(count, 'data key')} still to be wrapped under {known.current.id}"
    else:
        named = "the next root key" if new is None else f"the root key {new}"
        message = (
            f"would put {named} ({to}) in the place of {known.current.id}, and wrap {counted(count, 'data key')} anew"
        )
    lacking = [] if new is None else [one.host for one in daemons_without(application.context, new)]
    if lacking and not out.as_json:
        out.say(f"it would wait for daemons that lack it: {', '.join(lacking)}")
    if (by_hand := placed_by_hand(application.settings, to)) is not None:
        out.note(by_hand)
    if (left_out := recipients_left_out(application, known, recipients)) is not None:
        out.note(left_out)
    show_dry_run(
        out,
        message,
        {"current": known.current.id, "next": new, "kind": to, "data_keys": count, "lacking": lacking},
    )


@click.command("escrow", short_help="Encrypt the root key to recovery keys, or prove that one recovers it.")
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="age1…",
    callback=comma_list,
    help="Public key of age that may recover the root key; each is enough by itself. Repeat it, or separate several "
    "with commas. No default: give one, or --verify.",
)
@click.option(
    "--verify",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file that this command printed: recover the root key from it, and open this database with it alone. "
    "Default: print one.",
)
@click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --verify: the file with the age identity of one of the recipients. No default.",
)
@output_option
@dry_run_flag
def escrow(recipients: Sequence[str], file: Path | None, identity: Path | None, dry_run: bool, out: Output) -> None:
    """
    Print the root key, encrypted to recovery keys, so that it is not lost with its host: an age file in text form.

    Keep it apart from the backups, and the identities apart from both. Afterwards prove with --verify that it can be
    recovered: where the identity is, or on a host that has it for a moment.

    \b
    Examples:
      phasesync keys escrow --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p > root-key.age
      phasesync keys escrow --verify root-key.age --identity /media/recovery/identity.txt
    """
    settings = invocation().settings().settings
    if (file is None) == (not recipients) or (file is None) != (identity is None):
        raise InvalidInputError(
            "either --recipient, or --verify with --identity",
            hint="phasesync keys escrow --help has an example of each",
        )
    if file is not None and identity is not None:
        from phasesync.bootstrap.escrow import verify_escrow

        recovered = verify_escrow(settings, file, identity)
        out.done(
            f"{file} holds the root key {recovered}, which opens every data key of this database",
            {"root_key_id": recovered, "file": str(file)},
        )
        return
    _print_escrow(recipients, out, dry_run=dry_run)


@with_application
def _print_escrow(application: "Application", recipients: Sequence[str], out: Output, *, dry_run: bool) -> None:
    from phasesync.bootstrap.escrow import escrow_root_key
    from phasesync.core.audit import AuditKind

    made = escrow_root_key(application, recipients)
    count = counted(len(recipients), "recipient")
    if dry_run:
        message = f"would print the root key {made.root_key_id}, encrypted to {count}"
        show_dry_run(out, message, {"root_key_id": made.root_key_id, "recipients": list(recipients)})
        return
    # Before it is shown: whoever reads it has the root key, as soon as they have a recovery key.
    application.store.audit.add(
        "key.escrow", made.root_key_id, kind=AuditKind.ACCESS, details={"recipients": list(recipients)}
    )
    if not out.as_json:
        click.echo(made.text, nl=False)
    out.done(
        f"the root key {made.root_key_id} is encrypted to {count}, and is printed this once. Prove that it can be "
        "recovered: phasesync keys escrow --verify FILE --identity FILE",
        {"root_key_id": made.root_key_id, "recipients": list(recipients), "escrow": made.text},
    )
