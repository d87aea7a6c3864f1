"""`phasesync sandbox`: a store, a daemon and an AWS emulator to type into; they are removed at the end."""

import os

import click

from phasesync.cli.run.executable import find_command
from phasesync.demo import require_emulator
from phasesync.errors import InvalidInputError


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def sandbox(command: tuple[str, ...]) -> int:
    """
    Open a shell with a store, a daemon at work, and an emulator (moto) in the place of AWS.

    In it are an app, an environment with secrets, a credential and a sync, to try commands on. `exit` or Ctrl-D ends
    all of it and removes every file. It uses nothing of your own settings or credentials. With COMMAND it runs that in
    place of the shell, and exits with its exit code.

    \b
    Examples:
      phasesync sandbox
      phasesync sandbox -- phasesync status
      phasesync sandbox -- sh -c 'phasesync syncs list && phasesync runs list'
    """
    require_emulator("the sandbox")
    program = list(command)
    root = click.get_current_context().find_root()
    if program and program[0] in root.command.list_commands(root):  # type: ignore[attr-defined]  # It is a group.
        raise InvalidInputError(
            f"{program[0]} is a command of phasesync, and the sandbox runs programs",
            hint=f"phasesync sandbox -- phasesync {program[0]}",
        )
    if program and program[0] != "phasesync":  # The sandbox has its own, which need not be on the PATH.
        program[0] = find_command(program[0], os.environ)
    from phasesync.demo.sandbox import run_sandbox

    return run_sandbox(program, say=lambda line: click.echo(line, err=True))
