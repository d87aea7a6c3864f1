"""ARNs of policies and groups that an operator types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.arns import check_policy_arn, group_name
from phasesync.errors import InvalidInputError

PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")
partitions = st.sampled_from(PARTITIONS)
names = st.from_regex(r"[A-Za-z0-9+=,.@_-]{1,128}", fullmatch=True)
policy_paths = st.lists(st.from_regex(r"[A-Za-z0-9.,+@=_-]{1,12}", fullmatch=True), max_size=3).map(
    lambda folders: "".join(f"{folder}/" for folder in folders)
)
"""Paths of managed policies (API reference, CreatePolicy, Path)."""
paths = st.just("") | st.from_regex(r"[!-~]{1,20}/", fullmatch=True)
"""Paths of groups (API reference, CreateGroup, Path)."""
owners = st.sampled_from(["aws", "111122223333"])


@given(partitions, owners, policy_paths, names)
def test_the_arn_of_a_policy_of_any_partition_is_taken_as_it_is(
    partition: str, owner: str, path: str, name: str
) -> None:
    arn = f"arn:{partition}:iam::{owner}:policy/{path}{name}"
    assert check_policy_arn(arn) == arn


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "ReadOnlyAccess",
        "arn:aws:iam::aws:policy/",
        "arn:aws:iam::aws:role/ReadOnlyAccess",
        "arn:aws:iam::aws:policy/Read Only",
        "arn:aws:iam::aws:policy/Read*",
        "arn:aws:iam::aws:policy/ReadOnlyAccess\n",
        "arn:aws:iam::AWS:policy/ReadOnlyAccess",
        "arn:aws:iam::11112222333:policy/web",
        "arn:aws:iam::１１１１２２２２３３３３:policy/web",
        "arn:aws:iam:eu-west-1:111122223333:policy/web",
        "arn:aws:sts::111122223333:policy/web",
        "arn:azure:iam::aws:policy/ReadOnlyAccess",
        "arn:aws-:iam::aws:policy/ReadOnlyAccess",
        "arn::iam::aws:policy/ReadOnlyAccess",
        " arn:aws:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::aws:policy/ReadOnlyÄccess",
    ],
)
def test_what_is_not_the_arn_of_a_managed_policy_is_refused_with_its_form(arn: str) -> None:
    with pytest.raises(InvalidInputError, match="is not the ARN of a managed IAM policy") as caught:
        check_policy_arn(arn)
    assert "arn:aws:iam::aws:policy/" in str(caught.value.hint)


@given(names)
def test_a_group_is_given_by_name(name: str) -> None:
    assert group_name(name) == name


@given(partitions, paths, names)
def test_a_group_is_given_by_its_arn_with_whatever_path_of_any_partition(partition: str, path: str, name: str) -> None:
    assert group_name(f"arn:{partition}:iam::111122223333:group/{path}{name}") == name


@pytest.mark.parametrize(
    "group",
    [
        "",
        "a b",
        "dev/ops",
        "*",
        "dév",
        "x" * 129,
        "ops\n",
        "arn:aws:iam::111122223333:group/",
        "arn:aws:iam::111122223333:group/ops/",
        "arn:aws:iam::111122223333:group//ops",
        "arn:aws:iam::111122223333:user/ops",
        "arn:aws:iam::aws:group/ops",
        "arn:aws:iam:eu-west-1:111122223333:group/ops",
        "arn:azure:iam::111122223333:group/ops",
        "arn:aws:iam::111122223333:group/a b/ops",
    ],
)
def test_what_names_no_group_is_refused(group: str) -> None:
    with pytest.raises(InvalidInputError, match="neither the name nor the ARN of an IAM group") as caught:
        group_name(group)
    assert caught.value.hint == "aws iam list-groups prints them"
