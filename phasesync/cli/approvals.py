"""Requests for changes of protected environments: `phasesync envs requests`, `approve` and `reject`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_option
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DIGEST, ENVIRONMENT, environment_argument
from phasesync.core.times import instant_text

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.change_request import ChangeRequest
    from phasesync.errors import ApprovalNeededError

HELD = 4
"""Exit code of a command with a change that waits for an approval."""

digest_option = click.option(
    "--plan",
    "digest",
    type=DIGEST,
    required=True,
    metavar="DIGEST",
    help="Digest of the request, as envs requests shows it.",
)


def request_document(request: "ChangeRequest") -> dict[str, Any]:
    """Return a request as `envs requests` prints it, and the command that made it. No value is in it."""
    return {
        "digest": request.digest,
        "env": request.label,
        "envs": list(request.environments.values()),
        "action": request.action,
        "changes": list(request.changes),
        "status": str(request.status),
        "asked_by": request.asked_by,
        "asked_at": request.requested_at,
        "expires_at": request.expires_at,
        "needed": request.needed,
        "approvals": [
            {"by": approval.by, "at": approval.at, "reason": approval.reason} for approval in request.approvals
        ],
        "command": request.next_command,
        "closed_at": request.closed_at,
        "closed_by": request.closed_by,
        "note": request.note,
        "error": request.error,
    }


def hold(application: "Application", needed: "ApprovalNeededError", options: Mapping[str, object]) -> int:
    """
    File a change that the store refused, say who has to do what, and return the exit code.

    Args:
        application: has the store.
        needed: the refusal.
        options: of the command: `out`, and `dry_run` if it has them. A dry run files nothing.
    """
    from phasesync.engine.approvals import file_request

    given = options.get("out")
    out = given if isinstance(given, Output) else Output(as_json=False)
    if options.get("dry_run"):
        out.say(f"{needed.message.partition(';')[0]}; this was a dry run, and nothing was asked for")
        return HELD
    request = file_request(application.context, needed, actor=invocation().actor)
    out.say(needed.message)
    for line in request.changes:
        out.say(f"  {line}")
    others = f"{request.missing} people other than {request.asked_by} approve"
    if request.missing == 1:
        others = f"somebody other than {request.asked_by} approves"
    if request.missing:
        out.say(f"{others} it until {instant_text(request.expires_at)}: {request.approve_command}")
    if request.command is not None:
        out.say(f"once it is approved: {request.command}")
    if out.as_json:
        out.document(request_document(request))
    return HELD


def decide(application: "Application", environment: tuple[str, str], digest: str, reason: str, out: Output) -> None:
    """Approve a request, and print how it stands then."""
    from phasesync.engine import approvals

    request = approvals.approve(
        application.context,
        environment,
        digest,
        actor=invocation().actor,
        by=application.settings.approvals.by,
        reason=reason,
    )
    if request.missing:
        follows = f"{request.missing} more {'has' if request.missing == 1 else 'have'} to approve it: "
        follows += request.approve_command
    elif request.waits:
        follows = f"next: {request.command}"
    else:
        follows = "carried out: " + "; ".join(request.changes)
    out.done(f"approved {digest} of {request.label}; {follows}", request_document(request))


def decided_for_sync(application: "Application", name: str, digest: str, reason: str, out: Output) -> bool:
    """Approve the request of a digest that waits for a sync's environment; return False if there is none."""
    sync = application.store.syncs.get_sync(name)
    if application.store.change_requests.find(sync.environment_id, digest) is None:
        return False
    decide(application, (sync.app, sync.environment), digest, reason, out)
    return True


@click.command()
@click.argument("environment", type=ENVIRONMENT, required=False, metavar="[APP/ENV]")
@click.option("--all", "every", is_flag=True, help="Also requests that were carried out, ended or lapsed.")
@output_option
@with_application
def requests(application: "Application", environment: tuple[str, str] | None, every: bool, out: Output) -> None:
    """
    List the changes of protected environments that wait for an approval.

    \b
    Examples:
      phasesync envs requests shop/production
      phasesync envs requests --all -o json
    """
    which = None if environment is None else application.store.apps.get_environment(*environment).id
    listed = application.store.change_requests.list_requests(which, closed=every)
    for request in listed:
        if request.error is not None:
            out.warn(request.error)
    columns = ["digest", "env", "changes", "status", "asked_by", "asked_at", "expires_at", "approved"]
    out.items(
        [request_document(request) | ({} if out.as_json else _cells(request)) for request in listed],
        columns,
        empty="no change waits for an approval",
    )


def _cells(request: "ChangeRequest") -> dict[str, object]:
    approved = f"{len(request.approvals)} of {request.needed}"
    return {"approved": f"{approved}: {request.approved_by}" if request.approvals else approved}


@click.command()
@environment_argument
@digest_option
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history. Default: nothing.")
@output_option
@with_application
@dry_run_option
def approve(application: "Application", environment: tuple[str, str], digest: str, reason: str, out: Output) -> None:
    """
    Approve a change of a protected environment that somebody else asked for. The last approval that is needed carries
    it out, or says which command does.

    \b
    Example:
      phasesync envs approve shop/production --plan 0123456789abcdef --reason "reviewed in OPS-12"
    """
    decide(application, environment, digest, reason, out)


@click.command()
@environment_argument
@digest_option
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history. Default: nothing.")
@output_option
@with_application
@dry_run_option
def reject(application: "Application", environment: tuple[str, str], digest: str, reason: str, out: Output) -> None:
    """
    End a request without carrying it out. Whoever asked for it withdraws it so.

    \b
    Example:
      phasesync envs reject shop/production --plan 0123456789abcdef --reason "not before Monday"
    """
    from phasesync.engine import approvals

    actor = invocation().actor
    request = approvals.reject(application.context, environment, digest, actor=actor, reason=reason)
    out.done(f"{request.status} {digest} of {request.label}; nothing was changed", request_document(request))
