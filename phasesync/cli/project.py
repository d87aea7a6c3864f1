"""`phasesync diff`, `apply`, `dump` and `schema`: apps, environments, credentials, syncs, dynamic secrets as code."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.dry_run import dry_run_flag, planned_syncs, show_planned_syncs
from phasesync.cli.input import MAX_BYTES, confirm, confirmation_options, is_terminal
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, markdown_output_option
from phasesync.cli.params import DIGEST, Name, comma_list
from phasesync.cli.streams import write_data
from phasesync.core.counted import counted
from phasesync.errors import ConfirmationRequiredError, InvalidInputError, PlanHeldError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.model import SecretValue
    from phasesync.core.project.desired import DesiredProject, SecretOrigin
    from phasesync.engine.project.objects import Work
    from phasesync.engine.project.plan import Documents, ProjectPlan

PLAN_HAS_CHANGES = 3

files_option = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    callback=comma_list,
    metavar="FILE|DIR|-",
    help="Documents: a file, a directory with all *.yaml, *.yml and *.json below it, or - for stdin. Repeat it, or "
    "separate several with commas.",
)
prune_option = click.option(
    "--prune", is_flag=True, help="Remove what these documents own and no longer have; nothing of others."
)
remote_option = click.option(
    "--remote",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="With --prune, what happens to the AWS secrets of removed syncs: they stay, or are deleted with the sync's "
    "recovery window.",
)
plan_aws_option = click.option(
    "--plan-aws", is_flag=True, help="Ask AWS too: show what the next run of each affected sync would do."
)


@click.command(short_help="What differs between documents and the store.")
@files_option
@prune_option
@remote_option
@plan_aws_option
@click.option("--exit-code", is_flag=True, help="Exit with code 3 if there are changes.")
@markdown_output_option
@with_application
def diff(
    application: "Application",
    files: Sequence[str],
    prune: bool,
    remote: str,
    plan_aws: bool,
    exit_code: bool,
    out: Output,
) -> int:
    """
    Show what apply would change, object by object: as it is and as it will be, with a digest. Writes nothing.

    Members that somebody changed by hand since the documents were applied are marked: drift from code.

    \b
    Examples:
      phasesync diff -f project.yaml
      phasesync diff -f infra/ --prune --exit-code
      phasesync diff -f infra/ --plan-aws -o markdown
    """
    documents = _documents(_read(files), files, prune=prune, remote=remote)
    plan, work = _plan(application, documents)
    looked, worst = _NOT_ASKED, 0
    if plan_aws:
        looked, worst = _look_at_aws(application, documents, plan)
    _show(out, _document(plan, work) | looked)
    if worst:
        return worst
    return PLAN_HAS_CHANGES if exit_code and plan.changes_anything else 0


@click.command(short_help="Make the store as documents say.")
@files_option
@prune_option
@remote_option
@click.option(
    "--plan",
    "digest",
    type=DIGEST,
    metavar="DIGEST",
    help="Do exactly what diff showed with this digest, or nothing. Default: what differs now.",
)
@dry_run_flag
@confirmation_options
@markdown_output_option
@with_application
def apply(
    application: "Application",
    files: Sequence[str],
    prune: bool,
    remote: str,
    digest: str | None,
    dry_run: bool,
    yes: bool,
    no_input: bool,
    out: Output,
) -> int:
    """
    Make the store as documents say, in one transaction. The daemon then brings AWS in step.

    With --plan it does exactly what diff showed, or ends with exit code 4. Asks only before --prune removes something.
    The removal of many objects at once needs --plan.

    \b
    Examples:
      phasesync apply -f project.yaml --dry-run
      phasesync apply -f infra/ --plan 0123456789abcdef
      phasesync apply -f infra/ --prune --yes
    """
    from phasesync.engine.project.apply import apply_projects, check_approved

    projects = _read(files)
    documents = _documents(projects, files, prune=prune, remote=remote)
    plan, work = _plan(application, documents)
    if dry_run:
        looked, worst = _look_at_aws(application, documents, plan)
        work.warnings.extend(_mail_warnings(application, documents, plan))
        _show(out, _document(plan, work) | looked | {"dry_run": True})
        check_approved(plan, digest)
        return worst
    if answers := _ask_for_secrets(plan, projects, no_input=no_input):
        documents = _documents(
            projects, files, prune=prune, remote=remote, prompt=lambda origin: answers.get(str(origin.place))
        )
        plan, work = _plan(application, documents)
    try:
        check_approved(plan, digest)
    except PlanHeldError:
        _show(out, _document(plan, work))
        raise
    if not out.as_json and not out.as_markdown:
        _show(out, _document(plan, work))
    if question := _question(plan):
        confirm(question, yes=yes, no_input=no_input)
    applied = apply_projects(application.context, documents, plan, actor=invocation().actor)
    document = _document(plan, work) | {"applied": True, "scheduled": list(applied.scheduled)}
    warnings = [*applied.warnings, *_mail_warnings(application, documents, plan)]
    document["warnings"] = warnings
    if out.as_json or out.as_markdown:
        _show(out, document)
        return 0
    for warning in warnings:
        out.warn(warning)
    out.say(_done(plan, applied.scheduled))
    if _moves(plan):
        out.say(
            "hint: the guard holds the runs of syncs that now write elsewhere; the digest that releases all of them: "
            "phasesync syncs plan --all"
        )
    return 0


def _mail_warnings(application: "Application", documents: "Documents", plan: "ProjectPlan") -> list[str]:
    """Return what is to be said about notifications by mail that a plan adds or changes: no server may take it."""
    from phasesync.cli.notifications import NO_MAIL_SERVER, lacks_mail_server
    from phasesync.core.channels import parse_channel
    from phasesync.core.project.desired import DesiredNotification

    kind = DesiredNotification.kind
    changed = {
        change.name.lower() for diff in plan.diffs for change in diff.changes if change.kind == kind and change.after
    }
    warnings = []
    for wanted in (each for project in documents.projects for each in project):
        if not isinstance(wanted, DesiredNotification) or wanted.key not in changed:
            continue
        hidden = None if wanted.channel is None else documents.resolve_secret(wanted.channel)
        url = wanted.to if hidden is None else hidden.reveal_text()
        if url is not None and lacks_mail_server(application, parse_channel(url)):
            warnings.append(f"the notification {wanted.name}: {NO_MAIL_SERVER}")
    return warnings


_PLACES = {
    "credential": {"account"},
    "sync": {"secret_name", "name_template", "region", "credential", "path"},
}
"""Kind -> members whose change makes syncs write to other AWS secrets."""


def _moves(plan: "ProjectPlan") -> bool:
    """Return whether syncs write elsewhere after a plan, so that secrets stay behind."""
    return any(
        change.before is not None and _PLACES.get(change.kind, set()) & set(change.after or {})
        for each in plan.diffs
        for change in each.changes
    )


def _question(plan: "ProjectPlan") -> str | None:
    """Return what has to be confirmed, None if nothing is removed."""
    removals = [change for each in plan.diffs for change in each.removals]
    if not removals:
        return None
    names = []
    for change in removals[:10]:
        secrets = (change.before or {}).get("secrets")
        names.append(
            f"{change.kind} {change.name}"
            + (
                f" with its {counted(secrets, 'secret')} and {'its' if secrets == 1 else 'their'} history"
                if secrets
                else ""
            )
        )
    more = f" and {len(removals) - 10} more" if len(removals) > 10 else ""
    count = sum(map(len, plan.deletions.values()))
    fate = (
        f"the deletion of {counted(count, 'AWS secret')} is scheduled" if count else "AWS secrets of removed syncs stay"
    )
    return f"remove {', '.join(names)}{more}; {fate}"


@click.command(short_help="Print the store as documents, without values.")
@click.option("--app", type=Name("app"), metavar="NAME", help="This app, and what it uses. Default: everything.")
@click.option(
    "--project",
    type=Name("project"),
    metavar="NAME",
    help="Name of the document that gets what no document owns. Default: the app's name, or main.",
)
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="How to print; apply reads both.",
)
@with_application
def dump(application: "Application", app: str | None, project: str | None, format_: str) -> None:
    """
    Print apps, environments, credentials, syncs and dynamic secrets as documents: everything but values.

    Names of keys are in it: of environments that no document owns, all that they have, as keys that must exist. What
    several documents own is printed as several, in JSON as a list (items); apply reads both.

    \b
    Examples:
      phasesync dump > project.yaml
      phasesync dump --app shop -o json
      phasesync dump | phasesync diff -f -
    """
    from phasesync.adapters.project_files.write import write_json, write_yaml
    from phasesync.engine.project import dump as writing

    documents = writing.dump(application.context, app=app, project=project or app or writing.DEFAULT_PROJECT)
    write_data(write_json(documents) if format_ == "json" else write_yaml(documents))


@click.command(short_help="Print the JSON Schema of documents.")
@click.option(
    "-o", "--output", "format_", type=click.Choice(["json"]), default="json", show_default=True, help="How to print."
)
def schema(format_: str) -> None:
    """
    Print the JSON Schema of documents, with which editors check and complete them.

    \b
    Example:
      phasesync schema > phasesync.schema.json
      # yaml-language-server: $schema=phasesync.schema.json     (first line of a document)
    """
    import json

    from phasesync.core.project.json_schema import schema as of_documents

    del format_
    write_data(json.dumps(of_documents(), indent=2, ensure_ascii=False) + "\n")


# --- reading


def _read(files: Sequence[str]) -> "tuple[DesiredProject, ...]":
    from phasesync.adapters.project_files.read import read_projects

    return read_projects(files)


Prompt = Callable[["SecretOrigin"], "SecretValue | None"]


def _never(_: "SecretOrigin") -> None:
    return None


def _documents(
    projects: "Sequence[DesiredProject]", files: Sequence[str], *, prune: bool, remote: str, prompt: Prompt = _never
) -> "Documents":
    import os
    from pathlib import Path

    from phasesync.adapters.project_files.secret_access_keys import resolve_secret
    from phasesync.adapters.project_files.sops import decrypt
    from phasesync.core.model import SecretValue
    from phasesync.engine.project.plan import Documents

    if remote == "delete" and not prune:
        raise InvalidInputError("--remote says what happens to removed syncs, so it needs --prune", hint="add --prune")

    read: dict[str, SecretValue | None] = {}

    def resolve(origin: "SecretOrigin") -> "SecretValue | None":
        if origin.prompt:
            return prompt(origin)
        if str(origin.place) not in read:
            # Who only looks at the changes need not have the secret. Read once: it may be a pipe.
            there = os.environ.get(origin.env) if origin.env is not None else Path(origin.file or "").exists()
            read[str(origin.place)] = resolve_secret(origin, prompt=str) if there else None
        return read[str(origin.place)]

    return Documents.of(
        projects,
        decrypt=decrypt,
        resolve_secret=resolve,
        source=",".join(files),
        prune=prune,
        delete=remote == "delete",
    )


def _plan(application: "Application", documents: "Documents") -> "tuple[ProjectPlan, Work]":
    from phasesync.engine.project.plan import plan_projects

    return plan_projects(application.context, documents, actor=invocation().actor)


_NOT_ASKED: dict[str, Any] = {}


def _look_at_aws(application: "Application", documents: "Documents", plan: "ProjectPlan") -> tuple[dict[str, Any], int]:
    """
    Rehearse a plan.

    Returns:
        Members for its document: what the runs after it would do, and the protected environments, for which somebody
        else has to approve it. Then the highest exit code of the errors.
    """
    from phasesync.engine.project.apply import rehearse_projects
    from phasesync.engine.rehearsal import rehearse

    with rehearse(application.context) as rehearsal:
        rehearse_projects(application.context, documents, plan, actor=invocation().actor)
    syncs, worst = planned_syncs(application, rehearsal.affected)
    return {"syncs": syncs, "approval_needed_for": list(rehearsal.protected)}, worst


def _ask_for_secrets(
    plan: "ProjectPlan", projects: "Sequence[DesiredProject]", *, no_input: bool
) -> "dict[str, SecretValue]":
    """Ask for the secret access keys that documents want to be asked for, where the change needs them."""
    from phasesync.cli.secret_prompt import ask_secret
    from phasesync.core.credential import check_secret_access_key
    from phasesync.core.model import SecretValue
    from phasesync.core.project.compare import ChangeAction
    from phasesync.core.project.desired import DesiredCredential

    needed = {
        change.name.lower()
        for each in plan.diffs
        for change in each.changes
        if change.kind == DesiredCredential.kind
        and (change.action is ChangeAction.ADD or "access_key_id" in (change.after or {}))
    }
    answers = {}
    for project in projects:
        for wanted in project:
            if not isinstance(wanted, DesiredCredential) or wanted.secret is None or not wanted.secret.prompt:
                continue
            if wanted.key not in needed:
                continue
            if no_input or not is_terminal():
                raise ConfirmationRequiredError(
                    f"{wanted.secret.place}: there is no terminal to ask for the secret access key of {wanted.name}",
                    hint="write secret_access_key: {env: NAME} or {file: PATH}",
                )
            typed = ask_secret(f"Secret access key of {wanted.name}", max_bytes=MAX_BYTES, otherwise="use {env: NAME}")
            answers[str(wanted.secret.place)] = check_secret_access_key(SecretValue(typed))
    return answers


# --- printing


def _document(plan: "ProjectPlan", work: "Work") -> dict[str, Any]:
    from phasesync.cli.project_documents import plan_document

    return plan_document(plan, warnings=work.warnings)


def _show(out: Output, document: dict[str, Any]) -> None:
    """Print a plan, as `-o` asked for."""
    from phasesync.cli.project_documents import plan_as_markdown, show_plan

    if out.as_json:
        out.document(document)
    elif out.as_markdown:
        write_data(plan_as_markdown(document))
    else:
        show_plan(out, document)
        if "syncs" in document:
            show_planned_syncs(out, document["syncs"])
        if document.get("dry_run"):
            out.say("dry run: nothing was changed")


def _done(plan: "ProjectPlan", scheduled: Sequence[str]) -> str:
    if not plan.changes_anything:
        return "nothing to change"
    counts: dict[str, int] = {}
    for each in plan.diffs:
        for change in each.changes:
            counts[str(change.action)] = counts.get(str(change.action), 0) + 1
    words = {"add": "added", "update": "updated", "remove": "removed", "adopt-ownership": "adopted"}
    done = "applied: " + ", ".join(f"{count} {words[action]}" for action, count in counts.items())
    return done + (f"; the deletion of {counted(len(scheduled), 'AWS secret')} is scheduled" if scheduled else "")
