"""`phasesync audit`: who did what."""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phasesync.cli.input import read_file
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import MOMENT, Words, comma_list, comma_list_or_empty
from phasesync.core.audit import AuditHead, AuditKind
from phasesync.core.counted import counted
from phasesync.errors import IllegalTransitionError, InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.audit import AuditRow

COLUMNS = ["number", "at", "actor", "source", "action", "object", "outcome"]
_KINDS = [kind.value for kind in AuditKind]
_EXPORT = "audit.export"
_LONGEST_STATE = 200
"""Bytes."""


class _Head(click.ParamType[AuditHead]):
    """A head of the chain, `NUMBER:DIGEST`."""

    name = "head"

    def convert(self, value: str | AuditHead, param: click.Parameter | None, ctx: click.Context | None) -> AuditHead:
        return value if isinstance(value, AuditHead) else AuditHead.parse(value)


_HEAD = _Head()


@click.group()
def audit() -> None:
    """The audit log: who did what to which object, when, and how it ended. Each row is chained to the one before."""


_since_option = click.option(
    "--since",
    type=MOMENT,
    metavar="INSTANT|DURATION",
    help="Only rows since: an RFC 3339 instant, or a time ago such as 24h. Default: all.",
)


@audit.command("list")
@_since_option
@click.option(
    "--until",
    type=MOMENT,
    metavar="INSTANT|DURATION",
    help="Only rows before: an RFC 3339 instant, or a time ago such as 1h. Default: until now.",
)
@click.option(
    "--actor",
    metavar="NAME",
    help="Only what this user of the system did, or whoever claimed this name with --actor; or exactly 'USER as NAME'. "
    "Default: all.",
)
@click.option(
    "--object",
    "object_",
    metavar="NAME",
    help="Only what was done to this object, or to what lies in it: shop is also shop/production. Default: all.",
)
@click.option(
    "--action",
    "actions",
    multiple=True,
    callback=comma_list,
    metavar="ACTIONS",
    help="Only these actions, such as secret.reveal. Repeat it, or separate several with commas. Default: all.",
)
@click.option(
    "--kind",
    "kinds",
    type=Words(_KINDS),
    multiple=True,
    callback=comma_list,
    metavar="KIND,...",
    help=f"Only these kinds: {', '.join(_KINDS)}. Repeat it, or separate several with commas. Default: all.",
)
@paging_options("rows", limit=50)
@output_option
@with_application
def list_(
    application: "Application",
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    actor: str | None,
    object_: str | None,
    actions: tuple[str, ...],
    kinds: tuple[str, ...],
    paging: Paging,
    out: Output,
) -> None:
    """
    List who did what, newest first. With -o json also names of keys and other details, which are stored encrypted.

    \b
    Examples:
      phasesync audit list --since 24h --object shop/production
      phasesync audit list --action secret.reveal,secret.export --actor ada -o json
    """
    from phasesync.cli.documents import audit_document
    from phasesync.store.audit import AuditFilter

    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        raise InvalidInputError(f"{unknown[0]!r} is not a kind", hint=f"kinds: {', '.join(_KINDS)}")
    which = AuditFilter(
        since=_instant(application, since),
        until=_instant(application, until),
        actor=actor,
        object=object_,
        actions=actions,
        kinds=[AuditKind(kind) for kind in kinds],
    )
    altered: list[int] = []

    def to_item(row: "AuditRow") -> dict[str, object]:
        if row.altered:
            altered.append(row.number)
        return audit_document(row, details=True)

    show_list(
        out,
        paging,
        lambda after, limit: application.store.audit.page(which, after=after, limit=limit),
        to_item,
        COLUMNS,
        empty="there are no such rows",
    )
    if altered:
        out.warn(f"row {altered[0]} is not what was written: phasesync audit verify")


@audit.command()
@click.option(
    "--head",
    "heads",
    multiple=True,
    callback=comma_list_or_empty,
    metavar="HEADS",
    help="A head that was kept elsewhere, as the daemon logs it each hour: finds a tail that was cut off. Repeat it, "
    "or separate several with commas. Default: none.",
)
@output_option
@with_application
def verify(application: "Application", heads: tuple[str, ...], out: Output) -> int:
    """
    Verify the whole chain. Names each row that was removed, altered, reordered or inserted, and exits 1.

    Somebody who can write to the database and has no key cannot forge a row, but can put back an older copy. Only a
    head from the daemon's log, or from a former verification, shows that: give it with --head.

    \b
    Examples:
      phasesync audit verify
      phasesync audit verify --head 4711:0f3a5c0d9b1e4f7a8c2d6e5b4a3f2e1d
    """
    from phasesync.cli.documents import verification_document

    verified = application.store.audit.verify([AuditHead.parse(head) for head in heads])
    for note in verified.notes:
        out.note(note)
    document = verification_document(verified)
    if out.as_json:
        out.document(document)
    else:
        for finding in verified.findings:
            click.echo(f"{finding.tampering.value:<9}  {finding.message}")
        out.item({name: value for name, value in document.items() if name not in ("findings", "notes")})
    if not verified.findings:
        out.say(f"the chain of {counted(verified.rows, 'row')} is whole" if verified.rows else "there is no row yet")
        return 0
    count = "1 thing is" if len(verified.findings) == 1 else f"{len(verified.findings)} things are"
    out.warn(f"{count} wrong with the audit log: somebody changed it outside phasesync, or put an older copy back")
    return 1


