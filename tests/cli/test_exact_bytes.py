"""Values leave as the bytes that they are: nothing is stripped, translated, encoded otherwise or left out unsaid."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from phasesync.cli.formats import Format, read
from phasesync.cli.main import cli, main
from phasesync.cli.streams import json_text
from tests.cli.conftest import CommandLine
from tests.support.aws import Aws

ODD = "\x1b[31mred\x1b[0m\x07\r\nü€😀\u2028\u202e\x85\t'\"\\ #$"
LATIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own, which has streams and a locale of its own."""
    return subprocess.run(
        [sys.executable, "-m", "phasesync", *args],
        capture_output=True,
        check=False,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
    )


def put(shop: CommandLine, key: str, text: str | bytes, *options: str) -> None:
    shop.done("secrets", "set", "shop/prod", key, "-", *options, stdin=text)


def get(shop: CommandLine, key: str, *options: str, env: str = "shop/prod") -> bytes:
    return shop.done("secrets", "get", env, key, "--reveal", *options).stdout_bytes


def test_a_value_with_escape_sequences_is_exported_and_read_as_it_is(shop: CommandLine) -> None:
    put(shop, "K", ODD)
    put(shop, "J", '{"a":"\\u001b[31m"}', "--type", "json")
    assert shop.done("secrets", "get", "shop/prod", "K", "--reveal").stdout_bytes == ODD.encode()
    assert read(shop.done("secrets", "export", "shop/prod").stdout_bytes, Format.DOTENV)["K"].reveal_text() == ODD
    assert json.loads(shop.done("secrets", "export", "shop/prod", "--format", "json").stdout_bytes)["K"] == ODD
    assert json.loads(shop.done("secrets", "get", "shop/prod", "K", "--reveal", "-o", "json").stdout)["value"] == ODD


