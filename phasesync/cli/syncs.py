"""`phasesync syncs`: which environment goes where, and how it stands."""

from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run, show_beside
from phasesync.cli.input import never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, markdown_output_option, output_option
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import ENVIRONMENT, PATH, REGION, Name, path_option
from phasesync.cli.several_syncs import plan_several, run_several, show_as_markdown, show_runs_to_come
from phasesync.cli.sync_operations import approve, pause, resume, sync_document_of, trigger, verify, wait_, why
from phasesync.cli.sync_options import CREDENTIAL, SyncOptions, name_argument, sync_options
from phasesync.cli.sync_ownership import adopt, import_line, release, remove
from phasesync.cli.sync_selection import Selection, read_statuses, selection_options, status_option
from phasesync.core.sync import ALL_SYNCS, Adopt, SyncConfig, SyncFilter
from phasesync.core.times import instant_text
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

AWS_SECRETS_MANAGER = "aws-secrets-manager"
"""The destination kind where `--destination` is not given; `phasesync.adapters.destinations` lists them all."""


@click.group()
def syncs() -> None:
    """Syncs: one environment and path -> AWS secrets."""


@syncs.command("list")
@status_option
@click.option("--app", type=Name("app"), help="Those of this app's environments only. Default: of all apps.")
@click.option("--credential", type=CREDENTIAL, help="Those that use this credential only. Default: any.")
@paging_options("syncs")
@output_option
@with_application
def list_(
    application: "Application",
    statuses: tuple[str, ...],
    app: str | None,
    credential: str | None,
    paging: Paging,
    out: Output,
) -> None:
    """
    List syncs and how they stand.

    \b
    Examples:
      phasesync syncs list -o json
      phasesync syncs list --status failing,halted
    """
    from phasesync.cli.documents import sync_document

    which = SyncFilter(statuses=frozenset(read_statuses(statuses)), app=app, credential=credential)
    of_credentials = application.store.credentials.statuses()
    there_are = "there are no syncs yet: phasesync syncs add --help"
    if which != ALL_SYNCS:
        there_are = "there are no such syncs"
    show_list(
        out,
        paging,
        lambda after, limit: application.store.syncs.page_syncs(which, after=after, limit=limit),
        lambda sync: _listed(
            sync_document(sync, of_credentials[sync.credential_id], application.window_state(sync)), out
        ),
        ["name", "env", "path", "secret", "region", "status", "revision"],
        empty=there_are,
    )


def _listed(document: dict[str, Any], out: Output) -> dict[str, Any]:
    """Return a sync as a list shows it."""
    if out.as_json:
        return document
    destination, revisions, window = document["destination"], document["revisions"], document["window"]
    status = document["status"]
    if status == "pending" and window is not None and window["closed"]:
        opens_at = window["opens_at"]
        status += ", window closed" if opens_at is None else f", window opens {instant_text(opens_at)}"
    return document | {
        "status": status,
        "secret": destination["remote_name"] or destination["name_template"],
        "region": destination["region"],
        "revision": f"{revisions['applied'] or '-'}/{revisions['source']}",
    }


@syncs.command()
@name_argument
@output_option
@with_application
def show(application: "Application", name: str, out: Output) -> None:
    """
    Show one sync: what was set on it, how it stands and why.

    \b
    Example:
      phasesync syncs show shop-production
    """
    document = sync_document_of(application, name)
    if not out.as_json:
        document["waiting_for_approval"] = [
            f"{'; '.join(change['changes'])} ({change['digest']}, asked by {change['asked_by']})"
            for change in document["waiting_for_approval"]
        ]
    out.item(document)


@syncs.command()
@name_argument
@click.option(
    "--env", "environment", type=ENVIRONMENT, metavar="APP/ENV", required=True, help="Environment that it reads."
)
@path_option
@click.option("--credential", type=CREDENTIAL, required=True, help="Credential that it reaches AWS with.")
@click.option("--destination", default=AWS_SECRETS_MANAGER, show_default=True, help="Kind of destination it writes to.")
@click.option("--region", type=REGION, help="AWS Region of the secrets. Default: the credential's.")
@sync_options
@click.option(
    "--adopt",
    type=click.Choice([str(word) for word in Adopt]),
    help="Take over a secret that exists: overwrite it, or merge it into the environment first. "
    "Default: leave it alone.",
)
@click.option("--no-verify", is_flag=True, help="Do not ask AWS first.")
@output_option
@with_application
@dry_run_option
def add(
    application: "Application",
    name: str,
    environment: tuple[str, str],
    path: str,
    credential: str,
    destination: str,
    region: str | None,
    options: SyncOptions,
    adopt: str | None,
    no_verify: bool,
    out: Output,
) -> None:
    """
    Add a sync. Asks AWS first who the credential is and what exists under the name.

    \b
    Examples:
      phasesync syncs add shop-production --env shop/production --credential aws --secret-name shop/production
      phasesync syncs add shop-keys --env shop/production --credential aws --name-template '{app}/{env}/{key}'
    """
    from phasesync.core.sync import SyncDraft

    if options.secret_name is None and options.name_template is None:
        raise InvalidInputError(
            "say which AWS secret it writes",
            hint="--secret-name NAME for one secret with all keys, --name-template '{app}/{env}/{key}' for one a key",
        )

    app, env = environment
    known = application.store.credentials.get(credential)
    draft = SyncDraft(
        name=name,
        app=app,
        environment=env,
        path=path,
        credential=credential,
        destination_kind=destination,
        region=region or known.region,
        config=options.apply(SyncConfig()),
        account=known.account,
        adopt=Adopt(adopt) if adopt else None,
    )
    added = application.configuration.add(draft, verify=not no_verify, actor=invocation().actor)
    if added.identity is not None:
        note = application.endpoint_note(draft.region)
        out.say(f"identity: account {added.identity.account}, {added.identity.arn}{note}")
    for warning in added.warnings:
        out.warn(warning)
    show_beside(out, added=False, warnings=list(added.warnings))
    document = sync_document_of(application, name)
    if added.imported is not None:
        out.say(import_line(added.sync.environment_label, added.imported))
        from phasesync.cli.documents import import_document

        document["imported"] = import_document(added.imported)
    follows = f"the daemon carries it out, or: phasesync syncs run {name}"
    if added.to_adopt:
        follows = f"next: phasesync syncs adopt {name}"
    out.done(f"added the sync {name}; {follows}", document)


