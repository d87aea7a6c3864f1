"""`phasesync init`: data directory, root key and database, ready for the first app."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.audited import note_done
from phasesync.cli.dry_run import dry_run_flag, show_dry_run
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option

if TYPE_CHECKING:
    from phasesync.settings import Settings


@click.command()
@output_option
@dry_run_flag
def init(dry_run: bool, out: Output) -> None:
    """
    Make what is missing: data directory, root key (mode 0600), database. Safe to repeat.

    \b
    Example:
      PHASESYNC_DATA_DIR=/var/lib/phasesync PHASESYNC_ROOT_KEY_FILE=/etc/phasesync/root.key phasesync init
    """
    settings = invocation().settings().settings
    if dry_run:
        _show_dry_run(settings, out)
        return
    from phasesync.bootstrap import initialise_installation

    done = initialise_installation(settings)
    for warning in done.warnings:
        out.warn(warning)
    key_file = settings.root_key_file
    if key_file.exists() and key_file.resolve().is_relative_to(settings.data_dir.resolve()):
        out.warn(
            f"the root key {key_file} is inside the data directory: a backup of it would hold its own key; "
            "move it and set PHASESYNC_ROOT_KEY_FILE"
        )
    if done.key_made and settings.root_key_kms_key is not None:
        out.say(f"made the root key: {done.root_key.source} has encrypted it, and it lies in the database")
    elif done.key_made:
        out.say(f"made the root key {key_file}; keep a copy in a safe place: without it nothing can be decrypted")
    if done.is_new:
        note_done(
            settings,
            "installation.init",
            details={"root_key_id": done.root_key.id, "root_key_made": done.key_made},
            out=out,
        )
    out.done(
        "ready; next: phasesync apps add NAME",
        {
            "instance_id": done.instance_id,
            "root_key": done.root_key.source,
            "root_key_id": done.root_key.id,
            "root_key_made": done.key_made,
            "data_dir": str(settings.data_dir),
        },
    )


def _show_dry_run(settings: "Settings", out: Output) -> None:
    from phasesync.bootstrap import preview_installation

    preview = preview_installation(settings)
    root_key, schema = preview.root_key, preview.schema
    made = []
    if preview.folder_made:
        made.append(f"the data directory {settings.data_dir}")
    kms_key = settings.root_key_kms_key
    if root_key is None and kms_key is not None:
        made.append(f"a root key that the KMS key {kms_key} encrypts")
    elif root_key is None:
        made.append(f"the root key {settings.root_key_file}")
    if preview.revisions:
        made.append(f"the schema {schema.expected} of the database, which has {schema.current or 'none'}")
    show_dry_run(
        out,
        f"would make {', and '.join(made)}" if made else "everything is there already",
        {
            "instance_id": preview.instance_id,
            "root_key": kms_key or str(settings.root_key_file) if root_key is None else root_key.source,
            "root_key_id": None if root_key is None else root_key.id,
            "root_key_made": root_key is None,
            "data_dir": str(settings.data_dir),
            "data_dir_made": preview.folder_made,
            "schema": {"current": schema.current, "expected": schema.expected, "revisions": list(preview.revisions)},
        },
    )
