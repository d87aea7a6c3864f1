"""
Writes the manual pages from the help of the commands: phasesync(1), and one page for each command or group below it.

    python man_pages.py --date 2026-01-31 FOLDER

Run by build.py with the interpreter of the package, so that the pages are of the program beside them. What they say of
commands is what `--help` says.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import click

from phasesync import __version__
from phasesync.cli.main import cli

PROGRAM = "phasesync"
FILES = (
    ("/etc/phasesync/config.toml", "Settings. /usr/share/doc/phasesync/config.example.toml has each with its default."),
    ("/etc/phasesync/root.key", "The root key, which decrypts the database. No backup has it: keep a copy elsewhere."),
    ("/etc/phasesync/environment", "AWS's own variables for the daemon, such as AWS_REGION. It may be missing."),
    ("/var/lib/phasesync/phasesync.db", "The database, unless the settings name PostgreSQL."),
)
EXITS = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Wrong usage."),
    ("3", "The plan has changes (--detailed-exitcode, --exit-code)."),
    ("4", "Held, refused, paused or in conflict: a person is needed. Also: it exists already."),
    ("5", "Not found."),
    ("6", "A problem with settings, key or schema."),
    ("7", "The destination could not be reached, or refused access."),
    ("130", "Interrupted."),
)


def main() -> None:
    """Write all pages into a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--date", required=True)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    root = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    inner = list(commands(root))
    pages = {PROGRAM: "".join(program_page(root, inner, given.date))}
    for context in inner:
        pages[f"{PROGRAM}-{context.info_name}"] = "".join(command_page(context, given.date))
    for name, text in pages.items():
        (given.folder / f"{name}.1").write_text(text, encoding="utf-8")


def commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command of a group, in the order of its help."""
    if not isinstance(context.command, click.Group):
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is not None and not command.hidden:
            yield click.Context(command, info_name=name, parent=context, **command.context_settings)


def leaves(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command below a group, however deep."""
    for each in commands(context):
        if isinstance(each.command, click.Group):
            yield from leaves(each)
        else:
            yield each


def program_page(root: click.Context, inner: list[click.Context], date: str) -> Iterator[str]:
    """Yield phasesync(1)."""
    yield heading(PROGRAM, date)
    summary = (root.command.help or "").strip().splitlines()[0]
    yield f".SH NAME\n{PROGRAM} \\- {text(summary[0].lower() + summary[1:].rstrip('.'))}\n"
    yield f".SH SYNOPSIS\n{usage(root)}"
    yield f".SH DESCRIPTION\n{prose(root.command.help or '')}"
    yield f".SH OPTIONS\n{options(root)}"
    yield ".SH COMMANDS\n"
    for context in inner:
        yield f".TP\n.BR {PROGRAM}\\-{text(context.info_name or '')} (1)\n"
        yield f"{text(context.command.get_short_help_str(200))}\n"
    yield ".SH EXIT STATUS\n" + "".join(f".TP\n.B {code}\n{text(meaning)}\n" for code, meaning in EXITS)
    yield ".SH ENVIRONMENT\nEach setting is also a variable PHASESYNC_..., such as PHASESYNC_DATA_DIR.\n"
    yield ".SH FILES\n" + "".join(f".TP\n.I {text(path)}\n{text(meaning)}\n" for path, meaning in FILES)
    yield ".SH SEE ALSO\n/usr/share/doc/phasesync/operations.md, systemd.exec(5), systemd\\-creds(1)\n"


def command_page(context: click.Context, date: str) -> Iterator[str]:
    """Yield the page of one command, with a section for each command below it."""
    name = f"{PROGRAM}-{context.info_name}"
    below = list(leaves(context))
    yield heading(name, date)
    yield f".SH NAME\n{text(name)} \\- {text(context.command.get_short_help_str(200).rstrip('.'))}\n"
    yield ".SH SYNOPSIS\n" + "".join(usage(each) for each in below or [context])
    yield f".SH DESCRIPTION\n{prose(context.command.help or '')}"
    yield f".SH OPTIONS\n{options(context)}"
    if below:
        yield ".SH COMMANDS\n"
    for each in below:
        yield f".SS {text(each.command_path)}\n{prose(each.command.help or '')}{options(each)}"
    yield f".SH SEE ALSO\n.BR {PROGRAM} (1)\n"


def heading(name: str, date: str) -> str:
    """Return the head of a page."""
    return f'.TH {text(name.upper())} 1 "{date}" "{PROGRAM} {__version__}" "User Commands"\n.nh\n.ad l\n'


def usage(context: click.Context) -> str:
    """Return one line of a synopsis."""
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return f".B {text(context.command_path)}\n{text(pieces)}\n.br\n"


def options(context: click.Context) -> str:
    """Return what `--help` says of each option."""
    shown = [parameter.get_help_record(context) for parameter in context.command.get_params(context)]
    return "".join(f".TP\n.B {text(record[0])}\n{text(record[1])}\n" for record in shown if record and record[1])


def prose(help_text: str) -> str:
    """Return a help text: paragraphs are filled, those after \\b stay as they are."""
    written = []
    for paragraph in re.split(r"\n\s*\n", help_text.replace("\f", "").strip()):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            written.append(".PP\n.nf\n" + "".join(text(line, keep=True) + "\n" for line in lines[1:]) + ".fi\n")
        else:
            written.append(".PP\n" + text(" ".join(line.strip() for line in lines)) + "\n")
    return "".join(written)


def text(plain: str, *, keep: bool = False) -> str:
    """Return a text as roff: no character of it is a command."""
    line = plain.rstrip() if keep else " ".join(plain.split())
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    line = line.replace("`", "\\(ga").replace("'", "\\(aq").replace('"', "\\(dq")
    return f"\\&{line}" if line.startswith((".", "\\(aq", " ")) else line


if __name__ == "__main__":
    main()