@audit.command()
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl"]),
    default="jsonl",
    show_default=True,
    help="One JSON document on each line.",
)
@_since_option
@click.option(
    "--after",
    type=_HEAD,
    metavar="NUMBER:DIGEST",
    help='Go on after this row: "head" of the last line that arrived. Default: the beginning.',
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Go on after the row that this file names, and write the last row to it at the end. Default: none.",
)
@click.option(
    "--details",
    is_flag=True,
    help="Also the details, with names of keys and of AWS secrets, which are encrypted in the database.",
)
@output_option
@with_application
def export(
    application: "Application",
    format_: str,
    since: datetime | timedelta | None,
    after: AuditHead | None,
    state: Path | None,
    details: bool,
    out: Output,
) -> None:
    """
    Print rows, oldest first, one JSON document on each line whatever -o says: for a SIEM.

    With --state, repeat it as often as you like: each row arrives at least once, and twice only if a run was cut off.
    If the row where it goes on is not the one that it was, the log was cut off or an older copy put back, and nothing
    is printed.

    \b
    Examples:
      phasesync audit export --format jsonl --since 2026-01-01T00:00:00Z > audit.jsonl
      phasesync audit export --state /var/lib/phasesync/siem.state >> /var/log/phasesync/audit.jsonl
    """
    from phasesync.cli.documents import audit_document
    from phasesync.cli.replaced_file import check_writable, replace_file
    from phasesync.core.pages import each_page
    from phasesync.store.audit import AuditFilter

    store = application.store.audit
    if state is not None:
        check_writable(state)  # Before anything is printed, or each repetition would print everything.
        # Read in any case: the name may be that of another file, which is not to be replaced.
        before = _read_state(state)
        after = after or before
    if after is not None:
        _check_place(application, after)
    which = AuditFilter(since=_instant(application, since))
    last, count, noted = after, 0, False
    begin = None if after is None else str(after.number)
    for page in each_page(
        lambda cursor, limit: store.page(which, after=cursor, limit=limit, oldest_first=True), after=begin
    ):
        shown = [row for row in page.items if row.entry is not None]
        if not noted and any(row.entry is not None and row.entry.action != _EXPORT for row in shown):
            # Before anything is printed. An export of nothing but former exports is not worth a row.
            noted = True
            store.add(_EXPORT, "audit", kind=AuditKind.ACCESS, details={"after": None if after is None else str(after)})
        for row in shown:
            out.line(audit_document(row, details=details))
        # Not a row that somebody inserted behind all others: what is written from now on stands before it.
        last = next((row.head for row in reversed(page.items) if not row.altered), last)
        count += len(shown)
    sys.stdout.flush()
    if state is not None and last is not None and last != after:
        replace_file(state, f"{last}\n".encode(), mode=0o600)
    out.say(f"exported {counted(count, 'row')}" + ("" if last is None else f"; to go on: --after {last}"))


def _instant(application: "Application", moment: datetime | timedelta | None) -> datetime | None:
    return application.context.clock.now() - moment if isinstance(moment, timedelta) else moment


def _read_state(state: Path) -> AuditHead | None:
    """Return the row that a file names; None if there is no such file yet."""
    if not os.path.lexists(state):
        return None
    content = read_file(state, _LONGEST_STATE).decode("ascii", "replace")
    try:
        return AuditHead.parse(content)
    except InvalidInputError:
        # Its content is not repeated: the name may be that of another file, with a key in it.
        raise InvalidInputError(
            f"{state} is not a file that audit export --state has written",
            hint="correct the name; if it is that file and was damaged, remove it, and give --after or begin anew",
        ) from None


def _check_place(application: "Application", after: AuditHead) -> None:
    """Raise an error unless the log has a row as it was when it was exported."""
    there = application.store.audit.head_of(after.number)
    if there == after:
        return
    verified = f"phasesync audit verify --head {after}"
    if there is None:
        newest = application.store.audit.head()
        if newest is not None and newest.number > after.number:
            return  # Retention has removed it meanwhile.
        raise IllegalTransitionError(
            f"there is no row {after.number}, after which the export goes on: the log was cut off, or an older copy of "
            "the database was put back",
            hint=f"find out what happened: {verified}; then begin anew without --after and --state",
        )
    raise IllegalTransitionError(
        f"row {after.number} is not the one that was exported: the log was cut off and written anew",
        hint=f"find out what happened: {verified}; then begin anew without --after and --state",
    )
