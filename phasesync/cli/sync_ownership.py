"""Commands of `phasesync syncs` that say whose AWS secrets are: adopt."""

from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, instant, output_option
from phasesync.cli.sync_control import document_of
from phasesync.cli.sync_options import name_argument
from phasesync.core.model import Adopt

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.engine.importing import TakenIn
    from phasesync.engine.survey import Candidate, Survey

_SHOWN = 20
"""So many secrets are described one by one."""


@click.command()
@name_argument
@click.option(
    "--import",
    "prefer",
    type=click.Choice([str(Adopt.PREFER_STORE), str(Adopt.PREFER_AWS)]),
    help="First bring what is there into the environment, and say whose value stays where both have a key.",
)
@confirmation_options
@output_option
@with_application
def adopt(application: "Application", name: str, prefer: str | None, yes: bool, no_input: bool, out: Output) -> None:
    """
    Take over the AWS secrets of a sync that are not ours, and overwrite their values. The next run does it.

    With --import their values are read and merged into the environment before; a version that came later is not
    overwritten.

    \b
    Examples:
      phasesync syncs adopt shop-production
      phasesync syncs adopt shop-production --import prefer-aws --yes
    """
    from phasesync.cli.identity import tell_identity

    offer = application.adoption.offer(name, Adopt(prefer) if prefer else Adopt.OVERWRITE)
    tell_identity(application, application.credentials.get(offer.sync.credential), out)
    show_survey(offer.found, out)
    if not offer.found.candidates:
        out.done(f"{name} has nothing to take over", document_of(application, name) | {"imported": None})
        return
    count = len(offer.found.takeable)
    secrets = "1 AWS secret" if count == 1 else f"{count} AWS secrets"
    if prefer is None:
        question = f"take over {secrets} and overwrite what is there"
    else:
        winner = "the store's" if prefer == Adopt.PREFER_STORE else "AWS's"
        question = f"import {secrets} into {offer.sync.environment_label} {offer.sync.path} and take over; where both "
        question += f"have a key, {winner} value stays"
    if count:
        confirm(question, yes=yes, no_input=no_input)
    taken = application.adoption.accept(offer, actor=invocation().actor)
    if taken is not None:
        out.say(import_line(offer.sync.environment_label, taken))
    out.done(
        f"the next run of {name} takes over {secrets}",
        document_of(application, name) | {"imported": None if taken is None else import_document(taken)},
    )


def show_survey(found: "Survey", out: Output) -> None:
    """Say on stderr what stands at the remote names and is not ours; never a value."""
    for one in found.candidates[:_SHOWN]:
        out.say(_described(one))
    if len(found.candidates) > _SHOWN:
        out.say(f"... and {len(found.candidates) - _SHOWN} more that are not ours")
    for line in found.warnings[:_SHOWN]:
        out.warn(line)
    if found.ours:
        out.say(f"ours already: {len(found.ours)}")
    if found.absent:
        first = found.absent[0] if len(found.absent) == 1 else f"{len(found.absent)} AWS secrets"
        out.say(f"{first} {'does' if len(found.absent) == 1 else 'do'} not exist; the next run creates what is missing")


def import_document(taken: "TakenIn") -> dict[str, Any]:
    """Return what an import brought, by key."""
    return {
        "added": list(taken.added),
        "changed": list(taken.changed),
        "kept": list(taken.kept),
        "revision": taken.revision,
    }


def import_line(environment: str, taken: "TakenIn") -> str:
    """Return what an import brought, as one line."""
    return (
        f"imported into {environment}: {len(taken.added)} keys added, {len(taken.changed)} changed, "
        f"{len(taken.kept)} kept as the store has them (revision {taken.revision})"
    )


def _described(one: "Candidate") -> str:
    seen = one.observed
    tags = ", ".join(f"{key}={value}" for key, value in sorted(seen.tags.items())) or "none"
    changed = f"; last changed {instant(seen.last_changed_at)}" if seen.last_changed_at else ""
    return f"{one.remote_name} {one.owner}: {seen.arn}; tags: {tags}; versions: {len(seen.versions)}{changed}"
