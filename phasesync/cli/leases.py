"""`phasesync leases`: short-lived credentials, issued from dynamic secrets."""

import json
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run, would_call
from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.lease_revocation import revoke_unshown
from phasesync.cli.output import Output, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import DURATION, Name, Word
from phasesync.cli.streams import write_data, write_values
from phasesync.core.counted import counted
from phasesync.core.times import duration_text, instant_text
from phasesync.errors import InvalidInputError, OperatorError, PhasesyncError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.dynamic import DynamicSecret
    from phasesync.engine.leases.issuance import IssuedLease
    from phasesync.engine.leases.orphan_users import OrphanUser


DYNAMIC = Name("dynamic secret")
lease_argument = click.argument("lease", metavar="LEASE")
ttl_option = click.option(
    "--ttl", type=DURATION, help="How long it lives, such as 1h. Default: that of the dynamic secret."
)


class CredentialFormat(StrEnum):
    """Formats in which issued credentials are printed, besides the table and JSON of `-o`."""

    DOTENV = "dotenv"
    CREDENTIAL_PROCESS = "credential-process"


@click.group()
def leases() -> None:
    """Leases: short-lived AWS credentials, from dynamic secrets."""


@leases.command()
@click.argument("dynamic", type=DYNAMIC)
@ttl_option
@click.option(
    "--format",
    "format_",
    type=Word(CredentialFormat),
    help="Form to print: dotenv, as lines KEY=value, or credential-process, which the AWS command line and the SDKs "
    "read from a command. Default: a table, or JSON with -o json.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the secret key, encrypted, and print a kept lease again while half of its life is left and AWS knows "
    "its key; of several commands at once one issues it. With --ttl: always a new lease.",
)
@click.option("--no-probe", is_flag=True, help="Do not wait until AWS knows the new key; that takes some seconds.")
@output_option
@with_application
@dry_run_option
def issue(
    application: "Application",
    dynamic: str,
    ttl: timedelta | None,
    format_: CredentialFormat | None,
    keep: bool,
    no_probe: bool,
    out: Output,
) -> None:
    """
    Issue a lease and print its credentials, this once. The daemon revokes it when its time is over.

    \b
    Examples:
      phasesync leases issue ci --ttl 15m -o json
      phasesync leases issue ci --format dotenv > .env
      credential_process = phasesync leases issue ci --format credential-process --keep     (in ~/.aws/config)
    """
    from phasesync.adapters.aws.credential_process import issuing
    from phasesync.engine.leases.issuance import KNOWN_WITHIN

    if format_ is not None and out.as_json:
        raise InvalidInputError("--format and -o json exclude each other")
    _check_keys(application.store.dynamics.get(dynamic), format_)
    click.get_current_context().with_resource(issuing(dynamic))
    if is_dry_run():
        message, document = issue_preview(application, dynamic, ttl, reuse=keep and ttl is None, out=out)
        out.done(message, document)
        return
    operations, actor = application.lease_operations, invocation().actor
    probe_for = None if no_probe else KNOWN_WITHIN
    if keep and ttl is None:
        issued, again = operations.issue_kept(dynamic, actor=actor, probe_for=probe_for)
        if again:
            out.say(f"the lease {issued.lease.id} is issued again; it ends at {instant_text(issued.lease.expires_at)}")
            _print_credentials(issued, format_, out)
            return
    else:
        issued = operations.issue(dynamic, ttl=ttl, actor=actor, keep=keep, probe_for=probe_for)
    try:
        show_issued(application, issued, out)
        _print_credentials(issued, format_, out)
    except BaseException:
        # Ctrl-C too. No one has the whole key, so no one needs it.
        revoke_unshown(application, issued.lease, actor, out)
        raise


def issue_preview(
    application: "Application", dynamic: str, ttl: timedelta | None, *, reuse: bool, out: Output
) -> tuple[str, dict[str, Any]]:
    """Return what issuing a lease would do, as a sentence and as a document; say what it would call."""
    from phasesync.cli.lease_documents import issue_preview_document
    from phasesync.cli.output import show_identity
    from phasesync.engine.leases.preview import preview_issue

    preview = preview_issue(application.context, dynamic, ttl=ttl, reuse=reuse)
    show_identity(application, application.store.credentials.get_by_id(preview.dynamic.credential_id), out)
    would_call(out, preview.calls)
    message = f"would issue a lease of {preview.dynamic.name} for {duration_text(preview.ttl)}"
    if preview.reused is not None:
        message = f"would issue the kept lease {preview.reused.id} again"
    return message, issue_preview_document(preview)


def show_issued(application: "Application", issued: "IssuedLease", out: Output) -> None:
    """Print on stderr the identity, the lease, and what the operator should know about it."""
    from phasesync.cli.output import show_identity

    lease = issued.lease
    show_identity(application, application.store.credentials.get_by_id(lease.credential_id), out)
    out.say(f"issued the lease {lease.id} of {lease.dynamic}; it ends at {instant_text(lease.expires_at)}")
    if issued.known is False:
        out.warn("AWS does not know the new key everywhere yet; what uses it may have to try again for some seconds")
    if not application.store.daemons.alive() and application.context.issuers.traits(lease.issuer).revocable:
        out.warn("no daemon is running: until one runs, the lease is not revoked when its time is over")


