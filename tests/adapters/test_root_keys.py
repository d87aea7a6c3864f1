"""Where the root key comes from, and which places are refused."""

import base64
import os
import shutil
import stat

import pytest

from phasesync.adapters.root_keys import load_next_root_keys, load_root_key, next_file_of, write_new_root_key
from phasesync.adapters.root_keys.age import recipients_of
from phasesync.adapters.root_keys.files import (
    former_file_of,
    hold_key_files,
    put_next_in_place,
    write_next_root_key,
)
from phasesync.errors import AlreadyExistsError, IllegalTransitionError, KeyUnavailableError, SettingsError
from phasesync.store.key_ring import RootKey

MATERIAL = bytes(range(32))
TEXT = base64.b64encode(MATERIAL).decode()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "root.key"
    path.write_text(TEXT + "\n")
    path.chmod(0o600)
    return path


def test_a_new_key_is_private_and_loads_as_it_was_made(tmp_path):
    path = tmp_path / "keys" / "root.key"
    written = write_new_root_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    loaded = load_root_key(file=path, environ={})
    assert (loaded.material, loaded.id, loaded.warnings) == (written.material, written.id, ())
    assert len(base64.b64decode(path.read_text())) == 32


def test_a_new_key_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_new_root_key(tmp_path / "root.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "root.key").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(key_file):
    with pytest.raises(AlreadyExistsError):
        write_new_root_key(key_file)
    assert key_file.read_text() == TEXT + "\n"


def test_a_key_is_not_written_through_a_dangling_symlink(tmp_path):
    (tmp_path / "root.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExistsError):
        write_new_root_key(tmp_path / "root.key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"):
        write_new_root_key(tmp_path / "file" / "root.key")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o601])
def test_a_file_that_everybody_may_use_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(SettingsError, match="everybody") as caught:
        load_root_key(file=key_file, environ={})
    assert caught.value.hint is not None
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("mode", [0o440, 0o640, 0o660])
def test_a_file_that_its_group_may_use_is_a_warning(key_file, mode):
    key_file.chmod(mode)
    (warning,) = load_root_key(file=key_file, environ={}).warnings
    assert "group" in warning


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("tmpfs {folder} tmpfs ro,relatime 0 0", True),  # Kubernetes, a CSI driver, Swarm
        ("/dev/vda1 {file} ext4 ro,relatime 0 0", True),  # Compose mounts the file alone
        ("/dev/vda1 {folder} ext4 ro,relatime 0 0", False),  # a disk that others read as well
        ("tmpfs {folder} tmpfs rw,relatime 0 0", False),
        ("/dev/vda1 {file} ext4 rw,relatime 0 0", False),
    ],
)
@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_what_an_orchestrator_mounted_for_us_is_a_warning_that_says_what_to_set(
    mode, line, accepted, key_file, tmp_path
):
    key_file.chmod(mode)
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda1 / ext4 rw 0 0\n" + line.format(folder=tmp_path, file=key_file) + "\n")
    if accepted:
        (warning,) = load_root_key(file=key_file, environ={}, mounts=mounts).warnings
        assert f"mode {mode:04o}" in warning
    else:
        with pytest.raises(SettingsError, match=f"mode {mode:04o}") as caught:
            load_root_key(file=key_file, environ={}, mounts=mounts)
        warning = str(caught.value.hint)
    for orchestrator in ("fsGroup", "defaultMode: 0440", "filePermission: '0440'", "Docker"):
        assert orchestrator in warning


def test_folders_of_a_new_key_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_new_root_key(tmp_path / "a" / "b" / "root.key")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "huge", "n" * 300])
def test_a_path_that_leads_to_no_key_file_is_named_at_once(name, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "huge").write_bytes(b"A" * 5000)
    with pytest.raises(KeyUnavailableError, match=r"the root key file .* cannot be read: "):
        load_root_key(file=tmp_path / name, environ={})


def test_a_credential_or_default_file_that_cannot_be_seen_is_not_passed_over(tmp_path):
    with pytest.raises(KeyUnavailableError, match="File name too long"):
        load_root_key(default_file=tmp_path / ("n" * 300), environ={})
    with pytest.raises(KeyUnavailableError, match="File name too long"):
        load_root_key(environ={"CREDENTIALS_DIRECTORY": str(tmp_path / ("n" * 300))})


