"""`phasesync keys`: the keys that encrypt the store. Those of the root key are in `root_keys.py`."""

import time
from typing import TYPE_CHECKING

import click

from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import ENVIRONMENT
from phasesync.cli.root_keys import escrow, rotate_root, status
from phasesync.core.counted import counted

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.engine.data_key_rotation import Progress, Rotated

_EVERY_S = 1.0
"""Between two lines that say how far it is."""
_SHOWN = 10


@click.group()
def keys() -> None:
    """The keys that encrypt the store."""


keys.add_command(status)
keys.add_command(rotate_root)
keys.add_command(escrow)


@keys.command("rotate-data", short_help="Replace data keys, and encrypt everything anew.")
@click.argument("environment", type=ENVIRONMENT, required=False, metavar="[APP/ENV]")
@output_option
@dry_run_flag
@with_application
def rotate_data(application: "Application", environment: tuple[str, str] | None, dry_run: bool, out: Output) -> int:
    """
    Make a new data key, encrypt everything anew with it, and remove the old key. Default: every data key, one for each
    environment and the shared ones; with APP/ENV only that of one environment.

    Daemons and commands go on working meanwhile; no value changes, and nothing is written at AWS. Interrupted, repeat
    it: it goes on. Backups from before have the old keys in them, wrapped by the root key. Exit 4 if old keys had to be
    kept, and 6 if something does not authenticate.

    \b
    Examples:
      phasesync keys rotate-data shop/production
      phasesync keys rotate-data
    """
    from phasesync.engine.data_key_rotation import rotate_data_keys

    if dry_run:
        _show_rotation(application, environment, out)
        return 0
    rotated = rotate_data_keys(
        application.context,
        environment=environment,
        report=_Progress(out),
        pause=lambda pause: time.sleep(pause.total_seconds()),
    )
    return _show_rotated(rotated, environment, out)


class _Progress:
    """Says now and then how far it is; not in JSON."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._said_at = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        if self._out.as_json or time.monotonic() - self._said_at < _EVERY_S:
            return
        self._said_at = time.monotonic()
        self._out.say(f"{counted(progress.replaced, 'key')} replaced, {counted(progress.rows, 'row')} encrypted anew")


def _show_rotated(rotated: "Rotated", environment: tuple[str, str] | None, out: Output) -> int:
    repeat = "phasesync keys rotate-data" + ("" if environment is None else f" {'/'.join(environment)}")
    document = {
        "replaced": list(rotated.replaced),
        "went_on": rotated.went_on,
        "rows": rotated.rows,
        "removed": rotated.removed,
        "kept": rotated.kept,
        "held_by": list(rotated.held_by),
        "unread": list(rotated.unread),
        "errors": list(rotated.errors),
    }
    if rotated.went_on and not out.as_json:
        out.say("went on with a rotation that was interrupted")
    for error in rotated.errors:
        out.warn(error)
    if rotated.unread:
        out.warn(
            f"rows in {', '.join(rotated.unread)} do not authenticate: they were altered outside phasesync, and stay "
            "as they are, with their key; restore a backup (phasesync db restore FILE), or remove what they belong to"
        )
    if rotated.held_by:
        out.warn(
            f"the old keys are kept: a daemon of a former release is at work on {', '.join(rotated.held_by)}, and "
            f"would go on using them; install this release there, then repeat: {repeat}"
        )
    elif rotated.kept and not rotated.unread:
        out.warn(f"kept {counted(rotated.kept, 'old key')}, which a write still uses; repeat: {repeat}")
    out.done(
        f"replaced {counted(len(rotated.replaced), 'data key')}, encrypted {counted(rotated.rows, 'row')} anew, "
        f"removed {counted(rotated.removed, 'old key')}",
        document,
    )
    if rotated.errors or rotated.unread:
        return 6
    return 4 if rotated.kept else 0


def _show_rotation(application: "Application", environment: tuple[str, str] | None, out: Output) -> None:
    store = application.store.data_keys
    wanted, former = store.in_use(environment), store.former()
    rows = store.count_rows(wanted)
    shown = ", ".join(key.label for key in wanted[:_SHOWN])
    more = f" and {len(wanted) - _SHOWN:,} more" if len(wanted) > _SHOWN else ""
    goes_on = f"; {counted(len(former), 'old key')} of an earlier rotation would go too" if former else ""
    show_dry_run(
        out,
        f"would replace {counted(len(wanted), 'data key')} ({shown}{more}) and encrypt about {counted(rows, 'row')} "
        f"anew{goes_on}",
        {"keys": [key.label for key in wanted], "rows": rows, "old_keys": len(former)},
    )
