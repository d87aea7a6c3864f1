"""
AWS Regions and the partitions that they belong to: `aws`, `aws-cn`, `aws-us-gov` and others. Pure.

Names of partitions, beginnings of Region names and DNS suffixes are those of `partitions.json` in botocore; a test
compares them with the installed version. The table is repeated here because the core reads no file. A Region or a
partition that AWS adds later is recognised by the pattern of its name, and is never refused for being new.
"""

import re
from typing import Final

from phasesync.errors import InvalidInputError

REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Environment variables of AWS's own tools; the first one that is set counts."""

MAIN: Final = "aws"
"""The partition of every Region that is in no other partition."""

_BEGINNINGS: Final = {
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "cn-": "aws-cn",
    "eusc-": "aws-eusc",
    **{f"{place}-": MAIN for place in ("us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx")},
}
"""Beginning of a Region's name -> partition (`regionRegex`); the longer ones first."""

DNS_SUFFIXES: Final = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
    "aws-us-gov": "amazonaws.com",
}
"""Partition -> suffix of the host names of its services (`dnsSuffix`)."""

_NEW_ISO: Final = re.compile(r"[a-z]{2}-iso([a-z])-")
"""Isolated partitions, future ones too: `aws-iso-X` with the Regions `??-isoX-*`."""
_REGION: Final = re.compile(r"[a-z]{2,8}(-[a-z]{1,20}){1,3}-[0-9]{1,2}")
_ZONE: Final = re.compile(r"(.*-[0-9]{1,2})[a-z]")


def check_region(region: str) -> str:
    """Return a Region's name as it is if it has the form of one. InvalidInputError."""
    if _REGION.fullmatch(region) is not None:
        return region
    meant = region.strip().lower().replace("_", "-")
    zone = _ZONE.fullmatch(meant)
    meant = zone[1] if zone else meant
    hint = "a Region looks like us-west-2; aws ec2 describe-regions prints those of an account"
    if _REGION.fullmatch(meant):
        hint = f"the Region of that zone is {meant}" if zone else f"Regions are in lower case: {meant}"
        if not zone and meant != region.lower():
            hint = f"write it as {meant}"
    raise InvalidInputError(f"{region[:60]!r} is not an AWS Region", hint=hint)


def known_partition_of(region: str) -> str | None:
    """Return the partition that a Region belongs to, None if no known Region has such a name."""
    known = next((partition for beginning, partition in _BEGINNINGS.items() if region.startswith(beginning)), None)
    if known in (None, MAIN) and (match := _NEW_ISO.match(region)):
        return f"aws-iso-{match[1]}"
    return known


def check_same_partition(region: str, other: str, *, of: str) -> str:
    """
    Return a Region as it is if it is in the same partition as another Region: no identity is valid in two partitions.

    Args:
        region: the Region to check.
        other: the Region that it is compared with.
        of: the owner of the other Region, for the message.

    Raises:
        InvalidInputError: they are in two partitions.
    """
    partition, expected = known_partition_of(region), known_partition_of(other)
    if partition is None or expected is None or partition == expected:
        return region
    raise InvalidInputError(
        f"the Region {region} is in the partition {partition}, and {of}, in {other}, is in {expected}",
        hint=f"name a Region of {expected}, or another credential: a credential works in one partition only",
    )


def partition_of(region: str) -> str:
    """Return the partition that a Region belongs to; `aws` if no known Region has such a name."""
    return known_partition_of(region) or MAIN


def dns_suffix_of(region: str) -> str:
    """Return the suffix of a Region's host names, which is also in `kms:ViaService` (KMS Developer Guide)."""
    return DNS_SUFFIXES.get(partition_of(region), DNS_SUFFIXES[MAIN])


def is_known_partition(partition: str) -> bool:
    """Return whether AWS had this partition at the time of this release."""
    return partition in DNS_SUFFIXES