def test_a_kubernetes_volume_is_judged_by_the_file_and_not_by_its_symlinks(key_file, tmp_path):
    key_file.chmod(0o440)
    (tmp_path / "..data").symlink_to(tmp_path)
    (tmp_path / "mounted.key").symlink_to("..data/root.key")
    assert load_root_key(file=tmp_path / "mounted.key", environ={}).material == MATERIAL


def test_a_systemd_credential_comes_first_whatever_its_mode(tmp_path, key_file):
    directory = tmp_path / "credentials"
    directory.mkdir()
    credential = directory / "root_key"
    credential.write_text(base64.b64encode(bytes(32)).decode())
    credential.chmod(0o444)
    loaded = load_root_key(file=key_file, value=TEXT, environ={"CREDENTIALS_DIRECTORY": str(directory)})
    assert (loaded.material, loaded.source) == (bytes(32), str(credential))


def test_a_file_comes_before_the_environment_and_the_default_file_last(tmp_path, key_file):
    other = base64.b64encode(bytes(32)).decode()
    empty = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_root_key(file=key_file, value=other, environ=empty).material == MATERIAL
    assert load_root_key(value=other, default_file=key_file, environ=empty).material == bytes(32)
    assert load_root_key(default_file=key_file, environ=empty).material == MATERIAL


def test_the_environment_works_with_a_warning():
    loaded = load_root_key(value=TEXT, environ={})
    assert loaded.material == MATERIAL
    assert "environment variable" in loaded.warnings[0]


def test_no_key_at_all_says_how_to_get_one(tmp_path):
    with pytest.raises(KeyUnavailableError) as caught:
        load_root_key(default_file=tmp_path / "none", environ={})
    assert "phasesync init" in str(caught.value.hint)
    with pytest.raises(KeyUnavailableError, match="none"):
        load_root_key(file=tmp_path / "none", environ={})
    with pytest.raises(KeyUnavailableError):
        load_root_key(file=tmp_path, environ={})


@pytest.mark.parametrize("text", ["", "zz", "QUJD", TEXT[:-4], TEXT + TEXT, "ü" * 44, TEXT.replace("A", "!")])
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path, text):
    path = tmp_path / "root.key"
    path.write_text(text)
    path.chmod(0o600)
    for attempt in ({"file": path}, {"value": text or "x"}):
        with pytest.raises(KeyUnavailableError) as caught:
            load_root_key(**attempt, environ={})
        assert not text or text not in caught.value.message


def test_a_key_names_itself_without_telling_itself():
    key = RootKey(material=MATERIAL, source="here")
    assert key.id == RootKey(material=MATERIAL, source="there").id
    assert key.id != RootKey(material=bytes(32), source="here").id
    shown = f"{key!r} {key}"
    assert repr(MATERIAL) not in shown
    assert MATERIAL.hex() not in shown
    assert TEXT not in shown


# --- the next key, and age


def test_the_next_key_lies_beside_with_the_mode_of_the_present_one_and_is_made_once(key_file):
    key_file.chmod(0o640)
    made = write_next_root_key(key_file)
    beside = next_file_of(key_file)
    assert (made.source, stat.S_IMODE(beside.stat().st_mode)) == (str(beside), 0o640)
    assert [found.material for found in load_next_root_keys(file=key_file, environ={})] == [made.material]
    with pytest.raises(AlreadyExistsError):
        write_next_root_key(key_file)
    assert load_root_key(file=key_file, environ={}).material == MATERIAL
    assert sorted(path.name for path in key_file.parent.iterdir()) == ["root.key", "root.key.next"]


def test_the_next_key_takes_the_place_of_the_present_one_which_is_kept(key_file):
    made = write_next_root_key(key_file)
    kept = put_next_in_place(key_file, made.id)
    assert kept == former_file_of(key_file, RootKey(material=MATERIAL, source="").id)
    for _ in range(2):
        assert kept.read_text() == TEXT + "\n"
        assert load_root_key(file=key_file, environ={}).material == made.material
        shutil.copy2(key_file, next_file_of(key_file))
        assert put_next_in_place(key_file, made.id) is None, "it is there already"


