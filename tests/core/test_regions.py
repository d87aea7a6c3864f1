"""Partitions and Regions: as botocore has them, and by pattern those to come."""

import re
from typing import Any

import pytest
from botocore.loaders import Loader

from phasesync.core.arns import check_key_arn, check_partition, check_principal_arn, check_role_arn
from phasesync.core.regions import check_region, dns_suffix_of, known_partition_of, partition_of
from phasesync.errors import InvalidInputError

PARTITIONS: list[dict[str, Any]] = Loader().load_data("partitions")["partitions"]
REGIONS = [(region, one["id"]) for one in PARTITIONS for region in one["regions"] if not region.endswith("-global")]
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"


def test_there_are_partitions_to_compare_with() -> None:
    assert {"aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-eusc"} <= {one["id"] for one in PARTITIONS}


@pytest.mark.parametrize(("region", "partition"), REGIONS)
def test_every_region_of_botocore_is_taken_and_in_its_partition(region: str, partition: str) -> None:
    assert check_region(region) == region
    assert known_partition_of(region) == partition
    (suffix,) = {one["outputs"]["dnsSuffix"] for one in PARTITIONS if one["id"] == partition}
    assert dns_suffix_of(region) == suffix


@pytest.mark.parametrize("one", PARTITIONS, ids=lambda one: one["id"])
def test_a_region_to_come_is_where_the_pattern_of_botocore_puts_it(one: dict[str, Any]) -> None:
    for region, _ in REGIONS:
        later = re.sub(r"-[a-z]+-\d+$", "-southeast-97", region)
        if re.match(one["regionRegex"], later):
            assert partition_of(check_region(later)) == one["id"]


@pytest.mark.parametrize(
    ("region", "known", "partition"),
    [
        ("nz-north-1", None, "aws"),
        ("eusc-fr-south-2", "aws-eusc", "aws-eusc"),
        ("us-isog-east-1", "aws-iso-g", "aws-iso-g"),
        ("ap-isoh-west-12", "aws-iso-h", "aws-iso-h"),
    ],
)
def test_what_aws_does_not_have_yet_is_told_by_its_name(region: str, known: str | None, partition: str) -> None:
    assert (known_partition_of(check_region(region)), partition_of(region)) == (known, partition)


@pytest.mark.parametrize("partition", [one["id"] for one in PARTITIONS] + ["aws-iso-g"])
def test_a_role_and_an_identity_of_every_partition_are_taken(partition: str) -> None:
    assert check_role_arn(f"arn:{partition}:iam::111122223333:role/a/b/phasesync") == "111122223333"
    for arn in (
        f"arn:{partition}:iam::111122223333:root",
        f"arn:{partition}:iam::111122223333:user/teams/ci",
        f"arn:{partition}:sts::111122223333:assumed-role/host/i-0abc",
    ):
        assert check_principal_arn(arn) == arn


@pytest.mark.parametrize(("region", "partition"), REGIONS)
def test_a_key_of_every_region_is_taken_there_and_nowhere_else(region: str, partition: str) -> None:
    arn = f"arn:{partition}:kms:{region}:111122223333:key/{KEY_ID}"
    assert check_key_arn(arn, region) == arn
    with pytest.raises(InvalidInputError, match="the KMS key is in"):
        check_key_arn(arn, "ap-east-9")
    other = "aws-cn" if partition != "aws-cn" else "aws"
    with pytest.raises(InvalidInputError, match=f"is in the partition {other}"):
        check_key_arn(arn.replace(f"arn:{partition}:", f"arn:{other}:"), region)


@pytest.mark.parametrize(
    ("arn", "region"),
    [
        ("arn:aws:iam::111122223333:role/x", "cn-north-1"),
        ("arn:aws-cn:iam::111122223333:role/x", "eu-west-1"),
        ("arn:aws-us-gov:iam::111122223333:role/x", "us-east-1"),
        ("arn:aws:iam::111122223333:role/x", "eusc-de-east-1"),
        ("arn:aws:iam::111122223333:role/x", "us-isog-east-1"),
        ("arn:aws-new:iam::111122223333:role/x", "eu-west-1"),
    ],
)
def test_an_arn_of_another_partition_is_refused(arn: str, region: str) -> None:
    with pytest.raises(InvalidInputError, match="is in the partition"):
        check_partition(arn, region)


def test_nothing_is_said_of_a_region_that_is_like_none() -> None:
    arn = "arn:aws-new:iam::111122223333:role/x"
    assert check_partition(arn, "newc-de-east-1") == arn


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("eu-west-1a", "the Region of that zone is eu-west-1"),
        ("EU-West-1", "Regions are in lower case: eu-west-1"),
        ("eu_west_1", "write it as eu-west-1"),
        (" eu-west-1", "write it as eu-west-1"),
        ("Frankfurt", "looks like us-west-2"),
        ("", "looks like us-west-2"),
        ("eu-west-١", "looks like us-west-2"),
        ("aws-global", "looks like us-west-2"),
        ("eu-west-1\n", "eu-west-1"),
    ],
)
def test_what_is_no_region_is_refused_with_what_is_meant(text: str, hint: str) -> None:
    with pytest.raises(InvalidInputError, match="is not an AWS Region") as caught:
        check_region(text)
    assert hint in str(caught.value.hint)
