"""
`phasesync status`: how everything stands, on one screen; with `--probe`, whether the daemon is healthy.

The probe asks the daemon of these settings over its own HTTP address, for health checks of containers. It is quick, and
has few imports.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.daemon_http import Response, ask_daemon
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.core.times import instant_text
from phasesync.errors import UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.lease import Lease
    from phasesync.engine.status_summary import EditedObject, StatusSummary, SyncAttention


WITHIN_S: Final = 4.0
"""Time for the whole probe. What starts it mostly waits for 5 s."""
_MOST_BYTES: Final = 65_536


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of the daemon to /healthz: status code and JSON body."""

    status: int
    detail: dict[str, Any] = field(default_factory=dict)


def probe(host: str, port: int, *, within_s: float = WITHIN_S) -> Answer:
    """
    Return the answer of the daemon that listens at an address, if it is healthy.

    Args:
        host: as in the settings; empty: every address.
        port: as in the settings.
        within_s: time for everything.

    Raises:
        SettingsError: port 0, which means a free port that only the daemon knows.
        UnhealthyError: the daemon is not healthy, or no daemon answers.
    """
    response = ask_daemon(host, port, "/healthz", within_s=within_s, most_bytes=_MOST_BYTES)
    answer = _parsed(response)
    if answer.status != 200:
        reason = str(answer.detail.get("reason", f"status {answer.status}"))
        raise UnhealthyError(f"the daemon at {response.address} is not healthy: {reason}")
    return answer


def _parsed(response: Response) -> Answer:
    """Return the answer in a response; status 0 if it is not the response of a daemon."""
    if response.status == 0:
        return Answer(status=0, detail={"reason": "what listens there does not speak HTTP"})
    try:
        detail = json.loads(response.body)
    except ValueError:
        detail = None
    if not isinstance(detail, dict) or "ok" not in detail:
        return Answer(status=0, detail={"reason": "what listens there is no phasesync daemon"})
    return Answer(status=response.status, detail=detail)


@click.command()
@click.option(
    "--probe",
    is_flag=True,
    help="Only ask the daemon at http.listen whether it is healthy, directly and without a proxy; exit code 7 if "
    "it is not. For health checks of containers: needs neither database nor key.",
)
@output_option
def status(probe: bool, out: Output) -> None:
    """
    Show how everything stands: daemons, syncs by status, live leases, and what needs a person.

    \b
    Examples:
      phasesync status -o json
      phasesync status --probe
    """
    if probe:
        _probe(out)
    else:
        _show(out)


def _probe(out: Output) -> None:
    http = invocation().settings().settings.http
    answer = probe(http.host, http.port)
    out.done(f"healthy; state: {answer.detail.get('state', 'ok')}", answer.detail)


