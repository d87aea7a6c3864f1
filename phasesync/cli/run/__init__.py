"""`phasesync run`: a command with the secrets of an environment, and with leases that end when it does."""

import os
import signal
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.input import never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.lease_revocation import revoke_of_command
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DURATION, ENVIRONMENT, Name, comma_list, path_option
from phasesync.cli.reveals import note_reveal
from phasesync.cli.run.child import Child, Stopped
from phasesync.cli.run.executable import NOT_EXECUTABLE, find_command, show_start_error
from phasesync.cli.run.variables import check_names, check_size, environ_with, read_variables, warn_of_loading
from phasesync.core.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from phasesync.bootstrap import Application
    from phasesync.engine.leases.issuance import IssuedLease


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--env", "environment", type=ENVIRONMENT, required=True, metavar="APP/ENV", help="Environment to run it with."
)
@path_option
@click.option(
    "--dynamic",
    "dynamics",
    multiple=True,
    callback=comma_list,
    metavar="NAME",
    help="Dynamic secret to issue a lease of. Repeat it, or separate several with commas. Default: none.",
)
@click.option(
    "--ttl", type=DURATION, help="Life of the leases, such as 1h; they are renewed meanwhile. Default: their own."
)
@never_asks
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@output_option
@with_application
@dry_run_option
def run(
    application: "Application",
    environment: tuple[str, str],
    path: str,
    dynamics: tuple[str, ...],
    ttl: timedelta | None,
    command: tuple[str, ...],
    out: Output,
) -> int:
    """
    Run a command with the secrets of an environment in its own environment, references resolved.

    With --dynamic it also gets a lease of each, renewed while it runs and revoked when it ends, however it ends.
    Sessions of a role are neither renewed nor revoked. The command is searched for in the PATH of the shell, even if a
    secret is called PATH. A warning names secrets by which programs load code.

    Exits with the exit code of the command; 127 if there is no such command, 126 if it cannot be executed, 128 + N if
    signal N ended it.

    \b
    Examples:
      phasesync run --env shop/production -- ./server --port 8080
      phasesync run --env shop/production --dynamic ci -- aws s3 ls
    """
    values = read_variables(application, environment, path, out)
    for name in dynamics:
        Name("dynamic secret").convert(name, None, None)
    program = find_command(command[0], os.environ)
    environ = environ_with(values, ())
    recipes = [application.store.dynamics.get(name) for name in dynamics]
    check_names(recipes, dict.fromkeys(values, f"{'/'.join(environment)} {path}"))
    check_size(command, environ, values, leases=len(recipes))
    warn_of_loading([*values, *(key for recipe in recipes for key in recipe.config.keys.values())], out)
    if is_dry_run():
        _show_preview(application, dynamics, ttl, program, values, out)
        return 0
    note_reveal(application, "secret.run", environment, path, values)
    if not dynamics:
        application.close()
        _become(program, command, environ)
    return _with_leases(application, dynamics, ttl, program, command, values, out)


def _show_preview(
    application: "Application",
    dynamics: "Sequence[str]",
    ttl: timedelta | None,
    program: str,
    values: "Mapping[str, str]",
    out: Output,
) -> None:
    """Say which variables the command would get, by name, and which leases would be issued for it."""
    from phasesync.cli.leases import issue_preview

    previews = [issue_preview(application, name, ttl, reuse=False, out=out) for name in dynamics]
    leases = [document for _, document in previews]
    names = sorted([*values, *(key for lease in leases for key in lease["keys"])])
    if not out.as_json:
        for name in names:
            click.echo(name)
        for message, _ in previews:
            out.say(message)
    variables = counted(len(names), "variable")
    out.done(f"would run {program} with {variables}", {"program": program, "variables": names, "leases": leases})


def _with_leases(
    application: "Application",
    dynamics: "Sequence[str]",
    ttl: timedelta | None,
    program: str,
    command: "Sequence[str]",
    values: "Mapping[str, str]",
    out: Output,
) -> int:
    from phasesync.cli.leases import show_issued
    from phasesync.cli.run.renewal import LeaseRenewer

    operations, actor = application.lease_operations, invocation().actor
    issued: list[IssuedLease] = []
    with Child(out) as child:
        try:
            with LeaseRenewer(operations, actor=actor, out=out) as renewer:
                for name in dynamics:
                    since_s = time.monotonic()
                    issued.append(operations.issue(name, ttl=ttl, actor=actor))
                    lease = issued[-1].lease
                    if application.context.issuers.traits(lease.issuer).revocable:
                        renewer.add(lease, since_s=since_s)
                    show_issued(application, issued[-1], out)
                return child.run(command, environ_with(values, issued), program)
        except Stopped as stopped:
            return 128 + stopped.number if child.code is None else child.code
        finally:
            revoke_of_command(application, [entry.lease for entry in issued], actor, child, out)


def _become(program: str, command: "Sequence[str]", environ: "Mapping[str, str]") -> NoReturn:
    """Replace this process by the command: nothing is left to do at its end."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the command would inherit that.
    try:
        os.execve(program, list(command), dict(environ))  # noqa: S606 - the operator's own command, no shell
    except OSError as error:
        show_start_error(command[0], error)
        raise SystemExit(NOT_EXECUTABLE) from None
