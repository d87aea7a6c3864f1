"""
A canned Secrets Manager and STS in memory, for `bench.fast_aws`: quick answers and counts, no rules beyond them.

How strictly AWS judges requests is the emulator's matter. Here a request costs some 20 µs, a page of a list some 300 µs
whatever the number of secrets, and what a client sent is counted.
"""

import base64
import hashlib
import json
import re
import time
import uuid
import zlib
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-west-1"

GROUPS: Final[Mapping[str, tuple[str, float]]] = {
    "PutSecretValue": ("write", 50),
    "UpdateSecret": ("write", 50),
    "CreateSecret": ("create", 50),
    "DeleteSecret": ("delete", 50),
    "RestoreSecret": ("restore", 50),
    "TagResource": ("tag", 50),
    "UntagResource": ("tag", 50),
    "GetResourcePolicy": ("policy", 50),
    "DeleteResourcePolicy": ("policy", 50),
    "ListSecrets": ("list", 100),
    "BatchGetSecretValue": ("read-many", 100),
    "GetSecretValue": ("read", 10_000),
    "DescribeSecret": ("describe", 40_000),
}
"""Operation -> its rate group and AWS's calls a second (User Guide, "AWS Secrets Manager quotas")."""

_ARN: Final = re.compile(r"arn:[^:]+:secretsmanager:[^:]+:\d{12}:secret:(.+)-[A-Za-z0-9]{6}")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PAGE: Final = 100
_PLANTED: Final = "planted"

Tags = tuple[tuple[str, str], ...]


def arn_of(name: str, region: str = REGION) -> str:
    """Return the ARN of a secret. Its six last characters follow from the name, so that a planter need not ask."""
    number, suffix = zlib.crc32(name.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, len(_LETTERS))
        suffix += _LETTERS[rest]
    return f"arn:aws:secretsmanager:{region}:{ACCOUNT}:secret:{name}-{suffix}"


class Refusal(Exception):
    """A response with an error code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Secret:
    """One secret. Slots and plain texts, so that 500,000 of them take 200 MB."""

    __slots__ = (
        "changed",
        "changed_at",
        "created",
        "created_at",
        "current",
        "deleted_at",
        "description",
        "kms_key",
        "name",
        "previous",
        "tags",
        "value",
        "versions",
    )

    def __init__(self, name: str, tags: Tags, at: float) -> None:
        self.name = name
        self.tags = tags
        self.description = self.kms_key = ""
        self.created_at = self.changed_at = at
        self.deleted_at: float | None = None
        self.created = self.changed = 0
        """Positions in the orders of `FastSecrets`."""
        self.current: str | None = None
        self.previous: str | None = None
        self.value = _PLANTED
        self.versions: dict[str, bytes] | None = None
        """Version -> digest of its value, of those that were written by a request."""

    def stages(self) -> dict[str, list[str]]:
        labelled = ((self.current, "AWSCURRENT"), (self.previous, "AWSPREVIOUS"))
        return {version: [label] for version, label in labelled if version is not None}

    def entry(self, region: str, versions_as: str) -> dict[str, Any]:
        """Return what DescribeSecret and ListSecrets say of it."""
        entry: dict[str, Any] = {
            "ARN": arn_of(self.name, region),
            "Name": self.name,
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags],
            versions_as: self.stages(),
            "LastChangedDate": self.changed_at,
            "CreatedDate": self.created_at,
        }
        if self.description:
            entry["Description"] = self.description
        if self.kms_key:
            entry["KmsKeyId"] = self.kms_key
        if self.deleted_at is not None:
            entry["DeletedDate"] = self.deleted_at
        return entry


class _Quota:
    """A token bucket of one second's calls."""

    def __init__(self, per_second: float) -> None:
        self._per_second = self._tokens = per_second
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._per_second, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Log:
    """What arrived, in all Regions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Operation -> requests that were refused because of a quota."""
        self.arrivals: list[tuple[float, str, str]] = []
        """(monotonic time, operation, name) of each request that was carried out."""

    def clear(self) -> None:
        """Forget it."""
        self.counts.clear()
        self.refused.clear()
        self.arrivals.clear()


