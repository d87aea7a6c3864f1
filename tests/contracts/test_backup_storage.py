"""Where backups go, a folder or S3 as moto has it: both store a file whole or not at all, and list, read and remove."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.backup_storage import bucket as bucket_module
from phasesync.adapters.backup_storage.bucket import BucketStorage
from phasesync.adapters.backup_storage.folder import FolderStorage
from phasesync.core.backup_schedule import Bucket, Folder
from phasesync.errors import (
    AlreadyExistsError,
    DestinationRejectedError,
    NotFoundError,
    PhasesyncError,
    SettingsError,
)
from phasesync.ports.backups import BackupStorage
from tests.cli.conftest import CommandLine, phasesync  # noqa: F401
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, no_sources
from tests.support.messages import NOW

NAME = "phasesync-0123456789ab-20300102T030405Z.db"
BUCKET = Bucket(name="backups", prefix="prod/db")


@dataclass
class Place:
    """A place, and how a test looks at it without our code."""

    storage: BackupStorage
    contents: Callable[[], dict[str, bytes]]


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BucketStorage, Any]]:
    import boto3.session

    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 * 1024 * 1024)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_url)
    keys: dict[str, Any] = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "test"}
    make: Any = boto3.session.Session(region_name="eu-west-1", **keys).client
    plain = make("s3", endpoint_url=s3_url)
    plain.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    plain.put_object(Bucket="backups", Key="other", Body=b"theirs")
    clients = AwsClients(source_of=no_sources, clock=HandClock(NOW), instance_id=INSTANCE)
    yield BucketStorage(clients, access_key_credential(), BUCKET, "eu-west-1"), plain
    clients.close()
    for listed in plain.list_objects_v2(Bucket="backups").get("Contents", ()):
        plain.delete_object(Bucket="backups", Key=listed["Key"])
    assert not plain.list_multipart_uploads(Bucket="backups").get("Uploads"), "no parts are left"
    plain.delete_bucket(Bucket="backups")
    plain.close()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        folder = tmp_path / "made" / "by us"
        return Place(
            FolderStorage(Folder(path=str(folder))),
            lambda: {file.name: file.read_bytes() for file in folder.iterdir()},
        )
    storage, plain = request.getfixturevalue("s3")

    def contents() -> dict[str, bytes]:
        keys = [one["Key"] for one in plain.list_objects_v2(Bucket="backups", Prefix="prod/db/").get("Contents", ())]
        return {
            key.removeprefix("prod/db/"): plain.get_object(Bucket="backups", Key=key)["Body"].read() for key in keys
        }

    return Place(storage, contents)


def put(place: Place, file: Path, content: bytes, name: str = NAME, **changes: Any) -> None:
    file.write_bytes(content)
    arguments: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "checkpoint": lambda: None} | changes
    place.storage.put(name, file, **arguments)


@pytest.mark.parametrize("size", [0, 7, 11 * 1024 * 1024])
def test_what_is_stored_is_listed_read_and_removed(place: Place, tmp_path: Path, size: int) -> None:
    assert place.storage.names() == {}
    content = bytes(number % 251 for number in range(size))
    put(place, tmp_path / "file", content)
    put(place, tmp_path / "file", b"{}", name=f"{NAME}.manifest.json")

    assert place.contents() == {NAME: content, f"{NAME}.manifest.json": b"{}"}
    assert place.storage.names() == {NAME: size, f"{NAME}.manifest.json": 2}
    assert place.storage.read(f"{NAME}.manifest.json", most_bytes=100) == b"{}"
    for _ in range(2):
        place.storage.remove(NAME)
    assert place.contents() == {f"{NAME}.manifest.json": b"{}"}


class Stopped(PhasesyncError):
    """The daemon stops."""


def test_a_transfer_that_was_stopped_stores_nothing(place: Place, tmp_path: Path) -> None:
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 1:
            raise Stopped

    with pytest.raises(Stopped):
        put(place, tmp_path / "file", bytes(11 * 1024 * 1024), checkpoint=stop)
    assert place.contents() == {}


def test_bytes_that_changed_on_the_way_are_noticed(place: Place, tmp_path: Path) -> None:
    with pytest.raises((SettingsError, DestinationRejectedError)):
        put(place, tmp_path / "file", b"content", sha256="0" * 64)


def test_a_file_that_is_not_there_or_too_large_is_named(place: Place, tmp_path: Path) -> None:
    place.storage.names()
    with pytest.raises(NotFoundError, match=NAME):
        place.storage.read(NAME, most_bytes=10)
    put(place, tmp_path / "file", b"x" * 11)
    with pytest.raises(SettingsError, match="larger than 10 bytes"):
        place.storage.read(NAME, most_bytes=10)


# --- a folder


def test_a_folder_keeps_nothing_of_a_process_that_was_killed(tmp_path: Path) -> None:
    """And of no other installation that uses the folder."""
    ours = tmp_path / ".phasesync-0123456789ab-20290101T000000Z.db.partial"
    theirs = tmp_path / ".phasesync-ba9876543210-20290101T000000Z.db.partial"
    for file in (ours, theirs):
        file.write_bytes(b"half")
    place = Place(FolderStorage(Folder(path=str(tmp_path))), dict)
    (tmp_path / "from").mkdir()
    put(place, tmp_path / "from" / "file", b"whole")

    assert (ours.exists(), theirs.exists()) == (False, True)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExistsError):
        put(place, tmp_path / "from" / "file", b"another")


def test_a_folder_that_cannot_be_written_is_named_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = FolderStorage(Folder(path=str(tmp_path / "file")))
    with pytest.raises(SettingsError, match="cannot be used"):
        storage.names()


# --- S3


def test_what_s3_refuses_has_a_hint(s3: tuple[BucketStorage, Any]) -> None:
    storage, _ = s3
    storage._place = Bucket(name="no-such-bucket", prefix="")
    with pytest.raises(DestinationRejectedError) as caught:
        storage.names()
    assert "no such bucket" in str(caught.value.hint)


@pytest.mark.parametrize("size", [0, 7, 11 * 1024 * 1024])
def test_a_backup_is_fetched_byte_for_byte_to_a_private_file(
    s3: tuple[BucketStorage, Any], tmp_path: Path, size: int
) -> None:
    storage, plain = s3
    content = bytes(number % 251 for number in range(size))
    plain.put_object(Bucket="backups", Key=f"prod/db/{NAME}", Body=content)
    storage.fetch(NAME, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFoundError, match="there is no nothing"):
        storage.fetch("nothing", tmp_path / "nothing")


def test_a_backup_that_is_replaced_while_it_is_fetched_is_refused(
    s3: tuple[BucketStorage, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, plain = s3
    plain.put_object(Bucket="backups", Key=f"prod/db/{NAME}", Body=bytes(9 * 1024 * 1024))
    get = storage._get

    def replaced_after(*args: Any, **which: Any) -> Any:
        got = get(*args, **which)
        plain.put_object(Bucket="backups", Key=f"prod/db/{NAME}", Body=bytes([1]) * (9 * 1024 * 1024))
        return got

    monkeypatch.setattr(storage, "_get", replaced_after)
    with pytest.raises(DestinationRejectedError) as caught:
        storage.fetch(NAME, tmp_path / "copy")
    assert "repeat the command" in str(caught.value.hint)


def test_a_backup_in_s3_is_proved_tried_out_and_restored_by_its_address(
    s3: tuple[BucketStorage, Any],
    phasesync: CommandLine,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the identity of this shell, and by a credential of the database. No copy of it stays here."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "eu-west-1"),
    ):
        monkeypatch.setenv(name, value)
    _, plain = s3
    phasesync.done("apps", "add", "shop")
    phasesync.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    phasesync.done("db", "backup", str(tmp_path / NAME))
    for name in (NAME, f"{NAME}.manifest.json"):
        plain.upload_file(str(tmp_path / name), "backups", f"prod/db/{name}")
    phasesync.done("apps", "add", "later")
    address, before = f"s3://backups/prod/db/{NAME}", set(phasesync.directory.glob("data/.*"))
    left = phasesync.directory / "data" / ".fetched-backup-left"
    left.mkdir()
    os.utime(left, (0, 0))

    verified = phasesync.json("db", "verify", address)
    assert (verified["file"], verified["manifest"]) == (address, "authentic")
    assert phasesync.json("db", "drill", address, "--credential", "host")["manifest"] == "authentic"
    assert phasesync.json("db", "restore", address, "--dry-run")["would"]["contents"]["apps"] == {"now": 2, "then": 1}
    assert set(phasesync.directory.glob("data/.*")) == before, "no copy stays, nor that of a killed process"
    phasesync.done("db", "restore", address)
    assert [app["name"] for app in phasesync.json("apps", "list")["items"]] == ["shop"]

    plain.put_object(Bucket="backups", Key=f"prod/db/{NAME}", Body=b"something else")
    altered = phasesync("db", "verify", address)
    assert (altered.exit_code, f"{address} is not the file that its manifest is of" in altered.stderr) == (6, True)
    missing = phasesync("db", "verify", "s3://backups/prod/nothing.db")
    assert (missing.exit_code, "there is no nothing.db in s3://backups/prod" in missing.stderr) == (5, True)