def test_arguments_file_names_and_output_are_utf8_whatever_the_locale(shop: CommandLine) -> None:
    file = shop.directory / "ü€.txt"
    file.write_text(ODD, encoding="utf-8", newline="")
    done = run("secrets", "set", "shop/prod", "K", "--from-file", str(file), "--comment", "ü€", "-o", "json", **LATIN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["comment"] == "ü€"
    assert shop.items("secrets", "list", "shop/prod")[0]["comment"] == "ü€"
    assert get(shop, "K") == ODD.encode()


@pytest.mark.parametrize(
    "command", [("export", "shop/prod"), ("list", "shop/prod"), ("export", "shop/prod", "--format", "json")]
)
def test_output_is_utf8_in_an_encoding_that_has_not_its_characters(
    shop: CommandLine, command: Sequence[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, "K", "ü€", "--comment", "ü€")
    with open(os.dup(1), "w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr("phasesync.cli.streams._other_encoding", lambda: False)  # That would start pytest again.
        monkeypatch.setattr(sys, "argv", ["phasesync", "secrets", *command])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    assert "ü€" in capfd.readouterr().out


@pytest.mark.parametrize("option", ["--comment", "--path"])
def test_text_that_is_not_utf8_is_refused(shop: CommandLine, option: str) -> None:
    refused = shop("secrets", "set", "shop/prod", "K", "-", option, "canary\udcff", stdin="x")
    assert refused.exit_code == 2
    assert shop.items("secrets", "list", "shop/prod") == []
    if option == "--comment":
        assert "'--comment' is not UTF-8 text" in refused.stderr
        assert "canary" not in refused.stderr


def test_a_file_name_may_be_any_bytes(shop: CommandLine) -> None:
    name = os.fsdecode(os.fsencode(shop.directory) + b"/gr\xfc\xdfe")
    Path(name).write_bytes(b"x")
    shop.done("secrets", "set", "shop/prod", "K", "--from-file", name)
    assert get(shop, "K") == b"x"


def test_json_means_the_same_and_has_nothing_that_a_terminal_obeys() -> None:
    document = {"a": ODD + "\x7f\x9b\u200b\udcff\U000e0001"}
    text = json_text(json.dumps(document, ensure_ascii=False))
    assert json.loads(text) == document
    assert all(character.isprintable() for character in text)
    assert "ü€😀" in text


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[object, bytes]]:
    """Run a command with a terminal as its stdout; return its exit code and what was shown there."""

    def run_there(*args: str) -> tuple[object, bytes]:
        far, near = pty.openpty()
        with monkeypatch.context() as patch, open(near, "w", encoding="utf-8") as stdout, open(far, "rb", 0) as shown:
            patch.setattr(sys, "stdout", stdout)
            with pytest.raises(SystemExit) as ended:
                cli.main(list(args), prog_name="phasesync")
            stdout.write("END")
            stdout.flush()
            read = b""
            while not read.endswith(b"END"):
                read += shown.read(4_096)
            return ended.value.code, read.removesuffix(b"END")

    return run_there


def test_a_terminal_gets_nothing_of_a_value_that_it_would_obey(
    shop: CommandLine, on_terminal: Callable[..., tuple[object, bytes]]
) -> None:
    put(shop, "K", ODD)
    assert on_terminal("secrets", "get", "shop/prod", "K", "--reveal") == (2, b"")
    code, shown = on_terminal("secrets", "export", "shop/prod", "--format", "json")
    assert (code, json.loads(shown)) == (0, {"K": ODD})
    assert "\x1b" not in shown.decode() and "\u202e" not in shown.decode()


def test_a_terminal_gets_a_line_end_after_a_value(
    shop: CommandLine, on_terminal: Callable[..., tuple[object, bytes]]
) -> None:
    put(shop, "K", "one\ntwo")
    assert on_terminal("secrets", "get", "shop/prod", "K", "--reveal") == (0, b"one\r\ntwo\r\n")


# --- what leaves comes back


def test_what_dotenv_can_hold_is_the_same_at_aws_after_an_import_elsewhere(shop: CommandLine) -> None:
    shop.done("envs", "add", "shop/copy")
    entered = {"A": "$${y}", "B": "a$$${y}", "C": "${{ x }}", "D": "${open", "E": "plain", "F": ODD}
    for key, text in entered.items():
        put(shop, key, text)
    exported = shop.done("secrets", "export", "shop/prod")
    assert [line.partition(": ")[2].partition(":")[0] for line in exported.stderr.splitlines()[:2]] == ["F", "A, B, C"]
    shop.done("secrets", "import", "shop/copy", "-", "--yes", stdin=exported.stdout_bytes)
    assert get(shop, "A", env="shop/copy") == b"$${y}"
    for key in entered:
        assert get(shop, key, "--resolve", env="shop/copy") == get(shop, key, "--resolve")


def test_what_dotenv_cannot_hold_is_said_of_each_key(shop: CommandLine) -> None:
    put(shop, "REF", "${PLAIN}")
    put(shop, "PLAIN", "canary", "--comment", "canary")
    put(shop, "BIN", b"\xff", "--type", "binary")
    put(shop, "DOC", '{"a": "$${canary}"}', "--type", "json")
    done = shop.done("secrets", "export", "shop/prod")
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
        "warning: BIN is binary and is exported as base64",
        "warning: DOC is of type json and is exported as text",
        "warning: PLAIN has a comment, which is left out",
        "warning: REF has ${ in it: secrets import would take that literally",
    ]
    assert "hint: --format json keeps" in done.stderr
    assert "canary" not in done.stderr
    assert done.stdout.splitlines()[1:] == ["""DOC='{"a":"${canary}"}'""", "PLAIN=canary", "REF='${PLAIN}'"]


def test_a_comment_alone_is_a_change_that_an_import_makes(shop: CommandLine) -> None:
    put(shop, "K", "x", "--comment", "old")
    marked = {"K": {"phasesync:type": "text", "value": "x", "comment": "new"}}
    done = shop.json("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=json.dumps(marked))
    assert (done["changed"], shop.items("secrets", "list", "shop/prod")[0]["comment"]) == (["K"], "new")
    shop.done("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin='{"K": "y"}')
    assert shop.items("secrets", "list", "shop/prod")[0]["comment"] == "new"


def test_an_export_of_any_size_can_be_imported(shop: CommandLine) -> None:
    text = json.dumps({f"K{n}": "x" * 60_000 for n in range(20)})
    shop.done("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=text)
    exported = shop.done("secrets", "export", "shop/prod", "--format", "json").stdout
    assert (
        shop.json("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=exported)["unchanged"] == 20
    )


@pytest.mark.parametrize(
    ("entered", "type_", "payload"),
    [
        ("a $${y} ${B}", "text", b"a ${y} b"),
        ('{"b": "${B}", "a": 1.10}', "json", b'{"a":1.10,"b":"b"}'),
        (b"\xff${B}", "binary", b"\xff${B}"),
    ],
)
def test_resolve_prints_what_aws_gets(shop: CommandLine, entered: str | bytes, type_: str, payload: bytes) -> None:
    put(shop, "B", "b")
    put(shop, "K", entered, "--type", type_)
    assert get(shop, "K", "--resolve") == payload


def test_resolve_prints_the_bytes_that_a_sync_wrote(shop: CommandLine, aws: Aws) -> None:
    put(shop, "B", "b")
    put(shop, "K", ODD + "$${y} ${B}")
    put(shop, "J", '{"x": ["${B}", 1.10]}', "--type", "json")
    put(shop, "N", b"\xff\x00", "--type", "binary")
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    at = ("--env", "shop/prod", "--credential", "host", "--destination", "aws-secrets-manager")
    shop.done("syncs", "add", "web", *at, "--secret-name", "web")
    shop.done("syncs", "run", "web")

    written = aws.boto("secretsmanager").get_secret_value(SecretId="web")["SecretString"]

    exported = shop.done("secrets", "export", "shop/prod", "--resolve", "--format", "json").stdout_bytes
    assert exported == written.encode() + b"\n"


def test_what_does_not_resolve_is_named_and_stops_only_its_own_key(shop: CommandLine) -> None:
    put(shop, "K", "canary ${NONE}")
    put(shop, "B", "b")
    for command in (("get", "shop/prod", "K", "--reveal", "--resolve"), ("export", "shop/prod", "--resolve")):
        refused = shop("secrets", *command)
        assert refused.exit_code != 0
        assert "K: ${NONE} leads nowhere" in refused.stderr
        assert "canary" not in refused.output
    assert get(shop, "B", "--resolve") == b"b"


def test_resolve_reveals_only_where_that_is_asked_for(shop: CommandLine) -> None:
    put(shop, "K", "canary")
    refused = shop("secrets", "get", "shop/prod", "K", "--resolve")
    assert (refused.exit_code, "add --reveal" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("stdin", "stored", "warned"),
    [(b"x\r\n", b"x\r", True), (b"x\n\n", b"x\n", True), (b"a\r\nb\r\n", b"a\r\nb\r", False), (b"x\n", b"x", False)],
)
def test_of_stdin_one_line_feed_is_dropped_and_a_line_end_that_is_kept_is_said(
    shop: CommandLine, stdin: bytes, stored: bytes, warned: bool
) -> None:
    done = shop.done("secrets", "set", "shop/prod", "K", "-", stdin=stdin)
    assert get(shop, "K") == stored
    assert ("the line end after it is kept" in done.stderr) == warned


def test_the_help_says_what_becomes_of_a_final_newline(shop: CommandLine) -> None:
    text = " ".join(shop.done("secrets", "set", "--help").stdout.split())
    assert "byte for byte: a final newline is kept, CR too. Of stdin one newline is dropped." in text
    assert "of CR LF the CR stays" in text
