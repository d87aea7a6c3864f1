"""Valid credentials and payloads, to tweak one thing of; a clock that tests turn by hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from phasesync.core.credential import Credential, CredentialStatus, CredentialType
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import Payload

INSTANCE = "0f3c5a7e-1b2d-4c6f-8a90-aabbccddeeff"
EXTERNAL_ID = "external-id-4f1b"


def access_key_credential(**changes: Any) -> Credential:
    """A credential with an access key."""
    credential = Credential(
        id="credential-1",
        name="production",
        type=CredentialType.ACCESS_KEY,
        region="eu-west-1",
        version=1,
        status=CredentialStatus.VERIFIED,
        account=None,
        role_arn=None,
        external_id=None,
        source_id=None,
        access_key_id="AKIATESTTESTTESTTEST",
        secret_access_key=SecretValue("test-secret-access-key"),
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        verified_at=None,
    )
    return replace(credential, **changes)


def role_credential(role_arn: str | None, **changes: Any) -> Credential:
    """A credential that assumes a role with an External ID, from the default chain."""
    return access_key_credential(
        **{
            "id": "credential-role",
            "type": CredentialType.ASSUME_ROLE,
            "role_arn": role_arn,
            "external_id": EXTERNAL_ID,
            "access_key_id": None,
            "secret_access_key": None,
            **changes,
        }
    )


def ambient_credential(**changes: Any) -> Credential:
    """A credential that is the default chain."""
    return access_key_credential(
        **{
            "id": "credential-ambient",
            "type": CredentialType.AMBIENT,
            "access_key_id": None,
            "secret_access_key": None,
            **changes,
        }
    )


def no_sources(credential_id: str) -> Credential:
    """A credential store for credentials without a source."""
    raise AssertionError(f"nobody should ask for the credential {credential_id}")


def payload(value: str | bytes = '{"KEY":"value"}') -> Payload:
    """A payload; its fingerprint is good enough for a test."""
    data = value.encode() if isinstance(value, str) else value
    return Payload(
        value=SecretValue(data, ValueType.TEXT if isinstance(value, str) else ValueType.BINARY),
        fingerprint=hashlib.sha256(data).hexdigest(),
        keys={"KEY": hashlib.sha256(b"key" + data).hexdigest()},
        sizes={"KEY": len(data)},
    )


def token(number: int) -> str:
    """A token in the form of a UUID."""
    return f"00000000-0000-4000-8000-{number:012}"


class HandClock:
    """A clock that stands still until a test turns it."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return self._elapsed_s

    def turn(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
        self._elapsed_s += by.total_seconds()
