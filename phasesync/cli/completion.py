"""`phasesync completion`: the script with which a shell completes our commands and options."""

import click

from phasesync.cli.streams import write_data

SHELLS = ("bash", "zsh", "fish")

PROGRAM = "phasesync"
VARIABLE = "_PHASESYNC_COMPLETE"
"""With this variable the script asks phasesync for what may follow; click looks for it under this name."""


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(["script"]),
    default="script",
    show_default=True,
    help="How to print.",
)
@click.pass_context
def completion(ctx: click.Context, shell: str, format_: str) -> None:
    """
    Print the script with which SHELL completes commands, options and their choices. The Debian package installs it.

    Completion reads no database: names of apps, environments and syncs are not completed.

    \b
    Examples:
      source <(phasesync completion bash)                                       this shell; or in ~/.bashrc
      phasesync completion zsh > ~/.zfunc/_phasesync                            a folder of zsh's fpath
      phasesync completion fish > ~/.config/fish/completions/phasesync.fish
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    del format_
    script = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    # Not `source()`: for bash it starts the bash of this machine to ask for its version.
    write_data(script.source_template % script(ctx.find_root().command, {}, PROGRAM, VARIABLE).source_vars())
