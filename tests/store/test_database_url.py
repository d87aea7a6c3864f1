"""The place of a database, and the forms of its URL."""

import os
import stat

import pytest

from phasesync.errors import SettingsError
from phasesync.store import database_url as locations
from phasesync.store import open_database
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.sqlite import check_sqlite_version, network_file_system, prepare_sqlite_file

MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb1 /home/local xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
user@host: /mnt/remote fuse.sshfs rw 0 0
bucket /mnt/bucket fuse.mount-s3 rw 0 0
/dev/fuse /mnt/ntfs fuse.ntfs-3g rw 0 0
host /mnt/host 9p rw 0 0
share /mnt/vbox vboxsf rw 0 0
.host:/ /mnt/vmware fuse.vmhgfs-fuse rw 0 0
.host:/ /mnt/vmware-old vmhgfs rw 0 0
none /mnt/parallels prl_fs rw 0 0
mountpoint-s3 /mnt/mountpoint fuse rw 0 0
blobfuse2 /mnt/blob fuse rw 0 0
blobfuse2 /mnt/blob2 fuse.blobfuse2 rw 0 0
/dev/drbd0 /mnt/cluster ocfs2 rw 0 0
/dev/sdc1 /mnt/exfat fuseblk rw 0 0
server:/over /mnt/twice nfs rw 0 0
tmpfs /mnt/twice tmpfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path):
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/phasesync/phasesync.db", None),
        ("/home/ada/phasesync.db", "nfs4"),
        ("/home/local/phasesync.db", None),
        ("/homely/phasesync.db", None),
        ("/mnt/with space/phasesync.db", "cifs"),
        ("/mnt/remote/phasesync.db", "fuse.sshfs"),
        ("/mnt/bucket/phasesync.db", "fuse.mount-s3"),
        ("/mnt/ntfs/phasesync.db", None),
        ("/mnt/host/phasesync.db", None),
        ("/mnt/vbox/phasesync.db", "vboxsf"),
        ("/mnt/vmware/phasesync.db", "fuse.vmhgfs-fuse"),
        ("/mnt/vmware-old/phasesync.db", "vmhgfs"),
        ("/mnt/parallels/phasesync.db", "prl_fs"),
        ("/mnt/mountpoint/phasesync.db", "fuse, mountpoint-s3"),
        ("/mnt/blob/phasesync.db", "fuse, blobfuse2"),
        ("/mnt/blob2/phasesync.db", "fuse.blobfuse2"),
        ("/mnt/cluster/phasesync.db", "ocfs2"),
        ("/mnt/exfat/phasesync.db", None),
        ("/mnt/twice/phasesync.db", None),
    ],
)
def test_the_longest_and_newest_mount_tells_the_file_system(mounts, path, kind):
    assert network_file_system(path, mounts) == kind


def test_where_nothing_tells_nothing_is_refused(tmp_path):
    assert network_file_system(tmp_path / "phasesync.db", tmp_path / "none") is None


def test_a_network_file_system_is_refused_with_a_way_out(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    url = parse_database_url(f"sqlite:///{tmp_path}/phasesync.db")
    with pytest.raises(SettingsError, match="nfs4") as caught:
        prepare_sqlite_file(url, create=True, mounts=mounts)
    assert "PostgreSQL" in str(caught.value.hint)
    assert not (tmp_path / "phasesync.db").exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_means_psycopg_3(scheme):
    url = parse_database_url(f"{scheme}://user:pass@host:5433/db?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.host, url.port, url.password, url.query["sslmode"]) == ("host", 5433, "pass", "require")


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(locations, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        parse_database_url("postgresql://host/db")
    assert caught.value.hint == "pip install 'phasesync[postgres]'"


@pytest.mark.parametrize(
    "text", ["", "mysql://u:hunter2@h/d", "hunter2", "sqlite://", "sqlite:///:memory:", "://hunter2"]
)
def test_an_unusable_url_is_refused_without_repeating_it(text):
    with pytest.raises(SettingsError) as caught:
        parse_database_url(text)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_folder_and_file_are_made_private(tmp_path):
    path = tmp_path / "new" / "data" / "phasesync.db"
    open_database(f"sqlite:///{path}", create=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_files_beside_the_database_are_private_too(tmp_path):
    path = tmp_path / "phasesync.db"
    database = open_database(f"sqlite:///{path}", create=True)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
        found = sorted(tmp_path.iterdir())
        assert [one.name for one in found] == ["phasesync.db", "phasesync.db-shm", "phasesync.db-wal"]
        assert {stat.S_IMODE(one.stat().st_mode) for one in found} == {0o600}
    database.close()


def test_folders_above_the_database_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        open_database(f"sqlite:///{tmp_path}/a/b/phasesync.db", create=True).close()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/phasesync.db")]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "warned"),
    [
        (0o700, 0o600, []),
        (0o2770, 0o660, []),  # Kubernetes with fsGroup
        (0o755, 0o640, []),
        (0o777, 0o600, ["everyone on this machine may put files into {folder}, where the database is (mode 0777)"]),
        (0o1777, 0o600, ["everyone on this machine may put files into {folder}, where the database is (mode 1777)"]),
        (0o700, 0o644, ["everyone on this machine may read the database {folder}/phasesync.db (mode 0644)"]),
        (0o700, 0o666, ["everyone on this machine may write the database {folder}/phasesync.db (mode 0666)"]),
    ],
)
def test_a_place_that_everybody_reaches_is_a_warning_with_the_command(folder_mode, file_mode, warned, tmp_path):
    folder = tmp_path / "data"
    database = open_database(f"sqlite:///{folder}/phasesync.db", create=True)
    (folder / "phasesync.db").chmod(file_mode)
    folder.chmod(folder_mode)
    found = [warning.rpartition(": chmod")[0] for warning in database.warnings()]
    database.close()
    assert found == [text.format(folder=folder) for text in warned]


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a#b", "%41", "ä€", "a b", "~", "a;b&c", os.fsdecode(b"\xff")])
def test_any_name_of_a_folder_is_that_folder(name, tmp_path):
    folder = tmp_path / name
    database = open_database(sqlite_url(folder / "phasesync.db"), create=True)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    database.close()
    assert (folder / "phasesync.db").exists()
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("url", ["sqlite:////srv/p.db?mode=ro", "sqlite:////srv/a?b/p.db", "sqlite:////srv/p.db?"])
def test_a_question_mark_is_told_how_to_write_it(url):
    with pytest.raises(SettingsError, match=r"a SQLite URL takes no options; a [?] in its path is written %3F"):
        parse_database_url(url)


def test_a_name_that_sqlite_has_no_room_for_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="is too long: 247 bytes are possible"):
        open_database(f"sqlite:///{tmp_path}/{'n' * 248}", create=True)
    open_database(f"sqlite:///{tmp_path}/{'n' * 247}", create=True).close()


def test_a_missing_database_is_not_made_by_accident(tmp_path):
    with pytest.raises(SettingsError) as caught:
        open_database(f"sqlite:///{tmp_path}/phasesync.db")
    assert "phasesync init" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"):
        open_database(f"sqlite:///{tmp_path}/file/phasesync.db", create=True)


def test_an_old_sqlite_is_refused():
    check_sqlite_version((3, 35, 0))
    with pytest.raises(SettingsError, match=r"3\.34\.1"):
        check_sqlite_version((3, 34, 1))
