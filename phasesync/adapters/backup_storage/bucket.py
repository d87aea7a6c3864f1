"""
A place in Amazon S3, for backups.

S3 checks the SHA-256 of all bytes that it is sent, and stores a file whole or not at all. A large file is sent in parts
of a few megabytes, and read in them, so that each call ends soon: a stop of the daemon waits for one part. What it
needs is in `core/iam/backup_policy.py`.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.sdk import invoke
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.backup_schedule import Bucket
from phasesync.core.credential import Credential
from phasesync.errors import (
    DestinationRejectedError,
    NotFoundError,
    PermissionDeniedError,
    PhasesyncError,
    SettingsError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_BYTES: Final = 8 * 1024 * 1024
"""At least 5 MiB (S3 User Guide, multipart upload limits)."""
MOST_PARTS: Final = 10_000

READ_BYTES: Final = 4 * 1024 * 1024
"""Of a large file in one call: less than the most bytes of any response."""

_HINTS: Final = {
    "NoSuchBucket": "there is no such bucket; those of the account: aws s3 ls",
    "PermanentRedirect": "the bucket is in another Region: phasesync db backup --every ... --region REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another Region: phasesync db backup --every ... --region REGION",
    "PreconditionFailed": "the object was replaced while it was read: repeat the command",
    "AllAccessDisabled": "AWS has closed the bucket",
}
"""Code of a refusal -> a hint."""


class BucketStorage:
    """The objects of one bucket under a prefix."""

    def __init__(self, clients: AwsClients, credential: Credential, place: Bucket, region: str) -> None:
        """
        Args:
            clients: shared clients.
            credential: who calls.
            place: the bucket and the prefix.
            region: of the bucket.
        """
        self._client = AwsClient(clients, credential, "s3", region, tenant=f"backup {place}")
        self._credential = credential
        self._place = place

    def names(self) -> Mapping[str, int]:
        """Return the name of each file -> its bytes."""
        found: dict[str, int] = {}
        beginning = self._place.key("")
        following: dict[str, Any] = {}
        while True:
            response = self._call(
                "ListObjectsV2", "ListBucket", Bucket=self._place.name, Prefix=beginning, Delimiter="/", **following
            )
            for listed in response.get("Contents", ()):
                found[str(listed["Key"]).removeprefix(beginning)] = int(listed["Size"])
            if not response.get("IsTruncated"):
                return found
            following = {"ContinuationToken": response["NextContinuationToken"]}

    def put(self, name: str, file: Path, *, sha256: str, checkpoint: Callable[[], object]) -> None:
        """Store a file; see the port."""
        size = file.stat().st_size
        if size > (most := PART_BYTES * MOST_PARTS):
            raise SettingsError(f"the backup has {size:,} bytes, and at most {most:,} are sent to S3")
        key = {"Bucket": self._place.name, "Key": self._place.key(name)}
        digest = hashlib.sha256()
        if size <= PART_BYTES:
            content = file.read_bytes()
            digest.update(content)
            self._call("PutObject", "PutObject", write=True, Body=content, ChecksumSHA256=_checksum(content), **key)
        else:
            self._put_parts(key, file, digest.update, checkpoint)
        stored = self.names().get(name)
        if stored != size or digest.hexdigest() != sha256:
            raise DestinationRejectedError(f"{self._place} has {stored} bytes of {name}, and {size} were sent")

    def read(self, name: str, *, most_bytes: int) -> bytes:
        """Return the content of a small file. NotFoundError if there is none."""
        content, _ = self._get(name, most_bytes + 1)
        if len(content) > most_bytes:
            raise SettingsError(f"{name} in {self._place} is larger than {most_bytes:,} bytes")
        return content

    def fetch(self, name: str, file: Path) -> None:
        """
        Copy an object to a new file with mode 0600. All of it is of one moment: what replaces it meanwhile is refused.

        Raises:
            NotFoundError: there is no such object.
            OSError: the file cannot be written.
        """
        part, first = self._get(name, READ_BYTES)
        size = int(first["ContentLength"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(file, flags, 0o600), "wb") as copy:
            while True:
                copy.write(part)
                done = copy.tell()
                if done >= size or not part:
                    break
                wanted = f"bytes={done}-{min(done + READ_BYTES, size) - 1}"
                part, _ = self._get(name, READ_BYTES, Range=wanted, IfMatch=first["ETag"])
        if done != size:
            raise DestinationRejectedError(f"{self._place} has {size} bytes of {name}, and {done} arrived")

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if it is gone."""
        self._call("DeleteObject", "DeleteObject", write=True, Bucket=self._place.name, Key=self._place.key(name))

    def _get(self, name: str, most_bytes: int, **which: Any) -> tuple[bytes, Mapping[str, Any]]:
        """Return the beginning of what GetObject answers, and what else it says. NotFoundError."""
        try:
            response = self._call("GetObject", "GetObject", Bucket=self._place.name, Key=self._place.key(name), **which)
        except PhasesyncError as error:
            if error.code == "NoSuchKey":
                raise NotFoundError(f"there is no {name} in {self._place}") from None
            raise
        body = response["Body"]
        try:
            content: bytes = invoke(partial(body.read, most_bytes), action="s3:GetObject", write=False)
        finally:
            body.close()
        return content, response

    def _put_parts(
        self, key: dict[str, str], file: Path, digest: Callable[[bytes], None], checkpoint: Callable[[], object]
    ) -> None:
        begun = self._call("CreateMultipartUpload", "PutObject", write=True, ChecksumAlgorithm="SHA256", **key)
        upload = {**key, "UploadId": begun["UploadId"]}
        parts: list[dict[str, Any]] = []
        with self._given_up_after_an_error(upload), file.open("rb") as source:
            while content := source.read(PART_BYTES):
                checkpoint()
                digest(content)
                part = {"PartNumber": len(parts) + 1, "ChecksumSHA256": _checksum(content)}
                sent = self._call("UploadPart", "PutObject", write=True, Body=content, **part, **upload)
                parts.append({**part, "ETag": sent["ETag"]})
            checkpoint()
            self._call("CompleteMultipartUpload", "PutObject", write=True, MultipartUpload={"Parts": parts}, **upload)

    @contextmanager
    def _given_up_after_an_error(self, upload: dict[str, str]) -> "Iterator[None]":
        """Have S3 drop the parts of a file that will not be complete: it keeps them otherwise, at a cost."""
        try:
            yield
        except BaseException:
            with suppress(PhasesyncError):
                self._call("AbortMultipartUpload", "AbortMultipartUpload", write=True, **upload)
            raise

    def _call(self, operation: str, permission: str, *, write: bool = False, **arguments: Any) -> Mapping[str, Any]:
        try:
            return self._client.call(operation, write=write, action=f"s3:{permission}", **arguments)
        except PermissionDeniedError as error:
            error.hint = (
                f"phasesync aws policy --backups {self._place} prints the policy, for {self._credential.name}; without "
                "s3:ListBucket, S3 refuses in the same way what is not there"
            )
            raise
        except PhasesyncError as error:
            error.hint = _HINTS.get(error.code or "", error.hint)
            raise


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")
