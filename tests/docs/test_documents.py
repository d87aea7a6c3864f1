"""What the documents say exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from phasesync import errors
from phasesync.cli.main import cli
from phasesync.core.lease import LeaseStatus
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.settings.load import NOT_SETTINGS
from phasesync.settings.model import setting_names, variable_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "docs" / name for name in ("operations.md", "security.md", "glossary.md", "kubernetes.md")]
MORE = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs" / name for name in ("properties.md", "alerts.md"))]
SHIPPED = [*DOCUMENTS, *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]


def code_of(text: str) -> list[str]:
    """Return what stands in code blocks and between backticks, continued lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [*lines, *spans]


def table(text: str, head: str) -> list[str]:
    """Return the first column of the table under a headline."""
    section = text.partition(f"## {head}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def commands_in(path: Path) -> list[list[str]]:
    """Return the words after `phasesync` of every command that a document names."""
    found = []
    for code in code_of(path.read_text()):
        match = re.search(r"(?:^|(?:-- |/bin/|sudo |sudo -u phasesync ))phasesync ([a-z].*)", code)
        if match:
            found.append(match[1].split("#")[0].split())
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS[:2], *MORE[:1], ROOT / "docs/upgrade.md"], ids=lambda path: path.name)
def test_every_command_and_option_in_a_document_exists(path) -> None:
    commands = commands_in(path)
    assert len(commands) >= 3

    for words in commands:
        command: click.Command | None = cli
        context = click.Context(cli)
        rest = list(words)
        while isinstance(command, click.Group):
            assert rest, f"phasesync {' '.join(words)} ends too early"
            context = click.Context(command, parent=context)
            command = command.get_command(context, rest.pop(0))
            assert command is not None, f"phasesync {' '.join(words)}"
        assert command is not None
        options = {name for parameter in command.params for name in parameter.opts}
        used = {word for word in rest if word.startswith("--") and word != "--"}
        assert used <= options | {"--help"}, f"phasesync {' '.join(words)}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_variable_of_ours_is_a_setting(path) -> None:
    named = set(re.findall(r"\bPHASESYNC_[A-Z_]+\b", path.read_text()))

    assert named <= {variable_of(name) for name, _ in setting_names()} | NOT_SETTINGS


def test_every_dotted_setting_in_the_documents_exists() -> None:
    groups = {name.partition(".")[0] for name, _ in setting_names() if "." in name}
    named = {
        span
        for path in DOCUMENTS[:3]  # In the others values of the chart stand between backticks too.
        for span in code_of(path.read_text())
        if re.fullmatch(rf"({'|'.join(groups)})\.[a-z_]+", span)
    }

    assert named
    assert named <= {name for name, _ in setting_names()}


def test_every_exit_code_is_explained() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    codes = {str(kind.exit_code) for kind in classes if issubclass(kind, errors.PhasesyncError)}
    explained = table((ROOT / "docs/operations.md").read_text(), "Exit codes")

    assert codes <= set(explained)
    assert len(explained) == len(set(explained))


def test_every_status_word_is_explained() -> None:
    explained = table((ROOT / "docs/operations.md").read_text(), "Status words of a sync")

    assert sorted(explained) == sorted(status.value for status in SyncStatus)


def test_every_status_word_of_a_lease_is_explained() -> None:
    explained = table((ROOT / "docs/operations.md").read_text(), "Dynamic secrets")
    words = [word for row in explained for word in row.split(", ")]

    assert sorted(words) == sorted(status.value for status in LeaseStatus)


def test_pinned_requirements_are_installed_as_they_are_wherever_that_is_done() -> None:
    places = [ROOT / name for name in ("Makefile", "deploy/Dockerfile", "docs/operations.md")]
    commands = [line for path in places for line in _joined(path.read_text()) if "--require-hashes" in line]

    assert len(commands) >= 4
    # Older releases of pip ask for the newest release of what has an extra, and then refuse it for want of a hash.
    assert [line for line in commands if "--no-deps" not in line] == []


def _joined(text: str) -> list[str]:
    """Return lines, with those that are continued as one."""
    return text.replace("\\\n", " ").splitlines()


def test_the_glossary_knows_the_words_of_the_code() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, flags=re.MULTILINE))

    assert [word for word in Outcome if word.value not in rows["outcome"]] == []
    assert [word for word in Trigger if word.value not in rows["trigger"]] == []
    assert [word for word in SyncStatus if word.value not in rows["status"]] == []
    assert [word for word in LeaseStatus if word.value not in rows["lease status"]] == []
    words = [row for row in rows if row not in ("word", "---")]
    assert words == sorted(words, key=str.lower), "in alphabetical order"


@pytest.mark.parametrize("path", [*DOCUMENTS, *MORE], ids=lambda path: path.name)
def test_links_lead_somewhere(path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_files_that_the_documents_name_exist() -> None:
    named = {span for path in DOCUMENTS for span in re.findall(r"\bdeploy/(?!phasesync)[\w./-]+\w", path.read_text())}

    assert named
    for name in named:
        assert (ROOT / name).exists(), name
