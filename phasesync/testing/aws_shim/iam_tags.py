"""
Tags of IAM users: how many, which prefix, and that their keys do not differ by case alone.

Sources: API reference of IAM, Tag (key 1-128, value 0-256 characters; in the API model) and TagUser ("the entire
request fails"); IAM User Guide, tagging (50 tags, `aws:` is reserved, keys are not distinguished by case). Two keys in
one request: InvalidInput (public: kops issue 11727); one after the other the second replaces the first, its case
included (public: aws-cdk issue 26253). Neither the text for `aws:` nor that for too many tags is public.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from phasesync.testing.aws_shim.iam_errors import invalid_input, over_quota
from phasesync.testing.aws_shim.iam_named import user_of
from phasesync.testing.aws_shim.iam_pages import iam_page
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

_RESERVED: Final = "aws:"


def read_user_tags(service: Service, there: Mapping[str, str], given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a user's tags become; InvalidInput, LimitExceeded."""
    more: dict[str, str] = {}
    for tag in given:
        key = tag["Key"]
        if key.lower().startswith(_RESERVED):
            raise invalid_input("Tag keys that begin with aws: are reserved for AWS.")
        if key.lower() in (one.lower() for one in more):
            raise invalid_input("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        more[key] = tag["Value"]
    result = _without(there, more) | more
    if len(result) > service.limits.user_tags:
        raise over_quota("TagsPerUser", service.limits.user_tags)
    return result


def tag_user(service: Service, call: Call) -> Result:
    """Add tags; an existing key gets the new value."""
    user, users = user_of(service, call), service.world.users
    users.set_tags(user, read_user_tags(service, users.tags(user), call.listed("Tags")))
    return {}


def untag_user(service: Service, call: Call) -> Result:
    """Remove tags; those that are not there are no error."""
    user, users = user_of(service, call), service.world.users
    users.set_tags(user, _without(users.tags(user), call.listed("TagKeys")))
    return {}


def list_user_tags(service: Service, call: Call) -> Result:
    """Tell the tags of a user, sorted by key (API reference of IAM, ListUserTags)."""
    tags = service.world.users.tags(user_of(service, call))
    return iam_page(
        service, call, "Tags", tags.items(), key=lambda one: one[0], tell=lambda one: {"Key": one[0], "Value": one[1]}
    )


def _without(tags: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    gone = {key.lower() for key in keys}
    return {key: value for key, value in tags.items() if key.lower() not in gone}
