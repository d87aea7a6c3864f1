"""`phasesync keys rotate-root` of an age file: nobody who opens the present root key is left out without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phasesync.adapters.root_keys import age
from phasesync.errors import KeyUnavailableError
from tests.cli.conftest import CommandLine
from tests.cli.test_root_keys import identity, ids
from tests.support.stores import ROOT_KEY


@pytest.fixture
def here(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The identity of this host: its file, which the settings name, and its public key."""
    file, public = identity(shop.directory)
    monkeypatch.setenv("PHASESYNC_AGE_IDENTITY_FILE", str(file))
    return file, public


@pytest.fixture
def there(shop: CommandLine) -> tuple[Path, str]:
    """The identity of another host."""
    return identity(shop.directory)


def encrypt(shop: CommandLine, *recipients: str, armored: bool = True) -> Path:
    """Have the root key file be an age file for these recipients, and return it."""
    import pyrage

    file = shop.directory / "root.key"
    parsed = [pyrage.x25519.Recipient.from_str(one) for one in recipients]
    file.write_bytes(pyrage.encrypt(file.read_bytes(), parsed, armored=armored))
    return file


def opens(identity_file: Path, file: Path) -> bool:
    """Return whether an identity opens an age file."""
    try:
        age.decrypt_age(file.read_bytes(), identity_file, "a test")
    except KeyUnavailableError:
        return False
    return True


@pytest.mark.parametrize("armored", [True, False])
@pytest.mark.parametrize("option", ["--dry-run", "--wait=0s"])
def test_recipients_beside_the_identity_at_hand_are_not_dropped(
    option: str, armored: bool, shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    file = encrypt(shop, here[1], there[1], armored=armored)
    before = file.read_bytes()
    refused = shop("keys", "rotate-root", option)
    assert refused.exit_code == 2
    assert f"{file} is encrypted to 1 recipient beside the identities in {here[0]}" in refused.stderr
    assert "phasesync keys rotate-root --recipient age1…" in refused.stderr
    assert file.read_bytes() == before
    assert not (shop.directory / "root.key.next").exists()
    assert ids(shop) == {ROOT_KEY.id: "current"}


def test_recipients_that_are_given_open_the_new_root_key_and_the_log_has_them(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encrypt(shop, here[1], there[1])
    made = shop.json("keys", "rotate-root", "--recipient", there[1])["root_key_id"]
    assert opens(here[0], file) and opens(there[0], file)
    monkeypatch.setenv("PHASESYNC_AGE_IDENTITY_FILE", str(there[0]))
    assert ids(shop) == {made: "current", ROOT_KEY.id: "former"}
    registered = [one for one in shop.items("audit", "list") if one["details"].get("step") == "registered"]
    assert [one["details"]["recipients"] for one in registered] == [[there[1], here[1]]]


def test_another_host_with_an_identity_of_its_own_moves_the_file_too(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shop.directory / "there"
    folder.mkdir()
    shutil.copy2(encrypt(shop, here[1], there[1]), folder)
    made = shop.json("keys", "rotate-root", "--recipient", there[1])["root_key_id"]
    shutil.copy2(shop.directory / "root.key", folder / "root.key.next")
    monkeypatch.setenv("PHASESYNC_AGE_IDENTITY_FILE", str(there[0]))
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(folder / "root.key"))
    assert shop.json("keys", "rotate-root")["root_key_id"] == made
    assert opens(there[0], folder / "root.key")


def test_the_own_public_key_is_the_choice_to_leave_the_others_out(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    file = encrypt(shop, here[1], there[1])
    for option in ("--dry-run", "--wait=0s"):
        done = shop.done("keys", "rotate-root", "--recipient", here[1], option)
        assert "was encrypted to 1 recipient beside the identities" in done.stderr
        assert "the next root key to 0: the others cannot open it" in done.stderr
    assert opens(here[0], file) and not opens(there[0], file)


def test_identities_in_the_same_file_are_all_at_hand(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    file = encrypt(shop, here[1], there[1])
    here[0].write_text(here[0].read_text() + there[0].read_text())
    shop.done("keys", "rotate-root")
    assert opens(here[0], file) and opens(there[0], file)


def test_an_identity_that_opens_nothing_does_not_stand_for_a_recipient(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    encrypt(shop, here[1], there[1])
    here[0].write_text(here[0].read_text() + identity(shop.directory)[0].read_text())
    assert "1 recipient beside" in shop("keys", "rotate-root").stderr


def test_a_next_file_that_is_there_keeps_the_recipients_it_was_made_for(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    encrypt(shop, here[1], there[1])
    beside = shop.directory / "root.key.next"
    beside.write_bytes(age.encrypt_age(b"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=\n", [here[1], there[1]]))
    beside.chmod(0o600)
    for option in ("--wait=0s", "--dry-run"):
        refused = shop("keys", "rotate-root", option, "--recipient", there[1])
        assert (refused.exit_code, f"is there already ({beside})" in refused.stderr) == (2, True)
    shop.done("keys", "rotate-root")
    assert opens(there[0], shop.directory / "root.key")


@pytest.mark.parametrize("option", ["--wait=0s", "--dry-run"])
def test_recipients_that_cannot_be_used_are_refused(
    option: str, shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    refused = shop("keys", "rotate-root", option, "--recipient", there[1])
    assert (refused.exit_code, "--recipient is for an age file" in refused.stderr) == (2, True)
    assert "--to age" in refused.stderr
    encrypt(shop, here[1])
    wrong = shop("keys", "rotate-root", option, "--recipient", "AGE-SECRET-KEY-1CANARY")
    assert (wrong.exit_code, "is not a public key of age" in wrong.stderr) == (2, True)
    assert "CANARY" not in wrong.stderr
    many = [identity(shop.directory)[1] for _ in range(40)]
    full = shop("keys", "rotate-root", option, "--recipient", ",".join(many))
    assert (full.exit_code, "are too many" in full.stderr) == (2, True)
    assert not (shop.directory / "root.key.next").exists()
    assert ids(shop) == {ROOT_KEY.id: "current"}


def test_from_a_plain_file_to_an_age_file_for_others_too(
    shop: CommandLine, here: tuple[Path, str], there: tuple[Path, str]
) -> None:
    shop.done("keys", "rotate-root", "--to", "age", "--recipient", there[1])
    assert opens(here[0], shop.directory / "root.key") and opens(there[0], shop.directory / "root.key")
