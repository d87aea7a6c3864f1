"""
Resource policies of secrets: form, size, who gets access.

Sources: API reference, PutResourcePolicy (BlockPublicPolicy, PolicyName), ListResourcePolicies, ValidateResourcePolicy,
errors MalformedPolicyDocumentException and PublicPolicyException; the length is in the API model. IAM User Guide, JSON
policy elements. AWS decides with an automated reasoner what is public. Here a policy is public if it
allows everyone and no condition narrows it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import AwsError, invalid_parameter, not_found
from phasesync.emulator.moto_state import MANAGED_POLICY
from phasesync.emulator.request import Call
from phasesync.emulator.secret_reads import page_of, present

_DEFAULT: Final = "default"
_VERSIONS: Final = ("2008-10-17", "2012-10-17")
_ELEMENTS: Final = frozenset(
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"]
)
_NARROWING: Final = frozenset(
    [
        "aws:principalarn",
        "aws:principalaccount",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceorgid",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "kms:calleraccount",
    ]
)
"""Condition keys that name who or from where (IAM User Guide, global condition keys)."""


def put_resource_policy(context: Context, call: Call) -> Result:
    """Replace the policy."""
    secret = context.secret(call)
    _check_default(call)
    text = call.text("ResourcePolicy") or ""
    statements = _read(text)
    if call.arguments.get("BlockPublicPolicy") and any(_is_public(statement) for statement in statements):
        raise AwsError(
            "PublicPolicyException",
            "You can't attach a resource policy that grants broad access while BlockPublicPolicy is true.",
        )
    secret.policy = text
    context.state.touch(secret)
    return {"ARN": secret.arn, "Name": secret.name}


def get_resource_policy(context: Context, call: Call) -> Result:
    """Return a policy; of the default one the field is absent if there is none."""
    secret, name = context.secret(call, writes=False), call.text("PolicyName") or _DEFAULT
    policies = _policies(context, secret)
    if name != _DEFAULT and name not in policies:
        raise not_found()
    answer: Result = {"ARN": secret.arn, "Name": secret.name, "PolicyName": name}
    return answer | {"ResourcePolicy": policies[name]} if name in policies else answer


def list_resource_policies(context: Context, call: Call) -> Result:
    """Return the names of the policies: the default one first, then the others by name."""
    secret = context.secret(call, writes=False)
    names = sorted(_policies(context, secret), key=lambda name: (name != _DEFAULT, name))
    page, token = page_of([{"PolicyName": name} for name in names], call)
    return present({"ResourcePolicies": page, "NextToken": token})


def _policies(context: Context, secret: Any) -> dict[str, str]:
    """Return name -> policy. What Secrets Manager keeps on a copy between accounts is no one else's to change."""
    default = context.state.source_of(secret).policy
    policies = {} if default is None else {_DEFAULT: default}
    primary = context.state.extras(secret).cross_account_primary
    if primary is not None and not context.state.is_replica(secret):
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{primary.account}:root"},
            "Action": "secretsmanager:AcceptCrossAccountReplication",
            "Resource": "*",
        }
        policies[MANAGED_POLICY] = json.dumps({"Version": _VERSIONS[1], "Statement": [statement]})
    return policies


def delete_resource_policy(context: Context, call: Call) -> Result:
    """Remove the policy."""
    secret = context.secret(call)
    _check_default(call)
    secret.policy = None
    context.state.touch(secret)
    return {"ARN": secret.arn, "Name": secret.name}


def validate_resource_policy(context: Context, call: Call) -> Result:
    """Return whether a policy would allow everyone."""
    if call.text("SecretId") is not None:
        context.secret(call)
    public = any(_is_public(statement) for statement in _read(call.text("ResourcePolicy") or ""))
    errors = [{"CheckName": "PublicPolicy", "ErrorMessage": "The policy grants broad access."}] if public else []
    return {"PolicyValidationPassed": not public, "ValidationErrors": errors}


def _check_default(call: Call) -> None:
    """ "You can modify only the default policy" (API reference, ListResourcePolicies); its code: by its meaning."""
    if call.text("PolicyName") not in (None, _DEFAULT):
        raise invalid_parameter("You can only modify the default policy.")


def _read(text: str) -> list[Mapping[str, Any]]:
    """Return the statements of a policy; MalformedPolicyDocumentException."""
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    if not isinstance(policy, dict) or policy.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise _malformed()
    statements = policy.get("Statement")
    statements = statements if isinstance(statements, list) else [statements]
    if not statements or not all(_is_statement(statement) for statement in statements):
        raise _malformed()
    return statements


def _is_statement(statement: object) -> bool:
    if not isinstance(statement, dict) or set(statement) - _ELEMENTS:
        return False
    pairs = (("Principal", "NotPrincipal"), ("Action", "NotAction"), ("Resource", "NotResource"))
    return statement.get("Effect") in ("Allow", "Deny") and all(
        (element in statement) != (other in statement) for element, other in pairs
    )


def _is_public(statement: Mapping[str, Any]) -> bool:
    if statement["Effect"] != "Allow":
        return False
    principal = statement.get("Principal")
    named = principal.get("AWS") if isinstance(principal, dict) else principal
    anyone = "NotPrincipal" in statement or "*" in (named if isinstance(named, list) else [named])
    condition = statement.get("Condition") or {}
    keys = {key.lower() for operator in condition.values() for key in operator}
    return anyone and not keys & _NARROWING


def _malformed() -> AwsError:
    return AwsError("MalformedPolicyDocumentException", "This resource policy contains a syntax error.")
