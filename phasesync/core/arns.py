"""
Amazon Resource Names that an operator types: checked for form, so that a typo is told before AWS is asked.

Forms: IAM identifiers and KMS key ARNs in the AWS General Reference (arn:partition:service:region:account:resource).
"""

import re
from difflib import get_close_matches

from phasesync.errors import InvalidInputError

_ROLE = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):role/[\w+=,.@/-]{1,576}", re.ASCII)
_KEY = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]+):(\d{12}):key/"
    r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)
_ANY_PARTITION = r"aws(?:-[a-z0-9]+)*"
_POLICY = re.compile(rf"arn:{_ANY_PARTITION}:iam::(?:aws|\d{{12}}):policy/[\w+=,.@/-]{{1,640}}", re.ASCII)
_GROUP_PREFIX = rf"arn:{_ANY_PARTITION}:iam::\d{{12}}:group/(?:[!-~]+/)?"
_GROUP = re.compile(rf"(?:{_GROUP_PREFIX})?(?P<name>[\w+=,.@-]{{1,128}})", re.ASCII)
_PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eusc-": "aws-eusc",
}
"""Beginning of a Region's name -> partition; every other Region is in `aws`."""

_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d{1,2}")


_ACCOUNT = re.compile(r"arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def account_of(arn: str) -> str | None:
    """Return the 12-digit account in an ARN that AWS answered, None where it has none."""
    match = _ACCOUNT.match(arn)
    return None if match is None else match[1]


def check_role_arn(arn: str) -> str:
    """Return the 12-digit account of an IAM role's ARN. InvalidInputError says what the form is."""
    match = _ROLE.fullmatch(arn)
    if match is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of an IAM role{_near(arn, 'iam', 'role')}",
            hint="a role's ARN looks like arn:aws:iam::123456789012:role/name; aws iam get-role prints it",
        )
    return match[2]


def check_policy_arn(arn: str) -> str:
    """Return the ARN of a managed IAM policy as it is, an AWS-managed one or a customer's. InvalidInputError."""
    if _POLICY.fullmatch(arn) is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of a managed IAM policy",
            hint="such as arn:aws:iam::aws:policy/ReadOnlyAccess or arn:aws:iam::123456789012:policy/name; "
            "aws iam list-policies prints them",
        )
    return arn


def group_name(group: str) -> str:
    """Return the name of an IAM group that is given by name or by ARN, of whatever partition. InvalidInputError."""
    found = _GROUP.fullmatch(group)
    if found is None:
        raise InvalidInputError(
            f"{group!r} is neither the name nor the ARN of an IAM group", hint="aws iam list-groups prints them"
        )
    return found["name"]


def check_key_arn(arn: str, region: str) -> str:
    """Return the ARN of a KMS key in this Region as it is. InvalidInputError, also for an alias or another Region."""
    match = _KEY.fullmatch(arn)
    if match is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of a KMS key{_near(arn, 'kms', 'key')}",
            hint="a key's ARN looks like arn:aws:kms:eu-central-1:123456789012:key/<uuid>; "
            "aws kms describe-key --key-id ALIAS prints it; 'default' asks for the AWS-managed key",
        )
    if match[2] != region:
        raise InvalidInputError(
            f"the KMS key is in {match[2]}, the secret in {region}",
            hint="a secret's key has to be in the secret's Region",
        )
    return arn


def is_key_arn(text: str) -> bool:
    """Return whether a text is meant as an ARN, well formed or not: a key may also be named by id or alias."""
    return text.startswith("arn:") and ":alias/" not in text


def check_region(region: str) -> str:
    """Return a Region's name as it is where it has the form of one. InvalidInputError."""
    if _REGION.fullmatch(region) is None:
        raise InvalidInputError(f"{region!r} is not an AWS Region", hint="a Region looks like eu-central-1")
    return region


def partition_of(region: str) -> str:
    """Return the partition that a Region belongs to: `aws`, `aws-cn`, `aws-us-gov`, … (AWS General Reference, ARNs)."""
    return next((partition for prefix, partition in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def check_partition(arn: str, region: str) -> str:
    """Return an ARN as it is where a Region's accounts can have or use what it names. InvalidInputError."""
    _, partition, rest = arn.split(":", 2)
    if partition != (wanted := partition_of(region)):
        raise InvalidInputError(
            f"{arn} is in the partition {partition}, and the Region {region} is in {wanted}",
            hint=f"what is in {wanted} has an ARN of its own, such as arn:{wanted}:{rest}",
        )
    return arn


def _near(arn: str, service: str, kind: str) -> str:
    """Name the part of an ARN that is off, as far as that can be told."""
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return ": it does not have six parts"
    _, partition, found_service, region, account, resource = parts
    if partition not in ("aws", "aws-cn", "aws-us-gov"):
        close = get_close_matches(partition, ("aws", "aws-cn", "aws-us-gov"), n=1)
        return f": partition {partition!r}" + (f", meant {close[0]!r}?" if close else "")
    if found_service != service:
        return f": service {found_service!r}, expected {service!r}"
    if not (len(account) == 12 and account.isascii() and account.isdigit()):
        return f": the account has {len(account)} characters, expected 12 digits"
    if (region == "") != (service == "iam"):
        return ": IAM has no Region" if region else ": the Region is missing"
    if not resource.startswith(f"{kind}/"):
        return f": expected {kind}/ after the account"
    return ""