@syncs.command()
@name_argument
@click.argument("new_name", metavar="NEW", type=Name("sync"))
@never_asks
@output_option
@with_application
@dry_run_option
def rename(application: "Application", name: str, new_name: str, out: Output) -> None:
    """
    Give a sync another name. Nothing changes at AWS; its runs, its journal and its pause stay.

    \b
    Example:
      phasesync syncs rename shop-production shop-live
    """
    renamed = application.store.syncs.rename(name, new_name)
    out.done(f"renamed the sync {name} to {renamed.name}", sync_document_of(application, renamed.name))


@syncs.command()
@name_argument
@click.option("--path", type=PATH, help="Folder that it reads, without those in it.")
@click.option("--credential", type=CREDENTIAL, help="Credential that it reaches AWS with.")
@click.option("--region", type=REGION, help="AWS Region of the secrets.")
@sync_options
@click.option(
    "--no-verify", is_flag=True, help="Do not ask AWS first, which --kms-key does: it then takes an ARN only."
)
@output_option
@with_application
@dry_run_option
def update(
    application: "Application",
    name: str,
    path: str | None,
    credential: str | None,
    region: str | None,
    options: SyncOptions,
    no_verify: bool,
    out: Output,
) -> None:
    """
    Change a sync; it is reconciled at once. What is not given stays as it is. Under a new name or template the former
    secrets stay.

    \b
    Examples:
      phasesync syncs update shop-production --kms-key alias/shop
      phasesync syncs update shop-production --name-template '{app}/{env}/{key}'
    """
    if options.empty and not any((path, credential, region)):
        raise InvalidInputError("there is nothing to change", hint="phasesync syncs update --help")
    updated = application.configuration.update(
        name, change=options.apply, path=path, credential=credential, region=region, ask=not no_verify
    )
    for warning in updated.warnings:
        out.warn(warning)
    out.done(f"updated the sync {name}", sync_document_of(application, name))


@syncs.command()
@selection_options
@click.option("--detailed-exitcode", is_flag=True, help="Exit with code 3 if the plan has changes.")
@markdown_output_option
@with_application
def plan(application: "Application", selection: Selection, detailed_exitcode: bool, out: Output) -> int:
    """
    Show what a run would change now. Writes nothing.

    If AWS does not report the state of a secret, or if its value cannot be made, the exit code is that of the error.

    \b
    Examples:
      phasesync syncs plan shop-production --detailed-exitcode
      phasesync syncs plan --app shop
      phasesync syncs plan --all -o markdown
    """
    from phasesync.cli.documents import has_changes, plan_document
    from phasesync.cli.output import show_identity
    from phasesync.cli.text import show_plan

    if selection.only is None:
        return plan_several(application, selection, detailed_exitcode=detailed_exitcode, out=out)
    report = application.operations.plan(selection.only)
    show_identity(application, application.store.credentials.get_by_id(report.sync.credential_id), out)
    document = plan_document(report)
    if out.as_json:
        out.document(document)
    elif out.as_markdown:
        show_as_markdown([document], document["digest"], selection)
    else:
        show_plan(out, document)
    if report.problems:
        return max(problem.exit_code for problem in report.problems.values())
    return 3 if detailed_exitcode and has_changes(report) else 0


@syncs.command()
@selection_options
@output_option
@with_application
@dry_run_option
def run(application: "Application", selection: Selection, out: Output) -> int:
    """
    Reconcile a sync now, in this process, whatever back-off says. Several are reconciled at once.

    \b
    Examples:
      phasesync syncs run shop-production
      phasesync syncs run --status failing,halted
    """
    from phasesync.cli.documents import run_document
    from phasesync.cli.text import exit_code_of_run, show_run

    if is_dry_run():
        return show_runs_to_come(application, selection, out)
    if selection.only is None:
        return run_several(application, selection, out)
    done = application.operations.run(selection.only, actor=invocation().actor)
    if out.as_json:
        out.document(run_document(done))
    else:
        show_run(out, done)
    return exit_code_of_run(done)


for command in (wait_, trigger, pause, resume, approve, adopt, release, remove, why, verify):
    syncs.add_command(command)
