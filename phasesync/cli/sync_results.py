"""What a command prints of several syncs: one result for each, errors with their syncs, and the worst exit code."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from phasesync.cli.output import Item, Output
from phasesync.cli.refusals import write_refusals
from phasesync.core.pages import PAGE_SIZE, Page
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus
from phasesync.errors import IllegalTransitionError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.cli.sync_selection import Selection
    from phasesync.engine.bulk_operations import Errors, Threads

SEVERITY: Final = (0, 3, 4, 5, 2, 1, 7, 6, 130)
"""
Exit codes from mild to bad. A plan with changes is what was asked for; 4 waits for a person and harms nothing; 1
failed; 7 and 6 are usually true of more syncs than one; 130 says that not all was done.
"""
_ERRORS_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """
    The result of one sync.

    Attributes:
        sync: its name.
        document: what JSON shows of it; None if there is an error.
        row: the other columns of its line in a table.
        error: why there is no document.
        exit_code: of a command on this sync alone.
    """

    sync: str
    document: Item | None
    row: Item
    error: PhasesyncError | None = None
    exit_code: int = 0

    @classmethod
    def of_error(cls, sync: str, error: PhasesyncError) -> "SyncResult":
        """Return the result of a sync that an error was raised for."""
        row = {"result": "error", "reason": error.message}
        return cls(sync=sync, document=None, row=row, error=error, exit_code=error.exit_code)

    @classmethod
    def of_paused(cls, sync: str, error: PhasesyncError) -> "SyncResult":
        """Return the result of a sync that was left alone because it is paused."""
        return replace(cls.of_error(sync, error), row={"result": str(SyncStatus.PAUSED), "reason": error.message})

    @property
    def is_paused(self) -> bool:
        """Whether it was left alone because it is paused."""
        return self.row.get("result") == SyncStatus.PAUSED and self.error is not None


def worst_code(codes: Iterable[int]) -> int:
    """Return the worst of some exit codes, 0 if there are none."""
    return max(codes, key=lambda code: SEVERITY.index(code) if code in SEVERITY else SEVERITY.index(1), default=0)


def error_document(sync: str, error: PhasesyncError) -> dict[str, Any]:
    """Return the error of one sync among several."""
    return {
        "sync": sync,
        "error": {"class": type(error).__name__, "message": error.message, "hint": error.hint},
    }


def errors_as_results(application: "Application", errors: "Errors") -> dict[str, SyncResult]:
    """Return name -> result of syncs that errors were raised for, and write these to the audit log."""
    write_refusals(application, errors)
    refused = [name for name, error in errors.items() if isinstance(error, IllegalTransitionError)]
    paused = {sync.name for sync in application.store.syncs.get_syncs(refused) if sync.paused is not None}
    return {
        name: SyncResult.of_paused(name, error) if name in paused else SyncResult.of_error(name, error)
        for name, error in errors.items()
    }


def show_results(
    out: Output, results: Iterable[Sequence[SyncResult]], columns: Sequence[str], selection: "Selection"
) -> int:
    """
    Print results as they come; return the exit code.

    Args:
        out: how to print.
        results: page by page.
        columns: of a table, after the name of the sync.
        selection: what was typed, for hints on all of it.
    """
    codes: set[int] = set()
    errors: list[SyncResult] = []

    def pages() -> Iterator[Page[Item]]:
        for part in results:
            codes.update(result.exit_code for result in part)
            errors.extend(result for result in part if result.error is not None)
            yield Page(items=tuple(_item(result, out) for result in part), next=None)

    out.pages(pages(), ["sync", *columns], empty=selection.empty)
    if not out.as_json:
        show_errors(out, errors, selection)
    return worst_code(codes)


def show_errors(out: Output, results: Sequence[SyncResult], selection: "Selection") -> None:
    """Print errors on stderr, each with its sync, then their hints, each once; those of paused syncs are one."""
    paused = [result.sync for result in results if result.is_paused]
    together = len(paused) > 1
    failed = [
        (result.sync, result.error)
        for result in results
        if result.error is not None and not (together and result.is_paused)
    ]
    for sync, error in failed[:_ERRORS_SHOWN]:
        out.say(f"error: {sync}: {error.message}")
    if len(failed) > _ERRORS_SHOWN:
        out.say(f"... and {len(failed) - _ERRORS_SHOWN:,} more errors; -o json has them all")
    if together:
        out.say(f"error: {len(paused):,} syncs are paused, and were left alone")
        out.say(f"hint: phasesync syncs resume {selection.words_of(SyncStatus.PAUSED)}")
    for hint in dict.fromkeys(error.hint for _, error in failed[:_ERRORS_SHOWN] if error.hint):
        out.say(f"hint: {hint}")


def _item(result: SyncResult, out: Output) -> Item:
    if not out.as_json:
        return {"sync": result.sync, **result.row}
    if result.error is not None:
        return error_document(result.sync, result.error)
    return result.document or {}


def show_changed(
    application: "Application",
    out: Output,
    names: Sequence[str],
    errors: "Errors",
    selection: "Selection",
    *,
    done: str,
    more: str = "",
) -> int:
    """
    Print what was done to several syncs: in JSON each as it is now; return the exit code.

    Args:
        application: the installation.
        out: how to print.
        names: of the syncs.
        errors: of those that were left alone.
        selection: what was typed.
        done: what happened to the others, such as "paused".
        more: the end of the sentence about it, such as " until 12:00".
    """

    failures = errors_as_results(application, errors)

    def results() -> Iterator[Sequence[SyncResult]]:
        for n in range(0, len(names), PAGE_SIZE):
            part = names[n : n + PAGE_SIZE]
            documents = sync_documents(application, part) if out.as_json else {}
            yield [
                failures[name]
                if name in failures
                else SyncResult(sync=name, document=documents.get(name), row={"result": done})
                for name in part
            ]

    code = show_results(out, results(), ["result"], selection)
    if names and not out.as_json:
        failed = f"; {len(errors):,} left alone" if errors else ""
        count = len(names) - len(errors)
        out.say(f"{count:,} {'sync' if count == 1 else 'syncs'} {done}{more}{failed}")
    return code


_RUNS_LOOKED_AT = 50
"""A sync that waits for its window for long has many runs that wrote nothing."""


def last_synced_at(application: "Application", name: str) -> datetime | None:
    """Return when a sync was last in step; None if that is not known. A run after which something waited is not it."""
    for limit in (1, _RUNS_LOOKED_AT):
        runs = application.store.runs.list_runs(sync=name, outcomes=[Outcome.UNCHANGED, Outcome.APPLIED], limit=limit)
        if (done := next((run for run in runs if not run.waits), None)) is not None or len(runs) < limit:
            return None if done is None else done.ended_at
    return None


def sync_documents(application: "Application", names: Sequence[str]) -> dict[str, Item]:
    """Return name -> sync as `syncs show` prints it, of those that exist."""
    from phasesync.cli.documents import sync_details, waiting_document

    statuses, now = application.store.credentials.statuses(), application.context.clock.now()
    requests = application.store.change_requests.list_requests()
    documents: dict[str, Item] = {}
    for sync in application.store.syncs.get_syncs(names):
        details = sync_details(
            sync,
            statuses[sync.credential_id],
            window=application.window_state(sync),
            last_synced_at=last_synced_at(application, sync.name) if sync.last_run_id else None,
            now=now,
        )
        waiting = [waiting_document(request) for request in requests if sync.environment_id in request.environments]
        documents[sync.name] = details | {"waiting_for_approval": waiting}
    return documents


def threads_of(application: "Application", names: Sequence[str], out: Output, word: str) -> "Threads":
    """
    Return how several syncs are planned or run: as many at once as a daemon does, with a line of progress for each.

    Args:
        application: the installation.
        names: of the syncs.
        out: says the progress, on stderr.
        word: what is done with a sync when it succeeds, such as "planned"; for runs their outcome is said.
    """
    from phasesync.core.run import Run
    from phasesync.engine.bulk_operations import Threads

    count = iter(range(1, len(names) + 1))

    def ended(name: str, result: object) -> None:
        state = str(result.outcome) if isinstance(result, Run) else word
        if isinstance(result, PhasesyncError):
            state = "error"
        out.say(f"{next(count)} of {len(names)}: {name} {state}")

    return Threads(most=application.settings.daemon.workers, ended=ended, stop=application.clients.stop)


def show_identities(application: "Application", results: Iterable[object], out: Output) -> None:
    """Print account and ARN of every credential of some plans, each once."""
    from phasesync.cli.output import show_identity
    from phasesync.engine.sync_operations import PlanReport

    ids = dict.fromkeys(report.sync.credential_id for report in results if isinstance(report, PlanReport))
    for credential_id in ids:
        credential = application.store.credentials.get_by_id(credential_id)
        try:
            show_identity(application, credential, out)
        except PhasesyncError as error:  # The plans say what that means for each sync.
            out.warn(f"{credential.name}: {error.message}")
