"""The Region of a starter policy. It is found before there is a database, so this must not need one."""

from collections.abc import Mapping
from dataclasses import dataclass

from phasesync.core.arns import region_of_key
from phasesync.core.credential import Credential
from phasesync.core.regions import REGION_VARIABLES, check_region, check_same_partition
from phasesync.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class StarterRegion:
    """
    The Region of a starter policy.

    Attributes:
        region: None if nothing names one; the policy is then for every Region.
        note: where it was found; None if an operator named it.
    """

    region: str | None
    note: str | None = None


def starter_region(
    region: str | None, *, credential: Credential | None, kms_key: str | None, environ: Mapping[str, str]
) -> StarterRegion:
    """
    Return the Region of a starter policy: the named one, else that of the credential, the key or the environment.

    Args:
        region: as an operator named it.
        credential: who will use the policy.
        kms_key: ARN of a key; its secrets are in its Region.
        environ: of the process.

    Raises:
        InvalidInputError: the key or a variable has no valid Region, or the partition of the credential lacks it.
    """
    if credential is not None:
        of = f"the credential {credential.name}"
        return StarterRegion(region=check_same_partition(region or credential.region, credential.region, of=of))
    if region is not None:
        return StarterRegion(region=region)
    if kms_key is not None:
        return StarterRegion(region=region_of_key(kms_key))
    for variable in REGION_VARIABLES:
        if value := environ.get(variable):
            try:
                note = f"it is for {value}, as {variable} says; --region names another"
                return StarterRegion(region=check_region(value), note=note)
            except InvalidInputError as error:
                raise InvalidInputError(f"{variable}: {error.message}", hint=error.hint) from None
    note = "it is for every Region, since nothing names one; narrow it down with --region, --credential or AWS_REGION"
    return StarterRegion(region=None, note=note)
