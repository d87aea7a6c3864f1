"""
Whether a caller's key is good, and sessions of roles: who may assume a role, for how long, and when a session ends.

Sources: API reference of STS, AssumeRole (DurationSeconds, at most one hour where a role assumes a role), IAM User
Guide, External IDs (a trust policy that asks for one refuses without it); common errors,
ExpiredTokenException. Keys: API reference, common errors (UnrecognizedClientException; InvalidClientTokenId of STS and
IAM), IAM User Guide, troubleshooting ("Changes that I make are not always immediately visible"). moto lets everybody
assume every role, its sessions never end, and neither do its keys.
"""

import re
from datetime import timedelta
from typing import Any, Final

from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.moto_world import World
from phasesync.testing.aws_shim.request import Operation, Principal

QUERY: Final = ("sts", "iam")
"""Services that take forms and answer in XML."""
_DEFAULT_SECONDS: Final = 3600
_CHAINED_SECONDS: Final = 3600
_KEY: Final = re.compile(rb"<AccessKeyId>(\w+)</AccessKeyId>")
_END: Final = re.compile(rb"<Expiration>[^<]*</Expiration>")
_BEGINS_SESSION: Final = ("AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML")


def check_key(world: World, principal: Principal, service: str, new_key_takes: timedelta) -> None:
    """
    Refuse a user's key that is deleted, inactive or too new: UnrecognizedClientException, or InvalidClientTokenId.

    Args:
        world: has the keys; those that it never issued are let pass.
        principal: who calls.
        service: that is called.
        new_key_takes: how long AWS takes to know a new key.
    """
    if world.users.is_usable(principal.access_key_id, new_key_takes):
        return
    text = "The security token included in the request is invalid."
    if service in QUERY:
        raise AwsError("InvalidClientTokenId", text, status=403)
    raise AwsError("UnrecognizedClientException", text)


def check_session(world: World, principal: Principal, service: str) -> None:
    """Refuse a caller whose session has ended: ExpiredTokenException, or STS's and IAM's ExpiredToken."""
    if principal.expires_at is not None and principal.expires_at <= world.clock.now():
        text = "The security token included in the request is expired"
        if service in QUERY:
            raise AwsError("ExpiredToken", text, status=403)
        raise AwsError("ExpiredTokenException", text)


def check_assume_role(world: World, principal: Principal, operation: Operation) -> None:
    """Refuse to assume a role without its External ID, or for too long: AccessDenied, ValidationError."""
    if operation.name != "AssumeRole":
        return
    form = operation.form
    role_arn = form.get("RoleArn", "")
    wanted = world.role_external_id(role_arn)
    if wanted is not None and form.get("ExternalId") != wanted:
        text = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        raise AwsError("AccessDenied", text, status=403)
    if principal.role_arn is not None and int(form.get("DurationSeconds", 0)) > _CHAINED_SECONDS:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )


def note_session(world: World, operation: Operation, body: bytes) -> bytes:
    """Have a new session end by the shim's clock; return the answer that says so."""
    key: Any = _KEY.search(body)
    if operation.name not in _BEGINS_SESSION or key is None:
        return body
    seconds = int(operation.form.get("DurationSeconds") or _DEFAULT_SECONDS)
    ends_at = world.begin_session(key[1].decode(), seconds)
    told = ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return _END.sub(b"<Expiration>" + told + b"</Expiration>", body)
