"""No message repeats a key: not that of a file whose name was mistyped, nor one typed where a file name is expected."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.test_root_keys import identity
from tests.support.stores import ROOT_KEY

ROOT = base64.b64encode(ROOT_KEY.material).decode()
PASSWORD = "*canary-p4ss"

READS_A_FILE = [
    "audit export --state FILE",
    "keys escrow --verify FILE --identity FILE",
    "rebuild --from-aws --credential host --mapping FILE",
    "dynamic add d --env shop/prod --credential host --default-ttl 1h --max-ttl 8h --inline-policy FILE",
    "dynamic add d --env shop/prod --credential host --default-ttl 1h --max-ttl 8h --session-policy FILE",
    "syncs add s --env shop/prod --credential host --secret-name x --resource-policy FILE",
    "apply -f FILE",
    "diff -f FILE",
    "secrets import shop/prod FILE --format json",
    "db restore FILE",
    "db verify FILE",
    "--config FILE apps list",
]
TAKES_A_TEXT = [
    "audit export --after TEXT",
    "audit verify --head TEXT",
    "audit list --after TEXT",
    "secrets list shop/prod --after TEXT",
    "apps list --after TEXT",
    "keys escrow --recipient TEXT",
    "keys escrow --verify TEXT --identity TEXT",
    "keys rotate-root --to TEXT",
    "apply -f TEXT",
    "db restore TEXT",
    "--config TEXT apps list",
    "notifications add n --to https://hooks.example.com/x --signing-secret TEXT",
    "credentials add x --type access-key --region eu-west-1 --access-key-id TEXT",
]


def texts(folder: Path) -> dict[str, str]:
    """What a file of secrets holds, and what no message may have."""
    return {ROOT: ROOT, identity(folder)[0].read_text(): "AGE-SECRET-KEY-1", PASSWORD: "canary"}


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("line", READS_A_FILE)
def test_a_file_of_another_kind_is_named_and_not_repeated(line: str, form: str, shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    file = shop.directory / "mistyped"
    for text, hidden in texts(shop.directory).items():
        file.write_text(f"{text}\n")
        file.chmod(0o600)
        refused = shop(*line.replace("FILE", str(file)).split(), "-o", form)
        assert refused.exit_code != 0
        assert hidden not in refused.stdout + refused.stderr


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("line", TAKES_A_TEXT)
def test_a_key_that_was_typed_in_the_wrong_place_is_not_repeated(line: str, form: str, shop: CommandLine) -> None:
    for text in (ROOT, identity(shop.directory)[0].read_text().splitlines()[-1]):
        refused = shop(*(text if word == "TEXT" else word for word in line.split()), "-o", form)
        assert refused.exit_code != 0
        assert text not in refused.stdout + refused.stderr


def test_the_state_of_an_export_is_named_if_it_is_none(shop: CommandLine) -> None:
    state = shop.directory / "state"
    state.write_text("")
    for options in ((), ("--after", f"0:{'0' * 32}")):
        refused = shop("audit", "export", "--state", str(state), *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"{state} is not a file that audit export --state has written" in refused.stderr
        assert state.read_text() == ""


@pytest.mark.parametrize("variable", ["PHASESYNC_ROOT_KEY_FILE", "PHASESYNC_AGE_IDENTITY_FILE"])
def test_a_key_in_place_of_the_name_of_its_file_is_told(
    variable: str, shop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (ROOT, identity(shop.directory)[0].read_text().splitlines()[-1]):
        monkeypatch.setenv(variable, text)
        refused = shop("apps", "list")
        assert refused.exit_code == 6
        assert "must name a file, and what is given is a key itself" in refused.stderr
        assert variable in refused.stderr
        assert text not in refused.stderr
