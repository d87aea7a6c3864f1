"""
Amazon Resource Names that an operator types. Their form is checked, so that a typo is reported before AWS is asked.

Forms: IAM identifiers and KMS key ARNs in the AWS General Reference (arn:partition:service:region:account:resource).
"""

import re
from difflib import get_close_matches

from phasesync.core.regions import DNS_SUFFIXES, is_known_partition, known_partition_of, partition_of
from phasesync.errors import InvalidInputError

_ANY_PARTITION = r"aws(?:-[a-z0-9]+)*"
"""Matches future partitions too."""
_ROLE = re.compile(rf"arn:{_ANY_PARTITION}:iam::(\d{{12}}):role/(?:[!-~]+/)?[\w+=,.@-]{{1,64}}", re.ASCII)
"""API reference, CreateRole: RoleName, and Path, which may have more characters than a name."""
_KEY = re.compile(
    rf"arn:{_ANY_PARTITION}:kms:([a-z0-9-]+):(\d{{12}}):key/"
    r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    re.ASCII,
)
_PRINCIPAL = re.compile(
    rf"arn:{_ANY_PARTITION}:(?:iam::\d{{12}}:(?:root|(?:role|user)/(?:[!-~]+/)?[\w+=,.@-]{{1,64}})"
    r"|sts::\d{12}:assumed-role/[\w+=,.@-]{1,64}/[\w+=,.@-]{2,64})",
    re.ASCII,
)
"""The principals that a trust policy may name (IAM User Guide, AWS JSON policy elements: Principal)."""
_POLICY = re.compile(rf"arn:{_ANY_PARTITION}:iam::(?:aws|\d{{12}}):policy/[\w+=,.@/-]{{1,640}}", re.ASCII)
_GROUP_PREFIX = rf"arn:{_ANY_PARTITION}:iam::\d{{12}}:group/(?:[!-~]+/)?"
_GROUP = re.compile(rf"(?:{_GROUP_PREFIX})?(?P<name>[\w+=,.@-]{{1,128}})", re.ASCII)
_SECRET = re.compile(
    rf"arn:{_ANY_PARTITION}:secretsmanager:([a-z0-9-]+):\d{{12}}:secret:[A-Za-z0-9/_+=.@!-]{{1,512}}-[A-Za-z0-9]{{6}}",
    re.ASCII,
)
_TOPIC = re.compile(rf"arn:{_ANY_PARTITION}:sns:([a-z0-9-]+):\d{{12}}:[A-Za-z0-9_-]{{1,256}}(?:\.fifo)?", re.ASCII)
"""API reference of SNS, CreateTopic: Name."""
_ACCOUNT = re.compile(r"arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def account_of(arn: str) -> str | None:
    """Return the 12-digit account in an ARN that AWS returned, None if it has none."""
    match = _ACCOUNT.match(arn)
    return None if match is None else match[1]


def check_role_arn(arn: str) -> str:
    """Return the 12-digit account of an IAM role's ARN. InvalidInputError."""
    match = _ROLE.fullmatch(arn)
    if match is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of an IAM role{_near(arn, 'iam', 'role')}",
            hint="a role's ARN looks like arn:aws:iam::123456789012:role/name; aws iam get-role prints it",
        )
    return match[1]


def check_principal_arn(arn: str) -> str:
    """Return the ARN of a principal that may assume a role as it is. InvalidInputError."""
    if _PRINCIPAL.fullmatch(arn) is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of a role, a user or an account",
            hint="aws sts get-caller-identity prints the ARN of an identity, and aws iam get-role that of a role",
        )
    return arn


def check_policy_arn(arn: str) -> str:
    """Return the ARN of a managed IAM policy, of AWS or of a customer, as it is. InvalidInputError."""
    if _POLICY.fullmatch(arn) is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of a managed IAM policy",
            hint="such as arn:aws:iam::aws:policy/ReadOnlyAccess or arn:aws:iam::123456789012:policy/name; "
            "aws iam list-policies prints them",
        )
    return arn


def check_topic_arn(arn: str) -> str:
    """Return the ARN of a topic of SNS as it is. InvalidInputError."""
    match = _TOPIC.fullmatch(arn)
    if match is None:
        raise InvalidInputError(
            "that is not the ARN of an SNS topic",
            hint="a topic's ARN looks like arn:aws:sns:eu-west-1:123456789012:name; aws sns list-topics prints them",
        )
    return check_partition(arn, match[1])


