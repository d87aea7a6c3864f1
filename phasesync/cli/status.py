"""
Asks the daemon of these settings how it is, over its own HTTP address.

For container health checks: quick, of few imports, and straight to the address. No proxy stands between a program and
its own host, whatever HTTP_PROXY says.

`phasesync status`: how everything stands, on one screen.
"""

import json
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.errors import SettingsError, UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.lease import Lease


WITHIN_S: Final = 4.0
"""For the whole probe: what starts it mostly waits for 5 s."""
_MOST_BYTES: Final = 65_536
_EVERY_ADDRESS: Final = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104
"""What a daemon listens on -> where it is reached from its own host, in this order."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the daemon answered to /healthz: its status code, and what it said."""

    status: int
    detail: dict[str, Any] = field(default_factory=dict)


def probe(host: str, port: int, *, within_s: float = WITHIN_S) -> Answer:
    """
    Return the answer of the daemon that listens there, when it says that it is healthy.

    Args:
        host: as in the settings; empty = every address.
        port: as in the settings.
        within_s: for everything.

    Raises:
        SettingsError: port 0, a free one that only the daemon knows.
        UnhealthyError: it says that it is not healthy, or nothing answers as a daemon does.
    """
    if port == 0:
        raise SettingsError(
            "http.listen has port 0, so only the daemon knows its port",
            hint="choose a port with PHASESYNC_HTTP__LISTEN, such as 127.0.0.1:8787",
        )
    deadline = time.monotonic() + within_s
    refused = UnhealthyError("no daemon answers")
    for address in _EVERY_ADDRESS.get(host, (host,)):
        try:
            answer = _parsed(_ask(address, port, deadline))
        except (OSError, UnicodeError) as error:
            refused = _unreachable(address, port, error)
            continue
        if answer.status != 200:
            reason = str(answer.detail.get("reason", f"status {answer.status}"))
            raise UnhealthyError(f"the daemon at {_joined(address, port)} is not healthy: {reason}")
        return answer
    raise refused


def _ask(address: str, port: int, deadline: float) -> bytes:
    """Return the whole response to a GET of /healthz."""
    request = f"GET /healthz HTTP/1.0\r\nHost: {_joined(address, port)}\r\n\r\n"
    response = b""
    with socket.create_connection((address, port), timeout=_left(deadline)) as connection:
        connection.sendall(request.encode("ascii"))
        while len(response) < _MOST_BYTES:
            connection.settimeout(_left(deadline))
            data = connection.recv(4096)
            if not data:
                break
            response += data
    return response


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parsed(response: bytes) -> Answer:
    """Return what a response says; status 0 where it is none of a daemon's."""
    head, _, body = response.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return Answer(status=0, detail={"reason": "what listens there does not speak HTTP"})
    try:
        detail = json.loads(body)
    except ValueError:
        detail = None
    if not isinstance(detail, dict) or "ok" not in detail:
        return Answer(status=0, detail={"reason": "what listens there is no phasesync daemon"})
    return Answer(status=int(words[1]), detail=detail)


def _unreachable(address: str, port: int, error: OSError | UnicodeError) -> UnhealthyError:
    if isinstance(error, TimeoutError):
        why = "it does not answer in time"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there"
    else:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return UnhealthyError(
        f"the daemon at {_joined(address, port)} cannot be reached: {why}",
        hint="phasesync daemon starts one; http.listen in the settings says where it listens",
    )


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


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

    http = invocation().settings().settings.http
    answer = probe(http.host, http.port)
    out.done(f"healthy; state: {answer.detail.get('state', 'ok')}", answer.detail)


@with_application
def _show(application: "Application", out: Output) -> None:
    from phasesync.cli.documents import sync_document

    credentials = {one.id: one.status for one in application.store.credentials.list_all()}
    documents = [sync_document(sync, credentials[sync.credential_id]) for sync in application.store.syncs.list_syncs()]
    counts = dict(sorted(Counter(document["status"] for document in documents).items()))
    needing = [
        {"sync": document["name"], "status": document["status"], "reason": document["status_reason"]}
        for document in documents
        if document["status"] not in QUIET
    ]
    leases = application.context.leases.list_leases()
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
    daemons = [dict(one) for one in application.store.daemons.alive()]
    overdue = [] if daemons else _overdue(application, leases)
    log_bytes = application.store.database.log_bytes()
    summary = {
        "instance_id": application.context.instance_id,
        "restored": application.store.restore_mark.is_set(),
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
            "instance": application.context.instance_id,
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

    now, restored = application.context.clock.now(), application.store.restore_mark.is_set()
    return [
        {"lease": one.id, "dynamic": one.dynamic, "expires_at": one.expires_at}
        for one in leases
        if one.error is None
        and one.status is LeaseStatus.ACTIVE
        and is_due(one, now, restored=restored)
        and application.context.issuers.traits(one.issuer).takes_back
    ]