def _check_keys(recipe: "DynamicSecret", format_: CredentialFormat | None) -> None:
    """Refuse keys that a dotenv file cannot hold, before anything is issued. InvalidInputError."""
    from phasesync.core.dotenv import is_dotenv_key

    for output, key in recipe.config.keys.items() if format_ is CredentialFormat.DOTENV else ():
        if not is_dotenv_key(key):
            raise InvalidInputError(
                f"the key {key!r} cannot stand in a dotenv file",
                hint=f"-o json, or give it another name: phasesync dynamic update {recipe.name} --key-map "
                f"{output}=NAME",
            )


def _print_credentials(issued: "IssuedLease", format_: CredentialFormat | None, out: Output) -> None:
    from phasesync.cli.lease_documents import lease_document

    values = {key: value.reveal_text() for key, value in issued.credentials.items()}
    if format_ is CredentialFormat.DOTENV:
        from phasesync.cli.formats import Format, write

        write_values(write(issued.credentials, Format.DOTENV), hint="-o json")
    elif format_ is CredentialFormat.CREDENTIAL_PROCESS:
        write_data(json.dumps(_credential_process(issued)) + "\n")
    elif out.as_json:
        out.document(lease_document(issued.lease) | {"credentials": values})
    else:
        out.item(lease_document(issued.lease) | values)


