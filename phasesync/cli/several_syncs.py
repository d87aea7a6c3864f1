"""`phasesync syncs plan`, `run` and `approve` for several syncs at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output
from phasesync.cli.streams import write_data
from phasesync.cli.sync_results import (
    SyncResult,
    error_document,
    errors_as_results,
    show_changed,
    show_errors,
    show_identities,
    show_results,
    sync_documents,
    threads_of,
    worst_code,
)
from phasesync.cli.sync_selection import Selection
from phasesync.core.sync import SyncStatus
from phasesync.errors import IllegalTransitionError, PhasesyncError, PlanHeldError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.run import Run
    from phasesync.engine.sync_operations import PlanReport


def plan_several(application: "Application", selection: Selection, *, detailed_exitcode: bool, out: Output) -> int:
    """Print the plans of several syncs, and the digest over all that is held; return the exit code."""
    from phasesync.cli.documents import plan_document
    from phasesync.engine.bulk_operations import held_digest, plan_all

    names = selection.resolve(application)
    reports = plan_all(application.operations, names, threads_of(application, names, out, "planned")) if names else {}
    show_identities(application, reports.values(), out)
    documents: list[dict[str, Any]] = [
        error_document(name, report) if isinstance(report, PhasesyncError) else plan_document(report)
        for name, report in reports.items()
    ]
    digest = held_digest(reports.values())
    if out.as_json:
        out.document({"items": documents, "next": None, "digest": digest})
    elif out.as_markdown:
        show_as_markdown(documents, digest, selection)
    elif not names:
        out.say(selection.empty)
    else:
        _show_plans(out, documents)
        show_errors(out, [_planned(name, report) for name, report in reports.items()], selection)
        if digest is not None:
            out.say(f"held until: phasesync syncs approve {selection.words} --plan {digest}")
    return worst_code(_exit_code_of_plan(report, detailed=detailed_exitcode) for report in reports.values())


def show_as_markdown(documents: Sequence[dict[str, Any]], digest: str | None, selection: Selection) -> None:
    """Print plans as Markdown."""
    from phasesync.cli.plan_markdown import plans_as_markdown

    write_data(plans_as_markdown(documents, digest=digest, approve=selection.words) + "\n")


def _planned(name: str, report: "PlanReport | PhasesyncError") -> SyncResult:
    if isinstance(report, PhasesyncError):
        return SyncResult.of_error(name, report)
    return SyncResult(sync=name, document=None, row={})


def _exit_code_of_plan(report: "PlanReport | PhasesyncError", *, detailed: bool) -> int:
    from phasesync.cli.documents import has_changes

    if isinstance(report, PhasesyncError):
        return report.exit_code
    if report.problems:
        return worst_code(problem.exit_code for problem in report.problems.values())
    return 3 if detailed and has_changes(report) else 0


def _show_plans(out: Output, documents: Sequence[dict[str, Any]]) -> None:
    """Print a table of plans, then what changes of each sync for which something does."""
    from phasesync.cli.text import show_plan
    from phasesync.core.remote import Action

    rows, notable = [], []
    for document in documents:
        if "error" in document:
            rows.append({"sync": document["sync"], "changes": "error"})
            continue
        actions = [change["action"] for change in document["changes"] if change["action"] != Action.NOOP]
        counts = ", ".join(f"{actions.count(action)} {action}" for action in dict.fromkeys(actions))
        rows.append(
            {
                "sync": document["sync"],
                "changes": counts or ("incomplete" if document["problems"] else "none"),
                "held": len(document["held"]) or None,
                "writes": document["estimate"]["writes"] or None,
            }
        )
        if actions or document["problems"]:
            notable.append(document)
    out.items(rows, ["sync", "changes", "held", "writes"])
    for document in notable:
        click.echo(f"\n{document['sync']}:")
        # What is approved is the digest over all of them.
        show_plan(out, document | {"digest": None})


def run_several(application: "Application", selection: Selection, out: Output) -> int:
    """Reconcile several syncs in this process; return the exit code."""
    from phasesync.cli.documents import run_document
    from phasesync.cli.text import exit_code_of_run
    from phasesync.core.run import Run
    from phasesync.engine.bulk_operations import run_all

    names = selection.resolve(application)
    threads = threads_of(application, names, out, "done") if names else None
    runs = (
        run_all(application.context, application.operations, names, threads, actor=invocation().actor)
        if threads is not None
        else {}
    )

    failures = errors_as_results(
        application, {name: run for name, run in runs.items() if isinstance(run, PhasesyncError)}
    )

    def result_of(name: str, run: Run | PhasesyncError) -> SyncResult:
        if isinstance(run, PhasesyncError):
            return failures[name]
        row = {
            "result": str(run.outcome),
            "calls": run.aws_calls,
            "new_versions": run.versions_written,
            "reason": _reason_of(run),
        }
        return SyncResult(sync=name, document=run_document(run), row=row, exit_code=exit_code_of_run(run))

    results = [result_of(name, run) for name, run in runs.items()]
    code = show_results(out, [results], ["result", "calls", "new_versions", "reason"], selection)
    if not out.as_json:
        _show_hints(out, [run for run in runs.values() if isinstance(run, Run)], selection)
    return code


def _reason_of(run: "Run") -> str | None:
    """Return why a run did not do everything; None if it did."""
    if run.error is not None:
        return run.error.message
    return next((change.reason for change in run.changes if change.waits), None)


def _show_hints(out: Output, runs: "Sequence[Run]", selection: Selection) -> None:
    """Print the hints of runs on stderr, each once; several held plans are approved by one digest."""
    held = [run for run in runs if run.error is not None and run.error.cls == PlanHeldError.__name__]
    together = len(held) > 1
    if together:
        words = selection.words_of(SyncStatus.HELD)
        out.say(f"hint: {len(held):,} syncs are held; to see why, and to approve it: phasesync syncs plan {words}")
    hints = [run.error.hint for run in runs if run.error is not None and not (together and run in held)]
    for hint in dict.fromkeys(hint for hint in hints if hint):
        out.say(f"hint: {hint}")


def show_runs_to_come(application: "Application", selection: Selection, out: Output) -> int:
    """Have syncs reconciled in a rehearsal, which shows their plans; return the exit code."""
    from phasesync.cli.sync_operations import sync_document_of
    from phasesync.engine.bulk_operations import trigger_all

    actor = invocation().actor
    if selection.only is not None:
        application.operations.trigger(selection.only, actor=actor)
        out.done(f"would run {selection.only}", sync_document_of(application, selection.only))
        return 0
    names = selection.resolve(application)
    errors = trigger_all(application.context, names, actor=actor)
    return show_changed(application, out, names, errors, selection, done="would run")


def approve_several(application: "Application", selection: Selection, digest: str, out: Output) -> int:
    """Approve the held plans of several syncs; return the exit code."""
    from phasesync.cli.documents import held_document
    from phasesync.engine.bulk_operations import approve_all

    names = selection.resolve(application)
    if not names:
        return show_results(out, [], ["result"], selection)
    threads = threads_of(application, names, out, "planned")
    try:
        done = approve_all(
            application.context,
            application.operations,
            names,
            digest,
            threads,
            actor=invocation().actor,
            by=application.settings.approvals.by,
        )
    except IllegalTransitionError as error:
        error.hint = error.hint or f"look at them again: phasesync syncs plan {selection.words}"
        raise
    documents = sync_documents(application, list(done.approved)) if out.as_json else {}

    def result_of(name: str) -> SyncResult | None:
        if name in done.errors:
            return SyncResult.of_error(name, done.errors[name])
        if name not in done.approved:
            return None
        changes = [held_document(change) for change in done.approved[name]]
        row = {"result": approved_line(name, done.digests[name], changes)}
        return SyncResult(sync=name, document={**documents.get(name, {}), "approved": changes}, row=row)

    results = [result for name in names if (result := result_of(name)) is not None]
    return show_results(out, [results], ["result"], selection)


def approved_line(name: str, digest: str, changes: Sequence[dict[str, str]]) -> str:
    """Return what was approved of one sync, as one line."""
    if not changes:
        return f"{digest} of {name} was approved already"
    names = {change["remote_name"] for change in changes}
    subject = names.pop() if len(names) == 1 else f"{len(changes)} changes of {len(names)} AWS secrets"
    rules = ", ".join(sorted({change["rule"] for change in changes}))
    return f"approved {digest} of {name}: {subject} ({rules}); the next run carries it out"
