"""Commands of `phasesync syncs` that change the owner of AWS secrets: adopt, release, remove."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run, would_call
from phasesync.cli.input import confirm, confirmation_options, never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.sync_operations import sync_document_of
from phasesync.cli.sync_options import name_argument
from phasesync.core.counted import counted
from phasesync.core.sync import Adopt
from phasesync.core.times import instant_text
from phasesync.errors import IllegalTransitionError

if TYPE_CHECKING:
    from collections.abc import Sized

    from phasesync.bootstrap import Application
    from phasesync.core.planning.ownership import ForeignObject
    from phasesync.engine.adoption import ExistingObjects
    from phasesync.engine.import_values import ImportResult

_SHOWN = 20
"""Most secrets that are described one by one."""


@click.command(short_help="Take over AWS secrets that are not ours.")
@name_argument
@click.option(
    "--import",
    "prefer",
    type=click.Choice([str(Adopt.PREFER_STORE), str(Adopt.PREFER_AWS)]),
    help="Merge the values at AWS into the environment first; of a key that both have, the named side wins. Default: "
    "nothing is merged.",
)
@confirmation_options
@output_option
@with_application
@dry_run_option
def adopt(application: "Application", name: str, prefer: str | None, yes: bool, no_input: bool, out: Output) -> None:
    """
    Take over the AWS secrets of a sync that are not ours, and overwrite their values. The next run does it.

    With --import their values are read and merged into the environment first. A version that was written after that is
    not overwritten.

    \b
    Examples:
      phasesync syncs adopt shop-production
      phasesync syncs adopt shop-production --import prefer-aws --yes
    """
    from phasesync.cli.documents import import_document
    from phasesync.cli.output import show_identity
    from phasesync.engine.adoption import accept_adoption, preview_adoption

    preview = preview_adoption(application.context, name, Adopt(prefer) if prefer else Adopt.OVERWRITE)
    show_identity(application, application.store.credentials.get(preview.sync.credential), out)
    show_existing(preview.existing, out)
    if not preview.existing.foreign:
        out.done(f"{name} has nothing to take over", sync_document_of(application, name) | {"imported": None})
        return
    secrets = secrets_of(preview.existing.adoptable)
    if prefer is None:
        question = f"take over {secrets} and overwrite what is there"
    else:
        winner = "the store's" if prefer == Adopt.PREFER_STORE else "AWS's"
        question = (
            f"import {secrets} into {preview.sync.environment_label} {preview.sync.path} and take over; where both "
        )
        question += f"have a key, {winner} value stays"
    if preview.existing.adoptable:
        confirm(question, yes=yes, no_input=no_input)
    imported = accept_adoption(application.context, preview, actor=invocation().actor)
    if imported is not None:
        out.say(import_line(preview.sync.environment_label, imported))
    out.done(
        f"the next run of {name} takes over {secrets}",
        sync_document_of(application, name) | {"imported": None if imported is None else import_document(imported)},
    )


@click.command(short_help="Give the AWS secrets of a sync back.")
@name_argument
@never_asks
@output_option
@with_application
@dry_run_option
def release(application: "Application", name: str, out: Output) -> int:
    """
    Give up the AWS secrets of a sync: our tags are removed, former tags restored. Values stay; the sync is paused.

    \b
    Example:
      phasesync syncs release shop-production
    """
    from phasesync.cli.output import show_identity
    from phasesync.engine.removal import release_sync

    sync = application.store.syncs.get_sync(name)
    show_identity(application, application.store.credentials.get_by_id(sync.credential_id), out)
    if is_dry_run():
        return _show_release(application, name, out)
    released = release_sync(application.context, name, actor=invocation().actor)
    for remote_name, reason in released.kept.items():
        out.warn(f"{remote_name} is still ours: {reason}")
    left = f"; {secrets_of(released.kept)} could not be" if released.kept else ""
    out.done(
        f"gave back {secrets_of(released.given_back)}{left}; {name} is paused",
        sync_document_of(application, name) | {"released": list(released.given_back), "kept": released.kept},
    )
    return 1 if released.kept else 0


def _show_release(application: "Application", name: str, out: Output) -> int:
    from phasesync.engine.removal_preview import preview_release

    preview = preview_release(application.context, name)
    for remote_name, reason in preview.kept.items():
        out.warn(f"{remote_name} would stay ours: {reason}")
    would_call(out, preview.calls)
    document = sync_document_of(application, name) | {"released": preview.done, "kept": preview.kept}
    out.done(f"would give back {secrets_of(preview.done)} and pause {name}", document)
    return 1 if preview.kept else 0


@click.command()
@name_argument
@click.option(
    "--remote",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="What happens to the AWS secrets: they stay, or are deleted with the sync's recovery window.",
)
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(application: "Application", name: str, remote: str, yes: bool, no_input: bool, out: Output) -> int:
    """
    Remove a sync with its log. The AWS secrets stay, and our tags are removed if that is allowed.

    With --remote delete their deletion is scheduled; what cannot be deleted yet keeps the sync, paused, and the command
    can be repeated.

    \b
    Examples:
      phasesync syncs remove shop-production --remote keep --yes
      phasesync syncs remove shop-production --remote delete
    """
    from phasesync.engine.removal import remove_sync

    if not application.store.syncs.has_sync(name):
        application.store.syncs.get_sync(name)  # The error names those that exist.
    if is_dry_run():
        return _show_removal(application, name, remote, out)
    if remote == "delete":
        _remove_with_secrets(application, name, yes=yes, no_input=no_input, out=out)
        return 0
    confirm(f"remove the sync {name} and its log; the AWS secrets stay", yes=yes, no_input=no_input)
    for line in remove_sync(application.context, name, actor=invocation().actor):
        out.warn(line)
    out.done(f"removed the sync {name}; its AWS secrets stay", {"removed": name, "remote": remote})
    return 0


def _show_removal(application: "Application", name: str, remote: str, out: Output) -> int:
    from phasesync.engine.removal_preview import preview_deletion, preview_removal

    if remote == "keep":
        preview = preview_removal(application.context, name)
        would_call(out, preview.calls)
        for line in (*preview.notes, *(f"{one} would keep our tags: {why}" for one, why in preview.kept.items())):
            out.warn(line)
        out.done(f"would remove the sync {name}; its AWS secrets stay", {"removed": name, "remote": remote})
        return 0
    preview = preview_deletion(application.context, name)
    would_call(out, preview.calls)
    for remote_name, reason in {**preview.left_alone, **preview.kept}.items():
        out.warn(f"{remote_name}: {reason}")
    document = {
        "removed": None if preview.kept else name,
        "remote": remote,
        "scheduled": preview.done,
        "left_alone": preview.left_alone,
        "blocked": preview.kept,
    }
    message = f"would schedule the deletion of {secrets_of(preview.done)}, and remove the sync {name}"
    if preview.kept:
        message = (
            f"would schedule the deletion of {secrets_of(preview.done)}; {secrets_of(preview.kept)} could not be "
            f"deleted, so the sync {name} would stay, paused"
        )
    out.done(message, document)
    return IllegalTransitionError.exit_code if preview.kept else 0


def _remove_with_secrets(application: "Application", name: str, *, yes: bool, no_input: bool, out: Output) -> None:
    from phasesync.cli.output import show_identity
    from phasesync.engine.removal import deletable_objects, remove_sync_and_objects

    sync = application.store.syncs.get_sync(name)
    objects = deletable_objects(application.context, name)
    question = f"schedule the deletion of {secrets_of(objects)} (gone for good after {sync.config.recovery_days} days)"
    confirm(f"{question}, and remove the sync {name} and its log", yes=yes, no_input=no_input)
    show_identity(application, application.store.credentials.get_by_id(sync.credential_id), out)
    done = remove_sync_and_objects(application.context, name, actor=invocation().actor)
    for remote_name, reason in {**done.left_alone, **done.blocked}.items():
        out.warn(f"{remote_name}: {reason}")
    if done.blocked:
        raise IllegalTransitionError(
            f"{secrets_of(done.blocked)} could not be deleted, so the sync {name} stays, paused",
            hint=f"repeat it when that is corrected, or leave them: phasesync syncs remove {name} --remote keep",
        )
    out.done(
        f"removed the sync {name}; the deletion of {secrets_of(done.scheduled)} is scheduled",
        {"removed": name, "remote": "delete", "scheduled": list(done.scheduled), "left_alone": done.left_alone},
    )


def secrets_of(names: "Sized") -> str:
    """Return how many AWS secrets, as text."""
    return counted(len(names), "AWS secret")


def show_existing(existing: "ExistingObjects", out: Output) -> None:
    """Print on stderr what is at the remote names and not ours; never a value."""
    for candidate in existing.foreign[:_SHOWN]:
        out.say(_described(candidate))
    if len(existing.foreign) > _SHOWN:
        out.say(f"... and {len(existing.foreign) - _SHOWN} more that are not ours")
    for line in existing.warnings[:_SHOWN]:
        out.warn(line)
    if existing.ours:
        out.say(f"ours already: {len(existing.ours)}")
    if existing.absent:
        out.say(f"missing at AWS: {secrets_of(existing.absent)}; the next run creates what is missing")


def import_line(environment: str, imported: "ImportResult") -> str:
    """Return the result of an import, as one line."""
    added = counted(len(imported.added), "key")
    return (
        f"imported into {environment}: {added} added, {len(imported.changed)} changed, "
        f"{len(imported.kept)} kept as the store has them (revision {imported.revision})"
    )


def _described(candidate: "ForeignObject") -> str:
    observed = candidate.observed
    tags = ", ".join(f"{key}={value}" for key, value in sorted(observed.tags.items())) or "none"
    changed = f"; last changed {instant_text(observed.last_changed_at)}" if observed.last_changed_at else ""
    state = f"{observed.arn}; tags: {tags}; versions: {len(observed.versions)}{changed}"
    return f"{candidate.remote_name} {candidate.owner}: {state}"
