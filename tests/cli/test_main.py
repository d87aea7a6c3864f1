"""The entry: exit codes, and what goes to stderr."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from phasesync import __version__
from phasesync.cli.main import COMMANDS, Root, cli
from phasesync.errors import NotFoundError, PhasesyncError

runner = CliRunner()


def ending_with(error: BaseException | None, *args: str):
    """Run a command that ends with an error."""

    @click.group(cls=Root, lazy={})
    def root() -> None:
        """A root."""

    @root.command()
    @click.option("-o", "--output")
    def go(output: str | None) -> None:
        click.echo("before")
        if error is not None:
            raise error

    return runner.invoke(root, ["go", *args], prog_name="phasesync")


def test_an_error_of_ours_is_one_line_a_hint_and_the_exit_code_of_its_class():
    done = ending_with(NotFoundError("there is no app x", hint="phasesync apps list"))
    assert done.exit_code == 5
    assert done.stdout == "before\n"
    assert done.stderr == "error: there is no app x\nhint: phasesync apps list\n"


@pytest.mark.parametrize("flags", [["-o", "json"], ["--output", "json"], ["--output=json"], ["-ojson"]])
def test_an_error_is_a_document_where_json_is_asked_for(flags):
    done = ending_with(NotFoundError("there is no app x", hint="phasesync apps list"), *flags)
    assert json.loads(done.stderr) == {
        "error": {"class": "NotFoundError", "message": "there is no app x", "hint": "phasesync apps list"}
    }


def test_control_characters_of_a_message_do_not_reach_the_terminal():
    done = ending_with(PhasesyncError("a\x1b[31mb\nc"))
    assert done.stderr == "error: a [31mb c\n"


def test_a_terminal_finds_nothing_to_obey_in_the_document_of_an_error():
    """C1 and bidi characters of a hint are escaped, as in every document."""
    done = ending_with(NotFoundError("no \u202eapp", hint="see \x9b31m\u202e"), "-o", "json")
    assert not {"\x9b", "\u202e"} & set(done.stderr)
    assert json.loads(done.stderr)["error"]["hint"] == "see \x9b31m\u202e"


def test_an_error_without_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with monkeypatch.context() as patched:
        patched.setattr("click.style", lambda text, **_: f"<{text}>")
        assert ending_with(NotFoundError("none")).stderr == "error: none\n"


@pytest.mark.parametrize("debug", [None, "1"])
def test_the_text_of_a_foreign_exception_is_never_shown(debug, monkeypatch):
    if debug:
        monkeypatch.setenv("PHASESYNC_DEBUG", debug)
    local = "canary"
    error = ValueError(f"cannot parse {local}")
    error.__cause__ = KeyError(local)
    done = ending_with(error)
    assert done.exit_code == 1
    assert "this is a bug in phasesync: ValueError" in done.stderr
    assert "canary" not in done.output
    assert ("line" in done.stderr) == bool(debug)


HALF_MADE = """
import sys
from phasesync.cli import main

class Half:
    def __del__(self):
        raise AttributeError("can" "ary")

main.cli.main = lambda **_: Half() and sys.exit(0)
main.main()
"""


@pytest.mark.parametrize("debug", [None, "1"])
def test_what_a_finalizer_raises_is_not_printed(debug):
    """As after Ctrl-C in a constructor of the standard library: Python prints such an exception, with its text."""
    environ = {"PATH": "", **({"PHASESYNC_DEBUG": debug} if debug else {})}
    done = subprocess.run([sys.executable, "-c", HALF_MADE], env=environ, capture_output=True, text=True, check=True)
    assert "canary" not in done.stderr
    assert ("in __del__" in done.stderr) == bool(debug)
    assert bool(done.stderr) == bool(debug)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort(), EOFError()])
def test_an_interrupted_command_ends_with_130(error):
    assert ending_with(error).exit_code == 130


def test_a_command_that_returns_ends_with_0():
    assert ending_with(None).exit_code == 0


@pytest.mark.parametrize("args", [["nope"], ["apps", "add"], ["--nope"], ["apps", "list", "-o", "xml"]])
def test_wrong_usage_ends_with_2_and_names_the_help(args):
    done = runner.invoke(cli, args, prog_name="phasesync")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "--help" in done.stderr


def test_a_surplus_argument_is_not_repeated():
    done = runner.invoke(cli, ["apps", "list", "canary"], prog_name="phasesync")
    assert done.exit_code == 2
    assert "too many arguments" in done.stderr
    assert "canary" not in done.output


def test_a_mistyped_command_is_suggested():
    assert "Did you mean 'secrets'?" in runner.invoke(cli, ["secrts"], prog_name="phasesync").stderr


def test_no_command_shows_the_help_and_ends_with_2():
    done = runner.invoke(cli, [], prog_name="phasesync")
    assert done.exit_code == 2
    assert "Commands:" in done.stderr


def test_the_version():
    assert runner.invoke(cli, ["--version"], prog_name="phasesync").stdout == f"phasesync, version {__version__}\n"


def leaves(command, path):
    """Yield every command below one, with its path."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), (*path, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself_and_an_output_option(name):
    for path in leaves(cli.get_command(click.Context(cli), name), (name,)):
        done = runner.invoke(cli, [*path, "--help"], prog_name="phasesync")
        assert done.exit_code == 0
        examples = done.stdout.partition("Example")[2]
        assert f"phasesync {' '.join(path)}" in examples, path
        # The tour and the sandbox are for people, and have no document.
        assert "--output" in done.stdout or path in (("demo",), ("sandbox",)), path


def test_the_table_of_commands_says_what_each_is_for():
    listed = runner.invoke(cli, ["--help"], prog_name="phasesync").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


HEAVY = {"boto3", "botocore", "alembic", "apscheduler", "sqlalchemy", "pydantic", "pydantic_settings", "rich", "moto"}


@pytest.mark.parametrize("args", [["--help"], ["apps", "--help"], ["secrets", "set", "--help"]])
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom phasesync.cli.main import main\n"
        f"sys.argv[1:] = {args!r}\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_a_starter_policy_imports_nothing_heavy():
    code = (
        "import sys\nfrom phasesync.cli.main import main\n"
        "sys.argv[1:] = ['aws', 'policy', '--starter', 'sync', '--region', 'eu-west-1']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert '"secretsmanager:PutSecretValue"' in done.stdout
    assert not HEAVY & set(done.stderr.split())


def test_a_reader_that_goes_away_is_not_complained_about():
    code = "from phasesync.cli.main import main; import sys; sys.argv[1:] = ['--help']; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os, sys; sys.stdin.read(); {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(b"")
    assert stderr == b""