def group_name(group: str) -> str:
    """Return the name of an IAM group, from its name or its ARN in any partition. InvalidInputError."""
    match = _GROUP.fullmatch(group)
    if match is None:
        raise InvalidInputError(
            f"{group!r} is neither the name nor the ARN of an IAM group", hint="aws iam list-groups prints them"
        )
    return match["name"]


def check_key_arn(arn: str, region: str) -> str:
    """Return the ARN of a KMS key in this Region as it is. InvalidInputError, also for an alias or another Region."""
    match = _KEY.fullmatch(arn)
    if match is None:
        raise InvalidInputError(
            f"{arn!r} is not the ARN of a KMS key{_near(arn, 'kms', 'key')}",
            hint=f"a key's ARN looks like arn:{partition_of(region)}:kms:{region or 'REGION'}:123456789012:key/<uuid>; "
            "aws kms describe-key --key-id ALIAS prints it; 'default' asks for the AWS-managed key",
        )
    if match[1] != region:
        raise InvalidInputError(
            f"the KMS key is in {match[1]}, the secret in {region}",
            hint="a secret's key has to be in the secret's Region",
        )
    return check_partition(arn, region)


def region_of_key(arn: str) -> str:
    """Return the Region of a KMS key. InvalidInputError if this is not the ARN of a key."""
    match = _KEY.fullmatch(arn)
    return check_key_arn(arn, "" if match is None else match[1]).split(":")[3]


def region_of_secret(secret: str, region: str | None, *, otherwise: str) -> str:
    """
    Return the Region that a secret is in.

    Args:
        secret: its name, or its full ARN, which ends in a hyphen and six characters.
        region: the requested Region; None if no Region was requested.
        otherwise: the Region if neither names one.

    Raises:
        InvalidInputError: there is no name; a part of an ARN, which AWS may take for another secret (API reference,
            GetSecretValue, SecretId); or an ARN in another Region than the requested one.
    """
    if not secret.strip():
        raise InvalidInputError("there is no secret without a name", hint="give its name, or its full ARN")
    if not secret.startswith("arn:"):
        return region or otherwise
    match = _SECRET.fullmatch(secret)
    if match is None:
        raise InvalidInputError(
            f"{secret[:200]!r} is not the full ARN of a secret{_near_secret(secret)}",
            hint="give the secret's name; or its full ARN, which aws secretsmanager describe-secret --secret-id NAME "
            "prints and which ends in a hyphen and six characters",
        )
    if region is not None and match[1] != region:
        raise InvalidInputError(
            f"the ARN names a secret in {match[1]}, and --region {region} another Region", hint="leave --region out"
        )
    return match[1]


def _near_secret(arn: str) -> str:
    near = _near(arn, "secretsmanager", "secret", separator=":")
    return near or ": it does not end in a hyphen and six characters"


def is_key_arn(text: str) -> bool:
    """Return whether a text is meant as the ARN of a key, valid or not; a key may also be named by id or alias."""
    return text.startswith("arn:") and ":alias/" not in text


def check_partition(arn: str, region: str) -> str:
    """
    Return an ARN as it is if it is in the partition of a Region. InvalidInputError.

    Partitions that are not known are not compared.
    """
    _, partition, rest = arn.split(":", 2)
    wanted = known_partition_of(region)
    if wanted is None or partition == wanted or not (is_known_partition(partition) or is_known_partition(wanted)):
        return arn
    raise InvalidInputError(
        f"{arn} is in the partition {partition}, and the Region {region} is in {wanted}",
        hint=f"what is in {wanted} has an ARN of its own, such as arn:{wanted}:{rest}",
    )


def _near(arn: str, service: str, kind: str, *, separator: str = "/") -> str:
    """Return a clause that names the wrong part of an ARN; empty if it is not known."""
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return ": it does not have six parts"
    _, partition, actual_service, region, account, resource = parts
    if re.fullmatch(_ANY_PARTITION, partition, re.ASCII) is None:
        close = get_close_matches(partition, tuple(DNS_SUFFIXES), n=1)
        return f": partition {partition!r}" + (f", meant {close[0]!r}?" if close else "")
    if actual_service != service:
        return f": service {actual_service!r}, expected {service!r}"
    if not (len(account) == 12 and account.isascii() and account.isdigit()):
        return f": the account has {len(account)} characters, expected 12 digits"
    if (region == "") != (service == "iam"):
        return ": IAM has no Region" if region else ": the Region is missing"
    if not resource.startswith(f"{kind}{separator}"):
        return f": expected {kind}{separator} after the account"
    return ""
