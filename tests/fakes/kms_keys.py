"""
KMS in memory, as far as `Destinations.resolve_key` asks it.

One key is known from the start, `KEY_ID` in every account and Region. Must not use keys: nothing is encrypted.
"""

import re
from dataclasses import dataclass
from typing import Final

from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import InvalidInputError, PermissionDeniedError

KEY_ID: Final = "12345678-1234-1234-1234-123456789012"
_ARN: Final = re.compile(r"arn:[a-z-]+:kms:([a-z0-9-]+):(\d{12}):(?:key/)?(.+)")
_MANAGED: Final = "alias/aws/secretsmanager"


@dataclass(frozen=True)
class FakeKey:
    """One KMS key."""

    arn: str
    state: str
    spec: str


class FakeKeys:
    """All KMS keys."""

    def __init__(self) -> None:
        self.denied = False
        """Whether kms:DescribeKey is refused to everyone."""
        self._keys: dict[tuple[str, str, str], FakeKey] = {}

    def add(
        self, key: str, *, account: str, region: str, state: str = "Enabled", spec: str = "SYMMETRIC_DEFAULT"
    ) -> str:
        """
        Make a key.

        Args:
            key: its id, or `alias/name` for a key with an id of its own.
            account: where it is.
            region: where it is.
            state: as KMS names it.
            spec: as KMS names it.

        Returns:
            Its ARN.
        """
        key_id = f"00000000-0000-4000-8000-{len(self._keys):012}" if key.startswith("alias/") else key
        key_added = FakeKey(f"arn:aws:kms:{region}:{account}:key/{key_id}", state, spec)
        self._keys[account, region, key] = self._keys[account, region, key_id] = key_added
        return key_added.arn

    def resolve(self, key: str, *, account: str, region: str) -> str:
        """DescribeKey, and what makes a key fit for a secret."""
        if key in (AWS_MANAGED_KEY, _MANAGED):
            return AWS_MANAGED_KEY
        owner, key_id = account, key
        if (by_arn := _ARN.fullmatch(key)) is not None:
            where, owner, key_id = by_arn.groups()
            if where != region:
                raise InvalidInputError(f"the KMS key is in {where}, the secret in {region}")
        if self.denied:
            if ":key/" in key:
                return key
            raise PermissionDeniedError(action="kms:DescribeKey", hint="give the full ARN of the key")
        known = self._keys.get((owner, region, key_id))
        if known is None and key_id == KEY_ID:
            return f"arn:aws:kms:{region}:{owner}:key/{KEY_ID}"
        if known is None:
            raise InvalidInputError(f"there is no such KMS key in {region}")
        if known.state != "Enabled":
            raise InvalidInputError(f"the KMS key is {known.state}")
        if known.spec != "SYMMETRIC_DEFAULT":
            raise InvalidInputError("the KMS key is not for symmetric encryption")
        return known.arn
