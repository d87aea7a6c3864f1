"""
What a person has to do where the default chain of the AWS SDK fails: sign in, change a trust policy, leave out MFA.

Tells it from the type of what was raised and from names in AWS's configuration, never from its text.
"""

import base64
import binascii
import json
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

WEB_IDENTITY: Final = "AssumeRoleWithWebIdentity"

_CLAIM: Final = re.compile(r"[A-Za-z0-9._:/@+=|-]{1,200}")
_SSO: Final = ("SSOError", "TokenRetrievalError", "NoAuthTokenError")
_MFA: Final = ("EOFError", "RefreshWithMFAUnsupportedError")
_REFUSED: Final = ("AccessDenied", "AccessDeniedException")
_TOKEN_REFUSED: Final = ("InvalidIdentityToken", "IDPRejectedClaim", "ExpiredTokenException")


def advice(exc: Exception, *, profile: str, config: Mapping[str, Any], token_file: str) -> str | None:
    """
    Return what puts a failure of the chain right, None where only the thing itself can be named.

    Args:
        exc: what a provider raised.
        profile: that the chain began with.
        config: profile -> its settings, of AWS's configuration files.
        token_file: of a web identity, where one is in use.
    """
    kinds = [base.__name__ for base in type(exc).__mro__]
    if "LoginError" in kinds:
        return f"sign in: aws login --profile {shlex.quote(_signing_in(profile, config, 'login_session'))}"
    if any(kind in _SSO for kind in kinds):
        return f"sign in: aws sso login --profile {shlex.quote(_signing_in(profile, config, 'sso_'))}"
    if "MissingDependencyException" in kinds:
        return "install it beside phasesync: pip install 'botocore[crt]'; or give it another identity"
    if any(kind in _MFA for kind in kinds):
        return (
            f"a daemon can type no MFA code: take mfa_serial out of the profile {profile} and MFA out of the trust "
            "policy of its role, for an identity that only this host has; or have a credential_process give keys that "
            "were asked for with MFA (aws sts get-session-token --serial-number ARN --token-code CODE)"
        )
    return _of_refusal(exc, profile, config, token_file)


def _of_refusal(exc: Exception, profile: str, config: Mapping[str, Any], token_file: str) -> str | None:
    """Return what helps where STS refuses a role."""
    response = getattr(exc, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    operation = getattr(exc, "operation_name", "")
    role = os.environ.get("AWS_ROLE_ARN") if token_file else None
    role = role or _setting(config, profile, "role_arn") or "the role"
    name = role.rpartition("/")[2] if "/" in role else "ROLE"
    look = f"aws iam get-role --role-name {shlex.quote(name)} --query Role.AssumeRolePolicyDocument shows it"
    if operation == WEB_IDENTITY and code in _REFUSED:
        return (
            f"the trust policy of {role} has to allow sts:{WEB_IDENTITY} to the provider that made the token, with its "
            f"sub and aud{_claims(token_file)}: {look}"
        )
    if operation == WEB_IDENTITY and code in _TOKEN_REFUSED:
        return (
            f"IAM has to know the provider that made the token, and the token has to be fresh{_claims(token_file)}: "
            "aws iam list-open-id-connect-providers lists them"
        )
    if operation == "AssumeRole" and code in _REFUSED:
        return f"the trust policy of {role} has to name who assumes it, and that one needs sts:AssumeRole on it: {look}"
    return None


def _signing_in(profile: str, config: Mapping[str, Any], mark: str) -> str:
    """Return the profile that is signed in to: it, or the one that it takes its credentials from."""
    one, seen = profile, {profile}
    while not any(name.startswith(mark) for name in config.get(one, {})):
        source = _setting(config, one, "source_profile")
        if source is None or source in seen:
            return profile
        seen.add(source)
        one = source
    return one


def _setting(config: Mapping[str, Any], profile: str, name: str) -> str | None:
    value = config.get(profile, {}).get(name)
    return value if isinstance(value, str) and value else None


def _claims(token_file: str) -> str:
    """
    Return what a token says of its provider and bearer, empty where it does not; these are names and no secrets.

    A token is three parts in base64url with a dot between (RFC 7519); the third is its signature, which is not read.
    """
    try:
        with open(token_file, encoding="utf-8", errors="replace") as file:
            part = file.read(65_536).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        found = {name: claims.get(name) for name in ("iss", "sub", "aud")}
    except (OSError, ValueError, IndexError, AttributeError, binascii.Error):
        return ""
    told = []
    for name, value in found.items():
        one = value[0] if isinstance(value, list) and value else value
        if isinstance(one, str) and _CLAIM.fullmatch(one):
            told.append(f"{name} {one}")
    return f" (the token has {', '.join(told)})" if told else ""
