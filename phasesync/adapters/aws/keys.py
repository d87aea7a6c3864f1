"""Keys that sign requests, as a frozen value: what they are cannot change between a check and a call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Keys:
    """
    An access key, or a session.

    Attributes:
        session_token: None for a key without end.
        expires_at: None where nothing says when they end.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    expires_at: datetime | None

    def arguments(self) -> Mapping[str, str]:
        """Return the arguments that make a client of boto3 sign with these keys."""
        arguments = {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": self.secret_access_key}
        if self.session_token is not None:
            arguments["aws_session_token"] = self.session_token
        return arguments


def are_sendable(*parts: str) -> bool:
    """Return whether these parts of keys can stand in a header: visible ASCII. A line end or a space never belongs."""
    return all(part.isascii() and part.isprintable() and " " not in part for part in parts)
