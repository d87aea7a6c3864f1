"""
Values: text or bytes, not both, 1 to 65,536 bytes.

Sources: API reference, PutSecretValue ("You must include SecretBinary or SecretString, but not both"); User Guide,
quotas ("Secret value size, 65,536 bytes"): the API model counts characters of a text, the quota bytes, and both hold.
"""

from dataclasses import dataclass, field
from typing import Final

from phasesync.testing.aws_shim.errors import invalid_parameter, invalid_request, unreadable
from phasesync.testing.aws_shim.request import Call

LIMIT_BYTES: Final = 65_536


@dataclass(frozen=True)
class Value:
    """A value as a request carries it; bytes stay in base64, as moto keeps them."""

    text: str | None = field(default=None, repr=False)
    binary: str | None = field(default=None, repr=False)

    def fields(self) -> dict[str, str]:
        """Return it under the keys of moto's versions."""
        return {"secret_string": self.text} if self.text is not None else {"secret_binary": self.binary or ""}


def read_value(call: Call) -> Value | None:
    """Return the value of a request; None = it carries none."""
    text, binary = call.text("SecretString"), call.text("SecretBinary")
    if text is not None and binary is not None:
        raise invalid_parameter(
            "You can't specify both a binary secret value and a string secret value in the same secret."
        )
    if text is None and binary is None:
        return None
    if text is not None and len(text.encode("utf-8", "surrogatepass")) > LIMIT_BYTES:
        raise unreadable(
            "Value at 'secretString' failed to satisfy constraint: "
            f"Member must have length less than or equal to {LIMIT_BYTES}"
        )
    return Value(text, binary)


def require_value(call: Call) -> Value:
    """Return the value of a request that must carry one: InvalidRequestException (public: moto, LocalStack)."""
    value = read_value(call)
    if value is None:
        raise invalid_request("You must provide either SecretString or SecretBinary.")
    return value


def has_value(version: dict[str, object]) -> bool:
    """Return whether a version holds a value; one that a rotation has just begun does not."""
    return "secret_string" in version or "secret_binary" in version


def is_same(version: dict[str, object], value: Value) -> bool:
    """Return whether a version holds this value."""
    return (version.get("secret_string"), version.get("secret_binary")) == (value.text, value.binary)
