"""
AWS Regions and the partitions that they belong to: `aws`, `aws-cn`, `aws-us-gov` and others. Pure.

Names of partitions, beginnings of Region names and DNS suffixes are those of `partitions.json` in botocore; a test
compares them with the installed version. The table is repeated here because the core reads no file. A Region or a
partition that AWS adds later is recognised by the pattern of its name, and is never refused for being new.
"""

import re
from typing import Final

from phasesync.errors import InvalidInputError

MAIN: Final = "aws"
"""The partition of all Regions that no other one has."""

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
"""Partition -> what the names of its services' hosts end in (`dnsSuffix`)."""

_NEW_ISO: Final = re.compile(r"[a-z]{2}-iso([a-z])-")
"""Isolated partitions, those to come too: `aws-iso-X` with the Regions `??-isoX-*`."""
_REGION: Final = re.compile(r"[a-z]{2,8}(-[a-z]{1,20}){1,3}-[0-9]{1,2}")
_ZONE: Final = re.compile(r"(.*-[0-9]{1,2})[a-z]")


def check_region(region: str) -> str:
    """Return a Region's name as it is where it has the form of one. InvalidInputError."""
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
    """Return the partition that a Region belongs to, None where its name is like none that AWS has so far."""
    known = next((partition for beginning, partition in _BEGINNINGS.items() if region.startswith(beginning)), None)
    if known in (None, MAIN) and (found := _NEW_ISO.match(region)):
        return f"aws-iso-{found[1]}"
    return known


def check_neighbours(region: str, other: str, *, of: str) -> str:
    """
    Return a Region as it is where it is in the same partition as another one: no identity reaches across.

    Args:
        region: checked.
        other: the Region that it has to go with.
        of: whose Region the other one is, for the message.

    Raises:
        InvalidInputError: they are in two partitions.
    """
    there, here = known_partition_of(region), known_partition_of(other)
    if there is None or here is None or there == here:
        return region
    raise InvalidInputError(
        f"the Region {region} is in the partition {there}, and {of}, in {other}, is in {here}",
        hint=f"name a Region of {here}, or another credential: nothing of AWS reaches from one partition to another",
    )


def partition_of(region: str) -> str:
    """Return the partition that a Region belongs to; a Region like none that AWS has so far is in `aws`."""
    return known_partition_of(region) or MAIN


def dns_suffix_of(region: str) -> str:
    """Return what the names of a Region's hosts end in, as `kms:ViaService` has it too (KMS Developer Guide)."""
    return DNS_SUFFIXES.get(partition_of(region), DNS_SUFFIXES[MAIN])


def is_known(partition: str) -> bool:
    """Return whether a partition is one of those that AWS has so far."""
    return partition in DNS_SUFFIXES