def _credential_process(issued: "IssuedLease") -> dict[str, object]:
    """Return the document that an SDK reads (AWS SDKs and Tools Reference Guide, process credential provider)."""
    outputs = {name: value.reveal_text() for name, value in issued.outputs.items()}
    document: dict[str, object] = {
        "Version": 1,
        "AccessKeyId": outputs["access_key_id"],
        "SecretAccessKey": outputs["secret_access_key"],
        # In whole seconds, since some readers refuse a fraction. Never rounded up beyond the end.
        "Expiration": issued.lease.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if "session_token" in outputs:
        document["SessionToken"] = outputs["session_token"]
    return document


@leases.command("list")
@click.option("--dynamic", type=DYNAMIC, help="Leases of this dynamic secret only. Default: of all.")
@click.option("--all", "every", is_flag=True, help="Leases that have ended as well.")
@paging_options("leases")
@output_option
@with_application
def list_(application: "Application", dynamic: str | None, every: bool, paging: Paging, out: Output) -> None:
    """
    List live leases, the newest first.

    \b
    Example:
      phasesync leases list --dynamic ci --all
    """
    from phasesync.cli.lease_documents import lease_document

    columns = ["id", "dynamic", "status", "issued_at", "expires_at", "max_expires_at", "principal"]
    leases = application.context.leases
    show_list(
        out,
        paging,
        lambda after, limit: leases.page_leases(dynamic=dynamic, ended=every, after=after, limit=limit),
        lease_document,
        columns,
        empty="there are no such leases",
    )


@leases.command()
@lease_argument
@output_option
@with_application
def show(application: "Application", lease: str, out: Output) -> None:
    """
    Show one lease and its log: who did what, when. Never the key. The beginning of an id is enough if it is unique.

    \b
    Example:
      phasesync leases show 3f0c9a1be2d44c55
    """
    from phasesync.cli.lease_documents import lease_details

    shown = application.context.leases.get(application.context.leases.full_id(lease))
    document = lease_details(shown, application.context.leases.records(shown.id), now=application.context.clock.now())
    if out.as_json:
        out.document(document)
        return
    out.item({name: value for name, value in document.items() if name != "log"})
    click.echo()
    out.items(document["log"], ["at", "event", "actor", "detail"])


@leases.command()
@lease_argument
@click.option("--ttl", type=DURATION, required=True, help="How long it lives from now on, such as 1h.")
@output_option
@with_application
@dry_run_option
def renew(application: "Application", lease: str, ttl: timedelta, out: Output) -> None:
    """
    Move the end of a lease to now + TTL, never beyond its maximum. Its user at AWS gets the new end as a tag first.

    \b
    Example:
      phasesync leases renew 3f0c9a1be2d44c55 --ttl 1h
    """
    from phasesync.cli.lease_documents import lease_document
    from phasesync.cli.output import show_identity

    lease = application.context.leases.full_id(lease)
    if is_dry_run():
        from phasesync.engine.leases.preview import preview_renewal

        would, calls = preview_renewal(application.context, lease, ttl)
        would_call(out, calls)
        out.done(f"would move the end of the lease {lease} to {instant_text(would.expires_at)}", lease_document(would))
        return
    renewed = application.lease_operations.renew(lease, ttl, actor=invocation().actor)
    show_identity(application, application.store.credentials.get_by_id(renewed.credential_id), out)
    out.done(f"the lease {lease} ends at {instant_text(renewed.expires_at)}", lease_document(renewed))


@leases.command()
@lease_argument
@output_option
@with_application
@dry_run_option
def revoke(application: "Application", lease: str, out: Output) -> None:
    """
    Revoke a lease now: its key first, then its user. A lease that has ended already is no error.

    \b
    Example:
      phasesync leases revoke 3f0c9a1be2d44c55
    """
    from phasesync.cli.lease_documents import lease_document
    from phasesync.cli.output import show_identity
    from phasesync.engine.leases.revocation import instant_or_now, not_found_yet

    lease = application.context.leases.full_id(lease)
    if is_dry_run():
        from phasesync.engine.leases.preview import preview_revocation

        preview = preview_revocation(application.context, application.context.leases.get(lease))
        would_call(out, preview.calls)
        message = f"would revoke the lease {lease}"
        if preview.note is not None:
            message = f"would call nothing for the lease {lease}: {preview.note}"
        out.done(message, lease_document(preview.lease))
        return
    was_live = application.context.leases.get(lease).live
    revocation = application.lease_operations.revoke(lease, actor=invocation().actor, look_again=True)
    if revocation.error is not None:
        again = instant_or_now(revocation.lease.retry_at)
        revocation.error.message += f"; it is tried again by itself, from {again} on"
        raise revocation.error
    if was_live:
        show_identity(application, application.store.credentials.get_by_id(revocation.lease.credential_id), out)
    message = f"the lease {lease} is {revocation.lease.status}"
    if revocation.lease.live and revocation.lease.was_issued:
        raise not_found_yet(revocation.lease)
    if revocation.lease.live:
        message = (
            f"there is nothing of the lease {lease} at AWS; a request for it may still arrive, so the daemon looks "
            f"once more at {instant_or_now(revocation.lease.retry_at)}"
        )
    out.done(message, lease_document(revocation.lease))


@leases.command()
@click.option(
    "--credential", type=Name("credential"), help="Credential to search with. Default: those of all dynamic secrets."
)
@confirmation_options
@output_option
@with_application
@dry_run_option
def reap(application: "Application", credential: str | None, yes: bool, no_input: bool, out: Output) -> int:
    """
    Remove users at AWS that carry our tag and belong to no lease. Shows them first. The daemon does it once a day.

    \b
    Example:
      phasesync leases reap --yes
    """
    from phasesync.cli.lease_documents import orphan_document
    from phasesync.cli.output import show_identity
    from phasesync.engine.leases.orphan_users import OrphanCollector, summarise_removal

    scans = OrphanCollector(application.context).scan(credential)
    for scan in scans:
        if scan.account is not None:
            show_identity(application, application.store.credentials.get(scan.credential), out)
        if scan.error is not None:
            out.warn(f"{scan.credential}: {scan.error.message}")
    orphans = [orphan for scan in scans for orphan in scan.orphans]
    removable = [orphan for orphan in orphans if orphan.removable]
    if not out.as_json:
        columns = ["user", "account", "lease", "max_expires_at", "fate", "why"]
        empty = "nothing to remove: no user at AWS is left of a lease that is over"
        out.items(map(orphan_document, orphans), columns, empty=empty)
    if is_dry_run():
        would_call(out, OrphanCollector(application.context).calls_to_remove(removable))
        out.done(f"would remove {len(removable)} of {len(orphans)}", _orphans_document(orphans, {}))
        return max((scan.error.exit_code for scan in scans if scan.error is not None), default=0)
    if removable:
        _confirm_removal(orphans, len(removable), yes=yes, no_input=no_input, out=out)
    outcomes = OrphanCollector(application.context).remove(removable, actor=invocation().actor) if removable else []
    for orphan, outcome in outcomes:
        if isinstance(outcome, PhasesyncError):
            out.warn(f"{orphan.user.name}: {outcome.message}")
    removal = summarise_removal(scans, outcomes)
    if removable or out.as_json:
        out.done(f"removed {removal.removed} of {len(removable)}", _orphans_document(orphans, removal.results))
    return 0 if removal.failure is None else removal.failure.exit_code


def _confirm_removal(orphans: "Sequence[OrphanUser]", count: int, *, yes: bool, no_input: bool, out: Output) -> None:
    users = counted(count, "user")
    try:
        confirm(f"remove {users} with their keys", yes=yes, no_input=no_input)
    except OperatorError:
        if out.as_json:  # What would be removed is shown in any case, as in the table.
            out.document(_orphans_document(orphans, {}))
        raise


def _orphans_document(orphans: "Sequence[OrphanUser]", results: "Mapping[str, str]") -> dict[str, Any]:
    from phasesync.cli.lease_documents import orphan_document

    items = [orphan_document(orphan) | {"result": results.get(orphan.user.arn)} for orphan in orphans]
    return {"items": items, "next": None}
