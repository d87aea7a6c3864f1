"""`phasesync run`: a command with the secrets of an environment, and with leases that end when it does."""

import errno
import os
import shutil
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import click

from phasesync.cli.child import Child, Stopped, exit_code_of_spawn
from phasesync.cli.input import never_asks
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import DURATION, ENVIRONMENT, Name, comma_list, path_option
from phasesync.core.model import ValueType
from phasesync.errors import InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from phasesync.bootstrap import Application
    from phasesync.core.model import SecretValue
    from phasesync.engine.leases import Issued

_OURS = ("PHASESYNC_ROOT_KEY",)
"""Not for anybody else."""
_TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
"""Of the shell's own session; beside another access key they make every call fail."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--env", "environment", type=ENVIRONMENT, required=True, metavar="APP/ENV", help="Whose secrets.")
@path_option
@click.option(
    "--dynamic",
    "dynamics",
    multiple=True,
    callback=comma_list,
    metavar="NAME",
    help="Dynamic secret to issue a lease of; may be repeated.",
)
@click.option("--ttl", type=DURATION, help="Life of the leases; they are renewed meanwhile. Default: their own.")
@never_asks
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@output_option
@with_application
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

    With --dynamic it also gets a lease of each, renewed while it runs and revoked when it ends, however it ends. Exits
    with what the command exits with; 127 where there is no such command, 128 + N where signal N ended it.

    \b
    Examples:
      phasesync run --env shop/production -- ./server --port 8080
      phasesync run --env shop/production --dynamic ci -- aws s3 ls
    """
    values = _values(application, environment, path, out)
    for name in dynamics:
        Name("dynamic secret").convert(name, None, None)
    if not dynamics:
        application.close()
        _become(command, _environ(values, ()))
    if shutil.which(command[0]) is None:  # Nothing need be issued for it.
        raise SystemExit(exit_code_of_spawn(command[0], FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))))
    recipes = [application.dynamics.get(name) for name in dynamics]
    taken = dict.fromkeys(values, f"{'/'.join(environment)} {path}")
    for recipe in recipes:
        for key in recipe.config.keys.values():
            if key in taken:
                raise InvalidInputError(
                    f"{key} is a key of {taken[key]} and of {recipe.name}",
                    hint=f"phasesync dynamic update {recipe.name} --key-map OUTPUT=NAME",
                )
            taken[key] = recipe.name
    return _with_leases(application, dynamics, ttl, command, values, out)


def _with_leases(
    application: "Application",
    dynamics: "Sequence[str]",
    ttl: timedelta | None,
    command: "Sequence[str]",
    values: "Mapping[str, str]",
    out: Output,
) -> int:
    from phasesync.cli.leases import tell_issued
    from phasesync.cli.upkeep import Upkeep

    operations, actor = application.lease_operations, invocation().actor
    issued: list[Issued] = []
    with Child(out) as child:
        try:
            for name in dynamics:
                issued.append(operations.issue(name, ttl=ttl, actor=actor))
                tell_issued(application, issued[-1], out)
            with Upkeep(operations, issued, traits=application.issuers.traits, actor=actor, out=out):
                return child.run(command, _environ(values, issued))
        except Stopped as stopped:
            return 128 + stopped.number
        finally:
            child.ends = True
            for one in issued:
                _revoke(application, one, actor, out)


def _revoke(application: "Application", issued: "Issued", actor: str, out: Output) -> None:
    """Revoke a lease at the end of its command; what fails is the daemon's, and does not change the exit code."""
    lease = issued.lease
    if not application.issuers.traits(lease.issuer).takes_back:
        return
    try:
        done = application.lease_operations.revoke(lease.id, actor=actor)
        failure = done.error
    except PhasesyncError as error:
        failure = error
    if failure is None:
        out.say(f"revoked the lease {lease.id}")
    else:
        out.warn(f"the lease {lease.id} is not revoked yet, the daemon goes on with it: {failure.message}")


def _values(application: "Application", environment: tuple[str, str], path: str, out: Output) -> dict[str, str]:
    """Return what a process can have in its environment; what cannot be there is told and left out."""
    from phasesync.engine.source import read_folder

    source = read_folder(application.environments, *environment, path)
    if (unresolved := source.error()) is not None:
        raise unresolved
    values = {}
    for key, value in source.values.items():
        if (why := _unfit(key, value)) is not None:
            out.warn(f"{key} is left out: {why}")
        else:
            values[key] = value.reveal_text()
    return values


def _unfit(key: str, value: "SecretValue") -> str | None:
    """Return why a secret cannot be a variable of the environment, None = it can."""
    if value.type is ValueType.BINARY:
        return "it is binary"
    if "=" in key:
        return "no variable has an equals sign in its name"
    return "it has a NUL character" if "\0" in value.reveal_text() else None


def _environ(values: "Mapping[str, str]", issued: "Sequence[Issued]") -> dict[str, str]:
    """Return the environment of the command: ours, the secrets, and what was issued."""
    environ = {name: value for name, value in os.environ.items() if name not in _OURS}
    environ |= values
    for one in issued:
        handed_out = {key: value.reveal_text() for key, value in one.credentials.items()}
        if "AWS_ACCESS_KEY_ID" in handed_out:
            for name in _TOKENS:
                environ.pop(name, None)
        environ |= handed_out
    return environ


def _become(command: "Sequence[str]", environ: "Mapping[str, str]") -> NoReturn:
    """Put the command in the place of this process: nothing is left to do at its end."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so.
    try:
        os.execvpe(command[0], list(command), dict(environ))  # noqa: S606 - the operator's own command, no shell
    except OSError as error:
        raise SystemExit(exit_code_of_spawn(command[0], error)) from None