@pytest.mark.parametrize("in_the_way", ["half a k", "", TEXT + " and more"])
@pytest.mark.parametrize("where", ["root.key", "root.key.former-{id}", "root.key.next"])
def test_what_is_no_key_is_not_lost_for_the_next_one(in_the_way, where, key_file):
    made = write_next_root_key(key_file)
    key_file.with_name(where.format(id=RootKey(material=MATERIAL, source="").id)).write_text(in_the_way)
    before = {path.name: path.read_text() for path in key_file.parent.iterdir()}
    with pytest.raises(SettingsError, match=r"nothing was moved|was not replaced"):
        put_next_in_place(key_file, made.id)
    assert before == {path.name: path.read_text() for path in key_file.parent.iterdir()}


def test_another_key_than_the_one_in_use_does_not_take_the_place(key_file):
    write_next_root_key(key_file)
    with pytest.raises(SettingsError, match="does not hold the root key"):
        put_next_in_place(key_file, "0123456789ab")
    assert key_file.read_text() == TEXT + "\n"


def test_one_process_at_a_time_replaces_the_key_in_a_file(key_file):
    busy = pytest.raises(IllegalTransitionError, match="another phasesync keys rotate-root")
    with hold_key_files(key_file), busy, hold_key_files(key_file):
        pytest.fail("two of them hold it")
    with hold_key_files(key_file), hold_key_files(key_file.parent / "not-there-yet" / "root.key"):
        assert key_file.exists()


def test_every_place_of_a_next_key_is_looked_at(key_file, tmp_path):
    (tmp_path / "root_key_next").write_text(base64.b64encode(bytes(range(1, 33))).decode())
    write_next_root_key(key_file)
    value = base64.b64encode(bytes(range(2, 34))).decode()
    found = load_next_root_keys(file=key_file, value=value, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert [root.kind for root in found] == ["systemd-credential", "file", "environment"]
    assert load_next_root_keys(file=tmp_path / "none", environ={}) == []


@pytest.fixture
def identity_file(tmp_path):
    import pyrage

    path = tmp_path / "identity.txt"
    path.write_text(f"# a comment\n\n{pyrage.x25519.Identity.generate()}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("armored", [True, False])
def test_an_age_file_is_told_by_its_header(armored, identity_file, key_file):
    import pyrage

    (recipient,) = (pyrage.x25519.Recipient.from_str(one) for one in recipients_of(identity_file))
    key_file.write_bytes(pyrage.encrypt((TEXT + "\n").encode(), [recipient], armored=armored))
    loaded = load_root_key(file=key_file, identity_file=identity_file, environ={})
    assert (loaded.material, loaded.kind, loaded.source) == (MATERIAL, "age", str(key_file))


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("", 0o600, "has no identity"),
        ("AGE-SECRET-KEY-1CANARY\n", 0o600, "is damaged"),
        ("AGE-PLUGIN-YUBIKEY-1CANARY\n", 0o600, "no identity of the form"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\nCANARY\n", 0o600, "itself encrypted"),
        ("AGE-SECRET-KEY-1CANARY\n", 0o644, "used by everyone"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_an_identity_file_that_opens_nothing_is_named_and_not_repeated(content, mode, says, key_file, tmp_path):
    key_file.write_bytes(b"age-encryption.org/v1\n-> X25519 damaged\n")
    path = tmp_path / "identity.txt"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises((SettingsError, KeyUnavailableError), match=says) as caught:
        load_root_key(file=key_file, identity_file=path, environ={})
    assert str(path) in caught.value.message
    assert "CANARY" not in f"{caught.value!r} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_a_damaged_age_file_says_so(identity_file, key_file):
    key_file.write_bytes(b"age-encryption.org/v1\n-> X25519 damaged\n")
    with pytest.raises(KeyUnavailableError, match="or it is damaged") as caught:
        load_root_key(file=key_file, identity_file=identity_file, environ={})
    assert caught.value.__context__ is None