@with_application
def _show(application: "Application", out: Output) -> None:
    from phasesync.cli.documents import status_document
    from phasesync.core.sync import SyncFilter
    from phasesync.engine.status_summary import ATTENTION_SHOWN, NEEDS_ATTENTION, summarise_status

    waiting = application.store.sync_requests.waiting_for_window()
    needing = SyncFilter(statuses=NEEDS_ATTENTION)
    summary = summarise_status(
        syncs=application.store.syncs.count_by_status(),
        attention=application.store.syncs.page_syncs(needing, limit=ATTENTION_SHOWN).items,
        credentials=application.store.credentials.statuses(),
        leases=application.context.leases.list_leases(),
        daemons=application.store.daemons.alive(),
        is_revocable=lambda lease: application.context.issuers.traits(lease.issuer).revocable,
        restored=application.store.restore_mark.is_set(),
        now=application.context.clock.now(),
        edited=_edited(application),
        log_bytes=application.store.database.log_bytes(),
        requests=application.store.change_requests.list_requests(),
        windowed=waiting.count,
        next_opens_at=waiting.next_opens_at,
    )
    document: dict[str, Any] = {"instance_id": application.context.instance_id} | status_document(summary)
    if out.as_json:
        out.document(document)
        return
    _show_overview(summary, application.context.instance_id, out)
    if summary.needs_attention:
        click.echo()
        out.items(document["needs_attention"], ["sync", "status", "reason"])
        if summary.needs_attention_more:
            statuses = ",".join(sorted(map(str, NEEDS_ATTENTION)))
            out.say(f"and {summary.needs_attention_more:,} more: phasesync syncs list --status {statuses}")
        _show_hints(summary.needs_attention, out)
    if summary.requests:
        click.echo()
        out.warn("changes of protected environments wait for a person, each for its command")
        out.items(document["waiting_for_approval"], ["env", "changes", "asked_by", "expires_at", "command"])
    if summary.drift_from_code:
        click.echo()
        out.items(document["drift_from_code"], ["kind", "name", "change", "owner", "source"])
        for source in dict.fromkeys(edited.source for edited in summary.drift_from_code):
            out.say(f"hint: changed by hand since they were applied: phasesync diff -f {source} shows what differs")
    if summary.overdue:
        click.echo()
        _warn_of_overdue(summary.overdue, out)
        out.items(document["leases_overdue"], ["lease", "dynamic", "expires_at"])
    if summary.not_revoked:
        again = "it is tried again by itself" if summary.daemons else "no daemon is running to try it again"
        click.echo()
        out.warn(
            f"leases that could not be revoked, and may still be used; {again}. Once the reason is corrected, to try "
            f"it at once: phasesync leases revoke {summary.not_revoked[0].id}"
        )
        out.items(document["leases_not_revoked"], ["lease", "dynamic", "failures", "retry_at", "reason"])


def _edited(application: "Application") -> "list[EditedObject]":
    """Return what somebody changed by hand although a document owns it."""
    from phasesync.engine.status_summary import EditedObject

    return [
        EditedObject(
            kind=kind,
            name=applied.name,
            project=applied.project,
            source=applied.source,
            change="removed" if applied.removed else "edited",
        )
        for (kind, _), applied in sorted(application.store.projects.applied(edited_only=True).items())
    ]


def _show_overview(summary: "StatusSummary", instance_id: str, out: Output) -> None:
    if summary.restored:
        out.warn("this database is older than AWS, or was just restored; see phasesync db accept-restore --help")
    daemons = [f"{daemon['role']} {daemon['host']} pid {daemon['pid']}" for daemon in summary.daemons]
    overview: dict[str, object] = {
        "instance": instance_id,
        "daemons": daemons or "none is running",
        "syncs": summary.syncs or "none yet",
        "leases": summary.leases or "none is live",
    }
    if summary.windowed:
        opens = "" if summary.next_opens_at is None else f", the first one until {instant_text(summary.next_opens_at)}"
        overview["wait for a window"] = f"{summary.windowed:,}{opens}"
    if summary.log_bytes:
        overview["database log"] = f"{summary.log_bytes:,} bytes"
    out.item(overview)
    if summary.log_is_large:
        out.warn(
            f"the log beside the database (-wal) has {summary.log_bytes:,} bytes: some program has been "
            "reading the database for long, such as sqlite3 or a backup; once that ends, the daemon shortens the log"
        )


def _warn_of_overdue(leases: "Sequence[Lease]", out: Output) -> None:
    problem, pronoun, each = "1 lease is past its end and its key still works", "it", "it"
    if len(leases) > 1:
        problem = f"{len(leases)} leases are past their end and their keys still work"
        pronoun, each = "them", "each"
    out.warn(
        f"{problem}: no daemon is running to revoke {pronoun}; start one: phasesync daemon; or "
        f"revoke {each}: phasesync leases revoke {leases[0].id}"
    )


def _show_hints(needing: "Sequence[SyncAttention]", out: Output) -> None:
    """Name the commands that help, once for each status, with the first sync that has it."""
    first_of_status = {sync.status: sync.name for sync in reversed(needing)}
    for status, name in first_of_status.items():
        match str(status):
            case "held":
                out.say(f"hint: phasesync syncs plan {name} shows what is held, and how to approve it")
            case "incomplete":
                out.say(f"hint: phasesync syncs show {name} names the credential that has no role yet")
            case _:
                out.say(
                    f"hint: phasesync syncs why {name} says more; once the cause is fixed, to try at once: "
                    f"phasesync syncs trigger {name}"
                )
