"""
The command `phasesync`: the options that every command has, the table of commands, exit codes.

Imports no command: each is imported when it is run. Help lists come from the table alone, so that `--help` is fast.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from phasesync import __version__
from phasesync.cli.failures import hide_unraisable, obey_signals_as_init, report
from phasesync.cli.imports import no_collection
from phasesync.cli.invocation import Invocation
from phasesync.cli.repeats import refuse_repeats
from phasesync.cli.streams import fill_closed_streams, release_streams, use_utf8


class LazyGroup(click.Group):
    """A group of commands that are imported when they are run: name -> `module:attribute` and one line of help."""

    def __init__(self, *args: object, lazy: Mapping[str, tuple[str, str]], **kwargs: object) -> None:
        """
        Args:
            args: for click.
            lazy: name -> (where it is, what it does), in the order of the help.
            kwargs: for click.
        """
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        with no_collection(module):
            command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; suggestions know the names of the table."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None


COMMANDS = {
    "demo": ("phasesync.cli.demo:demo", "The tour, on an AWS emulator in this process."),
    "sandbox": ("phasesync.cli.sandbox:sandbox", "A shell with a store, a daemon and an AWS emulator; leaves nothing."),
    "init": ("phasesync.cli.init:init", "Make data directory, root key and database."),
    "status": ("phasesync.cli.status:status", "How everything stands."),
    "metrics": ("phasesync.cli.metrics:metrics", "Metrics of the daemon, for a file or for stdout."),
    "daemon": ("phasesync.cli.daemon:daemon", "Keep AWS in step, until a signal stops it."),
    "apps": ("phasesync.cli.apps:apps", "Apps: named sets of environments."),
    "envs": ("phasesync.cli.envs:envs", "Environments of an app."),
    "secrets": ("phasesync.cli.secrets:secrets", "Secrets of an environment."),
    "credentials": ("phasesync.cli.credentials:credentials", "Credentials: how we authenticate to AWS."),
    "syncs": ("phasesync.cli.syncs:syncs", "Syncs: which environment goes where."),
    "diff": ("phasesync.cli.project:diff", "What differs between documents and the store."),
    "apply": ("phasesync.cli.project:apply", "Make the store as documents say."),
    "dump": ("phasesync.cli.project:dump", "Print the store as documents, without values."),
    "schema": ("phasesync.cli.project:schema", "Print the JSON Schema of documents."),
    "runs": ("phasesync.cli.runs:runs", "The sync log."),
    "dynamic": ("phasesync.cli.dynamic:dynamic", "Dynamic secrets: recipes for short-lived credentials."),
    "notifications": ("phasesync.cli.notifications:notifications", "Notifications: whom to tell what is wrong."),
    "leases": ("phasesync.cli.leases:leases", "Short-lived credentials, from dynamic secrets."),
    "run": ("phasesync.cli.run:run", "Run a command with secrets, and with leases that end with it."),
    "aws": ("phasesync.cli.aws:aws", "IAM policies to paste; what is in an account."),
    "audit": ("phasesync.cli.audit:audit", "The audit log: who did what."),
    "keys": ("phasesync.cli.keys:keys", "The keys that encrypt the store."),
    "db": ("phasesync.cli.db:db", "The database: schema and backups."),
    "rebuild": ("phasesync.cli.rebuild:rebuild", "After the root key was lost: everything anew from AWS."),
    "completion": ("phasesync.cli.completion:completion", "Print the script that completes commands in a shell."),
}
"""Name -> where the command is, and one line of help."""


class Root(LazyGroup):
    """Maps whatever ends a command to an exit code and to a line on stderr."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run one command line; always ends with SystemExit."""
        fill_closed_streams()
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            result = super().main(arguments, *rest, **extra)
            # If the reader of our output has gone, that shows at the flush.
            click.echo(nl=False)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place that can hide an exception's text
            sys.exit(report(error, arguments))
        sys.exit(result if isinstance(result, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command; the whole command line is looked at first."""
        if not ctx.resilient_parsing:
            refuse_repeats(self, args, ctx.parent, ctx.info_name or "")
        return super().parse_args(ctx, args)


@click.group(
    cls=Root,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings: --config, PHASESYNC_... variables, config.example.toml.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings file. Default: PHASESYNC_CONFIG, ~/.config/phasesync/config.toml, /etc/phasesync/config.toml.",
)
@click.option(
    "--actor",
    envvar="PHASESYNC_ACTOR",
    metavar="NAME",
    help="Who asks, for the log, beside the user of the operating system. [env: PHASESYNC_ACTOR]",
)
@click.version_option(__version__, prog_name="phasesync")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, actor: str | None) -> None:
    """
    Keeps AWS Secrets Manager in step with one encrypted store of environment secrets.

    \b
    Examples:
      phasesync apps add shop
      phasesync envs add shop/production
      phasesync secrets set shop/production DATABASE_URL
    """
    ctx.obj = Invocation(config=config, claimed_actor=actor)


def main() -> None:
    """Run the command line of this process."""
    hide_unraisable()
    use_utf8()
    obey_signals_as_init()
    try:
        cli.main(prog_name="phasesync")
    finally:
        release_streams()
