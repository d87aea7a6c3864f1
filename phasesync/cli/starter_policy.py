"""The policies to begin with: for any name, before there is a sync or a dynamic secret to print a narrower one for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, print_document
from phasesync.core.arns import (
    check_key_arn,
    check_neighbours,
    check_partition,
    check_policy_arn,
    check_region,
    region_of_key,
)
from phasesync.errors import InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Of AWS's own tools; the first one that is set holds."""


@dataclass(frozen=True)
class Place:
    """
    The Region that a policy is for.

    Attributes:
        region: None = no one knows; then it is for every Region.
        note: what is to be said of where it was found, None where somebody typed it.
    """

    region: str | None
    note: str | None


def place_of(region: str | None, *, credential: str | None, kms_key: str | None = None) -> Place:
    """
    Return the Region that a policy is for: what was typed, else the credential's, the key's, the environment's.

    Args:
        region: what was typed.
        credential: name of a credential.
        kms_key: ARN of a key, whose secrets are in its Region.

    Raises:
        InvalidInputError: the key or a variable has no Region, or the credential's partition does not have it.
        NotFoundError: the credential.
    """
    if credential is not None:
        its_own = _region_of_credential(credential)
        return Place(check_neighbours(region or its_own, its_own, of=f"the credential {credential}"), None)
    if region is not None:
        return Place(region, None)
    if kms_key is not None:
        return Place(region_of_key(kms_key), None)
    return _place_of_environment(os.environ)


def _place_of_environment(environ: Mapping[str, str]) -> Place:
    for variable in REGION_VARIABLES:
        if found := environ.get(variable):
            try:
                return Place(check_region(found), f"it is for {found}, as {variable} says; --region names another")
            except InvalidInputError as error:
                raise InvalidInputError(f"{variable}: {error.message}", hint=error.hint) from None
    note = "it is for every Region, since nothing names one; narrow it down with --region, --credential or AWS_REGION"
    return Place(None, note)


@with_application
def _region_of_credential(application: "Application", credential: str) -> str:
    return application.store.credentials.get(credential).region


def print_sync_starter(place: Place, *, kms_key: str | None, with_import: bool, sweep: bool, out: Output) -> None:
    """Print the policy to begin with for syncs. InvalidInputError."""
    from phasesync.adapters.aws.policies import sync_policy

    if kms_key is not None and place.region is not None:
        check_key_arn(kms_key, place.region)
    print_document(sync_policy(region=place.region, kms_key_arn=kms_key, with_import=with_import, sweep=sweep))
    if place.note is not None:
        out.say(place.note)


def print_dynamic_starter(place: Place, boundary: str | None, out: Output) -> None:
    """Print the policy to begin with for dynamic secrets; its Region tells the partition. InvalidInputError."""
    from phasesync.adapters.aws.dynamic_policies import STARTER_BOUNDARY, starter_policy
    from phasesync.core.lease_users import OUR_PATH

    if boundary is not None:
        check_policy_arn(boundary)
        if place.region is not None:
            check_partition(boundary, place.region)
    instance_id, why_not = _instance_id()
    print_document(starter_policy(region=place.region, boundary=boundary, instance_id=instance_id))
    if why_not is not None:
        out.warn(
            f"it is not known which installation this is for, since {why_not}: the policy gives whoever holds the role "
            f"keys of every user under {OUR_PATH}, other installations' too; print it again after phasesync init"
        )
    if boundary is None:
        out.say(
            f"every user needs the permission boundary {STARTER_BOUNDARY}: a policy of yours that says what such users "
            "may do at most. Give another one with --permission-boundary ARN"
        )
    if place.region is None and boundary is None:
        out.say("it is for the partition aws; for China, GovCloud and others name a Region of theirs with --region")
    out.say("groups are not in it; once there is a dynamic secret: phasesync aws policy --dynamic NAME")


def _instance_id() -> tuple[str | None, str | None]:
    """Return the id of this installation, and why there is none where there is no database to tell it."""
    from phasesync.bootstrap import find_instance_id

    try:
        return find_instance_id(invocation().settings().settings), None
    except PhasesyncError as error:
        return None, error.message
