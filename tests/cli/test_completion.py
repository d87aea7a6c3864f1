"""`phasesync completion`: the script for each shell, and what phasesync answers when a shell asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from phasesync.cli.completion import SHELLS
from phasesync.cli.main import COMMANDS, cli
from tests.cli.test_main import HEAVY

BIN = Path(sys.executable).parent


def script(shell: str) -> str:
    done = CliRunner().invoke(cli, ["completion", shell], prog_name="phasesync", catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def answers(typed: str, shell: str = "bash") -> list[str]:
    """Return what phasesync answers to a shell with a line; no answer has a complaint beside it."""
    words = typed.split(" ")
    environ = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_PHASESYNC_COMPLETE": f"{shell}_complete"}
    done = CliRunner().invoke(cli, [], env=environ, prog_name="phasesync", catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, ""), typed
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_phasesync_as_click_expects_it(shell) -> None:
    assert f"_PHASESYNC_COMPLETE={shell}_complete" in script(shell)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("phasesync ", {f"plain,{name}" for name in COMMANDS}),
        ("phasesync com", {"plain,completion"}),
        ("phasesync completion ", {f"plain,{name}" for name in SHELLS}),
        ("phasesync syncs pa", {"plain,pause"}),
        ("phasesync syncs add --layout ", {"plain,json", "plain,per-key"}),
        ("phasesync --config ", {"file,"}),
        ("phasesync nothing ", {f"plain,{name}" for name in COMMANDS}),
        ("phasesync syncs add --no-such-option ", set()),
        ("phasesync notifications add --on h", {"plain,held", "plain,halted"}),
        ("phasesync notifications update ops --on held,h", {"plain,held,halted"}),
        ("phasesync runs list --outcome fai", {"plain,failed"}),
        ("phasesync syncs list --status paused,p", {"plain,paused,pending"}),
        ("phasesync runs list --limit x --since y --fo", {"plain,--follow"}),
    ],
)
def test_what_may_follow(typed, expected) -> None:
    assert set(answers(typed)) == expected


def test_every_list_of_fixed_words_is_completed() -> None:
    """As the help says that it is a list of words."""
    lists = [option for option in options_of(cli) if str(option.metavar).endswith(",...")]
    assert {name for option in lists for name in option.opts} >= {"--on", "--outcome", "--status"}
    for option in lists:
        context = click.Context(cli)
        assert len(option.shell_complete(context, "")) > 2, option.opts


def options_of(command: click.Command) -> Iterator[click.Option]:
    """Return the options of a command and of those below it."""
    context = click.Context(command)
    yield from (parameter for parameter in command.params if isinstance(parameter, click.Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options_of(below)


def test_zsh_gets_a_line_about_each_command() -> None:
    lines = answers("phasesync d", "zsh")
    described = dict(zip(lines[1::3], lines[2::3], strict=True))

    assert described["db"].startswith("The database")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_a_command(tmp_path) -> None:
    (tmp_path / "script").write_text(script("bash"))
    line = (
        f"set -eu; source '{tmp_path}/script'; COMP_WORDS=(phasesync completion z); COMP_CWORD=2;"
        ' COMPREPLY=(); _phasesync_completion phasesync; complete -p phasesync; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", line],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "complete -o nosort -F _phasesync_completion phasesync\nzsh\n"
    assert done.stderr == ""


def test_printing_the_script_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom phasesync.cli.main import main\nsys.argv[1:] = ['completion', 'bash']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "complete -o nosort" in done.stdout
    assert not HEAVY & set(done.stderr.split())


def test_an_unknown_shell_is_a_wrong_usage() -> None:
    done = CliRunner().invoke(cli, ["completion", "tcsh"], prog_name="phasesync")

    assert done.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
