"""
Makes the databases of `fixtures/`, each with the code of its time: `python -m tests.upgrade.make_fixtures [NAME...]`.

Without a name it makes those that are missing. An existing one is never made anew: it is what people have on their
disks. NAME.db.xz is a SQLite file, as `db backup` copies it; NAME.sql.xz is what pg_dump makes of a PostgreSQL
database.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from phasesync.emulator import AwsEmulator
from tests.support.aws import REGION, environ_of
from tests.support.postgres import PostgresServer, program_folder, start_server
from tests.upgrade import known
from tests.upgrade.former import FormerCommands
from tests.upgrade.origins import FIXTURES, Origin, origins, unpack

_DUMP: Final = ("--format=plain", "--inserts", "--no-owner", "--no-privileges", "--no-comments")


def main(names: list[str]) -> None:
    with AwsEmulator() as aws, start_server() as server:
        for origin in origins():
            if names and origin.name not in names:
                continue
            for end, make in ((".db.xz", _make_sqlite), (".sql.xz", _make_postgresql)):
                fixture = FIXTURES / f"{origin.name}{end}"
                if fixture.exists():
                    continue
                aws.reset()
                with TemporaryDirectory() as folder:
                    made = make(origin, Path(folder), aws, server)
                fixture.write_bytes(lzma.compress(made, preset=9))
                print(f"{fixture.name}: {len(made):,} bytes, {fixture.stat().st_size:,} in the file")


class _Former(FormerCommands):
    """An installation of a former phasesync, which runs from the tree of its commit."""

    def __init__(self, origin: Origin, folder: Path, aws: AwsEmulator, database_url: str | None = None) -> None:
        self.origin = origin
        self.folder = folder
        unpack(origin.commit, folder / "code")
        key = folder / "root.key"
        key.write_bytes(base64.b64encode(known.ROOT_KEY) + b"\n")
        key.chmod(0o600)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PHASESYNC_", "AWS_"))},
            **environ_of(aws.url),
            "AWS_ACCESS_KEY_ID": known.ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": known.SECRET_ACCESS_KEY,
            "PHASESYNC_DATA_DIR": str(folder / "data"),
            "PHASESYNC_ROOT_KEY_FILE": str(key),
            "HOME": str(folder),
        }
        if database_url is not None:
            environ["PHASESYNC_DATABASE_URL"] = database_url
        super().__init__(folder / "code", environ)

    def fill(self) -> None:
        """Make the database, with what `known` says in it."""
        self.run("init")
        self._fill_secrets()
        self.run("credentials", "add", "aws", "--type", "ambient", "--region", REGION)
        keys = ("--type", "access-key", "--access-key-id", known.ACCESS_KEY_ID, "--region", REGION)
        self.run("credentials", "add", "keys", *keys, stdin=known.SECRET_ACCESS_KEY.encode())
        of_shop = ("--env", "shop/production", "--credential")
        self.run("syncs", "add", "shop", *of_shop, "aws", "--secret-name", "shop/production", "--tag", "team=shop")
        self.run("syncs", "add", "folder", *of_shop, "keys", "--path", "/db", "--name-template", "{app}/{env}/db/{key}")
        self.run("syncs", "run", "shop")
        self.run("syncs", "run", "folder")
        self.run("syncs", "add", "waits", "--env", "shop/staging", "--credential", "aws", "--secret-name", "shop/waits")
        self.run("syncs", "pause", "waits", "--reason", "not before the audit")
        if self.origin.schema >= "0002":
            self._fill_leases()
        if self.origin.schema >= "0005":
            self._fill_protection()
        if self.origin.schema >= "0006":
            self.run("notifications", "add", "ops", "--to", "mailto:ops@example.com", "--on", "held,halted")

    def _fill_secrets(self) -> None:
        self.run("apps", "add", "shop")
        for environment in ("shop/production", "shop/staging"):
            self.run("envs", "add", environment)
        for former in known.FORMER:
            self._set("/", "DATABASE_URL", former.encode())
        self._set("/", known.UNSET, b"was here")
        for (path, key), text in known.TEXTS.items():
            self._set(path, key, text.encode())
        self._set("/", "LEVELS", known.JSON.encode(), "--type", "json", "--comment", known.COMMENT)
        self._set("/", "CERTIFICATE", known.BINARY, "--type", "binary")
        self.run("secrets", "unset", "shop/production", known.UNSET)
        self.run("secrets", "set", "shop/staging", "DATABASE_URL", "-", stdin=b"postgres://staging")

    def _set(self, path: str, key: str, value: bytes, *options: str) -> None:
        file = self.folder / "value"
        file.write_bytes(value)
        self.run("secrets", "set", "shop/production", key, "--path", path, "--from-file", str(file), *options)

    def _fill_leases(self) -> None:
        policy = self.folder / "policy.json"
        statement = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        recipe = ("--env", "shop/production", "--credential", "aws", "--inline-policy", str(policy))
        self.run("dynamic", "add", "ci", *recipe, "--default-ttl", "1h", "--max-ttl", "8h")
        ended = json.loads(self.run("leases", "issue", "ci", "-o", "json"))["id"]
        self.run("leases", "revoke", ended)
        self.run("leases", "issue", "ci")

    def _fill_protection(self) -> None:
        self.run("envs", "add", "shop/guarded")
        self.run("envs", "update", "shop/guarded", "--protect", "--yes")
        self.run("secrets", "set", "shop/guarded", "WAITS", "-", stdin=b"for an approval", exit_code=_HELD)
        document = self.folder / "project.yaml"
        document.write_text(_PROJECT)
        self.run("apply", "-f", str(document), "--yes")


_PROJECT: Final = """\
apiVersion: phasesync/v1
kind: Project
name: as-code
apps:
  - billing
environments:
  - billing/production
"""


_HELD: Final = 4


def _make_sqlite(origin: Origin, folder: Path, aws: AwsEmulator, _server: PostgresServer) -> bytes:
    copy = folder / "copy.db"
    with _Former(origin, folder, aws) as former:
        former.fill()
        former.run("db", "backup", str(copy))
    return copy.read_bytes()


def _make_postgresql(origin: Origin, folder: Path, aws: AwsEmulator, server: PostgresServer) -> bytes:
    name = origin.name.replace(".", "_").replace("-", "_")
    server.create_database(name)
    with _Former(origin, folder, aws, server.url(name).replace("+psycopg", "")) as former:
        former.fill()
    connect = ("--host", server.socket_directory, "--username", "postgres", "--dbname", name)
    dumped = subprocess.run([program_folder() / "pg_dump", *_DUMP, *connect], capture_output=True, check=True)
    # What begins with a backslash is for psql alone.
    return b"".join(line for line in dumped.stdout.splitlines(keepends=True) if not line.startswith(b"\\"))


if __name__ == "__main__":
    main(sys.argv[1:])
