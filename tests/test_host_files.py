"""What is read of this host, and how what is made is kept to this user."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasesync.host_files import (
    UnusableFileError,
    file_exists,
    make_private_folder,
    mount_of,
    out_of_descriptors,
    read_regular_file,
)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_file_is_read_with_what_is_known_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    path.chmod(0o640)
    data, status = read_regular_file(path, most_bytes=5)
    assert (data, stat.S_IMODE(status.st_mode)) == (b"12345", 0o640)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnusableFileError, match="it is larger than 1,000 bytes"):
        read_regular_file(path, most_bytes=1000)


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_fifo, "a FIFO"),
        (make_socket, "a socket"),
        (lambda path: Path("/dev/zero"), "a device"),
        (lambda path: path.parent, "a directory"),
    ],
)
def test_what_is_no_regular_file_is_named_and_not_waited_for(make, kind: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(make(tmp_path / "it"))
    with pytest.raises(UnusableFileError, match=f"it is {kind}, and a regular file is needed"):
        read_regular_file(link, most_bytes=10)


@pytest.mark.parametrize(
    ("name", "missing"), [("none", True), ("file/below", True), ("n" * 300, False), ("loop", False), ("n\0ul", False)]
)
def test_a_path_that_leads_nowhere_says_why(name: str, missing: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnusableFileError) as caught:
        read_regular_file(tmp_path / name, most_bytes=10)
    assert (caught.value.missing, caught.value.passing) == (missing, False)
    if missing:
        assert not file_exists(tmp_path / name)
    else:
        with pytest.raises(UnusableFileError):
            file_exists(tmp_path / name)


def test_without_free_descriptors_the_path_is_not_to_blame(tmp_path: Path, no_descriptors: None) -> None:
    assert out_of_descriptors()
    with pytest.raises(UnusableFileError) as caught:
        read_regular_file(Path("/etc/passwd"), most_bytes=1 << 20)
    assert (caught.value.reason, caught.value.passing) == (os.strerror(errno.EMFILE), True)


def test_with_free_descriptors_nothing_is_out() -> None:
    assert not out_of_descriptors()


def test_every_folder_that_is_made_is_private_and_none_that_was_there_changes(tmp_path: Path, no_umask: None) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    make_private_folder(tmp_path / "there/a/b/c")
    make_private_folder(tmp_path / "there/a/b/c")
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("there", "there/a", "there/a/b", "there/a/b/c")
    ]
    assert modes == [0o755, 0o700, 0o700, 0o700]


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file is no folder"):
        make_private_folder(tmp_path / "file/below")


def test_a_mount_is_told_with_its_source_and_whether_it_can_be_written(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw,relatime 0 0\nblobfuse2 /mnt/b fuse rw,errors=ro 0 0\ntmpfs /run/s tmpfs ro 0 0\n"
    )
    below = [mount_of(Path(path), mounts) for path in ("/mnt/b/x", "/run/s/key", "/mntb")]
    assert [(one.source, one.kind, one.read_only) for one in below if one is not None] == [
        ("blobfuse2", "fuse", False),
        ("tmpfs", "tmpfs", True),
        ("/dev/a", "ext4", False),
    ]
    assert mount_of(Path("/x"), tmp_path / "none") is None


def test_a_folder_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="link is a link that leads nowhere"):
        make_private_folder(link)
