"""Values come from the user's own sops: its exact arguments, and how its output is read. A script stands in for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from phasesync.adapters.project_files import sops
from phasesync.adapters.project_files.sops import decrypt
from phasesync.core.model import SecretValue, ValueType
from phasesync.errors import DestinationUnavailableError, InvalidInputError, PhasesyncError, SettingsError
from tests.support.waiting import wait_until


def has_ended(status: Path) -> bool:
    """Whether a process has ended, from its file in /proc."""
    try:
        return "State:\tZ" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


class FakeSops:
    """A `sops` that is the only program of that name in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "live.enc.yaml"
        self.file.write_text("A: ENC[...]\n")

    def prints(self, output: str, *, then: str = "") -> None:
        """Have it note its arguments and print something."""
        (self.folder / "output").write_text(output)
        self.runs(f'cat "{self.folder}/output"\n{then}')

    def runs(self, lines: str) -> None:
        """Have it note its arguments and run lines of shell."""
        program = self.folder / "sops"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{self.folder}/arguments"\n{lines}\n')
        program.chmod(0o700)

    @property
    def arguments(self) -> list[str]:
        """What it was called with."""
        return (self.folder / "arguments").read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSops:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return FakeSops(tmp_path)


def test_it_is_run_as_its_users_run_it_and_gives_the_values(fake: FakeSops) -> None:
    document = {
        "A": "x",
        "db": {"PASSWORD": "y", "ro": {"P": "z"}},
        "PORT": 5432,
        "ON": True,
        "L": [1, "${a}"],
        "R": "${a}",
    }
    fake.prints(json.dumps(document))

    values = decrypt(str(fake.file))

    assert fake.arguments == ["decrypt", "--output-type", "json", str(fake.file)]
    assert values == {
        ("/", "A"): SecretValue("x"),
        ("/db", "PASSWORD"): SecretValue("y"),
        ("/db/ro", "P"): SecretValue("z"),
        ("/", "PORT"): SecretValue("5432", ValueType.JSON),
        ("/", "ON"): SecretValue("true", ValueType.JSON),
        ("/", "L"): SecretValue('[1,"$${a}"]', ValueType.JSON),
        ("/", "R"): SecretValue("$${a}"),
    }


def test_a_relative_path_is_never_an_option(fake: FakeSops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake.folder)
    fake.file.rename(fake.folder / "--help")
    fake.prints("{}")

    assert decrypt("--help") == {}
    assert fake.arguments[-1] == "./--help"


def test_yaml_with_two_documents_is_refused_since_sops_would_print_one(fake: FakeSops) -> None:
    fake.prints('{"A": "x"}')
    fake.file.write_text("A: ENC[...]\n---\nB: ENC[...]\n")

    with pytest.raises(InvalidInputError, match="has 2 documents"):
        decrypt(str(fake.file))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("not JSON s3cr3t", "what sops printed is not JSON"),
        ('["s3cr3t"]', "has no names"),
        ('{"A": null, "B": "s3cr3t"}', "the value of A in / is null"),
        ('{"A\\u200b": "s3cr3t"}', "not a valid secret key"),
        ('{"d b": {"A": "s3cr3t"}}', "not a valid path"),
        ('{"A": "s3cr3t", "A": "s3cr3t"}', "the same key twice"),
    ],
)
def test_what_is_no_value_is_refused_and_never_repeated(fake: FakeSops, output: str, message: str) -> None:
    fake.prints(output)

    with pytest.raises(InvalidInputError) as caught:
        decrypt(str(fake.file))

    assert message in caught.value.message and str(fake.file) in caught.value.message
    assert "s3cr3t" not in f"{caught.value.message} {caught.value.hint}"


def test_a_refusal_says_what_the_exit_code_means_and_nothing_that_was_printed(fake: FakeSops) -> None:
    fake.prints('{"A": "s3cr3t"}', then="echo 'strconv.Atoi: parsing \"s3cr3t\"' >&2; exit 51")

    with pytest.raises(InvalidInputError) as caught:
        decrypt(str(fake.file))

    assert caught.value.message == (
        f"sops could not decrypt {fake.file} (exit code 51): the MAC does not fit: the file was changed without sops"
    )
    assert caught.value.hint == f"sops decrypt {fake.file} says more"


@pytest.mark.parametrize("code", [1, 4, 25, 77])
def test_what_sops_says_of_a_file_is_not_repeated(fake: FakeSops, code: int) -> None:
    fake.runs(f"printf '%s\\n' 'cannot unmarshal !!str s3cr3t into map' >&2; exit {code}")

    with pytest.raises(InvalidInputError) as caught:
        decrypt(str(fake.file))

    assert f"(exit code {code})" in caught.value.message
    assert "s3cr3t" not in caught.value.message


def test_where_no_key_was_found_sops_says_which_it_tried(fake: FakeSops) -> None:
    fake.runs("echo 'Failed to get the data key: age1abc' >&2; exit 128")

    with pytest.raises(InvalidInputError) as caught:
        decrypt(str(fake.file))

    assert caught.value.message.endswith("no key decrypts it: Failed to get the data key: age1abc")


def test_without_sops_the_error_names_it(fake: FakeSops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake.folder))

    with pytest.raises(SettingsError) as caught:
        decrypt(str(fake.file))

    assert "sops is not installed" in caught.value.message and "install sops" in str(caught.value.hint)


def test_a_missing_file_is_named_before_sops_is_run(fake: FakeSops) -> None:
    with pytest.raises(InvalidInputError, match="does not exist"):
        decrypt(str(fake.folder / "nowhere.yaml"))


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("sleep 600 & echo $! > child; wait", DestinationUnavailableError),
        ("exec sleep 600 >&- 2>&-", DestinationUnavailableError),
        ("echo $$ > child; exec yes s3cr3t", InvalidInputError),
    ],
    ids=["it waits", "it closes its output and waits", "it prints without end"],
)
def test_it_is_killed_with_everything_that_it_started(
    fake: FakeSops, monkeypatch: pytest.MonkeyPatch, lines: str, error: type[PhasesyncError]
) -> None:
    monkeypatch.setattr(sops, "MAX_BYTES", 100_000)
    fake.runs(f'cd "{fake.folder}"; echo $$ > child; {lines}')

    with pytest.raises(error) as caught:
        decrypt(str(fake.file), timeout_s=0.2 if error is DestinationUnavailableError else 30)

    assert "s3cr3t" not in caught.value.message
    child = fake.folder / "child"
    number = child.read_text().strip() if child.exists() else ""
    if number:  # On a busy machine it may have been killed before it began.
        wait_until(lambda: has_ended(Path("/proc") / number / "status"))
