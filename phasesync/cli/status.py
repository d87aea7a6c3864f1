"""`phasesync status`: how everything stands, on one screen."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.lease import Lease

LARGE_LOG_BYTES = 64 * 1024 * 1024
"""A log that is not held open by a reader is shortened to less."""

QUIET = ("in-sync", "paused", "running", "pending")
"""Statuses that ask nothing of anybody."""


@click.command()
@click.option(
    "--probe",
    is_flag=True,
    help="Only ask the daemon at http.listen whether it is healthy, directly and through no proxy; exit code 7 where "
    "it is not. For health checks of containers: needs neither database nor key.",
)
@output_option
def status(probe: bool, out: Output) -> None:
    """
    Say how everything stands: daemons, syncs by status, live leases, and what needs somebody.

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
    from phasesync.cli.probe import probe

    http = invocation().settings().settings.http
    answer = probe(http.host, http.port)
    out.done(f"healthy; state: {answer.detail.get('state', 'ok')}", answer.detail)


@with_application
def _show(application: "Application", out: Output) -> None:
    from phasesync.cli.views import sync_document

    credentials = {one.id: one.status for one in application.credentials.list_all()}
    documents = [sync_document(sync, credentials[sync.credential_id]) for sync in application.state.list_syncs()]
    counts = dict(sorted(Counter(document["status"] for document in documents).items()))
    needing = [
        {"sync": document["name"], "status": document["status"], "reason": document["status_reason"]}
        for document in documents
        if document["status"] not in QUIET
    ]
    leases = application.leases.list_leases()
    not_revoked = [
        {
            "lease": one.id,
            "dynamic": one.dynamic,
            "failures": one.failures,
            "retry_at": one.retry_at,
            "reason": one.error,
        }
        for one in leases
        if one.error is not None
    ]
    daemons = [dict(one) for one in application.daemons.alive()]
    overdue = [] if daemons else _overdue(application, leases)
    log_bytes = application.database_log_bytes()
    summary = {
        "instance_id": application.instance_id,
        "restored": application.state.is_restored(),
        "daemons": daemons,
        "syncs": counts,
        "needs_attention": needing,
        "leases": dict(sorted(Counter(str(one.status) for one in leases).items())),
        "leases_not_revoked": not_revoked,
        "leases_overdue": overdue,
        "database_log_bytes": log_bytes,
    }
    if out.as_json:
        out.document(summary)
        return
    if summary["restored"]:
        out.warn("this database is older than AWS, or was just restored; see phasesync db accept-restore --help")
    out.item(
        {
            "instance": application.instance_id,
            "daemons": [f"{one['role']} {one['host']} pid {one['pid']}" for one in daemons] or "none is running",
            "syncs": counts or "none yet",
            "leases": summary["leases"] or "none is live",
        }
        | ({"database log": f"{log_bytes:,} bytes"} if log_bytes else {})
    )
    if log_bytes > LARGE_LOG_BYTES:
        out.warn(
            f"the log beside the database (-wal) has {log_bytes:,} bytes: some program has been "
            "reading the database for long, such as sqlite3 or a backup; once that ends, the daemon shortens the log"
        )
    if needing:
        click.echo()
        out.items(needing, ["sync", "status", "reason"])
        _say_what_helps(needing, out)
    if overdue:
        single = len(overdue) == 1
        what = "1 lease is past its end and its key still works"
        if not single:
            what = f"{len(overdue)} leases are past their end and their keys still work"
        click.echo()
        out.warn(
            f"{what}: no daemon is running to revoke {'it' if single else 'them'}; start one: phasesync daemon; or "
            f"take {'it' if single else 'each'} back: phasesync leases revoke {overdue[0]['lease']}"
        )
        out.items(overdue, ["lease", "dynamic", "expires_at"])
    if not_revoked:
        again = "it is tried again by itself" if daemons else "no daemon is running to try it again"
        click.echo()
        out.warn(
            f"leases that could not be revoked, and may still be used; {again}. Once the reason is corrected, to try "
            f"it at once: phasesync leases revoke {not_revoked[0]['lease']}"
        )
        out.items(not_revoked, ["lease", "dynamic", "failures", "retry_at", "reason"])


def _say_what_helps(needing: "list[dict[str, Any]]", out: Output) -> None:
    """Name the commands that help, once for each status, with the first sync that has it."""
    for status, name in {str(one["status"]): str(one["sync"]) for one in reversed(needing)}.items():
        match status:
            case "held":
                out.say(f"hint: phasesync syncs plan {name} shows what is held, and how to approve it")
            case "incomplete":
                out.say(f"hint: phasesync syncs show {name} names the credential that has no role yet")
            case _:
                out.say(
                    f"hint: phasesync syncs why {name} says more; once the cause is fixed, to try at once: "
                    f"phasesync syncs trigger {name}"
                )


def _overdue(application: "Application", leases: "Sequence[Lease]") -> list[dict[str, Any]]:
    """Return active leases that a daemon would take back now; sessions of roles end by themselves."""
    from phasesync.core.lease import LeaseStatus, is_due

    now, restored = application.clock.now(), application.state.is_restored()
    return [
        {"lease": one.id, "dynamic": one.dynamic, "expires_at": one.expires_at}
        for one in leases
        if one.error is None
        and one.status is LeaseStatus.ACTIVE
        and is_due(one, now, restored=restored)
        and application.issuers.traits(one.issuer).takes_back
    ]
