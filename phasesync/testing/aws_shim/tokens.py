"""
ClientRequestToken: the id of the version that a write makes, and what makes a repeated write harmless.

Sources: API reference, CreateSecret and PutSecretValue, ClientRequestToken (same token and value: nothing happens;
same token, other value: it fails); UpdateSecret ("if you call this operation with a ClientRequestToken that matches an
existing version's VersionId, the operation results in an error"). The length (32 to 64) is in the API model. Texts, and
that a request without a token is refused: public, LocalStack's provider, moto pull request 9741.
"""

from typing import Any

from phasesync.testing.aws_shim.errors import AwsError, exists, invalid_request
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.values import Value, has_value, is_same


def require_token(call: Call) -> str:
    """Return the token: InvalidRequestException where there is none; SDKs always send one."""
    token = call.text("ClientRequestToken")
    if token is None:
        raise invalid_request("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
    return token


def is_repeated(secret: Any, token: str, value: Value) -> bool:
    """
    Return whether the write with this token was carried out before.

    False: the token is unused, or waits for the value of a rotation. ResourceExistsException: it holds another value.
    """
    version = secret.versions.get(token)
    if version is None or not has_value(version):
        return False
    if not is_same(version, value):
        raise spent(secret, token)
    return True


def spent(secret: Any, token: str) -> AwsError:
    """The token is the id of a version already."""
    return exists(
        f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret "
        f"{secret.arn}."
    )
