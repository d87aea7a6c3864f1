"""
Backups by the daemon: where they go, what they are called, and which of them are no longer needed. Pure.

    /var/backups/phasesync      a folder
    s3://BUCKET/PREFIX          a place in Amazon S3

The name of a backup says of which installation it is, and when it was made. Only such names are ever removed.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from phasesync.errors import InvalidInputError

LEAST_EVERY: Final = timedelta(minutes=5)
MOST_EVERY: Final = timedelta(days=31)
MOST_KEPT: Final = 10_000

TRY_AGAIN: Final = timedelta(minutes=10)
"""Pause after a failed attempt, unless the schedule is shorter."""

_S3: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""S3 User Guide, bucket naming rules."""
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()/=-]{0,512}")
"""Characters that are safe in keys (S3 User Guide, naming objects)."""
_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder on the host of the daemon. `path`: absolute."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A place in Amazon S3. `prefix`: without slashes at its ends; may be empty."""

    name: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """Return the key of the object with a name."""
        return f"{self.prefix}/{name}" if self.prefix else name


BackupPlace = Folder | Bucket


def parse_place(text: str) -> BackupPlace:
    """Read a place as an operator types it. InvalidInputError."""
    if text.startswith(_S3):
        return _parse_bucket(text)
    if "://" in text:
        raise InvalidInputError(
            "backups go to a folder or to S3", hint="--to /var/backups/phasesync, --to s3://BUCKET/PREFIX"
        )
    if not text.startswith("/") or "\0" in text:
        raise InvalidInputError(
            f"{text!r} is no absolute path: the daemon has a folder of its own", hint="--to /var/backups/phasesync"
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInputError(
            f"{text!r} has .. in it: where it leads depends on links", hint="name the folder itself"
        )
    # One folder has one spelling, so that it has one schedule.
    return Folder(path="/" + "/".join(parts))


def parse_object(text: str) -> tuple[Bucket, str] | None:
    """
    Read where one backup lies, as an operator types it: its place in Amazon S3 and its name there.

    Returns None if it is a file. InvalidInputError for a key that names no file.
    """
    if not text.startswith(_S3):
        return None
    parent, _, name = text.rpartition("/")
    if len(parent) < len(_S3) or not name:
        raise InvalidInputError(
            f"{text} names no backup", hint="s3://BUCKET/KEY; those of a place: aws s3 ls s3://BUCKET/PREFIX/"
        )
    if _PREFIX.fullmatch(name) is None or name in (".", ".."):
        raise InvalidInputError(f"the name {name!r} has characters that keys of S3 should not have")
    return _parse_bucket(parent), name


def _parse_bucket(text: str) -> Bucket:
    name, _, prefix = text.removeprefix(_S3).partition("/")
    prefix = prefix.strip("/")
    if _BUCKET.fullmatch(name) is None or ".." in name:
        raise InvalidInputError(f"{name!r} is not the name of a bucket", hint="s3://BUCKET/PREFIX")
    if _PREFIX.fullmatch(prefix) is None or "//" in prefix:
        raise InvalidInputError(
            f"the prefix {prefix!r} has characters that keys of S3 should not have", hint="letters, digits, - _ . /"
        )
    return Bucket(name=name, prefix=prefix)


@dataclass(frozen=True, kw_only=True)
class BackupSchedule:
    """
    That the daemon makes backups.

    Attributes:
        place: where to.
        every: how often.
        keep: how many are kept there, the newest ones.
        credential_id: of the credential that writes to S3; None: the identity of the daemon, or a folder.
        region: of the bucket; None for a folder.
        added_by: who set it last.
        next_at: when the next one is due; while one is being made, when another daemon would take over.
        succeeded_at: when the newest one was complete; None: there is none yet.
        failed_at: when an attempt failed last; None: none did.
        error_class: of the newest attempt; None: it succeeded, or there was none.
    """

    id: str
    version: int
    place: BackupPlace
    every: timedelta
    keep: int
    credential_id: str | None
    region: str | None
    added_by: str
    next_at: datetime | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    error_class: str | None
    created_at: datetime

    def overdue_at(self, now: datetime) -> timedelta:
        """Return for how long a backup has been missing: two intervals after the newest one; 0 if none is."""
        since = self.succeeded_at or self.created_at
        return max(now - since - 2 * self.every, timedelta(0))


def check_every(every: timedelta) -> timedelta:
    """Return how often backups are made. InvalidInputError."""
    if not LEAST_EVERY <= every <= MOST_EVERY:
        raise InvalidInputError("backups are made every 5m at most, and every 31d at least", hint="--every 6h")
    return every


def check_keep(keep: int) -> int:
    """Return how many backups are kept. InvalidInputError."""
    if not 1 <= keep <= MOST_KEPT:
        raise InvalidInputError(f"from 1 to {MOST_KEPT:,} backups are kept", hint="--keep 28")
    return keep


def backup_name(instance_id: str, made_at: datetime) -> str:
    """Return the name of a backup: of which installation, and when it was made."""
    return f"{_beginning(instance_id)}{made_at.astimezone(UTC):{_STAMP}}.db"


def made_at_of(name: str, instance_id: str) -> datetime | None:
    """Return when a backup was made, by its name; None if it is not the name of one of an installation."""
    beginning, end = _beginning(instance_id), ".db"
    if not (name.startswith(beginning) and name.endswith(end)):
        return None
    stamp = name[len(beginning) : -len(end)]
    try:
        made_at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return made_at if backup_name(instance_id, made_at) == name else None


def superfluous(
    names: Collection[str],
    *,
    instance_id: str,
    newest: str,
    keep: int,
    suffix: str,
    is_proven: Callable[[str], bool],
) -> list[str]:
    """
    Return the names of backups that are no longer needed, the oldest first: all but the newest `keep` proven ones.

    A name proves nothing, since anybody who may write to the place can choose one. What is later than the newest backup
    (a clock was ahead, or somebody chose a name) neither counts nor is removed, so that it replaces no real one.

    Args:
        names: of everything that lies in a place.
        instance_id: only backups of this installation count.
        newest: name of the backup that was just made.
        keep: how many are kept.
        suffix: of the name of a manifest. A backup is complete with its manifest; a manifest without its backup was
            left by an interruption, and is as old as its name says.
        is_proven: returns whether a complete backup is what its name says; asked for as few as possible.
    """
    present = set(names)
    ours = _of(present, instance_id) | _of((name.removesuffix(suffix) for name in present), instance_id)
    ours = {name for name in ours if name <= newest}
    complete = {name for name in ours if {name, name + suffix} <= present}
    proven = (name for name in sorted(complete, reverse=True) if name == newest or is_proven(name))
    kept = list(islice(proven, keep))
    if not kept:
        return []
    removable = ours if len(kept) == keep else ours - complete
    return sorted(name for name in removable if name < kept[-1])


def _of(names: Iterable[str], instance_id: str) -> set[str]:
    return {name for name in names if made_at_of(name, instance_id) is not None}


def _beginning(instance_id: str) -> str:
    return f"phasesync-{instance_id[:12]}-"
