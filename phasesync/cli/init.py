"""`phasesync init`: data directory, root key and database, ready for the first app."""

import click

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option


@click.command()
@output_option
def init(out: Output) -> None:
    """
    Make what is missing: data directory, root key (mode 0600), database. Safe to repeat.

    \b
    Example:
      PHASESYNC_DATA_DIR=/var/lib/phasesync PHASESYNC_ROOT_KEY_FILE=/etc/phasesync/root.key phasesync init
    """
    settings = invocation().settings().settings
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
    if done.key_made:
        out.say(f"made the root key {key_file}; keep a copy in a safe place: without it nothing can be decrypted")
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
