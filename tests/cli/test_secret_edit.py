"""Editing a folder: in memory only, as one revision, and nothing that was typed or that others edited is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phasesync.cli import editor, private_file
from phasesync.cli.editor import _private_arguments
from phasesync.demo.canary import CANARY_VALUE, assert_absent, find_in_tree
from tests.cli.conftest import CommandLine

Step = Callable[[Path], object]
EDIT = ("secrets", "edit", "shop/prod")


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """
    The memory-backed folder of this test, in which nothing is left at the end.

    The process of the tests can still be dumped and traced.
    """
    monkeypatch.setattr("phasesync.daemon.hardening.harden", lambda: ())
    folder = Path(tempfile.mkdtemp(prefix="phasesync-test-", dir="/dev/shm"))
    monkeypatch.setattr(private_file, "_SHARED_MEMORY", folder)
    yield folder
    folder.rmdir()


@pytest.fixture
def filled(shop: CommandLine) -> CommandLine:
    """An environment with keys of each type."""
    for key, value, *more in (
        ("A", CANARY_VALUE),
        ("B", "${A}"),
        ("J", "[1]", "--type", "json", "--comment", "a list"),
        ("X", b"\xff", "--type", "binary"),
    ):
        shop.done("secrets", "set", "shop/prod", str(key), "-", *map(str, more), stdin=value)
    return shop


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Call it with what the operator does in each editor in turn; it returns the list of what they saw."""

    def use(*steps: Step) -> list[str]:
        left, seen = list(steps), []

        def run_editor(file: Path) -> None:
            seen.append(file.read_text())
            left.pop(0)(file)

        monkeypatch.setattr("phasesync.cli.editor.run_editor", run_editor)
        return seen

    return use


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked."""
    for module in ("input", "secret_edit"):
        monkeypatch.setattr(f"phasesync.cli.{module}.is_terminal", lambda: True)


def lines(**changes: str | None) -> Step:
    """Replace the lines of keys; None removes one, a key that is not there is added."""

    def edit(file: Path) -> None:
        kept = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in changes]
        file.write_text("\n".join([*kept, *(f"{key}={text}" for key, text in changes.items() if text is not None), ""]))

    return edit


def a_folder(file: Path) -> None:
    """Leave a folder in the place of the file."""
    file.unlink()
    file.mkdir()


def nothing(_file: Path) -> None:
    """Save nothing."""


def values(shop: CommandLine) -> dict[str, object]:
    """Key -> value, as an export has it."""
    exported: dict[str, object] = json.loads(shop.done("secrets", "export", "shop/prod", "--format", "json").stdout)
    return exported


def revision(shop: CommandLine) -> object:
    return shop.items("envs", "list")[0]["revision"]


def test_an_edit_is_one_revision_and_keeps_types_comments_and_references(
    filled: CommandLine, edits: Callable[..., list[str]]
) -> None:
    before = revision(filled)
    seen = edits(lines(A="'new value'  # what it is for", N="1", B=None))
    done = filled.json(*EDIT)
    assert (done["added"], done["changed"], done["removed"], done["unchanged"]) == (["N"], ["A"], ["B"], 2)
    assert done["revision"] == revision(filled) == before + 1  # type: ignore[operator]
    assert "B='${A}'\nJ='[1]'  # [json] a list\nX='(binary, 1 bytes)'  # [binary]\n" in seen[0]
    listed = {item["key"]: (item["type"], item["comment"]) for item in filled.items("secrets", "list", "shop/prod")}
    assert listed == {
        "A": ("text", "what it is for"),
        "J": ("json", "a list"),
        "N": ("text", ""),
        "X": ("binary", ""),
    }
    assert filled.done("secrets", "get", "shop/prod", "A", "--reveal").stdout == "new value"
    assert filled.done("secrets", "get", "shop/prod", "X", "--reveal").stdout_bytes == b"\xff"


def test_what_is_not_changed_makes_no_revision(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    edits(nothing)
    before = revision(filled)
    assert filled.done(*EDIT).stderr == "shop/prod /: nothing was changed\n"
    assert revision(filled) == before


def test_a_rehearsal_stores_nothing(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    edits(lines(N="1"))
    before = values(filled)
    assert filled.json(*EDIT, "--dry-run")["would"]["added"] == ["N"]
    assert values(filled) == before


def test_the_file_is_private_in_memory_and_gone_at_the_end(
    filled: CommandLine, edits: Callable[..., list[str]], tmp_path: Path, memory: Path
) -> None:
    seen: list[object] = []

    def look(file: Path) -> None:
        seen.append((file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777, file.parents[1]))
        file.with_name(".secrets.env.swp").write_text("a part of it")

    edits(look)
    done = filled.done(*EDIT)
    assert seen == [(0o600, 0o700, memory)]
    assert list(memory.iterdir()) == []
    assert_absent(done.stdout + done.stderr, [CANARY_VALUE])
    assert find_in_tree(tmp_path, [CANARY_VALUE]) == []


def test_what_is_wiped_is_zeros_for_those_who_have_it_open(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "deeper" / "file"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 3_000_000)
    (tmp_path / "outside").write_text("kept")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "folder" / "fifo")
    with file.open("rb") as opened:
        private_file.wipe(tmp_path / "folder")
        assert set(opened.read()) == {0}
    assert not (tmp_path / "folder").exists()
    assert (tmp_path / "outside").read_text() == "kept"


def test_every_signal_that_ends_a_process_wipes_the_file() -> None:
    """But SIGKILL, and those of a fault."""
    ending = "HUP INT QUIT USR1 USR2 ALRM TERM VTALRM PROF XCPU XFSZ IO RTMIN RTMAX"
    for name in ending.split():
        number = signal.Signals[f"SIG{name}"]
        former = signal.getsignal(number)
        if former is signal.SIG_IGN:
            continue
        with pytest.raises((SystemExit, KeyboardInterrupt)), private_file.private_file("x", b"x") as file:
            signal.raise_signal(number)
        assert not file.parent.exists()
        assert signal.getsignal(number) is former


def test_without_memory_backed_storage_nothing_is_written(
    filled: CommandLine, edits: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = edits()
    monkeypatch.setattr(private_file, "_SHARED_MEMORY", Path("/proc"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    refused = filled(*EDIT)
    assert refused.exit_code == 1
    assert "none is put on a disk: /proc is on proc, /nonexistent is missing" in refused.stderr
    assert seen == []


def test_a_line_that_cannot_be_read_stores_nothing(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    before = values(filled)
    for wrong in (lines(A=f"'{CANARY_VALUE}"), lambda file: file.write_bytes(b"A=1\nB=\xff\n"), Path.unlink, a_folder):
        edits(wrong)
        refused = filled(*EDIT, "-o", "json")
        assert refused.exit_code == 2
        assert json.loads(refused.stderr)["error"]["class"] == "InvalidInputError"
        assert_absent(refused.stderr, [CANARY_VALUE])
    told = filled_error(filled, edits, lambda file: file.write_text("A=1\nno assignment\n"))
    assert told.rstrip().endswith("hint: KEY=VALUE on each line")
    assert "line 2 is not UTF-8 text" in filled_error(filled, edits, lambda file: file.write_bytes(b"A=1\nB=\xff\n"))
    assert values(filled) == before


def filled_error(shop: CommandLine, edits: Callable[..., list[str]], step: Step) -> str:
    edits(step)
    return shop(*EDIT).stderr


@pytest.mark.usefixtures("terminal")
def test_at_a_terminal_what_was_typed_can_be_corrected(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    seen = edits(lines(N="1 # 2"), lines(N="'1 # 2'"))
    done = filled.done(*EDIT, stdin="\n")
    assert "has a # after a value without quotes" in done.stderr
    assert "N=1 # 2" in seen[1], "the second editor has what was typed in the first"
    assert values(filled)["N"] == "1 # 2"

    edits(lines(A="'"))
    discarded = filled(*EDIT, stdin="n\n")
    assert discarded.exit_code == 1
    assert "discarded; nothing was changed" in discarded.stderr


def test_many_lost_values_have_to_be_confirmed(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    before = values(filled)
    fewer = lines(A=None, B=None, J="")
    edits(fewer)
    refused = filled(*EDIT)
    assert refused.exit_code == 2
    assert "3 of 4 keys lose their values: A, B, J" in refused.stderr
    assert "hint: add --yes" in refused.stderr
    assert values(filled) == before
    edits(fewer)
    assert filled.json(*EDIT, "--yes")["removed"] == ["A", "B"]


@pytest.mark.usefixtures("terminal")
def test_an_edit_that_was_not_confirmed_can_go_on(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    seen = edits(lines(A=None, B=None, J=None), lines(A="1", B="2"))
    filled.done(*EDIT, stdin="n\ny\n")
    assert "A=" not in seen[1]
    assert sorted(values(filled)) == ["A", "B", "X"]


def by_another(shop: CommandLine, key: str, value: str) -> Step:
    """Somebody else sets a key while the editor is open."""
    return lambda _file: shop.done("secrets", "set", "shop/prod", key, "-", stdin=value)


def both(*steps: Step) -> Step:
    return lambda file: [step(file) for step in steps]


def test_edits_of_others_meanwhile_are_kept(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    edits(both(by_another(filled, "B", "theirs"), by_another(filled, "M", "new"), lines(A="ours")))
    assert filled.json(*EDIT)["changed"] == ["A"]
    assert {key: value for key, value in values(filled).items() if key in "ABM"} == {
        "A": "ours",
        "B": "theirs",
        "M": "new",
    }


def test_the_same_key_changed_by_two_stores_nothing(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    edits(both(by_another(filled, "A", "theirs"), lines(A="ours", N="1")))
    refused = filled(*EDIT)
    assert refused.exit_code == 4
    assert "somebody else changed the same keys meanwhile: A; nothing was stored" in refused.stderr
    assert values(filled)["A"] == "theirs"
    assert "N" not in values(filled)


@pytest.mark.usefixtures("terminal")
def test_after_a_collision_the_edit_goes_on_with_both(filled: CommandLine, edits: Callable[..., list[str]]) -> None:
    seen = edits(both(by_another(filled, "A", "theirs"), by_another(filled, "M", "new"), lines(A="ours")), nothing)
    filled.done(*EDIT, stdin="y\n")
    assert "# Somebody else changed these keys meanwhile: A." in seen[1]
    assert "\nA=ours\n" in seen[1] and "\nM=new\n" in seen[1]
    assert {key: value for key, value in values(filled).items() if key in "AM"} == {"A": "ours", "M": "new"}


# --- real editors


def script(directory: Path, text: str) -> str:
    """Make a program; return its path."""
    file = directory / "editor"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_the_editor_gets_its_own_arguments_and_no_secret_of_ours(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = script(tmp_path, f'env > {tmp_path}/env; echo "$1 $2" > {tmp_path}/words; echo N=1 >> "$3"')
    key = (tmp_path / "root.key").read_text().strip()
    monkeypatch.delenv("PHASESYNC_ROOT_KEY_FILE")
    monkeypatch.setenv("PHASESYNC_ROOT_KEY", key)
    monkeypatch.setenv("PHASESYNC_NOTIFICATIONS__SMTP_PASSWORD", "password-of-mail")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{program} --wait 'two words'")
    filled.done(*EDIT)
    assert (tmp_path / "words").read_text() == "--wait two words\n"
    assert values(filled)["N"] == "1"
    assert_absent((tmp_path / "env").read_bytes(), [CANARY_VALUE, key, "password-of-mail"])


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        ("false", "the editor ended with exit code 1: nothing was changed"),
        ("/nonexistent/editor", "the editor '/nonexistent/editor' cannot be started: No such file or directory"),
        ("nonexistent-editor --wait", "the editor 'nonexistent-editor --wait' cannot be started"),
        ("", "there is no terminal for vi"),
    ],
)
def test_an_editor_that_fails_changes_nothing(
    filled: CommandLine, monkeypatch: pytest.MonkeyPatch, editor: str, message: str
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    refused = filled(*EDIT)
    assert refused.exit_code == 1
    assert message in refused.stderr


def test_vim_writes_no_copies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "vim.basic").write_text("#!/bin/sh\n")
    (tmp_path / "vim.basic").chmod(0o755)
    (tmp_path / "vi").symlink_to("vim.basic")
    assert _private_arguments(f"{tmp_path}/vi -R")[:3] == ("-n", "-i", "NONE")
    assert _private_arguments("sh -c 'x'") == _private_arguments("'unclosed") == ()


def test_a_signal_ends_an_editor_that_is_being_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it exists, and before we have its id."""
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGTERM)
            os.getpid()  # Handlers run between two steps of the interpreter.

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("phasesync.cli.editor.subprocess.Popen", Interrupted)
    monkeypatch.setenv("EDITOR", script(tmp_path, "exec sleep 60"))
    monkeypatch.delenv("VISUAL", raising=False)
    former = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(KeyboardInterrupt):
            editor.run_editor(tmp_path / "file")
    finally:
        signal.signal(signal.SIGTERM, former)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@pytest.mark.slow
def test_a_signal_ends_the_editor_and_wipes_the_file(filled: CommandLine, tmp_path: Path) -> None:
    program = script(tmp_path, f'kill -INT $PPID; dirname "$1" > {tmp_path}/where; kill -TERM $PPID; exec sleep 60')
    environ = {name: value for name, value in os.environ.items() if name != "VISUAL"} | {"EDITOR": program}
    ended = subprocess.run(
        [sys.executable, "-m", "phasesync", *EDIT], env=environ, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 128 + 15, ended.stderr
    folder = Path((tmp_path / "where").read_text().strip())
    assert folder.name.startswith("phasesync-edit-")
    assert not folder.exists()
    assert_absent(ended.stdout + ended.stderr, [CANARY_VALUE])