class FastSecrets:
    """All secrets of one Region, in three orders that are kept and never sorted for a request."""

    def __init__(self, region: str, log: Log) -> None:
        self.quotas_on = False
        self._region = region
        self._log = log
        self.secrets: dict[str, Secret] = {}
        self._names: list[str] = []
        # Oldest first. A secret that changes leaves None behind and goes to the end.
        self._created: list[Secret | None] = []
        self._changed: list[Secret | None] = []
        self._quotas = {group: _Quota(per_second) for group, per_second in GROUPS.values()}
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "BatchGetSecretValue": self._batch_get,
            "CreateSecret": self._create,
            "DeleteResourcePolicy": self._named,
            "DeleteSecret": self._delete,
            "DescribeSecret": self._describe,
            "GetResourcePolicy": self._named,
            "GetSecretValue": self._get_value,
            "ListSecrets": self._list,
            "PutSecretValue": self._put_value,
            "RestoreSecret": self._restore,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "UpdateSecret": self._update,
        }

    # --- without a request for each

    def plant(
        self, objects: Iterable[Sequence[Any]], tags: Sequence[Mapping[str, str]], at: float, every_s: float
    ) -> None:
        """
        Add secrets.

        Args:
            objects: [name, current version, index in `tags`] of each; one that is there gets this version.
            tags: each set of tags once.
            at: when the first one was created; those that are there change now.
            every_s: the pause until the next one.
        """
        pairs: list[Tags] = [tuple(each.items()) for each in tags]
        for name, version, index in objects:
            if (secret := self.secrets.get(name)) is not None:
                secret.previous, secret.current = secret.current, version
                self._touch(secret)
                continue
            secret = Secret(name, pairs[index], at)
            at += every_s
            secret.current = version
            self._insert(secret)
            self._names.append(name)
        self._names.sort()

    def remove(self, names: Iterable[str]) -> None:
        """Take secrets away."""
        for name in names:
            secret = self.secrets.pop(name)
            self._created[secret.created] = self._changed[secret.changed] = None
            del self._names[bisect_right(self._names, name) - 1]

    def written(self) -> dict[str, list[Any]]:
        """Return name -> [current version, how many versions requests wrote, value] of what requests wrote."""
        return {
            secret.name: [secret.current, len(secret.versions), secret.value]
            for secret in self.secrets.values()
            if secret.versions is not None
        }

    # --- requests

    def handle(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request, and note it. Raises Refusal."""
        work = self._operations.get(operation)
        if work is None:
            raise Refusal("UnknownOperationException")
        if self.quotas_on and not self._quotas[GROUPS[operation][0]].take():
            self._log.refused[operation] += 1
            raise Refusal("ThrottlingException")
        self._log.counts[operation] += 1
        answer = work(asked)
        self._log.arrivals.append((time.monotonic(), operation, answer.get("Name", "")))
        return answer

    def _find(self, asked: Mapping[str, Any]) -> Secret:
        which = asked["SecretId"]
        match = _ARN.fullmatch(which) if which.startswith("arn:") else None
        if (secret := self.secrets.get(match[1] if match else which)) is None:
            raise Refusal("ResourceNotFoundException")
        return secret

    def _named(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        return {"ARN": arn_of(secret.name, self._region), "Name": secret.name}

    def _describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._find(asked).entry(self._region, "VersionIdsToStages")

    def _get_value(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        return {
            **self._named(asked),
            "VersionId": secret.current,
            "SecretString": secret.value,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": secret.changed_at,
        }

    def _batch_get(self, asked: dict[str, Any]) -> dict[str, Any]:
        ids = [each for each in asked["SecretIdList"] if each in self.secrets]
        return {"SecretValues": [self._get_value({"SecretId": each}) for each in ids], "Errors": []}

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name, token = asked["Name"], asked.get("ClientRequestToken") or str(uuid.uuid4())
        if (secret := self.secrets.get(name)) is None:
            secret = Secret(name, _pairs(asked), time.time())
            secret.description, secret.kms_key = asked.get("Description", ""), asked.get("KmsKeyId", "")
            self._insert(secret)
            insort(self._names, name)
        elif token not in (secret.versions or ()):
            raise Refusal("ResourceExistsException")
        self._write(secret, token, asked)
        return {"ARN": arn_of(name, self._region), "Name": name, "VersionId": token}

    def _put_value(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret, token = self._find(asked), asked.get("ClientRequestToken") or str(uuid.uuid4())
        self._write(secret, token, asked)
        stages = secret.stages().get(token, [])
        return {
            "ARN": arn_of(secret.name, self._region),
            "Name": secret.name,
            "VersionId": token,
            "VersionStages": stages,
        }

    def _update(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret, token = self._find(asked), asked.get("ClientRequestToken") or str(uuid.uuid4())
        secret.description = asked.get("Description", secret.description)
        secret.kms_key = asked.get("KmsKeyId", secret.kms_key)
        answer = {"ARN": arn_of(secret.name, self._region), "Name": secret.name}
        if "SecretString" not in asked and "SecretBinary" not in asked:
            self._touch(secret)
            return answer
        self._write(secret, token, asked)
        return answer | {"VersionId": token}

    def _write(self, secret: Secret, token: str, asked: Mapping[str, Any]) -> None:
        """Add a version; the same token again is the same version, or refused where its value differs."""
        value = asked.get("SecretString")
        plain = value.encode() if value is not None else base64.b64decode(asked.get("SecretBinary", ""))
        digest = hashlib.sha256(plain).digest()[:8]
        versions = secret.versions = {} if secret.versions is None else secret.versions
        if token in versions:
            if versions[token] != digest:
                raise Refusal("ResourceExistsException")
            return
        versions[token] = digest
        secret.value = value if value is not None else ""
        secret.previous, secret.current = secret.current, token
        self._touch(secret)

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        if asked.get("ForceDeleteWithoutRecovery"):
            self.remove([secret.name])
        else:
            secret.deleted_at = time.time() + asked.get("RecoveryWindowInDays", 30) * 86_400
            self._touch(secret)
        return {
            "ARN": arn_of(secret.name, self._region),
            "Name": secret.name,
            "DeletionDate": secret.deleted_at or time.time(),
        }

    def _restore(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        secret.deleted_at = None
        self._touch(secret)
        return self._named(asked)

    def _tag(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        secret.tags = tuple((dict(secret.tags) | dict(_pairs(asked))).items())
        self._touch(secret)
        return {}

    def _untag(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked)
        secret.tags = tuple((key, value) for key, value in secret.tags if key not in asked["TagKeys"])
        self._touch(secret)
        return {}

    # --- lists

    def _list(self, asked: dict[str, Any]) -> dict[str, Any]:
        limit, filters = asked.get("MaxResults", _PAGE), asked.get("Filters", [])
        deleted_too = bool(asked.get("IncludePlannedDeletion"))
        page: list[dict[str, Any]] = []
        token = last = None
        for position, secret in self._in_order(asked):
            if (secret.deleted_at is not None and not deleted_too) or not _matches(secret, filters):
                continue
            if len(page) == limit:
                token = last
                break
            page.append(secret.entry(self._region, "SecretVersionsToStages"))
            last = position
        return {"SecretList": page} | ({} if token is None else {"NextToken": json.dumps(token)})

    def _in_order(self, asked: Mapping[str, Any]) -> Iterator[tuple[int | str, Secret]]:
        """Yield what follows the page of a token, and where it lies: a name, or a position in an order of dates."""
        after = json.loads(asked["NextToken"]) if "NextToken" in asked else None
        newest_first = asked.get("SortOrder") == "desc"
        by = asked.get("SortBy", "created-date")
        if by == "name":
            names = self._names
            if newest_first:
                start = len(names) if after is None else bisect_right(names, after) - 1
                indexes: Iterable[int] = range(start - 1, -1, -1)
            else:
                indexes = range(0 if after is None else bisect_right(names, after), len(names))
            yield from ((names[index], self.secrets[names[index]]) for index in indexes)
            return
        order = self._changed if by == "last-changed-date" else self._created
        if newest_first:
            positions = range((len(order) if after is None else after) - 1, -1, -1)
        else:
            positions = range(0 if after is None else after + 1, len(order))
        for position in positions:
            if (secret := order[position]) is not None:
                yield position, secret

    def _insert(self, secret: Secret) -> None:
        self.secrets[secret.name] = secret
        secret.created, secret.changed = len(self._created), len(self._changed)
        self._created.append(secret)
        self._changed.append(secret)

    def _touch(self, secret: Secret) -> None:
        secret.changed_at = time.time()
        self._changed[secret.changed] = None
        secret.changed = len(self._changed)
        self._changed.append(secret)


def _pairs(asked: Mapping[str, Any]) -> Tags:
    return tuple((tag["Key"], tag.get("Value", "")) for tag in asked.get("Tags", ()))


def _matches(secret: Secret, filters: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every filter has a value that is a prefix (User Guide, find secrets)."""
    return all(any(text.startswith(tuple(each["Values"])) for text in _texts(secret, each["Key"])) for each in filters)


def _texts(secret: Secret, key: str) -> tuple[str, ...]:
    match key:
        case "name":
            return (secret.name,)
        case "tag-key":
            return tuple(name for name, _ in secret.tags)
        case "tag-value":
            return tuple(value for _, value in secret.tags)
        case "description":
            return (secret.description,)
    return (secret.name, secret.description, *(text for tag in secret.tags for text in tag))
